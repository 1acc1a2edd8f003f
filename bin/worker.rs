//! `riskfleet-worker`: a member of the fleet.

use clap::Parser;
use riskfleet::config::{Flags, Sources};
use riskfleet::telemetry::Role;
use riskfleet::wiring;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Decides the events of its share of the partitions; start as many as you like.
#[derive(Parser)]
#[command(name = "riskfleet-worker", version)]
struct Args {
    #[command(flatten)]
    settings: Flags,
}

fn main() -> ExitCode {
    let args = Args::parse();
    wiring::run(&Sources::of_process(&args.settings), Role::Worker, wiring::worker)
}
