//! The decision workflow: a pure function of event, context snapshot, policy and time.
//!
//! Owns the stages and their order. Never reads a clock, a store or a socket, so that replaying a
//! stored decision gives the same bytes; the stop watch that times the stages is passed in, and
//! what it says stands beside the decision, not in it.
//!
//! `retrieval → policy validation → risk scoring → guardrails → decision → evaluation`

pub mod baseline;
mod run;
pub mod scorecard;
pub mod scorer;
pub mod state;
pub mod truthy;

pub use baseline::Policy;
pub use run::{Run, replay, run};
pub use scorecard::Scorecard;
pub use scorer::{Scorer, Unfit};
pub use state::State;
