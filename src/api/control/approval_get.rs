//! `GET /v1/approvals/{event_id}`: what a person decides on: the event, the machine's decision with its
//! reasons, what was said, what happened.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::ShowProblems;
use super::super::event_get::find_open;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::schemas::{DecisionView, EventView, OutcomeName};
use super::super::views::event_view;
use super::super::{Shared, json, unreadable};
use super::approvals_list::ApprovalView;

/// A request with everything about it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `get_approval` answers")]
pub(super) struct ApprovalDetail {
    approval: ApprovalView,
    /// As sent, with where it stands.
    event: EventView,
    /// The machine's, with its reasons.
    decision: DecisionView,
    /// Oldest first.
    comments: Vec<CommentView>,
    /// Everything that happened to it, oldest first.
    history: Vec<StepView>,
}

/// Something that was said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see ApprovalDetail")]
struct CommentView {
    #[schema(format = "date-time")]
    at: String,
    by: String,
    text: String,
}

/// Something that happened.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see ApprovalDetail")]
struct StepView {
    #[schema(format = "date-time")]
    at: String,
    /// `opened`, `claimed`, `released`, `escalated`, `commented` or `decided`.
    act: String,
    by: Option<String>,
    /// Of a claim.
    #[schema(format = "date-time")]
    until: Option<String>,
    /// Of the decision.
    verdict: Option<OutcomeName>,
    /// Of the decision.
    reason: Option<String>,
}

/// Read an approval request
///
/// 404 also for an event that the workflow has not escalated.
#[utoipa::path(
    get,
    path = "/v1/approvals/{event_id}",
    tag = "approvals",
    params(("event_id" = String, Path, description = "The event's id")),
    responses((status = 200, body = ApprovalDetail, description = "The request"), ShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_approval(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find_open(&api, &caller, &context, &id).await?;
    let none = || Problem::new(ProblemType::NotFound, "no person was asked about the event");
    let shown = record.approval_view(&api.approvals, api.clock.now()).map_err(|e| unreadable(&e))?;
    let mut shown = shown.ok_or_else(none)?;
    shown["event"] = event_view(&record).map_err(|e| unreadable(&e))?;
    Ok(json(StatusCode::OK, &shown))
}
