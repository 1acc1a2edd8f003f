//! Owns the check of single values, and of those that depend on each other. Never shows a secret.

use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use tracing_subscriber::filter::LevelFilter;

use super::inbox_users::InboxUsers;
use super::namespace::Namespace;
use super::prices::Price;
use super::table::{Kind, Setting};
use super::{Auth, Settings, SettingsError};
use crate::domain::cost::ModelPrices;

/// Reads a text from the environment or a flag as what the setting holds; a text that is no such
/// thing stays a text, and is refused by [`value`].
pub(super) fn read(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Switch => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Whole(..) => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Url(_)
        | Kind::Secret(_)
        | Kind::Key
        | Kind::Path
        | Kind::Namespace
        | Kind::Address
        | Kind::Choice(_)
        | Kind::Levels
        | Kind::Text
        | Kind::Users
        | Kind::Price
        | Kind::Prices => Value::from(text),
    }
}

/// Holds a value against what the setting may hold; gives "must be …, not …".
pub(super) fn value(setting: &Setting, value: &Value) -> Result<(), String> {
    if fits(setting.kind, value) {
        return Ok(());
    }
    let not = if setting.is_secret() { String::new() } else { format!(", not {}", shown(value)) };
    Err(format!("must be {}{not}", setting.expected()))
}

fn fits(kind: Kind, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match kind {
        Kind::Url(schemes) => {
            let rest = schemes.iter().find_map(|s| text.strip_prefix(s));
            rest.is_some_and(|rest| !rest.is_empty() && !text.contains(char::is_whitespace))
        }
        Kind::Secret(bytes) => text.len() >= bytes,
        Kind::Key => key(&text.into()).is_ok(),
        Kind::Namespace => Namespace::parse(text).is_ok(),
        Kind::Address => text.parse::<SocketAddr>().is_ok(),
        Kind::Choice(words) => words.contains(&text),
        Kind::Path => !text.is_empty() && !text.contains('\0'),
        Kind::Switch => value.to_bool().is_some(),
        Kind::Whole(min, max) => whole(value).is_some_and(|n| (min..=max).contains(&n)),
        Kind::Levels => levels(text),
        Kind::Text => !text.trim().is_empty(),
        Kind::Users => InboxUsers::parse(text).is_ok(),
        Kind::Price => Price::parse(text).is_ok(),
        Kind::Prices => text.parse::<ModelPrices>().is_ok(),
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value.to_i128() {
        Some(n) => u64::try_from(n).ok(),
        None => value.to_u128().and_then(|n| u64::try_from(n).ok()),
    }
}

fn levels(text: &str) -> bool {
    text.split(',').all(|part| {
        let (target, level) = part.split_once('=').unwrap_or(("-", part));
        !target.is_empty() && !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, b) => b.to_string(),
        Value::Num(..) => match (value.to_i128(), value.to_u128(), value.to_f64()) {
            (Some(n), _, _) => n.to_string(),
            (None, Some(n), _) => n.to_string(),
            (None, None, n) => n.unwrap_or(f64::NAN).to_string(),
        },
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "an array".into(),
    }
}

/// 64 hex digits as 32 bytes; else what was expected.
pub(super) fn key(digits: &SecretString) -> Result<[u8; 32], &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits.expose_secret(), &mut bytes).map_err(|_| "64 hex digits")?;
    Ok(bytes)
}

/// Holds settings against each other.
pub(super) fn together(s: &Settings) -> Result<(), SettingsError> {
    let loopback = s.http_addr.ip().is_loopback();
    if s.auth == Auth::Off && !loopback {
        return Err(SettingsError::new(format!(
            "auth must be on for http_addr {}: off is only for loopback addresses (127.0.0.1)",
            s.http_addr
        )));
    }
    if s.tls_cert_file.is_some() != s.tls_key_file.is_some() {
        return Err(SettingsError::new("tls_cert_file and tls_key_file must be given together"));
    }
    if !loopback && !s.behind_proxy && s.tls_cert_file.is_none() {
        return Err(SettingsError::new(format!(
            "behind_proxy must be true for http_addr {}, or tls_cert_file and tls_key_file given: off loopback, this \
             listener or a proxy in front must do TLS",
            s.http_addr
        )));
    }
    if s.tenant_rate_max > 0 && s.tenant_rate > s.tenant_rate_max {
        return Err(SettingsError::new(format!(
            "tenant_rate must be at most tenant_rate_max ({}), not {}",
            s.tenant_rate_max, s.tenant_rate
        )));
    }
    if s.event_bytes_max > s.body_bytes_max {
        return Err(SettingsError::new(format!(
            "event_bytes_max must be at most body_bytes_max ({}), not {}",
            s.body_bytes_max, s.event_bytes_max
        )));
    }
    Ok(())
}
