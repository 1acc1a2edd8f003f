//! Owns the namespace: the prefix under which a fleet lives on servers that it shares.

use serde::{Deserialize, Deserializer};
use std::{fmt, sync::Arc};

/// Prefix of the Postgres schema, the queues and the Redis keys: `[a-z][a-z0-9_]{0,30}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Reads a namespace.
    ///
    /// # Errors
    /// What was expected, when the text is none.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let first = raw.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = raw.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if first && rest && raw.len() <= 31 { Ok(Self(raw.into())) } else { Err(EXPECTED) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a namespace must look like.
pub(super) const EXPECTED: &str =
    "a small letter followed by at most 30 small letters, digits and '_' ([a-z][a-z0-9_]{0,30})";

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
