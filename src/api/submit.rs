//! Owns the way of a request's events to the intake and of its answer back, for every route that
//! takes events. One event may fail alone: in a batch the good ones are taken.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;

use super::auth::Caller;
use super::body::{self, Media};
use super::headers;
use super::observe::RequestContext;
use super::problem::{Problem, ProblemType};
use super::views::{AcceptedEvent, BatchAnswer, BatchItem, shown_status};
use super::{ApiState, Sending, json};
use crate::domain::audit::sha256;
use crate::domain::event::Kind;
use crate::domain::lines::line_key;
use crate::domain::parse::{self, Given, Parsed};
use crate::domain::{EventId, IdempotencyKey, Invalid, Permission, Scope, TenantId, cloudevents};
use crate::ports::intake::{Candidate, Intake, IntakeError, Receipt, Taken};
use crate::telemetry::names::{self, reason};
use crate::telemetry::{Happened, tenants};

/// Parsing gives way to other requests after so many items.
const ITEMS_A_TURN: usize = 256;

/// A request for events, once its body is there.
pub(super) struct Posted<'a> {
    api: &'a ApiState,
    intake: &'a dyn Intake,
    context: RequestContext,
    tenant: Option<TenantId>,
    headers: HeaderMap,
    kind: Option<Kind>,
}

/// Answers a request that sends events. `taken` are the bodies that the route reads, `kind` is what
/// it implies.
pub(super) async fn answer(
    Sending { api, intake }: &Sending,
    (caller, context): (Caller, RequestContext),
    request: Request,
    taken: &[Media],
    kind: Option<Kind>,
) -> Result<Response, Problem> {
    caller.require(Permission::Create)?;
    let seen = context.clone();
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let answered = async {
        let media = Media::of(&headers, taken)?;
        let text = body::read(body, &headers, api.limits.body_bytes_max).await?;
        let posted = Posted { api, intake: &**intake, context, tenant: caller.tenant, headers, kind };
        match media {
            Media::Json if taken.contains(&Media::CloudEvents) && body::is_array(&text) => posted.array(&text).await,
            Media::Json => posted.one(&text).await,
            Media::CloudEvent => posted.cloud_event(&text).await,
            Media::Lines => posted.lines(&text).await,
            Media::CloudEvents => posted.cloud_events(&text).await,
        }
    };
    answered.await.inspect_err(|problem| count(problem, &seen))
}

/// Counts events that were not taken.
fn refused(reason: &'static str, events: usize, context: &RequestContext) {
    counter!(names::EVENTS_REFUSED, "reason" => reason).increment(events as u64);
    if let Some(tenant) = context.tenant() {
        tenants().count_all(std::iter::repeat_n((tenant, Happened::Refused), events));
    }
}

/// Counts events that the intake did not take.
fn intake_refused(error: IntakeError, events: usize, context: &RequestContext) -> Problem {
    let reason = match &error {
        IntakeError::Full(_) | IntakeError::Backlog { .. } => reason::FULL,
        IntakeError::TenantFull { .. } => reason::TENANT_FULL,
        IntakeError::RateLimited { .. } => reason::RATE_LIMITED,
        IntakeError::StoreAway { .. } | IntakeError::Stopping => reason::UNAVAILABLE,
    };
    refused(reason, events, context);
    error.into()
}

/// Counts a refusal of one event. What the intake refuses is counted where it does.
fn count(problem: &Problem, context: &RequestContext) {
    let reason = match problem.what() {
        ProblemType::BrokenJson | ProblemType::BadBody | ProblemType::BodySlow => reason::BROKEN,
        ProblemType::Validation => reason::INVALID,
        ProblemType::TenantMissing | ProblemType::TenantMismatch => reason::TENANT,
        ProblemType::KeyMissing | ProblemType::BadHeader => reason::KEY,
        ProblemType::TooLarge => reason::TOO_LARGE,
        ProblemType::IdempotencyConflict => reason::CONFLICT,
        ProblemType::Unauthorized
        | ProblemType::Forbidden
        | ProblemType::NotFound
        | ProblemType::Expired
        | ProblemType::Erased
        // Counted at the accept, whatever door it came by.
        | ProblemType::SubjectErased
        | ProblemType::LegalHold
        | ProblemType::NotDecided
        | ProblemType::NotDead
        | ProblemType::Discarded
        | ProblemType::NotEscalated
        | ProblemType::AlreadyDecided
        | ProblemType::Claimed
        | ProblemType::NotClaimed
        | ProblemType::SecondLevel
        | ProblemType::RequestFull
        | ProblemType::FourEyes
        | ProblemType::VersionDecided
        | ProblemType::NotApproved
        | ProblemType::VersionsFull
        | ProblemType::BudgetsFull
        | ProblemType::BadQuery
        | ProblemType::UriTooLong
        | ProblemType::TooManyRequests
        | ProblemType::MethodNotAllowed
        | ProblemType::UnsupportedMediaType
        | ProblemType::TenantFull
        | ProblemType::RateLimited
        | ProblemType::Internal
        | ProblemType::Unavailable
        | ProblemType::Timeout => return,
    };
    refused(reason, 1, context);
}

