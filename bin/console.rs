//! `riskfleet-console`: the control plane, for the people who run the fleet.

use clap::Parser;
use riskfleet::config::Flags;
use riskfleet::wiring::commands;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the control API: approvals, dead letters and the fleet.
#[derive(Parser)]
#[command(name = "riskfleet-console", version)]
struct Args {
    #[command(flatten)]
    settings: Flags,
}

fn main() -> ExitCode {
    commands::console(&Args::parse().settings)
}
