//! Owns the body of a change: why somebody makes it, or what is said. Never lets a web page make one: without
//! authentication the body must be declared JSON, which a form can't do.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::ApiState;
use super::super::body::{self, Media};
use super::super::problem::Problem;
use crate::domain::approval::COMMENT_CHARS_MAX;
use crate::domain::invalid::pointer_segment;
use crate::domain::{Invalid, Violation, parse};

/// The longest reason, in characters.
const REASON_MAX: usize = 1_000;

/// The longest body: [`REASON_MAX`] characters of six escaped bytes, and the rest of the object.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Why the change is made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `read` takes field by field, to name every wrong one")]
pub(super) struct OptionalReason {
    /// 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "the model is back", min_length = 1, max_length = 1000)]
    reason: Option<String>,
}

/// Why the change is made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `read` takes field by field, to name every wrong one")]
pub(super) struct Reason {
    /// 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "a test event of the producer", min_length = 1, max_length = 1000)]
    reason: String,
}

/// What is said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `text` takes field by field, to name every wrong one")]
pub(super) struct Comment {
    /// 1 to 2,000 characters; kept with the request, and not in the audit.
    #[schema(example = "the papers came this morning", min_length = 1, max_length = 2000)]
    text: String,
}

/// The one text field of a body.
struct Field {
    name: &'static str,
    chars_max: usize,
    body_bytes_max: usize,
}

const REASON: Field = Field { name: "reason", chars_max: REASON_MAX, body_bytes_max: BODY_BYTES_MAX };

/// What is said about something; a character may take two escapes of six bytes.
const TEXT: Field = Field { name: "text", chars_max: COMMENT_CHARS_MAX, body_bytes_max: 32 << 10 };

/// The reason in a body. No body is no reason.
pub(super) async fn read(api: &ApiState, headers: &HeaderMap, body: Body) -> Result<Option<String>, Problem> {
    field(api, headers, body, &REASON).await
}

/// The same, where a change must not be made without one.
pub(super) async fn required(api: &ApiState, headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    field(api, headers, body, &REASON).await?.ok_or_else(|| missing(&REASON))
}

/// The text of a comment.
pub(super) async fn text(api: &ApiState, headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    field(api, headers, body, &TEXT).await?.ok_or_else(|| missing(&TEXT))
}

fn missing(field: &Field) -> Problem {
    wrong(vec![Violation::at(format!("/{}", field.name), "is required")])
}

async fn field(api: &ApiState, headers: &HeaderMap, body: Body, field: &Field) -> Result<Option<String>, Problem> {
    let given = bounded(api, headers, body, field.body_bytes_max).await?;
    given.map_or(Ok(None), |given| one(&given, field).map_err(wrong))
}

/// The object in a body, for a change that needs more than a reason. None where there is no body.
pub(super) async fn object(
    api: &ApiState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Map<String, Value>>, Problem> {
    bounded(api, headers, body, BODY_BYTES_MAX).await
}

async fn bounded(
    api: &ApiState,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Option<Map<String, Value>>, Problem> {
    let text = whole(api, headers, body, bytes_max).await?;
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(parse::object(&text)?))
}

/// A body as it was sent, for who reads more out of it than fields.
pub(super) async fn whole(api: &ApiState, headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let text = body::read(body, headers, bytes_max).await?;
    if !text.is_empty() || headers.contains_key(CONTENT_TYPE) || api.auth.is_open() {
        Media::of(headers, &[Media::Json])?;
    }
    Ok(text)
}

/// The reason among the fields that nobody else has taken; else every wrong one.
pub(super) fn of(given: &Map<String, Value>) -> Result<Option<String>, Vec<Violation>> {
    one(given, &REASON)
}

fn one(given: &Map<String, Value>, field: &Field) -> Result<Option<String>, Vec<Violation>> {
    let (mut violations, mut found) = (Vec::new(), None);
    let at = || format!("/{}", field.name);
    for (name, value) in given {
        match value {
            _ if name != field.name => {
                violations.push(Violation::at(format!("/{}", pointer_segment(name)), "is not known here"));
            }
            Value::Null => {}
            Value::String(text) if text.chars().any(|c| c.is_control() && c != '\n') => {
                violations.push(Violation::at(at(), "must not hold control characters but line ends"));
            }
            Value::String(text) if (1..=field.chars_max).contains(&text.trim().chars().count()) => {
                found = Some(text.trim().to_owned());
            }
            _ => {
                let must = format!("must be a text of 1 to {} characters", field.chars_max);
                violations.push(Violation::at(at(), must));
            }
        }
    }
    if violations.is_empty() { Ok(found) } else { Err(violations) }
}

/// A refusal that names the wrong fields.
pub(super) fn wrong(violations: Vec<Violation>) -> Problem {
    Invalid::Fields(violations).into()
}
