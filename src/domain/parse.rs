//! Owns the reading of events: the only way from foreign text to an [`EventBody`].
//!
//! Names every wrong field at once, by JSON pointer. Never repairs or guesses.

use chrono::{DateTime, Utc};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

use super::event::{AMOUNT_MAX, EventBody, Kind};
use super::failure::Failure;
use super::ids::{CorrelationId, IdempotencyKey, TenantId};
use super::invalid::{Invalid, Violation, pointer_segment};
use super::time::{to_millis, whole_millis};

/// The deepest nesting that is read; also the bound of every recursion over an event.
pub const DEPTH_MAX: usize = 64;

/// What the door already knows about an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// The kind that the route implies.
    pub kind: Option<Kind>,
    /// The tenant of the credential or header.
    pub tenant: Option<&'a TenantId>,
    /// Whether `idempotency_key` and `correlation_id` may stand in the event, because no header
    /// can carry them (batch items, lines, inbox messages).
    pub keys_inside: bool,
}

/// An event as read, before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The payload.
    pub body: EventBody,
    /// `idempotency_key`, where it may stand in the event.
    pub key: Option<IdempotencyKey>,
    /// `correlation_id`, where it may stand in the event.
    pub correlation_id: Option<CorrelationId>,
}

/// Refuses text nested deeper than [`DEPTH_MAX`] before any recursive reader sees it.
///
/// # Errors
/// [`Invalid::Broken`] that names the byte.
pub fn check_depth(text: &[u8]) -> Result<(), Invalid> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match (in_string, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (true, false, b'"') => in_string = false,
            (false, _, b'"') => in_string = true,
            (false, _, b'[' | b'{') => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Invalid::Broken(format!("nested deeper than {DEPTH_MAX} levels at byte {at}")));
                }
            }
            (false, _, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Reads one event from JSON text.
///
/// # Errors
/// [`Invalid`]: broken JSON, wrong fields (all of them), or a missing or foreign tenant.
pub fn event(text: &[u8], given: Given<'_>) -> Result<Parsed, Invalid> {
    fields_to_event(object(text)?, given)
}

/// Reads the fields of one object from JSON text, of which none may stand twice.
///
/// # Errors
/// [`Invalid`]: broken JSON, or no object.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, Invalid> {
    check_depth(text)?;
    let Once(fields) = serde_json::from_slice(text).map_err(|e| broken(&e, text))?;
    Ok(fields)
}

/// What the reader of JSON did not like, in our words.
pub(super) fn broken(e: &serde_json::Error, text: &[u8]) -> Invalid {
    let first = text.iter().find(|b| !b.is_ascii_whitespace());
    match (e.is_data(), first) {
        (true, Some(b'{')) => Invalid::Broken(e.to_string()),
        (true, _) => Invalid::Fields(vec![Violation::at("", "must be an object")]),
        (false, _) => Invalid::Broken(e.to_string()),
    }
}

fn fields_to_event(fields: Map<String, Value>, given: Given<'_>) -> Result<Parsed, Invalid> {
    let mut r = Reader { fields, wrong: Vec::new() };
    let kind = r.kind(given.kind);
    let tenant = r.tenant(given.tenant)?;
    let body = EventBody {
        kind: kind.unwrap_or(Kind::Risk),
        event_type: r.text("event_type", 128).unwrap_or_else(|| "standard".into()),
        version: r.required_text("version", 32),
        subject: r.text("subject", 256),
        amount: r.amount(),
        currency: r.currency(),
        occurred_at: r.moment("occurred_at"),
        risk_score: r.score(),
        category: r.text("category", 128),
        regulation_ref: r.text("regulation_ref", 256),
        compliance_type: r.text("compliance_type", 128),
        regulatory_flags: r.flags(),
        metadata: r.metadata(),
        tenant_id: tenant,
    };
    if let Some(kind) = kind {
        r.refuse_other_kind(kind, &body);
    }
    let key = if given.keys_inside { r.id("idempotency_key", IdempotencyKey::parse) } else { None };
    let correlation_id = if given.keys_inside { r.id("correlation_id", CorrelationId::parse) } else { None };
    r.refuse_unknown();
    if r.wrong.is_empty() { Ok(Parsed { body, key, correlation_id }) } else { Err(Invalid::Fields(r.wrong)) }
}

/// Takes the fields out one by one; what is left over at the end is unknown.
struct Reader {
    fields: Map<String, Value>,
    wrong: Vec<Violation>,
}

