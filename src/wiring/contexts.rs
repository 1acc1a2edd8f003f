//! Fills the in-process context from the store at start: what happened in the last 24 h counts,
//! whatever was restarted meanwhile.

use crate::crypto::{Key, Keyring};
use crate::domain::context::{Observation, WINDOW_MS};
use crate::domain::time::to_millis;
use crate::domain::{Event, EventBody, EventId};
use crate::ports::store::StoredEvent;
use crate::ports::{ContextSource, EventStore, StoreError};

/// Events read at once.
const PAGE: u32 = 1_000;

/// Observes every event of the last 24 h. Gives how many there were.
pub(super) async fn fill(
    (store, keyring): (&dyn EventStore, &Keyring),
    context: &dyn ContextSource,
) -> Result<usize, StoreError> {
    let mut since = EventId::floor(to_millis(store.now().await?).saturating_sub(WINDOW_MS));
    let mut total = 0;
    loop {
        let page = store.events_since(since, PAGE).await?;
        let observations = observations(&page, keyring).await?;
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

/// What is counted of a page, each subject under its tag; what is erased counts no more.
async fn observations(page: &[StoredEvent], keyring: &Keyring) -> Result<Vec<Observation>, StoreError> {
    let mut events = Vec::new();
    for stored in keyring.reveal_events(page.to_vec()).await? {
        let Ok(body) = EventBody::from_canonical(&stored.body) else { continue };
        let event = Event { id: stored.id, correlation_id: stored.correlation_id, body };
        events.extend(event.observation());
    }
    let owners: Vec<_> = events.iter().map(|seen| (&seen.tenant, Some(seen.subject.as_str()))).collect();
    let keys = keyring.keys_for(&owners).await?;
    let tagged = |(seen, key): (Observation, Key)| match key {
        Key::Live(key) => Some(Observation { subject: key.tag.to_string(), ..seen }),
        Key::Erased => None,
    };
    Ok(events.into_iter().zip(keys).filter_map(tagged).collect())
}
