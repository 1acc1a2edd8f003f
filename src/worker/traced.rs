//! Owns what a worker tells of traced events: their delivery, their stages, their commit, their outcome.
//! Costs nothing where nothing is traced, and changes nothing of what happens to an event. Never begins a
//! trace: it goes on with what a pack carries.

use std::time::Duration;

use super::buffer::{Item, Start};
use super::lane::ById;
use crate::domain::{EventId, Outcome, TraceContext};
use crate::pipeline::state::Stage;
use crate::ports::store::{CommitBatch, Committed, Disposition, NewDisposition, RetryBatch};
use crate::telemetry::Traces;
use crate::telemetry::traces::{Kind, Span, keys};

/// The trace of an event in hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced {
    /// The span that published it.
    published: TraceContext,
    /// The span of its delivery.
    delivery: TraceContext,
    since: Duration,
}

impl Traced {
    /// The trace of an event that has just come, where its pack says that it has one.
    pub(super) fn delivered(traces: &Traces, published: Option<TraceContext>) -> Option<Box<Self>> {
        let published = published.filter(|context| context.sampled && traces.on())?;
        Some(Box::new(Self { published, delivery: traces.below(published), since: traces.moment() }))
    }
}

/// Records the deliveries of events that a lane takes now.
pub(super) fn handed_over(traces: &Traces, items: &[Item]) {
    if !traces.on() {
        return;
    }
    let now = traces.moment();
    for (trace, item) in items.iter().filter_map(|item| Some((item.trace.as_ref()?, item))) {
        let span = Span::new("deliver", Kind::Consumer, trace.delivery, (trace.since, now))
            .after(Some(trace.published.span))
            .with(keys::EVENT, item.id().to_string())
            .with(keys::PARTITION, u32::from(item.partition().0))
            .with(keys::MESSAGING_SYSTEM, traces.systems().messaging)
            .with(keys::MESSAGING_OPERATION, "receive")
            .with(keys::MESSAGING_DESTINATION, format!("events.{}", item.route))
            .with(keys::REDELIVERED, item.start != Start::First)
            .with(keys::BATCH, items.len());
        traces.record(span);
    }
}

/// The traced events of a batch, and the deliveries that their stages hang on.
#[derive(Default)]
pub(super) struct Spans(Vec<(EventId, TraceContext)>);

impl Spans {
    pub(super) fn of(items: &[Item]) -> Self {
        Self(items.iter().filter_map(|item| Some((item.id(), item.trace.as_ref()?.delivery))).collect())
    }

    /// Records the stages of a decision that began at `began`, one after the other as they were measured.
    pub(super) fn decided(&self, traces: &Traces, began: Duration, decided: &NewDisposition) {
        let Some((_, delivery)) = self.0.iter().find(|(id, _)| *id == decided.event) else { return };
        let Disposition::Decided { outcome, timings, .. } = &decided.disposition else { return };
        let mut at = began;
        for (stage, micros) in Stage::ALL.into_iter().zip(timings) {
            let ended = at + Duration::from_micros(u64::from(*micros));
            let mut span = Span::new(stage.as_str(), Kind::Internal, traces.below(*delivery), (at, ended))
                .under(delivery.span)
                .with(keys::EVENT, decided.event.to_string());
            if stage == Stage::Decision {
                span = span.with(keys::OUTCOME, outcome.as_str());
            }
            traces.record(span);
            at = ended;
        }
    }
}

/// A commit of a traced decision.
pub(super) struct TracedCommit {
    event: EventId,
    outcome: Outcome,
    commit: TraceContext,
}

/// Records the commit of a batch that began at `began`. Gives the decisions that it has written.
pub(super) fn committed(
    traces: &Traces,
    began: Duration,
    (batch, verdicts): (&CommitBatch, &[Committed]),
    items: &ById,
) -> Vec<TracedCommit> {
    if !traces.on() {
        return Vec::new();
    }
    let (now, mut told) = (traces.moment(), Vec::new());
    for (item, verdict) in batch.items.iter().zip(verdicts) {
        let Some(delivery) = delivery(items, item.event) else { continue };
        let commit = traces.below(delivery);
        let span = Span::new("commit", Kind::Client, commit, (began, now))
            .under(delivery.span)
            .with(keys::TENANT, item.tenant.as_str().to_owned())
            .with(keys::PARTITION, u32::from(item.partition.0))
            .with(keys::VERDICT, verdict_text(*verdict));
        traces.record(of_the_store(traces, span, "commit", batch.items.len(), item.event, &item.disposition));
        if let (Disposition::Decided { outcome, .. }, Committed::Written) = (&item.disposition, verdict) {
            told.push(TracedCommit { event: item.event, outcome: *outcome, commit });
        }
    }
    told
}

/// Records that failed events were put off.
pub(super) fn postponed(traces: &Traces, began: Duration, batch: &RetryBatch, items: &ById) {
    if !traces.on() {
        return;
    }
    for retry in &batch.items {
        let Some(delivery) = delivery(items, retry.event) else { continue };
        let span = Span::new("postpone", Kind::Client, traces.below(delivery), (began, traces.moment()))
            .under(delivery.span)
            .with(keys::EVENT, retry.event.to_string())
            .with(keys::PARTITION, u32::from(retry.partition.0))
            .with(keys::DB_SYSTEM, traces.systems().database)
            .with(keys::DB_OPERATION, "postpone")
            .with(keys::DB_BATCH, batch.items.len())
            .with(keys::ATTEMPTS, retry.attempts);
        traces.record(span.failed(Some(retry.class.as_str())));
    }
}

/// Records the publication of outcomes, from `began` until now.
pub(super) fn published(traces: &Traces, began: Duration, told: &[TracedCommit], confirmed: bool) {
    for TracedCommit { event, outcome, commit } in told {
        let span = Span::new("outcome", Kind::Producer, traces.below(*commit), (began, traces.moment()))
            .under(commit.span)
            .with(keys::EVENT, event.to_string())
            .with(keys::OUTCOME, outcome.as_str())
            .with(keys::MESSAGING_SYSTEM, traces.systems().messaging)
            .with(keys::MESSAGING_OPERATION, "send")
            .with(keys::MESSAGING_DESTINATION, "decisions")
            .failed((!confirmed).then_some("unconfirmed"));
        traces.record(span);
    }
}

fn of_the_store(
    traces: &Traces,
    span: Span,
    operation: &'static str,
    events: usize,
    event: EventId,
    disposition: &Disposition,
) -> Span {
    let span = span
        .with(keys::EVENT, event.to_string())
        .with(keys::DB_SYSTEM, traces.systems().database)
        .with(keys::DB_OPERATION, operation)
        .with(keys::DB_BATCH, events);
    match disposition {
        Disposition::Decided { outcome, .. } => span.with(keys::OUTCOME, outcome.as_str()),
        Disposition::Dead { class, attempts, .. } => span.with(keys::ATTEMPTS, *attempts).failed(Some(class.as_str())),
    }
}

/// What the rest of an event's trace hangs on.
fn delivery(items: &ById, event: EventId) -> Option<TraceContext> {
    items.get(&event)?.iter().find_map(|item| Some(item.trace.as_ref()?.delivery))
}

fn verdict_text(verdict: Committed) -> &'static str {
    match verdict {
        Committed::Written => "written",
        Committed::Duplicate => "duplicate",
        Committed::Fenced => "fenced",
    }
}

#[cfg(test)]
mod tests;
