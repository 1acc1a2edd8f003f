//! The commands: which store, which settings, which exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use super::{WiringError, program, servers, single};
use crate::adapters::sqlite::SqliteStore;
use crate::cli::args::{Command, Source, Up};
use crate::cli::{self, Exit, Screen};
use crate::config::{Flags, Settings, Sources, load};
use crate::ingest::file::FileArgs;
use crate::lifecycle::{SystemClock, install_crypto_provider};
use crate::ports::EventStore;
use crate::telemetry::Role;

fn sources(source: &Source) -> Sources {
    let given = [("database_url", &source.database_url), ("namespace", &source.namespace)];
    let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
    Sources::of_process(&Flags { file: source.config.clone(), given })
}

/// `riskfleet up`.
pub fn up(source: &Source, args: Up) -> ExitCode {
    if source.database_url.is_some() {
        return misused("`up` keeps its data in a folder (--data DIR) and takes no database");
    }
    let mut sources = sources(source);
    // The person in front of it reads the summary, not the log; and a machine's own user needs no token.
    sources.defaults.push(("log", "warn".into()));
    if args.http.ip().is_loopback() {
        sources.defaults.push(("auth", "off".into()));
    }
    let data = source.data.clone();
    program::run(&sources, Role::All, |settings, prometheus, stop| single::up(settings, data, args, prometheus, stop))
}

/// Every other command.
pub fn run(source: &Source, command: Command) -> ExitCode {
    if let Err(why) = source.check() {
        return misused(why);
    }
    install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&WiringError::io("start")(e)),
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut screen = Screen::detected(&mut out, &mut err);
    runtime.block_on(dispatch(source, command, &mut screen))
}

async fn dispatch(source: &Source, command: Command, screen: &mut Screen<'_>) -> ExitCode {
    match command {
        Command::Up(args) => up(source, args),
        Command::Completions { shell } => cli::completions(shell, screen).into(),
        Command::Send(send) => cli::send(&send, screen).await.into(),
        Command::Migrate => migrate(source, screen).await,
        Command::Read(read) => match open(source).await {
            Ok(store) => cli::run(&read, &*store, screen).await.into(),
            Err(e) => failed(&e),
        },
    }
}

fn settings(source: &Source) -> Result<Settings, WiringError> {
    Ok(load(&sources(source))?)
}

/// The store that a reading command speaks of: a folder, or a database.
async fn open(source: &Source) -> Result<Arc<dyn EventStore>, WiringError> {
    match &source.data {
        Some(data) => {
            let store = SqliteStore::open_read(&single::database(data), Arc::new(SystemClock::new())).await?;
            Ok(Arc::new(store))
        }
        None => servers::open_for_reading(&settings(source)?).await,
    }
}

async fn migrate(source: &Source, screen: &mut Screen<'_>) -> ExitCode {
    if source.data.is_some() {
        return misused("`up` migrates its folder by itself; `migrate` is for a database (RISKFLEET_DATABASE_URL)");
    }
    let done = async {
        let settings = settings(source)?;
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
