//! `POST /v1/events`: one event, an array, lines, CloudEvents.

use axum::extract::{Request, State};
use axum::response::Response;

use super::auth::Caller;
use super::body::Media;
use super::docs::SubmitProblems;
use super::observe::RequestContext;
use super::problem::Problem;
use super::schemas::{Accepted, BatchEventInput, CloudEventInput, EventsInput};
use super::views::{AcceptedEvent, BatchAnswer};
use super::{Sending, submit};

/// Send events
///
/// One event, or up to 10,000 of them: each is stored before the answer, and decided exactly once.
/// The same key and payload again gives the same answer again.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    params(
        ("X-Tenant-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,128}$", description = "Must agree with the credential"),
        ("X-Idempotency-Key" = Option<String>, Header, pattern = "^[ -~]{1,255}$",
            description = "Required for a single event; `Idempotency-Key` is the same. CloudEvents have source and id"),
        ("X-Correlation-ID" = Option<String>, Header, pattern = "^[ -~]{1,255}$", description = "Made when absent; returned"),
        ("Prefer" = Option<String>, Header,
            description = "`wait=SECONDS`, at most 60: a single event is answered with its decision when it comes in time"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context"),
    ),
    request_body(content(
        (EventsInput = "application/json"),
        (BatchEventInput = "application/x-ndjson"),
        (CloudEventInput = "application/cloudevents+json"),
        (Vec<CloudEventInput> = "application/cloudevents-batch+json"),
    ), description = "`application/json` takes an array too, of events with their `idempotency_key`"),
    responses(
        (status = 200, body = AcceptedEvent,
            description = "Decided in time, or a replay (`Idempotency-Replayed: true`)"),
        (status = 202, body = Accepted,
            description = "Accepted; a batch is answered with `items`, an accepted event or a problem each"),
        (status = 207, body = BatchAnswer, description = "A batch of which some were refused; the others are accepted"),
        SubmitProblems,
    ),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("create"))),
)]
pub(super) async fn post_events(
    State(sending): State<Sending>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    let every = [Media::Json, Media::Lines, Media::CloudEvent, Media::CloudEvents];
    submit::answer(&sending, (caller, context), request, &every, None).await
}
