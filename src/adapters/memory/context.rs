//! Owns the subjects' recent events of a fleet that lives in one process. Never grows past its
//! bounds: the subject that was least recently observed is forgotten first.
//!
//! # Decisions
//! Figures are a running total over the newest 24 h, put right at its edges, so that a subject
//! with tens of thousands of events costs what its few late or early events cost, not its window.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::domain::TenantId;
use crate::domain::context::{Observation, SLACK_MS, SUBJECT_EVENTS_MAX, Subject24h, WINDOW_MS};
use crate::ports::{ContextError, ContextSource};

const WINDOW: i64 = WINDOW_MS as i64;
const SLACK: i64 = SLACK_MS as i64;

/// Bounds of the in-process context.
#[derive(Debug, Clone, Copy)]
pub struct ContextLimits {
    /// Subjects of all tenants.
    pub subjects: usize,
    /// Events of all subjects (about 150 bytes each).
    pub events: usize,
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self { subjects: 100_000, events: 2_000_000 }
    }
}

/// The context source of one process.
pub struct MemoryContext {
    limits: ContextLimits,
    state: Mutex<State>,
}

type Key = (TenantId, String);

#[derive(Default)]
struct State {
    subjects: HashMap<Key, (u64, Subject)>,
    /// The same subjects by when they were last observed.
    touched: BTreeMap<u64, Key>,
    touches: u64,
    events: usize,
}

impl MemoryContext {
    /// A source that has seen nothing.
    pub fn new(limits: ContextLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }
}

#[async_trait]
impl ContextSource for MemoryContext {
    async fn observe(&self, batch: &[Observation]) -> Result<Vec<Subject24h>, ContextError> {
        // A panic inside would leave one subject's figures in doubt, not the process's safety.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for observation in batch {
            state.record(observation);
        }
        let figures = batch.iter().map(|observation| state.figures(observation)).collect();
        // Only now: no subject of the batch is forgotten before it was read.
        state.forget_beyond(self.limits);
        Ok(figures)
    }
}

impl State {
    fn record(&mut self, observation: &Observation) {
        let key = (observation.tenant.clone(), observation.subject.clone());
        self.touches += 1;
        let (touched, subject) = self.subjects.entry(key.clone()).or_default();
        self.touched.remove(touched);
        *touched = self.touches;
        self.touched.insert(self.touches, key);
        let before = subject.by_id.len();
        subject.record(Entry::from(observation));
        self.events = (self.events + subject.by_id.len()).saturating_sub(before);
    }

    fn figures(&self, observation: &Observation) -> Subject24h {
        let key = (observation.tenant.clone(), observation.subject.clone());
        let entry = Entry::from(observation);
        self.subjects.get(&key).map_or_else(|| entry.alone(), |(_, subject)| subject.figures(entry))
    }

    fn forget_beyond(&mut self, limits: ContextLimits) {
        while self.subjects.len() > limits.subjects || self.events > limits.events {
            let Some((_, key)) = self.touched.pop_first() else { return };
            if let Some((_, subject)) = self.subjects.remove(&key) {
                self.events = self.events.saturating_sub(subject.by_id.len());
            }
        }
    }
}

/// An event as it is counted: times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u128,
    at: i64,
    accepted_at: i64,
    amount: i64,
}

impl Entry {
    /// The figures of an event whose subject is unknown.
    fn alone(self) -> Subject24h {
        Subject24h { count: 1, amount_sum: self.amount, truncated: false }
    }
}

impl From<&Observation> for Entry {
    fn from(observation: &Observation) -> Self {
        Self {
            id: observation.event.0.as_u128(),
            at: observation.at.timestamp_millis(),
            // 48 bits.
            accepted_at: observation.event.millis() as i64,
            amount: observation.amount,
        }
    }
}

#[derive(Default)]
struct Subject {
    by_time: BTreeMap<(i64, u128), i64>,
    /// Time and amount.
    by_id: BTreeMap<u128, (i64, i64)>,
    /// The newest event time, or accept time where an event claims to be from the future: one
    /// absurd time must not make every other event too old to keep.
    newest: i64,
    /// Events in `(newest - 24 h, newest]`, and the sum of their amounts.
    total: (i64, i128),
    /// The newest time of an event that was not kept.
    dropped_to: Option<i64>,
}

impl Subject {
    fn record(&mut self, entry: Entry) {
        let basis = entry.at.min(entry.accepted_at);
        if self.by_id.is_empty() && self.dropped_to.is_none() {
            self.newest = basis;
        }
        if basis > self.newest {
            self.advance(basis);
        }
        if entry.at <= self.floor() {
            self.dropped_to = self.dropped_to.max(Some(entry.at));
            return;
        }
        if self.by_id.insert(entry.id, (entry.at, entry.amount)).is_none() {
            self.by_time.insert((entry.at, entry.id), entry.amount);
            self.count(entry.at, entry.amount, 1);
        }
        if self.by_id.len() > SUBJECT_EVENTS_MAX {
            self.drop_oldest();
        }
    }

