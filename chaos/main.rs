//! Faults against real programs on real servers: processes killed in each window between two steps,
//! connections cut, queues deleted. `./tests/run.sh --test chaos` runs these alone.
//!
//! What must hold after every fault: everything accepted is decided once, without an operator, and
//! every outcome was published.

#[allow(dead_code, reason = "shared with the integration tests, which use the rest of it")]
#[path = "../tests/it/harness/mod.rs"]
mod harness;

mod crashes;
mod proxy;
