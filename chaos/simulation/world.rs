//! Owns a run: the servers as they really are, the dice, and what happened. Decides the fate of
//! every call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riskfleet::adapters::master::LocalMaster;
use riskfleet::adapters::memory::broker::{MemoryBroker, MemoryLimits};
use riskfleet::adapters::memory::context::{ContextLimits, MemoryContext};
use riskfleet::adapters::memory::leases::MemoryLeases;
use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::crypto::Keyring;
use riskfleet::domain::{EventId, Scope};
use riskfleet::ports::broker::Route;
use riskfleet::ports::leases::LeaseTtls;
use riskfleet::ports::{Clock, Entropy, EventStore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bugs::Bug;
use crate::clock::SimClock;
use crate::dice::{PortRates, Rates, Rng, SimEntropy};
use crate::model::Model;
use crate::plan::Poison;
use crate::trace::Trace;

/// Partitions of a simulated fleet.
pub(crate) const PARTITIONS: u16 = 4;

/// A server that processes talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Store,
    Broker,
    Leases,
    Context,
}

impl Port {
    pub(crate) const ALL: [Self; 4] = [Self::Store, Self::Broker, Self::Leases, Self::Context];
}

/// What will become of a call.
pub(crate) struct Fate {
    /// Before the server has it.
    pub(crate) there: Duration,
    /// Before the caller has the answer.
    pub(crate) back: Duration,
    pub(crate) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    /// It never arrives.
    NotDone,
    /// The answer never arrives.
    Unknown,
}

/// One run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) start: Instant,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) rates: Rates,
    pub(crate) bug: Option<Bug>,
    pub(crate) store: MemoryStore,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) broker: Arc<MemoryBroker>,
    pub(crate) leases: MemoryLeases,
    pub(crate) context: MemoryContext,
    pub(crate) trace: Trace,
    dice: Mutex<Rng>,
    quiet: AtomicBool,
    last_death: Mutex<Instant>,
    away: Mutex<[Option<Instant>; Port::ALL.len()]>,
    deleted: Mutex<BTreeSet<Route>>,
    subscriptions: Mutex<BTreeMap<Route, Vec<CancellationToken>>>,
    model: Mutex<Model>,
}