    fn floor(&self) -> i64 {
        self.newest - WINDOW - SLACK
    }

    /// Moves the totals on to a newer `newest` and drops what is too old now.
    fn advance(&mut self, newest: i64) {
        let (gone, come) = (
            self.span(self.newest - WINDOW, self.newest.min(newest - WINDOW)),
            self.span(self.newest.max(newest - WINDOW), newest),
        );
        self.total = (self.total.0 - gone.0 + come.0, self.total.1 - gone.1 + come.1);
        self.newest = newest;
        while self.by_time.first_key_value().is_some_and(|((at, _), _)| *at <= self.floor()) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(((at, id), amount)) = self.by_time.pop_first() {
            self.by_id.remove(&id);
            self.count(at, amount, -1);
            self.dropped_to = self.dropped_to.max(Some(at));
        }
    }

    /// Adds to the totals, or takes from them, an event that stands in their window.
    fn count(&mut self, at: i64, amount: i64, sign: i64) {
        if at > self.newest - WINDOW && at <= self.newest {
            self.total = (self.total.0 + sign, self.total.1 + i128::from(sign) * i128::from(amount));
        }
    }

    /// Count and sum of the kept events with a time in `(after, to]`.
    fn span(&self, after: i64, to: i64) -> (i64, i128) {
        if after >= to {
            return (0, 0);
        }
        let range = (Excluded((after, u128::MAX)), Included((to, u128::MAX)));
        self.by_time.range(range).fold((0, 0), |(n, sum), (_, amount)| (n + 1, sum + i128::from(*amount)))
    }

    /// As [`Subject::span`], negative when the bounds are the other way round, so that spans add up.
    fn signed_span(&self, after: i64, to: i64) -> (i64, i128) {
        if after <= to {
            return self.span(after, to);
        }
        let (count, sum) = self.span(to, after);
        (-count, -sum)
    }

    fn figures(&self, entry: Entry) -> Subject24h {
        let start = entry.at - WINDOW;
        let (before, behind) = (self.signed_span(start, self.newest - WINDOW), self.signed_span(self.newest, entry.at));
        let mut count = self.total.0 + before.0 + behind.0;
        let mut sum = self.total.1 + before.1 + behind.1;
        for (at, amount) in self.by_id.range((Excluded(entry.id), Unbounded)).map(|(_, event)| *event) {
            if at > start && at <= entry.at {
                count -= 1;
                sum -= i128::from(amount);
            }
        }
        if !self.by_id.contains_key(&entry.id) {
            count += 1;
            sum += i128::from(entry.amount);
        }
        Subject24h {
            count: u64::try_from(count).unwrap_or(0),
            amount_sum: i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }),
            truncated: self.dropped_to.is_some_and(|dropped| dropped > start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventId;
    use crate::domain::time::from_millis;

    const NOON: u64 = 1_763_726_400_000;

    fn seen(n: u64, at: u64) -> Observation {
        let tenant = TenantId::parse("acme").expect("legal");
        let event = EventId::mint(NOON + n, [0; 10]);
        Observation { event, tenant, subject: "s".to_owned(), amount: 1, at: from_millis(at) }
    }

    #[tokio::test]
    async fn the_subject_least_recently_seen_is_forgotten_first() {
        let context = MemoryContext::new(ContextLimits { subjects: 2, events: 100 });
        let of = |subject: &str, n| Observation { subject: subject.to_owned(), ..seen(n, NOON + n) };
        for (subject, n) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            context.observe(&[of(subject, n)]).await.expect("memory");
        }
        let counts = context.observe(&[of("a", 5), of("b", 6)]).await.expect("memory");
        assert_eq!((counts[0].count, counts[1].count), (3, 1));
    }

    #[tokio::test]
    async fn a_subject_keeps_its_newest_events_and_says_that_there_were_more() {
        let context = MemoryContext::new(ContextLimits::default());
        let many: Vec<_> = (0..SUBJECT_EVENTS_MAX as u64 + 10).map(|n| seen(n, NOON + n)).collect();
        for page in many.chunks(500) {
            context.observe(page).await.expect("memory");
        }
        let last = context.observe(&many[many.len() - 1..]).await.expect("memory")[0];
        assert_eq!((last.count, last.truncated), (SUBJECT_EVENTS_MAX as u64, true));
    }

    #[tokio::test]
    async fn a_time_in_the_far_future_does_not_age_the_others() {
        let context = MemoryContext::new(ContextLimits::default());
        let batch = [seen(1, NOON), seen(2, NOON + 1_000_000_000_000), seen(3, NOON + 3)];
        let counts = context.observe(&batch).await.expect("memory");
        assert_eq!(counts[2], Subject24h { count: 2, amount_sum: 2, truncated: false });
        assert_eq!(counts[1].count, 1);
    }
}
