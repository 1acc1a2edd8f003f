//! Tests: the transitions, one by one and at random against a model, under a clock turned by hand.

use super::*;
use crate::resilience::hand_clock::HandClock;
use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::prelude::*;

const RECOVERY: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn breaker() -> (Arc<HandClock>, Breaker) {
    let clock = Arc::new(HandClock::default());
    let breaker = Breaker::new("thing", BreakerRules::default(), clock.clone(), BreakerMeters::none());
    (clock, breaker)
}

fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        breaker.admit().expect("closed").failed();
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_begins_anew() {
    let (_, breaker) = breaker();
    fail(&breaker, 4);
    breaker.admit().expect("closed").succeeded();
    fail(&breaker, 4);
    assert_eq!(breaker.circuit(), Circuit::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY));
    let refused = breaker.admit().err().expect("open");
    assert_eq!(refused, Open { retry_in: RECOVERY });
    assert_eq!(refused.to_string(), "the circuit is open, the next try is in 30.0 s");
}

#[test]
fn after_the_recovery_one_call_tries_and_decides() {
    let (clock, breaker) = breaker();
    fail(&breaker, 5);
    clock.pass(RECOVERY - SECOND);
    assert_eq!(breaker.check(), Err(Open { retry_in: SECOND }));
    clock.pass(SECOND);
    assert_eq!(breaker.check(), Ok(()));
    let tries = breaker.admit().expect("one may try");
    assert_eq!(breaker.circuit(), Circuit::HalfOpen);
    assert!(breaker.admit().is_err() && breaker.check().is_err(), "only one");
    tries.failed();
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY));
    clock.pass(RECOVERY);
    breaker.admit().expect("one may try").succeeded();
    assert_eq!(breaker.circuit(), Circuit::Closed);
    fail(&breaker, 4);
    assert_eq!(breaker.circuit(), Circuit::Closed, "failures are counted from none");
}

#[test]
fn what_began_before_it_opened_neither_closes_nor_prolongs_it() {
    let (clock, breaker) = breaker();
    let late: Vec<Permit<'_>> = (0..4).map(|_| breaker.admit().expect("closed")).collect();
    fail(&breaker, 5);
    clock.pass(RECOVERY - SECOND);
    let mut late = late.into_iter();
    late.next().expect("four").failed();
    assert_eq!(breaker.circuit(), Circuit::Open(SECOND));
    clock.pass(SECOND);
    late.next().expect("four").succeeded();
    assert_eq!(breaker.circuit(), Circuit::Open(Duration::ZERO), "only a call that begins now can say so");
    let tries = breaker.admit().expect("one may try");
    late.next().expect("four").succeeded();
    late.next().expect("four").failed();
    assert_eq!(breaker.circuit(), Circuit::HalfOpen);
    tries.succeeded();
    assert_eq!(breaker.circuit(), Circuit::Closed);
}

#[test]
fn a_try_that_is_dropped_or_hangs_is_given_to_the_next() {
    let (clock, breaker) = breaker();
    fail(&breaker, 5);
    clock.pass(RECOVERY);
    drop(breaker.admit().expect("one may try"));
    let hangs = breaker.admit().expect("the next may try at once");
    clock.pass(RECOVERY - SECOND);
    assert_eq!(breaker.admit().err(), Some(Open { retry_in: SECOND }));
    clock.pass(SECOND);
    let tries = breaker.admit().expect("the one that hangs has had its time");
    hangs.failed();
    assert_eq!(breaker.circuit(), Circuit::HalfOpen, "its verdict is late");
    tries.succeeded();
    assert_eq!(breaker.circuit(), Circuit::Closed);
}

#[test]
fn a_look_goes_through_always_and_closes_only_after_the_recovery() {
    let (clock, breaker) = breaker();
    fail(&breaker, 3);
    breaker.look().failed();
    breaker.look().failed();
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY), "a look counts like a call");
    breaker.look().succeeded();
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY));
    let early = breaker.look();
    clock.pass(RECOVERY);
    early.succeeded();
    assert_eq!(breaker.circuit(), Circuit::Closed, "it answered, and the recovery time is over");

    fail(&breaker, 5);
    clock.pass(RECOVERY);
    let tries = breaker.admit().expect("one may try");
    breaker.look().failed();
    assert_eq!(breaker.circuit(), Circuit::HalfOpen, "the one that tries decides on failures");
    breaker.look().succeeded();
    assert_eq!(breaker.circuit(), Circuit::Closed, "anybody may bring good news");
    tries.failed();
    assert_eq!(breaker.circuit(), Circuit::Closed, "too late");

    fail(&breaker, 5);
    clock.pass(RECOVERY);
    breaker.look().failed();
    assert_eq!(breaker.circuit(), Circuit::Open(RECOVERY), "a look may be the one try");
}

