//! `POST /v1/fleet/repair`: workers publish again what no queue may hold any more.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::RepairProblems;
use super::super::problem::Problem;
use super::super::{Shared, json};
use super::reason::{self, OptionalReason};
use crate::domain::Permission;

/// A repair that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Repair {
    /// How many repairs were asked for since the fleet was made, this one among them.
    repair: u64,
}

/// Ask for a repair
///
/// Every owner of a partition publishes its pending events again. What was on its way meanwhile is
/// decided once all the same.
#[utoipa::path(
    post,
    path = "/v1/fleet/repair",
    tag = "fleet",
    request_body(content = Option<OptionalReason>, description = "May be left out; goes to the log"),
    responses((status = 202, body = Repair, description = "The workers will do it"), RepairProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("fleet"))),
)]
pub(super) async fn repair_fleet(
    State(api): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::Fleet)?;
    let (parts, body) = request.into_parts();
    let reason = reason::read(&api, &parts.headers, body).await?;
    let repair = api.store.ask_repair().await?;
    // It concerns no tenant, so no chain: the log says who asked.
    tracing::warn!(actor = %caller.subject, repair, reason, "a repair of the fleet was asked for");
    Ok(json(StatusCode::ACCEPTED, &Repair { repair }))
}
