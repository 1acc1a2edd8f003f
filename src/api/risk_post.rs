//! `POST /v1/risk`: one event, its kind implied.

use axum::extract::{Request, State};
use axum::response::Response;

use super::auth::Caller;
use super::body::Media;
use super::docs::SubmitProblems;
use super::observe::RequestContext;
use super::problem::Problem;
use super::schemas::{CloudEventInput, EventInput};
use super::views::AcceptedEvent;
use super::{Sending, submit};
use crate::domain::event::Kind;

/// Send one risk event
#[utoipa::path(
    post,
    path = "/v1/risk",
    tag = "events",
    params(
        ("X-Tenant-ID" = Option<String>, Header, pattern = "^[A-Za-z0-9._-]{1,128}$", description = "Must agree with the credential"),
        ("X-Idempotency-Key" = Option<String>, Header, pattern = "^[ -~]{1,255}$",
            description = "Required; `Idempotency-Key` is the same. CloudEvents have source and id"),
        ("X-Correlation-ID" = Option<String>, Header, pattern = "^[ -~]{1,255}$", description = "Made when absent; returned"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context"),
    ),
    request_body(content((EventInput = "application/json"), (CloudEventInput = "application/cloudevents+json"))),
    responses(
        (status = 200, body = AcceptedEvent,
            description = "Decided in time, or a replay (`Idempotency-Replayed: true`)"),
        (status = 202, body = AcceptedEvent, description = "Accepted"),
        SubmitProblems,
    ),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("create"))),
)]
pub(super) async fn post_risk(
    State(sending): State<Sending>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    submit::answer(&sending, (caller, context), request, &Media::SINGLE, Some(Kind::Risk)).await
}
