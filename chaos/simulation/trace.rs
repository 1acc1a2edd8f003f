//! Owns what happened in a run: a hash over every call, which shows that a seed repeats itself, and
//! the last lines, for whoever has to understand a failure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that are kept.
const TAIL: usize = 400;
/// Characters of a line that are shown; all of it counts for the hash.
const SHOWN: usize = 260;

struct State {
    // Its keys are constants: the same lines give the same hash.
    hash: DefaultHasher,
    lines: u64,
    tail: VecDeque<String>,
}

/// The trace of one run.
pub(crate) struct Trace {
    aloud: bool,
    state: Mutex<State>,
}

impl Trace {
    /// A trace that also prints every line when it is `aloud`.
    pub(crate) fn new(aloud: bool) -> Self {
        let state = State { hash: DefaultHasher::new(), lines: 0, tail: VecDeque::with_capacity(TAIL) };
        Self { aloud, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one line.
    pub(crate) fn note(&self, at: Duration, who: &str, what: &str) {
        let mut line = format!("{:>9.3} {who:<8} {what}", at.as_secs_f64());
        let mut state = self.state();
        state.hash.write(line.as_bytes());
        state.lines += 1;
        if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
            line.truncate(cut);
        }
        if self.aloud {
            eprintln!("{line}");
        }
        if state.tail.len() == TAIL {
            state.tail.pop_front();
        }
        state.tail.push_back(line);
    }

    /// The hash of everything so far, and how many lines it is of.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash.finish(), state.lines)
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.state().tail.iter().cloned().collect()
    }
}
