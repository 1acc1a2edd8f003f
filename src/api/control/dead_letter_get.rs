//! `GET /v1/dead-letters/{id}`: one dead letter with its event and its history.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::ShowProblems;
use super::super::event_get::find;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::schemas::EventView;
use super::super::views::event_view;
use super::super::{Shared, json};

/// A dead letter.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of ports::store::EventRecord::dead_view")]
pub(super) struct DeadLetterView {
    #[schema(format = "uuid")]
    event_id: String,
    tenant_id: String,
    /// `dead`, `discarded`, or the event's status once it was replayed.
    #[schema(example = "dead")]
    state: String,
    /// What kind of failure it last died of.
    #[schema(example = "UNEXPECTED_ERROR")]
    category: String,
    error: String,
    /// How often it was tried.
    attempts: u32,
    /// When it last died.
    #[schema(format = "date-time")]
    at: String,
    /// As sent, with where it stands.
    event: Option<EventView>,
    /// Instead of `event`, where what is stored is no JSON.
    raw: Option<String>,
    /// The deaths that somebody has dealt with, oldest first.
    history: Vec<PastDeathView>,
}

/// A death that somebody has dealt with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see DeadLetterView")]
struct PastDeathView {
    category: String,
    error: String,
    attempts: u32,
    #[schema(format = "date-time")]
    at: String,
    /// `replayed` or `discarded`.
    act: String,
    #[schema(format = "date-time")]
    acted_at: String,
    by: String,
    reason: Option<String>,
}

/// Read a dead letter
///
/// One that was replayed can be read too: `state` says where it stands. 404 for an event that has
/// never died.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    tag = "dead-letters",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, body = DeadLetterView, description = "The dead letter"), ShowProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_dead_letter(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find(&api, &caller, &context, &id).await?;
    let none = || Problem::new(ProblemType::NotFound, "the event has never been a dead letter");
    let mut shown = record.dead_view().ok_or_else(none)?;
    shown["event_id"] = serde_json::json!(record.event.id);
    shown["tenant_id"] = serde_json::json!(record.event.tenant);
    let Some(record) = api.keyring.reveal(record).await? else {
        shown["erased"] = true.into();
        return Ok(json(StatusCode::OK, &shown));
    };
    // What can't be read is one of the things that an event dies of: here it must not stop anybody.
    match event_view(&record) {
        Ok(event) => shown["event"] = event,
        Err(_) => shown["raw"] = String::from_utf8_lossy(&record.event.body).into(),
    }
    Ok(json(StatusCode::OK, &shown))
}
