//! Owns the state of one run: what each finished stage found, with its trail entry.
//!
//! Immutable in use: a stage takes a state and gives the next. It can be stored and taken up
//! again; a stage that stands in the trail is not run twice.

use serde::{Deserialize, Serialize};

use crate::domain::decision::{GuardrailResult, PolicyResult};
use crate::domain::{Evaluation, Outcome, Reason, TrailEntry};

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The context snapshot was taken.
    Retrieval,
    /// The policy was held against the event.
    PolicyValidation,
    /// The score was given.
    RiskScoring,
    /// The guardrails were held against event and score.
    Guardrails,
    /// The outcome was found.
    Decision,
    /// The decision was rated.
    Evaluation,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Retrieval,
        Self::PolicyValidation,
        Self::RiskScoring,
        Self::Guardrails,
        Self::Decision,
        Self::Evaluation,
    ];

    /// Its name in the trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retrieval => "retrieval",
            Self::PolicyValidation => "policy_validation",
            Self::RiskScoring => "risk_scoring",
            Self::Guardrails => "guardrails",
            Self::Decision => "decision",
            Self::Evaluation => "evaluation",
        }
    }

    /// What it did, in the trail.
    pub fn action(self) -> &'static str {
        match self {
            Self::Retrieval => "context_retrieved",
            Self::PolicyValidation => "policy_validated",
            Self::RiskScoring => "risk_scored",
            Self::Guardrails => "guardrails_applied",
            Self::Decision => "decision_made",
            Self::Evaluation => "evaluation_completed",
        }
    }
}

/// What the stages have found so far. The default is a run that has not begun.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// By policy validation.
    pub policy: Option<PolicyResult>,
    /// By risk scoring.
    pub score: Option<f64>,
    /// By the guardrails.
    pub guardrail: Option<GuardrailResult>,
    /// By the decision.
    pub outcome: Option<Outcome>,
    /// By the evaluation.
    pub evaluation: Option<Evaluation>,
    /// Tokens of language models, by every stage together.
    #[serde(default)]
    pub tokens: u32,
    /// By every stage, in order.
    pub reasons: Vec<Reason>,
    /// The finished stages.
    pub trail: Vec<TrailEntry>,
}

impl State {
    /// Whether a stage stands in the trail.
    pub fn has_run(&self, stage: Stage) -> bool {
        self.trail.iter().any(|entry| entry.stage == stage.as_str())
    }
}
