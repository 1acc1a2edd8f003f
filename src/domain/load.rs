//! Owns what a worker says of its own load, and what the fleet's is out of that. Pure.
//!
//! # Decisions
//! Workers report counts, not percentiles: those of a fleet can't be had out of its workers'. The
//! store carries the report, which it does for the view of the fleet anyway, so that whoever decides
//! how many workers there should be needs nothing but the store.

use serde::{Deserialize, Serialize};

use super::scaling::Signals;

/// How far back a report looks, in seconds.
pub const WINDOW_S: u32 = 30;

/// Upper bounds of the latencies that are counted together, in milliseconds; longer ones are counted
/// behind the last.
pub const LATENCY_MS: [u32; 18] =
    [1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 350, 500, 750, 1_000, 2_000, 5_000, 10_000, 60_000];

/// What a worker has done within the last [`WINDOW_S`] seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// Use of the cores that it may use, in tenths of a per cent; absent where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_permille: Option<u32>,
    /// Decisions that it has committed.
    pub decided: u64,
    /// Events that failed in its hands, whether they are tried again or not.
    pub failed: u64,
    /// From accept to committed decision: counts by [`LATENCY_MS`], and behind them.
    pub latency: Vec<u64>,
}

impl WorkerLoad {
    /// Counts one decision that took so long.
    pub fn took(&mut self, millis: u64) {
        self.latency.resize(LATENCY_MS.len() + 1, 0);
        let bucket = LATENCY_MS.partition_point(|bound| u64::from(*bound) < millis);
        self.latency[bucket] += 1;
        self.decided += 1;
    }

    /// Adds another's counts. The use of CPU is nobody's sum, and stays.
    pub fn add(&mut self, other: &Self) {
        self.decided += other.decided;
        self.failed += other.failed;
        if self.latency.len() < other.latency.len() {
            self.latency.resize(other.latency.len(), 0);
        }
        for (sum, more) in self.latency.iter_mut().zip(&other.latency) {
            *sum += more;
        }
    }

    /// The latency that 99 of 100 decisions do not exceed, in milliseconds, interpolated within its
    /// bucket as Prometheus' `histogram_quantile` does; none where nothing was decided.
    pub fn p99_ms(&self) -> Option<f64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = total as f64 * 0.99;
        let (mut below, mut lower) = (0_u64, 0.0);
        for (count, bound) in self.latency.iter().zip(LATENCY_MS) {
            let upper = f64::from(bound);
            if (below + count) as f64 >= rank {
                return Some(lower + (upper - lower) * (rank - below as f64) / (*count).max(1) as f64);
            }
            (below, lower) = (below + count, upper);
        }
        Some(lower)
    }
}

/// What the loads of a fleet's workers say together, beside the events that wait.
pub fn signals<'a>(loads: impl Iterator<Item = &'a WorkerLoad>, queue_depth: Option<u64>) -> Signals {
    let (mut all, mut cpu, mut said) = (WorkerLoad::default(), 0.0, 0.0);
    for load in loads {
        all.add(load);
        if let Some(permille) = load.cpu_permille {
            cpu += f64::from(permille) / 10.0;
            said += 1.0;
        }
    }
    let begun = all.decided + all.failed;
    Signals {
        cpu_percent: (said > 0.0).then(|| tenths(cpu / said)),
        p99_ms: all.p99_ms().map(tenths),
        failure_rate: (begun > 0).then(|| (all.failed as f64 / begun as f64 * 10_000.0).round() / 10_000.0),
        queue_depth,
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(latencies: &[u64]) -> WorkerLoad {
        let mut load = WorkerLoad::default();
        latencies.iter().for_each(|ms| load.took(*ms));
        load
    }

    #[test]
    fn the_p99_lies_in_its_bucket() {
        assert_eq!(load(&[]).p99_ms(), None);
        assert_eq!(load(&[1; 100]).p99_ms(), Some(0.99));
        let mut slow = load(&[5; 98]);
        slow.add(&load(&[400, 400]));
        let p99 = slow.p99_ms().expect("decisions");
        assert!((350.0..=500.0).contains(&p99), "{p99}");
        assert_eq!(load(&[1_000_000]).p99_ms(), Some(60_000.0), "longer than what is told apart");
    }

    #[test]
    fn a_fleet_is_judged_by_all_of_its_workers() {
        let busy = WorkerLoad { cpu_permille: Some(900), failed: 10, ..load(&[10; 90]) };
        let idle = WorkerLoad { cpu_permille: Some(101), ..WorkerLoad::default() };
        let silent = WorkerLoad::default();
        let said = signals([&busy, &idle, &silent].into_iter(), Some(7));
        assert_eq!((said.cpu_percent, said.failure_rate, said.queue_depth), (Some(50.1), Some(0.1), Some(7)));
        assert_eq!(said.p99_ms, Some(10.0));
        assert_eq!(signals([&silent].into_iter(), None), Signals::default(), "nothing is known");
    }

    #[test]
    fn a_report_of_another_version_is_read() {
        let old: WorkerLoad =
            serde_json::from_str(r#"{"decided":1,"failed":0,"latency":[1],"new":true}"#).expect("reads");
        assert_eq!(old.p99_ms(), Some(0.99));
    }

    proptest::proptest! {
        #[test]
        fn adding_loads_is_counting_together(a in proptest::collection::vec(0..100_000u64, 0..50),
                                             b in proptest::collection::vec(0..100_000u64, 0..50)) {
            let mut sum = load(&a);
            sum.add(&load(&b));
            let together: Vec<u64> = a.iter().chain(&b).copied().collect();
            proptest::prop_assert_eq!(sum.p99_ms(), load(&together).p99_ms());
            proptest::prop_assert_eq!(sum.decided, together.len() as u64);
        }
    }
}
