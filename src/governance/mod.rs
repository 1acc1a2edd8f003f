//! Role: what a control plane does by itself, beside the requests that it answers.
//!
//! One matter a file. Owns its timers; runs in every console and in `up`, any number of them at once,
//! and changes nothing but by the verbs of the registry.

pub mod budgets;
mod notary;
mod outside;
pub mod overdue;
pub mod retention;
mod shortening;
mod verifier;

pub use notary::{Keys, Notary, NotaryError, Rules};
pub use outside::{Outside, OutsideError};
pub use shortening::Shortener;
pub use verifier::Verifier;
