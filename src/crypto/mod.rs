//! Owns what makes bytes believable: HMACs of packs, and the heads that audit chains hang on.
//! Never talks to anything.

pub mod heads;
pub mod seal;

pub use heads::HeadCache;
pub use seal::PackSeal;
