//! Owns the rule of how many workers a fleet should have. Pure: signals come in, a verdict goes out;
//! how fast it is followed (cool-down, steps) is for who follows it.
//!
//! # Decisions
//! CPU time and backlog say how much work there is, so they also say how many replicas carry it; a slow
//! or a failing fleet only says that it is one replica too small. Scaling down leaves as many as the
//! work needs to stay below the thresholds, or the fleet would go up again at once.

use serde::Serialize;

/// What is known of the fleet; a signal that is missing speaks neither for nor against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Signals {
    /// Mean use of the replicas' CPU, in per cent.
    pub cpu_percent: Option<f64>,
    /// 99th percentile from accept to decision, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Failed of all begun events, 0 to 1.
    pub failure_rate: Option<f64>,
    /// Events that wait, over the whole fleet.
    pub queue_depth: Option<u64>,
}

/// When to have more, when fewer, and how many at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingPolicy {
    /// At least so many replicas.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// From here on more, in per cent.
    pub cpu_high: f64,
    /// Up to here fewer, in per cent.
    pub cpu_low: f64,
    /// From here on more; under half of it fewer. In milliseconds.
    pub p99_ms: f64,
    /// From here on more; under half of it fewer.
    pub failure_rate: f64,
    /// Events that wait, for each replica: from here on more; under half of it fewer.
    pub queue_depth: f64,
}

impl Default for ScalingPolicy {
    fn default() -> Self {
        Self { min: 1, max: 20, cpu_high: 70.0, cpu_low: 30.0, p99_ms: 500.0, failure_rate: 0.05, queue_depth: 50.0 }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingAction {
    /// Have more.
    ScaleUp,
    /// Have fewer.
    ScaleDown,
    /// Leave it so.
    NoAction,
}

/// A verdict with its reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// What to do.
    pub action: ScalingAction,
    /// Why, in words.
    pub reason: String,
    /// How many replicas there should be.
    pub desired_replicas: u32,
}

/// A verdict on a fleet as it is, with what it was judged by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// How many replicas there should be: never outside the policy's bounds, whatever there are now.
    pub desired_replicas: u32,
    /// How many there are.
    pub replicas: u32,
    /// What to do.
    pub action: ScalingAction,
    /// Why, in words.
    pub reason: String,
    /// What it was judged by.
    pub signals: Signals,
}

/// Judges a fleet of `replicas` and `partitions`.
pub fn judge(signals: Signals, policy: &ScalingPolicy, replicas: u32, partitions: u32) -> Judgement {
    let Scaling { action, reason, desired_replicas } = evaluate(&signals, policy, replicas, Some(partitions));
    let desired_replicas = desired_replicas.clamp(policy.min, policy.max);
    Judgement { desired_replicas, replicas, action, reason, signals }
}

/// One signal beside its thresholds.
struct Judged {
    said: String,
    high: bool,
    low: bool,
    /// Replicas that would carry it; none where it does not say.
    carried_by: Option<f64>,
}

