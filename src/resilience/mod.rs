//! Owns how failures of dependencies are met. Never knows which dependency it is.

pub mod backoff;

pub use backoff::Backoff;
