//! Owns who counts when partitions are shared: the members that stay. The sharing itself is
//! [`crate::domain::assign`], which the operator's `fleet plan` asks too.

use crate::domain::WorkerId;
use crate::domain::assign::{self, Candidate};
use crate::ports::Member;

/// The most partitions that a member may own; 0 for one that is leaving.
pub fn cap(members: &[Member], id: WorkerId, partitions: u16) -> usize {
    assign::cap(&staying(members), id, partitions)
}

/// The desired owner of every partition, by position; none when nobody stays.
pub fn desired(members: &[Member], partitions: u16) -> Vec<Option<WorkerId>> {
    assign::desired(&staying(members), partitions)
}

fn staying(members: &[Member]) -> Vec<Candidate> {
    members.iter().filter(|m| !m.draining).map(|m| Candidate { id: m.id, weight: m.weight }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_draining_worker_gets_nothing() {
        let member = |n, draining| Member {
            id: WorkerId(Uuid::from_u128(n)),
            version: "1".into(),
            weight: 1,
            draining,
            settling: false,
        };
        let m = [member(1, true), member(2, false), member(3, false)];
        assert!(desired(&m, 16).iter().all(|o| o.is_some() && *o != Some(m[0].id)));
        assert_eq!((cap(&m, m[0].id, 16), cap(&m, m[1].id, 16)), (0, 10));
    }
}
