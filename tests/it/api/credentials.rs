//! Who may do what: tokens, roles, tenants; and who is let in where there is no authentication.

use super::{Answer, Api, SECRET};
use axum::body::Body;
use axum::http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use riskfleet::api::Authenticator;
use serde_json::{Value, json};

use super::fakes::NOW_MS;

const NOW: u64 = NOW_MS / 1000;

fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let token = encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()));
    format!("Bearer {}", token.expect("a token"))
}

fn claims(roles: &[&str]) -> Value {
    json!({"sub": "ann", "tenant_id": "acme", "roles": roles, "exp": NOW + 60})
}

pub(super) fn token(roles: &[&str]) -> String {
    signed(&claims(roles), Algorithm::HS256, SECRET)
}

/// The claims of an administrator with one of them changed; null leaves it out.
fn token_with(name: &str, value: Value) -> String {
    let mut changed = claims(&["ADMIN"]);
    changed[name] = value;
    changed.as_object_mut().expect("an object").retain(|_, claim| !claim.is_null());
    signed(&changed, Algorithm::HS256, SECRET)
}

/// A token of somebody who runs the fleet and is of no tenant.
pub(super) fn operator_token() -> String {
    let mut claims = claims(&["OPERATOR"]);
    claims.as_object_mut().expect("an object").remove("tenant_id");
    signed(&claims, Algorithm::HS256, SECRET)
}

/// A token that names no roles: a producer's.
pub(super) fn producer_token() -> String {
    token_with("roles", Value::Null)
}

