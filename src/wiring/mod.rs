//! Puts roles on adapters: the only place that names both. One function a program.

pub mod commands;
mod contexts;
mod demo;
mod error;
mod program;
mod servers;
mod single;
mod summary;

pub use error::WiringError;
pub use program::run;
pub use servers::{import, ingest, migrate, open_for_reading, worker};
pub use single::up;
