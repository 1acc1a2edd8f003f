//! `POST /v1/retention/sweep`: looks at every day that is over, and drops those that may go.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use metrics::counter;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::RepairProblems;
use super::super::observe::RequestContext;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use super::{reason, record};
use crate::domain::retention::Day;
use crate::domain::{AuditBody, Permission, Violation};
use crate::ports::retention::{Fate, Sweep, Swept, SweptDay, chain};
use crate::telemetry::names;

/// Days dropped by one request at most: a request has its time.
const DROPS_MAX: u32 = 7;

/// What to do, and why.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what is taken field by field, to name every wrong one")]
pub(super) struct NewSweep {
    /// True: nothing goes, the answer says what would.
    #[schema(default = false)]
    dry_run: Option<bool>,
    /// 1 to 1,000 characters; stands in the audit; only a dry run needs none.
    #[schema(example = "the disk is full")]
    reason: Option<String>,
}

/// Every day that is over and still stored, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SweepView {
    dry_run: bool,
    /// The fleet's retention, in days; 0: for ever.
    retention_days: u32,
    /// Whether days are left that may go: ask again.
    more: bool,
    days: Vec<SweptDayView>,
}

/// A day.
#[derive(Debug, Serialize, ToSchema)]
struct SweptDayView {
    /// UTC.
    #[schema(value_type = String, format = "date")]
    day: Day,
    /// Its events; null while nobody has had to count them.
    events: Option<u64>,
    /// `dropped`, `goes` (it may go) or `stays`.
    #[schema(example = "stays")]
    fate: &'static str,
    /// Why it stays.
    reasons: Vec<StayView>,
}

/// A reason to keep a day.
#[derive(Debug, Serialize, ToSchema)]
struct StayView {
    /// Stable name.
    #[schema(example = "young")]
    code: &'static str,
    #[schema(example = "kept until 2027-01-31")]
    detail: String,
}

impl From<SweptDay> for SweptDayView {
    fn from(swept: SweptDay) -> Self {
        let (fate, stays) = match swept.fate {
            Fate::Dropped(_) => ("dropped", Vec::new()),
            Fate::Goes => ("goes", Vec::new()),
            Fate::Stays(stays) => ("stays", stays),
        };
        let reasons = stays.iter().map(|stay| StayView { code: stay.code(), detail: stay.to_string() }).collect();
        Self { day: swept.facts.day, events: swept.facts.events, fate, reasons }
    }
}

/// Drop what is old
///
/// A day goes when the longest retention of its tenants is over, everything up to its end is decided
/// and published, nothing in it waits for a person or a next try, and no tenant in it is under legal
/// hold. At most 7 days go by one request; the console does the same by itself every hour.
#[utoipa::path(
    post,
    path = "/v1/retention/sweep",
    tag = "tenants",
    request_body(content = NewSweep),
    responses((status = 200, body = SweepView, description = "Day by day what went, and why others stay"), RepairProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("manage_tenants"))),
)]
pub(super) async fn sweep_retention(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::ManageTenants)?;
    let (parts, body) = request.into_parts();
    let given = reason::object(&api, &parts.headers, body).await?.unwrap_or_default();
    let (dry_run, reason) = read(given)?;
    let resource = ("retention", "sweep".to_owned());
    let audit = AuditBody { reason, ..record::act(&api, (&caller, &context), &chain(), "day_dropped", resource) };
    let (fleet_days, registry) = (api.retention_days, Arc::clone(&api.registry));
    // A task of its own: a request that is given up must not break a transaction off.
    let sweeping = tokio::spawn(async move {
        let drops_max = if dry_run { 0 } else { DROPS_MAX };
        registry.sweep(Sweep { fleet_days, drops_max, audit: &audit }).await
    });
    let swept: Swept = sweeping.await.map_err(|e| {
        tracing::error!(error = %e, "failed to sweep");
        Problem::new(ProblemType::Internal, "the log says more, under this request's correlation id")
    })??;
    let dropped = swept.dropped().count() as u64;
    counter!(names::RETENTION_DAYS_DROPPED).increment(dropped);
    if dropped > 0 {
        tracing::info!(actor = %caller.subject, days = dropped, "days were dropped");
    }
    let days = swept.days.into_iter().map(SweptDayView::from).collect();
    Ok(json(StatusCode::OK, &SweepView { dry_run, retention_days: fleet_days, more: swept.more, days }))
}

fn read(mut given: Map<String, Value>) -> Result<(bool, Option<String>), Problem> {
    let mut violations = Vec::new();
    let dry_run = match given.remove("dry_run") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            violations.push(Violation::at("/dry_run", "must be true or false"));
            false
        }
    };
    match reason::of(&given) {
        Ok(reason) if violations.is_empty() && (dry_run || reason.is_some()) => return Ok((dry_run, reason)),
        Ok(None) if !dry_run => violations.push(Violation::at("/reason", "is required, except for a dry run")),
        Ok(_) => {}
        Err(more) => violations.extend(more),
    }
    Err(reason::wrong(violations))
}
