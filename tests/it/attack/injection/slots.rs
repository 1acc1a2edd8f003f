//! Owns the places in requests that take a string, as the OpenAPI document names them, and requests
//! that are good but for what stands in that place.

use std::fmt;

use serde_json::{Map, Value, json};

/// Stands where the text will stand.
const MARK: &str = "\u{e000}mark";

/// How deep schemas are followed.
const DEPTH_MAX: usize = 6;

/// Where a string goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Path(String),
    Query(String),
    Header(String),
    /// The nearest field around it.
    Body(String),
}

/// One place of one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) path: String,
    pub(super) method: String,
    pub(super) place: Place,
    pub(super) media: Option<String>,
    body: Option<Value>,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.place)
    }
}

impl Slot {
    /// Path with query, and body, with `payload` in its place.
    pub(super) fn aim(&self, payload: &str, id: &str, number: usize) -> (String, Option<String>) {
        let url = match &self.place {
            Place::Path(name) => filled(&self.path.replace(&format!("{{{name}}}"), &encoded(payload)), id),
            Place::Query(name) => format!("{}?{name}={}", filled(&self.path, id), encoded(payload)),
            Place::Header(_) | Place::Body(_) => filled(&self.path, id),
        };
        let mut body = self.body.clone();
        if let Some(body) = &mut body {
            put(body, payload, number);
        }
        (url, body.map(|body| body.to_string()))
    }

    /// Whether an accepted request of it stores an event.
    pub(super) fn sends_events(&self) -> bool {
        matches!(self.path.as_str(), "/v1/events" | "/v1/risk" | "/v1/compliance")
    }
}

/// A path with something in each of its places.
pub(super) fn filled(path: &str, id: &str) -> String {
    let place = |part: &str| if part.starts_with('{') { id.to_owned() } else { part.to_owned() };
    path.split('/').map(place).collect::<Vec<_>>().join("/")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Puts the text into the marked place and a fresh key beside it.
fn put(value: &mut Value, payload: &str, number: usize) {
    match value {
        Value::String(text) if text == MARK => payload.clone_into(text),
        Value::String(text) if text == "a fresh key" => *text = format!("inside-{number}"),
        Value::Array(items) => items.iter_mut().for_each(|item| put(item, payload, number)),
        Value::Object(map) => {
            if let Some(inside) = map.remove(MARK) {
                map.insert(payload.to_owned(), inside);
            }
            map.values_mut().for_each(|value| put(value, payload, number));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every place of every endpoint.
pub(super) fn slots(document: &Value) -> Vec<Slot> {
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let slot = |place, media, body| Slot { path: path.clone(), method: method.clone(), place, media, body };
            let schemas = Schemas { document, compliance: path.ends_with("compliance") };
            let content = operation["requestBody"]["content"].as_object();
            let usual = content.and_then(|content| content.get("application/json"));
            let usual = usual.map(|media| schemas.sample(&media["schema"], 0));
            let json = usual.is_some().then(|| "application/json".to_owned());
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name").to_owned();
                let place = match parameter["in"].as_str() {
                    Some("path") => Place::Path(name),
                    Some("query") => Place::Query(name),
                    Some("header") => Place::Header(name),
                    other => panic!("{path}: a parameter in {other:?}"),
                };
                found.push(slot(place, json.clone(), usual.clone()));
            }
            for (media, content) in content.into_iter().flatten() {
                for (field, body) in schemas.marked(&content["schema"], "", 0) {
                    found.push(slot(Place::Body(field), Some(media.clone()), Some(body)));
                }
            }
        }
    }
    found
}

struct Schemas<'a> {
    document: &'a Value,
    compliance: bool,
}

