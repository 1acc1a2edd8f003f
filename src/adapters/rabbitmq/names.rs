//! Owns the names on the RabbitMQ server: all begin with the fleet's namespace. Never declares
//! anything.

use crate::domain::TenantId;
use crate::domain::partition::stable_hash;
use crate::ports::Route;

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

    /// A queue of packs; its routing key is the route alone.
    pub fn packs(&self, route: Route) -> String {
        format!("{}.events.{route}", self.0)
    }

    /// The exchange that nothing is published to: it stands as long as the queue is the one that a
    /// worker has consumed before.
    pub fn consumed(&self, route: Route) -> String {
        format!("{}.events.{route}.consumed", self.0)
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
    use crate::domain::PartitionId;

    #[test]
    fn a_partition_has_two_queues() {
        let names = Names::new("ns");
        let (normal, bulk) = (Route::normal(PartitionId(7)), Route::bulk(PartitionId(7)));
        assert_eq!((names.packs(normal), names.packs(bulk)), ("ns.events.p007".into(), "ns.events.p007.bulk".into()));
        assert_eq!(names.consumed(bulk), "ns.events.p007.bulk.consumed");
    }

    #[test]
    fn a_tenant_of_dots_still_has_a_key() {
        let dots = TenantId::parse(&".".repeat(128)).expect("legal");
        assert!(outcome_key(&dots).len() <= SHORT_MAX);
        let plain = TenantId::parse("acme.x").expect("legal");
        assert_eq!(outcome_key(&plain), "acme%2Ex");
    }
}
