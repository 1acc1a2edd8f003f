//! Fills the in-process context from the store at start: what happened in the last 24 h counts,
//! whatever was restarted meanwhile.

use crate::domain::context::{Observation, WINDOW_MS};
use crate::domain::time::to_millis;
use crate::domain::{Event, EventBody, EventId};
use crate::ports::store::StoredEvent;
use crate::ports::{ContextSource, EventStore, StoreError};

/// Events read at once.
const PAGE: u32 = 1_000;

/// Observes every event of the last 24 h. Gives how many there were.
pub(super) async fn fill(store: &dyn EventStore, context: &dyn ContextSource) -> Result<usize, StoreError> {
    let mut since = EventId::floor(to_millis(store.now().await?).saturating_sub(WINDOW_MS));
    let mut total = 0;
    loop {
        let page = store.events_since(since, PAGE).await?;
        let observations: Vec<Observation> = page.iter().filter_map(observation).collect();
        if !observations.is_empty()
            && let Err(e) = context.observe(&observations).await
        {
            tracing::warn!(error = %e, "failed to fill the context");
        }
        total += page.len();
        match page.last() {
            // The smallest id after the last one.
            Some(last) if page.len() == PAGE as usize => {
                since = EventId(uuid::Uuid::from_u128(last.id.0.as_u128() + 1));
            }
            _ => return Ok(total),
        }
    }
}

fn observation(stored: &StoredEvent) -> Option<Observation> {
    let body = EventBody::from_canonical(&stored.body).ok()?;
    let event = Event { id: stored.id, correlation_id: stored.correlation_id.clone(), body };
    event.observation()
}
