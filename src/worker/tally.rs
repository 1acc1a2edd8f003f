//! Owns the counting of what came of a worker's events, for metrics and for its own load. Never
//! decides anything.

use metrics::{counter, histogram};

use super::Shared;
use super::desk::Texts;
use super::meters::Spending;
use crate::domain::Outcome;
use crate::domain::time::to_millis;
use crate::pipeline::state::Stage;
use crate::ports::store::{CommitBatch, Committed, Disposition, NewDisposition, NewRetry};
use crate::telemetry::{Happened, names, tenants};

/// Counts a batch that the store has answered.
pub(super) fn committed(shared: &Shared, (batch, verdicts): (&CommitBatch, &[Committed]), texts: &Texts) {
    let mut written = Vec::with_capacity(batch.items.len());
    for (item, verdict) in batch.items.iter().zip(verdicts) {
        match verdict {
            Committed::Written => written.push(item),
            Committed::Duplicate => counter!(names::EVENTS_DUPLICATE).increment(1),
            Committed::Fenced => counter!(names::EVENTS_FENCED).increment(1),
        }
    }
    // At most as many as a batch holds: the conversion is exact.
    histogram!(names::COMMIT_BATCH_EVENTS).record(written.len() as f64);
    tenants().count_all(written.iter().map(|item| (&item.tenant, happened(&item.disposition))));
    decisions(shared, &written, texts);
}

fn happened(disposition: &Disposition) -> Happened {
    match disposition {
        Disposition::Decided { .. } => Happened::Decided,
        Disposition::Dead { .. } => Happened::Failed,
    }
}

fn decisions(shared: &Shared, written: &[&NewDisposition], texts: &Texts) {
    let clock = &shared.parts.clock;
    let (now, elapsed) = (to_millis(clock.now()), clock.elapsed());
    let (mut decided, mut dead, mut spending) = (Vec::with_capacity(written.len()), 0, Spending::default());
    for item in written {
        let millis = now.saturating_sub(item.event.millis());
        histogram!(names::ACCEPT_TO_DECISION_SECONDS).record(millis as f64 / 1_000.0);
        spending.add(item);
        if let Some(told) = texts.get(&item.event) {
            shared.meters.rated(&told.evaluation);
        }
        match &item.disposition {
            Disposition::Decided { outcome, timings, .. } => {
                one(*outcome, timings);
                decided.push((millis, timings.as_slice()));
            }
            Disposition::Dead { class, .. } => {
                dead += 1;
                counter!(names::EVENTS_FAILED, "class" => class.as_str()).increment(1);
            }
        }
    }
    spending.count();
    shared.load.decided(elapsed, decided.into_iter());
    shared.load.failed(elapsed, dead);
}

fn one(outcome: Outcome, timings: &[u32]) {
    counter!(names::EVENTS_DECIDED, "outcome" => outcome.as_str()).increment(1);
    if outcome == Outcome::RequireApproval {
        counter!(names::APPROVALS_OPENED).increment(1);
    }
    for (stage, micros) in Stage::ALL.iter().zip(timings) {
        histogram!(names::STAGE_SECONDS, "stage" => stage.as_str()).record(f64::from(*micros) / 1e6);
    }
}

/// Counts events that were put off.
pub(super) fn postponed(shared: &Shared, retries: &[&NewRetry]) {
    for retry in retries {
        counter!(names::EVENTS_RETRIED, "class" => retry.class.as_str()).increment(1);
    }
    shared.load.failed(shared.parts.clock.elapsed(), retries.len() as u64);
}
