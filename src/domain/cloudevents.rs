//! Owns the reading of CloudEvents 1.0 in their structured JSON form: an envelope around an event.
//!
//! `data` is the event; `type`, `time` and `subject` stand in for `event_type`, `occurred_at` and
//! `subject` where the data has none; `source` and `id` together are the idempotency key, since
//! they are what makes a CloudEvent the same one (CloudEvents 1.0.2, "REQUIRED Attributes").
//! Extension attributes are passed over. Never reads the binary form.

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

use super::audit::sha256;
use super::ids::{BadId, IdempotencyKey};
use super::invalid::{Invalid, Violation};
use super::parse::{self, Given, Parsed};

/// An attribute, and the field of the event that it stands in for.
type StandIn = (&'static str, &'static str);

/// Attributes that stand in for fields of the event.
const STAND_INS: [StandIn; 3] = [("type", "event_type"), ("time", "occurred_at"), ("subject", "subject")];

/// Reads one CloudEvent. The key is always given.
///
/// # Errors
/// [`Invalid`], with pointers into the envelope: `/data/amount`, `/type`.
pub fn event(text: &[u8], given: Given<'_>) -> Result<Parsed, Invalid> {
    let Attributes(attributes) = serde_json::from_slice(text).map_err(|e| parse::broken(&e, text))?;
    let mut wrong = Vec::new();
    let mut required = |name: &str| {
        let read = attributes.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        read.filter(|text| !text.is_empty()).or_else(|| {
            wrong.push(Violation::at(format!("/{name}"), "is required: text that is not empty"));
            None
        })
    };
    let (id, source, _) = (required("id"), required("source"), required("type"));
    if required("specversion").is_some_and(|v| v != "1.0") {
        wrong.push(Violation::at("/specversion", "must be \"1.0\""));
    }
    wrong.extend(content_type(&attributes));
    let data = attributes.get("data").map(|raw| raw.get()).filter(|text| text.starts_with('{'));
    if data.is_none() {
        wrong.push(Violation::at("/data", "is required: the event, an object (data_base64 is not read)"));
    }
    let (Some(id), Some(source), Some(data), true) = (id, source, data, wrong.is_empty()) else {
        return Err(Invalid::Fields(wrong));
    };
    let (text, stood_in) = filled(&attributes, data)?;
    let mut parsed = parse::event(text.as_bytes(), given).map_err(|e| into_envelope(e, &stood_in))?;
    if parsed.key.is_some() {
        let detail = "is `source` and `id` of the envelope here";
        return Err(Invalid::Fields(vec![Violation::at("/data/idempotency_key", detail)]));
    }
    parsed.key = Some(key(&source, &id).map_err(|e| Invalid::Fields(vec![Violation::at("/id", e.why)]))?);
    Ok(parsed)
}

/// The idempotency key of a CloudEvent: `source id`, or a hash where that is no legal key or not
/// unambiguous.
fn key(source: &str, id: &str) -> Result<IdempotencyKey, BadId> {
    let plain = IdempotencyKey::parse(&format!("{source} {id}"));
    if !source.contains(' ') && plain.is_ok() {
        return plain;
    }
    // The length in front keeps ("a", "bc") and ("ab", "c") apart.
    let text = format!("{} {source} {id}", source.len());
    IdempotencyKey::parse(&format!("sha256:{}", hex::encode(sha256(text.as_bytes()))))
}

