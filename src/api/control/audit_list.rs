//! `GET /v1/audit`: one chain of the audit, in its order, in the form of an export's lines.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::ListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use crate::domain::{AuditRecord, Permission, Stream, TenantId};
use crate::ports::store::AuditCursor;

/// The most in one answer.
const LIMIT_MAX: u32 = 1_000;

/// How many when nothing is said.
const LIMIT: u32 = 50;

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Whose chain; must agree with the credential's. Without either: the fleet's own, `_platform`.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Which of its chains: `workflow`, or `control`.
    #[param(value_type = Option<String>)]
    stream: Option<Stream>,
    /// Only records behind this one: `next` of the page before.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
}

/// A page of one chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    items: Vec<AuditRecordView>,
    /// `after` of the next page; null on the last one.
    next: Option<i64>,
}

/// A record, as it stands in an export.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditRecordView {
    tenant_id: String,
    /// `workflow` or `control`.
    stream: String,
    /// From 1, without a gap.
    seq: i64,
    /// The hash of the record before, in hex.
    prev_hash: String,
    /// SHA-256 of `prev_hash` (as bytes) and `body`, in hex.
    hash: String,
    /// The exact JSON text that was hashed.
    body: String,
}

impl From<AuditRecord> for AuditRecordView {
    fn from(record: AuditRecord) -> Self {
        Self {
            tenant_id: record.tenant.to_string(),
            stream: record.stream.to_string(),
            seq: record.seq,
            prev_hash: hex::encode(record.prev_hash),
            hash: hex::encode(record.hash),
            body: record.body,
        }
    }
}

/// Read the audit
///
/// One chain in its order. Operators read the fleet's own chain, and no tenant's.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit",
    params(Wanted),
    responses((status = 200, body = AuditPage, description = "Records of one chain"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("read_audit"))),
)]
pub(super) async fn list_audit(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(ProblemType::BadQuery, format!("limit must be 1 to {LIMIT_MAX}, not {limit}")));
    }
    let after = wanted.after.unwrap_or(0);
    if after < 0 {
        return Err(Problem::new(ProblemType::BadQuery, format!("after must be 0 or more, not {after}")));
    }
    let (tenant, stream) = (readable(&caller, wanted.tenant)?, wanted.stream);
    let stream = stream.unwrap_or(if tenant == TenantId::platform() { Stream::Control } else { Stream::Workflow });
    let cursor = AuditCursor { tenant: tenant.clone(), stream, seq: after };
    let mut page = api.registry.records_page(Some(&cursor), limit).await?;
    // What follows the end of the chain is the next one's.
    page.retain(|record| (&record.tenant, record.stream) == (&tenant, stream));
    let next = page.last().filter(|_| page.len() == limit as usize).map(|record| record.seq);
    let items = page.into_iter().map(AuditRecordView::from).collect();
    Ok(json(StatusCode::OK, &AuditPage { items, next }))
}

/// Whose chains the caller may read, of those that it asks for.
fn readable(caller: &Caller, said: Option<TenantId>) -> Result<TenantId, Problem> {
    caller.require(Permission::ReadAudit)?;
    let tenant = said.or_else(|| caller.tenant.clone()).unwrap_or_else(TenantId::platform);
    if tenant == TenantId::platform() {
        caller.require(Permission::Fleet)?;
        return Ok(tenant);
    }
    caller.require(Permission::View)?;
    match &caller.tenant {
        Some(own) if *own != tenant => {
            let detail = format!("the query says tenant {tenant:?}, the caller is {own:?}'s");
            Err(Problem::new(ProblemType::TenantMismatch, detail))
        }
        _ => Ok(tenant),
    }
}
