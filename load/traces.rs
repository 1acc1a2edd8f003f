//! Owns the comparison of one load with and without observers: traces to a collector that takes them, that
//! is away, that never answers, and metrics that are read a byte a second. In one run, on the same
//! servers, in turn, so that what else the machine does falls on all of them alike.

use std::net::{SocketAddr, TcpListener as Std};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::machine::Watch;
use crate::servers::Servers;
use crate::{Options, pace};

/// What the comparison is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Compare {
    /// How often each of the five is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: u64,
}

/// Who looks at the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observer {
    /// Nobody.
    None,
    /// A collector that takes every span.
    Collector,
    /// One that is away.
    Away,
    /// One that takes connections and never answers.
    Silent,
    /// Scrapers that read `/metrics` a byte a second.
    SlowScraper,
}

impl Observer {
    const ALL: [Self; 5] = [Self::None, Self::Collector, Self::Away, Self::Silent, Self::SlowScraper];

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "nobody",
            Self::Collector => "a collector",
            Self::Away => "a collector that is away",
            Self::Silent => "a collector that never answers",
            Self::SlowScraper => "scrapers that read a byte a second",
        }
    }
}

/// Slow scrapers of each member.
const SCRAPERS: usize = 4;

/// What a measured round came to.
#[derive(Debug, Clone, Copy)]
struct Round {
    decided_per_s: f64,
    /// Of ingests and workers together.
    cpu_per_1000: f64,
    exported: f64,
    dropped: f64,
    lost: u64,
}

/// The rounds of one observer.
struct Measured {
    observer: Observer,
    rounds: Vec<Round>,
}

/// Measures each observer in turn, as often as asked. True when nothing was lost.
pub(crate) async fn run(compare: &Compare, options: &Options) -> anyhow::Result<bool> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let servers = Servers::start(options).context("failed to start the servers")?;
    eprintln!("load: a round for the caches, which does not count");
    measure(Observer::None, &servers, options).await?;
    let mut all: Vec<Measured> =
        Observer::ALL.into_iter().map(|observer| Measured { observer, rounds: Vec::new() }).collect();
    for round in 0..compare.rounds {
        // Another one begins each time: none is always the one after a certain other.
        let count = all.len();
        for turn in 0..count {
            let measured = &mut all[(turn + usize::try_from(round)?) % count];
            let seen = measure(measured.observer, &servers, options).await?;
            eprintln!(
                "load: round {}, {}: {:.0} decided/s, {:.4} CPU s per 1,000",
                round + 1,
                measured.observer.as_str(),
                seen.decided_per_s,
                seen.cpu_per_1000
            );
            measured.rounds.push(seen);
        }
    }
    tell(&all, options)?;
    Ok(all.iter().flat_map(|measured| &measured.rounds).all(|round| round.lost == 0))
}

async fn measure(observer: Observer, servers: &Servers, options: &Options) -> anyhow::Result<Round> {
    let mut observers = JoinSet::new();
    let collector = match observer {
        Observer::None | Observer::SlowScraper => None,
        Observer::Collector => Some(taking(&mut observers).await?),
        // Nobody listens any more once this is dropped.
        Observer::Away => Some(Std::bind("127.0.0.1:0")?.local_addr()?),
        Observer::Silent => Some(silent(&mut observers).await?),
    };
    let own: Vec<(&'static str, String)> = collector.map_or_else(Vec::new, |addr| {
        vec![
            ("RISKFLEET_OTLP_ENDPOINT", format!("http://{addr}")),
            ("RISKFLEET_TRACE_SAMPLE_PERCENT", "100".to_owned()),
        ]
    });
    let mut fleet = Fleet::start(servers, options, &own).await.context("failed to start the fleet")?;
    if observer == Observer::SlowScraper {
        for addr in fleet.addrs().into_iter().flat_map(|addr| [addr; SCRAPERS]) {
            observers.spawn(scrape_slowly(addr));
        }
    }
    let watch = Watch::start(fleet.trees());
    let sent = pace::send(fleet.ingest_urls(), options).await?;
    let drained = fleet.drain(sent.accepted, Duration::from_secs(options.drain_timeout)).await?;
    let cpu: f64 = watch.stop().await.iter().map(|usage| usage.cpu_s).sum();
    let scrape = fleet.scrape().await;
    fleet.stop().await;
    fleet.sweep(servers).await;
    let lost = sent.accepted.max(drained.stored).saturating_sub(drained.decided);
    fleet.logs(lost > 0);
    observers.shutdown().await;
    Ok(Round {
        decided_per_s: drained.decided as f64 / drained.seconds,
        cpu_per_1000: cpu * 1000.0 / drained.decided as f64,
        exported: scrape.sum("riskfleet_trace_spans_exported_total"),
        dropped: scrape.sum("riskfleet_trace_spans_dropped_total"),
        lost,
    })
}

