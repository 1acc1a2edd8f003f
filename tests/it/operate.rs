//! Tests: what operators see of a fleet that runs: Prometheus over real scrapes, health, and how many
//! workers there should be.

mod prometheus;
mod scaling;
mod verifying;
