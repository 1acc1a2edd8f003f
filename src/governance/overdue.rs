//! Owns the look at approval requests: how many are open, and what is overdue goes to the second role.
//! Never decides one.

use metrics::{counter, gauge};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::{ApprovalRules, AuditBody, EventId, Stream, TenantId};
use crate::ports::{Approvals, Clock, StoreError};
use crate::telemetry::names;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);

/// Requests escalated in one look at most: the others wait for the next one.
const ESCALATED_MAX: u32 = 500;

/// Who the audit names.
const ACTOR: &str = "system:console";

/// Looks after overdue requests until stopped. Of several that look at once, one escalates a request:
/// the others find it escalated.
pub async fn watch(
    approvals: Arc<dyn Approvals>,
    clock: Arc<dyn Clock>,
    rules: ApprovalRules,
    stop: CancellationToken,
) {
    loop {
        if let Err(e) = look(&*approvals, &*clock, &rules).await {
            tracing::warn!(error = %e, "failed to look after approval requests");
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// One look: counts, and escalates. Gives how many it has escalated.
///
/// # Errors
/// When the store did not do it; what was escalated before stays so.
pub async fn look(approvals: &dyn Approvals, clock: &dyn Clock, rules: &ApprovalRules) -> Result<u32, StoreError> {
    let opened_by = rules.overdue_by(clock.now());
    let counts = approvals.count_approvals(opened_by).await?;
    gauge!(names::APPROVALS_OPEN).set(counts.open as f64);
    gauge!(names::APPROVALS_OVERDUE).set(counts.overdue as f64);
    let Some(opened_by) = opened_by.filter(|_| counts.to_escalate > 0) else { return Ok(0) };
    let mut escalated = 0;
    for (tenant, event) in approvals.approvals_to_escalate(opened_by, ESCALATED_MAX).await? {
        let audit = audit_body(&tenant, event, clock);
        if approvals.escalate_approval(&tenant, event, opened_by, &audit).await? {
            escalated += 1;
            counter!(names::APPROVALS_ESCALATED).increment(1);
            tracing::info!(event.id = %event, tenant.id = %tenant, "an approval request was overdue");
        }
    }
    Ok(escalated)
}

fn audit_body(tenant: &TenantId, event: EventId, clock: &dyn Clock) -> AuditBody {
    let chain = (tenant.clone(), Stream::Control);
    AuditBody {
        event_id: Some(event),
        reason: Some("overdue".into()),
        previous: Some(json!({"level": 1})),
        new: Some(json!({"level": 2})),
        ..AuditBody::new(chain, clock.now(), ACTOR, "approval_escalated", ("approval", event.to_string()))
    }
}
