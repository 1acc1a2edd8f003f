//! Owns the way from a request's body to texts of single events: its type, its bound, its items.
//! Never reads an event.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use futures::StreamExt;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::problem::{Problem, ProblemType};
use crate::domain::Invalid;
use crate::domain::parse::check_depth;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`: an event or an array.
    Json,
    /// `application/x-ndjson`: an event a line.
    Lines,
    /// `application/cloudevents+json`.
    CloudEvent,
    /// `application/cloudevents-batch+json`.
    CloudEvents,
}

impl Media {
    const ALL: [Self; 4] = [Self::Json, Self::Lines, Self::CloudEvent, Self::CloudEvents];

    /// Those that hold one event.
    pub(super) const SINGLE: [Self; 2] = [Self::Json, Self::CloudEvent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::CloudEvent => "application/cloudevents+json",
            Self::CloudEvents => "application/cloudevents-batch+json",
        }
    }

    /// Reads the content type; it must be one of `taken`, in UTF-8, not compressed.
    pub(super) fn of(headers: &HeaderMap, taken: &[Self]) -> Result<Self, Problem> {
        let names: Vec<&str> = taken.iter().map(|m| m.as_str()).collect();
        let refuse = |what: &str| {
            let detail = format!("{what}: send one of {}", names.join(", "));
            Problem::new(ProblemType::UnsupportedMediaType, detail)
        };
        let Some(value) = headers.get(CONTENT_TYPE) else { return Err(refuse("the header Content-Type is missing")) };
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let foreign = |p: &str| p.strip_prefix("charset=").is_some_and(|c| c.trim_matches('"') != "utf-8");
        if parts.any(foreign) {
            return Err(refuse("only UTF-8 is read"));
        }
        if headers.get(CONTENT_ENCODING).is_some_and(|c| c != "identity") {
            return Err(refuse("no content encoding is read"));
        }
        let found = Self::ALL.into_iter().find(|m| m.as_str() == essence && taken.contains(m));
        found.ok_or_else(|| refuse("this content type is not read here"))
    }
}

/// The most events in one request.
pub(super) const ITEMS_MAX: usize = 10_000;

/// How much over the bound is still read and thrown away, so that the caller hears why: one that
/// is cut off in mid-sentence sees a broken connection, not an answer.
const EXCESS_MAX: usize = 16 << 20;

/// How long a body may take whatever its length, and how many bytes a second it must bring on the
/// mean if it takes longer: one that trickles holds a place that others wait for.
const UNHURRIED: Duration = Duration::from_secs(10);
const BYTES_A_SECOND_MIN: usize = 4 << 10;

/// By when the next part of a body must be there.
fn due(began: Instant, read: usize) -> Instant {
    began + UNHURRIED + Duration::from_millis((read * 1_000 / BYTES_A_SECOND_MIN) as u64)
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(body: Body, headers: &HeaderMap, max: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let (mut read, mut whole) = (0_usize, Vec::with_capacity(announced.min(max)));
    let (mut chunks, began) = (body.into_data_stream(), Instant::now());
    let slow = |_| Problem::new(ProblemType::BodySlow, "what is missing of the body did not come in time");
    while let Some(chunk) = timeout_at(due(began, read), chunks.next()).await.map_err(slow)? {
        let chunk = chunk.map_err(|_| Problem::new(ProblemType::BadBody, "the body broke off"))?;
        read = read.saturating_add(chunk.len());
        if read <= max {
            whole.extend_from_slice(&chunk);
        } else if read > max.saturating_add(EXCESS_MAX) {
            break;
        }
    }
    if read > max {
        return Err(Problem::new(ProblemType::TooLarge, format!("the body has more than {max} bytes")));
    }
    Ok(whole.into())
}

/// Whether a JSON text is an array.
pub(super) fn is_array(text: &[u8]) -> bool {
    text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[')
}

/// The items of a JSON array, unread.
pub(super) fn items(text: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    // The array itself is not part of any event's depth.
    let inside = text.iter().position(|b| *b == b'[').map_or(0, |at| at + 1);
    check_depth(&text[inside..])?;
    let Items(items) = serde_json::from_slice(text).map_err(|e| match e.is_data() && !is_array(text) {
        true => Problem::new(ProblemType::BrokenJson, "the body is no array"),
        false => Problem::from(Invalid::Broken(e.to_string())),
    })?;
    bounded(items.len())?;
    Ok(items)
}

/// The lines that are not blank, with their numbers from 1.
pub(super) fn lines(text: &[u8]) -> Result<Vec<(usize, &[u8])>, Problem> {
    let numbered = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let lines: Vec<_> = numbered.filter(|(_, l)| !l.is_empty()).map(|(n, l)| (n + 1, l)).take(ITEMS_MAX + 1).collect();
    bounded(lines.len())?;
    Ok(lines)
}

fn bounded(items: usize) -> Result<(), Problem> {
    if items > ITEMS_MAX {
        return Err(Problem::new(ProblemType::TooLarge, format!("the batch has more than {ITEMS_MAX} events")));
    }
    Ok(())
}

/// Up to one item more than is taken: a body of nothing but commas must not cost memory.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    if items.len() <= ITEMS_MAX {
                        items.push(item);
                    }
                }
                Ok(items)
            }
        }
        d.deserialize_seq(Each).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(value: &'static str) -> Result<Media, ProblemType> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, value.parse().expect("a header value"));
        Media::of(&headers, &Media::ALL).map_err(|p| p.what())
    }

    #[test]
    fn content_types_are_read_strictly() {
        assert_eq!(media("application/json"), Ok(Media::Json));
        assert_eq!(media("Application/JSON; charset=UTF-8"), Ok(Media::Json));
        assert_eq!(media("application/x-ndjson"), Ok(Media::Lines));
        assert_eq!(media("application/cloudevents-batch+json; charset=\"utf-8\""), Ok(Media::CloudEvents));
        for bad in ["text/plain", "application/json; charset=latin1", "application/jsonx", "", "json"] {
            assert_eq!(media(bad), Err(ProblemType::UnsupportedMediaType), "{bad}");
        }
        assert!(Media::of(&HeaderMap::new(), &Media::ALL).is_err());
    }

    /// A body of so many parts, one each `pause`.
    fn parts(part: &'static [u8], count: usize, pause: Duration) -> Body {
        let one = move |n: usize| async move {
            tokio::time::sleep(pause).await;
            (n < count).then(|| (Ok::<_, std::convert::Infallible>(Bytes::from_static(part)), n + 1))
        };
        Body::from_stream(futures::stream::unfold(0, one))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_one_that_is_only_slow_is_read() {
        let read = |body| async { read(body, &HeaderMap::new(), 1 << 20).await };
        let trickle = read(parts(b"x", 1_000, Duration::from_secs(1))).await;
        assert_eq!(trickle.expect_err("too slow").what(), ProblemType::BodySlow);
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::convert::Infallible>>());
        let began = Instant::now();
        assert_eq!(read(silent).await.expect_err("silent").what(), ProblemType::BodySlow);
        assert_eq!(began.elapsed(), UNHURRIED);
        let slow = read(parts(&[b' '; BYTES_A_SECOND_MIN], 20, Duration::from_secs(1))).await;
        assert_eq!(slow.expect("fast enough").len(), 20 * BYTES_A_SECOND_MIN);
    }

    #[test]
    fn arrays_come_apart_and_are_bounded() {
        let raw: Vec<&str> = items(b" [ {\"a\": 1} , 2,\"x\"]").expect("an array").iter().map(|r| r.get()).collect();
        assert_eq!(raw, ["{\"a\": 1}", "2", "\"x\""]);
        assert!(items(b"[]").expect("empty").is_empty());
        for broken in [&b"[1,"[..], b"[1 2]", b"[1]x", b"{}"] {
            assert_eq!(items(broken).expect_err("broken").what(), ProblemType::BrokenJson);
        }
        let many = format!("[{}0]", "0,".repeat(ITEMS_MAX));
        assert_eq!(items(many.as_bytes()).expect_err("many").what(), ProblemType::TooLarge);
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(items(deep.as_bytes()).expect_err("deep").what(), ProblemType::BrokenJson);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let got = lines(b"{}\r\n\n  \n{\"a\":1}").expect("lines");
        assert_eq!(got, [(1, &b"{}"[..]), (4, b"{\"a\":1}")]);
        assert!(lines(&b"1\n".repeat(ITEMS_MAX + 1)).is_err());
    }
}
