//! Owns the bounds around handlers: how many run, how long, from which pages, and what a panic
//! becomes. Never decides about a request's content.

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use super::headers;
use super::problem::{Problem, ProblemType};

/// Bounds of the handlers that reach for the store.
#[derive(Clone)]
pub(super) struct Bounds {
    free: Arc<Semaphore>,
    timeout: Duration,
}

impl Bounds {
    pub(super) fn new(requests_max: usize, timeout: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))), timeout }
    }
}

/// At most so many at once, each at most so long; what it waits for a decision comes on top.
pub(super) async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let Ok(_permit) = bounds.free.try_acquire() else {
        let detail = "as many requests as are worked on at once are there";
        return Problem::passing(ProblemType::Unavailable, detail, Duration::from_secs(1)).into_response();
    };
    let timeout = bounds.timeout + headers::wait(request.headers()).unwrap_or_default();
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "whether it was done is unknown; the same request with the same key may be sent again";
            Problem::passing(ProblemType::Timeout, detail, Duration::from_secs(1)).into_response()
        }
    }
}

/// The longest path and query together, in bytes.
const URI_BYTES_MAX: usize = 8 << 10;

/// Nobody reads what stands in a very long path, and everybody would log it.
pub(super) async fn short_uri(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |both| both.as_str().len());
    if length > URI_BYTES_MAX {
        let detail = format!("path and query have more than {URI_BYTES_MAX} bytes");
        return Problem::new(ProblemType::UriTooLong, detail).into_response();
    }
    next.run(request).await
}

/// Without authentication, only programs on this machine are let in: a web page that somebody has
/// open here gives itself away by its origin, and a name rebound to this machine by its host.
pub(super) async fn loopback_only(request: Request, next: Next) -> Response {
    match from_this_machine(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => Problem::new(ProblemType::Forbidden, why).into_response(),
    }
}

fn from_this_machine(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase();
    let host = headers.get(HOST).map(text).unwrap_or_default();
    if headers.get_all(HOST).iter().count() > 1 || !is_loopback(&host) {
        return Err("without authentication, the header Host must name a loopback address");
    }
    let own = |origin: String| origin.strip_prefix("http://").is_some_and(|authority| authority == host);
    if headers.get_all(ORIGIN).iter().any(|origin| !own(text(origin))) {
        return Err("without authentication, requests of other pages are not taken");
    }
    if headers.get("sec-fetch-site").is_some_and(|site| !matches!(text(site).as_str(), "same-origin" | "none")) {
        return Err("without authentication, requests of other pages are not taken");
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    !host.contains('@') && (name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// What a panic in a handler becomes.
#[expect(clippy::needless_pass_by_value, reason = "the layer gives the panic away")]
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked");
    let detail = "the log says more, under this request's correlation id";
    Problem::new(ProblemType::Internal, detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_this_machine_and_no_foreign_page() {
        let good: [&[(&str, &str)]; 6] = [
            &[("host", "127.0.0.1:8080")],
            &[("host", "localhost")],
            &[("host", "LOCALHOST:1")],
            &[("host", "[::1]:8080")],
            &[("host", "127.9.9.9:80"), ("sec-fetch-site", "none")],
            &[("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")],
        ];
        for pairs in good {
            assert_eq!(from_this_machine(&headers(pairs)), Ok(()), "{pairs:?}");
        }
        let bad: [&[(&str, &str)]; 9] = [
            &[],
            &[("host", "evil.example:8080")],
            &[("host", "localhost.evil.example")],
            &[("host", "127.0.0.1@evil.example")],
            &[("host", "10.0.0.1")],
            &[("host", "localhost:8080"), ("origin", "http://localhost:3000")],
            &[("host", "localhost:8080"), ("origin", "https://evil.example")],
            &[("host", "localhost:8080"), ("origin", "null")],
            &[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")],
        ];
        for pairs in bad {
            assert!(from_this_machine(&headers(pairs)).is_err(), "{pairs:?}");
        }
    }
}
