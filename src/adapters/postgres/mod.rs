//! The store on Postgres: the truth of a fleet. Owns every SQL statement of it.
//!
//! Never names a role. A transaction is never put under a timeout or a `select!` from outside
//! (a cancelled `begin` poisons sqlx's pool): the server's own timeouts bound every wait.
//!
//! # Decisions
//! An accept is ONE statement and therefore its own transaction: key, event and outbox row are
//! written by one round trip. The hot statements join UNNEST arrays; a prepared statement's generic
//! plan takes such an array for ten rows and would choose nested loops, so hot connections switch
//! nested loops off and everything else reads by `= ANY`, bounded on both sides of the id range so
//! that the planner prunes time partitions.

mod accept;
mod commit;
mod connect;
mod fleet;
mod mark;
mod migrate;
mod outbox;
mod read;
mod store;

pub use migrate::migrate;
pub use store::PostgresStore;
