//! The control API: what people govern by, and what operators look after.
//!
//! Owns what operators may change, and who may: a permission for each route, and an audit record for
//! each change, written by the store in the transaction of the change. Never shows one tenant's
//! things to another's people.

mod approval_act;
mod approval_approve;
mod approval_claim;
mod approval_comment;
mod approval_get;
mod approval_reject;
mod approval_release;
mod approvals_list;
mod audit_checkpoints;
mod audit_list;
mod audit_public_key;
mod budget;
mod budget_remove;
mod budget_set;
mod budgets_list;
mod change;
mod costs_get;
mod dead_letter_discard;
mod dead_letter_get;
mod dead_letter_replay;
mod dead_letters_list;
mod fleet_get;
mod fleet_repair;
mod fleet_scaling;
mod key_revoke;
mod keys_create;
mod keys_list;
mod model_activate;
mod reason;
mod record;
mod retention_sweep;
mod tenant;
mod tenant_erase;
mod tenant_get;
mod tenant_hold;
mod tenant_release;
mod tenant_retention;
mod tenants_list;
mod vault_rewrap;
mod version_get;
mod version_register;
mod version_rule;
mod versions;
mod versions_list;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::auth::Caller;
use super::problem::{Problem, ProblemType};
use crate::domain::TenantId;

/// The most lines in one answer.
const LINES_MAX: u32 = 1_000;

/// How many when nothing is said.
const LINES: u32 = 50;

/// How many lines a list is to have.
fn lines(said: Option<u32>) -> Result<u32, Problem> {
    let limit = said.unwrap_or(LINES);
    if (1..=LINES_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(ProblemType::BadQuery, format!("limit must be 1 to {LINES_MAX}, not {limit}")))
}

/// Whose things a list shows: the caller's own, or where it has no tenant, whose it says.
fn listed_tenant(caller: Caller, said: Option<TenantId>) -> Result<Option<TenantId>, Problem> {
    if let (Some(own), Some(said)) = (&caller.tenant, &said)
        && own != said
    {
        let detail = format!("the query says tenant {said:?}, the caller is {own:?}'s");
        return Err(Problem::new(ProblemType::TenantMismatch, detail));
    }
    Ok(caller.tenant.or(said))
}

/// Every route of the control API, with its document.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(dead_letters_list::list_dead_letters))
        .routes(routes!(dead_letter_get::get_dead_letter))
        .routes(routes!(dead_letter_replay::replay_dead_letter))
        .routes(routes!(dead_letter_discard::discard_dead_letter))
        .routes(routes!(approvals_list::list_approvals))
        .routes(routes!(approval_get::get_approval))
        .routes(routes!(approval_claim::claim_approval))
        .routes(routes!(approval_release::release_approval))
        .routes(routes!(approval_approve::approve))
        .routes(routes!(approval_reject::reject))
        .routes(routes!(approval_comment::comment_approval))
        .routes(routes!(audit_list::list_audit))
        .routes(routes!(audit_checkpoints::list_checkpoints))
        .routes(routes!(audit_public_key::get_public_key))
        .routes(routes!(fleet_get::get_fleet))
        .routes(routes!(fleet_repair::repair_fleet))
        .routes(routes!(fleet_scaling::get_scaling))
        .routes(routes!(tenants_list::list_tenants))
        .routes(routes!(tenant_get::get_tenant))
        .routes(routes!(tenant_retention::set_tenant_retention))
        .routes(routes!(tenant_hold::hold_tenant))
        .routes(routes!(tenant_release::release_tenant))
        .routes(routes!(tenant_erase::erase_tenant))
        .routes(routes!(vault_rewrap::rewrap_vault))
        .routes(routes!(retention_sweep::sweep_retention))
        .routes(routes!(costs_get::get_costs))
        .routes(routes!(budgets_list::list_budgets))
        .routes(routes!(budget_set::set_budget))
        .routes(routes!(budget_remove::remove_budget))
        .routes(routes!(keys_list::list_keys, keys_create::create_key))
        .routes(routes!(key_revoke::revoke_key))
        .merge(versions::routes())
}
