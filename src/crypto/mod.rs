//! Owns what makes bytes believable: HMACs of packs, and packing itself. Never talks to anything.

pub mod seal;

pub use seal::PackSeal;
