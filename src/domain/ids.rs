//! Owns the identifiers: every id is a newtype that can only hold a legal value.
//!
//! Never mints an id by itself: time and random bits are passed in.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Why a text is not an identifier; completes "failed to read …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct BadId {
    /// Which identifier was meant.
    pub what: &'static str,
    /// What was expected.
    pub why: &'static str,
}

/// A tenant: 1–128 characters of `A-Z a-z 0-9 . _ -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// The name of [`TenantId::platform`].
const PLATFORM: &str = "_platform";

impl TenantId {
    /// Reads a tenant id.
    ///
    /// # Errors
    /// When the text is empty, over 128 characters, or holds any other character.
    pub fn parse(raw: &str) -> Result<Self, BadId> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if raw.is_empty() || raw.len() > 128 || !raw.bytes().all(legal) {
            return Err(BadId {
                what: "tenant_id",
                why: "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
            });
        }
        Ok(Self(raw.into()))
    }

    /// Reads a tenant that somebody claims to be, or to speak for: a credential, a header, an event.
    ///
    /// # Errors
    /// Those of [`TenantId::parse`], and for [`TenantId::platform`], which nobody may claim.
    pub fn claimed(raw: &str) -> Result<Self, BadId> {
        let read = Self::parse(raw)?;
        if read.is_platform() {
            return Err(BadId { what: "tenant_id", why: "must not be _platform: the fleet itself goes by that name" });
        }
        Ok(read)
    }

    /// Whether it is [`TenantId::platform`].
    pub fn is_platform(&self) -> bool {
        self.as_str() == PLATFORM
    }

    /// Whose control chain holds what is done to the fleet itself and belongs to no tenant: keys of
    /// operators, checkpoints. No credential and no event may name it.
    pub fn platform() -> Self {
        Self(PLATFORM.into())
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant as ONE word of an AMQP topic: a dot would make two words, so it is `%2E`.
    pub fn topic_word(&self) -> String {
        self.0.replace('.', "%2E")
    }
}

/// A text id that a caller chooses: 1–255 printable ASCII characters.
macro_rules! caller_text {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads it.
            ///
            /// # Errors
            /// When the text is empty, over 255 characters, or not printable ASCII.
            pub fn parse(raw: &str) -> Result<Self, BadId> {
                if raw.is_empty() || raw.len() > 255 || !raw.bytes().all(|c| (0x20..0x7f).contains(&c)) {
                    return Err(BadId { what: $what, why: "must be 1 to 255 printable ASCII characters" });
                }
                Ok(Self(raw.into()))
            }

            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

caller_text!(
    /// What makes a repeated request the same request, within one tenant.
    IdempotencyKey,
    "idempotency key"
);
caller_text!(
    /// Joins everything that belongs to one request of a producer.
    CorrelationId,
    "correlation id"
);

macro_rules! text_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", &*self.0) }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(raw: &str) -> Result<Self, BadId> { Self::parse(raw) }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.serialize_str(&self.0) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let raw = String::deserialize(d)?;
                Self::parse(&raw).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_traits!(TenantId, IdempotencyKey, CorrelationId);

/// An event: a UUIDv7 (RFC 9562), so ids sort by the millisecond in which they were minted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Mints an id: `millis` since the Unix epoch and 74 random bits out of `random`.
    pub fn mint(millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The smallest id of a millisecond: a bound for range scans, never an event's id.
    pub fn floor(millis: u64) -> Self {
        Self(Uuid::from_u128((u128::from(millis) & 0xffff_ffff_ffff) << 80))
    }

    /// Milliseconds since the Unix epoch at which the id was minted.
    pub fn millis(self) -> u64 {
        // The first 48 bits (RFC 9562, section 5.7); the shift leaves no more than that.
        (self.0.as_u128() >> 80) as u64
    }

    /// The moment at which the event was accepted, to the millisecond.
    pub fn created_at(self) -> DateTime<Utc> {
        super::time::from_millis(self.millis())
    }

    /// Reads an id, in the one form in which it is written (RFC 9562, section 4): not in braces, not
    /// as a URN, so that one event has one address.
    ///
    /// # Errors
    /// When the text is no UUID.
    pub fn parse(raw: &str) -> Result<Self, BadId> {
        let read = uuid::fmt::Hyphenated::from_str(raw).map(|id| Self(id.into_uuid()));
        read.map_err(|_| BadId { what: "event id", why: "must be a UUID" })
    }
}

/// One boot of one worker process: a random UUID, never a host name, so that no name is reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

macro_rules! uuid_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(raw: &str) -> Result<Self, uuid::Error> { Uuid::parse_str(raw).map(Self) }
        }
    )*};
}
uuid_traits!(EventId, WorkerId);

/// One of the fleet's partitions, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:03}", self.0)
    }
}

/// How often a partition was claimed. The store refuses a commit under any but the newest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct Epoch(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_hold_only_legal_characters() {
        assert!(TenantId::parse("acme.eu_1-x").is_ok());
        for bad in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(129)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(TenantId::parse("acme.x").expect("legal").topic_word(), "acme%2Ex");
    }

    #[test]
    fn nobody_can_claim_to_be_the_fleet_itself() {
        assert_eq!(TenantId::parse("_platform"), Ok(TenantId::platform()), "what is stored reads back");
        let refused = TenantId::claimed("_platform").expect_err("reserved");
        assert!(refused.to_string().starts_with("tenant_id must not be _platform"), "{refused}");
        assert!(TenantId::claimed("platform").is_ok() && TenantId::claimed("a b").is_err());
    }

    #[test]
    fn event_ids_carry_their_millisecond_and_sort_by_it() {
        let early = EventId::mint(1_700_000_000_000, [0xff; 10]);
        let late = EventId::mint(1_700_000_000_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.millis(), 1_700_000_000_000);
        assert_eq!(early.0.get_version_num(), 7);
        assert!(EventId::floor(1_700_000_000_000) <= early);
        assert!(EventId::floor(1_700_000_000_001) <= late);
        assert!(early < EventId::floor(1_700_000_000_001));
        let text = early.to_string();
        assert_eq!(EventId::parse(&text), Ok(early));
        for other in [format!("{{{text}}}"), format!("urn:uuid:{text}"), text.replace('-', ""), format!("{text} ")] {
            assert!(EventId::parse(&other).is_err(), "{other}");
        }
    }
}
