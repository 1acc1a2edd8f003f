//! Owns how a tenant is shown, which tenants a caller reaches, and the answer to a change of one.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::json;
use super::super::problem::{Problem, ProblemType};
use crate::domain::{Permission, TenantId, time};
use crate::ports::tenants::{Tenant, TenantAct};

/// A tenant with what is set of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantView {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// When something was first set of it; null where nothing ever was.
    #[schema(format = "date-time")]
    created_at: Option<String>,
    /// How long its events are kept, in days; 0: for ever; null: as long as the fleet's.
    #[schema(example = 365)]
    retention_days: Option<u32>,
    /// The legal hold that it is under.
    hold: Option<HoldView>,
}

/// A legal hold.
#[derive(Debug, Serialize, ToSchema)]
struct HoldView {
    reason: String,
    by: String,
    #[schema(format = "date-time")]
    at: String,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let hold =
            |hold: crate::ports::tenants::Hold| HoldView { reason: hold.reason, by: hold.by, at: time::text(hold.at) };
        Self {
            tenant_id: tenant.id,
            created_at: tenant.created_at.map(time::text),
            retention_days: tenant.retention_days,
            hold: tenant.hold.map(hold),
        }
    }
}

/// A tenant after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantChanged {
    /// False where it was so before: nothing was written.
    changed: bool,
    tenant: TenantView,
}

/// The tenant of a path, if the caller has the permission and reaches it: who manages tenants reaches
/// any, others their own. One that is not reached is answered like one that is not there.
pub(super) fn reached(caller: &Caller, permission: Permission, raw: &str) -> Result<TenantId, Problem> {
    caller.require(permission)?;
    let any = caller.require(Permission::ManageTenants).is_ok();
    let reaches = |id: &TenantId| *id != TenantId::platform() && (any || caller.sees(id));
    let id = TenantId::parse(raw).ok().filter(reaches);
    id.ok_or_else(no_tenant)
}

/// No such tenant, for this caller.
pub(super) fn no_tenant() -> Problem {
    Problem::new(ProblemType::NotFound, "no such tenant")
}

/// Tells what became of a change.
pub(super) fn answer(act: TenantAct, caller: &Caller, action: &str) -> Response {
    let (changed, tenant) = match act {
        TenantAct::Done(tenant) => (true, tenant),
        TenantAct::Already(tenant) => (false, tenant),
    };
    tracing::info!(tenant.id = %tenant.id, actor = %caller.subject, action, changed, "a tenant was changed");
    json(StatusCode::OK, &TenantChanged { changed, tenant: tenant.into() })
}
