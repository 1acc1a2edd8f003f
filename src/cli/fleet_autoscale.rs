//! `fleet autoscale`: how many workers there should be, for signals that are given, for the fleet as
//! it is, or as what is to be kept running.

use super::args::{Autoscale as Args, PolicyArgs};
use super::screen::clean;
use super::{CliError, Exit, Screen};
use crate::domain::scaling::{Judgement, Scaling, ScalingAction, ScalingPolicy, Signals, evaluate, judge};
use crate::ports::EventStore;

/// The policy that was asked for.
pub(super) fn policy(args: &PolicyArgs) -> Result<ScalingPolicy, CliError> {
    let (min, max) = (args.min, args.max);
    args.policy().ok_or_else(|| CliError::Misuse(format!("--min must be at most --max ({max}), not {min}")))
}

/// For signals that are given.
pub(super) fn given(args: &Args, replicas: u32, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let verdict = evaluate(&args.given.signals(), &policy(&args.policy)?, replicas, args.given.partitions);
    if args.json {
        screen.json(&verdict)?;
    } else {
        print(&verdict, replicas, screen)?;
    }
    Ok(Exit::Done)
}

/// For the fleet as it is.
pub(super) async fn live(args: &Args, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let policy = policy(&args.policy)?;
    let (fleet, waits, now) = (store.fleet_status().await?, store.backlog().await?, store.now().await?);
    // No fleet has more than i16::MAX partitions, and so not more workers that work.
    let (replicas, partitions) = (fleet.working(now).count() as u32, fleet.partitions.len() as u32);
    let judgement = judge(fleet.signals(&waits, now), &policy, replicas, partitions);
    if args.json {
        screen.json(&judgement)?;
        return Ok(Exit::Done);
    }
    let Judgement { desired_replicas, replicas, action, reason, signals } = judgement;
    print(&Scaling { action, reason, desired_replicas }, replicas, screen)?;
    writeln!(screen.out, "  {}", known(&signals))?;
    Ok(Exit::Done)
}

fn print(verdict: &Scaling, replicas: u32, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let what = match verdict.action {
        ScalingAction::ScaleUp => "scale up",
        ScalingAction::ScaleDown => "scale down",
        ScalingAction::NoAction => "leave it so",
    };
    let to = verdict.desired_replicas;
    writeln!(screen.out, "{what}: {replicas} -> {to} workers\n  {}", clean(&verdict.reason))?;
    Ok(())
}

fn known(signals: &Signals) -> String {
    let figure = |name: &str, value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{name} {value}{unit}"),
        None => format!("{name} not known"),
    };
    let depth = signals.queue_depth.map(|depth| depth as f64);
    [
        figure("CPU", signals.cpu_percent, " %"),
        figure("p99", signals.p99_ms, " ms"),
        figure("failure rate", signals.failure_rate, ""),
        figure("waiting", depth, " events"),
    ]
    .join(", ")
}
