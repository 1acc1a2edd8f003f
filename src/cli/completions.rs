//! `completions`: the script that makes a shell complete `riskfleet`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{CliError, Exit, Screen, args::Cli};

/// Prints the completion script of a shell.
pub fn completions(shell: Shell, screen: &mut Screen<'_>) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "riskfleet", &mut script);
    let done = screen.out.write_all(&script).map(|()| Exit::Done).map_err(CliError::from);
    screen.conclude(done)
}
