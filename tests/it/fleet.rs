//! Tests: a fleet of real programs on real servers. Whatever is killed, cut or forged, every event
//! is decided once, and only under its tenant.

mod abuse;
mod approvals;
mod costs;
mod dead_letters;
mod doors;
mod failures;
mod models;
mod proof;
mod senders;
mod vault;
