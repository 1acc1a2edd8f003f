//! Owns the names on the RabbitMQ server: all begin with the fleet's namespace. Never declares
//! anything.

use crate::domain::partition::stable_hash;
use crate::domain::{PartitionId, TenantId};

/// The longest AMQP short string, which names and routing keys are (AMQP 0-9-1, section 4.2.5.3).
pub(super) const SHORT_MAX: usize = 255;

/// The names of one fleet.
#[derive(Debug, Clone)]
pub struct Names(String);

impl Names {
    /// The names under a namespace of at most 31 characters.
    pub fn new(namespace: &str) -> Self {
        Self(namespace.to_owned())
    }

    /// The direct exchange of packs.
    pub fn events(&self) -> String {
        format!("{}.events", self.0)
    }

    /// A partition's queue; its routing key is the partition alone.
    pub fn partition(&self, partition: PartitionId) -> String {
        format!("{}.events.{partition}", self.0)
    }

    /// The exchange that nothing is published to: it stands as long as the partition's queue is
    /// the one that a worker has consumed before.
    pub fn consumed(&self, partition: PartitionId) -> String {
        format!("{}.events.{partition}.consumed", self.0)
    }

    /// The topic exchange of outcomes.
    pub fn decisions(&self) -> String {
        format!("{}.decisions", self.0)
    }

    /// The inbox, exchange and queue.
    pub fn inbox(&self) -> String {
        format!("{}.inbox", self.0)
    }

    /// The queue of inbox messages that could not be taken.
    pub fn rejected(&self) -> String {
        format!("{}.inbox.rejected", self.0)
    }

    /// The reply queue of one process.
    pub fn reply(&self, process: uuid::Uuid) -> String {
        format!("{}.reply.{process}", self.0)
    }
}

/// The routing key of a tenant's outcomes: its topic word. Where the encoded dots make that longer
/// than AMQP takes, its beginning and a hash of the whole.
pub(super) fn outcome_key(tenant: &TenantId) -> String {
    let word = tenant.topic_word();
    if word.len() <= SHORT_MAX {
        return word;
    }
    // The word is ASCII: every byte is a boundary.
    format!("{}~{:016x}", &word[..230], stable_hash(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_of_dots_still_has_a_key() {
        let dots = TenantId::parse(&".".repeat(128)).expect("legal");
        assert!(outcome_key(&dots).len() <= SHORT_MAX);
        let plain = TenantId::parse("acme.x").expect("legal");
        assert_eq!(outcome_key(&plain), "acme%2Ex");
    }
}
