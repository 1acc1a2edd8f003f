//! The producer API and the control API, request by request, on the router itself: an intake and a store that are kept
//! in memory stand behind it, so that every answer here is the API's own.

mod approvals;
pub(crate) mod archive;
mod audit;
mod control;
mod costs;
mod credentials;
mod documents;
pub(crate) mod fakes;
pub(crate) mod graveyard;
mod keys;
mod matrix;
mod reading;
mod sending;
mod tenants;
pub(crate) mod tokens;
mod traces;
mod versions;
mod wrong_input;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use riskfleet::api::{ApiState, Authenticator, Limits, Probe, Refusals, whole_router};
use riskfleet::domain::ApprovalRules;
use riskfleet::ports::{EventStore, Registry};
use riskfleet::telemetry::{Prometheus, Role, Traces};
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

use fakes::{FakeClock, FakeEntropy, FakeIntake, FakeRegistry, FakeStore};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The API with what stands behind it.
pub(crate) struct Api {
    router: Router,
    pub(crate) intake: Arc<FakeIntake>,
    pub(crate) store: Arc<FakeStore>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// A refusal's type, after its prefix; checks the shape that every refusal has.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        assert_eq!(self.json["status"], self.status.as_u16(), "{}", self.text);
        assert!(self.json["title"].is_string() && self.json["detail"].is_string(), "{}", self.text);
        (self.status.as_u16(), problem_type(&self.json))
    }
}

fn problem_type(problem: &Value) -> String {
    let kind = problem["type"].as_str().unwrap_or_else(|| panic!("no problem: {problem}"));
    kind.strip_prefix("urn:riskfleet:problem:").expect("our own types").to_owned()
}

/// The wrong fields of a refusal.
fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no fields: {problem}"));
    errors.iter().map(|e| e["pointer"].as_str().expect("a pointer")).collect()
}

pub(crate) const LIMITS: Limits = Limits {
    body_bytes_max: 4 << 20,
    event_bytes_max: 256 << 10,
    requests_max: 64,
    request_timeout: Duration::from_secs(5),
    caller_requests_per_s: 0,
    refused_requests_per_s: 0,
    behind_proxy: false,
    https: false,
};

/// Nobody needs a credential.
pub(crate) fn open() -> Authenticator {
    Authenticator::open(([127, 0, 0, 1], 8080).into()).expect("loopback")
}

/// Tokens under [`SECRET`].
pub(crate) fn closed() -> Authenticator {
    Authenticator::tokens(&SecretString::from(SECRET))
}

/// What an API stands on, with the given store.
pub(crate) fn state(store: Arc<dyn EventStore>, auth: Authenticator, limits: Limits, probes: Vec<Probe>) -> ApiState {
    ApiState {
        store,
        keyring: crate::vaults::lone_keyring(),
        registry: Arc::new(FakeRegistry),
        approvals: ApprovalRules::default(),
        audit_key: None,
        auth,
        clock: Arc::new(FakeClock),
        entropy: Arc::new(FakeEntropy::default()),
        retention_days: 30,
        limits,
        probes,
        prometheus: Prometheus::install(Role::All).expect("the first recorder of this process"),
        refusals: Refusals::new(Arc::new(FakeClock)).0,
        traces: Traces::off(),
    }
}

impl Api {
    fn with(auth: Authenticator, limits: Limits, probes: Vec<Probe>) -> Self {
        let (intake, store) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
        let state = state(store.clone(), auth, limits, probes);
        Self { router: whole_router(state, intake.clone()), intake, store }
    }

    /// Over a store of the caller's.
    fn over(store: Arc<dyn EventStore>, auth: Authenticator) -> Self {
        let (intake, unused) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
        let router = whole_router(state(store, auth, LIMITS, Vec::new()), intake.clone());
        Self { router, intake, store: unused }
    }

    /// Over an archive, which is governed too.
    fn over_archive(archive: &archive::Archive, auth: Authenticator) -> Self {
        let (intake, unused) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
        Self { router: whole_router(archive.state(auth), intake.clone()), intake, store: unused }
    }

    /// Without authentication.
    fn open() -> Self {
        Self::limited(LIMITS)
    }

    fn limited(limits: Limits) -> Self {
        Self::with(open(), limits, Vec::new())
    }

    /// With tokens under [`SECRET`].
    fn closed() -> Self {
        Self::closed_by(closed())
    }

    /// With credentials that `auth` checks.
    fn closed_by(auth: Authenticator) -> Self {
        Self::with(auth, LIMITS, Vec::new())
    }

    /// Over a store of the caller's that is a registry, too.
    fn governed<S: EventStore + Registry + 'static>(store: Arc<S>, change: impl FnOnce(&mut ApiState)) -> Self {
        let (intake, unused) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
        let mut state = state(store.clone(), closed(), LIMITS, Vec::new());
        state.registry = store;
        change(&mut state);
        Self { router: whole_router(state, intake.clone()), intake, store: unused }
    }

    /// Sends a request; the answer's status must stand in the OpenAPI document.
    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("routers do not fail");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        for name in ["x-correlation-id", "x-content-type-options", "cache-control"] {
            assert!(parts.headers.contains_key(name), "{name} is missing on {method} {path}");
        }
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        documents::assert_documented(method, path, parts.status, &json);
        Answer { status: parts.status, headers: parts.headers, text, json }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.call("GET", path, headers, Body::empty()).await
    }

    /// Sends JSON to a route with a tenant and more headers.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let json = ("content-type", "application/json");
        self.call("POST", path, &[&[json, ("x-tenant-id", "acme")], headers].concat(), body).await
    }

    /// Sends one good event with a key.
    async fn send(&self, key: &str, more: &[(&str, &str)]) -> Answer {
        self.post("/v1/risk", &[&[("x-idempotency-key", key)], more].concat(), r#"{"version":"1"}"#).await
    }
}
