//! The seams of the system: what the roles need, said in use cases. Adapters implement them.
//!
//! Owns traits and the plain values that cross them. Never names a database, a broker or a lock
//! server. One verb of the store is one transaction.

pub mod approvals;
pub mod broker;
pub mod checkpoints;
pub mod checkup;
pub mod clock;
pub mod context;
pub mod costs;
pub mod intake;
pub mod keys;
pub mod leases;
pub mod rate;
pub mod registry;
pub mod retention;
pub mod store;
pub mod tenants;
pub mod vault;
pub mod versions;

pub use approvals::Approvals;
pub use broker::{Ack, Broker, BrokerError, Delivery, OutcomeMessage, PackMessage, Route, Subscription, Traffic};
pub use checkpoints::Checkpoints;
pub use clock::{Clock, Cpu, Entropy};
pub use context::{ContextError, ContextSource};
pub use costs::{Costs, Stops};
pub use intake::Intake;
pub use keys::Keys;
pub use leases::{LeaseError, LeaseTtls, Leases, Member};
pub use rate::{Pace, RateLimits, RateMeter};
pub use registry::Registry;
pub use retention::Retention;
pub use store::{EventStore, Lane, StoreError};
pub use tenants::Tenants;
pub use vault::{KeyWrap, Vault};
pub use versions::{ActiveVersions, Versions};
