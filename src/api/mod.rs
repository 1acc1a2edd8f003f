//! Role: the HTTP APIs of producers and of operators, and the health and metrics that every process
//! shows.
//!
//! Owns HTTP: what a request must look like, what an answer looks like. Hands events to the
//! `Intake` and what people decide to the `EventStore`, and reads both back; never publishes or
//! decides anything.
//! One endpoint a file, with its part of the OpenAPI document.
//!
//! # Decisions
//! Refusals of items inside a batch have pointers into the item and the item's `index`, not
//! pointers into the whole body: the same reader serves single events, lines and CloudEvents.
//! A batch that is nested too deeply anywhere is refused whole, since what stands behind the
//! nesting can't be told apart any more.

pub mod auth;
mod body;
mod compliance_post;
mod control;
mod decision_get;
mod docs;
mod event_get;
mod events_post;
mod failure;
mod guard;
mod headers;
pub mod health;
mod metrics_get;
mod observe;
mod pace;
pub mod problem;
mod refusals;
mod risk_post;
mod schemas;
mod submit;
mod tenant_context;
mod timeline_get;
mod trace;
mod views;

use axum::extract::FromRef;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Settings;
use crate::crypto::Keyring;
use crate::domain::ApprovalRules;
use crate::lifecycle::{SystemClock, SystemEntropy};
use crate::ports::{Clock, Entropy, EventStore, Intake, Registry};
use crate::telemetry::{Prometheus, Traces};

pub use auth::Authenticator;
pub use health::Probe;
use health::Probes;
use metrics_get::Scrape;
use observe::Observer;
use pace::Paces;
use problem::{Problem, ProblemType};
pub use refusals::{RefusalWriter, Refusals};

/// Bounds of requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of a body.
    pub body_bytes_max: usize,
    /// Of one event's text.
    pub event_bytes_max: usize,
    /// Requests worked on at once.
    pub requests_max: usize,
    /// Of a request's time, what it waits for a decision not counted.
    pub request_timeout: Duration,
    /// Requests a second with one credential; 0: no bound.
    pub caller_requests_per_s: u32,
    /// Requests a second of one address whose credential does not hold; 0: no bound.
    pub refused_requests_per_s: u32,
    /// Whether a proxy in front does TLS and says in `X-Forwarded-For` whom it speaks for.
    pub behind_proxy: bool,
    /// Whether callers come by HTTPS, here or at that proxy.
    pub https: bool,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            body_bytes_max: settings.body_bytes_max,
            event_bytes_max: settings.event_bytes_max,
            requests_max: settings.requests_max,
            request_timeout: settings.request_timeout(),
            caller_requests_per_s: settings.caller_requests_per_s,
            refused_requests_per_s: settings.refused_requests_per_s,
            behind_proxy: settings.behind_proxy,
            https: settings.behind_proxy || settings.tls_cert_file.is_some(),
        }
    }
}

/// What the API stands on.
pub struct ApiState {
    /// Reads events back, and takes what people decide about them.
    pub store: Arc<dyn EventStore>,
    /// Opens what is stored, and destroys what opens it.
    pub keyring: Arc<Keyring>,
    /// What people govern by.
    pub registry: Arc<dyn Registry>,
    /// Which approval requests are overdue, and whose they then are.
    pub approvals: ApprovalRules,
    /// The public key that signs the audit, where this process does.
    pub audit_key: Option<[u8; 32]>,
    /// Checks callers.
    pub auth: Authenticator,
    /// For tokens and durations.
    pub clock: Arc<dyn Clock>,
    /// For correlation ids.
    pub entropy: Arc<dyn Entropy>,
    /// How long the fleet keeps what a tenant has no retention of its own for, in days; 0: for ever.
    pub retention_days: u32,
    /// Bounds of requests.
    pub limits: Limits,
    /// What health asks.
    pub probes: Vec<Probe>,
    /// What `/metrics` shows.
    pub prometheus: Prometheus,
    /// Where refusals of known callers go, to be chained.
    pub refusals: Refusals,
    /// Which requests are traced.
    pub traces: Traces,
}

type Shared = Arc<ApiState>;

/// What the routes stand on that take events.
#[derive(Clone)]
struct Sending {
    api: Shared,
    intake: Arc<dyn Intake>,
}

impl FromRef<Sending> for Shared {
    fn from_ref(sending: &Sending) -> Self {
        Self::clone(&sending.api)
    }
}

/// Whom a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Producers: events.
    Producers,
    /// Operators: approvals, dead letters, the fleet.
    Control,
    /// Both.
    Whole,
}

impl Plane {
    fn title(self) -> &'static str {
        match self {
            Self::Producers => "riskfleet producer API",
            Self::Control => "riskfleet control API",
            Self::Whole => "riskfleet API",
        }
    }
}

/// The producer API with health, metrics and documents: everything of one port.
pub fn router(state: ApiState, intake: Arc<dyn Intake>) -> Router {
    let api = Arc::new(state);
    listener(&api, Plane::Producers, producer_routes(&api, intake))
}

/// The control API with health, metrics and documents.
pub fn control_router(state: ApiState) -> Router {
    let api = Arc::new(state);
    listener(&api, Plane::Control, control_routes(&api))
}