/// A collector that takes everything at once, and looks at nothing.
async fn taking(observers: &mut JoinSet<()>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let router = Router::new().route("/v1/traces", post(async |_: axum::body::Bytes| StatusCode::OK));
    observers.spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok(addr)
}

/// Takes connections, keeps them, and says nothing.
async fn silent(observers: &mut JoinSet<()>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    observers.spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    Ok(addr)
}

async fn scrape_slowly(addr: SocketAddr) {
    while let Ok(mut stream) = TcpStream::connect(addr).await {
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        while asked.is_ok() && stream.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Each round against the same round without an observer, and of these the one in the middle.
fn ratio(of: &Measured, to: &Measured, figure: impl Fn(&Round) -> f64) -> f64 {
    median(of.rounds.iter().zip(&to.rounds).map(|(of, to)| figure(of) / figure(to)).collect())
}

fn tell(all: &[Measured], options: &Options) -> anyhow::Result<()> {
    use std::io::Write;
    let rows: Vec<(&Measured, f64, f64)> = all
        .iter()
        .map(|m| (m, ratio(m, &all[0], |r| r.decided_per_s), ratio(m, &all[0], |r| r.cpu_per_1000)))
        .collect();
    let mut out = std::io::stdout().lock();
    if options.json {
        let document: Vec<Value> = rows.iter().map(|(m, speed, cpu)| document(m, *speed, *cpu)).collect();
        writeln!(out, "{:#}", json!({"rate": options.rate, "seconds": options.seconds, "observers": document}))?;
    } else {
        writeln!(out, "{}", table(&rows))?;
    }
    Ok(())
}

fn middle(of: &Measured, figure: impl Fn(&Round) -> f64) -> f64 {
    median(of.rounds.iter().map(figure).collect())
}

fn document(m: &Measured, speed: f64, cpu: f64) -> Value {
    json!({
        "observer": m.observer.as_str(), "rounds": m.rounds.len(),
        "decided_per_s": m.rounds.iter().map(|r| r.decided_per_s.round()).collect::<Vec<_>>(),
        "decided_per_s_ratio": speed, "cpu_ratio": cpu,
        "spans_exported": middle(m, |r| r.exported), "spans_dropped": middle(m, |r| r.dropped),
        "lost": m.rounds.iter().map(|r| r.lost).sum::<u64>(),
    })
}

fn table(rows: &[(&Measured, f64, f64)]) -> Table {
    let mut table = Table::new();
    let header = ["who looks", "decided/s", "to nobody", "CPU s per 1,000", "to nobody", "spans sent", "spans dropped"];
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (m, speed, cpu) in rows {
        table.add_row([
            m.observer.as_str().to_owned(),
            format!("{:.0}", middle(m, |r| r.decided_per_s)),
            format!("{speed:.3}"),
            format!("{:.4}", middle(m, |r| r.cpu_per_1000)),
            format!("{cpu:.3}"),
            format!("{:.0}", middle(m, |r| r.exported)),
            format!("{:.0}", middle(m, |r| r.dropped)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_one_in_the_middle() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0])), (2.0, 2.5));
        assert!(median(Vec::new()).is_nan());
    }
}
