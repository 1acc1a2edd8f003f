//! Owns the one way from what is stored to what can be read. Every reader goes by here; what was erased
//! is said to be so, and is no error.

use bytes::Bytes;

use super::envelope::Place;
use super::keyring::{Keyring, Revealed};
use crate::domain::{EventId, TenantId};
use crate::ports::StoreError;
use crate::ports::store::{Disposition, EventRecord, EventSummary, StoredEvent};

/// The word for what can't be read any more.
pub const ERASED: &str = "erased";

fn broken(what: &str, id: EventId) -> StoreError {
    StoreError::Fault(format!("open the {what} {id}: it is not what was sealed, or its data key is not kept here"))
}

impl Keyring {
    /// A record with its texts in the clear; none when they are erased.
    ///
    /// # Errors
    /// When the vault is away; [`StoreError::Fault`] when a text does not open.
    pub async fn reveal(&self, mut record: EventRecord) -> Result<Option<EventRecord>, StoreError> {
        let (id, tenant) = (record.event.id, record.event.tenant.clone());
        let mut stored = vec![(Place::event(&tenant, id), &record.event.body)];
        if let Some(Disposition::Decided { decision, .. }) = record.end.as_ref().map(|end| &end.disposition) {
            stored.push((Place::decision(&tenant, id), decision));
        }
        let mut texts = Vec::with_capacity(2);
        for (revealed, what) in self.open(&stored).await?.into_iter().zip(["event", "decision"]) {
            match revealed {
                Revealed::Text(text, _) => texts.push(text),
                Revealed::Erased => return Ok(None),
                Revealed::Broken => return Err(broken(what, id)),
            }
        }
        let mut texts = texts.into_iter();
        if let Some(event) = texts.next() {
            record.event.body = event;
        }
        if let (Some(text), Some(end)) = (texts.next(), &mut record.end)
            && let Disposition::Decided { decision, .. } = &mut end.disposition
        {
            *decision = text;
        }
        Ok(Some(record))
    }

    /// Events in the clear; those that are erased, or do not open, are left out.
    ///
    /// # Errors
    /// When the vault is away.
    pub async fn reveal_events(&self, events: Vec<StoredEvent>) -> Result<Vec<StoredEvent>, StoreError> {
        let stored: Vec<_> = events.iter().map(|e| (Place::event(&e.tenant, e.id), &e.body)).collect();
        let opened = self.open(&stored).await?;
        let event = |(event, revealed): (StoredEvent, Revealed)| match revealed {
            Revealed::Text(body, _) => Some(StoredEvent { body, ..event }),
            Revealed::Erased | Revealed::Broken => None,
        };
        Ok(events.into_iter().zip(opened).filter_map(event).collect())
    }

    /// Lines of a list in the clear; the body of one that is erased, or does not open, is empty.
    ///
    /// # Errors
    /// When the vault is away.
    pub async fn reveal_list(&self, lines: Vec<EventSummary>) -> Result<Vec<EventSummary>, StoreError> {
        let stored: Vec<_> = lines.iter().map(|e| (Place::event(&e.tenant, e.id), &e.body)).collect();
        let opened = self.open(&stored).await?;
        let line = |(line, revealed): (EventSummary, Revealed)| match revealed {
            Revealed::Text(body, _) => EventSummary { body, ..line },
            Revealed::Erased | Revealed::Broken => EventSummary { body: Bytes::new(), ..line },
        };
        Ok(lines.into_iter().zip(opened).map(line).collect())
    }

    /// Decisions in the clear; those that are erased, or do not open, are left out.
    ///
    /// # Errors
    /// When the vault is away.
    pub async fn reveal_decisions(
        &self,
        decisions: Vec<(EventId, TenantId, Bytes)>,
    ) -> Result<Vec<(EventId, TenantId, Bytes)>, StoreError> {
        let stored: Vec<_> = decisions.iter().map(|(id, tenant, text)| (Place::decision(tenant, *id), text)).collect();
        let opened = self.open(&stored).await?;
        let mut clear = Vec::with_capacity(decisions.len());
        for ((id, tenant, _), revealed) in decisions.into_iter().zip(opened) {
            match revealed {
                Revealed::Text(text, _) => clear.push((id, tenant, text)),
                Revealed::Erased => {}
                Revealed::Broken => tracing::error!(event.id = %id, "a stored decision does not open"),
            }
        }
        Ok(clear)
    }
}
