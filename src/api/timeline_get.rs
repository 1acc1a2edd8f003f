//! `GET /v1/events/{id}/timeline`: what happened to the event, step by step.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::auth::Caller;
use super::docs::ReadProblems;
use super::event_get::find_open;
use super::observe::RequestContext;
use super::problem::Problem;
use super::schemas::StatusName;
use super::{Shared, unreadable};
use crate::domain::cost::Charge;
use crate::domain::{Decision, EventId, Outcome, Status, approval, time};
use crate::ports::store::{Approval, Disposition, End, EventRecord, OutboxKind, PastAct, PastDeath};

/// What happened to an event, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timeline {
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    /// Where the event stands now.
    #[schema(value_type = StatusName)]
    status: Status,
    steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Step {
    /// When; null where only the order is known.
    #[schema(format = "date-time")]
    at: Option<String>,
    /// What.
    #[schema(example = "accepted")]
    step: &'static str,
    /// The status that the event then had.
    #[schema(value_type = Option<String>)]
    status: Option<Status>,
    /// Who: a worker, or a person.
    by: Option<String>,
    /// What belongs to this step.
    #[schema(value_type = Object)]
    detail: Value,
}

/// Read an event's timeline
#[utoipa::path(
    get,
    path = "/v1/events/{id}/timeline",
    tag = "events",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, body = Timeline, description = "Every step so far"), ReadProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("view"))),
)]
pub(super) async fn get_timeline(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find_open(&api, &caller, &context, &id).await?;
    let steps = steps(&record).map_err(|e| unreadable(&e))?;
    let timeline = Timeline { event_id: record.event.id, status: record.status(), steps };
    Ok(super::json(StatusCode::OK, &timeline))
}

fn steps(record: &EventRecord) -> Result<Vec<Step>, serde_json::Error> {
    let event = &record.event;
    let waits = record.unpublished.contains(&OutboxKind::Accept);
    let accepted = json!({"correlation_id": event.correlation_id, "partition": event.partition});
    let mut steps = vec![
        step(Some(event.id.created_at()), "accepted", Some(Status::Received), None, accepted),
        step(None, if waits { "waits_for_broker" } else { "published" }, None, None, json!({})),
    ];
    // A death that was discarded is the event's end still: of it only the act is told, behind it.
    let (replayed, discarded): (Vec<&PastDeath>, Vec<&PastDeath>) =
        record.past.iter().partition(|past| past.act == PastAct::Replayed);
    steps.extend(replayed.into_iter().flat_map(|past| [died(past), dealt_with(past)]));
    if let Some(end) = &record.end {
        ended(end, &mut steps)?;
        // A row that stands behind a verdict is the verdict's.
        let spoken = record.approval.as_ref().is_some_and(|approval| approval.verdict.is_some());
        let told = spoken || !record.unpublished.contains(&OutboxKind::Outcome);
        if matches!(end.disposition, Disposition::Decided { .. }) {
            steps.push(step(None, if told { "outcome_published" } else { "outcome_waits" }, None, None, json!({})));
        }
    }
    steps.extend(discarded.into_iter().map(dealt_with));
    if let Some(approval) = &record.approval {
        approved(approval, record.unpublished.contains(&OutboxKind::Outcome), &mut steps);
    }
    Ok(steps)
}

fn died(past: &PastDeath) -> Step {
    let detail = json!({"class": past.class, "error": past.error, "attempts": past.attempts});
    step(Some(past.died_at), "failed", Some(Status::Failed), None, detail)
}

fn dealt_with(past: &PastDeath) -> Step {
    let status = match past.act {
        PastAct::Replayed => Status::Received,
        PastAct::Discarded => Status::Failed,
    };
    step(Some(past.acted_at), past.act.as_str(), Some(status), Some(past.by.clone()), json!({"reason": past.reason}))
}

fn ended(end: &End, steps: &mut Vec<Step>) -> Result<(), serde_json::Error> {
    let by = format!("worker:{}", end.worker);
    match &end.disposition {
        Disposition::Decided { outcome, decision, timings, charge } => {
            let decision = Decision::from_canonical(decision)?;
            let begun = Some(decision.decided_at);
            steps.push(step(begun, "validated", Some(Status::Validated), Some(by.clone()), json!({})));
            let stage = |n: usize| {
                let entry = &decision.trail[n];
                json!({"stage": entry.stage, "result": entry.result, "micros": timings.get(n)})
            };
            let stages: Vec<Value> = (0..decision.trail.len()).map(stage).collect();
            let detail = json!({"stages": stages});
            steps.push(step(begun, "processed", Some(Status::Processing), Some(by.clone()), detail));
            let reasons: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
            let mut detail = json!({"outcome": outcome, "reasons": reasons, "epoch": end.epoch});
            if *charge != Charge::default() {
                detail["cost"] = charge.view();
            }
            steps.push(step(Some(end.at), "decided", Some(outcome.status()), Some(by), detail));
        }
        Disposition::Dead { class, error, attempts } => {
            let detail = json!({"class": class, "error": error, "attempts": attempts, "epoch": end.epoch});
            steps.push(step(Some(end.at), "failed", Some(Status::Failed), Some(by), detail));
        }
    }
    Ok(())
}

fn approved(approval: &Approval, waits: bool, steps: &mut Vec<Step>) {
    let escalated = Some(Status::Escalated);
    steps.push(step(Some(approval.opened_at), "approval_opened", escalated, None, json!({})));
    for past in &approval.history {
        let (name, detail) = match &past.step {
            approval::Step::Claimed { until } => ("approval_claimed", json!({"until": time::text(*until)})),
            approval::Step::Released => ("approval_released", json!({})),
            approval::Step::Escalated => ("approval_escalated", json!({"level": 2})),
            // What is said is shown with the request.
            approval::Step::Commented { .. } => continue,
        };
        steps.push(step(Some(past.at), name, escalated, Some(past.by.clone()), detail));
    }
    if let Some(verdict) = approval.verdict {
        let detail = json!({"verdict": verdict, "reason": approval.reason});
        let status = Some(Outcome::status(verdict));
        steps.push(step(approval.decided_at, "approval_decided", status, approval.decided_by.clone(), detail));
        steps.push(step(None, if waits { "verdict_waits" } else { "verdict_published" }, None, None, json!({})));
    }
}

fn step(
    at: Option<DateTime<Utc>>,
    step: &'static str,
    status: Option<Status>,
    by: Option<String>,
    detail: Value,
) -> Step {
    Step { at: at.map(time::text), step, status, by, detail }
}
