//! `POST /v1/tenants/{id}/erase`: the key of a subject, or of the whole tenant, is destroyed for good.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::EraseProblems;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{ApiState, Shared, json};
use super::tenant::reached;
use super::{reason, record};
use crate::domain::{AuditBody, Permission, TenantId, Violation};
use crate::ports::vault::{EraseAct, Survey, Tag};

/// The longest subject, in characters: as an event's.
const SUBJECT_MAX: usize = 256;

/// Whose key, and why.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what is taken field by field, to name every wrong one")]
pub(super) struct NewErasure {
    /// The subject; without one the whole tenant is erased.
    #[schema(example = "acct-42")]
    subject: Option<String>,
    /// True: nothing is destroyed, and the answer says what would be.
    #[schema(default = false)]
    dry_run: Option<bool>,
    /// 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "request 17 of the data protection office")]
    reason: String,
}

/// An erasure, or what it would be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Erasure {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// What the subject is called in the audit; null for the whole tenant, or where that is erased.
    subject_tag: Option<String>,
    /// Whether this was only to say what would be destroyed.
    dry_run: bool,
    /// Whether it is destroyed now.
    erased: bool,
    /// False where it was destroyed before, and in a dry run.
    changed: bool,
    /// Keys that were destroyed, or would be.
    keys: u64,
    /// Stored events that are sealed under them, in a dry run; null where counting them takes too long.
    events: Option<u64>,
}

struct Wanted {
    subject: Option<String>,
    dry_run: bool,
    reason: String,
}

/// Erase a subject, or a whole tenant
///
/// Destroys the key that everything of the subject is sealed under. It can't be undone: its events and
/// decisions can be read by nobody any more, its new events are refused within two seconds, and the
/// audit's chains still verify. 409 while the tenant is under legal hold.
#[utoipa::path(
    post,
    path = "/v1/tenants/{id}/erase",
    tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    request_body(content = NewErasure),
    responses((status = 200, body = Erasure, description = "It is destroyed, or would be"), EraseProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("erase"))),
)]
pub(super) async fn erase_tenant(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = reached(&caller, Permission::Erase, &id)?;
    let (parts, body) = request.into_parts();
    let wanted = read(reason::object(&api, &parts.headers, body).await?.unwrap_or_default())?;
    let tag = match &wanted.subject {
        Some(subject) => api.keyring.tag(&id, subject).await?,
        None => Some(Tag::OWN),
    };
    let found = match tag {
        // The whole tenant is erased already, and no subject of it has a name any more.
        None => Survey { keys: 0, events: None, erased: true },
        Some(tag) if wanted.dry_run => api.keyring.survey(&id, tag).await?,
        Some(tag) => return erase(&api, (&caller, &context), id, tag, wanted).await,
    };
    let subject_tag = tag.filter(|tag| *tag != Tag::OWN).map(|tag| tag.to_string());
    let Survey { keys, events, erased } = found;
    let dry_run = wanted.dry_run;
    let erasure = Erasure { tenant_id: id, subject_tag, dry_run, erased, changed: false, keys, events };
    Ok(json(StatusCode::OK, &erasure))
}

async fn erase(
    api: &ApiState,
    (caller, context): (&Caller, &RequestContext),
    id: TenantId,
    tag: Tag,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let subject_tag = (tag != Tag::OWN).then(|| tag.to_string());
    // The audit holds no personal data: a subject is called by its tag.
    let (action, resource) = match &subject_tag {
        Some(tag) => ("subject_erased", ("subject", tag.clone())),
        None => ("tenant_erased", ("tenant", id.to_string())),
    };
    let audit = AuditBody { reason: Some(wanted.reason), ..record::act(api, (caller, context), &id, action, resource) };
    let (changed, keys) = match api.keyring.erase(&id, tag, &audit).await? {
        EraseAct::Done(keys) => (true, keys),
        EraseAct::Already => (false, 0),
        EraseAct::Held => {
            return Err(Problem::new(ProblemType::LegalHold, "the tenant is under legal hold: release it first"));
        }
    };
    tracing::info!(tenant.id = %id, actor = %caller.subject, subject.tag = subject_tag, action, changed, keys, "erased");
    // Counted in a dry run alone: it reads everything of the tenant.
    let erasure = Erasure { tenant_id: id, subject_tag, dry_run: false, erased: true, changed, keys, events: None };
    Ok(json(StatusCode::OK, &erasure))
}

fn read(mut given: Map<String, Value>) -> Result<Wanted, Problem> {
    let mut violations = Vec::new();
    let legal = |text: &String| (1..=SUBJECT_MAX).contains(&text.chars().count());
    let subject = match given.remove("subject") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if legal(&text) => Some(text),
        Some(_) => {
            let why = format!("must be a text of 1 to {SUBJECT_MAX} characters, or null for the whole tenant");
            violations.push(Violation::at("/subject", why));
            None
        }
    };
    let dry_run = match given.remove("dry_run") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            violations.push(Violation::at("/dry_run", "must be true or false"));
            true
        }
    };
    match reason::of(&given) {
        Ok(Some(reason)) if violations.is_empty() => return Ok(Wanted { subject, dry_run, reason }),
        Ok(Some(_)) => {}
        Ok(None) => violations.push(Violation::at("/reason", "is required")),
        Err(more) => violations.extend(more),
    }
    Err(reason::wrong(violations))
}
