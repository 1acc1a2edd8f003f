//! `fleet status`: who works, who owns what, and whether the ledger balances.

use chrono::{DateTime, Utc};
use comfy_table::{Cell, Color};
use std::io;
use std::time::Duration;

use super::args::FleetStatus as Args;
use super::screen::{Ink, clean};
use super::{CliError, Exit, Screen, table};
use crate::domain::load::WINDOW_S;
use crate::domain::{PartitionId, WorkerLoad};
use crate::ports::EventStore;
use crate::ports::store::{FleetStatus, Ledger, PartitionRow, WorkerRow};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

pub(super) async fn run(args: &Args, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    if !args.watch {
        look(args, store, screen).await?;
        return Ok(Exit::Done);
    }
    // Ends with the program, or with the reader of its output.
    loop {
        if screen.colour && !args.json {
            // ECMA-48: cursor home, erase to the end of the screen.
            write!(screen.out, "\x1b[H\x1b[J")?;
        }
        match look(args, store, screen).await {
            Err(CliError::Store(e)) => writeln!(screen.err, "failed to {}; trying again", clean(&e.to_string()))?,
            other => other?,
        }
        screen.out.flush()?;
        tokio::time::sleep(WATCH).await;
    }
}

async fn look(args: &Args, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let fleet = store.fleet_status().await?;
    match (args.json, args.watch) {
        (true, true) => {
            serde_json::to_writer(&mut *screen.out, &fleet).map_err(io::Error::from)?;
            Ok(writeln!(screen.out)?)
        }
        (true, false) => screen.json(&fleet),
        (false, _) => {
            let now = store.now().await?;
            print(&fleet, now, screen)
        }
    }
}

fn print(fleet: &FleetStatus, now: DateTime<Utc>, screen: &mut Screen<'_>) -> Result<(), CliError> {
    if fleet.workers.is_empty() {
        let none = screen.paint(Ink::Yellow, "no worker has reported within the last minute");
        writeln!(screen.out, "{none}: accepted events wait until one runs (riskfleet-worker)")?;
    } else {
        writeln!(screen.out, "{}", workers(&fleet.workers, now, screen))?;
    }
    writeln!(screen.out, "\n{}", partitions(&fleet.partitions, screen))?;
    let line = ledger_line(&fleet.ledger);
    let ink = if missing(&fleet.ledger) == 0 { Ink::Green } else { Ink::Red };
    let line = screen.paint(ink, &line);
    writeln!(screen.out, "\n{line}")?;
    Ok(())
}

fn workers(workers: &[WorkerRow], now: DateTime<Utc>, screen: &Screen<'_>) -> String {
    let head = ["worker", "version", "state", "partitions", "decided/s", "p99", "CPU", "seen"];
    let mut table = table::table(screen, &head);
    for w in workers {
        let state = if w.draining { Cell::new("draining").fg(Color::Yellow) } else { Cell::new("working") };
        let seen = (now - w.seen_at).num_seconds().max(0);
        let owned = format!("{} ({})", w.partitions.len(), ranges(&w.partitions));
        let owned = if w.partitions.is_empty() { "0".to_owned() } else { owned };
        table.add_row([
            table::text(w.id),
            table::text(&w.version),
            state,
            table::text(owned),
            table::figure(of_late(w, |load| Some(format!("{:.1}", load.decided as f64 / f64::from(WINDOW_S))))),
            table::figure(of_late(w, |load| load.p99_ms().map(|ms| format!("{ms:.0} ms")))),
            table::figure(of_late(w, |load| load.cpu_permille.map(|p| format!("{:.0} %", f64::from(p) / 10.0)))),
            table::text(format!("{seen} s ago")),
        ]);
    }
    table.trim_fmt()
}

/// Something of what a worker has done of late; a dash where nothing is known.
fn of_late(worker: &WorkerRow, figure: impl Fn(&WorkerLoad) -> Option<String>) -> String {
    worker.load.as_ref().and_then(figure).unwrap_or_else(|| "-".into())
}

fn partitions(partitions: &[PartitionRow], screen: &Screen<'_>) -> String {
    let mut table = table::table(screen, &["partition", "epoch", "backlog", "owner"]);
    for p in partitions {
        let owner = match p.owner {
            Some(owner) => Cell::new(owner.to_string()),
            None => Cell::new("nobody").fg(if p.backlog > 0 { Color::Red } else { Color::Yellow }),
        };
        table.add_row([table::text(p.partition), table::figure(p.epoch.0), table::figure(p.backlog), owner]);
    }
    table.trim_fmt()
}

/// `0-3 7 9-10`: partitions are many, and mostly neighbours.
fn ranges(partitions: &[PartitionId]) -> String {
    let mut numbers: Vec<u16> = partitions.iter().map(|p| p.0).collect();
    numbers.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(n) => *end = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |(a, b): &(u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    runs.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Accepted events that are in none of the three; negative when there are more than were accepted.
fn missing(ledger: &Ledger) -> i64 {
    ledger.accepted - ledger.decided - ledger.dead - ledger.pending
}

fn ledger_line(ledger: &Ledger) -> String {
    let Ledger { accepted, decided, dead, pending } = ledger;
    let sum = decided + dead + pending;
    let verdict = match missing(ledger) {
        0 => "balanced".to_owned(),
        lost if lost > 0 => format!("NOT balanced: {lost} accepted events are nowhere (run `riskfleet audit verify`)"),
        more => format!("NOT balanced: {} more than were accepted (run `riskfleet audit verify`)", -more),
    };
    format!("ledger: accepted {accepted} = decided {decided} + dead {dead} + pending {pending} ({sum}): {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_drawn_together() {
        let of = |numbers: &[u16]| ranges(&numbers.iter().map(|n| PartitionId(*n)).collect::<Vec<_>>());
        assert_eq!(of(&[3, 0, 1, 2, 7, 10, 9]), "0-3 7 9-10");
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[u16::MAX, 5]), "5 65535");
    }

    #[test]
    fn the_ledger_line_says_whether_anything_is_lost() {
        let ledger = |pending| Ledger { accepted: 10, decided: 7, dead: 1, pending };
        assert!(ledger_line(&ledger(2)).ends_with("pending 2 (10): balanced"));
        assert!(ledger_line(&ledger(1)).contains("NOT balanced: 1 accepted events are nowhere"));
        assert!(ledger_line(&ledger(5)).contains("NOT balanced: 3 more than were accepted"));
    }
}
