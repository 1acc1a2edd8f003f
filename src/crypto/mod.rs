//! Owns what makes bytes believable, and what makes them unreadable: the seals of packs, the packs
//! themselves, the heads of audit chains, the signatures over them; the envelopes of what is stored,
//! the keys that open them, and the verification of the whole. Talks to nothing but the ports of those
//! keys and, to verify, of the store.

pub mod checkpoint;
pub mod envelope;
pub mod heads;
pub mod keyring;
pub mod packer;
pub mod reveal;
pub mod seal;
pub mod verification;

pub use checkpoint::{AuditKey, Trust};
pub use envelope::{DataKey, Place};
pub use heads::HeadCache;
pub use keyring::{Key, Keyring, Revealed};
pub use packer::{Opened, Packable, Packer};
pub use seal::PackSeal;
