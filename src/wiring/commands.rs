//! The commands: which store, which settings, which exit code.
//!
//! Nothing here is generic, so that a program's code is made once, here, and not in every binary.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use super::{WiringError, doctor, program, proof, servers, single, supervise, vault};
use crate::adapters::sqlite::SqliteStore;
use crate::cli::args::{
    Approvals, ApprovalsRead, Audit, AuditKeyArgs, AuditVerify, Autoscale, Cli, Command, Costs, Dlq, Doctor, Fleet,
    Keys, Migrate, Models, Prompts, Read, Source, Tenants, Up, VersionsRead,
};
use crate::cli::{self, AuditSources, Exit, ExportSources, Reading, Screen};
use crate::config::{Flags, Settings, Sources, load};
use crate::crypto::{AuditKey, Keyring};
use crate::domain::version::Artifact;
use crate::lifecycle::{SystemClock, SystemEntropy, install_crypto_provider, stop_at_end_of_input};
use crate::ports::{Clock, Entropy, EventStore, Registry};
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

/// `riskfleet-worker`. `until_stdin_closes`: it also ends when nobody holds its standard input any more.
pub fn worker(flags: &Flags, until_stdin_closes: bool) -> ExitCode {
    program::run(&Sources::of_process(flags), Role::Worker, |settings, telemetry, stop| {
        if until_stdin_closes {
            stop_at_end_of_input(stop.clone());
        }
        servers::worker(settings, telemetry, stop)
    })
}

/// `riskfleet-console`.
pub fn console(flags: &Flags) -> ExitCode {
    program::run(&Sources::of_process(flags), Role::Console, servers::console)
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
    // It goes over every other source, so that what an address needs is checked for this one.
    sources.flags.push(("http_addr".to_owned(), args.http.to_string()));
    let data = said.source.data.clone();
    program::run(&sources, Role::All, |settings, telemetry, stop| single::up(settings, data, args, telemetry, stop))
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
        Command::Migrate(args) => migrate(said, &args, screen).await,
        Command::Doctor(args) => examine(said, &args, screen).await,
        Command::Dlq(Dlq::Change(change)) => cli::dlq_change(&change, screen).await.into(),
        Command::Tenants(Tenants::Change(change)) => cli::tenants_change(&change, screen).await.into(),
        Command::Tenants(Tenants::Read(read)) => match registry(said, false).await {
            Ok(registry) => cli::tenants_read(&read, &*registry, screen).await.into(),
            Err(e) => failed(&e),
        },
        Command::Costs(Costs::Budget(change)) => cli::costs_budget(&change, screen).await.into(),
        Command::Costs(Costs::Read(read)) => match registry(said, false).await {
            Ok(registry) => cli::costs_read(&read, &*registry, SystemClock::new().now(), screen).await.into(),
            Err(e) => failed(&e),
        },
        Command::Models(Models::Read(read)) => versions(said, Artifact::Model, &read, screen).await,
        Command::Models(Models::Change(change)) => cli::versions_change(Artifact::Model, &change, screen).await.into(),
        Command::Models(Models::Active(active)) => cli::models_active(&active, screen).await.into(),
        Command::Prompts(Prompts::Read(read)) => versions(said, Artifact::Prompt, &read, screen).await,
        Command::Prompts(Prompts::Change(change)) => {
            cli::versions_change(Artifact::Prompt, &change, screen).await.into()
        }
        Command::Repair(repair) => cli::repair(&repair, screen).await.into(),
        Command::Audit(command) => audit(said, command, screen).await,
        Command::Keys(keys) => look_after_keys(said, keys, screen).await,
        Command::Approvals(Approvals::Change(change)) => cli::approvals_change(&change, screen).await.into(),
        Command::Approvals(Approvals::Read(read)) => approvals(said, &read, screen).await,
        Command::Dlq(Dlq::Read(read)) => match open(said).await {
            Ok((store, _, keyring)) => {
                cli::dlq_read(&read, Reading { store: &*store, keyring: &keyring }, screen).await.into()
            }
            Err(e) => failed(&e),
        },
        Command::Read(Read::Fleet(Fleet::Autoscale(args))) if args.apply => supervise(said, &args, screen).await,
        Command::Read(Read::Fleet(Fleet::Autoscale(args))) if args.given.replicas.is_some() => {
            cli::autoscale(&args, args.given.replicas.unwrap_or_default(), screen).into()
        }
        Command::Read(read) => match open(said).await {
            Ok((store, registry, keyring)) => {
                let reading = Reading { store: &*store, keyring: &keyring };
                cli::run(&read, (reading, &*registry), screen).await.into()
            }
            Err(e) => failed(&e),
        },
    }
}

