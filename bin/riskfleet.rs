//! `riskfleet`: the whole fleet in one process, and the operator's commands.

use clap::Parser;
use riskfleet::cli::args::{Cli, Command};
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Up(up) => riskfleet::wiring::commands::up(&cli.source, up),
        command => riskfleet::wiring::commands::run(&cli.source, command),
    }
}
