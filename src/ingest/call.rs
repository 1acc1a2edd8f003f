//! Owns the splitting of a call by tenant, and the putting together of its answers. Pure.

use std::collections::HashMap;

use crate::domain::TenantId;
use crate::ports::intake::{Candidate, Taken};

/// The candidates of one tenant in a call.
pub(super) struct Share {
    pub(super) tenant: TenantId,
    pub(super) candidates: Vec<Candidate>,
}

/// A call, by tenant, in the order in which its tenants first appear.
pub(super) struct Call {
    pub(super) shares: Vec<Share>,
    /// For each candidate, share after share, where it stood in the call.
    places: Vec<usize>,
}

impl Call {
    pub(super) fn split(candidates: Vec<Candidate>) -> Self {
        let mut shares: Vec<Share> = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut known: HashMap<TenantId, usize> = HashMap::new();
        let mut at = 0;
        for (place, candidate) in candidates.into_iter().enumerate() {
            let tenant = &candidate.body.tenant_id;
            // Nearly every call is one tenant's.
            if shares.get(at).is_none_or(|share| share.tenant != *tenant) {
                at = *known.entry(tenant.clone()).or_insert(shares.len());
            }
            if at == shares.len() {
                shares.push(Share { tenant: tenant.clone(), candidates: Vec::new() });
                places.push(Vec::new());
            }
            shares[at].candidates.push(candidate);
            places[at].push(place);
        }
        Self { shares, places: places.into_iter().flatten().collect() }
    }

    /// How many events of whom.
    pub(super) fn wanted(&self) -> Vec<(TenantId, u32)> {
        let events = |share: &Share| u32::try_from(share.candidates.len()).unwrap_or(u32::MAX);
        self.shares.iter().map(|share| (share.tenant.clone(), events(share))).collect()
    }

    /// Gives the shares, and what puts answers in the order of the call.
    pub(super) fn apart(self) -> (Vec<Share>, Order) {
        (self.shares, Order(self.places))
    }
}

/// The order of a call.
pub(super) struct Order(Vec<usize>);

impl Order {
    /// Answers that came share after share, in the order of the call.
    pub(super) fn restore(&self, answers: Vec<Taken>) -> Vec<Taken> {
        let mut placed: Vec<(usize, Taken)> = self.0.iter().copied().zip(answers).collect();
        // Sorted already where the call was one tenant's: one comparison each.
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, taken)| taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::parse::{self, Given};
    use crate::domain::{CorrelationId, EventId, IdempotencyKey};

    fn candidate(tenant: &str, n: usize) -> Candidate {
        let text = format!(r#"{{"kind":"risk","version":"1","tenant_id":"{tenant}"}}"#);
        Candidate {
            key: IdempotencyKey::parse(&n.to_string()).expect("legal"),
            correlation_id: CorrelationId::parse("c").expect("legal"),
            traceparent: None,
            body: parse::event(text.as_bytes(), Given::default()).expect("valid").body,
            wait: false,
        }
    }

    #[test]
    fn a_mixed_call_is_split_by_tenant_and_its_answers_come_in_its_order() {
        let tenants = ["a", "b", "a", "c", "b", "a"];
        let call = Call::split(tenants.iter().enumerate().map(|(n, t)| candidate(t, n)).collect());
        let wanted: Vec<(String, u32)> = call.wanted().into_iter().map(|(t, n)| (t.to_string(), n)).collect();
        assert_eq!(wanted, [("a".into(), 3), ("b".into(), 2), ("c".into(), 1)]);
        let (shares, order) = call.apart();
        let number = |c: &Candidate| c.key.as_str().parse::<u64>().expect("a number");
        let answers: Vec<Taken> = shares
            .iter()
            .flat_map(|share| share.candidates.iter().map(|c| Taken::Conflict(EventId::mint(number(c), [0; 10]))))
            .collect();
        let restored = order.restore(answers);
        let want: Vec<Taken> = (0..6).map(|n| Taken::Conflict(EventId::mint(n, [0; 10]))).collect();
        assert_eq!(restored, want);
    }
}
