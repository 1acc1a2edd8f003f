//! Owns what a worker does beside its partitions: the second look at outcomes, the mark, its
//! report, the ledger's gauges.

use metrics::{counter, gauge};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::finish::{outcome_messages, publish_all};
use crate::domain::Decision;
use crate::mutants::{self, Mutant};
use crate::ports::StoreError;
use crate::ports::store::{OutboxKind, OutboxRow, WorkerRow};
use crate::telemetry::names;

/// How long an outcome row may stand before somebody else publishes it; longer than a publication.
const HOLD: Duration = Duration::from_secs(10);
/// Outcome rows taken at once.
const ROWS: u32 = 16;
/// How often rows are taken in one turn; verdicts, which are a row each, come no faster.
const TURNS_MAX: u32 = 16;
/// How often W is moved; a step folds more events than come in between.
const MARK_EVERY: Duration = Duration::from_secs(2);
/// How often the worker looks whether a repair was asked for.
const REPAIR_EVERY: Duration = Duration::from_secs(2);
/// How often the worker reports itself to the store.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// How often the ledger is read for the gauges.
const LEDGER_EVERY: Duration = Duration::from_secs(15);

/// Publishes the outcomes that a crash or an absent broker left behind, and those that people have
/// given, until stopped.
pub(super) async fn outcomes(shared: Arc<Shared>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
        if shared.parts.broker.ping().await.is_err() {
            continue;
        }
        if let Err(e) = sweep(&shared).await {
            tracing::warn!(error = %e, "failed to look after outcomes");
        }
    }
}

async fn sweep(shared: &Shared) -> Result<(), StoreError> {
    if mutants::active(Mutant::OutcomeNotRepublished) {
        return Ok(());
    }
    for _ in 0..TURNS_MAX {
        let rows = shared.parts.store.take_outbox(OutboxKind::Outcome, HOLD, ROWS).await?;
        let last = rows.len() < ROWS as usize;
        for row in rows {
            if !publish_again(shared, row).await? {
                return Ok(());
            }
        }
        if last {
            break;
        }
    }
    Ok(())
}

/// Publishes what a row names: a decision that a person has spoken on with the verdict in it. False
/// when the broker has not confirmed it.
async fn publish_again(shared: &Shared, row: OutboxRow) -> Result<bool, StoreError> {
    let store = &shared.parts.store;
    let verdicts: HashMap<_, _> = store.verdicts(&row.events).await?.into_iter().collect();
    // What is erased is told to nobody any more.
    let stored = shared.parts.keyring.reveal_decisions(store.decisions(&row.events).await?).await?;
    let mut by_id: HashMap<_, _> = stored.into_iter().map(|(id, tenant, text)| (id, (tenant, text))).collect();
    let mut told = Vec::with_capacity(row.events.len());
    for id in &row.events {
        let Some((tenant, text)) = by_id.remove(id) else { continue };
        match verdicts.get(id).map(|verdict| Decision::from_canonical(&text).map(|d| d.with_verdict(*verdict))) {
            None => told.push((tenant, text)),
            Some(Ok(with_verdict)) => told.push((tenant, with_verdict.into())),
            Some(Err(error)) => {
                // The row stands, and is seen to stand.
                tracing::error!(event.id = %id, %error, "failed to read a decision whose verdict is to be published");
                return Ok(true);
            }
        }
    }
    let kind = if verdicts.is_empty() { names::outbox::OUTCOME } else { names::outbox::VERDICT };
    counter!(names::OUTBOX_REPUBLISHED, "kind" => kind).increment(1);
    if !publish_all(&*shared.parts.broker, outcome_messages(row.id, told.into_iter())).await {
        return Ok(false);
    }
    store.settle_outbox(&[row.id]).await?;
    Ok(true)
}

/// Moves W on, or reads where another worker has moved it, until stopped.
pub(super) async fn mark(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        match shared.parts.store.advance_mark().await {
            Ok(mark) => shared.set_mark(mark),
            Err(e) => tracing::warn!(error = %e, "failed to move the mark"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(MARK_EVERY)).await.is_none() {
            return;
        }
    }
}

/// Refills what this worker owns whenever an operator has asked for it, until stopped.
pub(super) async fn repairs(shared: Arc<Shared>, stop: CancellationToken) {
    let mut seen = None;
    loop {
        match shared.parts.store.repairs().await {
            Ok(asked) => {
                if seen.is_some_and(|seen| seen != asked) {
                    shared.ownership.refills().iter().for_each(|refill| refill.start("an operator asked for it"));
                }
                seen = Some(asked);
            }
            Err(e) => tracing::debug!(error = %e, "failed to look for a repair"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(REPAIR_EVERY)).await.is_none() {
            return;
        }
    }
}

/// Reports this worker to the store for people to see, until stopped, and once more at the end.
pub(super) async fn report(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let ended = stop.is_cancelled();
        let member = shared.member();
        let clock = &shared.parts.clock;
        let row = WorkerRow {
            id: member.id,
            version: member.version,
            partitions: shared.ownership.partitions(),
            draining: member.draining,
            // Set by the store's clock.
            seen_at: clock.now(),
            load: Some(shared.load.report(clock.elapsed(), clock.cpu())),
        };
        if let Err(e) = shared.parts.store.report_worker(&row).await {
            tracing::debug!(error = %e, "failed to report this worker");
        }
        if ended {
            return;
        }
        stop.run_until_cancelled(tokio::time::sleep(REPORT_EVERY)).await;
    }
}

/// Shows what waits, and since when, by the store's clock.
async fn backlog(shared: &Shared) -> Result<(), StoreError> {
    let store = &shared.parts.store;
    let (waits, now) = (store.backlog().await?, store.now().await?);
    let age = waits.oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default();
    gauge!(names::POSTPONED_EVENTS).set(waits.postponed as f64);
    gauge!(names::BACKLOG_AGE_SECONDS).set(age.as_secs_f64());
    Ok(())
}

/// Reads the ledger for the gauges, until stopped.
pub(super) async fn ledger(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        match shared.parts.store.ledger().await {
            Ok(l) => {
                gauge!(names::BACKLOG_EVENTS).set(l.pending as f64);
                gauge!(names::LEDGER_DIFFERENCE).set((l.accepted - l.decided - l.dead - l.pending) as f64);
            }
            Err(e) => tracing::debug!(error = %e, "failed to read the ledger"),
        }
        if let Err(e) = backlog(&shared).await {
            tracing::debug!(error = %e, "failed to read the backlog");
        }
        if stop.run_until_cancelled(tokio::time::sleep(LEDGER_EVERY)).await.is_none() {
            return;
        }
    }
}
