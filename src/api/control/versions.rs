//! Owns what is common to the endpoints of models and prompts: whose version is meant, how one is
//! shown, and the words of a refusal. Both kinds go by the same functions, each endpoint's in its own
//! file; only their documents are two.
//!
//! # Decisions
//! Prompts can't be made active: no stage asks a language model, and a decision that named a prompt
//! would say that it had a part in it.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Shared;
use super::super::auth::Caller;
use super::super::problem::{Problem, ProblemType};
use super::{model_activate, version_get, version_register, version_rule, versions_list};
use crate::domain::version::{Artifact, Refused, VersionKey, VersionName, VersionRef, number_of};
use crate::domain::{Invalid, TenantId};

/// Whose.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Must agree with the credential's.
    #[param(value_type = Option<String>)]
    pub(super) tenant: Option<TenantId>,
}

/// A registered version.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of domain::version::Version::view")]
pub(super) struct VersionView {
    tenant_id: String,
    /// `model` or `prompt`.
    #[schema(example = "model")]
    kind: String,
    #[schema(example = "fraud")]
    name: String,
    /// Counted from 1 under its name, without gaps.
    version: u32,
    /// Of the content, in hex.
    sha256: String,
    /// Length of the content.
    bytes: u64,
    /// Who registered it, and may not decide on it.
    author: String,
    /// What is new in it.
    reason: String,
    #[schema(format = "date-time")]
    created_at: String,
    /// `pending`, `approved` or `rejected`.
    #[schema(example = "pending")]
    state: String,
    decided_by: Option<String>,
    #[schema(format = "date-time")]
    decided_at: Option<String>,
    decision_reason: Option<String>,
}

/// Whose versions are meant: the caller's own; where it has no tenant, those of the tenant that it says.
pub(super) fn owner(caller: &Caller, said: Option<TenantId>) -> Result<TenantId, Problem> {
    let mismatch = |detail: String| Err(Problem::new(ProblemType::TenantMismatch, detail));
    match (&caller.tenant, said) {
        (Some(own), Some(said)) if *own != said => {
            mismatch(format!("tenant {said:?} is asked, the caller is {own:?}'s"))
        }
        (_, Some(said)) if said == TenantId::platform() => mismatch("the fleet itself has no versions".into()),
        (Some(own), _) => Ok(own.clone()),
        // Only a caller without authentication gets here: a known one without a tenant is an operator,
        // who has none of the permissions.
        (None, said) => Ok(said.ok_or(Invalid::TenantMissing)?),
    }
}

/// The version that a path names.
pub(super) fn named(
    tenant: TenantId,
    artifact: Artifact,
    (name, number): &(String, String),
) -> Result<VersionKey, Problem> {
    let read = VersionName::parse(name).ok().zip(number_of(number));
    let (name, number) = read.ok_or_else(|| refused(artifact, Refused::Unknown))?;
    Ok(VersionKey { tenant, artifact, version: VersionRef { name, number } })
}

/// Why something is not done with a version.
pub(super) fn refused(artifact: Artifact, why: Refused) -> Problem {
    let what = match why {
        Refused::Unknown => ProblemType::NotFound,
        Refused::FourEyes => ProblemType::FourEyes,
        Refused::Decided(_) => ProblemType::VersionDecided,
        Refused::NotApproved(_) => ProblemType::NotApproved,
        Refused::Full(_) => ProblemType::VersionsFull,
    };
    Problem::new(what, format!("{artifact}: failed to {why}"))
}

/// The routes of both kinds.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(versions_list::list_models, version_register::register_model))
        .routes(routes!(version_get::get_model))
        .routes(routes!(version_rule::approve_model))
        .routes(routes!(version_rule::reject_model))
        .routes(routes!(model_activate::get_active_model))
        .routes(routes!(model_activate::activate_model))
        .routes(routes!(model_activate::deactivate_model))
        .routes(routes!(versions_list::list_prompts, version_register::register_prompt))
        .routes(routes!(version_get::get_prompt))
        .routes(routes!(version_rule::approve_prompt))
        .routes(routes!(version_rule::reject_prompt))
}
