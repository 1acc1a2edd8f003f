//! Owns the history of a run, as the suite itself has seen it: every event that was attempted, every
//! answer, every outcome heard downstream. Written by the harness, never by the system under test.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// What every canary begins with: in a log or a metric it is a leak, whoever's it is.
pub(crate) const CANARY: &str = "c4n4ry-";

/// A tenant of the run.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    /// In the payload of each of its events and nowhere else.
    pub(crate) canary: String,
}

/// What is known of an event from the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No answer, or one that leaves open whether it was stored.
    Unknown,
    /// Taken, under this id.
    Acknowledged(Uuid),
    /// Refused for good.
    Refused,
}

/// An event that was sent at least once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) answer: Answer,
    /// A later answer named another id.
    pub(crate) contradicted: bool,
}

/// An outcome as a downstream consumer has heard it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) copies: u32,
}

/// The history. Events are numbered by tenant; the number is in the key, and in the correlation id,
/// by which the checker finds them again.
pub(crate) struct History {
    pub(crate) tenants: Vec<Tenant>,
    attempts: Vec<Mutex<Vec<Attempt>>>,
    heard: Mutex<HashMap<Uuid, Heard>>,
    /// Outcomes that came under another tenant's routing key.
    strays: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single assignments and pushes: a poisoned lock guards good data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// An empty history of so many tenants.
    pub(crate) fn new(tenants: usize) -> Self {
        let tenant = |n: usize| Tenant {
            name: format!("tenant-{n}"),
            canary: format!("{CANARY}{}", uuid::Uuid::new_v4().simple()),
        };
        Self {
            tenants: (0..tenants).map(tenant).collect(),
            attempts: (0..tenants).map(|_| Mutex::default()).collect(),
            heard: Mutex::default(),
            strays: Mutex::default(),
        }
    }

    /// The idempotency key and correlation id of an event.
    pub(crate) fn key(&self, tenant: usize, n: usize) -> String {
        format!("{}/{n}", self.tenants[tenant].name)
    }

    /// Tenant and number out of a key.
    pub(crate) fn read_key(&self, key: &str) -> Option<(usize, usize)> {
        let (name, n) = key.split_once('/')?;
        let tenant = name.strip_prefix("tenant-")?.parse().ok().filter(|n| *n < self.tenants.len())?;
        Some((tenant, n.parse().ok()?))
    }

    /// Notes that the next `count` events of a tenant are about to be sent; gives their numbers.
    pub(crate) fn attempt(&self, tenant: usize, count: usize) -> std::ops::Range<usize> {
        let mut attempts = lock(&self.attempts[tenant]);
        let first = attempts.len();
        let fresh = Attempt { answer: Answer::Unknown, contradicted: false };
        attempts.resize(first + count, fresh);
        first..first + count
    }

    /// Notes an answer. An acknowledgement stays; another one with another id is a contradiction.
    pub(crate) fn answer(&self, tenant: usize, n: usize, answer: Answer) {
        let mut attempts = lock(&self.attempts[tenant]);
        let Some(attempt) = attempts.get_mut(n) else { return };
        match (attempt.answer, answer) {
            (Answer::Acknowledged(first), Answer::Acknowledged(again)) => attempt.contradicted |= first != again,
            (Answer::Unknown | Answer::Refused, Answer::Acknowledged(_)) | (Answer::Unknown, Answer::Refused) => {
                attempt.answer = answer;
            }
            (_, Answer::Unknown) | (Answer::Acknowledged(_) | Answer::Refused, Answer::Refused) => {}
        }
    }

    /// Notes an outcome heard under a routing key.
    pub(crate) fn hear(&self, event: Uuid, tenant: &str, routing_key: &str) {
        lock(&self.heard).entry(event).or_insert(Heard { copies: 0 }).copies += 1;
        if routing_key != tenant && !routing_key.starts_with(&format!("{tenant}.")) {
            lock(&self.strays).push(format!("an outcome of {tenant} under the routing key {routing_key}"));
        }
    }

    /// All attempts of a tenant so far.
    pub(crate) fn attempts_of(&self, tenant: usize) -> Vec<Attempt> {
        lock(&self.attempts[tenant]).clone()
    }

    /// How many events of a tenant were attempted so far.
    pub(crate) fn attempted(&self, tenant: usize) -> usize {
        lock(&self.attempts[tenant]).len()
    }

    /// What was heard so far.
    pub(crate) fn heard(&self) -> HashMap<Uuid, Heard> {
        lock(&self.heard).clone()
    }

    /// Outcomes that came to the wrong ears.
    pub(crate) fn strays(&self) -> Vec<String> {
        lock(&self.strays).clone()
    }

    /// How many events were attempted, and how many of them acknowledged.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for attempts in &self.attempts {
            let attempts = lock(attempts);
            counts.0 += attempts.len();
            counts.1 += attempts.iter().filter(|a| matches!(a.answer, Answer::Acknowledged(_))).count();
        }
        counts
    }

    /// Whether an acknowledged id belongs to this event.
    #[cfg(test)]
    pub(crate) fn acknowledged(&self, tenant: usize, n: usize) -> Option<Uuid> {
        match lock(&self.attempts[tenant]).get(n)?.answer {
            Answer::Acknowledged(id) => Some(id),
            Answer::Unknown | Answer::Refused => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_stays_and_another_id_contradicts_it() {
        let history = History::new(2);
        assert_eq!(history.attempt(1, 3), 0..3);
        assert_eq!(history.attempt(1, 1), 3..4);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        history.answer(1, 0, Answer::Acknowledged(one));
        history.answer(1, 0, Answer::Unknown);
        history.answer(1, 0, Answer::Acknowledged(one));
        assert_eq!(history.acknowledged(1, 0), Some(one));
        assert!(!history.attempts_of(1)[0].contradicted);
        history.answer(1, 0, Answer::Acknowledged(two));
        assert!(history.attempts_of(1)[0].contradicted);
        assert_eq!(history.counts(), (4, 1));
        assert_eq!(history.read_key(&history.key(1, 3)), Some((1, 3)));
        assert_eq!(history.read_key("tenant-9/1"), None);
    }

    #[test]
    fn an_outcome_under_a_foreign_key_is_a_stray() {
        let history = History::new(1);
        history.hear(Uuid::from_u128(1), "tenant-1", "tenant-1");
        history.hear(Uuid::from_u128(1), "tenant-1", "tenant-1.risk.APPROVED");
        assert!(history.strays().is_empty());
        history.hear(Uuid::from_u128(1), "tenant-1", "tenant-11");
        assert_eq!(history.strays().len(), 1);
        assert_eq!(history.heard()[&Uuid::from_u128(1)].copies, 3);
    }
}
