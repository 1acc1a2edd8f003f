//! Owns the reading of request headers that are not credentials: `Prefer`, keys, trace context.

use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

use super::problem::{Problem, ProblemType};
use crate::domain::{IdempotencyKey, TraceContext};

/// The longest wait for a decision.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

const KEY_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("x-idempotency-key"), HeaderName::from_static("idempotency-key")];

/// `Prefer: wait=SECONDS` (RFC 7240, section 4.3), at most [`WAIT_MAX`]. A preference that can't be
/// read is passed over, as the RFC has it.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
    let seconds = preferences.find_map(|one| {
        let (name, value) = one.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
    })?;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(WAIT_MAX))
}

/// The idempotency key of the headers.
///
/// # Errors
/// `bad-header` when it is no key, or when two are given that differ.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut found: Option<IdempotencyKey> = None;
    for name in &KEY_HEADERS {
        for value in headers.get_all(name) {
            let bad = |why: &str| Problem::new(ProblemType::BadHeader, format!("{name} {why}"));
            let text = value.to_str().map_err(|_| bad("must be 1 to 255 printable ASCII characters"))?;
            let key = IdempotencyKey::parse(text).map_err(|e| bad(e.why))?;
            if found.as_ref().is_some_and(|other| *other != key) {
                return Err(bad("disagrees with another idempotency key header of this request"));
            }
            found = Some(key);
        }
    }
    Ok(found)
}

/// The W3C trace context of a request. One that can't be read, or is given twice, starts anew, as the
/// standard has it.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (first, second) = (values.next()?, values.next());
    if second.is_some() { None } else { TraceContext::parse(first.to_str().ok()?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn waits_are_read_and_bounded() {
        let cases = [
            ("wait=5", Some(5)),
            ("respond-async, Wait = 7", Some(7)),
            ("wait=\"3\"; x=1", Some(3)),
            ("wait=100000", Some(60)),
            ("wait=0", None),
            ("wait=-1", None),
            ("wait=soon", None),
            ("waiting=5", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(wait(&headers(&[("prefer", text)])), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(wait(&headers(&[("prefer", "return=minimal"), ("prefer", "wait=2")])), Some(Duration::from_secs(2)));
    }

    #[test]
    fn both_key_headers_count_and_must_agree() {
        let key = |pairs: &[(&'static str, &'static str)]| idempotency_key(&headers(pairs));
        assert_eq!(key(&[]).expect("none"), None);
        for name in ["x-idempotency-key", "idempotency-key"] {
            assert_eq!(key(&[(name, "k")]).expect("one").expect("one").as_str(), "k");
        }
        assert!(key(&[("x-idempotency-key", "k"), ("idempotency-key", "k")]).is_ok());
        assert!(key(&[("x-idempotency-key", "k"), ("idempotency-key", "l")]).is_err());
        assert!(key(&[("idempotency-key", "k"), ("idempotency-key", "l")]).is_err());
        assert!(key(&[("idempotency-key", "")]).is_err());
    }

    #[test]
    fn a_trace_context_is_taken_only_when_it_is_one() {
        let of = |pairs: &[(&'static str, &'static str)]| traceparent(&headers(pairs)).map(|read| read.to_string());
        let good = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(of(&[good]).as_deref(), Some(good.1));
        assert_eq!(of(&[good, good]), None, "two of them");
        assert_eq!(of(&[("traceparent", "x")]), None);
        assert_eq!(of(&[]), None);
    }
}
