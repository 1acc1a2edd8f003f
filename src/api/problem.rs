//! Owns the shape of every refusal: RFC 9457 problem details with stable types. Never shows what
//! a caller can do nothing with (addresses, statements, backtraces): that goes to the log.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

use super::schemas::StatusName;
use crate::domain::approval::Refusal;
use crate::domain::retention::ExpiredDay;
use crate::domain::{EventId, FailureClass, Invalid, Permission, Status, Violation, time};
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
    /// A part of the query that can't be read.
    BadQuery,
    /// A body that did not arrive whole.
    BadBody,
    /// A body that comes too slowly.
    BodySlow,
    /// A path and query over their bound.
    UriTooLong,
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
    /// The event's day was dropped by retention.
    Expired,
    /// The key that would open it was destroyed.
    Erased,
    /// A new event of a subject or tenant that is erased.
    SubjectErased,
    /// The tenant is under legal hold.
    LegalHold,
    /// The event is not decided.
    NotDecided,
    /// The event is no dead letter.
    NotDead,
    /// The dead letter was discarded.
    Discarded,
    /// No person was asked about the event.
    NotEscalated,
    /// Somebody has decided the approval request before.
    AlreadyDecided,
    /// Somebody else has claimed the approval request.
    Claimed,
    /// Nobody has claimed the approval request.
    NotClaimed,
    /// The approval request was overdue: only the second role decides it.
    SecondLevel,
    /// The approval request keeps no more comments or claims.
    RequestFull,
    /// The author of a version decides on it.
    FourEyes,
    /// A version was decided before.
    VersionDecided,
    /// A version that is not approved can't be made active.
    NotApproved,
    /// There are as many versions, or active ones, as there may be.
    VersionsFull,
    /// There are as many budgets as there may be.
    BudgetsFull,
    /// The route has other methods.
    MethodNotAllowed,
    /// The key stands for another payload.
    IdempotencyConflict,
    /// Body, event or batch over its bound.
    TooLarge,
    /// The content type is none that the route reads.
    UnsupportedMediaType,
    /// JSON, with wrong fields.
    Validation,
    /// The tenant's share of the accept queue is used up.
    TenantFull,
    /// The tenant sends faster than it may.
    RateLimited,
    /// The caller asks more often than it may, or the address is refused too often.
    TooManyRequests,
    /// A defect of ours.
    Internal,
    /// Something that is needed is away or full; come again.
    Unavailable,
    /// It took too long; whether it was done is unknown, the same key may be sent again.
    Timeout,
}

