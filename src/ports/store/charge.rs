//! Owns what dispositions say of costs: what one adds to the roll-up, and what an event has cost. Never prices
//! anything: that was done when it was decided.

use super::{Disposition, EventRecord, NewDisposition};
use crate::domain::cost::{Charge, UNKNOWN_MODEL};

impl NewDisposition {
    /// Where a decision stands in the roll-up of costs: the model that its audit record names, and its charge.
    /// None for a dead letter.
    pub fn charge(&self) -> Option<(&str, Charge)> {
        let Disposition::Decided { charge, .. } = &self.disposition else { return None };
        Some((self.audit.versions.as_ref().map_or(UNKNOWN_MODEL, |versions| &versions.model), *charge))
    }
}

impl EventRecord {
    /// What its decision used and costs; nothing while there is none.
    pub fn charge(&self) -> Charge {
        match self.end.as_ref().map(|end| &end.disposition) {
            Some(Disposition::Decided { charge, .. }) => *charge,
            Some(Disposition::Dead { .. }) | None => Charge::default(),
        }
    }
}