/// A keyring of one process.
pub(crate) fn keyring(store: &MemoryStore, sources: (Arc<dyn Clock>, Arc<dyn Entropy>)) -> Arc<Keyring> {
    let master = Arc::new(LocalMaster::new(&[7; 32], None));
    Arc::new(Keyring::new(Arc::new(store.clone()), master, sources, 1_000))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Must be made inside the run's runtime: its time begins now.
    pub(crate) fn new(seed: u64, rates: Rates, bug: Option<Bug>, aloud: bool) -> Arc<Self> {
        let start = Instant::now();
        let clock = Arc::new(SimClock::new(start, 0));
        let server: Arc<dyn Clock> = clock.clone();
        let store = MemoryStore::new(PARTITIONS, [5; 32], Arc::clone(&server));
        let entropy = Arc::new(SimEntropy::new(Rng::new(seed, "world keys")));
        let keyring = keyring(&store, (Arc::clone(&server), entropy));
        Arc::new(Self {
            seed,
            start,
            clock,
            rates,
            bug,
            store,
            keyring,
            broker: Arc::new(MemoryBroker::new(MemoryLimits::default())),
            leases: MemoryLeases::new(LeaseTtls::default(), server),
            context: MemoryContext::new(ContextLimits::default()),
            trace: Trace::new(aloud),
            dice: Mutex::new(Rng::new(seed, "dice")),
            quiet: AtomicBool::new(false),
            last_death: Mutex::new(start),
            away: Mutex::default(),
            deleted: Mutex::default(),
            subscriptions: Mutex::default(),
            model: Mutex::default(),
        })
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, Rng> {
        lock(&self.dice)
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// Queues that were deleted and not yet subscribed to again.
    pub(crate) fn deleted(&self) -> MutexGuard<'_, BTreeSet<Route>> {
        lock(&self.deleted)
    }

    /// Remembers what ends a subscription, and gives it back.
    pub(crate) fn subscribed(&self, route: Route, alive: CancellationToken) -> CancellationToken {
        let mut all = lock(&self.subscriptions);
        let own = all.entry(route).or_default();
        own.retain(|token| !token.is_cancelled());
        own.push(alive.clone());
        alive
    }

    /// Ends every subscription of a queue.
    pub(crate) fn end_subscriptions(&self, route: Route) {
        let tokens = lock(&self.subscriptions).remove(&route).unwrap_or_default();
        tokens.iter().for_each(CancellationToken::cancel);
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn note(&self, who: &str, what: &str) {
        self.trace.note(self.clock.elapsed(), who, what);
    }

    pub(crate) fn saw(&self, what: &'static str) {
        self.model().saw(what);
    }

    pub(crate) fn violated(&self, what: String) {
        self.note("!!!", &what);
        self.model().violated(what);
    }

    /// No fault happens from now on; what is under way goes on.
    pub(crate) fn be_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
        *lock(&self.away) = [None; Port::ALL.len()];
        self.note("world", "no more faults");
    }

    /// A process has died just now.
    pub(crate) fn mourn(&self) {
        *lock(&self.last_death) = Instant::now();
    }

    /// When the newest of the dead processes died; the start while none has.
    pub(crate) fn last_death(&self) -> Instant {
        *lock(&self.last_death)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// A server is out of reach for a while.
    pub(crate) fn cut_off(&self, port: Port, duration: Duration) {
        self.note("world", &format!("{port:?} is away for {duration:?}"));
        lock(&self.away)[port as usize] = Some(Instant::now() + duration);
    }

    /// Whether a fault of this rate happens now.
    pub(crate) fn strikes(&self, rate: f64) -> bool {
        // Nothing is drawn for what can't happen; a run's rates are fixed, so it repeats all the same.
        rate > 0.0 && !self.is_quiet() && self.dice().chance(rate)
    }

    /// A moment on the wire: often none, so that much happens within one millisecond.
    pub(crate) fn wire(&self) -> Duration {
        let mut dice = self.dice();
        if dice.chance(0.5) { Duration::ZERO } else { dice.millis(1, 4) }
    }

    pub(crate) fn fate(&self, port: Port) -> Fate {
        let rates: &PortRates = match port {
            Port::Store => &self.rates.store,
            Port::Broker => &self.rates.broker,
            Port::Leases => &self.rates.leases,
            Port::Context => &self.rates.context,
        };
        let (mut there, mut back) = (self.wire(), self.wire());
        if self.strikes(rates.slow) {
            let mut dice = self.dice();
            let longest = if dice.chance(0.1) { 15_000 } else { 1_500 };
            let wait = dice.millis(20, longest);
            *if dice.chance(0.5) { &mut there } else { &mut back } += wait;
        }
        let away = lock(&self.away)[port as usize].is_some_and(|until| Instant::now() < until);
        let end = if away || self.strikes(rates.before) {
            End::NotDone
        } else if self.strikes(rates.after) {
            End::Unknown
        } else {
            End::Well
        };
        Fate { there, back, end }
    }

    /// Whether each of the events has its end in the store, so that nothing is lost with the message
    /// that carried them.
    pub(crate) async fn check_accounted(&self, message: &str, events: &[EventId]) {
        for event in self.store.pending_of(events).await.unwrap_or_default() {
            let retry = self.store.event(&Scope::Fleet, event.id).await.ok().flatten().and_then(|record| record.retry);
            // From then on the store owns it.
            if retry.is_none_or(|retry| retry.due_at.is_none()) {
                self.violated(format!("{message} was acknowledged, and {} is undecided", event.id));
            }
        }
    }

    /// What is wrong with an event.
    pub(crate) async fn poison(&self, event: EventId) -> Option<Poison> {
        let stored = self.store.events(&[event]).await.ok()?;
        Poison::of(&self.keyring.reveal_events(stored).await.ok()?.pop()?.body)
    }
}

/// What a call was asked, or answered, in one line.
pub(crate) fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

pub(crate) async fn pass_time(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}
