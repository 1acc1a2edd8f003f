//! Owns the second look at the outbox: rows that a crash or an absent broker left behind belong to
//! whoever finds them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::publish::Publisher;
use crate::ports::store::{OutboxKind, OutboxRow, StoredEvent};
use crate::ports::{EventStore, StoreError};

/// How long a row may stand before somebody else publishes it; longer than a publication takes.
const HOLD: Duration = Duration::from_secs(10);

/// Rows taken at once.
const ROWS: u32 = 16;

/// Looks every second until stopped.
pub(super) async fn run(store: Arc<dyn EventStore>, publisher: Arc<Publisher>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
        // While the broker is away the rows are left alone: taking them would only make them late.
        if !publisher.broker_answers().await {
            continue;
        }
        if let Err(e) = sweep(&*store, &publisher, &stop).await {
            tracing::warn!(error = %e, "failed to look after the outbox");
        }
    }
}

async fn sweep(store: &dyn EventStore, publisher: &Publisher, stop: &CancellationToken) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let rows = store.take_outbox(OutboxKind::Accept, HOLD, ROWS).await?;
        for row in &rows {
            let stored = in_order(row, store.events(&row.events).await?);
            if !publisher.republish(row, &stored).await {
                return Ok(());
            }
        }
        if rows.len() < ROWS as usize {
            return Ok(());
        }
    }
    Ok(())
}

/// The events in the order of the row: the same packs with the same message ids come of it.
fn in_order(row: &OutboxRow, stored: Vec<StoredEvent>) -> Vec<StoredEvent> {
    let mut by_id: HashMap<_, _> = stored.into_iter().map(|e| (e.id, e)).collect();
    row.events.iter().filter_map(|id| by_id.remove(id)).collect()
}
