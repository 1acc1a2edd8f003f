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
    /// End, as by SIGTERM, when standard input is closed: with whoever has started it
    #[arg(long)]
    until_stdin_closes: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    commands::worker(&args.settings, args.until_stdin_closes)
}