/// The verdict for a fleet of `replicas`. `partitions`: how many the fleet has, if that is known; a
/// replica more than that would have nothing to do.
pub fn evaluate(signals: &Signals, policy: &ScalingPolicy, replicas: u32, partitions: Option<u32>) -> Scaling {
    let judged = judged(signals, policy, replicas);
    let most = policy.max.min(partitions.unwrap_or(u32::MAX));
    let high: Vec<&Judged> = judged.iter().filter(|signal| signal.high).collect();
    let said = |signals: &[&Judged]| signals.iter().map(|s| s.said.as_str()).collect::<Vec<_>>().join(", ");
    if !high.is_empty() {
        if replicas >= most {
            let bound = if most < policy.max { "one a partition is the most" } else { "the most that may be" };
            return stay(replicas, format!("{}, but {replicas} replicas are {bound}", said(&high)));
        }
        let needed = high.iter().filter_map(|s| s.carried_by).fold(f64::from(replicas) + 1.0, f64::max);
        let desired = (needed.ceil() as u32).clamp(replicas + 1, most);
        return Scaling { action: ScalingAction::ScaleUp, reason: said(&high), desired_replicas: desired };
    }
    if judged.is_empty() {
        return stay(replicas, "no signal is present".into());
    }
    let idle: Vec<&Judged> = judged.iter().filter(|signal| signal.low).collect();
    if idle.len() < judged.len() {
        return stay(replicas, "the signals are within their bounds".into());
    }
    if replicas <= policy.min {
        return stay(replicas, format!("{}, but {replicas} replicas are the fewest that may be", said(&idle)));
    }
    let carried = idle.iter().filter_map(|s| s.carried_by).reduce(f64::max);
    let needed = carried.map_or(replicas - 1, |carried| carried.ceil() as u32);
    let desired = needed.clamp(policy.min, replicas - 1);
    Scaling { action: ScalingAction::ScaleDown, reason: said(&idle), desired_replicas: desired }
}

fn stay(replicas: u32, reason: String) -> Scaling {
    Scaling { action: ScalingAction::NoAction, reason, desired_replicas: replicas }
}

