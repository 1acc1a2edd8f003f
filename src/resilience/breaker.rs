//! Owns the answer to "is it worth asking?": a circuit breaker in three states. Never waits, and
//! never knows what is asked.
//!
//! Closed, calls go through, and so many failures in a row open it. Open, calls are refused until
//! the recovery time is over; then it is half-open, and ONE call goes through to try. Its success
//! closes the circuit, its failure opens it for another recovery time (Nygard, "Release It!", 2nd
//! edition, chapter 5; the shape is linkerd2-proxy's).
//!
//! # Decisions
//! A verdict counts only while the circuit is as it was when the call began: each change has a
//! number, and what began under another one is late. A call that began before the circuit opened
//! can therefore neither close it nor hold it open.
//!
//! The one try is lent for a recovery time: a call that hangs for longer, or that is dropped, does
//! not keep the circuit half-open for ever.

use metrics::{Counter, Gauge};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ports::Clock;

/// What a caller is told to wait while somebody else's try is under way: it may end at any moment.
const WHILE_TRYING: Duration = Duration::from_secs(1);

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open it, 1 or more.
    pub failures: u32,
    /// How long it then stays open before one call may try.
    pub recovery: Duration,
}

impl Default for BreakerRules {
    /// 5 failures, 30 s.
    fn default() -> Self {
        Self { failures: 5, recovery: Duration::from_secs(30) }
    }
}

/// Where a circuit shows itself.
#[derive(Clone)]
pub struct BreakerMeters {
    /// 0 closed, 1 half-open, 2 open.
    pub state: Gauge,
    /// Changes to closed.
    pub closed: Counter,
    /// Changes to half-open.
    pub half_open: Counter,
    /// Changes to open.
    pub opened: Counter,
}

impl BreakerMeters {
    /// Shows nothing.
    pub fn none() -> Self {
        let none = Counter::noop;
        Self { state: Gauge::noop(), closed: none(), half_open: none(), opened: none() }
    }
}

/// A call was refused: the circuit is open. Completes "failed to …: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open, the next try is in {:.1} s", .retry_in.as_secs_f64())]
pub struct Open {
    /// After which a call may go through again.
    pub retry_in: Duration,
}

/// How a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Calls go through.
    Closed,
    /// One call tries.
    HalfOpen,
    /// Calls are refused for so long.
    Open(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Duration,
    },
    /// The try is lent until then.
    HalfOpen {
        until: Duration,
    },
}

struct Inner {
    state: State,
    /// Of the last change; a verdict from under another one is late.
    change: u64,
}

/// The circuit of one dependency.
pub struct Breaker {
    dependency: &'static str,
    rules: BreakerRules,
    clock: Arc<dyn Clock>,
    meters: BreakerMeters,
    inner: Mutex<Inner>,
}

impl Breaker {
    /// A closed circuit.
    pub fn new(dependency: &'static str, rules: BreakerRules, clock: Arc<dyn Clock>, meters: BreakerMeters) -> Self {
        meters.state.set(0.0);
        let inner = Mutex::new(Inner { state: State::Closed { failures: 0 }, change: 0 });
        Self { dependency, rules, clock, meters, inner }
    }

