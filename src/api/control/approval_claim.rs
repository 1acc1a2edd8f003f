//! `POST /v1/approvals/{event_id}/claim`: somebody looks at it.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::docs::ActProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::approval_act::{self, Act, Acted};
use super::reason::OptionalReason;

/// Claim an approval request
///
/// Others see for 15 minutes that somebody looks at it, and can not decide it unless they are
/// administrators. Claiming again renews the claim.
#[utoipa::path(
    post,
    path = "/v1/approvals/{event_id}/claim",
    tag = "approvals",
    params(("event_id" = String, Path, description = "The event's id")),
    request_body(content = Option<OptionalReason>, description = "May be left out"),
    responses((status = 200, body = Acted, description = "It is claimed"), ActProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("approve"))),
)]
pub(super) async fn claim_approval(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    approval_act::answer(&api, (caller, context), &id, Act::Claim, request).await
}
