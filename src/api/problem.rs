//! Owns the shape of every refusal: RFC 9457 problem details with stable types. Never shows what
//! a caller can do nothing with (addresses, statements, backtraces): that goes to the log.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

use crate::domain::{EventId, Invalid, Violation};
use crate::ports::StoreError;
use crate::ports::intake::IntakeError;

/// The media type of RFC 9457.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, as a program tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemType {
    /// No JSON, or nested too deeply.
    BrokenJson,
    /// A header that can't be read, or two that disagree.
    BadHeader,
    /// A body that did not arrive whole.
    BadBody,
    /// No tenant in credential, header or event.
    TenantMissing,
    /// No idempotency key.
    KeyMissing,
    /// No credential, or one that does not hold.
    Unauthorized,
    /// The credential is another tenant's.
    TenantMismatch,
    /// The credential's roles do not allow it, or the request comes from a foreign page.
    Forbidden,
    /// Nothing there, for this caller.
    NotFound,
    /// The event is not decided.
    NotDecided,
    /// The route has other methods.
    MethodNotAllowed,
    /// The key stands for another payload.
    IdempotencyConflict,
    /// Body, event or batch over its bound.
    TooLarge,
    /// The content type is none that the route reads.
    UnsupportedMediaType,
    /// JSON, but no valid event.
    Validation,
    /// A defect of ours.
    Internal,
    /// Something that is needed is away or full; come again.
    Unavailable,
    /// It took too long; whether it was done is unknown, the same key may be sent again.
    Timeout,
}

impl ProblemType {
    /// Every type, for the documents.
    pub const ALL: [Self; 18] = [
        Self::BrokenJson,
        Self::BadHeader,
        Self::BadBody,
        Self::TenantMissing,
        Self::KeyMissing,
        Self::Unauthorized,
        Self::TenantMismatch,
        Self::Forbidden,
        Self::NotFound,
        Self::NotDecided,
        Self::MethodNotAllowed,
        Self::IdempotencyConflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Validation,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BrokenJson => (StatusCode::BAD_REQUEST, "broken-json", "The body is no JSON"),
            Self::BadHeader => (StatusCode::BAD_REQUEST, "bad-header", "A header can't be read"),
            Self::BadBody => (StatusCode::BAD_REQUEST, "bad-body", "The body did not arrive whole"),
            Self::TenantMissing => (StatusCode::BAD_REQUEST, "tenant-missing", "No tenant is given"),
            Self::KeyMissing => (StatusCode::BAD_REQUEST, "idempotency-key-missing", "No idempotency key is given"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "No valid credential is given"),
            Self::TenantMismatch => (StatusCode::FORBIDDEN, "tenant-mismatch", "The tenant is not the caller's"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The caller may not do this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing here"),
            Self::NotDecided => (StatusCode::NOT_FOUND, "not-decided", "The event is not decided"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route has other methods")
            }
            Self::IdempotencyConflict => {
                (StatusCode::CONFLICT, "idempotency-conflict", "The idempotency key stands for another payload")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "More than is taken at once"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content type is not read here")
            }
            Self::Validation => (StatusCode::UNPROCESSABLE_ENTITY, "validation", "The event is not valid"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something failed that should not"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not now; try again"),
            Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout", "It took too long; try again"),
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// Its stable name: a URN, since there is nothing to be fetched.
    pub fn urn(self) -> String {
        format!("urn:riskfleet:problem:{}", self.parts().1)
    }

    /// What it says to people, always the same.
    pub fn title(self) -> &'static str {
        self.parts().2
    }
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    what: ProblemType,
    detail: String,
    errors: Vec<Violation>,
    event_id: Option<EventId>,
    retry_after: Option<Duration>,
}

/// A refusal as sent (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// Stable name of the problem, `urn:riskfleet:problem:…`.
    #[serde(rename = "type")]
    #[schema(example = "urn:riskfleet:problem:validation")]
    kind: String,
    /// The same for every problem of this type.
    title: &'static str,
    /// HTTP status; of an item of a batch, the status that it would have had alone.
    #[schema(example = 422)]
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// Every wrong field, for `validation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ViolationBody>)]
    errors: Vec<Violation>,
    /// The event that the key stands for, for `idempotency-conflict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    event_id: Option<EventId>,
    /// Place of the item in the batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

/// One wrong field.
#[derive(ToSchema)]
#[schema(as = Violation)]
#[expect(dead_code, reason = "the schema of domain::Violation, which knows no documents")]
pub(super) struct ViolationBody {
    /// JSON pointer (RFC 6901) into the event; empty for the event as a whole.
    #[schema(example = "/risk_score")]
    pointer: String,
    /// What was expected, and what came.
    #[schema(example = "must be a number from 0 to 100, not 101")]
    detail: String,
}

impl Problem {
    /// A problem with the words for this time.
    pub fn new(what: ProblemType, detail: impl Into<String>) -> Self {
        Self { what, detail: detail.into(), errors: Vec::new(), event_id: None, retry_after: None }
    }