impl Reader {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|v| !v.is_null())
    }

    fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.wrong.push(Violation::at(format!("/{}", pointer_segment(name)), detail));
    }

    fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let value = self.take(name)?;
        match checked_text(value, max) {
            Ok(text) => Some(text),
            Err(detail) => {
                self.refuse(name, detail);
                None
            }
        }
    }

    fn required_text(&mut self, name: &str, max: usize) -> String {
        if self.fields.get(name).is_none_or(Value::is_null) {
            self.refuse(name, format!("is required: text of 1 to {max} characters"));
        }
        self.text(name, max).unwrap_or_default()
    }

    fn id<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, super::ids::BadId>) -> Option<T> {
        let value = self.take(name)?;
        let read = match &value {
            Value::String(text) => parse(text).map_err(|e| e.why.to_owned()),
            other => Err(format!("must be text, not {}", kind_of(other))),
        };
        read.map_err(|detail| self.refuse(name, detail)).ok()
    }

    fn kind(&mut self, implied: Option<Kind>) -> Option<Kind> {
        let said = match self.take("kind") {
            None if implied.is_none() => {
                self.refuse("kind", "is required: \"risk\" or \"compliance\"");
                return None;
            }
            None => return implied,
            Some(Value::String(text)) => text.parse::<Kind>().map_err(|e| format!("{e}, not {text:?}")),
            Some(other) => Err(format!("must be \"risk\" or \"compliance\", not {}", kind_of(&other))),
        };
        match (said, implied) {
            (Ok(kind), Some(route)) if kind != route => {
                self.refuse("kind", format!("must be {route:?} on this route, or absent", route = route.as_str()));
                None
            }
            (Ok(kind), _) => Some(kind),
            (Err(detail), _) => {
                self.refuse("kind", detail);
                None
            }
        }
    }

    fn tenant(&mut self, caller: Option<&TenantId>) -> Result<TenantId, Invalid> {
        let said = match self.take("tenant_id") {
            None => return caller.cloned().ok_or(Invalid::TenantMissing),
            Some(Value::String(text)) => TenantId::claimed(&text).map_err(|e| e.why.to_owned()),
            Some(other) => Err(format!("must be text, not {}", kind_of(&other))),
        };
        match (said, caller) {
            (Ok(said), Some(caller)) if said != *caller => {
                Err(Invalid::TenantMismatch { said: said.to_string(), caller: caller.to_string() })
            }
            (Ok(said), _) => Ok(said),
            (Err(detail), caller) => {
                self.refuse("tenant_id", detail);
                // Refused already: any legal tenant serves until the violations are returned.
                caller.cloned().map_or_else(|| TenantId::parse("-").map_err(|_| Invalid::TenantMissing), Ok)
            }
        }
    }

    fn amount(&mut self) -> Option<i64> {
        let value = self.take("amount")?;
        match value.as_i64() {
            Some(amount) if (-AMOUNT_MAX..=AMOUNT_MAX).contains(&amount) => return Some(amount),
            Some(_) => self.refuse("amount", format!("must be within -{AMOUNT_MAX} and {AMOUNT_MAX} minor units")),
            None => self.refuse("amount", format!("must be an integer of minor units, not {}", shown(&value))),
        }
        None
    }

    fn currency(&mut self) -> Option<String> {
        let value = self.take("currency")?;
        match value {
            Value::String(text) if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) => Some(text),
            other => {
                self.refuse("currency", format!("must be three letters of ISO 4217 (\"EUR\"), not {}", shown(&other)));
                None
            }
        }
    }

    fn moment(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let value = self.take(name)?;
        let read = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|at| at.to_utc());
        match read {
            Some(at) if at.timestamp_millis() >= 0 && to_millis(at) < 253_402_300_800_000 => Some(whole_millis(at)),
            Some(_) => {
                self.refuse(name, "must be between the years 1970 and 9999");
                None
            }
            None => {
                let detail = format!("must be an RFC 3339 moment (\"2026-11-21T10:00:00Z\"), not {}", shown(&value));
                self.refuse(name, detail);
                None
            }
        }
    }

    fn score(&mut self) -> Option<f64> {
        let value = self.take("risk_score")?;
        match value.as_f64() {
            Some(score) if (0.0..=100.0).contains(&score) => return Some(score),
            Some(_) => {
                let detail = format!("must be a number from 0 to 100, not {}", shown(&value));
                let failure = Failure::ScoreOutOfRange;
                self.wrong.push(Violation { failure, ..Violation::at("/risk_score", detail) });
            }
            None => self.refuse("risk_score", format!("must be a number from 0 to 100, not {}", shown(&value))),
        }
        None
    }

    fn flags(&mut self) -> Vec<String> {
        let items = match self.take("regulatory_flags") {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= 64 => items,
            Some(Value::Array(_)) => {
                self.refuse("regulatory_flags", "must hold at most 64 flags");
                return Vec::new();
            }
            Some(other) => {
                self.refuse("regulatory_flags", format!("must be an array of text, not {}", kind_of(&other)));
                return Vec::new();
            }
        };
        let mut flags = Vec::with_capacity(items.len());
        for (n, item) in items.into_iter().enumerate() {
            match checked_text(item, 128) {
                Ok(flag) => flags.push(flag),
                Err(detail) => self.wrong.push(Violation::at(format!("/regulatory_flags/{n}"), detail)),
            }
        }
        flags
    }

    fn metadata(&mut self) -> Map<String, Value> {
        match self.take("metadata") {
            None => Map::new(),
            Some(Value::Object(map)) => {
                let mut path = String::from("/metadata");
                find_nul_in_map(&map, &mut path, &mut self.wrong);
                map
            }
            Some(other) => {
                self.refuse("metadata", format!("must be an object, not {}", kind_of(&other)));
                Map::new()
            }
        }
    }

    fn refuse_other_kind(&mut self, kind: Kind, body: &EventBody) {
        let foreign: &[(&str, bool)] = match kind {
            Kind::Risk => &[
                ("regulation_ref", body.regulation_ref.is_some()),
                ("compliance_type", body.compliance_type.is_some()),
                ("regulatory_flags", !body.regulatory_flags.is_empty()),
            ],
            Kind::Compliance => &[("risk_score", body.risk_score.is_some()), ("category", body.category.is_some())],
        };
        for (name, present) in foreign {
            if *present {
                self.refuse(name, format!("does not apply to kind {:?}: leave it out", kind.as_str()));
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self.fields.keys().cloned().collect();
        for name in unknown {
            let detail = match name.as_str() {
                "idempotency_key" => "must be given in the header X-Idempotency-Key here",
                "correlation_id" => "must be given in the header X-Correlation-ID here",
                _ => "is no field of an event; your own data belongs into `metadata`",
            };
            // Only a null of a known name was taken out already; these names are not known.
            self.refuse(&name, detail);
        }
    }
}

fn checked_text(value: Value, max: usize) -> Result<String, String> {
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if length == 0 || length > max {
                Err(format!("must be text of 1 to {max} characters, not {length}"))
            } else if text.chars().any(char::is_control) {
                Err("must not hold control characters (NUL, line ends)".into())
            } else {
                Ok(text)
            }
        }
        other => Err(format!("must be text, not {}", kind_of(&other))),
    }
}

