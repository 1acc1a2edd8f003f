//! riskfleet-load: puts an even load on a fleet of its own and says what it did: events accepted and
//! decided a second, latency, CPU and memory of every process.
//!
//! The load is open-loop: requests are due at fixed times, whatever the answers do, and latency counts
//! from the time at which a request was due, so that a stall shows in full. Bounded in events and
//! time. Speaks to loopback addresses only.

mod audit;
mod events;
mod fleet;
mod machine;
mod pace;
mod report;
mod scrape;
mod servers;
mod traces;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;

use fleet::Fleet;
use report::Report;
use servers::Servers;

/// Puts an even load on a fleet of its own, on private servers, and measures it.
#[derive(Debug, Clone, Parser)]
#[command(name = "riskfleet-load", version)]
struct Options {
    /// What to measure instead of one fleet.
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Events a second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    rate: u64,
    /// How long the load lasts.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Events in a request; 1 sends each event by itself.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    batch: u64,
    /// Tenants that the events are spread over.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    tenants: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    workers: u64,
    /// Ingest processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=8))]
    ingests: u64,
    /// Requests under way at once; what is due beyond it is counted as not sent.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=4_096))]
    in_flight: u64,
    /// Seconds to wait, after the load, for everything to be decided.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain_timeout: u64,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// A Postgres server to use instead of a private one (loopback only).
    #[arg(long, env = "RISKFLEET_TEST_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A RabbitMQ server to use instead of a private one (loopback only).
    #[arg(long, env = "RISKFLEET_TEST_AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,
    /// A Redis server to use instead of a private one (loopback only).
    #[arg(long, env = "RISKFLEET_TEST_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
}

/// What is measured otherwise.
#[derive(Debug, Clone, clap::Subcommand)]
enum Instead {
    /// Make an export of the audit, verify it by the clock, and tamper with copies of it
    Audit(audit::Audit),
    /// Put the same load on fleets that nobody looks at, and that collectors and scrapers of every manner do
    Traces(traces::Compare),
}

/// No run sends more than this.
const EVENTS_MAX: u64 = 20_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = tokio::select! {
        ended = measured(&options) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted: the fleet and its servers are stopped")),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("riskfleet-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measured(options: &Options) -> anyhow::Result<bool> {
    match options.instead.clone() {
        Some(Instead::Audit(audit)) => tokio::task::spawn_blocking(move || audit::run(&audit)).await?,
        Some(Instead::Traces(compare)) => traces::run(&compare, options).await,
        None => run(options).await,
    }
}

/// True when everything that was accepted was decided in time.
async fn run(options: &Options) -> anyhow::Result<bool> {
    if options.rate * options.seconds > EVENTS_MAX {
        bail!("--rate times --seconds must be at most {EVENTS_MAX} events");
    }
    // The only one that installs a provider: it cannot be there before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let servers = Servers::start(options).context("failed to start the servers")?;
    let mut fleet = Fleet::start(&servers, options, &[]).await.context("failed to start the fleet")?;
    let report = measure(&mut fleet, &servers, options).await;
    fleet.stop().await;
    if !servers.private {
        fleet.sweep(&servers).await;
    }
    fleet.logs(report.as_ref().map_or(true, |report| report.lost() > 0));
    let report = report?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        write!(out, "{}", report.tables())?;
    }
    Ok(report.lost() == 0)
}

async fn measure(fleet: &mut Fleet, servers: &Servers, options: &Options) -> anyhow::Result<Report> {
    let mut trees = fleet.trees();
    trees.extend(servers.trees());
    // All others are this process's children.
    trees.push(machine::Tree { name: "load".into(), pid: std::process::id(), alone: true });
    let watch = machine::Watch::start(trees);
    eprintln!("load: {} events/s for {} s, {} in a request", options.rate, options.seconds, options.batch);
    let sent = pace::send(fleet.ingest_urls(), options).await?;
    eprintln!("load: {} events accepted, waiting for their decisions", sent.accepted);
    let drained = fleet.drain(sent.accepted, Duration::from_secs(options.drain_timeout)).await?;
    let usage = watch.stop().await;
    Ok(Report { options: options.clone(), sent, drained, usage })
}
