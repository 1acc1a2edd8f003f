//! `audit verify`: every record of every chain against the one before it, and what is stored
//! against the hashes in the records.
//!
//! # Decisions
//! A record's check needs only the stored sequence number and hash of the record before it, so a
//! page is cut anywhere and its parts are checked on all cores, while the next page is read.

use serde::Serialize;
use std::sync::Arc;

use super::screen::{Ink, clean};
use super::{CliError, Exit, Screen, table};
use crate::domain::audit::{check, check_stored};
use crate::domain::{ChainHead, Stream, TenantId};
use crate::ports::store::{AuditCursor, AuditLine};
use crate::ports::{EventStore, StoreError};

/// Records asked of the store at once: 5,000 of 2 to 4 KB with their event and decision.
const PAGE: u32 = 5_000;

/// How many bad records are named; all are counted.
const BAD_MAX: usize = 1_000;

/// How many bad records a table shows.
const BAD_SHOWN: usize = 50;

/// What the verification found.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    records: u64,
    chains: u64,
    bad_total: u64,
    /// The first [`BAD_MAX`].
    bad: Vec<Bad>,
}

/// One bad record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Bad {
    tenant: TenantId,
    stream: Stream,
    seq: i64,
    why: String,
}

/// The place of a record and its hash: what the next one hangs on.
#[derive(Debug, Clone)]
struct Link {
    tenant: TenantId,
    stream: Stream,
    head: ChainHead,
}

impl Link {
    fn of(line: &AuditLine) -> Self {
        let r = &line.record;
        Self { tenant: r.tenant.clone(), stream: r.stream, head: ChainHead { seq: r.seq, hash: r.hash } }
    }

    fn is_chain_of(&self, line: &AuditLine) -> bool {
        (&self.tenant, self.stream) == (&line.record.tenant, line.record.stream)
    }

    fn cursor(&self) -> AuditCursor {
        AuditCursor { tenant: self.tenant.clone(), stream: self.stream, seq: self.head.seq }
    }
}

pub(super) async fn run(json: bool, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let report = verify(store, screen).await?;
    if json {
        screen.json(&report)?;
    } else {
        print(&report, screen)?;
    }
    Ok(Exit::when(report.ok))
}

async fn verify(store: &dyn EventStore, screen: &Screen<'_>) -> Result<Report, CliError> {
    let bar = screen.bar(expected(store, screen).await, "records");
    let mut report = Report::default();
    let mut before: Option<Link> = None;
    let mut page = store.audit_page(None, PAGE).await?;
    while let Some(last) = page.last().map(Link::of) {
        let (cursor, whole) = (last.cursor(), page.len() == PAGE as usize);
        let count = page.len() as u64;
        let next = async { if whole { store.audit_page(Some(&cursor), PAGE).await } else { Ok(Vec::new()) } };
        let (checked, next) = tokio::join!(check_page(page, before.take()), next);
        let (chains, bad) = checked?;
        report.records += count;
        report.chains += chains;
        report.bad_total += bad.len() as u64;
        let room = BAD_MAX - report.bad.len();
        report.bad.extend(bad.into_iter().take(room));
        bar.inc(count);
        before = Some(last);
        page = next?;
    }
    bar.finish_and_clear();
    report.ok = report.bad_total == 0;
    Ok(report)
}

/// About how many records there are, for a bar that knows its end; only where somebody sees it.
async fn expected(store: &dyn EventStore, screen: &Screen<'_>) -> Option<u64> {
    if !screen.progress {
        return None;
    }
    let ledger = store.ledger().await.ok()?;
    u64::try_from(ledger.decided + ledger.dead).ok()
}

/// Checks a page on all cores. Gives the chains that begin in it, and its bad records in order.
async fn check_page(page: Vec<AuditLine>, before: Option<Link>) -> Result<(u64, Vec<Bad>), CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let size = page.len().div_ceil(cores).max(1);
    let page = Arc::new(page);
    let mut parts = Vec::with_capacity(cores);
    for start in (0..page.len()).step_by(size) {
        let before = if start == 0 { before.clone() } else { Some(Link::of(&page[start - 1])) };
        let (page, end) = (Arc::clone(&page), page.len().min(start + size));
        parts.push(tokio::task::spawn_blocking(move || check_part(&page[start..end], before)));
    }
    let (mut chains, mut bad) = (0, Vec::new());
    for part in parts {
        let (begun, found) = part.await.map_err(|e| StoreError::Fault(format!("checking a page broke off: {e}")))?;
        chains += begun;
        bad.extend(found);
    }
    Ok((chains, bad))
}

fn check_part(lines: &[AuditLine], mut before: Option<Link>) -> (u64, Vec<Bad>) {
    let (mut chains, mut bad) = (0, Vec::new());
    for line in lines {
        let mut link = match before.take() {
            Some(link) if link.is_chain_of(line) => link,
            _ => {
                chains += 1;
                Link { head: ChainHead::EMPTY, ..Link::of(line) }
            }
        };
        let checked = check(&mut link.head, &line.record)
            .and_then(|body| check_stored(&body, line.event.as_deref(), line.decision.as_deref()));
        if let Err(fault) = checked {
            let r = &line.record;
            bad.push(Bad { tenant: r.tenant.clone(), stream: r.stream, seq: r.seq, why: fault.to_string() });
        }
        before = Some(link);
    }
    (chains, bad)
}

fn print(report: &Report, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let Report { records, chains, bad_total, .. } = report;
    if report.ok {
        let verdict = screen.paint(Ink::Green, "audit is whole");
        writeln!(screen.out, "{verdict}: {records} records in {chains} chains")?;
        return Ok(());
    }
    let verdict = screen.paint(Ink::Red, "audit is NOT whole");
    writeln!(screen.out, "{verdict}: {bad_total} bad of {records} records in {chains} chains")?;
    let mut table = table::table(screen, &["tenant", "stream", "seq", "why"]);
    for b in report.bad.iter().take(BAD_SHOWN) {
        table.add_row([
            table::text(&b.tenant),
            table::text(b.stream),
            table::figure(b.seq),
            table::text(clean(&b.why)),
        ]);
    }
    writeln!(screen.out, "{}", table.trim_fmt())?;
    if *bad_total > BAD_SHOWN as u64 {
        writeln!(screen.out, "the first {BAD_SHOWN}; the first {BAD_MAX} with --json")?;
    }
    Ok(())
}