impl<'a> Schemas<'a> {
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(to) => self.resolved(self.document.pointer(to.trim_start_matches('#')).expect("leads somewhere")),
            None => schema,
        }
    }

    /// The alternatives of a schema that are not null.
    fn alternatives(&self, schema: &'a Value) -> Option<Vec<&'a Value>> {
        let several = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array())?;
        Some(several.iter().filter(|one| one["type"] != "null").collect())
    }

    /// Fields and required names of an object, `allOf` taken together.
    fn fields(&self, schema: &'a Value) -> (Map<String, Value>, Vec<&'a str>) {
        let (mut fields, mut required) = (Map::new(), Vec::new());
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (more, needed) = self.fields(part);
            fields.extend(more);
            required.extend(needed);
        }
        fields.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        (fields, required)
    }

    fn is(schema: &Value, kind: &str) -> bool {
        match &schema["type"] {
            Value::String(said) => said == kind,
            Value::Array(kinds) => kinds.iter().any(|said| said == kind),
            _ => false,
        }
    }

    /// A value that fits, with as little as may be.
    fn sample(&self, schema: &'a Value, depth: usize) -> Value {
        let schema = self.resolved(schema);
        if let Some(alternatives) = self.alternatives(schema) {
            return alternatives.first().map_or(Value::Null, |one| self.sample(one, depth + 1));
        }
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(example) = schema.get("example").filter(|example| example.is_string()) {
            return example.clone();
        }
        if let Some(first) = schema["enum"].as_array().and_then(|names| names.first()) {
            return first.clone();
        }
        match (schema["format"].as_str(), schema["pattern"].is_string()) {
            (Some("uuid"), _) => return json!("019aa5a0-0000-7000-8000-000000000000"),
            (Some("date-time"), _) => return json!("2026-11-21T10:00:00Z"),
            (_, true) => return json!("acme"),
            _ => {}
        }
        if Self::is(schema, "string") {
            json!("1")
        } else if Self::is(schema, "integer") || Self::is(schema, "number") {
            schema.get("minimum").filter(|least| least.as_f64() > Some(0.0)).cloned().unwrap_or(json!(1))
        } else if Self::is(schema, "boolean") {
            json!(false)
        } else if Self::is(schema, "array") {
            json!([])
        } else {
            Value::Object(self.object(schema, depth))
        }
    }

    /// What an object needs, and what an event needs besides its schema.
    fn object(&self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        let (fields, required) = self.fields(schema);
        let mut object = Map::new();
        for name in required {
            // What was merged is owned by this call; what it refers to is the document's.
            let field = schema["properties"].get(name).map(|field| self.sample(field, depth + 1));
            object.insert(name.into(), field.unwrap_or_else(|| json!("1")));
        }
        if fields.contains_key("idempotency_key") {
            object.insert("idempotency_key".into(), json!("a fresh key"));
        }
        if fields.contains_key("kind") && fields.contains_key("risk_score") {
            object.insert("kind".into(), json!(if self.compliance { "compliance" } else { "risk" }));
        }
        object
    }

    /// Values that fit, each with the mark in another place, and the field around it.
    fn marked(&self, schema: &'a Value, field: &str, depth: usize) -> Vec<(String, Value)> {
        if depth > DEPTH_MAX {
            return Vec::new();
        }
        let schema = self.resolved(schema);
        if let Some(alternatives) = self.alternatives(schema) {
            return alternatives.into_iter().flat_map(|one| self.marked(one, field, depth + 1)).collect();
        }
        if Self::is(schema, "string") {
            return vec![(field.into(), json!(MARK))];
        }
        if Self::is(schema, "array") {
            let items = self.marked(&schema["items"], field, depth + 1);
            return items.into_iter().map(|(field, item)| (field, json!([item]))).collect();
        }
        let parts: Vec<&Value> = std::iter::once(schema)
            .chain(schema["allOf"].as_array().into_iter().flatten().map(|part| self.resolved(part)))
            .collect();
        let fields: Vec<(&String, &Value)> =
            parts.iter().filter_map(|part| part["properties"].as_object()).flatten().collect();
        if fields.is_empty() && Self::is(schema, "object") {
            let free = [json!({"k": MARK}), json!({MARK: "v"}), json!({"deep": [{"er": MARK}]})];
            return free.map(|value| (field.to_owned(), value)).to_vec();
        }
        let mut found = Vec::new();
        for (name, field) in fields {
            for (around, value) in self.marked(field, name, depth + 1) {
                let mut object = self.object(schema, depth);
                object.insert(name.clone(), value);
                // What only one kind has makes the event one of that kind.
                let compliance = matches!(name.as_str(), "regulation_ref" | "compliance_type" | "regulatory_flags");
                if compliance && object.contains_key("kind") && name != "kind" {
                    object.insert("kind".into(), json!("compliance"));
                }
                found.push((around, Value::Object(object)));
            }
        }
        found
    }
}
