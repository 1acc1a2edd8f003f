//! Seeded simulation: the real cores of worker and ingest on one thread, in paused time, over the
//! adapters in memory and decorators that lose, double, delay, forget, pause and kill. One seed is
//! one run; a failing seed is printed and replays exactly.
//!
//! `./tests/run.sh --test simulation` runs `SIM_SEEDS` seeds (default 2000) from `SIM_FIRST`
//! (default 0); `RISKFLEET_SIM_SEED=123 cargo test --test simulation seeds_hold` runs one seed and
//! prints every call.
//!
//! # Decisions
//! Every call that a process makes goes through [`process::Process::call`], the only place where its
//! fate is drawn, and stands in the trace with its answer and its virtual time. The hash of the trace
//! is how we know that nothing but the seed decides.

mod broker;
mod bugs;
mod checks;
mod clock;
mod dice;
mod disasters;
mod fleet;
mod leases;
mod model;
mod plan;
mod process;
mod producers;
mod run;
mod scenarios;
mod store;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bugs::Bug;
use run::{Verdict, run};

/// Seeds of one call, when nothing else is said: about 80 ms of CPU each in a debug build.
const SEEDS: u64 = 2_000;

/// From so many seeds on, everything of [`WORTH_SEEING`] must have happened somewhere.
const ENOUGH_SEEDS: u64 = 300;

/// What a simulation without it would prove nothing about.
const WORTH_SEEING: [&str; 19] = [
    "a commit was fenced",
    "a duplicate met the disposition's key",
    "a pack was forged",
    "a pack was redelivered",
    "a process died in a call",
    "a process was paused in a call",
    "a process was stopped",
    "a queue was deleted with packs in it",
    "a request was replayed",
    "a stale delivery was acknowledged",
    "an answer was lost",
    "an event below the mark was looked up",
    "an event brought its worker down",
    "an event was buried",
    "an event was postponed",
    "ids were off the store's clock",
    "outcomes were published from the outbox",
    "packs were published from the outbox",
    "packs were refilled",
];

/// Within so many seeds a planted bug must be found.
const BUG_SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

fn report(verdict: &Verdict) -> String {
    format!(
        "seed {} has failed:\n  {}\nthe end of its trace:\n  {}\nreplay it: RISKFLEET_SIM_SEED={} cargo test --test \
         simulation seeds_hold -- --nocapture\n",
        verdict.seed,
        verdict.violations.join("\n  "),
        verdict.tail.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n  "),
        verdict.seed,
    )
}

/// What came of many runs.
#[derive(Default)]
struct Search {
    /// The failed run with the smallest seed.
    failed: Option<Verdict>,
    /// In how many runs something worth happening has happened.
    seen: BTreeMap<&'static str, u64>,
    /// The longest recovery, and its seed.
    slowest: (Duration, u64),
}

impl Search {
    fn add(&mut self, verdict: Verdict) {
        for what in verdict.seen.keys() {
            *self.seen.entry(what).or_default() += 1;
        }
        self.slowest = self.slowest.max((verdict.settled, verdict.seed));
        if !verdict.violations.is_empty() && self.failed.as_ref().is_none_or(|f| f.seed > verdict.seed) {
            self.failed = Some(verdict);
        }
    }
}

/// Runs seeds on as many threads as there are cores, until one fails. Each thread has its own
/// runtimes; they share nothing but the next seed.
fn search(first: u64, seeds: u64, bug: Option<Bug>) -> Search {
    let (next, result) = (AtomicU64::new(first), Mutex::new(Search::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || result.lock().expect("no run panics").failed.is_some() {
                return;
            }
            let verdict = run(seed, bug, false);
            result.lock().expect("no run panics").add(verdict);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    result.into_inner().expect("no run panics")
}

#[test]
fn seeds_hold() {
    if let Some(seed) = number("RISKFLEET_SIM_SEED") {
        let verdict = run(seed, None, true);
        assert!(verdict.violations.is_empty(), "{}", report(&verdict));
        return;
    }
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let started = Instant::now();
    let found = search(first, seeds, None);
    if let Some(verdict) = found.failed {
        panic!("{}", report(&verdict));
    }
    let (slowest, seed) = found.slowest;
    eprintln!(
        "{seeds} seeds from {first} hold, in {:.1?}; the slowest recovery: {slowest:?}, seed {seed}",
        started.elapsed()
    );
    for (what, runs) in &found.seen {
        eprintln!("{runs:>6} runs: {what}");
    }
    let unseen: Vec<_> = WORTH_SEEING.iter().filter(|what| !found.seen.contains_key(**what)).collect();
    assert!(seeds < ENOUGH_SEEDS || unseen.is_empty(), "{seeds} seeds, and never: {unseen:?}");
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..30 {
        let (one, two) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(one.digest, two.digest, "seed {seed}\n{:#?}", difference(&one.tail, &two.tail));
    }
}

fn difference<'a>(one: &'a [String], two: &'a [String]) -> Option<(&'a String, &'a String)> {
    one.iter().zip(two).find(|(a, b)| a != b)
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let found = search(0, BUG_SEEDS, Some(bug));
        let verdict = found.failed.unwrap_or_else(|| panic!("{bug:?} is not found within {BUG_SEEDS} seeds"));
        eprintln!("{bug:?} is found by seed {}: {}", verdict.seed, verdict.violations[0]);
    }
}
