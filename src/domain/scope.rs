//! Owns how far a question reaches: one tenant, or all of them. Never decides who may ask; it only
//! carries that answer down to the store, which holds it against every row.

use super::TenantId;

/// Whose rows a question may see and change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One tenant's: what everybody asks who has come in by a credential.
    Tenant(TenantId),
    /// Every tenant's: what the fleet asks for its own work, and the operator at its machine.
    Fleet,
}

impl Scope {
    /// The scope of a filter by tenant: without one it is the fleet's.
    pub fn of(tenant: Option<&TenantId>) -> Self {
        tenant.map_or(Self::Fleet, |tenant| Self::Tenant(tenant.clone()))
    }

    /// The one tenant; none when it is every tenant's.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Fleet => None,
        }
    }

    /// Whether something of `tenant` lies in it.
    pub fn covers(&self, tenant: &TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_covered_by_its_own_scope_and_by_the_fleets() {
        let [acme, beta] = ["acme", "beta"].map(|raw| TenantId::parse(raw).expect("a tenant"));
        assert!(Scope::Tenant(acme.clone()).covers(&acme) && !Scope::Tenant(acme.clone()).covers(&beta));
        assert!(Scope::Fleet.covers(&acme) && Scope::Fleet.covers(&beta));
        assert_eq!((Scope::of(None), Scope::of(Some(&acme))), (Scope::Fleet, Scope::Tenant(acme)));
    }
}
