//! Owns what makes bytes believable: the seals of packs, the packs themselves, the heads of audit
//! chains, and the signatures over them. Never talks to anything.

pub mod checkpoint;
pub mod heads;
pub mod packer;
pub mod seal;

pub use checkpoint::{AuditKey, Trust};
pub use heads::HeadCache;
pub use packer::{Opened, Packable, Packer};
pub use seal::PackSeal;