/// What the answer repeats of an event, kept while the event itself goes on.
struct Echo {
    metadata: Box<RawValue>,
    version: String,
}

impl Echo {
    fn of(candidate: &Candidate) -> Self {
        // Text keys and finite numbers only: the serializer has nothing to refuse.
        let metadata = serde_json::value::to_raw_value(&candidate.body.metadata).unwrap_or_default();
        Self { metadata, version: candidate.body.version.clone() }
    }

    fn accepted(self, receipt: Receipt, replayed: bool) -> AcceptedEvent {
        AcceptedEvent::new(receipt, self.metadata, self.version, replayed)
    }
}

impl Posted<'_> {
    fn given(&self, keys_inside: bool) -> Given<'_> {
        Given { kind: self.kind, tenant: self.tenant.as_ref(), keys_inside }
    }

    fn fits(&self, text: &[u8]) -> Result<(), Problem> {
        let max = self.api.limits.event_bytes_max;
        if text.len() > max {
            return Err(Problem::new(ProblemType::TooLarge, format!("the event has more than {max} bytes")));
        }
        Ok(())
    }

    fn candidate(&self, parsed: Parsed, key: IdempotencyKey, wait: bool) -> Candidate {
        self.context.note_tenant(&parsed.body.tenant_id);
        Candidate {
            key,
            correlation_id: parsed.correlation_id.unwrap_or_else(|| self.context.correlation_id.clone()),
            traceparent: self.context.trace.event(),
            body: parsed.body,
            wait,
        }
    }

    async fn one(self, text: &Bytes) -> Result<Response, Problem> {
        let key = headers::idempotency_key(&self.headers)?
            .ok_or(Invalid::KeyMissing("give the header X-Idempotency-Key or Idempotency-Key"))?;
        self.fits(text)?;
        let parsed = parse::event(text, self.given(false))?;
        self.single(parsed, key).await
    }

    async fn cloud_event(self, text: &Bytes) -> Result<Response, Problem> {
        self.fits(text)?;
        let (parsed, key) = cloud_event(text, self.given(false))?;
        self.single(parsed, key).await
    }

    async fn single(self, parsed: Parsed, key: IdempotencyKey) -> Result<Response, Problem> {
        let wait = headers::wait(&self.headers);
        let candidate = self.candidate(parsed, key, wait.is_some());
        let echo = Echo::of(&candidate);
        let taken = self.intake.submit(vec![candidate]).await.map_err(|e| intake_refused(e, 1, &self.context))?.pop();
        let (receipt, replayed) = match taken {
            Some(Taken::Accepted(receipt)) => (receipt, false),
            Some(Taken::Replayed(receipt)) => (receipt, true),
            Some(Taken::Conflict(event)) => return Err(Problem::conflict(event)),
            Some(Taken::Erased) => return Err(Problem::subject_erased()),
            None => return Err(Problem::new(ProblemType::Internal, "the intake gave no answer")),
        };
        // A single replay is told by its header: the body is the first answer again.
        let scope = Scope::Tenant(receipt.tenant_id.clone());
        let mut accepted = echo.accepted(receipt, false);
        if let Some(patience) = wait {
            let decision = self.decision((&scope, accepted.event_id), replayed, patience).await;
            accepted.status = decision.as_ref().and_then(shown_status).unwrap_or(accepted.status);
            accepted.decision = decision;
        }
        Ok(single_answer(&accepted, replayed, wait))
    }

    /// The decision, if it comes in time. A waiter that is not told reads the store once: the word
    /// may be lost, the decision is not.
    async fn decision(&self, of: (&Scope, EventId), replayed: bool, patience: Duration) -> Option<Value> {
        if replayed && let Some(there) = self.stored_decision(of).await {
            return Some(there);
        }
        match self.intake.decision(of.1, patience).await {
            Some(told) => Some(told),
            None => self.stored_decision(of).await,
        }
    }

    async fn stored_decision(&self, (scope, event): (&Scope, EventId)) -> Option<Value> {
        let read = self.api.store.event(scope, event).await;
        let record = read.inspect_err(|e| tracing::warn!(error = %e, "failed to read a decision waited for")).ok()?;
        self.api.keyring.reveal(record?).await.ok().flatten()?.decision_view().ok()?
    }

    async fn array(self, text: &Bytes) -> Result<Response, Problem> {
        let given = self.given(true);
        let read = |(_, raw): (usize, &[u8])| {
            let mut parsed = parse::event(raw, given)?;
            let key = parsed.key.take().ok_or(Invalid::KeyMissing("give each event its `idempotency_key`"))?;
            Ok((parsed, key))
        };
        let items = body::items(text)?.into_iter().map(|raw| raw.get().as_bytes()).enumerate().collect();
        self.batch(items, read).await
    }

    /// A line without a key gets one of the body's hash and its number, so that the same body sent
    /// again stores nothing twice.
    async fn lines(self, text: &Bytes) -> Result<Response, Problem> {
        let given = self.given(true);
        let hash = sha256(text);
        let read = |(number, raw): (usize, &[u8])| {
            let mut parsed = parse::event(raw, given)?;
            let key = parsed.key.take().unwrap_or_else(|| line_key(&hash, number as u64));
            Ok((parsed, key))
        };
        self.batch(body::lines(text)?, read).await
    }

    async fn cloud_events(self, text: &Bytes) -> Result<Response, Problem> {
        let given = self.given(true);
        let items = body::items(text)?.into_iter().map(|raw| raw.get().as_bytes()).enumerate().collect();
        self.batch(items, |(_, raw)| cloud_event(raw, given)).await
    }

    async fn batch<'t, F>(&self, items: Vec<(usize, &'t [u8])>, read: F) -> Result<Response, Problem>
    where
        F: Fn((usize, &'t [u8])) -> Result<(Parsed, IdempotencyKey), Problem>,
    {
        let mut candidates = Vec::with_capacity(items.len());
        let mut places: Vec<Result<Echo, Problem>> = Vec::with_capacity(items.len());
        for (n, item) in items.into_iter().enumerate() {
            if n % ITEMS_A_TURN == ITEMS_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let read = self.fits(item.1).and_then(|()| read(item)).inspect_err(|problem| count(problem, &self.context));
            places.push(read.map(|(parsed, key)| {
                let candidate = self.candidate(parsed, key, false);
                let echo = Echo::of(&candidate);
                candidates.push(candidate);
                echo
            }));
        }
        let events = candidates.len();
        let taken = match events {
            0 => Vec::new(),
            _ => self.intake.submit(candidates).await.map_err(|e| intake_refused(e, events, &self.context))?,
        };
        Ok(batch_answer(places, taken, &self.context))
    }
}

fn cloud_event(text: &[u8], given: Given<'_>) -> Result<(Parsed, IdempotencyKey), Problem> {
    let mut parsed = cloudevents::event(text, given)?;
    let key = parsed.key.take().ok_or(Invalid::KeyMissing("give `source` and `id`"))?;
    Ok((parsed, key))
}

fn single_answer(accepted: &AcceptedEvent, replayed: bool, wait: Option<Duration>) -> Response {
    let decided = accepted.decision.is_some();
    let status = if replayed || decided { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, accepted);
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(&format!("/v1/events/{}", accepted.event_id));
    headers.insert(LOCATION, location.expect("a UUID is printable"));
    if replayed {
        headers.insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    if let (true, Some(wait)) = (decided, wait) {
        let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs()));
        headers.insert(HeaderName::from_static("preference-applied"), applied.expect("digits are printable"));
    }
    response
}

fn batch_answer(places: Vec<Result<Echo, Problem>>, taken: Vec<Taken>, context: &RequestContext) -> Response {
    let (mut items, mut refused) = (Vec::with_capacity(places.len()), false);
    let mut taken = taken.into_iter();
    for (index, place) in places.into_iter().enumerate() {
        let item = place.and_then(|echo| match taken.next() {
            Some(Taken::Accepted(receipt)) => Ok(echo.accepted(receipt, false)),
            Some(Taken::Replayed(receipt)) => Ok(echo.accepted(receipt, true)),
            Some(Taken::Conflict(event)) => {
                Err(Problem::conflict(event)).inspect_err(|problem| count(problem, context))
            }
            Some(Taken::Erased) => Err(Problem::subject_erased()),
            None => Err(Problem::new(ProblemType::Internal, "the intake gave no answer")),
        });
        refused |= item.is_err();
        items.push(match item {
            Ok(accepted) => BatchItem::Accepted(accepted),
            Err(problem) => BatchItem::Refused(problem.body(Some(index))),
        });
    }
    let status = if refused { StatusCode::MULTI_STATUS } else { StatusCode::ACCEPTED };
    json(status, &BatchAnswer { items }).into_response()
}