fn content_type(attributes: &BTreeMap<String, &RawValue>) -> Option<Violation> {
    let raw = attributes.get("datacontenttype").filter(|raw| raw.get() != "null")?;
    let text = serde_json::from_str::<String>(raw.get()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || essence.ends_with("+json");
    (!json).then(|| Violation::at("/datacontenttype", "must be application/json, or absent"))
}

/// The data with the stand-ins for fields that it does not have, and which those are. Works on the
/// text, so that everything else reaches the event's reader as it was sent.
fn filled(attributes: &BTreeMap<String, &RawValue>, data: &str) -> Result<(String, Vec<StandIn>), Invalid> {
    let fields: BTreeMap<String, IgnoredAny> =
        serde_json::from_str(data).map_err(|e| Invalid::Broken(format!("data: {e}")))?;
    let (mut text, mut stood_in) = (String::from("{"), Vec::new());
    for (attribute, field) in STAND_INS {
        let raw = attributes.get(attribute).filter(|raw| raw.get() != "null" && !fields.contains_key(field));
        if let Some(raw) = raw {
            let comma = if stood_in.is_empty() { "" } else { "," };
            text.push_str(&format!("{comma}\"{field}\":{}", raw.get()));
            stood_in.push((attribute, field));
        }
    }
    if !stood_in.is_empty() && !fields.is_empty() {
        text.push(',');
    }
    text.push_str(&data[1..]);
    Ok((text, stood_in))
}

fn into_envelope(invalid: Invalid, stood_in: &[StandIn]) -> Invalid {
    let Invalid::Fields(wrong) = invalid else { return invalid };
    let moved = wrong.into_iter().map(|violation| {
        let name = violation.pointer.trim_start_matches('/');
        let attribute = stood_in.iter().find(|(_, field)| *field == name);
        let pointer = match attribute {
            Some((attribute, _)) => format!("/{attribute}"),
            None => format!("/data{}", violation.pointer),
        };
        Violation::at(pointer, violation.detail)
    });
    Invalid::Fields(moved.collect())
}

/// The envelope, values unread; no name stands twice.
struct Attributes<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = access.next_entry::<String, &'de RawValue>()? {
                    if map.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("the attribute {name:?} stands twice")));
                    }
                    map.insert(name, value);
                }
                Ok(map)
            }
        }
        d.deserialize_map(Names).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Kind;

    fn read(text: &str) -> Result<Parsed, Invalid> {
        event(text.as_bytes(), Given::default())
    }

    fn pointers(text: &str) -> Vec<String> {
        match read(text) {
            Err(Invalid::Fields(wrong)) => wrong.into_iter().map(|v| v.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attributes_stand_in_for_what_the_data_leaves_out() {
        let parsed = read(
            r#"{"specversion":"1.0","id":"7","source":"/shop","type":"payment","time":"2026-11-21T10:00:00Z",
            "subject":"acct","comexampleext":1,"datacontenttype":"application/json; charset=utf-8",
            "data":{"kind":"risk","version":"1","tenant_id":"a"}}"#,
        )
        .expect("valid");
        assert_eq!((parsed.body.kind, parsed.body.event_type.as_str()), (Kind::Risk, "payment"));
        assert_eq!(parsed.body.subject.as_deref(), Some("acct"));
        assert!(parsed.body.occurred_at.is_some());
        assert_eq!(parsed.key.expect("always").as_str(), "/shop 7");
        let own = read(
            r#"{"specversion":"1.0","id":"7","source":"/shop","type":"payment","subject":"acct",
            "data":{"event_type":"refund","subject":"other","kind":"risk","version":"1","tenant_id":"a"}}"#,
        )
        .expect("valid");
        assert_eq!((own.body.event_type.as_str(), own.body.subject.as_deref()), ("refund", Some("other")));
    }

    #[test]
    fn everything_wrong_is_named_in_the_envelope() {
        assert_eq!(pointers("{}"), ["/id", "/source", "/type", "/specversion", "/data"]);
        let envelope = |more: &str| format!(r#"{{"specversion":"1.0","id":"7","source":"s","type":"t",{more}}}"#);
        assert_eq!(pointers(&envelope(r#""data":"x""#)), ["/data"]);
        assert_eq!(pointers(&envelope(r#""datacontenttype":"text/xml","data":{}"#)), ["/datacontenttype"]);
        let wrong = r#""time":"today","data":{"kind":"risk","version":"1","tenant_id":"a","amount":1.5}"#;
        let mut got = pointers(&envelope(wrong));
        got.sort();
        assert_eq!(got, ["/data/amount", "/time"]);
        assert_eq!(pointers(r#"{"specversion":"0.3","id":"7","source":"s","type":"t","data":{}}"#), ["/specversion"]);
        assert!(matches!(read(r#"{"id":"1","id":"2"}"#), Err(Invalid::Broken(_))));
        assert!(matches!(read("[1"), Err(Invalid::Broken(_) | Invalid::Fields(_))));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep = envelope(&format!(r#""data":{{"metadata":{{"x":{deep}}}}}"#));
        assert!(matches!(read(&deep), Err(Invalid::Broken(_))));
    }

    #[test]
    fn keys_are_bounded_and_keep_source_and_id_apart() {
        let of = |source: &str, id: &str| key(source, id).expect("a key");
        assert_ne!(of("a b", "c"), of("a", "b c"));
        assert_ne!(of("ü", "c"), of("u", "c"));
        assert!(of(&"s".repeat(9000), "c").as_str().starts_with("sha256:"));
    }
}
