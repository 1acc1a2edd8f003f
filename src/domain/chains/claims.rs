//! Owns what signed texts say of the chains' ends: by them a chain that was cut off or written anew
//! is found. Never checks a signature.

use std::collections::HashMap;
use std::fmt;

use super::ChainId;
use crate::domain::audit::Hash;
use crate::domain::checkpoint::NotedHead;

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimant {
    /// A checkpoint beside the chains.
    Checkpoint(i64),
    /// A checkpoint out of a file that was kept elsewhere.
    Outside(i64),
    /// The manifest of the export.
    Manifest,
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(number) => write!(f, "checkpoint {number}"),
            Self::Outside(number) => write!(f, "checkpoint {number} of the anchor file"),
            Self::Manifest => f.write_str("the manifest"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    seq: i64,
    hash: Hash,
    by: Claimant,
}

/// Ends of chains that were signed. About 64 bytes each.
#[derive(Debug, Default)]
pub struct Claims {
    of: HashMap<ChainId, Vec<Claim>>,
    count: usize,
}

impl Claims {
    /// Adds one.
    pub fn add(&mut self, head: &NotedHead, by: Claimant) {
        let claims = self.of.entry((head.tenant_id.clone(), head.stream)).or_default();
        let claim = Claim { seq: head.seq, hash: head.hash, by };
        // Checkpoints come in their order: nearly always the end.
        let at = claims.partition_point(|c| c.seq <= claim.seq);
        if at > 0 && (claims[at - 1].seq, claims[at - 1].hash) == (claim.seq, claim.hash) {
            return;
        }
        claims.insert(at, claim);
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whoever claims another hash of this record.
    pub(super) fn against(&self, id: &ChainId, seq: i64, hash: &Hash) -> Option<Claimant> {
        if self.count == 0 {
            return None;
        }
        let claims = self.of.get(id)?;
        let from = claims.partition_point(|c| c.seq < seq);
        let other = claims[from..].iter().take_while(|c| c.seq == seq).find(|c| c.hash != *hash)?;
        Some(other.by)
    }

    /// The furthest claim of each chain that ends before it.
    pub(super) fn beyond(&self, end: impl Fn(&ChainId) -> i64) -> Vec<(ChainId, i64, Claimant)> {
        let last = |(id, claims): (&ChainId, &Vec<Claim>)| {
            let last = claims.last().filter(|c| c.seq > end(id))?;
            Some((id.clone(), last.seq, last.by))
        };
        self.of.iter().filter_map(last).collect()
    }
}
