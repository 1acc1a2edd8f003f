//! Owns the metrics that name tenants: the busiest each by its own name, all others together as
//! `other`. What is kept and shown is bounded, however many tenants there are.
//!
//! # Decisions
//! The recorder never lets go of a label set, so these families are not the recorder's: they are
//! counted here and written behind its text.
//!
//! A tenant is shown at once while there is room. The others are watched by the Space-Saving sketch
//! (Metwally, Agrawal & El Abbadi, 2005), and once a minute those that are surely twice as busy as
//! the least busy that is shown take its place: what counts is the sketch's lower bound, or with many
//! tenants that are equally busy everybody would change places with everybody. Whoever is shown no
//! more is counted as `other` from then on, and when it comes back its counters begin at 0, which
//! Prometheus takes for a restart.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::names;
use crate::domain::TenantId;

/// What tenants are called that are not shown by their names. A tenant of this name is one of them.
const OTHER: &str = "other";

/// Tenants that are shown when nothing is set.
const SHOWN: usize = 50;

/// Tenants that are watched for each that can be shown.
const WATCHED_PER_SHOWN: usize = 4;

/// How much busier somebody must be to take another's place.
const BUSIER: u64 = 2;

/// What happened to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// An event of it was stored for the first time.
    Accepted,
    /// An event of it was not taken.
    Refused,
    /// A decision on an event of it was committed.
    Decided,
    /// An event of it failed: it was put off, or ended as a dead letter.
    Failed,
    /// A request of it was answered.
    Requested,
}

impl Happened {
    /// Everything that happens to events, in the order of the counters, with its label.
    const STATES: [&str; 4] = ["accepted", "refused", "decided", "failed"];
}

type Counts = [u64; Happened::STATES.len() + 1];

#[derive(Debug, Clone, Default)]
struct Shown {
    counts: Counts,
    /// What happened of late; halved every minute.
    recent: u64,
}

/// Of a tenant that is watched: at most `most` happened, `most - error` at least.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    most: u64,
    error: u64,
}

#[derive(Debug)]
struct Busiest {
    limit: usize,
    shown: HashMap<TenantId, Shown>,
    watched: HashMap<TenantId, Watched>,
    others: Counts,
}

/// The counters of tenants.
#[derive(Debug)]
pub struct Tenants(Mutex<Busiest>);

/// Those of this process.
pub fn tenants() -> &'static Tenants {
    static TENANTS: OnceLock<Tenants> = OnceLock::new();
    TENANTS.get_or_init(|| Tenants::new(SHOWN))
}

impl Tenants {
    /// Counters that show so many tenants by their names.
    pub fn new(limit: usize) -> Self {
        let (shown, watched) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Busiest { limit, shown, watched, others: Counts::default() }))
    }

    // A panic while the lock is held leaves counts that are a little off.
    fn busiest(&self) -> MutexGuard<'_, Busiest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows so many tenants by their names from now on.
    pub fn show(&self, limit: usize) {
        let mut busiest = self.busiest();
        busiest.limit = limit;
        busiest.shown.clear();
        busiest.watched.clear();
    }

    /// Counts what happened once.
    pub fn count(&self, tenant: &TenantId, what: Happened) {
        self.busiest().count(tenant, what, 1);
    }

    /// Counts what happened to many, under one lock.
    pub fn count_all<'a>(&self, happened: impl Iterator<Item = (&'a TenantId, Happened)>) {
        let mut busiest = self.busiest();
        for (tenant, what) in happened {
            busiest.count(tenant, what, 1);
        }
    }

    /// Lets the busiest of the others take the places of those that are busy no more. Once a minute.
    pub fn turn(&self) {
        self.busiest().turn();
    }

    /// The families, as Prometheus reads them.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a text never fails.
        _ = self.busiest().write(&mut text);
        text
    }
}

impl Busiest {
    fn count(&mut self, tenant: &TenantId, what: Happened, times: u64) {
        let at = what as usize;
        if let Some(shown) = self.shown.get_mut(tenant) {
            shown.counts[at] += times;
            shown.recent += times;
        } else if self.shown.len() < self.limit && tenant.as_str() != OTHER {
            let shown = self.shown.entry(tenant.clone()).or_default();
            shown.counts[at] = times;
            shown.recent = times;
        } else {
            self.others[at] += times;
            self.watch(tenant, times);
        }
    }

    /// The sketch: whoever comes when it is full takes the place, and the count, of the least busy.
    fn watch(&mut self, tenant: &TenantId, times: u64) {
        if self.limit == 0 || tenant.as_str() == OTHER {
            return;
        }
        if let Some(watched) = self.watched.get_mut(tenant) {
            watched.most += times;
            return;
        }
        let mut error = 0;
        if self.watched.len() >= self.limit * WATCHED_PER_SHOWN
            && let Some((least, count)) = self.watched.iter().min_by_key(|(_, watched)| watched.most)
        {
            (error, _) = (count.most, self.watched.remove(&least.clone()));
        }
        self.watched.insert(tenant.clone(), Watched { most: error + times, error });
    }

