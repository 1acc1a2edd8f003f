//! Role: keeps as many workers running on this machine as the fleet needs.
//!
//! `crew` starts, drains and ends the processes; here is the loop that looks at the fleet, judges it
//! ([`crate::domain::scaling`]) and follows the verdict at a pace ([`crate::domain::pacer`]). Never
//! touches an event, and never ends a worker that it has not started.
//!
//! # Decisions
//! A worker is drained by closing its standard input, and ends the same way when the supervisor dies:
//! no worker is left behind that nobody looks after, and nothing has to be sent to a process that may
//! be another one by now.
//!
//! The supervisor reads the store alone: workers report there what they do. While it can't be read,
//! the crew stays as it is.

mod crew;

use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::pacer::{Pace, Pacer};
use crate::domain::scaling::{Judgement, Scaling, ScalingPolicy, judge};
use crate::ports::{Clock, EventStore, StoreError};

use crew::Crew;

/// How often it is looked whether a worker has ended.
const TURN: Duration = Duration::from_millis(200);

/// How a worker is started.
#[derive(Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// What it is told, besides its address and that it ends with its standard input.
    pub args: Vec<String>,
    /// Settings that it is given besides the environment of the supervisor: variable and value.
    pub settings: Vec<(String, String)>,
    /// How long a worker that drains is waited for before it is killed.
    pub drain_timeout: Duration,
    /// Where the workers' addresses are written for Prometheus (`file_sd_configs`).
    pub targets: Option<PathBuf>,
}

/// How many, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// When to have more, when fewer.
    pub policy: ScalingPolicy,
    /// How fast.
    pub pace: Pace,
    /// How often the fleet is looked at.
    pub every: Duration,
}

/// Something that the supervisor has done, or seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Deed {
    /// It follows a verdict.
    Scaled {
        /// Workers until now.
        from: u32,
        /// Workers from now on.
        to: u32,
        /// Why.
        reason: String,
    },
    /// A worker was started.
    Started {
        /// Its number, from 1.
        worker: u32,
        /// Its process.
        pid: u32,
        /// Where its health and metrics are.
        address: String,
    },
    /// A worker was asked to finish and end.
    Draining {
        /// Its number.
        worker: u32,
    },
    /// A worker that was asked to has ended.
    Ended {
        /// Its number.
        worker: u32,
    },
    /// A worker has ended by itself: another takes its place after a while.
    Died {
        /// Its number.
        worker: u32,
        /// How it ended.
        how: String,
        /// Seconds until the next is started.
        again_in_s: f64,
    },
    /// A worker did not drain in time, and was killed: others take its partitions over.
    Killed {
        /// Its number.
        worker: u32,
    },
    /// Something failed; it is tried again.
    Failed {
        /// What and why; completes "failed to …".
        error: String,
    },
}

/// Where deeds are told.
pub type Tell<'a> = &'a mut (dyn FnMut(&Deed) + Send);

/// Keeps a crew of workers as large as the fleet needs.
pub struct Supervisor {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    rules: Rules,
    pacer: Pacer,
    crew: Crew,
}

impl Supervisor {
    /// One without workers.
    pub fn new(store: Arc<dyn EventStore>, clock: Arc<dyn Clock>, launch: Launch, rules: Rules) -> Self {
        Self { store, clock, rules, pacer: Pacer::new(rules.pace), crew: Crew::new(launch) }
    }

    /// Runs until stopped; then drains every worker, and ends when the last has.
    pub async fn run(mut self, tell: Tell<'_>, stop: CancellationToken) {
        self.crew.aim(self.rules.policy.min);
        let mut looked: Option<Duration> = None;
        while !stop.is_cancelled() {
            let now = self.clock.elapsed();
            self.crew.turn(now, tell);
            if looked.is_none_or(|at| now.saturating_sub(at) >= self.rules.every) {
                looked = Some(now);
                self.look(now, tell).await;
            }
            stop.run_until_cancelled(tokio::time::sleep(TURN)).await;
        }
        self.crew.aim(0);
        while !self.crew.is_empty() {
            self.crew.turn(self.clock.elapsed(), tell);
            tokio::time::sleep(TURN).await;
        }
    }

    async fn look(&mut self, now: Duration, tell: Tell<'_>) {
        match self.judgement().await {
            Ok(judgement) => self.follow(judgement, now, tell),
            Err(e) => tell(&Deed::Failed { error: format!("look at the fleet: {e}") }),
        }
    }

    /// By the workers that it wants to run: those that are still starting have not reported.
    async fn judgement(&self) -> Result<Judgement, StoreError> {
        let (fleet, waits) = (self.store.fleet_status().await?, self.store.backlog().await?);
        let now = self.store.now().await?;
        // A fleet has far fewer partitions than that.
        let partitions = u32::try_from(fleet.partitions.len()).unwrap_or(u32::MAX);
        Ok(judge(fleet.signals(&waits, now), &self.rules.policy, self.crew.aimed(), partitions))
    }

    fn follow(&mut self, judgement: Judgement, now: Duration, tell: Tell<'_>) {
        let Judgement { desired_replicas, replicas, action, reason, .. } = judgement;
        let next = self.pacer.follow(&Scaling { action, reason: String::new(), desired_replicas }, replicas, now);
        if next != replicas {
            tell(&Deed::Scaled { from: replicas, to: next, reason });
            self.crew.aim(next);
        }
    }
}