/// Both APIs on one port.
pub fn whole_router(state: ApiState, intake: Arc<dyn Intake>) -> Router {
    let api = Arc::new(state);
    listener(&api, Plane::Whole, producer_routes(&api, intake).merge(control_routes(&api)))
}

fn producer_routes(api: &Shared, intake: Arc<dyn Intake>) -> Router {
    let sending = Sending { api: Arc::clone(api), intake };
    Router::from(sends()).with_state(sending).merge(Router::from(reads()).with_state(Arc::clone(api)))
}

fn control_routes(api: &Shared) -> Router {
    Router::from(control::routes()).with_state(Arc::clone(api))
}

fn listener(api: &Shared, plane: Plane, routes: Router) -> Router {
    let observer = Observer {
        https: api.limits.https,
        clock: Arc::clone(&api.clock),
        entropy: Arc::clone(&api.entropy),
        behind_proxy: api.limits.behind_proxy,
        refusals: api.refusals.clone(),
        traces: api.traces.clone(),
    };
    let paces = Arc::new(Paces::new(&api.limits, &api.clock));
    let bounds = guard::Bounds::new(api.limits.requests_max, api.limits.request_timeout);
    let scrape = Scrape { prometheus: api.prometheus.clone(), api: Some(Arc::clone(api)) };
    let ops = ops(Probes::new(api.probes.clone()), scrape).layer(Extension(Arc::clone(&paces)));
    let routes = routes.route_layer(from_fn_with_state(bounds, guard::bound)).layer(Extension(paces));
    let documents = Router::from(documents()).with_state(Arc::new(openapi(plane)));
    let mut router = with_fallbacks(routes.merge(ops).merge(documents).merge(docs::page()));
    if api.auth.is_open() {
        router = router.layer(from_fn(guard::loopback_only));
    }
    observed(router, observer)
}

/// Health and metrics alone, for a process without an API.
pub fn ops_router(probes: Vec<Probe>, prometheus: Prometheus) -> Router {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Nobody is authenticated here, so nobody is refused.
    let (refusals, _) = Refusals::new(Arc::clone(&clock));
    let entropy = Arc::new(SystemEntropy);
    let traces = Traces::off();
    let observer = Observer { https: false, clock, entropy, behind_proxy: false, refusals, traces };
    observed(with_fallbacks(ops(Probes::new(probes), Scrape { prometheus, api: None })), observer)
}

/// The OpenAPI document of what a plane answers.
pub fn openapi(plane: Plane) -> OpenApi {
    let mut whole = docs::Whole::openapi();
    plane.title().clone_into(&mut whole.info.title);
    let producers = || vec![sends().into_openapi(), reads().into_openapi()];
    let control = || vec![control::routes().into_openapi()];
    let mut parts = match plane {
        Plane::Producers => producers(),
        Plane::Control => control(),
        Plane::Whole => [producers(), control()].concat(),
    };
    parts.extend([probes().into_openapi(), scrape().into_openapi(), documents().into_openapi()]);
    for part in parts {
        whole.merge(part);
    }
    whole
}

fn sends() -> OpenApiRouter<Sending> {
    OpenApiRouter::new()
        .routes(routes!(events_post::post_events))
        .routes(routes!(risk_post::post_risk))
        .routes(routes!(compliance_post::post_compliance))
}

fn reads() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(event_get::get_event))
        .routes(routes!(decision_get::get_decision))
        .routes(routes!(timeline_get::get_timeline))
        .routes(routes!(tenant_context::get_tenant_context))
}

fn probes() -> OpenApiRouter<Probes> {
    OpenApiRouter::new()
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_live))
        .routes(routes!(health::get_ready))
}

fn scrape() -> OpenApiRouter<Scrape> {
    OpenApiRouter::new().routes(routes!(metrics_get::get_metrics))
}

fn documents() -> OpenApiRouter<Arc<OpenApi>> {
    OpenApiRouter::new().routes(routes!(docs::get_openapi))
}

fn ops(asked: Probes, scraped: Scrape) -> Router {
    Router::from(probes()).with_state(asked).merge(Router::from(scrape()).with_state(scraped))
}

fn with_fallbacks(router: Router) -> Router {
    let no_route = || async { Problem::new(ProblemType::NotFound, "no such route") };
    let no_method = || async { Problem::new(ProblemType::MethodNotAllowed, "the header Allow names the methods") };
    router.fallback(no_route).method_not_allowed_fallback(no_method)
}

/// The outermost layers: a panic becomes an answer, and every answer is observed.
fn observed(router: Router, observer: Observer) -> Router {
    let router = router.layer(from_fn(guard::short_uri));
    router.layer(CatchPanicLayer::custom(guard::panicked)).layer(from_fn_with_state(observer, observe::observe))
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => unreadable(&e).into_response(),
    }
}

/// What is stored can't be shown: a defect.
fn unreadable(error: &serde_json::Error) -> Problem {
    tracing::error!(error = %error, "failed to show what is stored");
    Problem::new(ProblemType::Internal, "the log says more, under this request's correlation id")
}
