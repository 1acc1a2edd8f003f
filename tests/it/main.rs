//! The one integration binary: every port's contract on every adapter, the API, the programs.

mod api;
mod approvals_contract;
mod attack;
mod audit_proof;
mod baseline;
mod broker_contract;
mod checkpoints_contract;
mod cli;
mod context_contract;
mod core;
mod costs_contract;
mod deploy;
mod fairness;
mod fleet;
mod fuzz;
#[expect(dead_code, reason = "the chaos suite uses the rest of it")]
mod harness;
mod keys_contract;
mod leases_contract;
mod office;
mod operate;
mod rate_contract;
mod redaction;
mod resilience;
mod store_contract;
mod sweeper;
mod tidy;
mod tls;
mod traces;
mod vault_contract;
mod vaults;
mod versions_contract;
