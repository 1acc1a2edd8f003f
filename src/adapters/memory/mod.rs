//! The ports inside one process, for `riskfleet up` and for simulation. Nothing here outlives the
//! process: the store is the truth, and refill brings back what a queue held.

pub mod broker;
pub mod context;
mod costs;
pub mod leases;
mod queries;
mod queue;
mod retries;
pub mod store;
mod tables;
mod vault;
mod versions;
