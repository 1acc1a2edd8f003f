//! Tests: an export of the audit, verified with the public key alone, by this program and by the
//! script in README, after every deed that an enemy can do to it.

mod exports;
mod files;
mod properties;
mod readme;
