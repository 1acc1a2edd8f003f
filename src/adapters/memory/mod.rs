//! Adapter: memory.

mod queries;
pub mod store;
mod tables;
