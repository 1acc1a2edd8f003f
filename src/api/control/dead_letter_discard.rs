//! `POST /v1/dead-letters/{id}/discard`: nobody will decide the event, and somebody said why.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ChangeProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::change::{self, Change, Changed};
use super::reason::Reason;

/// Discard a dead letter
///
/// It stays in the store and in the ledger, and no longer waits for anybody. The reason stands in
/// the audit. 409 with type `not-dead` or `discarded` where there is nothing to discard.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{id}/discard",
    tag = "dead-letters",
    params(("id" = String, Path, description = "The event's id")),
    request_body(content = Reason),
    responses((status = 200, body = Changed, description = "It is discarded"), ChangeProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_dead_letters"))),
)]
pub(super) async fn discard_dead_letter(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    change::answer(&api, (caller, context), &id, Change::Discard, request).await
}
