//! Owns the map from tenant to partition. Never changes between versions: a tenant's history
//! would fall to another partition.

use super::ids::{PartitionId, TenantId};

/// The partition of a tenant in a fleet of `partitions`: jump consistent hash (Lamping & Veach,
/// "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014) over [`stable_hash`].
pub fn partition_of(tenant: &TenantId, partitions: u16) -> PartitionId {
    PartitionId(jump(stable_hash(tenant.as_str().as_bytes()), partitions))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo), with the finalizer of MurmurHash3 (Appleby) so that short
/// texts spread over all bits. The same on every platform and in every version.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

fn jump(mut key: u64, buckets: u16) -> u16 {
    let (mut bucket, mut next) = (0_i64, 0_i64);
    while next < i64::from(buckets.max(1)) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let fraction = (1_u64 << 31) as f64 / (((key >> 33) + 1) as f64);
        next = ((bucket + 1) as f64 * fraction) as i64;
    }
    // `bucket` was below `buckets`, which is a u16.
    bucket as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::parse(&format!("tenant-{n}")).expect("legal")
    }

    #[test]
    fn the_map_is_frozen() {
        // Golden values: a change here moves every tenant of every deployment.
        // They were computed by an independent program from the papers' definitions.
        assert_eq!(stable_hash(b"acme"), 0x3a25b6656ba9cfc6);
        let got: Vec<u16> = (0..8).map(|n| partition_of(&tenant(n), 16).0).collect();
        assert_eq!(got, [6, 11, 3, 15, 13, 14, 6, 15]);
    }

    #[test]
    fn tenants_spread_evenly() {
        let mut load = [0_usize; 16];
        for n in 0..16_000 {
            load[partition_of(&tenant(n), 16).0 as usize] += 1;
        }
        assert!(load.iter().all(|l| (850..1150).contains(l)), "{load:?}");
    }

    #[test]
    fn growing_moves_only_to_the_new_partitions() {
        for n in 0..4_000 {
            let (old, new) = (partition_of(&tenant(n), 16), partition_of(&tenant(n), 20));
            assert!(old == new || new.0 >= 16);
        }
    }
}
