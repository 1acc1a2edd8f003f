//! Role: the producers' HTTP API, and the health and metrics that every process shows.
//!
//! Owns HTTP: what a request must look like, what an answer looks like. Hands events to the
//! `Intake`, reads them back from the `EventStore`; never stores, publishes or decides anything.
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
mod decision_get;
mod docs;
mod event_get;
mod events_post;
mod guard;
mod headers;
pub mod health;
mod metrics_get;
mod observe;
pub mod problem;
mod risk_post;
mod schemas;
mod submit;
mod tenant_context;
mod timeline_get;
mod views;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Settings;
use crate::lifecycle::{SystemClock, SystemEntropy};
use crate::ports::{Clock, Entropy, EventStore, Intake};
use crate::telemetry::Prometheus;

pub use auth::Authenticator;
pub use health::Probe;
use health::Probes;
use observe::Observer;
use problem::{Problem, ProblemType};

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
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self {
            body_bytes_max: settings.body_bytes_max,
            event_bytes_max: settings.event_bytes_max,
            requests_max: settings.requests_max,
            request_timeout: settings.request_timeout(),
        }
    }
}

/// What the API stands on.
pub struct ApiState {
    /// Takes events.
    pub intake: Arc<dyn Intake>,
    /// Reads them back.
    pub store: Arc<dyn EventStore>,
    /// Checks callers.
    pub auth: Authenticator,
    /// For tokens and durations.
    pub clock: Arc<dyn Clock>,
    /// For correlation ids.
    pub entropy: Arc<dyn Entropy>,
    /// Bounds of requests.
    pub limits: Limits,
    /// What health asks.
    pub probes: Vec<Probe>,
    /// What `/metrics` shows.
    pub prometheus: Prometheus,
}

type Shared = Arc<ApiState>;

/// The producer API with health, metrics and documents: everything of one port.
pub fn router(state: ApiState) -> Router {
    let observer = Observer { clock: Arc::clone(&state.clock), entropy: Arc::clone(&state.entropy) };
    let bounds = guard::Bounds::new(state.limits.requests_max, state.limits.request_timeout);
    let open = state.auth.is_open();
    let ops = ops(Probes::new(state.probes.clone()), state.prometheus.clone());
    let events = Router::from(v1()).with_state(Arc::new(state)).route_layer(from_fn_with_state(bounds, guard::bound));
    let documents = Router::from(documents()).with_state(Arc::new(openapi()));
    let mut router = with_fallbacks(events.merge(ops).merge(documents).merge(docs::page()));
    if open {
        router = router.layer(from_fn(guard::loopback_only));
    }
    observed(router, observer)
}

/// Health and metrics alone, for a process without an API.
pub fn ops_router(probes: Vec<Probe>, prometheus: Prometheus) -> Router {
    let observer = Observer { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy) };
    observed(with_fallbacks(ops(Probes::new(probes), prometheus)), observer)
}

/// The OpenAPI document of [`router`].
pub fn openapi() -> OpenApi {
    let mut whole = docs::Whole::openapi();
    let parts = [v1().into_openapi(), probes().into_openapi(), scrape().into_openapi(), documents().into_openapi()];
    for part in parts {
        whole.merge(part);
    }
    whole
}

fn v1() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(events_post::post_events))
        .routes(routes!(risk_post::post_risk))
        .routes(routes!(compliance_post::post_compliance))
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

fn scrape() -> OpenApiRouter<Prometheus> {
    OpenApiRouter::new().routes(routes!(metrics_get::get_metrics))
}

fn documents() -> OpenApiRouter<Arc<OpenApi>> {
    OpenApiRouter::new().routes(routes!(docs::get_openapi))
}

fn ops(asked: Probes, prometheus: Prometheus) -> Router {
    Router::from(probes()).with_state(asked).merge(Router::from(scrape()).with_state(prometheus))
}

fn with_fallbacks(router: Router) -> Router {
    let no_route = || async { Problem::new(ProblemType::NotFound, "no such route") };
    let no_method = || async { Problem::new(ProblemType::MethodNotAllowed, "the header Allow names the methods") };
    router.fallback(no_route).method_not_allowed_fallback(no_method)
}

/// The outermost layers: a panic becomes an answer, and every answer is observed.
fn observed(router: Router, observer: Observer) -> Router {
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
