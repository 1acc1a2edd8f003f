//! Owns the words for an event that is not there: never stored, or gone by retention.

use super::CliError;
use crate::domain::EventId;
use crate::domain::retention::Day;
use crate::ports::EventStore;

/// Why the event is not there.
pub(super) async fn absent(event: EventId, store: &dyn EventStore) -> CliError {
    match store.expired_day(Day::of(event)).await {
        Ok(Some(expired)) => CliError::Expired { event, day: expired.day, at: expired.at },
        Ok(None) => CliError::NotStored(event),
        Err(e) => e.into(),
    }
}
