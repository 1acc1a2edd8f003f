//! The OpenAPI document is served, and true: every route and every status that any test here sees
//! stands in it.

use super::Api;
use axum::http::StatusCode;
use riskfleet::api::{Plane, openapi};
use serde_json::Value;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(openapi(Plane::Whole)).expect("a document"));

/// The document's name of a route.
fn documented_path(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let fits = |template: &str| {
        let (asked, named) = (path.split('/'), template.split('/'));
        asked.clone().count() == named.clone().count()
            && asked.zip(named).all(|(part, name)| part == name || (name.starts_with('{') && !part.is_empty()))
    };
    // A route that is spelled out goes before one with a parameter.
    let found = paths.keys().find(|name| *name == path).or_else(|| paths.keys().find(|name| fits(name)));
    found.cloned().unwrap_or_else(|| path.to_owned())
}

/// Holds an answer against the document. What no route answers (404 of no route, 405) and the
/// pages of `/docs` are not in it; without authentication 403 is the listener's, on any route.
pub(crate) fn assert_documented(method: &str, path: &str, status: StatusCode, body: &Value) {
    let Some(route) = DOCUMENT["paths"].get(documented_path(path)) else {
        assert!(status == StatusCode::NOT_FOUND || path.starts_with("/docs"), "{path} is not documented");
        return;
    };
    let Some(operation) = route.get(method.to_ascii_lowercase()) else {
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is not documented");
        return;
    };
    let known = operation["responses"].get(status.as_str()).is_some();
    let listener = status == StatusCode::FORBIDDEN || status == StatusCode::BAD_REQUEST;
    assert!(known || (listener && !path.starts_with("/v1")), "{method} {path} does not document {status}");
    let content = &operation["responses"][status.as_str()]["content"];
    for media in ["application/json", "application/problem+json"] {
        if let Some(schema) = content.pointer(&format!("/{}/schema", media.replace('/', "~1"))) {
            assert!(fits(schema, body), "{method} {path} {status} is not as documented: {body}");
        }
    }
}

/// Whether a value has the documented fields and no others, all the way down.
fn fits(schema: &Value, value: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(DOCUMENT.pointer(reference.trim_start_matches('#')).expect("leads somewhere"), value);
    }
    if let Some(several) = schema["oneOf"].as_array() {
        return several.iter().any(|one| fits(one, value));
    }
    if let Some(names) = schema["enum"].as_array() {
        return names.contains(value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let said = match &schema["type"] {
        Value::Array(kinds) => kinds.contains(&kind.into()),
        Value::String(said) => said == kind || (said == "number" && kind == "integer"),
        _ => true,
    };
    let inside = match (value, schema["properties"].as_object()) {
        (Value::Array(items), _) => items.iter().all(|item| fits(&schema["items"], item)),
        (Value::Object(map), Some(fields)) => {
            let required = schema["required"].as_array();
            map.iter().all(|(name, value)| fields.get(name).is_some_and(|field| fits(field, value)))
                && required.into_iter().flatten().all(|name| map.contains_key(name.as_str().unwrap_or_default()))
        }
        _ => true,
    };
    said && inside
}

/// Every route of the whole API.
const ROUTES: [&str; 54] = [
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/v1/approvals",
    "/v1/approvals/{event_id}",
    "/v1/approvals/{event_id}/approve",
    "/v1/approvals/{event_id}/claim",
    "/v1/approvals/{event_id}/comments",
    "/v1/approvals/{event_id}/reject",
    "/v1/approvals/{event_id}/release",
    "/v1/audit",
    "/v1/audit/checkpoints",
    "/v1/audit/public-key",
    "/v1/compliance",
    "/v1/costs",
    "/v1/costs/budgets",
    "/v1/costs/budgets/{id}",
    "/v1/costs/budgets/{id}/remove",
    "/v1/dead-letters",
    "/v1/dead-letters/{id}",
    "/v1/dead-letters/{id}/discard",
    "/v1/dead-letters/{id}/replay",
    "/v1/events",
    "/v1/events/{id}",
    "/v1/events/{id}/decision",
    "/v1/events/{id}/timeline",
    "/v1/fleet",
    "/v1/fleet/repair",
    "/v1/fleet/scaling",
    "/v1/keys",
    "/v1/keys/{id}/revoke",
    "/v1/models",
    "/v1/models/active",
    "/v1/models/deactivate",
    "/v1/models/{name}/{version}",
    "/v1/models/{name}/{version}/activate",
    "/v1/models/{name}/{version}/approve",
    "/v1/models/{name}/{version}/reject",
    "/v1/prompts",
    "/v1/prompts/{name}/{version}",
    "/v1/prompts/{name}/{version}/approve",
    "/v1/prompts/{name}/{version}/reject",
    "/v1/retention/sweep",
    "/v1/risk",
    "/v1/tenant/context",
    "/v1/tenants",
    "/v1/tenants/{id}",
    "/v1/tenants/{id}/erase",
    "/v1/tenants/{id}/hold",
    "/v1/tenants/{id}/release",
    "/v1/tenants/{id}/retention",
    "/v1/vault/rewrap",
];

#[tokio::test]
async fn the_document_is_served_and_names_every_route() {
    let api = Api::open();
    let served = api.get("/openapi.json", &[]).await;
    assert_eq!(served.status, StatusCode::OK);
    assert_eq!(served.json, *DOCUMENT);
    let paths: Vec<&String> = DOCUMENT["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, ROUTES);
    for path in &ROUTES[5..] {
        let route = &DOCUMENT["paths"][path];
        let operation = route.get("get").or_else(|| route.get("post")).expect("an operation");
        for status in ["401", "403", "500", "503"] {
            let problem = &operation["responses"][status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{path} {status}");
        }
    }
}

#[test]
fn each_plane_documents_what_it_answers_and_nothing_else() {
    let paths = |plane| -> Vec<String> {
        let document = serde_json::to_value(openapi(plane)).expect("a document");
        let paths = document["paths"].as_object().expect("paths");
        paths.keys().filter(|path| path.starts_with("/v1")).cloned().collect()
    };
    let (producers, control) = (paths(Plane::Producers), paths(Plane::Control));
    let governing = [
        "/v1/dead-letters",
        "/v1/fleet",
        "/v1/tenants",
        "/v1/retention",
        "/v1/keys",
        "/v1/approvals",
        "/v1/audit",
        "/v1/vault",
        "/v1/models",
        "/v1/prompts",
        "/v1/costs",
    ];
    let governs = |path: &String| governing.iter().any(|begin| path.starts_with(begin));
    assert!(!producers.iter().any(governs));
    assert!(control.iter().all(governs));
    assert_eq!(producers.len() + control.len(), paths(Plane::Whole).len());
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    references(&DOCUMENT, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let there = DOCUMENT.pointer(reference.trim_start_matches('#'));
        assert!(there.is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_page_is_there() {
    let api = Api::open();
    let page = api.get("/docs", &[]).await;
    let page = match page.status.is_redirection() {
        true => api.get(page.header("location").expect("a place"), &[]).await,
        false => page,
    };
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("<html"), "{}", page.text);
}
