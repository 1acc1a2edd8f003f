//! Owns the order of the stages and the making of the decision out of their results. Never prices what a
//! scorer has used: it only says how much that was.

use chrono::{DateTime, Utc};
use std::time::Duration;

use super::baseline::{self, Policy};
use super::scorer::{self, Scorer};
use super::state::{Stage, State};
use crate::domain::cost::Usage;
use crate::domain::decision::{Evaluation, GuardrailResult, PolicyResult};
use crate::domain::time::whole_millis;
use crate::domain::{Decision, Event, Outcome, Snapshot, StageTiming, TrailEntry};

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What was decided.
    pub decision: Decision,
    /// Microseconds by stage.
    pub timings: StageTiming,
    /// What the scorer has used for it.
    pub usage: Usage,
}

/// Runs the workflow. `stopwatch` gives the time since any fixed moment; it is only asked how long
/// stages took, so it may stand still.
pub fn run(
    event: &Event,
    context: &Snapshot,
    policy: &Policy,
    now: DateTime<Utc>,
    stopwatch: &dyn Fn() -> Duration,
) -> Run {
    let mut timings = StageTiming::with_capacity(Stage::ALL.len());
    let mut state = State::default();
    let mut before = stopwatch();
    for stage in Stage::ALL {
        state = advance(state, stage, event, context, policy);
        let after = stopwatch();
        timings.push(u32::try_from(after.saturating_sub(before).as_micros()).unwrap_or(u32::MAX));
        before = after;
    }
    let usage = Usage { scored: state.score.is_some(), tokens: state.tokens };
    Run { decision: conclude(state, event, context, policy, now), timings, usage }
}

/// Runs the workflow again as it was: with the stored context and the stored time. The result's
/// canonical text equals the stored one, or something has changed.
pub fn replay(event: &Event, stored: &Decision, policy: &Policy) -> Decision {
    run(event, &stored.context, policy, stored.decided_at, &|| Duration::ZERO).decision
}

/// Runs one stage, unless the trail shows that it has run.
pub(super) fn advance(state: State, stage: Stage, event: &Event, context: &Snapshot, policy: &Policy) -> State {
    if state.has_run(stage) {
        return state;
    }
    let (mut next, result) = match stage {
        Stage::Retrieval => retrieve(state, context),
        Stage::PolicyValidation => validate(state, event),
        Stage::RiskScoring => score(state, event, context, policy),
        Stage::Guardrails => guard(state, event),
        Stage::Decision => decide(state, event),
        Stage::Evaluation => evaluate(state),
    };
    next.trail.push(TrailEntry {
        stage: stage.as_str().into(),
        action: stage.action().into(),
        result,
        model_version: policy.model_version.clone(),
        prompt_version: policy.prompt_version,
    });
    next
}

fn retrieve(state: State, context: &Snapshot) -> (State, String) {
    let result = match (&context.subject_24h, context.unavailable) {
        (_, true) => "context unavailable".into(),
        (None, false) => "no subject".into(),
        (Some(s), false) => format!("{} events of the subject in 24 h", s.count),
    };
    (state, result)
}

fn validate(mut state: State, event: &Event) -> (State, String) {
    let (policy, reasons) = baseline::validate(&event.body);
    state.policy = Some(policy);
    state.reasons.extend(reasons);
    (state, policy_text(policy).into())
}

fn score(mut state: State, event: &Event, context: &Snapshot, policy: &Policy) -> (State, String) {
    if context.budget_exhausted {
        // Not asked: it would cost. Without a score the stages behind let a person decide.
        state.reasons.push(scorer::budget_exhausted(&policy.model_version));
        return (state, "budget exhausted".into());
    }
    let score = match &policy.scorer {
        Scorer::Baseline => baseline::score(&event.body),
        Scorer::Scorecard(card) => {
            let (score, reasons) = card.score(&event.body, context, &policy.model_version);
            state.reasons.extend(reasons);
            score
        }
        // No score: the stages behind take it for the worst, and a person decides.
        Scorer::Unavailable => {
            state.reasons.push(scorer::unavailable(&policy.model_version));
            return (state, "model unavailable".into());
        }
    };
    state.score = Some(score);
    (state, format!("{score}"))
}