/// The store that a reading command speaks of, a folder or a database, and what opens its texts: a
/// master key is missed only when one is needed.
async fn open(said: Said<'_>) -> Result<(Arc<dyn EventStore>, Arc<dyn Registry>, Arc<Keyring>), WiringError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    match &said.source.data {
        Some(data) => {
            let store = Arc::new(SqliteStore::open_read(&single::database(data), Arc::clone(&clock)).await?);
            let master = vault::master_for_reading(said.settings().ok().as_ref(), data);
            let keyring = vault::keyring(store.clone(), master, &clock);
            Ok((store.clone(), store, keyring))
        }
        None => {
            let settings = said.settings()?;
            let store = Arc::new(servers::open_store(&settings).await?);
            let keyring = vault::keyring(store.clone(), vault::master_if_set(&settings), &clock);
            Ok((store.clone(), store, keyring))
        }
    }
}

async fn look_after_keys(said: Said<'_>, keys: Keys, screen: &mut Screen<'_>) -> ExitCode {
    match keys {
        Keys::Roles(roles) => cli::keys_roles(&roles, screen).into(),
        Keys::Rewrap(rewrap) => cli::keys_rewrap(&rewrap, screen).await.into(),
        Keys::Revoke(revoke) => cli::keys_revoke(&revoke, screen).await.into(),
        Keys::Create(create) if create.bootstrap => match registry(said, true).await {
            Ok(registry) => {
                let sources = (&SystemClock::new() as &dyn Clock, &SystemEntropy as &dyn Entropy);
                cli::keys_first(&create, &*registry, sources, screen).await.into()
            }
            Err(e) => failed(&e),
        },
        Keys::Create(create) => cli::keys_create(&create, screen).await.into(),
        Keys::List(list) => match registry(said, false).await {
            Ok(registry) => cli::keys_list(&list, &*registry, SystemClock::new().now(), screen).await.into(),
            Err(e) => failed(&e),
        },
    }
}

/// The registry of a fleet: in a folder that is there, or in a database.
async fn registry(said: Said<'_>, write: bool) -> Result<Arc<dyn Registry>, WiringError> {
    let Some(data) = &said.source.data else {
        return Ok(Arc::new(servers::open_store(&said.settings()?).await?));
    };
    let (path, clock) = (single::database(data), Arc::new(SystemClock::new()));
    let read = SqliteStore::open_read(&path, clock.clone()).await?;
    if !write {
        return Ok(Arc::new(read));
    }
    let constants = read.constants().await?;
    read.close().await;
    Ok(Arc::new(SqliteStore::open(&path, constants.partitions, constants.pack_secret, clock).await?))
}

/// The same store with what people govern by.
async fn open_registry(said: Said<'_>) -> Result<(Arc<dyn EventStore>, Arc<dyn Registry>), WiringError> {
    match &said.source.data {
        Some(data) => {
            let store = SqliteStore::open_read(&single::database(data), Arc::new(SystemClock::new())).await?;
            let store = Arc::new(store);
            Ok((store.clone(), store))
        }
        None => servers::open_registry(&said.settings()?).await,
    }
}

async fn versions(said: Said<'_>, artifact: Artifact, read: &VersionsRead, screen: &mut Screen<'_>) -> ExitCode {
    match registry(said, false).await {
        Ok(registry) => cli::versions_read(artifact, read, &*registry, screen).await.into(),
        Err(e) => failed(&e),
    }
}

