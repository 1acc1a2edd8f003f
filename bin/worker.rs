//! `riskfleet-worker`: a member of the fleet.

use clap::Parser;
use riskfleet::config::Flags;
use riskfleet::wiring::commands;
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
    commands::worker(&Args::parse().settings)
}
