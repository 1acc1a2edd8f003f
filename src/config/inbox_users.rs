//! Owns the setting that gives the broker's users their tenants.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

use crate::domain::TenantId;

/// Whose messages a user of the broker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxUsers(BTreeMap<String, TenantId>);

/// What the setting must look like.
pub(super) const EXPECTED: &str = "user=tenant, several joined by commas, each user once (shop=acme,bank=globex)";

impl InboxUsers {
    /// Reads `user=tenant,user2=tenant2`.
    ///
    /// # Errors
    /// What was expected, when the text is none, names a user twice, or a tenant that cannot be.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let mut users = BTreeMap::new();
        for pair in raw.split(',') {
            // A user's name may hold a '=', a tenant's does not.
            let (user, tenant) = pair.trim().rsplit_once('=').ok_or(EXPECTED)?;
            let tenant = TenantId::claimed(tenant.trim()).map_err(|_| EXPECTED)?;
            if user.trim().is_empty() || users.insert(user.trim().to_owned(), tenant).is_some() {
                return Err(EXPECTED);
            }
        }
        Ok(Self(users))
    }

    /// The tenant of a user.
    pub fn tenant(&self, user: &str) -> Option<&TenantId> {
        self.0.get(user)
    }
}

impl<'de> Deserialize<'de> for InboxUsers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_one_tenant_that_can_be() {
        let users = InboxUsers::parse("shop=acme, a=b=globex").expect("two");
        assert_eq!(users.tenant("shop").map(TenantId::as_str), Some("acme"));
        assert_eq!(users.tenant("a=b").map(TenantId::as_str), Some("globex"));
        assert_eq!(users.tenant("acme"), None);
        for bad in ["", "shop", "shop=", "=acme", "shop=a b", "shop=acme,shop=globex", "shop=_platform", "shop=acme,"] {
            assert!(InboxUsers::parse(bad).is_err(), "{bad}");
        }
    }
}
