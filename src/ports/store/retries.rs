//! Owns the words for what did not end at the first try: marks of attempts, retries, dead letters
//! and what people do with them.

use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Disposition, StoredEvent};
use crate::domain::{Epoch, EventId, FailureClass, PartitionId, Status, TenantId, WorkerId};

/// The largest part of an error that is kept beside a retry or in the history, in bytes.
pub const ERROR_MAX: usize = 2 * 1024;

/// The longest wait before a next try; longer ones are cut.
pub const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How starts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marking {
    /// First look at a redelivered pack: an event without a mark gets its first one; others are
    /// left as they are.
    Together,
    /// The event is about to run on its own: one more.
    Alone,
}

/// Events that are about to run, all marked in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkBatch {
    /// Who will run them.
    pub worker: WorkerId,
    /// Under which epochs: one entry for every partition in `events`.
    pub epochs: Vec<(PartitionId, Epoch)>,
    /// How they are counted.
    pub marking: Marking,
    /// Which; every event at most once.
    pub events: Vec<(EventId, PartitionId)>,
}

/// What became of one event of a [`MarkBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// It was begun.
    Begun {
        /// So often, this start included when it was marked [`Marking::Alone`]; 1 or more.
        attempts: u32,
        /// The mark that stood before was another worker's, which did not come to an end with it.
        by_other: bool,
    },
    /// It waits for its next try; only for [`Marking::Together`].
    Waiting,
    /// It has a disposition, or was never stored; nothing was written.
    Settled,
    /// The partition's epoch has moved: another worker owns it; nothing was written.
    Fenced,
}

/// What a store has found of events that are about to be begun; the rule of marking is here, so that
/// every adapter with rows of its own marks alike.
#[derive(Debug, Default)]
pub struct Begun {
    /// Those that are stored.
    pub stored: HashSet<EventId>,
    /// The `retries` rows among them.
    pub rows: HashMap<EventId, BegunRow>,
}

/// A row that counts the starts of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BegunRow {
    /// Starts so far.
    pub attempts: u32,
    /// Who began it last and has not ended it.
    pub worker: Option<WorkerId>,
    /// Whether it has a due time.
    pub waits: bool,
}

impl Begun {
    /// The mark of an event without a disposition, and whether it is to be written.
    pub fn mark(&self, event: EventId, batch: &MarkBatch) -> (Mark, bool) {
        if !self.stored.contains(&event) {
            return (Mark::Settled, false);
        }
        let Some(row) = self.rows.get(&event) else { return (Mark::Begun { attempts: 1, by_other: false }, true) };
        let by_other = row.worker.is_some_and(|before| before != batch.worker);
        match batch.marking {
            Marking::Together if row.waits => (Mark::Waiting, false),
            Marking::Together => (Mark::Begun { attempts: row.attempts, by_other }, false),
            Marking::Alone => (Mark::Begun { attempts: row.attempts.saturating_add(1), by_other }, true),
        }
    }
}

/// An event whose try failed for a passing reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRetry {
    /// The event.
    pub event: EventId,
    /// Where its tenant lives.
    pub partition: PartitionId,
    /// The class of the failure.
    pub class: FailureClass,
    /// What went wrong; cut to [`ERROR_MAX`].
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How long to wait, by the store's clock; cut to [`WAIT_MAX`].
    pub wait: Duration,
}

impl NewRetry {
    /// The wait in milliseconds.
    pub fn wait_ms(&self) -> i64 {
        // Below 2^32.
        self.wait.min(WAIT_MAX).as_millis() as i64
    }
}

/// Retries that are committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryBatch {
    /// Who commits.
    pub worker: WorkerId,
    /// Under which epochs: one entry for every partition in `items`.
    pub epochs: Vec<(PartitionId, Epoch)>,
    /// What; every event at most once.
    pub items: Vec<NewRetry>,
}

/// An event whose next try is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRetry {
    /// The event.
    pub event: StoredEvent,
    /// How often it was tried.
    pub attempts: u32,
}

/// What is kept of an event that was begun and has no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryState {
    /// How often it was begun; 0 for a dead letter that was just replayed.
    pub attempts: u32,
    /// When its next try is due; none while its message is in the broker's hands.
    pub due_at: Option<DateTime<Utc>>,
    /// The class of its last failure; none while none is known.
    pub class: Option<FailureClass>,
    /// What went wrong then.
    pub error: Option<String>,
    /// Who has begun it and not come to an end with it.
    pub worker: Option<WorkerId>,
}

/// What a person did with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PastAct {
    /// Made it pending again.
    Replayed,
    /// Took it off the list; the event stays dead.
    Discarded,
}

impl PastAct {
    /// Every act, in the order of their numbers in the store.
    pub const ALL: [Self; 2] = [Self::Replayed, Self::Discarded];
}

/// A dead letter that somebody has dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastDeath {
    /// Its class.
    pub class: FailureClass,
    /// What went wrong; cut to [`ERROR_MAX`].
    pub error: String,
    /// How often it had been tried.
    pub attempts: u32,
    /// When it died.
    pub died_at: DateTime<Utc>,
    /// What was done with it.
    pub act: PastAct,
    /// When, as the audit record of the act says.
    pub acted_at: DateTime<Utc>,
    /// By whom.
    pub by: String,
    /// Why, in words.
    pub reason: Option<String>,
}

/// Which dead letters to list, newest event first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only events older than this one (keyset paging).
    pub before: Option<EventId>,
    /// At most so many; 1 or more.
    pub limit: u32,
}

/// A dead letter that nobody has dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub event: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// Its class.
    pub class: FailureClass,
    /// What went wrong.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it died.
    pub at: DateTime<Utc>,
}

/// What became of an act on a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadAct {
    /// Done.
    Done,
    /// The event is no dead letter: it stands there.
    NotDead(Status),
    /// It was discarded before.
    Discarded,
    /// No such event is stored.
    Unknown,
}

/// Where an event stands on which no person has spoken: its end, else whether a try of it is due
/// some time.
pub fn standing(end: Option<&Disposition>, waits: bool) -> Status {
    match (end, waits) {
        (Some(end), _) => end.status(),
        (None, true) => Status::Retrying,
        (None, false) => Status::Received,
    }
}

/// An error as it is kept: at most [`ERROR_MAX`] bytes, cut between two characters, and without
/// NUL, which not every store can hold.
pub fn kept_error(error: &str) -> String {
    let mut kept = error.replace('\0', "\u{fffd}");
    kept.truncate(kept.floor_char_boundary(ERROR_MAX));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_between_characters() {
        assert_eq!(kept_error("short \0 ü"), "short \u{fffd} ü");
        for shift in 0..4 {
            let long = format!("{}{}", "x".repeat(shift), "🏦".repeat(1_000));
            let kept = kept_error(&long);
            assert!(long.starts_with(&kept) && (ERROR_MAX - 3..=ERROR_MAX).contains(&kept.len()), "{}", kept.len());
        }
    }
}
