//! What a process tells about itself: logs on stderr, metrics for Prometheus, traces for a collector.
//!
//! Never personal data, never a secret, never a label whose values a caller chooses.

mod lines;
mod logs;
pub mod metrics;
pub mod models;
pub mod names;
mod process;
mod tenants;
pub mod traces;

pub use logs::{LogError, init_logs};
pub use metrics::{Prometheus, Role};
pub use tenants::{Happened, Tenants, tenants};
pub use traces::Traces;
