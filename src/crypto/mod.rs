//! Owns what makes bytes believable: the seals of packs, the packs themselves, and the heads of
//! audit chains. Never talks to anything.

pub mod heads;
pub mod packer;
pub mod seal;

pub use heads::HeadCache;
pub use packer::{Opened, Packable, Packer};
pub use seal::PackSeal;
