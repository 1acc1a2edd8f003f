//! Owns the settings as flags: `--key value` for each of the table, and `--config FILE`. Secrets
//! have only their `--…-file`: a flag is seen by everybody on the machine.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;
use std::sync::LazyLock;

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

/// A setting with its names as a flag: the `key` that it gives, and what stands after the dashes.
struct Flag {
    setting: &'static Setting,
    key: String,
    long: String,
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let flag = |setting: &'static Setting| {
        let key = if setting.is_secret() { format!("{}_file", setting.key) } else { setting.key.to_owned() };
        Flag { setting, long: key.replace('_', "-"), key }
    };
    settings().iter().map(flag).collect()
});

fn arg(flag: &'static Flag) -> Arg {
    let setting = flag.setting;
    let default = setting.default.map(|d| format!(", default {d}")).unwrap_or_default();
    let from = if setting.is_secret() { ", read from this file" } else { "" };
    let help = format!("{}{from} [{}{default}]", setting.doc, setting.variable());
    Arg::new(flag.key.as_str())
        .long(flag.long.as_str())
        .value_name(if setting.is_secret() { "PATH" } else { "VALUE" })
        .long_help(format!("{help}\nMust be {}.", setting.expected()))
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
        FLAGS.iter().map(arg).fold(command.arg(config), Command::arg)
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
        for Flag { key, .. } in FLAGS.iter() {
            let given = matches.value_source(key) == Some(ValueSource::CommandLine);
            if let Some(value) = matches.get_one::<String>(key).filter(|_| given) {
                self.given.push((key.clone(), value.clone()));
            }
        }
        Ok(())
    }
}
