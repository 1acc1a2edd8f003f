//! Owns what `fleet autoscale` takes.

use clap::Args;
use std::path::PathBuf;

use crate::domain::pacer::Pace;
use crate::domain::scaling::{ScalingPolicy, Signals};

/// `fleet autoscale`.
#[derive(Debug, Clone, Args)]
pub struct Autoscale {
    /// Judge the signals that are given, or, with none and without --replicas, the fleet as it is
    #[arg(long, required_unless_present = "apply")]
    pub evaluate: bool,
    /// Keep as many workers running on this machine as the fleet needs, until stopped
    #[arg(long, conflicts_with_all = ["evaluate", "cpu", "p99_ms", "failure_rate", "queue_depth", "replicas", "partitions"])]
    pub apply: bool,
    /// What to judge.
    #[command(flatten)]
    pub given: GivenSignals,
    /// By what.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to keep workers running.
    #[command(flatten)]
    pub crew: CrewArgs,
    /// One JSON document instead of text; with --apply one a line
    #[arg(long)]
    pub json: bool,
}

/// Signals, and what they are about. A signal that is not given speaks neither for nor against.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "With --evaluate")]
pub struct GivenSignals {
    /// Mean use of the replicas' CPU, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = at_least_zero, requires = "replicas")]
    pub cpu: Option<f64>,
    /// 99th percentile from accept to decision, in milliseconds
    #[arg(long, value_name = "MS", value_parser = at_least_zero, requires = "replicas")]
    pub p99_ms: Option<f64>,
    /// Failed of all begun events, 0 to 1
    #[arg(long, value_name = "RATE", value_parser = at_least_zero, requires = "replicas")]
    pub failure_rate: Option<f64>,
    /// Events that wait, over the whole fleet
    #[arg(long, value_name = "N", requires = "replicas")]
    pub queue_depth: Option<u64>,
    /// Workers that there are
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// The fleet's partitions, if there should not be more workers than those
    #[arg(long, value_name = "N", requires = "replicas")]
    pub partitions: Option<u32>,
}

impl GivenSignals {
    /// What they say.
    pub fn signals(&self) -> Signals {
        Signals {
            cpu_percent: self.cpu,
            p99_ms: self.p99_ms,
            failure_rate: self.failure_rate,
            queue_depth: self.queue_depth,
        }
    }
}

/// When to have more, and when fewer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// At least so many workers
    #[arg(long, value_name = "N", default_value_t = ScalingPolicy::default().min)]
    pub min: u32,
    /// At most so many workers
    #[arg(long, value_name = "N", default_value_t = ScalingPolicy::default().max)]
    pub max: u32,
    /// More from this use of the CPU on
    #[arg(long, value_name = "PERCENT", value_parser = above_zero, default_value_t = ScalingPolicy::default().cpu_high)]
    pub cpu_high: f64,
    /// Fewer up to this use of the CPU
    #[arg(long, value_name = "PERCENT", value_parser = at_least_zero, default_value_t = ScalingPolicy::default().cpu_low)]
    pub cpu_low: f64,
    /// More from this 99th percentile on, in milliseconds; fewer under half of it
    #[arg(long, value_name = "MS", value_parser = above_zero, default_value_t = ScalingPolicy::default().p99_ms)]
    pub p99_high: f64,
    /// More from this failure rate on; fewer under half of it
    #[arg(long, value_name = "RATE", value_parser = above_zero, default_value_t = ScalingPolicy::default().failure_rate)]
    pub failures_high: f64,
    /// More from so many waiting events a worker on; fewer under half of it
    #[arg(long, value_name = "N", value_parser = above_zero, default_value_t = ScalingPolicy::default().queue_depth)]
    pub queue_high: f64,
}

impl PolicyArgs {
    /// The policy; none when there would have to be more workers than there may be.
    pub fn policy(&self) -> Option<ScalingPolicy> {
        (self.min <= self.max).then_some(ScalingPolicy {
            min: self.min,
            max: self.max,
            cpu_high: self.cpu_high,
            cpu_low: self.cpu_low,
            p99_ms: self.p99_high,
            failure_rate: self.failures_high,
            queue_depth: self.queue_high,
        })
    }
}

/// How workers are kept running.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "With --apply")]
pub struct CrewArgs {
    /// Look at the fleet every so many seconds
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub every: u64,
    /// Add workers only so many seconds after the last change
    #[arg(long, value_name = "S", default_value_t = Pace::default().up_after.as_secs())]
    pub up_after: u64,
    /// Take workers away only when fewer have been enough for so many seconds
    #[arg(long, value_name = "S", default_value_t = Pace::default().down_after.as_secs())]
    pub down_after: u64,
    /// At most so many more at once
    #[arg(long, value_name = "N", default_value_t = Pace::default().up_step, value_parser = clap::value_parser!(u32).range(1..))]
    pub up_step: u32,
    /// At most so many fewer at once
    #[arg(long, value_name = "N", default_value_t = Pace::default().down_step, value_parser = clap::value_parser!(u32).range(1..))]
    pub down_step: u32,
    /// The worker's program; else riskfleet-worker beside this one
    #[arg(long, value_name = "PATH")]
    pub worker: Option<PathBuf>,
    /// Write the workers' addresses here, for Prometheus (file_sd_configs)
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
}

impl CrewArgs {
    /// How fast the crew follows.
    pub fn pace(&self) -> Pace {
        Pace {
            up_after: std::time::Duration::from_secs(self.up_after),
            down_after: std::time::Duration::from_secs(self.down_after),
            up_step: self.up_step,
            down_step: self.down_step,
        }
    }
}

fn at_least_zero(raw: &str) -> Result<f64, String> {
    let read = raw.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    read.ok_or_else(|| "must be a number of 0 or more".into())
}

fn above_zero(raw: &str) -> Result<f64, String> {
    at_least_zero(raw).ok().filter(|n| *n > 0.0).ok_or_else(|| "must be a number above 0".into())
}