fn guard(mut state: State, event: &Event) -> (State, String) {
    let touched = baseline::guard(&event.body, state.score.unwrap_or(0.0));
    let result = if touched.is_empty() { GuardrailResult::Ok } else { GuardrailResult::Violation };
    state.guardrail = Some(result);
    state.reasons.extend(touched);
    (state, guardrail_text(result).into())
}

fn decide(mut state: State, event: &Event) -> (State, String) {
    let policy = state.policy.unwrap_or(PolicyResult::Fail);
    let guarded = state.guardrail != Some(GuardrailResult::Ok);
    let (outcome, reasons) = baseline::decide(&event.body, policy, state.score.unwrap_or(100.0), guarded);
    state.outcome = Some(outcome);
    state.reasons.extend(reasons);
    (state, outcome.as_str().into())
}

fn evaluate(mut state: State) -> (State, String) {
    let evaluation = rate(state.policy, state.guardrail, state.score.unwrap_or(100.0));
    state.evaluation = Some(evaluation);
    (state, format!("quality {}", evaluation.overall_quality_score))
}

/// Rates a decision; every figure is rounded to 4 decimals at the end only.
fn rate(policy: Option<PolicyResult>, guardrail: Option<GuardrailResult>, score: f64) -> Evaluation {
    let alignment = f64::from(u8::from(policy == Some(PolicyResult::Pass)));
    let guarded = f64::from(u8::from(guardrail == Some(GuardrailResult::Ok)));
    let confidence = (alignment + guarded + 1.0 - score / 100.0) / 3.0;
    let quality = (confidence + alignment + guarded) / 3.0;
    Evaluation {
        confidence_score: four_decimals(confidence),
        policy_alignment_score: alignment,
        guardrail_score: guarded,
        overall_quality_score: four_decimals(quality),
    }
}

fn four_decimals(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn policy_text(policy: PolicyResult) -> &'static str {
    match policy {
        PolicyResult::Pass => "PASS",
        PolicyResult::Fail => "FAIL",
    }
}

fn guardrail_text(result: GuardrailResult) -> &'static str {
    match result {
        GuardrailResult::Ok => "OK",
        GuardrailResult::Violation => "VIOLATION",
    }
}

