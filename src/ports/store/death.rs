//! Owns how a dead letter is shown: what it died of, what people did with it, where it stands.

use serde_json::{Value, json};

use super::{Disposition, EventRecord, PastAct, PastDeath};
use crate::domain::{FailureClass, Status, time};

impl PastAct {
    /// `replayed` or `discarded`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

impl EventRecord {
    /// The event as a dead letter: `state` (`dead`, `discarded`, or its status once it was replayed),
    /// what it last died of, and `history`, the deaths that somebody has dealt with, oldest first.
    /// None for an event that has never died.
    pub fn dead_view(&self) -> Option<Value> {
        let last = self.past.last();
        let (class, error, attempts, at, state) = match self.end.as_ref().map(|end| (&end.disposition, end.at)) {
            Some((Disposition::Dead { class, error, attempts }, at)) => {
                let discarded = last.is_some_and(|past| past.act == PastAct::Discarded);
                (*class, error, *attempts, at, if discarded { "discarded" } else { "dead" })
            }
            Some((Disposition::Decided { .. }, _)) | None => {
                let past = last?;
                (past.class, &past.error, past.attempts, past.died_at, Status::as_str(self.status()))
            }
        };
        let mut shown = death(class, error, attempts);
        shown["at"] = time::text(at).into();
        shown["state"] = state.into();
        shown["history"] = self.past.iter().map(past_death).collect();
        Some(shown)
    }
}

fn past_death(past: &PastDeath) -> Value {
    let mut shown = death(past.class, &past.error, past.attempts);
    shown["at"] = time::text(past.died_at).into();
    shown["act"] = past.act.as_str().into();
    shown["acted_at"] = time::text(past.acted_at).into();
    shown["by"] = past.by.as_str().into();
    shown["reason"] = json!(past.reason);
    shown
}

fn death(class: FailureClass, error: &str, attempts: u32) -> Value {
    json!({ "category": class, "error": error, "attempts": attempts })
}
