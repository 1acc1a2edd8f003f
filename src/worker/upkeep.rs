//! Owns what a worker does beside its partitions: the second look at outcomes, the mark, its
//! report, the ledger's gauges.

use metrics::{counter, gauge};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::finish::{outcome_messages, publish_all};
use crate::ports::StoreError;
use crate::ports::store::{OutboxKind, WorkerRow};
use crate::telemetry::names;

/// How long an outcome row may stand before somebody else publishes it; longer than a publication.
const HOLD: Duration = Duration::from_secs(10);
/// Outcome rows taken at once.
const ROWS: u32 = 16;
/// How often W is moved; a step folds more events than come in between.
const MARK_EVERY: Duration = Duration::from_secs(2);
/// How often the worker reports itself to the store.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// How often the ledger is read for the gauges.
const LEDGER_EVERY: Duration = Duration::from_secs(15);

/// Republishes outcomes that a crash or an absent broker left behind, until stopped.
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
    let rows = shared.parts.store.take_outbox(OutboxKind::Outcome, HOLD, ROWS).await?;
    for row in rows {
        let stored = shared.parts.store.decisions(&row.events).await?;
        let mut by_id: HashMap<_, _> = stored.into_iter().map(|(id, tenant, text)| (id, (tenant, text))).collect();
        let decided = row.events.iter().filter_map(|id| by_id.remove(id));
        let messages = outcome_messages(row.id, decided);
        counter!(names::OUTBOX_REPUBLISHED, "kind" => names::outbox::OUTCOME).increment(1);
        if !publish_all(&*shared.parts.broker, messages).await {
            return Ok(());
        }
        shared.parts.store.settle_outbox(&[row.id]).await?;
    }
    Ok(())
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

/// Reports this worker to the store for people to see, until stopped, and once more at the end.
pub(super) async fn report(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let ended = stop.is_cancelled();
        let member = shared.member();
        let row = WorkerRow {
            id: member.id,
            version: member.version,
            partitions: shared.ownership.partitions(),
            draining: member.draining,
            // Set by the store's clock.
            seen_at: shared.parts.clock.now(),
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
        if stop.run_until_cancelled(tokio::time::sleep(LEDGER_EVERY)).await.is_none() {
            return;
        }
    }
}
