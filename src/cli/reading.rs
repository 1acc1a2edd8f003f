//! Owns the reading of one event for a command: where it is, and whether it can still be read.

use super::CliError;
use super::absent::absent;
use crate::crypto::Keyring;
use crate::domain::{EventId, Scope};
use crate::ports::EventStore;
use crate::ports::store::EventRecord;

/// What reading commands stand on.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// What is stored, sealed.
    pub store: &'a dyn EventStore,
    /// What opens it; asked only where something sealed is to be shown.
    pub keyring: &'a Keyring,
}

impl Reading<'_> {
    /// An event's record in the clear.
    ///
    /// # Errors
    /// When it is not stored, expired, or erased.
    pub(super) async fn record(&self, event: EventId) -> Result<EventRecord, CliError> {
        let found = self.store.event(&Scope::Fleet, event).await?;
        let Some(record) = found else { return Err(absent(event, self.store).await) };
        self.keyring.reveal(record).await?.ok_or(CliError::Erased(event))
    }
}