    /// An event that the caller can't see or that is not there: the same words for both.
    pub(super) fn no_event() -> Self {
        Self::new(ProblemType::NotFound, "no such event")
    }

    /// A key that stands for another payload.
    pub(super) fn conflict(event: EventId) -> Self {
        let detail = format!("the idempotency key was used for event {event} with another payload");
        Self { event_id: Some(event), ..Self::new(ProblemType::IdempotencyConflict, detail) }
    }

    /// Something that passes; the caller comes again after `retry_after`.
    pub(super) fn passing(what: ProblemType, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(what, detail) }
    }

    /// Its type.
    pub fn what(&self) -> ProblemType {
        self.what
    }

    /// As sent; `index` for an item of a batch.
    pub(super) fn body(self, index: Option<usize>) -> ProblemBody {
        ProblemBody {
            kind: self.what.urn(),
            title: self.what.title(),
            status: self.what.status().as_u16(),
            detail: self.detail,
            errors: self.errors,
            event_id: self.event_id,
            index,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (what, retry_after) = (self.what, self.retry_after);
        // Text keys and finite numbers only: the serializer has nothing to refuse.
        let text = serde_json::to_vec(&self.body(None)).unwrap_or_default();
        let mut response = (what.status(), [(CONTENT_TYPE, PROBLEM_JSON)], text).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            // Whole seconds, at least one (RFC 9110, section 10.2.3).
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if what == ProblemType::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Broken(detail) => Self::new(ProblemType::BrokenJson, detail),
            Invalid::Fields(errors) => {
                let detail = match errors.len() {
                    1 => "1 field is wrong".to_owned(),
                    n => format!("{n} fields are wrong"),
                };
                Self { errors, ..Self::new(ProblemType::Validation, detail) }
            }
            Invalid::TenantMismatch { .. } => Self::new(ProblemType::TenantMismatch, invalid.to_string()),
            Invalid::TenantMissing => Self::new(ProblemType::TenantMissing, invalid.to_string()),
            Invalid::KeyMissing(_) => Self::new(ProblemType::KeyMissing, invalid.to_string()),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let retry_after = match &error {
            IntakeError::Full(wait) => *wait,
            IntakeError::Backlog { retry_after, .. } | IntakeError::StoreAway { retry_after } => *retry_after,
            IntakeError::Stopping => Duration::from_secs(1),
        };
        Self::passing(ProblemType::Unavailable, format!("failed to {error}"), retry_after)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Away(_) => {
                tracing::warn!(error = %error, "failed to answer a request");
                Self::passing(ProblemType::Unavailable, "the store is away", Duration::from_secs(2))
            }
            StoreError::ClockSkew(_) | StoreError::Misfit(_) | StoreError::Fault(_) => {
                tracing::error!(error = %error, "failed to answer a request");
                Self::new(ProblemType::Internal, "the log says more, under this request's correlation id")
            }
        }
    }
}