/// A stage that did not speak counts against the event: the fallbacks escalate.
fn conclude(state: State, event: &Event, context: &Snapshot, policy: &Policy, now: DateTime<Utc>) -> Decision {
    let outcome = state.outcome.unwrap_or(Outcome::RequireApproval);
    let score = state.score.unwrap_or(100.0);
    Decision {
        event_id: event.id,
        tenant_id: event.body.tenant_id.clone(),
        kind: event.body.kind,
        outcome,
        risk_score: score,
        policy_result: state.policy.unwrap_or(PolicyResult::Fail),
        guardrail_result: state.guardrail.unwrap_or(GuardrailResult::Violation),
        evaluation: state.evaluation.unwrap_or_else(|| rate(state.policy, state.guardrail, score)),
        reasons: state.reasons,
        policy: policy.reference.clone(),
        model_version: policy.model_version.clone(),
        prompt_version: policy.prompt_version,
        approval_required: outcome == Outcome::RequireApproval,
        regulatory_flags: event.body.regulatory_flags.clone(),
        context: context.clone(),
        correlation_id: event.correlation_id.clone(),
        decided_at: whole_millis(now),
        trail: state.trail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CorrelationId, EventId, parse};

    fn event(text: &str) -> Event {
        let body = parse::event(text.as_bytes(), parse::Given::default()).expect("valid").body;
        let id = EventId::mint(1_700_000_000_000, [7; 10]);
        Event { id, correlation_id: CorrelationId::parse("c").expect("legal"), body }
    }

    fn decide(text: &str) -> Decision {
        let now = crate::domain::time::from_millis(1_700_000_000_123);
        run(&event(text), &Snapshot::default(), &Policy::baseline(), now, &|| Duration::ZERO).decision
    }

    #[test]
    fn a_plain_event_is_approved_as_the_contract_shows() {
        let d = decide(r#"{"kind":"risk","version":"1","tenant_id":"a"}"#);
        assert_eq!((d.outcome, d.risk_score, d.approval_required), (Outcome::Approved, 30.0, false));
        assert_eq!((d.evaluation.confidence_score, d.evaluation.overall_quality_score), (0.9, 0.9667));
        let actions: Vec<&str> = d.trail.iter().map(|t| t.action.as_str()).collect();
        assert_eq!(
            actions,
            [
                "context_retrieved",
                "policy_validated",
                "risk_scored",
                "guardrails_applied",
                "decision_made",
                "evaluation_completed"
            ]
        );
    }

    #[test]
    fn each_rule_escalates_with_its_reason() {
        let cases = [
            (r#"{"kind":"risk","version":"1","tenant_id":"a","event_type":"high_risk"}"#, "SCORE_THRESHOLD"),
            (
                r#"{"kind":"risk","version":"1","tenant_id":"a","metadata":{"category":"sensitive"}}"#,
                "SENSITIVE_CATEGORY",
            ),
            (r#"{"kind":"risk","version":"1","tenant_id":"a","metadata":{"policy_override":1}}"#, "POLICY_OVERRIDE"),
            (r#"{"kind":"risk","version":"1","tenant_id":"a","metadata":{"blocked_pattern":"x"}}"#, "BLOCKED_PATTERN"),
            (r#"{"kind":"compliance","version":"1","tenant_id":"a","regulatory_flags":["AML"]}"#, "REGULATORY_FLAG"),
        ];
        for (text, code) in cases {
            let d = decide(text);
            assert_eq!(d.outcome, Outcome::RequireApproval, "{text}");
            assert_eq!(d.reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), [code], "{text}");
        }
    }

    #[test]
    fn replay_gives_the_same_bytes_and_a_run_can_be_taken_up_at_any_stage() {
        let e = event(r#"{"kind":"risk","version":"1","tenant_id":"a","metadata":{"category":"sensitive","n":1.1}}"#);
        let (policy, context) = (Policy::baseline(), Snapshot::unavailable());
        let now = crate::domain::time::from_millis(1_700_000_000_123);
        let Run { decision: whole, timings, .. } = run(&e, &context, &policy, now, &|| Duration::ZERO);
        assert_eq!(timings.len(), whole.trail.len());
        let read = Decision::from_canonical(&whole.canonical()).expect("reads back");
        assert_eq!(replay(&e, &read, &policy).canonical(), whole.canonical());
        for stop in 0..=Stage::ALL.len() {
            let mut half = State::default();
            for stage in &Stage::ALL[..stop] {
                half = advance(half, *stage, &e, &context, &policy);
            }
            let text = serde_json::to_string(&half).expect("a state can be stored");
            let mut rest: State = serde_json::from_str(&text).expect("and read");
            for stage in Stage::ALL {
                rest = advance(rest, stage, &e, &context, &policy);
            }
            assert_eq!(conclude(rest, &e, &context, &policy, now), whole);
        }
    }

    #[test]
    fn a_used_up_budget_asks_no_scorer_escalates_and_replays() {
        let e = event(r#"{"kind":"risk","version":"1","tenant_id":"a","event_type":"low_risk"}"#);
        let policy = Policy::baseline();
        let now = crate::domain::time::from_millis(1_700_000_000_123);
        let context = Snapshot { budget_exhausted: true, ..Snapshot::default() };
        let stopped = run(&e, &context, &policy, now, &|| Duration::ZERO);
        assert_eq!((stopped.decision.outcome, stopped.usage), (Outcome::RequireApproval, Usage::default()));
        assert_eq!(stopped.decision.reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), ["BUDGET_EXHAUSTED"]);
        assert_eq!(stopped.decision.trail[2].result, "budget exhausted");
        let text = stopped.decision.canonical();
        let read = Decision::from_canonical(&text).expect("reads back");
        assert_eq!(replay(&e, &read, &policy).canonical(), text);
        let free = run(&e, &Snapshot::default(), &policy, now, &|| Duration::ZERO);
        assert_eq!((free.decision.outcome, free.usage), (Outcome::Approved, Usage { scored: true, tokens: 0 }));
        assert!(!String::from_utf8(free.decision.canonical()).expect("text").contains("budget"), "old texts stay");
    }
}
