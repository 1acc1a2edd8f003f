//! Owns what is counted of decisions that were written: how good they are held to be, and what they cost.
//! Never counts what was a duplicate or fenced.

use metrics::{Histogram, counter, histogram};
use std::collections::BTreeMap;

use crate::domain::Evaluation;
use crate::domain::cost::Charge;
use crate::pipeline::scorer::BUDGET_EXHAUSTED;
use crate::ports::store::NewDisposition;
use crate::telemetry::{models, names};

/// The histograms of a worker, looked up once: four samples a decision are on the hot path.
pub(super) struct Meters {
    confidence: Histogram,
    alignment: Histogram,
    guardrail: Histogram,
    quality: Histogram,
}

impl Meters {
    /// Those of the recorder that is installed.
    pub(super) fn new() -> Self {
        let of = |score: &'static str| histogram!(names::EVALUATION_SCORE, "score" => score);
        Self {
            confidence: of(names::score::CONFIDENCE),
            alignment: of(names::score::POLICY_ALIGNMENT),
            guardrail: of(names::score::GUARDRAIL),
            quality: of(names::score::OVERALL_QUALITY),
        }
    }

    /// Counts how good a decision is held to be.
    pub(super) fn rated(&self, evaluation: &Evaluation) {
        self.confidence.record(evaluation.confidence_score);
        self.alignment.record(evaluation.policy_alignment_score);
        self.guardrail.record(evaluation.guardrail_score);
        self.quality.record(evaluation.overall_quality_score);
    }
}

/// The costs of a batch by model.
#[derive(Default)]
pub(super) struct Spending<'a> {
    of_models: BTreeMap<&'a str, (u64, u64, u64)>,
    stopped: u64,
}

impl<'a> Spending<'a> {
    /// Adds what was written, if it is a decision.
    pub(super) fn add(&mut self, item: &'a NewDisposition) {
        let Some((model, Charge { tokens, cost })) = item.charge() else { return };
        let (decisions, all_tokens, micros) = self.of_models.entry(model).or_default();
        *decisions += 1;
        *all_tokens += u64::from(tokens);
        *micros += cost.get().unsigned_abs();
        self.stopped += u64::from(item.audit.reason_codes.iter().any(|code| code == BUDGET_EXHAUSTED));
    }

    /// Counts all of it.
    pub(super) fn count(self) {
        for (model, (decisions, tokens, micros)) in self.of_models {
            let label = models::label(model);
            counter!(names::MODEL_DECISIONS, "model" => label.clone()).increment(decisions);
            counter!(names::TOKENS, "model" => label.clone()).increment(tokens);
            counter!(names::COST_MICROS, "model" => label).increment(micros);
        }
        counter!(names::BUDGET_ESCALATIONS).increment(self.stopped);
    }
}
