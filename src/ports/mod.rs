//! The seams of the system: what the roles need, said in use cases. Adapters implement them.
//!
//! Owns traits and the plain values that cross them. Never names a database, a broker or a lock
//! server. One verb of the store is one transaction.

pub mod broker;
pub mod clock;
pub mod context;
pub mod intake;
pub mod leases;
pub mod store;

pub use broker::{Ack, Broker, BrokerError, Delivery, OutcomeMessage, PackMessage, Subscription};
pub use clock::{Clock, Entropy};
pub use context::{ContextError, ContextSource};
pub use intake::Intake;
pub use leases::{LeaseError, LeaseTtls, Leases, Member};
pub use store::{EventStore, Lane, StoreError};