async fn send(api: &Api, authorization: &str, more: &[(&str, &str)]) -> Answer {
    let headers = [("content-type", "application/json"), ("x-idempotency-key", "k"), ("authorization", authorization)];
    api.call("POST", "/v1/risk", &[&headers, more].concat(), r#"{"version":"1"}"#).await
}

#[tokio::test]
async fn the_roles_decide_who_may_send_and_who_may_see() {
    let api = Api::closed();
    let sends = [("ADMIN", 202), ("ANALYST", 200), ("APPROVER", 403), ("VIEWER", 403), ("OPERATOR", 403)];
    for (role, status) in sends {
        let sent = send(&api, &token(&[role]), &[]).await;
        assert_eq!(sent.status.as_u16(), status, "{role}: {}", sent.text);
        let seen = api.get("/v1/tenant/context", &[("authorization", &token(&[role]))]).await;
        assert_eq!(seen.status.as_u16(), if role == "OPERATOR" { 403 } else { 200 }, "{role}");
    }
    assert_eq!(send(&api, &token(&[]), &[]).await.problem(), (403, "forbidden".into()));
    let refused = send(&api, &token(&["VIEWER"]), &[]).await;
    let why = "the permission `create` is missing: one of the roles ADMIN, ANALYST has it";
    assert_eq!(refused.json["detail"], why);
    let both = [("authorization", token(&["VIEWER", "ADMIN"]))];
    let seen = api.get("/v1/tenant/context", &[(both[0].0, &both[0].1), ("x-correlation-id", "c")]).await;
    let want = json!({"tenant_id": "acme", "correlation_id": "c", "subject": "ann", "roles": ["VIEWER", "ADMIN"],
        "authentication": "on"});
    assert_eq!(seen.json, want);
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_401() {
    let api = Api::closed();
    let (with, without) = (token_with, |name: &str| token_with(name, Value::Null));
    let unsigned = {
        let good = token(&["ADMIN"]);
        let payload = good.split('.').nth(1).expect("three parts").to_owned();
        // {"alg":"none","typ":"JWT"}
        format!("Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")
    };
    let bad = [
        String::new(),
        "Bearer".into(),
        "Bearer x".into(),
        "Basic YTpi".into(),
        unsigned,
        signed(&claims(&["ADMIN"]), Algorithm::HS256, "another secret of at least 32 bytes"),
        signed(&claims(&["ADMIN"]), Algorithm::HS384, SECRET),
        with("exp", json!(NOW - 31)),
        with("exp", json!("soon")),
        with("nbf", json!(NOW + 31)),
        with("aud", json!("another service")),
        with("tenant_id", json!("a b")),
        with("roles", json!("ADMIN")),
        without("exp"),
        without("sub"),
        without("tenant_id"),
        token(&["ROOT"]),
        token(&["ADMIN", "ROOT"]),
        token(&["PRODUCER"]),
        token(&["admin"]),
    ];
    for authorization in bad {
        let refused = send(&api, &authorization, &[]).await;
        assert_eq!(refused.problem(), (401, "unauthorized".into()), "{authorization}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(api.get("/v1/tenant/context", &[]).await.problem(), (401, "unauthorized".into()));
    assert!(api.intake.seen.lock().expect("held").is_empty());
    for good in [with("exp", json!(NOW - 29)), with("nbf", json!(NOW + 29)), with("aud", json!(["riskfleet"]))] {
        assert!(send(&api, &good, &[]).await.status.is_success());
    }
}

#[tokio::test]
async fn a_token_without_roles_is_a_producers_as_it_always_was() {
    let api = Api::closed();
    let producer = producer_token();
    assert_eq!(send(&api, &producer, &[]).await.status, StatusCode::ACCEPTED);
    let seen = api.get("/v1/tenant/context", &[("authorization", &producer)]).await;
    assert_eq!((seen.status, &seen.json["roles"]), (StatusCode::OK, &json!(["PRODUCER"])));
}

#[tokio::test]
async fn only_an_operator_may_be_of_no_tenant_and_cannot_choose_one() {
    let api = Api::closed();
    let claims = |roles: &[&str]| json!({"sub": "ops", "roles": roles, "exp": NOW + 60});
    let of = |roles: &[&str]| signed(&claims(roles), Algorithm::HS256, SECRET);
    let operator = of(&["OPERATOR"]);
    let path = "/v1/tenant/context";
    assert_eq!(api.get(path, &[("authorization", &operator)]).await.problem(), (403, "forbidden".into()));
    let chosen = [("authorization", operator.as_str()), ("x-tenant-id", "acme")];
    assert_eq!(api.get(path, &chosen).await.problem(), (403, "tenant-mismatch".into()));
    for roles in [&["OPERATOR", "VIEWER"][..], &["ADMIN"], &[]] {
        let refused = api.get(path, &[("authorization", &of(roles))]).await;
        assert_eq!(refused.problem(), (401, "unauthorized".into()), "{roles:?}");
    }
}

#[tokio::test]
async fn the_credentials_tenant_binds() {
    let api = Api::closed();
    let admin = token(&["ADMIN"]);
    assert_eq!(send(&api, &admin, &[("x-tenant-id", "other")]).await.problem(), (403, "tenant-mismatch".into()));
    assert_eq!(send(&api, &admin, &[("x-tenant-id", "acme")]).await.status, StatusCode::ACCEPTED);
    let headers = [("content-type", "application/json"), ("x-idempotency-key", "l"), ("authorization", admin.as_str())];
    let foreign = r#"{"version":"1","tenant_id":"other"}"#;
    assert_eq!(api.call("POST", "/v1/risk", &headers, foreign).await.problem(), (403, "tenant-mismatch".into()));
    assert!(api.intake.seen.lock().expect("held").iter().all(|c| c.body.tenant_id.as_str() == "acme"));
}

#[tokio::test]
async fn health_metrics_and_documents_need_no_credential() {
    let api = Api::closed();
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(api.get(path, &[]).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn without_authentication_no_web_page_is_let_in() {
    assert!(Authenticator::open(([0, 0, 0, 0], 8080).into()).is_err());
    assert!(Authenticator::open(([10, 0, 0, 1], 8080).into()).is_err());
    let api = Api::open();
    for foreign in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")] {
        assert_eq!(api.send("k", &[foreign]).await.problem(), (403, "forbidden".into()), "{foreign:?}");
        assert_eq!(api.get("/metrics", &[foreign]).await.problem(), (403, "forbidden".into()), "{foreign:?}");
    }
    assert_eq!(api.send("k", &[("origin", "http://localhost:8080")]).await.status, StatusCode::ACCEPTED);
    let form = [("content-type", "text/plain"), ("x-tenant-id", "acme"), ("x-idempotency-key", "f")];
    let refused = api.call("POST", "/v1/risk", &form, Body::from(r#"{"version":"1"}"#)).await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
