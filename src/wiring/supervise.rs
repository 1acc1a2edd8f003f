//! `riskfleet fleet autoscale --apply`: a supervisor of workers on this machine, and what it tells.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::WiringError;
use super::servers::open_store;
use crate::autoscale::{Deed, Launch, Rules, Supervisor};
use crate::cli::args::{Autoscale, Source};
use crate::cli::{self, Screen};
use crate::config::{Flags, Settings};
use crate::lifecycle::{SystemClock, stop_on_signals};
use crate::ports::Clock;

/// What a worker may take to end beyond its own drain timeout.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps workers running until stopped.
///
/// # Errors
/// When the policy contradicts itself, the worker's program is not found, or no database is named.
pub(super) async fn run(
    settings: &Settings,
    source: &Source,
    flags: &Flags,
    args: &Autoscale,
    screen: &mut Screen<'_>,
) -> Result<(), WiringError> {
    let policy = cli::scaling_policy(args).map_err(|e| WiringError::Misuse(e.to_string()))?;
    let rules = Rules { policy, pace: args.crew.pace(), every: Duration::from_secs(args.crew.every) };
    let launch = launch(settings, (source, flags), args)?;
    let store = Arc::new(open_store(settings).await?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let stop = stop_on_signals().map_err(WiringError::io("listen to signals"))?;
    let mut tell = |deed: &Deed| {
        let told = if args.json { as_json(deed, screen) } else { as_text(deed, screen) };
        // Nobody reads on: the workers are looked after all the same.
        _ = told;
    };
    Supervisor::new(store, clock, launch, rules).run(&mut tell, stop).await;
    Ok(())
}

fn launch(settings: &Settings, (source, flags): (&Source, &Flags), args: &Autoscale) -> Result<Launch, WiringError> {
    let program = match &args.crew.worker {
        Some(program) => program.clone(),
        None => beside_this_one()?,
    };
    let mut given = Vec::new();
    if let Some(file) = &flags.file {
        given.extend(["--config".to_owned(), file.display().to_string()]);
    }
    for (key, value) in flags.given.iter().filter(|(key, _)| key != "http_addr") {
        given.extend([format!("--{}", key.replace('_', "-")), value.clone()]);
    }
    // Not as a flag, which everybody on the machine could read.
    let url = source.database_url.iter().map(|url| ("RISKFLEET_DATABASE_URL".to_owned(), url.clone())).collect();
    let drain_timeout = settings.drain_timeout() + GRACE;
    Ok(Launch { program, args: given, settings: url, drain_timeout, targets: args.crew.targets.clone() })
}

fn beside_this_one() -> Result<PathBuf, WiringError> {
    let own = std::env::current_exe().map_err(WiringError::io("find this program"))?;
    let worker = own.with_file_name("riskfleet-worker");
    if worker.is_file() {
        return Ok(worker);
    }
    Err(WiringError::Misuse(format!("{} is not there: name the worker's program with --worker", worker.display())))
}

fn as_json(deed: &Deed, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let line = serde_json::to_string(deed)?;
    writeln!(screen.out, "{line}")?;
    screen.out.flush()
}

fn as_text(deed: &Deed, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let out = &mut screen.out;
    match deed {
        Deed::Scaled { from, to, reason } => writeln!(out, "{from} -> {to} workers: {reason}"),
        Deed::Started { worker, pid, address } => writeln!(out, "worker {worker} started: pid {pid}, {address}"),
        Deed::Draining { worker } => writeln!(out, "worker {worker} drains"),
        Deed::Ended { worker } => writeln!(out, "worker {worker} has ended"),
        Deed::Died { worker, how, again_in_s } => {
            writeln!(screen.err, "worker {worker} has died ({how}); another starts in {again_in_s} s")
        }
        Deed::Killed { worker } => {
            writeln!(
                screen.err,
                "worker {worker} did not drain in time and was killed; others take its partitions over"
            )
        }
        Deed::Failed { error } => writeln!(screen.err, "failed to {error}; trying again"),
    }
}
