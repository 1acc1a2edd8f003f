//! The store on Postgres: the truth of a fleet. Owns every SQL statement of it.
//!
//! Never names one of the fleet's programs. A transaction is never put under a timeout or a `select!`
//! from outside (a cancelled `begin` poisons sqlx's pool): the server's own timeouts bound every wait.
//!
//! # Decisions
//! An accept is ONE statement and therefore its own transaction: key, event and outbox row are
//! written by one round trip. The hot statements join UNNEST arrays; a prepared statement's generic
//! plan takes such an array for ten rows and would choose nested loops, so hot connections switch
//! nested loops off and everything else reads by `= ANY`, bounded on both sides of the id range so
//! that the planner prunes time partitions.
//!
//! No session works as the user that connects: each takes a role at its start (`roles`), whose rights
//! and row-level security are in one table of code (`rights`). What answers a tenant's caller goes
//! by `scope`, under that tenant.

mod accept;
mod approvals;
mod budgets;
mod checkpoints;
mod checkup;
mod commit;
mod connect;
mod control;
mod costs;
mod dead;
mod fence;
mod fleet;
mod isolation;
mod keys;
mod mark;
mod migrate;
mod outbox;
mod read;
mod retention;
mod retries;
mod rights;
mod roles;
mod scope;
mod store;
mod tenants;
mod vault;
mod versions;

pub use checkup::checkup;
pub use migrate::migrate;
pub use store::PostgresStore;
