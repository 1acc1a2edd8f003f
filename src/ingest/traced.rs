//! Owns what ingest tells of traced events: their accept and their publication. Costs nothing where
//! nothing is traced, and changes nothing of what happens to an event.

use std::time::Duration;

use super::publish::Fresh;
use super::queue::Submission;
use crate::domain::{SpanId, TraceContext};
use crate::ports::Route;
use crate::ports::intake::Taken;
use crate::ports::store::{Accepted, NewEvent};
use crate::telemetry::Traces;
use crate::telemetry::traces::{Kind, Root, Span, keys};

/// The publication of a traced event. Its span is named in the pack before it is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publishing {
    pub(super) context: TraceContext,
    accept: SpanId,
}

/// A committed accept.
pub(super) struct Accepting<'a> {
    traces: &'a Traces,
    events: usize,
    committed: Duration,
    /// When the submission was let in that is told of now.
    pub(super) admitted: Duration,
}

impl<'a> Accepting<'a> {
    /// One of so many events that was committed just now.
    pub(super) fn of(traces: &'a Traces, events: usize) -> Self {
        Self { traces, events, committed: traces.moment(), admitted: Duration::ZERO }
    }

    /// Records an event's accept. Gives what its publication goes by, if it is published.
    pub(super) fn accepted(
        &self,
        request: Option<TraceContext>,
        event: &NewEvent,
        verdict: &Accepted,
    ) -> Option<Publishing> {
        let request = request?;
        let context = self.traces.below(request);
        let (id, said) = match verdict {
            Accepted::Fresh => (event.id, "fresh"),
            Accepted::Replayed { id, .. } => (*id, "replayed"),
            Accepted::Conflict { id } => (*id, "conflict"),
        };
        let span = Span::new("accept", Kind::Internal, context, (self.admitted, self.committed))
            .under(request.span)
            .with(keys::EVENT, id.to_string())
            .with(keys::TENANT, event.tenant.as_str().to_owned())
            .with(keys::CORRELATION, event.correlation_id.as_str().to_owned())
            .with(keys::PARTITION, u32::from(event.partition.0))
            .with(keys::BATCH, self.events)
            .with(keys::VERDICT, said);
        self.traces.record(span);
        let publishing = || Publishing { context: self.traces.below(context), accept: context.span };
        (*verdict == Accepted::Fresh).then(publishing)
    }
}

/// Records that a submission was not stored.
pub(super) fn not_accepted(traces: &Traces, submission: &Submission) {
    for (request, candidate) in submission.candidates.iter().filter_map(|c| Some((c.traceparent?, c))) {
        let times = (submission.admitted, traces.moment());
        let span = Span::new("accept", Kind::Internal, traces.below(request), times)
            .under(request.span)
            .with(keys::TENANT, submission.tenant.as_str().to_owned())
            .with(keys::CORRELATION, candidate.correlation_id.as_str().to_owned())
            .failed(Some("store_away"));
        traces.record(span);
    }
}

/// Records the publication of what was accepted together, from `began` until now.
pub(super) fn published(traces: &Traces, events: &[Fresh], began: Duration, confirmed: bool) {
    if !traces.on() {
        return;
    }
    let times = (began, traces.moment());
    for (trace, fresh) in events.iter().filter_map(|fresh| Some((fresh.trace?, fresh))) {
        let route = Route { partition: fresh.event.partition, traffic: fresh.traffic };
        let span = Span::new("publish", Kind::Producer, trace.context, times)
            .under(trace.accept)
            .with(keys::EVENT, fresh.event.id.to_string())
            .with(keys::TENANT, fresh.event.tenant.as_str().to_owned())
            .with(keys::MESSAGING_SYSTEM, traces.systems().messaging)
            .with(keys::MESSAGING_OPERATION, "send")
            .with(keys::MESSAGING_DESTINATION, format!("events.{route}"))
            .with(keys::BATCH, events.len())
            .failed((!confirmed).then_some("unconfirmed"));
        traces.record(span);
    }
}

/// Records what became of a message of the inbox that came at `since`.
pub(super) fn taken_in(traces: &Traces, root: &Root, since: Duration, taken: &Taken) {
    let error = match taken {
        Taken::Accepted(_) | Taken::Replayed(_) => None,
        Taken::Conflict(_) => Some("conflict"),
        Taken::Erased => Some("erased"),
    };
    let mut span = Span::new("inbox", Kind::Consumer, root.context, (since, traces.moment()))
        .after(root.parent)
        .with(keys::MESSAGING_SYSTEM, traces.systems().messaging)
        .with(keys::MESSAGING_OPERATION, "process")
        .with(keys::MESSAGING_DESTINATION, "inbox")
        .failed(error);
    if let Taken::Accepted(receipt) | Taken::Replayed(receipt) = taken {
        span = span
            .with(keys::EVENT, receipt.event_id.to_string())
            .with(keys::TENANT, receipt.tenant_id.as_str().to_owned())
            .with(keys::CORRELATION, receipt.correlation_id.as_str().to_owned());
    }
    traces.record(span);
}
