//! Faults against real programs on real servers.
//!
//! `cargo test --test chaos` runs a short, seeded selection on servers that it starts itself (Postgres
//! with fsync, Redis and RabbitMQ must be installed), and prints one table of faults and one of mutants:
//! deliberate defects of the system (`src/mutants.rs`), each of which must be found. The tests of
//! `crashes` use the servers that `tests/run.sh` names.
//!
//! | variable | |
//! |---|---|
//! | `RISKFLEET_CHAOS=full` | every fault with at least 20,000 events each, and every mutant; use `--release` |
//! | `RISKFLEET_CHAOS_ONLY=words` | only what has one of these (comma-separated) in its name |
//! | `RISKFLEET_CHAOS_MINUTES=10` | instead: random faults under a load of 2,000 events a second for so long |
//! | `RISKFLEET_CHAOS_SEED=1` | the seed of load and faults; printed, random for the long run |
//!
//! With `-- --nocapture` the rows are seen as they come:
//! `RISKFLEET_CHAOS=full cargo test --release --test chaos -- --nocapture`.
//!
//! What must hold after every fault: everything acknowledged is decided once, without an operator,
//! nothing is decided that was not attempted, every outcome is heard downstream, no payload stands
//! anywhere in the clear, nor sealed in another tenant's row, nor in a log, every chain is whole, no epoch goes back, and the ledger balances.

#[allow(dead_code, reason = "shared with the integration tests, which use the rest of it")]
#[path = "../tests/it/harness/mod.rs"]
mod harness;

#[allow(dead_code, reason = "shared with the integration tests, which use the rest of it")]
#[path = "../tests/it/vaults.rs"]
mod vaults;

mod checker;
mod circuits;
mod crashes;
mod downstream;
mod faults;
mod history;
mod load;
mod proxy;
mod rows;
mod servers;
mod stage;
mod table;
mod wire;
