//! The scorecard: points by value or range of a field, added up in the order of the document.
//!
//! Owns what a scorecard says of an event. Never shows a raw text of an event in a reason: what the
//! scorecard's author wrote (a bin's bounds, a value of the table) is shown instead. Reading one is
//! in `parse`.
//!
//! `score = clamp(base + Σ points, min, max)`, summed in 64-bit floats (IEEE 754) from the first
//! characteristic to the last, so that the same document and event give the same bits everywhere.

mod parse;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::domain::{EventBody, Reason, Snapshot};

/// The most characteristics of one scorecard.
pub const CHARACTERISTICS_MAX: usize = 200;

/// The most bins and values of one scorecard, over all characteristics.
pub const ENTRIES_MAX: usize = 1_000;

/// A scorecard that was read and found whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorecard {
    base: f64,
    min: f64,
    max: f64,
    characteristics: Vec<Characteristic>,
}

/// One field with its points.
#[derive(Debug, Clone, PartialEq)]
struct Characteristic {
    /// As the document writes it.
    name: String,
    field: Field,
    table: Table,
    /// Points where the event has nothing there.
    missing: f64,
    /// Points where it has something that no bin and no value names.
    other: f64,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Number(NumberField),
    Text(TextField),
    /// A path into the metadata, object by object.
    Metadata(Vec<String>),
}

/// Fields that are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberField {
    Amount,
    RiskScore,
    RegulatoryFlags,
    Count24h,
    Amount24h,
}

/// Fields that are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextField {
    Kind,
    EventType,
    Version,
    Currency,
    Category,
    RegulationRef,
    ComplianceType,
}

#[derive(Debug, Clone, PartialEq)]
enum Table {
    /// Half-open ranges that do not overlap.
    Bins(Vec<Bin>),
    Values(BTreeMap<String, f64>),
}

/// `from <= x < to`; an end that is left out is open.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bin {
    from: Option<f64>,
    to: Option<f64>,
    points: f64,
}

/// What a field holds.
enum Held<'a> {
    Nothing,
    Number(f64),
    Text(Cow<'a, str>),
    /// Something that is neither.
    Foreign,
}

impl Bin {
    fn holds(&self, x: f64) -> bool {
        self.from.is_none_or(|from| from <= x) && self.to.is_none_or(|to| x < to)
    }
}

impl Scorecard {
    /// The score, 0–100, with a reason for each characteristic that gave points. `model` is the
    /// `name@version` that stands in the reasons.
    pub fn score(&self, event: &EventBody, context: &Snapshot, model: &str) -> (f64, Vec<Reason>) {
        let (mut total, mut reasons) = (self.base, Vec::new());
        for characteristic in &self.characteristics {
            let (points, matched) = characteristic.points(event, context);
            total += points;
            if points > 0.0 {
                reasons.push(characteristic.reason(model, points, matched));
            }
        }
        // Adding zero makes a negative zero a plain one: it would be written otherwise.
        (total.clamp(self.min, self.max) + 0.0, reasons)
    }
}

impl Characteristic {
    /// The points, and what gave them, as a reason shows it.
    fn points(&self, event: &EventBody, context: &Snapshot) -> (f64, Map<String, Value>) {
        let shown = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
        let held = self.field.read(event, context);
        match (&self.table, held) {
            (_, Held::Nothing) => return (self.missing, shown("matched", "missing".into())),
            (Table::Bins(bins), Held::Number(x)) => {
                if let Some(bin) = bins.iter().find(|bin| bin.holds(x)) {
                    return (bin.points, shown("bin", json!({ "from": bin.from, "to": bin.to })));
                }
            }
            (Table::Values(values), Held::Text(text)) => {
                if let Some((value, points)) = values.get_key_value(&*text) {
                    return (*points, shown("value", value.as_str().into()));
                }
            }
            (Table::Bins(_), Held::Text(_) | Held::Foreign) | (Table::Values(_), Held::Number(_) | Held::Foreign) => {}
        }
        (self.other, shown("matched", "other".into()))
    }

    fn reason(&self, model: &str, points: f64, mut values: Map<String, Value>) -> Reason {
        values.insert("points".into(), points.into());
        Reason {
            code: "SCORECARD".into(),
            message: "the scorecard gives points for this characteristic".into(),
            rule: format!("{model}/{}", self.name),
            values,
        }
    }
}

impl Field {
    fn read<'a>(&self, event: &'a EventBody, context: &Snapshot) -> Held<'a> {
        match self {
            Self::Number(field) => field.read(event, context).map_or(Held::Nothing, Held::Number),
            Self::Text(field) => field.read(event).map_or(Held::Nothing, |text| Held::Text(text.into())),
            Self::Metadata(path) => metadata(&event.metadata, path),
        }
    }
}

impl NumberField {
    /// Whole numbers beyond 2⁵³ are rounded to the nearest float, the same one everywhere.
    fn read(self, event: &EventBody, context: &Snapshot) -> Option<f64> {
        match self {
            Self::Amount => event.amount.map(|amount| amount as f64),
            Self::RiskScore => event.risk_score,
            Self::RegulatoryFlags => Some(event.regulatory_flags.len() as f64),
            Self::Count24h => context.subject_24h.map(|s| s.count as f64),
            Self::Amount24h => context.subject_24h.map(|s| s.amount_sum as f64),
        }
    }
}

impl TextField {
    fn read(self, event: &EventBody) -> Option<&str> {
        match self {
            Self::Kind => Some(event.kind.as_str()),
            Self::EventType => Some(&event.event_type),
            Self::Version => Some(&event.version),
            Self::Currency => event.currency.as_deref(),
            Self::Category => event.category.as_deref(),
            Self::RegulationRef => event.regulation_ref.as_deref(),
            Self::ComplianceType => event.compliance_type.as_deref(),
        }
    }
}

fn metadata<'a>(metadata: &'a Map<String, Value>, path: &[String]) -> Held<'a> {
    let Some((first, rest)) = path.split_first() else { return Held::Nothing };
    let found = metadata.get(first).and_then(|value| rest.iter().try_fold(value, |value, name| value.get(name)));
    match found {
        None | Some(Value::Null) => Held::Nothing,
        Some(Value::String(text)) => Held::Text(text.as_str().into()),
        Some(Value::Bool(set)) => Held::Text(if *set { "true" } else { "false" }.into()),
        Some(Value::Number(n)) => n.as_f64().map_or(Held::Foreign, Held::Number),
        Some(Value::Array(_) | Value::Object(_)) => Held::Foreign,
    }
}