impl ProblemType {
    /// Every type, for the documents.
    pub const ALL: [Self; 41] = [
        Self::BrokenJson,
        Self::BadHeader,
        Self::BadQuery,
        Self::BadBody,
        Self::BodySlow,
        Self::UriTooLong,
        Self::TenantMissing,
        Self::KeyMissing,
        Self::Unauthorized,
        Self::TenantMismatch,
        Self::Forbidden,
        Self::NotFound,
        Self::Expired,
        Self::Erased,
        Self::SubjectErased,
        Self::LegalHold,
        Self::NotDecided,
        Self::NotDead,
        Self::Discarded,
        Self::NotEscalated,
        Self::AlreadyDecided,
        Self::Claimed,
        Self::NotClaimed,
        Self::SecondLevel,
        Self::RequestFull,
        Self::FourEyes,
        Self::VersionDecided,
        Self::NotApproved,
        Self::VersionsFull,
        Self::BudgetsFull,
        Self::MethodNotAllowed,
        Self::IdempotencyConflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Validation,
        Self::TenantFull,
        Self::RateLimited,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BrokenJson => (StatusCode::BAD_REQUEST, "broken-json", "The body is no JSON"),
            Self::BadHeader => (StatusCode::BAD_REQUEST, "bad-header", "A header can't be read"),
            Self::BadQuery => (StatusCode::BAD_REQUEST, "bad-query", "The query can't be read"),
            Self::BadBody => (StatusCode::BAD_REQUEST, "bad-body", "The body did not arrive whole"),
            Self::BodySlow => (StatusCode::REQUEST_TIMEOUT, "body-slow", "The body came too slowly"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri-too-long", "Path and query are too long"),
            Self::TenantMissing => (StatusCode::BAD_REQUEST, "tenant-missing", "No tenant is given"),
            Self::KeyMissing => (StatusCode::BAD_REQUEST, "idempotency-key-missing", "No idempotency key is given"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "No valid credential is given"),
            Self::TenantMismatch => (StatusCode::FORBIDDEN, "tenant-mismatch", "The tenant is not the caller's"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The caller may not do this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing here"),
            Self::Expired => (StatusCode::GONE, "expired", "What was here is gone: its retention is over"),
            Self::Erased => (StatusCode::GONE, "erased", "What was here is erased: its key was destroyed"),
            Self::SubjectErased => {
                (StatusCode::UNPROCESSABLE_ENTITY, "subject-erased", "The subject is erased: nothing of it is taken")
            }
            Self::LegalHold => (StatusCode::CONFLICT, "legal-hold", "The tenant is under legal hold"),
            Self::NotDecided => (StatusCode::NOT_FOUND, "not-decided", "The event is not decided"),
            Self::NotDead => (StatusCode::CONFLICT, "not-dead", "The event is no dead letter"),
            Self::Discarded => (StatusCode::CONFLICT, "discarded", "The dead letter was discarded"),
            Self::NotEscalated => (StatusCode::CONFLICT, "not-escalated", "No person was asked about the event"),
            Self::AlreadyDecided => (StatusCode::CONFLICT, "already-decided", "Somebody has decided it before"),
            Self::Claimed => (StatusCode::CONFLICT, "claimed", "Somebody else has claimed it"),
            Self::NotClaimed => (StatusCode::CONFLICT, "not-claimed", "Nobody has claimed it"),
            Self::SecondLevel => (StatusCode::FORBIDDEN, "second-level", "It was overdue and is the second role's"),
            Self::RequestFull => (StatusCode::CONFLICT, "request-full", "No more of these are kept"),
            Self::FourEyes => (StatusCode::CONFLICT, "four-eyes", "Its author never decides on it"),
            Self::VersionDecided => (StatusCode::CONFLICT, "version-decided", "The version was decided before"),
            Self::NotApproved => (StatusCode::CONFLICT, "not-approved", "The version is not approved"),
            Self::VersionsFull => (StatusCode::CONFLICT, "versions-full", "No more of these are kept"),
            Self::BudgetsFull => (StatusCode::CONFLICT, "budgets-full", "No more of these are kept"),
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
            Self::Validation => (StatusCode::UNPROCESSABLE_ENTITY, "validation", "What was sent is not valid"),
            Self::TenantFull => {
                (StatusCode::TOO_MANY_REQUESTS, "tenant-queue-full", "Too much of the tenant waits to be taken")
            }
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "The tenant sends faster than it may"),
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "The caller asks more often than it may")
            }
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
    event_status: Option<Status>,
    retry_after: Option<Duration>,
    missing: Option<Permission>,
}

