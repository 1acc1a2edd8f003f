//! Judges the fleet as its store knows it: who works, what waits, and whether anything is lost.

use super::super::ownership::{Owner, owner_of, reporting};
use super::finding::{Finding, some, thousands};
use crate::domain::{PartitionId, time};
use crate::ports::checkup::{FleetSeen, StandingRows};
use crate::ports::store::OutboxKind;

pub(super) fn judge(seen: &FleetSeen) -> Vec<Finding> {
    let mut findings = vec![workers(seen), owners(seen), pending(seen)];
    findings.extend(outbox(seen));
    findings.push(ledger(seen));
    findings
}

fn workers(seen: &FleetSeen) -> Finding {
    let check = "fleet.workers";
    let (live, pending) = (reporting(&seen.status, seen.now).count(), seen.status.ledger.pending);
    let advice = "start one (riskfleet-worker)";
    match (live, pending) {
        (0, 1..) => Finding::failed(check, format!("none reports, and {} events wait", thousands(pending)), advice),
        (0, _) => Finding::warning(check, "none reports", advice),
        _ => {
            let draining = reporting(&seen.status, seen.now).filter(|w| w.draining).count();
            let leaving = if draining == 0 { String::new() } else { format!(", {draining} of them leaving") };
            Finding::ok(check, format!("{live} report{leaving}"))
        }
    }
}

/// Partitions without an owner, or with one that is silent; those with a backlog are failures.
fn owners(seen: &FleetSeen) -> Finding {
    let check = "fleet.owners";
    let (mut free, mut silent): (Vec<PartitionId>, Vec<PartitionId>) = Default::default();
    let (mut waiting, mut last) = (0, None);
    for row in &seen.status.partitions {
        match owner_of(row, &seen.status.workers, seen.now) {
            Owner::Reports { .. } => continue,
            Owner::Nobody => free.push(row.partition),
            Owner::Silent { id, .. } => {
                last = Some(id);
                silent.push(row.partition);
            }
        }
        waiting += row.backlog;
    }
    if free.is_empty() && silent.is_empty() {
        return Finding::ok(check, format!("all {} partitions have one that reports", seen.status.partitions.len()));
    }
    let mut parts = Vec::new();
    if !free.is_empty() {
        parts.push(format!("nobody owns {}", some(&free)));
    }
    if let Some(id) = last {
        parts.push(format!("{} belong to workers that no longer report ({id} …)", some(&silent)));
    }
    let shown = format!("{}; {} events wait there", parts.join("; "), thousands(waiting));
    let advice =
        "workers claim them within 15 s while they reach Redis: start one, or look at the log of those that run";
    if waiting > 0 { Finding::failed(check, shown, advice) } else { Finding::warning(check, shown, advice) }
}

/// Events that wait for longer than a minute. With an owner that reports they are a backlog, or
/// what the queues' check calls orphaned.
fn pending(seen: &FleetSeen) -> Finding {
    let check = "fleet.pending";
    let Some(oldest) = seen.stale.iter().map(|s| s.since).min() else {
        let pending = thousands(seen.status.ledger.pending);
        return Finding::ok(check, format!("{pending} events, none for longer than a minute"));
    };
    let events: usize = seen.stale.iter().map(|s| s.events).sum();
    let more = if seen.stale.iter().any(|s| s.more) { " or more" } else { "" };
    let partitions: Vec<PartitionId> = seen.stale.iter().map(|s| s.partition).collect();
    let shown = format!(
        "{}{more} events of {} wait for longer than a minute, the oldest since {}",
        thousands(events as u64),
        some(&partitions),
        time::text(oldest)
    );
    let advice = "`riskfleet explain EVENT` says what one of them waits for; `riskfleet events list --status received` \
                  lists them; more workers drain a backlog";
    if reporting(&seen.status, seen.now).next().is_none() {
        return Finding::failed(check, shown, "start a worker (riskfleet-worker)");
    }
    Finding::warning(check, shown, advice)
}