/// The signals that are present. One that is no number is not.
fn judged(signals: &Signals, policy: &ScalingPolicy, replicas: u32) -> Vec<Judged> {
    let present = |value: Option<f64>| value.filter(|v| v.is_finite());
    let count = f64::from(replicas);
    let cpu = present(signals.cpu_percent).map(|cpu| Judged {
        said: format!("CPU is {cpu} %"),
        high: cpu >= policy.cpu_high,
        low: cpu <= policy.cpu_low,
        carried_by: Some(count * cpu / policy.cpu_high),
    });
    let p99 = present(signals.p99_ms).map(|p99| Judged {
        said: format!("p99 is {p99} ms"),
        high: p99 >= policy.p99_ms,
        low: p99 < policy.p99_ms / 2.0,
        carried_by: None,
    });
    let failures = present(signals.failure_rate).map(|rate| Judged {
        said: format!("the failure rate is {rate}"),
        high: rate >= policy.failure_rate,
        low: rate < policy.failure_rate / 2.0,
        carried_by: None,
    });
    let queue = signals.queue_depth.map(|depth| {
        // A fleet without replicas has nobody to share its backlog.
        let each = depth as f64 / count.max(1.0);
        Judged {
            said: format!("{depth} events wait"),
            high: each >= policy.queue_depth,
            low: each < policy.queue_depth / 2.0,
            carried_by: Some(depth as f64 / policy.queue_depth),
        }
    });
    [cpu, p99, failures, queue].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ScalingAction::{NoAction, ScaleDown, ScaleUp};

    fn signals(cpu: f64, p99: f64, failures: f64, queue: u64) -> Signals {
        Signals { cpu_percent: Some(cpu), p99_ms: Some(p99), failure_rate: Some(failures), queue_depth: Some(queue) }
    }

    fn verdict(signals: Signals, replicas: u32) -> (ScalingAction, u32) {
        let verdict = evaluate(&signals, &ScalingPolicy::default(), replicas, None);
        (verdict.action, verdict.desired_replicas)
    }

    #[test]
    fn each_signal_asks_for_more_from_its_threshold_on() {
        for (low, high) in [
            (signals(69.9, 100.0, 0.0, 0), signals(70.0, 100.0, 0.0, 0)),
            (signals(50.0, 499.9, 0.0, 0), signals(50.0, 500.0, 0.0, 0)),
            (signals(50.0, 100.0, 0.049, 0), signals(50.0, 100.0, 0.05, 0)),
            (signals(50.0, 100.0, 0.0, 99), signals(50.0, 100.0, 0.0, 100)),
        ] {
            assert_eq!(verdict(low, 2), (NoAction, 2), "{low:?}");
            assert_eq!(verdict(high, 2), (ScaleUp, 3), "{high:?}");
        }
    }

    #[test]
    fn work_says_how_many_carry_it_and_trouble_asks_for_one_more() {
        assert_eq!(verdict(signals(50.0, 100.0, 0.0, 1_000), 2), (ScaleUp, 20));
        assert_eq!(verdict(signals(50.0, 100.0, 0.0, 401), 2), (ScaleUp, 9));
        assert_eq!(verdict(signals(95.0, 100.0, 0.0, 0), 4), (ScaleUp, 6));
        assert_eq!(verdict(signals(50.0, 60_000.0, 1.0, 0), 4), (ScaleUp, 5));
        let nobody = Signals { queue_depth: Some(60), ..Signals::default() };
        assert_eq!(verdict(nobody, 0), (ScaleUp, 2));
    }

    #[test]
    fn fewer_are_enough_only_when_every_present_signal_is_low() {
        assert_eq!(verdict(signals(30.0, 249.9, 0.0249, 24), 10), (ScaleDown, 5));
        for busy in [
            signals(30.1, 100.0, 0.0, 0),
            signals(10.0, 250.0, 0.0, 0),
            signals(10.0, 100.0, 0.025, 0),
            signals(10.0, 100.0, 0.0, 250),
        ] {
            assert_eq!(verdict(busy, 10), (NoAction, 10), "{busy:?}");
        }
        assert_eq!(verdict(Signals { p99_ms: Some(3.0), ..Signals::default() }, 10), (ScaleDown, 9));
        assert_eq!(verdict(Signals::default(), 10), (NoAction, 10), "nothing is known");
        assert_eq!(verdict(signals(0.0, 0.0, 0.0, 0), 10), (ScaleDown, 1));
    }

    #[test]
    fn the_bounds_hold() {
        let (busy, quiet) = (signals(99.0, 900.0, 0.5, 1_000_000), signals(0.0, 0.0, 0.0, 0));
        assert_eq!(verdict(busy, 20), (NoAction, 20));
        assert_eq!(verdict(quiet, 1), (NoAction, 1));
        let of_four = |signals, replicas| {
            let verdict = evaluate(&signals, &ScalingPolicy::default(), replicas, Some(4));
            (verdict.action, verdict.desired_replicas)
        };
        assert_eq!(of_four(busy, 2), (ScaleUp, 4));
        assert_eq!(of_four(busy, 4), (NoAction, 4), "a fifth would have no partition");
        let not_a_number = Signals { cpu_percent: Some(f64::NAN), ..Signals::default() };
        assert_eq!(verdict(not_a_number, 3), (NoAction, 3));
    }

    proptest::proptest! {
        #[test]
        fn a_verdict_moves_in_its_direction_and_within_the_bounds(
            cpu in proptest::option::of(0.0..150.0f64), p99 in proptest::option::of(0.0..5_000.0f64),
            failures in proptest::option::of(0.0..1.0f64), queue in proptest::option::of(0..1_000_000u64),
            replicas in 0..40u32, min in 0..5u32, span in 1..30u32, partitions in proptest::option::of(1..64u32),
        ) {
            let signals = Signals { cpu_percent: cpu, p99_ms: p99, failure_rate: failures, queue_depth: queue };
            let policy = ScalingPolicy { min, max: min + span, ..ScalingPolicy::default() };
            let verdict = evaluate(&signals, &policy, replicas, partitions);
            let desired = verdict.desired_replicas;
            match verdict.action {
                ScaleUp => {
                    proptest::prop_assert!(desired > replicas && desired <= policy.max);
                    proptest::prop_assert!(desired <= partitions.unwrap_or(u32::MAX));
                }
                ScaleDown => proptest::prop_assert!(desired < replicas && desired >= policy.min),
                NoAction => proptest::prop_assert_eq!(desired, replicas),
            }
            proptest::prop_assert!(!verdict.reason.is_empty());
        }
    }
}
