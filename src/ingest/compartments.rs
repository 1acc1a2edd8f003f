//! Owns how many calls of one tenant are under way at once: a tenant that asks for more waits in its
//! own queue, and is told to come again when that is full. Never makes another tenant wait.

use metrics::{counter, gauge};

use super::room::RETRY_AFTER;
use crate::domain::TenantId;
use crate::ports::intake::IntakeError;
use crate::resilience::bulkhead::{BulkheadMeters, BulkheadRules, TenantBulkheads, TenantPlace, TenantRefusal};
use crate::telemetry::names::{self, dependency};

/// A compartment a tenant.
pub(super) struct Compartments(TenantBulkheads);

impl Compartments {
    pub(super) fn new(rules: BulkheadRules) -> Self {
        let meters = BulkheadMeters {
            in_use: gauge!(names::BULKHEAD_IN_USE, "dependency" => dependency::TENANTS),
            queued: gauge!(names::BULKHEAD_QUEUED, "dependency" => dependency::TENANTS),
            refused: counter!(names::BULKHEAD_REFUSED, "dependency" => dependency::TENANTS),
        };
        Self(TenantBulkheads::new(rules, meters))
    }

    /// A place in the compartment of each tenant of a call, in one order for all calls, so that two
    /// calls never wait for each other.
    pub(super) async fn enter(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<TenantPlace>, IntakeError> {
        let mut tenants: Vec<&TenantId> = wanted.iter().map(|(tenant, _)| tenant).collect();
        tenants.sort_unstable();
        let mut places = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            places.push(self.0.enter(tenant).await.map_err(|refusal| match refusal {
                TenantRefusal::Full(_) => IntakeError::TenantFull { tenant: tenant.clone(), retry_after: RETRY_AFTER },
                TenantRefusal::Tenants(_) => IntakeError::Full(RETRY_AFTER),
            })?);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_waits_for_itself_only_and_is_refused_when_too_many_wait() {
        let compartments = Compartments::new(BulkheadRules { concurrent: 1, queued: 1 });
        let of = |name: &str| [(TenantId::parse(name).expect("legal"), 1)];
        let (flood, calm) = (of("flood"), of("calm"));
        let first = compartments.enter(&flood).await.expect("empty");
        let second = compartments.enter(&flood);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "it waits for the first");
        let third = compartments.enter(&flood).await.err();
        assert!(matches!(third, Some(IntakeError::TenantFull { tenant, .. }) if tenant.as_str() == "flood"));
        assert!(compartments.enter(&calm).await.is_ok(), "the other has its own");
        drop(first);
        assert!(second.await.is_ok(), "its turn has come");
    }
}
