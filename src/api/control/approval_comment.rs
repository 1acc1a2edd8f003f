//! `POST /v1/approvals/{event_id}/comments`: somebody says something about it.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ActProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::approval_act::{self, Act, Acted};
use super::reason::Comment;

/// Comment on an approval request
///
/// Also once it is decided. At most 200 of them are kept.
#[utoipa::path(
    post,
    path = "/v1/approvals/{event_id}/comments",
    tag = "approvals",
    params(("event_id" = String, Path, description = "The event's id")),
    request_body = Comment,
    responses((status = 200, body = Acted, description = "It is kept"), ActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("comment"))),
)]
pub(super) async fn comment_approval(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    approval_act::answer(&api, (caller, context), &id, Act::Comment, request).await
}
