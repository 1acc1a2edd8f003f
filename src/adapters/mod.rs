//! The ports on real things. Adapters never name a role, and never each other.

pub mod master;
pub mod memory;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod sqlite;