    fn turn(&mut self) {
        let mut busy: Vec<(u64, TenantId)> =
            self.watched.iter().map(|(tenant, count)| (count.most - count.error, tenant.clone())).collect();
        busy.sort_unstable_by(|a, b| b.cmp(a));
        for (surely, tenant) in busy {
            if !self.makes_room(surely) {
                break;
            }
            self.watched.remove(&tenant);
            self.shown.insert(tenant, Shown { counts: Counts::default(), recent: surely });
        }
        self.shown.values_mut().for_each(|shown| shown.recent /= 2);
        for watched in self.watched.values_mut() {
            *watched = Watched { most: watched.most / 2, error: watched.error / 2 };
        }
        self.watched.retain(|_, watched| watched.most > 0);
    }

    /// Whether there is room for somebody so busy, if need be by taking a place.
    fn makes_room(&mut self, surely: u64) -> bool {
        if self.shown.len() < self.limit {
            return surely > 0;
        }
        let least = self.shown.iter().min_by_key(|(tenant, shown)| (shown.recent, *tenant));
        let Some((least, shown)) = least else { return false };
        if surely <= BUSIER * shown.recent {
            return false;
        }
        let least = least.clone();
        self.shown.remove(&least);
        true
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let mut lines: Vec<(&str, &Counts)> = self.shown.iter().map(|(t, shown)| (t.as_str(), &shown.counts)).collect();
        lines.sort_unstable_by_key(|(tenant, _)| *tenant);
        lines.push((OTHER, &self.others));
        let events = names::TENANT_EVENTS;
        writeln!(text, "# HELP {events} Events of the busiest tenants by what became of them; the rest is `other`.")?;
        writeln!(text, "# TYPE {events} counter")?;
        for (tenant, counts) in &lines {
            for (state, count) in Happened::STATES.iter().zip(*counts) {
                writeln!(text, "{events}{{tenant=\"{tenant}\",state=\"{state}\"}} {count}")?;
            }
        }
        let requests = names::TENANT_REQUESTS;
        writeln!(text, "# HELP {requests} Requests of the busiest tenants; the rest is `other`.")?;
        writeln!(text, "# TYPE {requests} counter")?;
        for (tenant, counts) in &lines {
            writeln!(text, "{requests}{{tenant=\"{tenant}\"}} {}", counts[Happened::Requested as usize])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("legal")
    }

    fn line(tenants: &Tenants, wanted: &str) -> Option<u64> {
        let text = tenants.render();
        text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn ten_thousand_tenants_are_shown_in_a_few_lines() {
        let tenants = Tenants::new(50);
        for n in 0..10_000 {
            tenants.count(&tenant(n), Happened::Accepted);
        }
        let text = tenants.render();
        assert_eq!(text.lines().count(), 4 + 51 * 5, "{text}");
        let sum: u64 = text
            .lines()
            .filter(|l| l.contains("accepted"))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum();
        assert_eq!(sum, 10_000);
        let held = tenants.busiest();
        assert!(held.shown.len() == 50 && held.watched.len() <= 200);
    }

    #[test]
    fn equally_busy_tenants_stay_where_they_are_and_a_busy_one_is_found() {
        let tenants = Tenants::new(10);
        for _ in 0..30 {
            (0..1_000).for_each(|n| tenants.count(&tenant(n), Happened::Decided));
        }
        tenants.turn();
        for n in 0..10 {
            assert_eq!(
                line(&tenants, &format!("riskfleet_tenant_events_total{{tenant=\"t{n}\",state=\"decided\"}}")),
                Some(30)
            );
        }
        for _ in 0..5_000 {
            tenants.count(&tenant(777), Happened::Decided);
        }
        tenants.turn();
        tenants.count(&tenant(777), Happened::Decided);
        let found = "riskfleet_tenant_events_total{tenant=\"t777\",state=\"decided\"}";
        assert_eq!(line(&tenants, found), Some(1), "from its turn on:\n{}", tenants.render());
        assert_eq!(tenants.busiest().shown.len(), 10);
    }

    #[test]
    fn others_are_counted_together_and_so_is_one_of_that_name() {
        let tenants = Tenants::new(0);
        tenants.count_all([(&tenant(1), Happened::Failed), (&tenant(2), Happened::Requested)].into_iter());
        assert_eq!(line(&tenants, "riskfleet_tenant_events_total{tenant=\"other\",state=\"failed\"}"), Some(1));
        assert_eq!(line(&tenants, "riskfleet_tenant_requests_total{tenant=\"other\"}"), Some(1));
        tenants.show(5);
        tenants.count(&TenantId::parse("other").expect("legal"), Happened::Refused);
        let text = tenants.render();
        assert_eq!(text.matches("tenant=\"other\",state=\"refused\"").count(), 1, "{text}");
        assert!(tenants.busiest().shown.is_empty());
    }
}
