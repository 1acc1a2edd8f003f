//! Owns the question "who should own which partition?": rendezvous hashing with bounded loads.
//! Pure: every worker that sees the same members finds the same answer.
//!
//! Highest random weight (Thaler & Ravishankar, 1998), weights after Schindelhauer & Schomaker
//! (−w / ln u), capped as in "Consistent Hashing with Bounded Loads" (Mirrokni et al., 2016).

use crate::domain::partition::stable_hash;
use crate::domain::{PartitionId, WorkerId};
use crate::ports::Member;

/// How far above its fair share a worker's load may go.
const SLACK: f64 = 1.15;

/// The most partitions that a worker may own: ⌈1.15 · P · w / Σw⌉ over the members that stay.
pub fn cap(members: &[Member], id: WorkerId, partitions: u16) -> usize {
    let staying = members.iter().filter(|m| !m.draining);
    let total: f64 = staying.clone().map(|m| f64::from(m.weight)).sum();
    let own: f64 = staying.filter(|m| m.id == id).map(|m| f64::from(m.weight)).sum();
    if total <= 0.0 {
        return 0;
    }
    (SLACK * f64::from(partitions) * own / total).ceil() as usize
}

/// The desired owner of every partition, by position; none when nobody stays.
pub fn desired(members: &[Member], partitions: u16) -> Vec<Option<WorkerId>> {
    let staying: Vec<&Member> = members.iter().filter(|m| !m.draining).collect();
    let mut loads: Vec<usize> = vec![0; staying.len()];
    let caps: Vec<usize> = staying.iter().map(|m| cap(members, m.id, partitions)).collect();
    let mut owners = Vec::with_capacity(usize::from(partitions));
    for p in 0..partitions {
        let mut ranked: Vec<usize> = (0..staying.len()).collect();
        ranked.sort_by(|a, b| {
            let (a, b) = (staying[*a], staying[*b]);
            // Ties cannot be told apart by score, so the id decides, the same way everywhere.
            score(b, PartitionId(p)).total_cmp(&score(a, PartitionId(p))).then(a.id.cmp(&b.id))
        });
        // The caps sum to at least P, so somebody always has room.
        let owner = ranked.into_iter().find(|n| loads[*n] < caps[*n]);
        if let Some(n) = owner {
            loads[n] += 1;
        }
        owners.push(owner.map(|n| staying[n].id));
    }
    owners
}

fn score(member: &Member, partition: PartitionId) -> f64 {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(member.id.0.as_bytes());
    bytes[16..].copy_from_slice(&partition.0.to_be_bytes());
    // 53 bits into (0, 1]: never zero, whose logarithm is not finite.
    let uniform = ((stable_hash(&bytes) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -f64::from(member.weight) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn members(n: u128) -> Vec<Member> {
        (0..n)
            .map(|i| Member {
                id: WorkerId(Uuid::from_u128(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834_u128.wrapping_mul(i + 1))),
                version: "1".into(),
                weight: 1,
                draining: false,
            })
            .collect()
    }

    fn moved(before: &[Option<WorkerId>], after: &[Option<WorkerId>]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn every_partition_has_an_owner_and_nobody_too_many() {
        for n in 1..40 {
            let members = members(n);
            let owners = desired(&members, 64);
            assert!(owners.iter().all(Option::is_some));
            for m in &members {
                let load = owners.iter().filter(|o| **o == Some(m.id)).count();
                assert!(load <= cap(&members, m.id, 64), "{n} workers: {load}");
            }
        }
        assert!(desired(&[], 4).iter().all(Option::is_none));
    }

    #[test]
    fn a_join_and_a_leave_move_little() {
        for n in 2..12 {
            let (few, more) = (desired(&members(n), 64), desired(&members(n + 1), 64));
            // The newcomer's share, and as much again for what the caps push around.
            let bound = 2 * 64 / n as usize + 2;
            assert!(moved(&few, &more) <= bound, "{n} workers: {} moved", moved(&few, &more));
        }
    }

    #[test]
    fn a_draining_worker_gets_nothing_and_weight_counts() {
        let mut m = members(3);
        m[0].draining = true;
        assert!(desired(&m, 16).iter().all(|o| *o != Some(m[0].id)));
        assert_eq!(cap(&m, m[0].id, 16), 0);
        m[1].weight = 3;
        let heavy = desired(&m, 64).iter().filter(|o| **o == Some(m[1].id)).count();
        assert!((40..=56).contains(&heavy), "{heavy}");
    }
}