/// Finds NUL in keys and texts. The recursion is bounded by [`DEPTH_MAX`], which the door checked.
fn find_nul(value: &Value, path: &mut String, wrong: &mut Vec<Violation>) {
    match value {
        Value::String(text) if text.contains('\0') => {
            wrong.push(Violation::at(path.clone(), "must not hold the character NUL"));
        }
        Value::Array(items) => {
            let length = path.len();
            for (n, item) in items.iter().enumerate() {
                path.push_str(&format!("/{n}"));
                find_nul(item, path, wrong);
                path.truncate(length);
            }
        }
        Value::Object(map) => find_nul_in_map(map, path, wrong),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn find_nul_in_map(map: &Map<String, Value>, path: &mut String, wrong: &mut Vec<Violation>) {
    let length = path.len();
    for (name, value) in map {
        if name.contains('\0') {
            wrong.push(Violation::at(path.clone(), "must not hold the character NUL in a key"));
        }
        path.push('/');
        path.push_str(&pointer_segment(name));
        find_nul(value, path, wrong);
        path.truncate(length);
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A short form of a wrong value for an error text: numbers and booleans as they are, the rest
/// by its kind, since texts may hold personal data.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// A top-level object in which no name stands twice: readers disagree on which one counts.
struct Once(Map<String, Value>);

impl<'de> serde::Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("the field {name:?} stands twice")));
                    }
                    map.insert(name, value);
                }
                Ok(Once(map))
            }
        }
        d.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
