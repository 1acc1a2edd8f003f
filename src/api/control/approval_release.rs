//! `POST /v1/approvals/{event_id}/release`: the claim is given back.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ActProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::approval_act::{self, Act, Acted};
use super::reason::OptionalReason;

/// Give a claim back
///
/// One's own; an administrator also another's.
#[utoipa::path(
    post,
    path = "/v1/approvals/{event_id}/release",
    tag = "approvals",
    params(("event_id" = String, Path, description = "The event's id")),
    request_body(content = Option<OptionalReason>, description = "May be left out"),
    responses((status = 200, body = Acted, description = "It is open again"), ActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn release_approval(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    approval_act::answer(&api, (caller, context), &id, Act::Release, request).await
}
