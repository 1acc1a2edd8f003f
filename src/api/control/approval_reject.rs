//! `POST /v1/approvals/{event_id}/reject`: a person refuses the event.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ActProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::approval_act::{self, Act, Acted};
use super::reason::Reason;
use crate::domain::approval::Verdict;

/// Reject
///
/// As to approve.
#[utoipa::path(
    post,
    path = "/v1/approvals/{event_id}/reject",
    tag = "approvals",
    params(("event_id" = String, Path, description = "The event's id")),
    request_body = Reason,
    responses((status = 200, body = Acted, description = "It is rejected"), ActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn reject(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    approval_act::answer(&api, (caller, context), &id, Act::Decide(Verdict::Rejected), request).await
}