fn outbox(seen: &FleetSeen) -> Vec<Finding> {
    if seen.standing.is_empty() {
        return vec![Finding::ok("fleet.outbox", "nothing stands for longer than a minute")];
    }
    seen.standing.iter().map(standing).collect()
}

fn standing(rows: &StandingRows) -> Finding {
    let (what, who) = match rows.kind {
        OutboxKind::Accept => (
            "accepted events that the broker has not confirmed",
            "an ingest, which publishes them again every few seconds,",
        ),
        OutboxKind::Outcome => (
            "decisions that downstream consumers may not have heard of",
            "a worker, which publishes them again every few seconds,",
        ),
    };
    Finding::failed(
        "fleet.outbox",
        format!(
            "{} rows with {} {what} stand, the oldest since {}",
            thousands(rows.rows),
            thousands(rows.events),
            time::text(rows.since)
        ),
        format!("see that {who} runs and reaches RabbitMQ: its log names the reason"),
    )
}

fn ledger(seen: &FleetSeen) -> Finding {
    let l = &seen.status.ledger;
    let shown = format!(
        "accepted {} = decided {} + dead {} + pending {}",
        thousands(l.accepted),
        thousands(l.decided),
        thousands(l.dead),
        thousands(l.pending)
    );
    match l.accepted - l.decided - l.dead - l.pending {
        0 => Finding::ok("fleet.ledger", shown),
        difference => Finding::failed(
            "fleet.ledger",
            format!("{shown}: a difference of {}", thousands(difference)),
            "run `riskfleet audit verify`, and keep the store as it is: rows were lost, or changed by hand",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::sample;
    use super::*;
    use crate::ports::checkup::StaleEvents;

    #[test]
    fn every_bad_state_is_found() {
        use Verdict::{Failed, Warning};
        let standing = |kind| StandingRows { kind, rows: 1, events: 50, since: time::from_millis(1) };
        let stale = StaleEvents { partition: PartitionId(0), events: 3, more: false, since: time::from_millis(1) };
        let cases: Vec<(&[(&str, Verdict)], FleetSeen)> = vec![
            (&[], sample::fleet(|_| {})),
            (&[("fleet.owners", Warning)], sample::fleet(|f| f.status.partitions[1].owner = None)),
            (
                &[("fleet.owners", Failed)],
                sample::fleet(|f| (f.status.partitions[1].owner, f.status.partitions[1].backlog) = (None, 1)),
            ),
            (&[("fleet.owners", Warning)], sample::fleet(|f| f.status.partitions[1].owner = Some(sample::worker(9)))),
            (&[("fleet.workers", Warning), ("fleet.owners", Warning)], sample::fleet(|f| f.status.workers.clear())),
            (
                &[
                    ("fleet.workers", Failed),
                    ("fleet.owners", Warning),
                    ("fleet.pending", Failed),
                    ("fleet.ledger", Failed),
                ],
                sample::fleet(|f| {
                    f.status.workers.clear();
                    f.status.ledger.pending = 3;
                    f.stale = vec![stale.clone()];
                }),
            ),
            (&[("fleet.pending", Warning)], sample::fleet(|f| f.stale = vec![stale.clone()])),
            (&[("fleet.outbox", Failed)], sample::fleet(|f| f.standing = vec![standing(OutboxKind::Accept)])),
            (&[("fleet.outbox", Failed)], sample::fleet(|f| f.standing = vec![standing(OutboxKind::Outcome)])),
            (&[("fleet.ledger", Failed)], sample::fleet(|f| f.status.ledger.accepted += 1)),
        ];
        for (want, seen) in cases {
            let got: Vec<(&str, Verdict)> =
                judge(&seen).into_iter().map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect();
            assert_eq!(got, want, "{:?}", judge(&seen));
        }
    }
}