    /// What it is a circuit of.
    pub fn dependency(&self) -> &'static str {
        self.dependency
    }

    /// How it stands now. Changes nothing.
    pub fn circuit(&self) -> Circuit {
        let inner = self.inner();
        match inner.state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { until } => Circuit::Open(until.saturating_sub(self.clock.elapsed())),
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    /// Whether a call would be let through now. Changes nothing.
    ///
    /// # Errors
    /// When the circuit is open.
    pub fn check(&self) -> Result<(), Open> {
        self.refusal(&self.inner(), self.clock.elapsed()).map_or(Ok(()), Err)
    }

    /// Lets a call through; the permit is to be given its verdict.
    ///
    /// # Errors
    /// When the circuit is open.
    pub fn admit(&self) -> Result<Permit<'_>, Open> {
        let mut inner = self.inner();
        let now = self.clock.elapsed();
        if let Some(refused) = self.refusal(&inner, now) {
            return Err(refused);
        }
        let tries = !matches!(inner.state, State::Closed { .. });
        if tries {
            self.change(&mut inner, State::HalfOpen { until: now + self.rules.recovery });
        }
        Ok(self.permit(inner.change, tries))
    }

    /// Lets a call through that only asks whether the dependency answers, whatever the state. Its
    /// success closes the circuit once the recovery time is over; its failure counts while the
    /// circuit is closed, and when it is the one try.
    pub fn look(&self) -> Permit<'_> {
        self.admit().unwrap_or_else(|_| self.permit(self.inner().change, false))
    }

    fn permit(&self, change: u64, tries: bool) -> Permit<'_> {
        Permit { breaker: self, change, tries, judged: false }
    }

    // A panic while the lock is held leaves the state whole: it is replaced, never edited.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, inner: &Inner, now: Duration) -> Option<Open> {
        match inner.state {
            State::Closed { .. } => None,
            State::Open { until } if now < until => Some(Open { retry_in: until - now }),
            State::HalfOpen { until } if now < until => Some(Open { retry_in: WHILE_TRYING.min(until - now) }),
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    fn succeeded(&self, permit: &Permit<'_>) {
        let mut inner = self.inner();
        if permit.change != inner.change {
            return;
        }
        match inner.state {
            State::Closed { .. } => inner.state = State::Closed { failures: 0 },
            State::Open { until } if self.clock.elapsed() < until => {}
            State::Open { .. } | State::HalfOpen { .. } => self.change(&mut inner, State::Closed { failures: 0 }),
        }
    }

    fn failed(&self, permit: &Permit<'_>) {
        let mut inner = self.inner();
        if permit.change != inner.change {
            return;
        }
        let open = State::Open { until: self.clock.elapsed() + self.rules.recovery };
        match inner.state {
            State::Closed { failures } if failures + 1 < self.rules.failures => {
                inner.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } => self.change(&mut inner, open),
            State::HalfOpen { .. } if permit.tries => self.change(&mut inner, open),
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// The try ended without a verdict: the next caller may have it.
    fn returned(&self, permit: &Permit<'_>) {
        let mut inner = self.inner();
        if permit.change == inner.change && matches!(inner.state, State::HalfOpen { .. }) {
            inner.state = State::HalfOpen { until: self.clock.elapsed() };
        }
    }

    /// Under the lock, so that the gauge ends with the last change.
    fn change(&self, inner: &mut Inner, to: State) {
        let from = std::mem::replace(&mut inner.state, to);
        inner.change += 1;
        let (dependency, meters) = (self.dependency, &self.meters);
        match (from, to) {
            // Another caller has the try now.
            (State::HalfOpen { .. }, State::HalfOpen { .. }) => {}
            (_, State::HalfOpen { .. }) => {
                meters.state.set(1.0);
                meters.half_open.increment(1);
                tracing::debug!(dependency, "the circuit is half-open: one call tries");
            }
            (_, State::Closed { .. }) => {
                meters.state.set(0.0);
                meters.closed.increment(1);
                tracing::info!(dependency, "the circuit is closed again");
            }
            (from, State::Open { .. }) => {
                meters.state.set(2.0);
                meters.opened.increment(1);
                let recovery_s = self.rules.recovery.as_secs();
                if matches!(from, State::Closed { .. }) {
                    tracing::warn!(dependency, failures = self.rules.failures, recovery_s, "the circuit opens");
                } else {
                    // Of an outage, the beginning and the end are news.
                    tracing::debug!(dependency, recovery_s, "the try has failed, the circuit stays open");
                }
            }
        }
    }
}

/// A call that was let through. Dropped without a verdict (its future was cancelled) it counts as
/// nothing.
#[must_use = "a permit wants a verdict"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    change: u64,
    /// Whether it is the one try of a half-open circuit.
    tries: bool,
    judged: bool,
}

impl Permit<'_> {
    /// The dependency answered, be it with an error.
    pub fn succeeded(mut self) {
        self.judged = true;
        self.breaker.succeeded(&self);
    }

    /// The dependency is away or did not answer.
    pub fn failed(mut self) {
        self.judged = true;
        self.breaker.failed(&self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.tries && !self.judged {
            self.breaker.returned(self);
        }
    }
}

#[cfg(test)]
mod tests;
