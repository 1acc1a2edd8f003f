//! Owns what is seen of every request: its correlation id, its one log line, its metrics, and the
//! headers that every answer carries. Never looks into a body.

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, histogram};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::auth::{Caller, Credential};
use super::problem::{Problem, ProblemType, Refused};
use super::refusals::Refusals;
use super::trace::{RequestTrace, Told};
use crate::domain::{CorrelationId, TenantId};
use crate::lifecycle::Peer;
use crate::ports::{Clock, Entropy};
use crate::telemetry::{Happened, Traces, names, tenants};

/// The header that carries a correlation id, in and out.
pub(super) const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// The header by which browsers keep to HTTPS (RFC 6797): for two years, as its preload lists ask.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// What a page of ours may do: nothing, since answers are no pages.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The interactive description has scripts and pictures of its own, and styles inside.
const DOCS_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Sensors and devices that no answer of ours has a use for.
const NO_DEVICES: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=(), interest-cohort=()");

/// Characters of a subject in a log line.
const SUBJECT_SHOWN_MAX: usize = 128;

/// Where time and correlation ids come from.
#[derive(Clone)]
pub(super) struct Observer {
    /// Whether callers come by HTTPS, here or at the proxy in front.
    pub(super) https: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Whether connections come from a proxy, which says for whom.
    pub(super) behind_proxy: bool,
    /// Where refusals of known callers go.
    pub(super) refusals: Refusals,
    /// Which requests are traced.
    pub(super) traces: Traces,
}

/// What is known of a request besides its words.
#[derive(Clone)]
pub(super) struct RequestContext {
    /// Taken or made.
    pub(super) correlation_id: CorrelationId,
    /// Whose connection it came by; behind a proxy, whose the proxy says it is.
    pub(super) address: Option<IpAddr>,
    /// Its trace, where it has one.
    pub(super) trace: RequestTrace,
    tenant: Arc<OnceLock<TenantId>>,
    caller: Arc<OnceLock<SeenCaller>>,
}

/// A caller, as its credential says it.
pub(super) struct SeenCaller {
    pub(super) subject: String,
    pub(super) tenant: Option<TenantId>,
    credential: Credential,
}

impl RequestContext {
    /// Notes whose request it is, for the log line. The first note counts.
    pub(super) fn note_tenant(&self, tenant: &TenantId) {
        let _ = self.tenant.set(tenant.clone());
    }

    /// Whose request it is, where that is known.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.tenant.get().or_else(|| self.caller.get()?.tenant.as_ref())
    }

    /// Notes who calls, for the log line and for the record of a refusal; never the credential itself.
    pub(super) fn note_caller(&self, caller: &Caller) {
        self.trace.begin();
        let _ = self.caller.set(SeenCaller {
            subject: caller.subject.clone(),
            tenant: caller.tenant.clone(),
            credential: caller.credential(),
        });
    }

    /// Who calls, where that is known.
    pub(super) fn caller(&self) -> Option<&SeenCaller> {
        self.caller.get().filter(|caller| caller.credential != Credential::None)
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
        let tenant = self.context.tenant();
        if let Some(tenant) = tenant {
            tenants().count(tenant, Happened::Requested);
        }
        let tenant = tenant.map(TenantId::as_str);
        // An issuer may choose long subjects, a line must stay one.
        let shown =
            |c: &SeenCaller| (c.subject.chars().take(SUBJECT_SHOWN_MAX).collect::<String>(), c.credential.as_str());
        let (subject, credential) = self.context.caller.get().map(shown).unzip();
        let correlation = self.context.correlation_id.as_str();
        let trace = self.context.trace.id().map(tracing::field::display);
        let told = Told {
            method,
            route,
            status,
            tenant: self.context.tenant.get(),
            correlation: &self.context.correlation_id,
        };
        self.context.trace.end(&told);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Probes and scrapes come every few seconds: they are of interest to whoever asks for them.
        if route.starts_with("/health") || route == "/metrics" {
            tracing::debug!(http.method = method, http.route = %route, http.status = status, duration.us = micros,
                correlation.id = correlation, "request");
        } else {
            tracing::info!(http.method = method, http.route = %route, http.status = status, duration.us = micros,
                tenant.id = tenant, caller.subject = subject, caller.credential = credential,
                correlation.id = correlation, trace.id = trace, "request");
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
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.0.ip());
    let forwarded = observer.behind_proxy.then(|| forwarded_for(request.headers())).flatten();
    let address = forwarded.or(peer);
    let trace = RequestTrace::of(&observer.traces, request.headers());
    let context = RequestContext { correlation_id, address, trace, tenant: Arc::default(), caller: Arc::default() };
    let policy = if request.uri().path().starts_with("/docs") { DOCS_PAGE } else { NO_PAGE };
    let mut line = Line {
        started: observer.clock.elapsed(),
        clock: Arc::clone(&observer.clock),
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
    if let Some(refused) = response.extensions().get::<Refused>() {
        observer.refusals.note(*refused, &context, (line.method, &line.route));
    }
    dress(response.headers_mut(), &context.correlation_id);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    if observer.https {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    response
}

/// Whom the proxy in front speaks for: the last entry of `X-Forwarded-For` is the proxy's own, those
/// before it are whatever the caller has sent.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let entry = last.rsplit(',').next()?.trim();
    entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
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
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("permissions-policy", NO_DEVICES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_forwarded_address_is_the_proxys_word() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            forwarded_for(&headers).map(|address| address.to_string())
        };
        assert_eq!(of(&["6.6.6.6, 10.0.0.9"]).as_deref(), Some("10.0.0.9"));
        assert_eq!(of(&["6.6.6.6", "7.7.7.7, 2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["10.0.0.9:4711"]).as_deref(), Some("10.0.0.9"));
        assert_eq!(of(&["[2001:db8::1]:4711"]).as_deref(), Some("2001:db8::1"));
        for nothing in [&[][..], &[""], &["10.0.0.9, unknown"], &["10.0.0.9,"]] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
    }
}
