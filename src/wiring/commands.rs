//! The commands: which store, which settings, which exit code.
//!
//! Nothing here is generic, so that a program's code is made once, here, and not in every binary.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use super::{WiringError, program, servers, single};
use crate::adapters::sqlite::SqliteStore;
use crate::cli::args::{Cli, Command, Source, Up};
use crate::cli::{self, Exit, Screen};
use crate::config::{Flags, Settings, Sources, load};
use crate::lifecycle::{SystemClock, install_crypto_provider};
use crate::ports::EventStore;
use crate::telemetry::Role;

/// What was said on the command line about where the fleet is.
#[derive(Debug, Clone, Copy)]
struct Said<'a> {
    source: &'a Source,
    flags: &'a Flags,
}

impl Said<'_> {
    fn sources(self) -> Sources {
        let mut flags = self.flags.clone();
        if let Some(url) = &self.source.database_url {
            flags.given.push(("database_url".to_owned(), url.clone()));
        }
        Sources::of_process(&flags)
    }

    fn settings(self) -> Result<Settings, WiringError> {
        Ok(load(&self.sources())?)
    }
}

/// Runs a command of `riskfleet`.
pub fn run(cli: Cli) -> ExitCode {
    let said = Said { source: &cli.source, flags: &cli.settings };
    match cli.command {
        Command::Up(args) => up(said, args),
        command => run_to_end(said, command),
    }
}

pub use crate::ingest::file::FileArgs;

/// `riskfleet-ingest serve`.
pub fn ingest(flags: &Flags) -> ExitCode {
    program::run(&Sources::of_process(flags), Role::Ingest, servers::ingest)
}

/// `riskfleet-worker`.
pub fn worker(flags: &Flags) -> ExitCode {
    program::run(&Sources::of_process(flags), Role::Worker, servers::worker)
}

/// `riskfleet up`.
fn up(said: Said<'_>, args: Up) -> ExitCode {
    if said.source.database_url.is_some() {
        return misused("`up` keeps its data in a folder (--data DIR) and takes no database");
    }
    let mut sources = said.sources();
    // The person in front of it reads the summary, not the log; and a machine's own user needs no token.
    sources.defaults.push(("log", "warn".into()));
    if args.http.ip().is_loopback() {
        sources.defaults.push(("auth", "off".into()));
    }
    let data = said.source.data.clone();
    program::run(&sources, Role::All, |settings, prometheus, stop| single::up(settings, data, args, prometheus, stop))
}

/// Every other command.
fn run_to_end(said: Said<'_>, command: Command) -> ExitCode {
    if let Err(why) = said.source.check() {
        return misused(why);
    }
    install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&WiringError::io("start")(e)),
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut screen = Screen::detected(&mut out, &mut err);
    runtime.block_on(dispatch(said, command, &mut screen))
}

async fn dispatch(said: Said<'_>, command: Command, screen: &mut Screen<'_>) -> ExitCode {
    match command {
        Command::Up(args) => up(said, args),
        Command::Completions { shell } => cli::completions(shell, screen).into(),
        Command::Send(send) => cli::send(&send, screen).await.into(),
        Command::Migrate => migrate(said, screen).await,
        Command::Read(read) => match open(said).await {
            Ok(store) => cli::run(&read, &*store, screen).await.into(),
            Err(e) => failed(&e),
        },
    }
}

/// The store that a reading command speaks of: a folder, or a database.
async fn open(said: Said<'_>) -> Result<Arc<dyn EventStore>, WiringError> {
    match &said.source.data {
        Some(data) => {
            let store = SqliteStore::open_read(&single::database(data), Arc::new(SystemClock::new())).await?;
            Ok(Arc::new(store))
        }
        None => servers::open_for_reading(&said.settings()?).await,
    }
}

async fn migrate(said: Said<'_>, screen: &mut Screen<'_>) -> ExitCode {
    if said.source.data.is_some() {
        return misused("`up` migrates its folder by itself; `migrate` is for a database (RISKFLEET_DATABASE_URL)");
    }
    let done = async {
        let settings = said.settings()?;
        servers::migrate(&settings).await?;
        Ok::<Settings, WiringError>(settings)
    };
    match done.await {
        Ok(settings) => {
            let (namespace, n) = (settings.namespace.as_str(), settings.partitions);
            let said = writeln!(screen.out, "migrated: schema {namespace}, {n} partitions");
            Exit::when(said.is_ok()).into()
        }
        Err(e @ WiringError::Settings(_)) => misused(&format!("failed to {e}")),
        Err(e) => failed(&e),
    }
}

/// `riskfleet-ingest file`.
pub fn import(flags: &Flags, args: FileArgs) -> ExitCode {
    let whole = std::sync::atomic::AtomicBool::new(false);
    let mut sources = Sources::of_process(flags);
    sources.defaults.push(("log", "warn".into()));
    let code = program::run(&sources, Role::Ingest, |settings, _, stop| async {
        let summary = servers::import(settings, args.into(), stop).await?;
        summary.print(&mut io::stdout()).map_err(WiringError::io("print the summary"))?;
        whole.store(summary.is_whole(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    let whole = whole.into_inner();
    if code == ExitCode::SUCCESS && !whole { ExitCode::FAILURE } else { code }
}

fn misused(why: &str) -> ExitCode {
    complain(why, Exit::Misused)
}

fn failed(e: &WiringError) -> ExitCode {
    complain(&format!("failed to {e}"), Exit::Failed)
}

fn complain(why: &str, exit: Exit) -> ExitCode {
    // The exit code says it where even this can't be written.
    _ = writeln!(io::stderr(), "error: {why}");
    exit.into()
}
