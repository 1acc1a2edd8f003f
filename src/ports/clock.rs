//! Time and randomness, as arguments: a simulation or a replay passes its own.

use chrono::{DateTime, Utc};
use std::time::Duration;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed moment; never goes back. For measuring.
    fn elapsed(&self) -> Duration;

    /// What this process has used of the processor; none where the system does not say, and where
    /// nothing real passes.
    fn cpu(&self) -> Option<Cpu> {
        None
    }
}

/// Use of the processor by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// By all of its threads since it began.
    pub used: Duration,
    /// Cores that it may use at once, 1 or more.
    pub cores: u32,
}

/// Where randomness comes from.
pub trait Entropy: Send + Sync {
    /// 128 random bits.
    fn bits(&self) -> u128;

    /// 80 random bits, for an event id.
    fn ten_bytes(&self) -> [u8; 10] {
        let mut ten = [0; 10];
        ten.copy_from_slice(&self.bits().to_le_bytes()[..10]);
        ten
    }

    /// 256 random bits, for a secret.
    fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(&self.bits().to_le_bytes());
        secret[16..].copy_from_slice(&self.bits().to_le_bytes());
        secret
    }

    /// A random (version 4) UUID.
    fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bits().to_be_bytes()).into_uuid()
    }
}
