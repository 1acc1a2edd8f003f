//! `riskfleet`: the whole fleet in one process, and the operator's commands.

use clap::Parser;
use riskfleet::cli::args::Cli;
use riskfleet::wiring::commands;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
