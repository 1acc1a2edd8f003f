//! `fleet autoscale --evaluate`: how many workers there should be, for signals that are given.

use super::args::Autoscale as Args;
use super::{CliError, Exit, Screen};
use crate::domain::scaling::{ScalingAction, ScalingPolicy, Signals, evaluate};

pub(super) fn run(args: &Args, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if args.min > args.max {
        return Err(CliError::Misuse(format!("--min must be at most --max ({}), not {}", args.max, args.min)));
    }
    let signals = Signals {
        cpu_percent: args.cpu,
        p99_ms: args.p99_ms,
        failure_rate: args.failure_rate,
        queue_depth: args.queue_depth,
    };
    let policy = ScalingPolicy { min: args.min, max: args.max, ..ScalingPolicy::default() };
    let verdict = evaluate(&signals, &policy, args.replicas, args.partitions);
    if args.json {
        screen.json(&verdict)?;
        return Ok(Exit::Done);
    }
    let what = match verdict.action {
        ScalingAction::ScaleUp => "scale up",
        ScalingAction::ScaleDown => "scale down",
        ScalingAction::NoAction => "leave it so",
    };
    let (from, to) = (args.replicas, verdict.desired_replicas);
    writeln!(screen.out, "{what}: {from} -> {to} workers\n  {}", verdict.reason)?;
    Ok(Exit::Done)
}