async fn approvals(said: Said<'_>, read: &ApprovalsRead, screen: &mut Screen<'_>) -> ExitCode {
    let opened = async { Ok::<_, WiringError>((said.settings()?, open(said).await?)) };
    match opened.await {
        Ok((settings, (store, registry, keyring))) => {
            let rules = servers::approval_rules(&settings);
            let reading = Reading { store: &*store, keyring: &keyring };
            cli::approvals_read(read, (reading, &*registry), &rules, screen).await.into()
        }
        Err(e) => failed(&e),
    }
}

/// `audit …`: what signs and what verifies, beside the store.
async fn audit(said: Said<'_>, command: Audit, screen: &mut Screen<'_>) -> ExitCode {
    let done = async {
        Ok::<Exit, WiringError>(match command {
            Audit::Verify(AuditVerify { file: Some(file), public_key, anchor, json }) => {
                let args = AuditVerify { file: None, public_key, anchor, json };
                cli::audit_verify_file(&file, &args, screen).await
            }
            Audit::Verify(args) => {
                let public_key = audit_key(said)?.map(|key| key.public());
                let (store, registry) = open_registry(said).await?;
                let sources = AuditSources { store: &*store, checkpoints: Some(&*registry), public_key };
                cli::audit_verify(&args, &sources, screen).await
            }
            Audit::List(args) => cli::audit_list(&args, &*open_registry(said).await?.0, screen).await,
            Audit::Export(args) => {
                let (key, (_, registry)) = (audit_key(said)?, open_registry(said).await?);
                let now = SystemClock::new().now();
                let sources = ExportSources { checkpoints: &*registry, key: key.as_ref(), now };
                cli::audit_export(&args, &sources, screen).await
            }
            Audit::Key(AuditKeyArgs { new: Some(path), json }) => {
                cli::audit_key_new(&path, &SystemEntropy.secret(), json, screen)
            }
            Audit::Key(AuditKeyArgs { new: None, json }) => match audit_key(said)? {
                Some(key) => cli::audit_key(&key, json, screen),
                None => {
                    return Err(WiringError::Address(
                        "read the key of the audit: RISKFLEET_AUDIT_KEY is not set".into(),
                    ));
                }
            },
        })
    };
    match done.await {
        Ok(exit) => exit.into(),
        Err(e) => failed(&e),
    }
}

/// The key that signs the audit of the fleet that a command speaks of.
fn audit_key(said: Said<'_>) -> Result<Option<AuditKey>, WiringError> {
    match &said.source.data {
        Some(data) => proof::key_of(data),
        None => Ok(proof::keys(&said.settings()?)?.map(|keys| keys.current)),
    }
}

async fn examine(said: Said<'_>, args: &Doctor, screen: &mut Screen<'_>) -> ExitCode {
    let seen = match &said.source.data {
        Some(data) => doctor::folder(data).await,
        None => doctor::servers(load(&said.sources())).await,
    };
    cli::doctor(args, &seen, screen).into()
}

/// `fleet autoscale --apply`.
async fn supervise(said: Said<'_>, args: &Autoscale, screen: &mut Screen<'_>) -> ExitCode {
    if said.source.data.is_some() {
        return misused(
            "`up` has its workers within (--workers N); --apply is for a database (RISKFLEET_DATABASE_URL)",
        );
    }
    let done = async { supervise::run(&said.settings()?, said.source, said.flags, args, screen).await };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(WiringError::Misuse(why)) => misused(&why),
        Err(e @ WiringError::Settings(_)) => misused(&format!("failed to {e}")),
        Err(e) => failed(&e),
    }
}

async fn migrate(said: Said<'_>, args: &Migrate, screen: &mut Screen<'_>) -> ExitCode {
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
            let said = match args.json {
                true => writeln!(screen.out, "{}", serde_json::json!({"schema": namespace, "partitions": n})),
                false => writeln!(screen.out, "migrated: schema {namespace}, {n} partitions"),
            };
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
