//! `POST /v1/dead-letters/{id}/replay`: the event is decided again.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ChangeProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::change::{self, Change, Changed};
use super::reason::OptionalReason;

/// Replay a dead letter
///
/// What it died of moves to its history, and it is pending again, in one transaction with the audit
/// record. 409 with type `not-dead` or `discarded` where there is nothing to replay.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{id}/replay",
    tag = "dead-letters",
    params(("id" = String, Path, description = "The event's id")),
    request_body(content = Option<OptionalReason>, description = "May be left out"),
    responses((status = 200, body = Changed, description = "It is pending again"), ChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_dead_letters"))),
)]
pub(super) async fn replay_dead_letter(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    change::answer(&api, (caller, context), &id, Change::Replay, request).await
}
