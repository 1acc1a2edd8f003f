//! Owns the way of one event as it is told: what happened, when, and what is still to come.
//!
//! A pure function of what is stored. Never guesses: what can't be known is said to be unknown.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::CliError;
use super::events_get::read_decision;
use super::waiting::{Around, Waiting, ago, partition, past, tries, waiting};
use crate::domain::approval;
use crate::domain::cost::Charge;
use crate::domain::{Decision, EventId, PartitionId, Status, TenantId, time};
use crate::ports::store::{Disposition, End, EventRecord, OutboxKind, PastAct, PastDeath};

/// The whole way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Timeline {
    pub(super) event_id: EventId,
    pub(super) tenant_id: TenantId,
    pub(super) partition: PartitionId,
    pub(super) correlation_id: String,
    pub(super) status: Status,
    /// What it waits for, in one sentence; nothing when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Waiting>,
    /// In the order in which things happen.
    pub(super) steps: Vec<Step>,
}

/// One stop on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Step {
    /// Stable name for programs.
    pub(super) step: &'static str,
    /// Whether it lies behind the event; false for what it waits for.
    pub(super) done: bool,
    /// When, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// One sentence for people.
    pub(super) text: String,
    /// What belongs to it: stages, reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
}

impl Step {
    pub(super) fn done(step: &'static str, at: Option<DateTime<Utc>>, text: impl Into<String>) -> Self {
        Self { step, done: true, at: at.map(time::text), text: text.into(), details: Vec::new() }
    }

    pub(super) fn open(step: &'static str, text: impl Into<String>) -> Self {
        Self { step, done: false, at: None, text: text.into(), details: Vec::new() }
    }

