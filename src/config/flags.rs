//! Owns the settings as flags: `--key value` for each of the table, and `--config FILE`. Secrets
//! have only their `--…-file`: a flag is seen by everybody on the machine.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;

use super::table::{Setting, settings};

/// Settings that were given as flags; for `#[command(flatten)]`.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// `(key, value)`.
    pub given: Vec<(String, String)>,
}

const HEADING: &str = "Settings";

fn arg(setting: &Setting) -> Arg {
    let (key, value_name) = if setting.is_secret() {
        (format!("{}_file", setting.key), "PATH")
    } else {
        (setting.key.to_owned(), "VALUE")
    };
    let default = setting.default.map(|d| format!(", default {d}")).unwrap_or_default();
    let secret = if setting.is_secret() { ", read from this file" } else { "" };
    let help = format!("{}{secret} [{}{default}]", setting.doc, setting.variable());
    let long = format!("Must be {}.", setting.expected());
    Arg::new(key.clone())
        .long(key.replace('_', "-"))
        .value_name(value_name)
        .long_help(format!("{help}\n{long}"))
        .help(help)
        .help_heading(HEADING)
        .hide_short_help(true)
        .global(true)
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .env("RISKFLEET_CONFIG")
            .hide_env_values(true)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("settings file (TOML); the environment (RISKFLEET_…) and flags go before it")
            .help_heading(HEADING)
            .global(true);
        settings().iter().map(arg).fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        for setting in settings() {
            let key = if setting.is_secret() { format!("{}_file", setting.key) } else { setting.key.to_owned() };
            let given = matches.value_source(&key) == Some(ValueSource::CommandLine);
            if let Some(value) = matches.get_one::<String>(&key).filter(|_| given) {
                self.given.push((key, value.clone()));
            }
        }
        Ok(())
    }
}
