//! Owns the opening of what is to be decided: a batch's keys in one round trip, and what becomes of
//! events that do not open.
//!
//! # Decisions
//! An event whose key was destroyed while it waited ends as a dead letter that says so, like any other
//! that can't be decided: the ledger stays balanced, and nobody waits for it.

use std::sync::Arc;

use super::decide::{Ready, read};
use super::desk::{Desk, Prepared};
use crate::crypto::reveal::ERASED;
use crate::crypto::{DataKey, Key, Place, Revealed};
use crate::domain::context::Observation;
use crate::domain::{Event, Failure};
use crate::ports::StoreError;
use crate::ports::store::StoredEvent;

/// Of an event whose envelope does not open.
const SEALED: &str = "the stored event does not open: it was changed, or its data key is not kept";

/// What does not open does not get better by another try.
enum Shut {
    Erased,
    /// Its envelope is broken, or of a key that is not kept.
    Sealed,
    Unreadable(String),
}

impl Desk {
    /// Opens events. What does not open is buried.
    ///
    /// # Errors
    /// When the vault is away.
    pub(super) async fn open(
        &self,
        events: Vec<StoredEvent>,
        prepared: &mut Prepared,
    ) -> Result<Vec<Ready>, StoreError> {
        let stored: Vec<_> = events.iter().map(|e| (Place::event(&e.tenant, e.id), &e.body)).collect();
        let revealed = self.shared.parts.keyring.open(&stored).await?;
        let (mut ready, mut in_the_clear) = (Vec::with_capacity(events.len()), Vec::new());
        for (stored, revealed) in events.into_iter().zip(revealed) {
            match opened(&stored, revealed) {
                Ok((event, Some(key))) => ready.push(Ready { event, stored, key }),
                Ok((event, None)) => in_the_clear.push((event, stored)),
                Err(shut) => self.shut(&stored, shut, prepared),
            }
        }
        self.find_keys(in_the_clear, &mut ready, prepared).await?;
        Ok(ready)
    }

    /// Events that were stored before texts were sealed: their decisions are.
    async fn find_keys(
        &self,
        events: Vec<(Event, StoredEvent)>,
        ready: &mut Vec<Ready>,
        prepared: &mut Prepared,
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let owners: Vec<_> = events.iter().map(|(e, _)| (&e.body.tenant_id, e.body.subject.as_deref())).collect();
        let keys = self.shared.parts.keyring.keys_for(&owners).await?;
        for ((event, stored), key) in events.into_iter().zip(keys) {
            match key {
                Key::Live(key) => ready.push(Ready { event, stored, key }),
                Key::Erased => self.shut(&stored, Shut::Erased, prepared),
            }
        }
        Ok(())
    }

    fn shut(&self, stored: &StoredEvent, shut: Shut, prepared: &mut Prepared) {
        let (failure, why) = match shut {
            Shut::Erased => (Failure::Governance, format!("{ERASED}: the key of its subject was destroyed")),
            Shut::Sealed => (Failure::Encryption, SEALED.to_owned()),
            Shut::Unreadable(why) => (Failure::Unexpected, why),
        };
        prepared.dispositions.push(self.bury(stored, failure.class(), why, 1));
    }
}

fn opened(stored: &StoredEvent, revealed: Revealed) -> Result<(Event, Option<Arc<DataKey>>), Shut> {
    match revealed {
        Revealed::Text(text, key) => Ok((read(stored, &text).map_err(Shut::Unreadable)?, key)),
        Revealed::Erased => Err(Shut::Erased),
        Revealed::Broken => Err(Shut::Sealed),
    }
}

impl Ready {
    /// The event as the context store counts it: under its subject's tag, never its name.
    pub(super) fn observation(&self) -> Option<Observation> {
        Some(Observation { subject: self.key.tag.to_string(), ..self.event.observation()? })
    }
}
