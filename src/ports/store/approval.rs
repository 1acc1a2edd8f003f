//! Owns an approval request as it is read back and as it is shown. Never decides who may do what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::EventRecord;
use crate::domain::approval::{ApprovalRules, Claim, Level, PastStep, Step};
use crate::domain::{EventId, Outcome, TenantId, time};

/// An approval request, and the person's verdict once there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// When the decision opened it.
    pub opened_at: DateTime<Utc>,
    /// Who may decide it.
    #[serde(default)]
    pub level: Level,
    /// The last claim that was not given back; may have ended.
    #[serde(default)]
    pub claim: Option<Claim>,
    /// The verdict, by the first person who gave one.
    pub verdict: Option<Outcome>,
    /// When it was given.
    pub decided_at: Option<DateTime<Utc>>,
    /// By whom.
    pub decided_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What people did with it before and after, oldest first; empty in lists.
    #[serde(default)]
    pub history: Vec<PastStep>,
}

impl Approval {
    /// A request that nobody has touched.
    pub fn opened(opened_at: DateTime<Utc>) -> Self {
        Self {
            opened_at,
            level: Level::First,
            claim: None,
            verdict: None,
            decided_at: None,
            decided_by: None,
            reason: None,
            history: Vec::new(),
        }
    }
}

impl Approval {
    /// The JSON that is shown, of a list and of one request alike: `state` is `open`, `claimed` or
    /// `decided`; when it is due is counted from its opening by `rules`.
    pub fn view(&self, of: (EventId, &TenantId), rules: &ApprovalRules, now: DateTime<Utc>) -> Value {
        let due_at = rules.due_at(self.opened_at);
        let claim = self.claim.as_ref().filter(|claim| self.verdict.is_none() && claim.is_live(now));
        let state = match (self.verdict, claim) {
            (Some(_), _) => "decided",
            (None, Some(_)) => "claimed",
            (None, None) => "open",
        };
        let late = self.level == Level::Second || due_at.is_some_and(|due| due <= now);
        json!({
            "event_id": of.0,
            "tenant_id": of.1,
            "state": state,
            "level": self.level,
            "opened_at": time::text(self.opened_at),
            "due_at": due_at.map(time::text),
            "overdue": self.verdict.is_none() && late,
            "claimed_by": claim.map(|claim| &claim.by),
            "claimed_until": claim.map(|claim| time::text(claim.until)),
            "verdict": self.verdict,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at.map(time::text),
            "reason": self.reason,
        })
    }

    /// Everything that happened to it, oldest first: `at`, `act`, `by` and what belongs to the act.
    /// What was said in comments is left out.
    pub fn history_view(&self) -> Vec<Value> {
        let act = |at, act: &str, by: Option<&str>| json!({"at": time::text(at), "act": act, "by": by});
        let mut shown = vec![act(self.opened_at, "opened", None)];
        let mut given = self.verdict_view();
        for past in &self.history {
            // A comment can come behind the verdict.
            if self.decided_at.is_some_and(|decided_at| decided_at < past.at) {
                shown.extend(given.take());
            }
            let mut view = act(past.at, past.step.as_str(), Some(&past.by));
            if let Step::Claimed { until } = past.step {
                view["until"] = time::text(until).into();
            }
            shown.push(view);
        }
        shown.extend(given);
        shown
    }

    fn verdict_view(&self) -> Option<Value> {
        let (verdict, at) = (self.verdict?, self.decided_at?);
        Some(json!({"at": time::text(at), "act": "decided", "by": self.decided_by, "verdict": verdict,
            "reason": self.reason}))
    }

    /// The comments, oldest first.
    pub fn comments_view(&self) -> Vec<Value> {
        let comment = |past: &PastStep| match &past.step {
            Step::Commented { text } => Some(json!({"at": time::text(past.at), "by": past.by, "text": text})),
            Step::Claimed { .. } | Step::Released | Step::Escalated => None,
        };
        self.history.iter().filter_map(comment).collect()
    }
}

impl EventRecord {
    /// The event's approval request with everything about it but the event: `approval`, `decision`,
    /// `comments`, `history`. None for an event that the workflow has not escalated.
    ///
    /// # Errors
    /// When the stored decision is unreadable.
    pub fn approval_view(&self, rules: &ApprovalRules, now: DateTime<Utc>) -> Result<Option<Value>, serde_json::Error> {
        let Some(approval) = &self.approval else { return Ok(None) };
        Ok(Some(json!({
            "approval": approval.view((self.event.id, &self.event.tenant), rules, now),
            "decision": self.decision_view()?,
            "comments": approval.comments_view(),
            "history": approval.history_view(),
        })))
    }
}
