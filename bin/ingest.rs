//! `riskfleet-ingest`: takes events over HTTP, from the inbox queue and from files.

use clap::{Parser, Subcommand};
use riskfleet::config::Flags;
use riskfleet::wiring::commands::{self, FileArgs};
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes events to the store and publishes them to the workers.
#[derive(Parser)]
#[command(name = "riskfleet-ingest", version, propagate_version = true)]
struct Args {
    #[command(flatten)]
    settings: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the producer API and consume the inbox queue
    Serve,
    /// Import events from an NDJSON file, or from what is piped in
    File(FileArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Command::Serve => commands::ingest(&args.settings),
        Command::File(file) => commands::import(&args.settings, file),
    }
}
