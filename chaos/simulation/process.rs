//! Owns a process as the servers see it: it can be paused, go on, and die. Every call that it makes
//! goes through here.
//!
//! # Decisions
//! A dead process is one whose calls never return and whose connections are cut. Its tasks are
//! still there, but nothing that they do can be seen: what is seen of a process is its calls.

use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::dice::{Rng, SimEntropy};
use crate::world::{End, Port, World, pass_time, shown};

/// After so long without a heart beat the broker closes a connection.
const HEARTBEATS: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Dead,
}

/// A process of the fleet.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) entropy: Arc<SimEntropy>,
    state: Mutex<State>,
    changed: Notify,
    connection: Mutex<CancellationToken>,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, name: &str, off_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            world: Arc::clone(world),
            clock: Arc::new(SimClock::new(world.start, off_ms)),
            entropy: Arc::new(SimEntropy::new(Rng::new(world.seed, name))),
            state: Mutex::new(State::Running),
            changed: Notify::new(),
            connection: Mutex::default(),
        })
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut own = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *own == State::Dead {
            return;
        }
        *own = state;
        drop(own);
        self.note(&format!("is {state:?}"));
        self.changed.notify_waiters();
    }

    /// Does not run for a while; a long pause costs it its connection.
    pub(crate) fn pause_for(self: &Arc<Self>, duration: Duration) {
        self.set(State::Paused);
        let own = Arc::clone(self);
        tokio::spawn(async move {
            pass_time(duration.min(HEARTBEATS)).await;
            if duration > HEARTBEATS {
                own.cut();
                pass_time(duration - HEARTBEATS).await;
            }
            own.set(State::Running);
        });
    }

    /// Dies at once: nothing that it would have done next is done.
    pub(crate) fn kill(&self) {
        self.set(State::Dead);
        self.world.mourn();
        self.cut();
    }

    /// What it consumes over ends with this.
    pub(crate) fn connection(&self) -> CancellationToken {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts its connection to the broker: what was delivered and not acknowledged goes back.
    pub(crate) fn cut(&self) {
        let mut own = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *own).cancel();
    }

    pub(crate) fn note(&self, what: &str) {
        self.world.note(&self.name, what);
    }

    /// Waits until it is dead.
    pub(crate) async fn death(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state() == State::Dead {
                return;
            }
            changed.await;
        }
    }

    /// Dies or freezes here, if the dice say so: between two steps, where it matters most.
    async fn risk(self: &Arc<Self>) {
        let rates = &self.world.rates;
        if self.world.strikes(rates.killed) {
            self.world.saw("a process died in a call");
            self.kill();
        } else if self.world.strikes(rates.frozen) {
            self.world.saw("a process was paused in a call");
            let wait = self.world.dice().millis(100, 25_000);
            self.pause_for(wait);
        }
        self.alive().await;
    }

    /// Waits while it is paused, and for ever once it is dead.
    pub(crate) async fn alive(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state() == State::Running {
                return;
            }
            changed.await;
        }
    }

    /// One call of a server: on its way there, done or not, and on its way back.
    pub(crate) async fn call<T, E>(
        self: &Arc<Self>,
        port: Port,
        asked: String,
        does: impl Future<Output = Result<T, E>> + Send,
        away: impl Fn(String) -> E + Send,
        show: impl Fn(&T) -> String + Send,
    ) -> Result<T, E>
    where
        T: Send,
        E: Display + Send,
    {
        self.alive().await;
        let fate = self.world.fate(port);
        pass_time(fate.there).await;
        if fate.end == End::NotDone {
            self.note(&format!("{asked} => NOT DONE"));
            pass_time(fate.back).await;
            self.alive().await;
            return Err(away("the request is lost".into()));
        }
        let result = does.await;
        let lost = if fate.end == End::Unknown { " (ANSWER LOST)" } else { "" };
        match &result {
            Ok(value) => self.note(&format!("{asked} => {}{lost}", show(value))),
            Err(e) => self.note(&format!("{asked} => failed to {e}{lost}")),
        }
        pass_time(fate.back).await;
        self.risk().await;
        if fate.end == End::Unknown {
            self.world.saw("an answer was lost");
            return Err(away("the answer is lost".into()));
        }
        result
    }

    /// A call whose answer shows itself.
    pub(crate) async fn ask<T, E>(
        self: &Arc<Self>,
        port: Port,
        asked: String,
        does: impl Future<Output = Result<T, E>> + Send,
        away: impl Fn(String) -> E + Send,
    ) -> Result<T, E>
    where
        T: Debug + Send,
        E: Display + Send,
    {
        self.call(port, asked, does, away, shown).await
    }

    /// Waits as long as a message is on the wire, and while the process does not run.
    pub(crate) async fn wire(self: &Arc<Self>) {
        pass_time(self.world.wire()).await;
        self.risk().await;
    }

    /// Waits some milliseconds that the dice give.
    pub(crate) async fn linger(&self, from: u64, to: u64) {
        let wait: Duration = self.world.dice().millis(from, to);
        pass_time(wait).await;
    }
}
