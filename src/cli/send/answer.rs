//! Owns what the API answered, line by line, and the sum of it.

use serde::Serialize;
use serde_json::{Value, json};

/// How many answers are kept; all are counted.
const ITEMS_MAX: usize = 10_000;

/// How many wrong fields of one line are shown in its row.
const FIELDS_SHOWN: usize = 5;

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Answer {
    /// Its line, or its place in the array, from 1.
    pub(super) line: u64,
    /// `accepted`, `replayed` or `refused`.
    pub(super) result: &'static str,
    /// Its id, unless it was refused.
    pub(super) event_id: Option<String>,
    /// Where it stands.
    pub(super) status: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// Which fields are wrong: `{pointer, detail}` each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<Value>,
}

impl Answer {
    /// Reads an item of the API's answer: an accepted event, or a problem (RFC 9457).
    pub(super) fn read(line: u64, item: &Value) -> Self {
        let text = |name: &str| item[name].as_str().map(str::to_owned);
        match text("event_id").filter(|_| item.get("type").is_none()) {
            Some(id) => {
                let replayed = item["replayed"] == true || item["idempotency_replayed"] == true;
                let result = if replayed { "replayed" } else { "accepted" };
                Self { line, result, event_id: Some(id), status: text("status"), detail: None, errors: Vec::new() }
            }
            None => {
                let detail = text("detail").or_else(|| text("title")).unwrap_or_else(|| "no reason was given".into());
                let errors = item["errors"].as_array().cloned().unwrap_or_default();
                Self { errors, ..Self::refused(line, detail) }
            }
        }
    }

    /// A line that was not even sent.
    pub(super) fn refused(line: u64, detail: impl Into<String>) -> Self {
        Self { line, result: "refused", event_id: None, status: None, detail: Some(detail.into()), errors: Vec::new() }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.result == "refused"
    }

    /// The wrong fields with their pointers, else the reason, else where the event stands.
    pub(super) fn why(&self) -> String {
        if self.errors.is_empty() {
            return self.detail.clone().or_else(|| self.status.clone()).unwrap_or_default();
        }
        let field = |e: &Value| format!("{}: {}", shown(&e["pointer"]), shown(&e["detail"]));
        let mut fields: Vec<String> = self.errors.iter().take(FIELDS_SHOWN).map(field).collect();
        if self.errors.len() > FIELDS_SHOWN {
            fields.push(format!("and {} more", self.errors.len() - FIELDS_SHOWN));
        }
        fields.join("; ")
    }
}

fn shown(value: &Value) -> &str {
    match value.as_str() {
        Some("") | None => "/",
        Some(text) => text,
    }
}

/// The sum of the answers, and the first of them; refused ones are kept before others.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) replayed: u64,
    pub(super) refused: u64,
    pub(super) items: Vec<Answer>,
    refused_kept: usize,
}

impl Tally {
    pub(super) fn add(&mut self, answer: Answer) {
        self.sent += 1;
        let refused = answer.is_refused();
        match answer.result {
            "accepted" => self.accepted += 1,
            "replayed" => self.replayed += 1,
            _ => self.refused += 1,
        }
        let taken = self.items.len() - self.refused_kept;
        let room = if refused { self.refused_kept < ITEMS_MAX } else { taken < ITEMS_MAX };
        if room {
            self.refused_kept += usize::from(refused);
            self.items.push(answer);
        }
    }

    /// `{sent,accepted,replayed,refused,items,items_left_out}`, and `error` where it broke off.
    pub(super) fn document(&self, broke_off: Option<&str>) -> Value {
        let mut shown = json!({
            "sent": self.sent, "accepted": self.accepted, "replayed": self.replayed, "refused": self.refused,
            "items": self.items, "items_left_out": self.sent - self.items.len() as u64,
        });
        if let Some(error) = broke_off {
            shown["error"] = format!("failed to {error}").into();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_as_events_or_as_problems() {
        let fresh = Answer::read(1, &json!({ "event_id": "e", "status": "received" }));
        assert_eq!((fresh.result, fresh.why().as_str()), ("accepted", "received"));
        assert_eq!(Answer::read(1, &json!({ "event_id": "e", "replayed": true })).result, "replayed");
        let errors =
            json!([{ "pointer": "/amount", "detail": "must be an integer" }, { "pointer": "", "detail": "x" }]);
        let wrong = Answer::read(7, &json!({ "type": "t", "title": "Invalid", "status": 422, "errors": errors }));
        assert_eq!((wrong.result, wrong.why().as_str()), ("refused", "/amount: must be an integer; /: x"));
        let conflict = Answer::read(1, &json!({ "type": "t", "detail": "other payload", "event_id": "e" }));
        assert_eq!((conflict.result, conflict.why().as_str()), ("refused", "other payload"));
    }

    #[test]
    fn all_are_counted_and_a_bounded_number_kept_refused_ones_among_them() {
        let mut tally = Tally::default();
        let taken = Answer::read(1, &json!({ "event_id": "e" }));
        (0..ITEMS_MAX + 5).for_each(|_| tally.add(taken.clone()));
        tally.add(Answer::refused(9, "late"));
        assert_eq!((tally.sent, tally.refused, tally.items.len()), (ITEMS_MAX as u64 + 6, 1, ITEMS_MAX + 1));
        assert_eq!(tally.document(None)["items_left_out"], 5);
    }
}
