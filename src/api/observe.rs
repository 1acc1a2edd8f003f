//! Owns what is seen of every request: its correlation id, its one log line, its metrics, and the
//! headers that every answer carries. Never looks into a body.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, histogram};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::problem::{Problem, ProblemType};
use crate::domain::{CorrelationId, TenantId};
use crate::ports::{Clock, Entropy};
use crate::telemetry::names;

/// The header that carries a correlation id, in and out.
pub(super) const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Where time and correlation ids come from.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// What is known of a request besides its words.
#[derive(Clone)]
pub(super) struct RequestContext {
    /// Taken or made.
    pub(super) correlation_id: CorrelationId,
    tenant: Arc<OnceLock<TenantId>>,
}

impl RequestContext {
    /// Notes whose request it is, for the log line. The first note counts.
    pub(super) fn note_tenant(&self, tenant: &TenantId) {
        let _ = self.tenant.set(tenant.clone());
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let noted = parts.extensions.get::<Self>().cloned();
        noted.ok_or_else(|| Problem::new(ProblemType::Internal, "the request was not observed"))
    }
}

/// The log line and the metrics of one request; also of one that the caller gave up.
struct Line {
    clock: Arc<dyn Clock>,
    started: Duration,
    method: &'static str,
    route: String,
    status: u16,
    context: RequestContext,
}

/// What nginx writes for a caller that went away before its answer.
const CLIENT_GONE: u16 = 499;

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.clock.elapsed().saturating_sub(self.started);
        let (method, route, status) = (self.method, &self.route, self.status);
        counter!(names::HTTP_REQUESTS, "method" => method, "route" => route.clone(), "status" => status.to_string())
            .increment(1);
        histogram!(names::HTTP_REQUEST_SECONDS, "route" => route.clone()).record(took.as_secs_f64());
        let tenant = self.context.tenant.get().map(TenantId::as_str);
        let correlation = self.context.correlation_id.as_str();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Probes and scrapes come every few seconds: they are of interest to whoever asks for them.
        if route.starts_with("/health") || route == "/metrics" {
            tracing::debug!(http.method = method, http.route = %route, http.status = status, duration.us = micros,
                tenant.id = tenant, correlation.id = correlation, "request");
        } else {
            tracing::info!(http.method = method, http.route = %route, http.status = status, duration.us = micros,
                tenant.id = tenant, correlation.id = correlation, "request");
        }
    }
}

/// The outermost layer.
pub(super) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let read = correlation_id(request.headers());
    let made = || CorrelationId::parse(&observer.entropy.uuid().to_string()).expect("a UUID is printable ASCII");
    let (correlation_id, refused) = match read {
        Ok(given) => (given.unwrap_or_else(made), None),
        Err(problem) => (made(), Some(problem)),
    };
    let context = RequestContext { correlation_id, tenant: Arc::default() };
    let mut line = Line {
        started: observer.clock.elapsed(),
        clock: observer.clock,
        method: method_label(request.method()),
        route: request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned(),
        status: CLIENT_GONE,
        context: context.clone(),
    };
    request.extensions_mut().insert(context.clone());
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    line.status = response.status().as_u16();
    dress(response.headers_mut(), &context.correlation_id);
    response
}

fn correlation_id(headers: &HeaderMap) -> Result<Option<CorrelationId>, Problem> {
    let Some(raw) = headers.get(&CORRELATION_HEADER) else { return Ok(None) };
    let read = raw.to_str().map_err(|_| "must be 1 to 255 printable ASCII characters");
    let read = read.and_then(|text| CorrelationId::parse(text).map_err(|e| e.why));
    read.map(Some).map_err(|why| Problem::new(ProblemType::BadHeader, format!("X-Correlation-ID {why}")))
}

/// Callers choose methods freely, labels must not grow.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

fn dress(headers: &mut HeaderMap, correlation_id: &CorrelationId) {
    let id = HeaderValue::from_str(correlation_id.as_str()).expect("printable ASCII is a legal header value");
    headers.insert(CORRELATION_HEADER, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
