//! Owns how failures of dependencies are met (when to ask again, when not to ask at all, how much to
//! ask at once), and how tenants are kept out of each other's way. Knows of a dependency only the
//! port that it stands behind.

pub mod backoff;
pub mod breaker;
pub mod bucket;
pub mod bulkhead;
pub mod fair;
pub mod guarded;
#[cfg(test)]
mod hand_clock;
pub mod ranked;
pub mod rate;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerMeters, BreakerRules, Circuit};
pub use bucket::Buckets;
pub use bulkhead::{Bulkhead, BulkheadMeters, BulkheadRules, TenantBulkheads};
pub use fair::FairQueue;
pub use guarded::{Guard, GuardedBroker, GuardedContext, GuardedLeases, GuardedStops, GuardedStore, GuardedVersions};
pub use ranked::RankedQueue;
pub use rate::{LocalRate, SharedRate};
