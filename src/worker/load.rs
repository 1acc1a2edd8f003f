//! Owns the knowledge of what this worker has done of late: counts by second slots, and the use of
//! the processor between two looks. Time is given; nothing grows.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::WorkerLoad;
use crate::domain::load::WINDOW_S;
use crate::pipeline::state::Stage;
use crate::ports::Cpu;

/// Seconds that are counted together.
const SLOT_S: u64 = 2;

/// Slots that are kept.
const SLOTS: u64 = WINDOW_S as u64 / SLOT_S;

/// What was counted within one slot.
#[derive(Debug, Clone, Default)]
struct Slot {
    number: u64,
    load: WorkerLoad,
    /// Microseconds in each stage, of all decisions together.
    stages: [u64; Stage::ALL.len()],
}

#[derive(Debug, Default)]
struct State {
    slots: VecDeque<Slot>,
    /// The processor's use at a moment, oldest first.
    cpu: VecDeque<(Duration, Cpu)>,
}

/// Counts what a worker does.
#[derive(Debug, Default)]
pub struct LoadMeter(Mutex<State>);

impl LoadMeter {
    // A panic while the lock is held leaves counts that are a little off.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts committed decisions: how long each took from its accept, in milliseconds, and what its
    /// stages took, in microseconds.
    pub(super) fn decided<'a>(&self, now: Duration, decisions: impl Iterator<Item = (u64, &'a [u32])>) {
        let mut state = self.state();
        let slot = state.slot(now);
        for (millis, micros) in decisions {
            slot.load.took(millis);
            for (sum, micros) in slot.stages.iter_mut().zip(micros) {
                *sum += u64::from(*micros);
            }
        }
    }

    /// Counts failures.
    pub(super) fn failed(&self, now: Duration, events: u64) {
        self.state().slot(now).load.failed += events;
    }

    /// What was done within the last [`WINDOW_S`] seconds, with the processor's use since the oldest
    /// look in them.
    pub(super) fn report(&self, now: Duration, cpu: Option<Cpu>) -> WorkerLoad {
        let mut state = self.state();
        state.forget(now);
        let mut load = WorkerLoad::default();
        state.slots.iter().for_each(|slot| load.add(&slot.load));
        load.cpu_permille = cpu.and_then(|cpu| state.used(now, cpu));
        load
    }

    /// Mean microseconds of each stage within the last [`WINDOW_S`] seconds; none where nothing was
    /// decided.
    pub fn stage_micros(&self, now: Duration) -> Option<[f64; Stage::ALL.len()]> {
        let mut state = self.state();
        state.forget(now);
        let (mut sums, mut decided) = ([0_u64; Stage::ALL.len()], 0_u64);
        for slot in &state.slots {
            decided += slot.load.decided;
            for (sum, micros) in sums.iter_mut().zip(slot.stages) {
                *sum += micros;
            }
        }
        (decided > 0).then(|| sums.map(|sum| sum as f64 / decided as f64))
    }
}

impl State {
    fn slot(&mut self, now: Duration) -> &mut Slot {
        let number = now.as_secs() / SLOT_S;
        if self.slots.back().is_none_or(|last| last.number < number) {
            self.forget(now);
            self.slots.push_back(Slot { number, ..Slot::default() });
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    fn forget(&mut self, now: Duration) {
        let newest = now.as_secs() / SLOT_S;
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS <= newest) {
            self.slots.pop_front();
        }
        let since = now.saturating_sub(Duration::from_secs(WINDOW_S.into()));
        while self.cpu.len() > 1 && self.cpu[1].0 <= since {
            self.cpu.pop_front();
        }
    }

    fn used(&mut self, now: Duration, cpu: Cpu) -> Option<u32> {
        let oldest = self.cpu.front().copied();
        if self.cpu.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= Duration::from_secs(1)) {
            self.cpu.push_back((now, cpu));
        }
        let (at, before) = oldest?;
        let passed = now.checked_sub(at).filter(|passed| !passed.is_zero())?;
        let share = cpu.used.saturating_sub(before.used).as_secs_f64() / passed.as_secs_f64() / f64::from(cpu.cores);
        // What lies a little above the whole is the ticks' doing.
        Some((share.clamp(0.0, 1.0) * 1_000.0).round() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn what_was_done_before_the_window_is_forgotten() {
        let meter = LoadMeter::default();
        meter.decided(S(1), [(7, &[10, 20, 30, 40, 50, 60][..]), (9, &[30, 20, 30, 40, 50, 60])].into_iter());
        meter.failed(S(20), 3);
        let report = meter.report(S(29), None);
        assert_eq!((report.decided, report.failed, report.cpu_permille), (2, 3, None));
        assert_eq!(meter.stage_micros(S(29)).expect("decided")[..2], [20.0, 20.0]);
        let later = meter.report(S(31), None);
        assert_eq!((later.decided, later.failed), (0, 3));
        assert_eq!(meter.stage_micros(S(31)), None);
        for second in 0..100_000 {
            meter.failed(S(second), 1);
        }
        assert!(meter.state().slots.len() as u64 <= SLOTS);
    }

    #[test]
    fn the_processor_is_measured_over_the_window() {
        let meter = LoadMeter::default();
        let cpu = |used| Some(Cpu { used: Duration::from_millis(used), cores: 2 });
        assert_eq!(meter.report(S(0), cpu(0)).cpu_permille, None, "nothing to compare with");
        assert_eq!(meter.report(S(10), cpu(10_000)).cpu_permille, Some(500));
        for second in 11..200 {
            meter.report(S(second), cpu(10_000));
        }
        assert_eq!(meter.report(S(200), cpu(10_000)).cpu_permille, Some(0));
        assert!(meter.state().cpu.len() <= WINDOW_S as usize + 2, "{}", meter.state().cpu.len());
        assert_eq!(meter.report(S(201), cpu(99_000)).cpu_permille, Some(1_000), "never more than all of it");
    }
}