    pub(super) fn with(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

/// Tells the way of an event, with what stands around it.
///
/// # Errors
/// When the stored decision can't be read.
pub(super) fn tell(record: &EventRecord, around: &Around) -> Result<Timeline, CliError> {
    let event = &record.event;
    let mut steps = vec![accepted(record), published(record, around)];
    let waiting = waiting(record, around);
    match &record.end {
        None => {
            steps.extend(record.past.iter().flat_map(past));
            steps.extend(partition(record, around));
            steps.extend(tries(record));
            steps.push(Step::open("decided", "not yet"));
        }
        Some(end) => {
            // One that was discarded is still dead: its end comes before what was done with it.
            let dealt_with = |death: &&PastDeath| death.act == PastAct::Replayed;
            steps.extend(record.past.iter().filter(dealt_with).flat_map(past));
            ended(record, end, &mut steps)?;
            steps.extend(record.past.iter().filter(|death| !dealt_with(death)).map(|death| {
                let [_, acted] = past(death);
                acted
            }));
        }
    }
    Ok(Timeline {
        event_id: event.id,
        tenant_id: event.tenant.clone(),
        partition: event.partition,
        correlation_id: event.correlation_id.to_string(),
        status: record.status(),
        waiting,
        steps,
    })
}

fn accepted(record: &EventRecord) -> Step {
    let event = &record.event;
    let text = format!("stored for tenant {} in partition {}", event.tenant, event.partition);
    let correlation = format!("correlation id {}", event.correlation_id);
    Step::done("accepted", Some(event.id.created_at()), text).with(vec![correlation])
}

fn published(record: &EventRecord, around: &Around) -> Step {
    let waits = record.unpublished.contains(&OutboxKind::Accept);
    match (waits, &record.end) {
        (false, _) => Step::done("published", None, "the broker has confirmed it"),
        (true, Some(_)) => Step::done(
            "published",
            None,
            "it reached a worker; its outbox row still stands, so it may be published once more, which changes nothing",
        ),
        (true, None) => Step::open(
            "published",
            format!(
                "it stands in the outbox, for {}: not known to have reached the broker; a running ingest publishes it \
                 again every few seconds",
                ago(around.now - record.event.id.created_at())
            ),
        ),
    }
}

fn ended(record: &EventRecord, end: &End, steps: &mut Vec<Step>) -> Result<(), CliError> {
    let who = format!("worker {} at epoch {}", end.worker, end.epoch.0);
    match &end.disposition {
        Disposition::Decided { outcome, decision, timings, charge } => {
            let decision = read_decision(record.event.id, decision)?;
            let text = format!("{} by {who}, policy {}", outcome.as_str(), policy(&decision));
            steps.push(Step::done("decided", Some(decision.decided_at), text).with(stages(&decision, timings)));
            if *charge != Charge::default() {
                let text = format!("{} by model {}, {} tokens", charge.cost, decision.model_version, charge.tokens);
                steps.push(Step::done("cost", None, text));
            }
            steps.push(Step::done("reasons", None, "why").with(reasons(&decision)));
            steps.push(committed(record, end));
            steps.push(outcome_published(record));
            asked(record, steps);
        }
        Disposition::Dead { class, error, attempts } => {
            let text = format!("dead letter by {who} after {attempts} attempts: {class}");
            steps.push(Step::done("dead", Some(end.at), text).with(vec![error.clone()]));
        }
    }
    Ok(())
}

fn policy(decision: &Decision) -> String {
    format!("{}@{}", decision.policy.name, decision.policy.version)
}

fn stages(decision: &Decision, timings: &[u32]) -> Vec<String> {
    let mut lines = Vec::with_capacity(decision.trail.len());
    for (n, entry) in decision.trail.iter().enumerate() {
        let took = timings.get(n).map(|micros| format!(" ({micros} µs)")).unwrap_or_default();
        lines.push(format!("{}: {}{took}", entry.stage, entry.result));
    }
    lines
}

fn reasons(decision: &Decision) -> Vec<String> {
    let mut lines = Vec::with_capacity(decision.reasons.len());
    for reason in &decision.reasons {
        let values: Vec<String> = reason.values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        lines.push(format!("{} [{} of {}]{values}", reason.message, reason.code, reason.rule));
    }
    lines
}

fn committed(record: &EventRecord, end: &End) -> Step {
    let since = end.at - record.event.id.created_at();
    let text =
        format!("decision and audit record in one transaction, {} ms after the accept", since.num_milliseconds());
    Step::done("committed", Some(end.at), text)
}

fn outcome_published(record: &EventRecord) -> Step {
    if record.unpublished.contains(&OutboxKind::Outcome) {
        let text = "it stands in the outbox: not known to have reached downstream consumers; the partition's owner \
                    publishes it again within seconds";
        return Step::open("outcome_published", text);
    }
    Step::done("outcome_published", None, "the broker has confirmed it")
}

/// What people did with it, and whether the verdict is told.
fn asked(record: &EventRecord, steps: &mut Vec<Step>) {
    let Some(approval) = &record.approval else { return };
    steps.push(Step::done("approval_opened", Some(approval.opened_at), "a person is asked"));
    for past in &approval.history {
        let (name, text) = match &past.step {
            approval::Step::Claimed { until } => {
                ("claimed", format!("{} looks at it, until {}", past.by, time::text(*until)))
            }
            approval::Step::Released => ("released", format!("by {}", past.by)),
            approval::Step::Escalated => ("escalated", format!("overdue: the second role's, by {}", past.by)),
            // `approvals show` tells what is said.
            approval::Step::Commented { .. } => continue,
        };
        steps.push(Step::done(name, Some(past.at), text));
    }
    let Some(verdict) = approval.verdict else {
        let text = format!("waits for a person since {}", time::text(approval.opened_at));
        return steps.push(Step::open("approval", text));
    };
    let by = approval.decided_by.as_deref().unwrap_or("a person who is not named");
    let step = Step::done("approval", approval.decided_at, format!("{} by {by}", verdict.as_str()));
    steps.push(step.with(approval.reason.iter().cloned().collect()));
    steps.push(match record.unpublished.contains(&OutboxKind::Outcome) {
        true => Step::open("verdict_published", "it stands in the outbox: a worker publishes it within seconds"),
        false => Step::done("verdict_published", None, "the broker has confirmed it"),
    });
}