#[test]
fn transitions_are_counted_and_the_state_is_shown() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let meters = metrics::with_local_recorder(&recorder, || BreakerMeters {
        state: metrics::gauge!("state"),
        closed: metrics::counter!("changes", "to" => "closed"),
        half_open: metrics::counter!("changes", "to" => "half_open"),
        opened: metrics::counter!("changes", "to" => "open"),
    });
    let clock = Arc::new(HandClock::default());
    let breaker = Breaker::new("thing", BreakerRules::default(), clock.clone(), meters);
    let state = |n: u8| shown.render().lines().any(|l| l == format!("state {n}"));
    assert!(state(0));
    fail(&breaker, 5);
    assert!(state(2));
    clock.pass(RECOVERY);
    drop(breaker.admit().expect("one may try"));
    let tries = breaker.admit().expect("the next may try");
    assert!(state(1));
    tries.failed();
    clock.pass(RECOVERY);
    breaker.admit().expect("one may try").succeeded();
    assert!(state(0));
    let text = shown.render();
    for line in ["changes{to=\"open\"} 2", "changes{to=\"half_open\"} 2", "changes{to=\"closed\"} 1"] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

/// What can happen to a circuit.
#[derive(Debug, Clone, Copy)]
enum Step {
    Admit,
    Look,
    /// Ends the nth call under way: with a success, a failure, or nothing.
    End(usize, Option<bool>),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Admit),
        1 => Just(Step::Look),
        6 => (0..8_usize, prop_oneof![3 => Just(Some(false)), 2 => Just(Some(true)), 1 => Just(None)])
            .prop_map(|(nth, verdict)| Step::End(nth, verdict)),
        2 => (0..12_000_u64).prop_map(Step::Pass),
    ]
}

/// The circuit as its documentation tells it, written for clarity: the moments of its changes, and
/// of each call when it began, by a count of everything that happens.
#[derive(Default)]
struct Model {
    now_ms: u64,
    /// Counts what happens.
    tick: u64,
    changed: u64,
    in_a_row: u32,
    /// When it opened or began to try; none while closed.
    since_ms: Option<u64>,
    /// The tick of the call that tries.
    trying: Option<u64>,
    half_open: bool,
}

const RECOVERY_MS: u64 = 10_000;

impl Model {
    fn lets_through(&self) -> bool {
        match self.since_ms {
            None => true,
            Some(_) if self.half_open && self.trying.is_none() => true,
            Some(since) => self.now_ms >= since + RECOVERY_MS,
        }
    }

    /// Gives the tick at which the call began.
    fn begin(&mut self) -> u64 {
        self.tick += 1;
        if self.since_ms.is_some() && self.lets_through() {
            (self.half_open, self.since_ms, self.changed) = (true, Some(self.now_ms), self.tick);
            self.trying = Some(self.tick);
        }
        self.tick
    }

    fn end(&mut self, began: u64, verdict: Option<bool>) {
        let tries = self.trying == Some(began);
        self.tick += 1;
        if began < self.changed {
            return;
        }
        let recovered = self.since_ms.is_some_and(|since| self.now_ms >= since + RECOVERY_MS);
        match verdict {
            None if tries => self.trying = None,
            None => {}
            Some(true) if self.since_ms.is_none() => self.in_a_row = 0,
            Some(true) if self.half_open || recovered => *self = self.closed(),
            Some(false) if self.since_ms.is_none() => {
                self.in_a_row += 1;
                if self.in_a_row == 3 {
                    *self = self.opened();
                }
            }
            Some(false) if tries => *self = self.opened(),
            Some(_) => {}
        }
    }

    fn closed(&self) -> Self {
        Self { now_ms: self.now_ms, tick: self.tick, changed: self.tick, ..Self::default() }
    }

    fn opened(&self) -> Self {
        Self { since_ms: Some(self.now_ms), ..self.closed() }
    }

    fn circuit(&self) -> Circuit {
        match self.since_ms {
            None => Circuit::Closed,
            Some(_) if self.half_open => Circuit::HalfOpen,
            Some(since) => Circuit::Open(Duration::from_millis((since + RECOVERY_MS).saturating_sub(self.now_ms))),
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 0..200)) {
        let clock = Arc::new(HandClock::default());
        let rules = BreakerRules { failures: 3, recovery: Duration::from_millis(RECOVERY_MS) };
        let breaker = Breaker::new("thing", rules, clock.clone(), BreakerMeters::none());
        let mut model = Model::default();
        let mut under_way: Vec<(Permit<'_>, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Admit => {
                    let expected = model.lets_through();
                    prop_assert_eq!(breaker.check().is_ok(), expected);
                    let admitted = breaker.admit();
                    prop_assert_eq!(admitted.is_ok(), expected);
                    match admitted {
                        Ok(permit) => under_way.push((permit, model.begin())),
                        Err(open) => prop_assert!(!open.retry_in.is_zero() && open.retry_in <= rules.recovery),
                    }
                }
                Step::Look => under_way.push((breaker.look(), model.begin())),
                Step::End(nth, verdict) if nth < under_way.len() => {
                    let (permit, began) = under_way.remove(nth);
                    match verdict {
                        Some(true) => permit.succeeded(),
                        Some(false) => permit.failed(),
                        None => drop(permit),
                    }
                    model.end(began, verdict);
                }
                Step::End(..) => {}
                Step::Pass(ms) => {
                    clock.pass(Duration::from_millis(ms));
                    model.now_ms += ms;
                }
            }
            prop_assert_eq!(breaker.circuit(), model.circuit());
        }
        drop(under_way);
    }
}
