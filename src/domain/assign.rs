//! Owns the question "who should own which partition?": rendezvous hashing with bounded loads.
//! Pure: everybody who sees the same candidates finds the same answer, be it a worker that
//! rebalances or an operator who asks what would move.
//!
//! Highest random weight (Thaler & Ravishankar, 1998), weights after Schindelhauer & Schomaker
//! (−w / ln u), capped as in "Consistent Hashing with Bounded Loads" (Mirrokni et al., 2016).

use super::partition::stable_hash;
use super::{PartitionId, WorkerId};

/// How far above its fair share a worker's load may go.
const SLACK: f64 = 1.15;

/// A worker that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its boot id.
    pub id: WorkerId,
    /// Its share of the partitions, relative to the others', from 1.
    pub weight: u32,
}

/// The most partitions that a worker may own: ⌈1.15 · P · w / Σw⌉; 0 for one that is no candidate.
pub fn cap(candidates: &[Candidate], id: WorkerId, partitions: u16) -> usize {
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let own: f64 = candidates.iter().filter(|c| c.id == id).map(|c| f64::from(c.weight)).sum();
    if total <= 0.0 {
        return 0;
    }
    (SLACK * f64::from(partitions) * own / total).ceil() as usize
}

/// The desired owner of every partition, by position; none when there is no candidate.
pub fn desired(candidates: &[Candidate], partitions: u16) -> Vec<Option<WorkerId>> {
    let mut loads: Vec<usize> = vec![0; candidates.len()];
    let caps: Vec<usize> = candidates.iter().map(|c| cap(candidates, c.id, partitions)).collect();
    let mut owners = Vec::with_capacity(usize::from(partitions));
    for p in 0..partitions {
        let mut ranked: Vec<usize> = (0..candidates.len()).collect();
        ranked.sort_by(|a, b| {
            let (a, b) = (&candidates[*a], &candidates[*b]);
            // Ties cannot be told apart by score, so the id decides, the same way everywhere.
            score(b, PartitionId(p)).total_cmp(&score(a, PartitionId(p))).then(a.id.cmp(&b.id))
        });
        // The caps sum to at least P, so somebody always has room.
        let owner = ranked.into_iter().find(|n| loads[*n] < caps[*n]);
        if let Some(n) = owner {
            loads[n] += 1;
        }
        owners.push(owner.map(|n| candidates[n].id));
    }
    owners
}

fn score(candidate: &Candidate, partition: PartitionId) -> f64 {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(candidate.id.0.as_bytes());
    bytes[16..].copy_from_slice(&partition.0.to_be_bytes());
    // 53 bits into (0, 1]: never zero, whose logarithm is not finite.
    let uniform = ((stable_hash(&bytes) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -f64::from(candidate.weight) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn candidates(n: u128) -> Vec<Candidate> {
        (0..n)
            .map(|i| Candidate {
                id: WorkerId(Uuid::from_u128(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834_u128.wrapping_mul(i + 1))),
                weight: 1,
            })
            .collect()
    }

    fn moved(before: &[Option<WorkerId>], after: &[Option<WorkerId>]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn every_partition_has_an_owner_and_nobody_too_many() {
        for n in 1..40 {
            let candidates = candidates(n);
            let owners = desired(&candidates, 64);
            assert!(owners.iter().all(Option::is_some));
            for c in &candidates {
                let load = owners.iter().filter(|o| **o == Some(c.id)).count();
                assert!(load <= cap(&candidates, c.id, 64), "{n} workers: {load}");
            }
        }
        assert!(desired(&[], 4).iter().all(Option::is_none));
    }

    #[test]
    fn a_join_and_a_leave_move_little() {
        for n in 2..12 {
            let (few, more) = (desired(&candidates(n), 64), desired(&candidates(n + 1), 64));
            // The newcomer's share, and as much again for what the caps push around.
            let bound = 2 * 64 / n as usize + 2;
            assert!(moved(&few, &more) <= bound, "{n} workers: {} moved", moved(&few, &more));
        }
    }

    #[test]
    fn weight_counts() {
        let mut c = candidates(2);
        c[0].weight = 3;
        let heavy = desired(&c, 64).iter().filter(|o| **o == Some(c[0].id)).count();
        assert!((40..=56).contains(&heavy), "{heavy}");
        assert_eq!(cap(&c, WorkerId(Uuid::nil()), 64), 0, "no candidate");
    }
}
