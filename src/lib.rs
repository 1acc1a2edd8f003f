//! riskfleet decides on risk and compliance events for many tenants, each event exactly once, with
//! proof of every decision.

pub mod adapters;
pub mod api;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod ingest;
pub mod lifecycle;
pub mod pipeline;
pub mod ports;
pub mod resilience;
pub mod telemetry;
pub mod wiring;
pub mod worker;
