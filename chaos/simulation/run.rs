//! Owns a run from its seed to its verdict.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::bugs::Bug;
use crate::dice::{Rates, Rng};
use crate::fleet::Fleet;
use crate::plan::Plan;
use crate::world::World;
use crate::{checks, disasters, producers};

/// How long after the last fault everything must be decided and published: the longest chain of
/// waits is a pause, a lease that runs out, the settling of its successor, and two looks for what
/// was lost.
const QUIET: Duration = Duration::from_secs(180);

/// How long after the last fault or death every partition has an owner that works.
const OWNED: Duration = Duration::from_secs(40);

/// How long a fleet that is well takes for a decision.
const WELL: Duration = Duration::from_secs(3);

/// How long a process may take to stop when nothing fails.
const STOP: Duration = Duration::from_secs(30);

/// What came of a run.
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    /// Hash and number of the lines of its trace: the same for the same seed.
    pub(crate) digest: (u64, u64),
    /// Nothing, if all is well.
    pub(crate) violations: Vec<String>,
    pub(crate) tail: Vec<String>,
    /// How often something worth happening has happened.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    /// From the last fault and answer until everything was decided and published.
    pub(crate) settled: Duration,
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A panic in any task of a run is a violation: tokio alone would swallow it.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

/// Runs a seed in a runtime of its own, on this thread.
pub(crate) fn run(seed: u64, bug: Option<Bug>, aloud: bool) -> Verdict {
    catch_panics();
    PANICS.take();
    let runtime = paused_runtime();
    let (world, settled) = runtime.block_on(async {
        let world = World::new(seed, Rates::draw(&mut Rng::new(seed, "rates")), bug, aloud);
        let plan = Plan::draw(&mut Rng::new(seed, "plan"));
        let settled = live(&Fleet::start(&world, plan)).await;
        (world, settled)
    });
    let mut violations = std::mem::take(&mut world.model().violations);
    violations.extend(PANICS.take());
    let seen = std::mem::take(&mut world.model().seen);
    Verdict { seed, digest: world.trace.digest(), violations, tail: world.trace.tail(), seen, settled }
}

/// A runtime of one thread whose time stands still while anything can be done.
pub(crate) fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and sockets")
}

/// From the first boot to the last check; gives how long the recovery took.
pub(crate) async fn live(fleet: &Arc<Fleet>) -> Duration {
    let world = &fleet.world;
    let producers: Vec<_> =
        (0..fleet.plan.producers.len()).map(|n| tokio::spawn(producers::run(Arc::clone(fleet), n))).collect();
    disasters::storm(Arc::clone(fleet)).await;
    world.be_quiet();
    let until = Instant::now() + QUIET;
    for producer in producers {
        if tokio::time::timeout_at(until, producer).await.is_err() {
            world.violated("a producer still has no answer".into());
        }
    }
    let sent = Instant::now();
    while !checks::is_settled(world).await && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let settled = sent.elapsed();
    world.note("world", &format!("settled {settled:?} after the last request"));
    // What is owned is not always settled yet when everything is decided. Some events bring workers
    // down after the storm, too.
    let last_fault = world.last_death().max(until - QUIET);
    tokio::time::sleep_until(last_fault + OWNED).await;
    producers::epilogue(Arc::clone(fleet), WELL).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.stop(STOP).await;
    checks::run(world).await;
    settled
}
