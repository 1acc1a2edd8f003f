//! `GET /v1/fleet`: workers, partitions and the ledger.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::FleetProblems;
use super::super::problem::Problem;
use super::super::{Shared, json};
use crate::domain::Permission;

/// The fleet at one moment.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of ports::store::FleetStatus, which knows no documents")]
pub(super) struct FleetView {
    /// Workers that reported within the last minute.
    workers: Vec<WorkerView>,
    /// Every partition, in order.
    partitions: Vec<PartitionView>,
    ledger: LedgerView,
}

/// A worker as it last reported.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see FleetView")]
struct WorkerView {
    /// One boot of one process.
    #[schema(format = "uuid")]
    id: String,
    version: String,
    /// What it owns.
    partitions: Vec<u16>,
    /// Whether it is leaving.
    draining: bool,
    #[schema(format = "date-time")]
    seen_at: String,
}

/// A partition.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see FleetView")]
struct PartitionView {
    partition: u16,
    /// The worker that claimed it last; null when released.
    #[schema(format = "uuid")]
    owner: Option<String>,
    /// How often it was claimed.
    epoch: i64,
    /// Its events without a disposition.
    backlog: i64,
}

/// `accepted` = `decided` + `dead` + `pending`, or something is lost.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see FleetView")]
struct LedgerView {
    accepted: i64,
    decided: i64,
    dead: i64,
    pending: i64,
}

/// See the fleet
#[utoipa::path(
    get,
    path = "/v1/fleet",
    tag = "fleet",
    responses((status = 200, body = FleetView, description = "Workers, partitions, ledger"), FleetProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("fleet"))),
)]
pub(super) async fn get_fleet(State(api): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    caller.require(Permission::Fleet)?;
    Ok(json(StatusCode::OK, &api.store.fleet_status().await?))
}
