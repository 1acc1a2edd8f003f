//! The one integration binary: every port's contract on every adapter, the API, the programs.

mod api;
mod baseline;
mod broker_contract;
mod cli;
mod context_contract;
mod core;
mod fleet;
mod harness;
mod leases_contract;
mod store_contract;
mod tidy;
