//! Owns how a moment is written: RFC 3339, UTC, milliseconds, `Z`. Never reads a clock.

use chrono::{DateTime, SecondsFormat, Utc};

/// The moment `millis` milliseconds after the Unix epoch; saturates at the calendar's end.
pub fn from_millis(millis: u64) -> DateTime<Utc> {
    i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Milliseconds since the Unix epoch; 0 for anything before it.
pub fn to_millis(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp_millis()).unwrap_or(0)
}

/// `at` cut down to whole milliseconds: what is stored must read back as it was hashed.
pub fn whole_millis(at: DateTime<Utc>) -> DateTime<Utc> {
    from_millis(to_millis(at))
}

/// The one text form of a moment, `2026-11-21T10:00:00.000Z`.
pub fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `#[serde(with = "…")]`: a moment as [`text`].
pub mod rfc3339 {
    use super::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes [`super::text`].
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(at: &DateTime<Utc>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::text(*at))
    }

    /// Reads any RFC 3339 moment.
    ///
    /// # Errors
    /// When the text is no RFC 3339 moment.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DateTime<Utc>, D::Error> {
        let raw = String::deserialize(d)?;
        DateTime::parse_from_rfc3339(&raw).map(|at| at.to_utc()).map_err(serde::de::Error::custom)
    }
}

/// `#[serde(with = "…")]`: an optional moment as [`text`] or null.
pub mod rfc3339_option {
    use super::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes [`super::text`] or null.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(at: &Option<DateTime<Utc>>, s: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => s.serialize_some(&super::text(*at)),
            None => s.serialize_none(),
        }
    }

    /// Reads any RFC 3339 moment, or null.
    ///
    /// # Errors
    /// When the text is no RFC 3339 moment.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        let raw = Option::<String>::deserialize(d)?;
        raw.map(|raw| DateTime::parse_from_rfc3339(&raw).map(|at| at.to_utc()).map_err(serde::de::Error::custom))
            .transpose()
    }
}