/// What the answer to a caller that was refused (403) remembers of it, for the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Which kind of refusal.
    pub(super) what: ProblemType,
    /// The permission that the caller does not have.
    pub(super) missing: Option<Permission>,
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
    /// What the caller does next depends on it.
    #[schema(value_type = String, example = "VALIDATION_ERROR")]
    class: FailureClass,
    /// Every wrong field, for `validation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ViolationBody>)]
    errors: Vec<Violation>,
    /// The event that it is about, for `idempotency-conflict`, `not-dead`, `discarded`, and what may not
    /// be done with an approval request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    event_id: Option<EventId>,
    /// Where the event stands, for `not-dead` and for approval requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StatusName>)]
    event_status: Option<Status>,
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
        Self {
            what,
            detail: detail.into(),
            errors: Vec::new(),
            event_id: None,
            event_status: None,
            retry_after: None,
            missing: None,
        }
    }

    /// Whether it says that a credential does not hold.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.what == ProblemType::Unauthorized
    }

    /// A permission that none of the caller's roles has.
    pub(super) fn forbidden(missing: Permission, detail: impl Into<String>) -> Self {
        Self { missing: Some(missing), ..Self::new(ProblemType::Forbidden, detail) }
    }

    /// An event that the caller can't see or that is not there: the same words for both.
    pub(super) fn no_event() -> Self {
        Self::new(ProblemType::NotFound, "no such event")
    }

    /// A day that is gone with all its events, of every tenant: who asks learns nothing of another's.
    pub(super) fn expired(gone: &ExpiredDay) -> Self {
        let detail =
            format!("every event of {} is gone since {}: its retention is over", gone.day, time::text(gone.at));
        Self::new(ProblemType::Expired, detail)
    }

    /// A record whose key was destroyed.
    pub(super) fn erased(event: EventId) -> Self {
        let detail = "its subject, or its tenant, is erased: nobody can read it any more";
        Self { event_id: Some(event), ..Self::new(ProblemType::Erased, detail) }
    }

    /// A new event of an erased subject.
    pub(super) fn subject_erased() -> Self {
        Self::new(ProblemType::SubjectErased, "the event's subject, or its tenant, is erased")
    }

    /// A key that stands for another payload.
    pub(super) fn conflict(event: EventId) -> Self {
        let detail = format!("the idempotency key was used for event {event} with another payload");
        Self { event_id: Some(event), ..Self::new(ProblemType::IdempotencyConflict, detail) }
    }

    /// An event that is no dead letter, where a dead letter was meant.
    pub(super) fn not_dead(event: EventId, status: Status) -> Self {
        let detail = format!("the event's status is {status}");
        Self { event_id: Some(event), event_status: Some(status), ..Self::new(ProblemType::NotDead, detail) }
    }

    /// A dead letter that somebody has discarded.
    pub(super) fn discarded(event: EventId) -> Self {
        Self { event_id: Some(event), ..Self::new(ProblemType::Discarded, "the dead letter was discarded before") }
    }

    /// What may not be done with an approval request.
    pub(super) fn refused(event: EventId, refusal: &Refusal) -> Self {
        let (what, event_status) = match refusal {
            Refusal::NotEscalated => (ProblemType::NotEscalated, None),
            Refusal::AlreadyDecided { outcome, .. } => (ProblemType::AlreadyDecided, Some(outcome.status())),
            Refusal::Claimed { .. } => (ProblemType::Claimed, Some(Status::Escalated)),
            Refusal::NotClaimed => (ProblemType::NotClaimed, Some(Status::Escalated)),
            Refusal::SecondLevel => (ProblemType::SecondLevel, Some(Status::Escalated)),
            Refusal::Full(_) => (ProblemType::RequestFull, None),
        };
        let detail = format!("the request about the event {refusal}");
        Self { event_id: Some(event), event_status, ..Self::new(what, detail) }
    }

    /// Something that passes; the caller comes again after `retry_after`.
    pub(super) fn passing(what: ProblemType, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(what, detail) }
    }

    /// What went wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Every wrong field.
    pub(super) fn errors(&self) -> &[Violation] {
        &self.errors
    }

    /// Its type.
    pub fn what(&self) -> ProblemType {
        self.what
    }

    /// As sent, and counted as told; `index` for an item of a batch.
    pub(super) fn body(self, index: Option<usize>) -> ProblemBody {
        self.told();
        ProblemBody {
            class: self.class(),
            kind: self.what.urn(),
            title: self.what.title(),
            status: self.what.status().as_u16(),
            detail: self.detail,
            errors: self.errors,
            event_id: self.event_id,
            event_status: self.event_status,
            index,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (what, retry_after) = (self.what, self.retry_after);
        let refused = Refused { what, missing: self.missing };
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
        if what.status() == StatusCode::FORBIDDEN {
            response.extensions_mut().insert(refused);
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
        let what = match &error {
            IntakeError::TenantFull { .. } => ProblemType::TenantFull,
            IntakeError::RateLimited { .. } => ProblemType::RateLimited,
            IntakeError::Full(_)
            | IntakeError::Backlog { .. }
            | IntakeError::StoreAway { .. }
            | IntakeError::Stopping => ProblemType::Unavailable,
        };
        Self::passing(what, format!("failed to {error}"), error.retry_after())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Away(_) => {
                tracing::warn!(error = %error, "failed to answer a request");
                Self::passing(ProblemType::Unavailable, "the store is away", Duration::from_secs(2))
            }
            // Said once, by the circuit.
            StoreError::Open { retry_in } => Self::passing(ProblemType::Unavailable, "the store is away", retry_in),
            StoreError::ClockSkew(_) | StoreError::Misfit(_) | StoreError::Refused(_) | StoreError::Fault(_) => {
                tracing::error!(error = %error, "failed to answer a request");
                Self::new(ProblemType::Internal, "the log says more, under this request's correlation id")
            }
        }
    }
}
