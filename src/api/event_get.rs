//! `GET /v1/events/{id}`: the event with what became of it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::auth::Caller;
use super::docs::ReadProblems;
use super::observe::RequestContext;
use super::problem::Problem;
use super::schemas::EventView;
use super::views::event_view;
use super::{ApiState, Shared, json, unreadable};
use crate::domain::retention::Day;
use crate::domain::{EventId, Permission};
use crate::ports::store::EventRecord;

/// Read an event
///
/// 410 with type `expired` for an id of a day that retention has dropped, and with type `erased` for an
/// event whose key was destroyed.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "events",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, body = EventView, description = "The event and where it stands"), ReadProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_event(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find_open(&api, &caller, &context, &id).await?;
    Ok(json(StatusCode::OK, &event_view(&record).map_err(|e| unreadable(&e))?))
}

/// The event in the clear, if the caller may see it.
pub(super) async fn find_open(
    api: &ApiState,
    caller: &Caller,
    context: &RequestContext,
    id: &str,
) -> Result<EventRecord, Problem> {
    let record = find(api, caller, context, id).await?;
    let event = record.event.id;
    api.keyring.reveal(record).await?.ok_or_else(|| Problem::erased(event))
}

/// The event as it is stored, sealed, if the caller may see it. One of another tenant is answered like one that is not
/// there: ids must not tell who else is a customer.
pub(super) async fn find(
    api: &ApiState,
    caller: &Caller,
    context: &RequestContext,
    id: &str,
) -> Result<EventRecord, Problem> {
    caller.require(Permission::View)?;
    let id = EventId::parse(id).map_err(|_| Problem::no_event())?;
    let Some(record) = api.store.event(&caller.scope(), id).await? else {
        return Err(match api.store.expired_day(Day::of(id)).await? {
            Some(expired) => Problem::expired(&expired),
            None => Problem::no_event(),
        });
    };
    let record = Some(record).filter(|record| caller.sees(&record.event.tenant)).ok_or_else(Problem::no_event)?;
    context.note_tenant(&record.event.tenant);
    Ok(record)
}
