//! Owns the reading of scorecards: the only way from foreign text to a [`Scorecard`]. Names every
//! wrong place by JSON pointer. Never repairs or guesses.
//!
//! # Decisions
//! A field that stands twice in an object is refused: who reviews the text would read the one, and
//! the machine the other.

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Bin, CHARACTERISTICS_MAX, Characteristic, ENTRIES_MAX, Field, NumberField, Scorecard, Table, TextField};
use crate::domain::invalid::pointer_segment;
use crate::domain::parse::check_depth;
use crate::domain::version::CONTENT_MAX;
use crate::domain::{Invalid, Violation};

/// The largest amount of points, either way.
const POINTS_MAX: f64 = 1e6;

/// The deepest path into the metadata.
const PATH_MAX: usize = 8;

/// The longest name of a field or value, in bytes.
const NAME_MAX: usize = 256;

/// How many wrong places are named.
const VIOLATIONS_MAX: usize = 100;

const NUMBERS: [(&str, NumberField); 5] = [
    ("amount", NumberField::Amount),
    ("risk_score", NumberField::RiskScore),
    ("regulatory_flags", NumberField::RegulatoryFlags),
    ("context.count_24h", NumberField::Count24h),
    ("context.amount_24h", NumberField::Amount24h),
];

const TEXTS: [(&str, TextField); 7] = [
    ("kind", TextField::Kind),
    ("event_type", TextField::EventType),
    ("version", TextField::Version),
    ("currency", TextField::Currency),
    ("category", TextField::Category),
    ("regulation_ref", TextField::RegulationRef),
    ("compliance_type", TextField::ComplianceType),
];

impl Scorecard {
    /// Reads a scorecard from its JSON text, of at most [`CONTENT_MAX`] bytes.
    ///
    /// # Errors
    /// [`Invalid::Broken`] for what is no JSON, [`Invalid::Fields`] with every wrong place (up to a
    /// hundred) for what is no scorecard.
    pub fn parse(content: &[u8]) -> Result<Self, Invalid> {
        if content.len() > CONTENT_MAX {
            return Err(wrong("", format!("must have at most {CONTENT_MAX} bytes, not {}", content.len())));
        }
        check_depth(content)?;
        let Strict(document) = serde_json::from_slice(content).map_err(|e| Invalid::Broken(e.to_string()))?;
        let Value::Object(mut document) = document else { return Err(wrong("", "must be an object")) };
        let mut reader = Reader::default();
        let scorecard = reader.scorecard(&mut document);
        reader.wrong.truncate(VIOLATIONS_MAX);
        if reader.wrong.is_empty() { Ok(scorecard) } else { Err(Invalid::Fields(reader.wrong)) }
    }
}

fn wrong(pointer: &str, detail: impl Into<String>) -> Invalid {
    Invalid::Fields(vec![Violation::at(pointer, detail)])
}

/// Collects what is wrong; what it gives where something is, is thrown away with it.
#[derive(Default)]
struct Reader {
    wrong: Vec<Violation>,
    entries: usize,
    seen: BTreeSet<String>,
}

impl Reader {
    fn refuse(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.wrong.push(Violation::at(pointer, detail));
    }

    fn scorecard(&mut self, document: &mut Map<String, Value>) -> Scorecard {
        if document.remove("kind") != Some("scorecard".into()) {
            self.refuse("/kind", "must be \"scorecard\"");
        }
        let mut number = |reader: &mut Self, name: &str, least: f64, most: f64| {
            let value = document.remove(name);
            reader.number(value.as_ref(), &format!("/{name}"), least, most)
        };
        let base = number(self, "base", -POINTS_MAX, POINTS_MAX);
        let (min, max) = (number(self, "min", 0.0, 100.0), number(self, "max", 0.0, 100.0));
        if min > max {
            self.refuse("/max", "must not be below `min`");
        }
        let characteristics = match document.remove("characteristics") {
            Some(Value::Array(items)) if items.len() > CHARACTERISTICS_MAX => {
                self.refuse("/characteristics", format!("must have at most {CHARACTERISTICS_MAX} items"));
                Vec::new()
            }
            Some(Value::Array(items)) => {
                let read = |(n, item)| self.characteristic(item, &format!("/characteristics/{n}"));
                items.into_iter().enumerate().filter_map(read).collect()
            }
            _ => {
                self.refuse("/characteristics", "must be an array");
                Vec::new()
            }
        };
        if self.entries > ENTRIES_MAX {
            self.refuse("/characteristics", format!("must have at most {ENTRIES_MAX} bins and values in all"));
        }
        self.unknown(document, "");
        Scorecard { base, min, max, characteristics }
    }

    fn characteristic(&mut self, item: Value, at: &str) -> Option<Characteristic> {
        let Value::Object(mut item) = item else {
            self.refuse(at, "must be an object");
            return None;
        };
        let named = item.remove("field");
        let field = self.field(named.as_ref(), &format!("{at}/field"));
        let mut optional = |reader: &mut Self, name: &str| match item.remove(name) {
            None => 0.0,
            given => reader.number(given.as_ref(), &format!("{at}/{name}"), -POINTS_MAX, POINTS_MAX),
        };
        let (missing, other) = (optional(self, "missing"), optional(self, "other"));
        let table = match (item.remove("bins"), item.remove("values")) {
            (Some(bins), None) => self.bins(&bins, &format!("{at}/bins")).map(Table::Bins),
            (None, Some(values)) => self.values(values, &format!("{at}/values")).map(Table::Values),
            _ => {
                self.refuse(at, "must have either `bins` or `values`");
                None
            }
        };
        self.unknown(&item, at);
        let ((name, field), table) = (field?, table?);
        match (&field, &table) {
            (Field::Number(_), Table::Values(_)) => self.refuse(at, format!("`{name}` is a number: give `bins`")),
            (Field::Text(_), Table::Bins(_)) => self.refuse(at, format!("`{name}` is a text: give `values`")),
            (Field::Metadata(_), _) | (Field::Number(_), Table::Bins(_)) | (Field::Text(_), Table::Values(_)) => {}
        }
        Some(Characteristic { name, field, table, missing, other })
    }

    fn field(&mut self, named: Option<&Value>, at: &str) -> Option<(String, Field)> {
        let Some(name) = named.and_then(Value::as_str).filter(|name| name.len() <= NAME_MAX) else {
            self.refuse(at, format!("must be a text of at most {NAME_MAX} bytes"));
            return None;
        };
        if !self.seen.insert(name.to_owned()) {
            self.refuse(at, format!("`{name}` is scored before"));
        }
        let number = NUMBERS.iter().find(|(known, _)| *known == name).map(|(_, field)| Field::Number(*field));
        let text = TEXTS.iter().find(|(known, _)| *known == name).map(|(_, field)| Field::Text(*field));
        let path = name.strip_prefix("metadata.").map(|path| path.split('.').map(str::to_owned).collect::<Vec<_>>());
        let sound = |path: &Vec<String>| path.len() <= PATH_MAX && path.iter().all(|segment| !segment.is_empty());
        let field = number.or(text).or_else(|| path.filter(sound).map(Field::Metadata));
        if field.is_none() {
            let known = NUMBERS.iter().map(|(name, _)| *name).chain(TEXTS.iter().map(|(name, _)| *name));
            let known: Vec<&str> = known.collect();
            let detail = format!(
                "`{name}` is no field that can be scored: must be one of {}, or `metadata.` with a path of up to \
                 {PATH_MAX} names",
                known.join(", ")
            );
            self.refuse(at, detail);
        }
        Some((name.to_owned(), field?))
    }

    fn bins(&mut self, given: &Value, at: &str) -> Option<Vec<Bin>> {
        let Some(items) = given.as_array().filter(|items| !items.is_empty()) else {
            self.refuse(at, "must be an array of at least one bin");
            return None;
        };
        self.entries += items.len();
        if self.entries > ENTRIES_MAX {
            return None;
        }
        let read = |(n, item): (usize, &Value)| self.bin(item, &format!("{at}/{n}"));
        let bins: Vec<Bin> = items.iter().enumerate().filter_map(read).collect();
        if bins.len() == items.len() {
            self.apart(&bins, at);
        }
        Some(bins)
    }

    fn bin(&mut self, item: &Value, at: &str) -> Option<Bin> {
        let Value::Object(item) = item else {
            self.refuse(at, "must be an object");
            return None;
        };
        let before = self.wrong.len();
        let end = |reader: &mut Self, name: &str| {
            let given = item.get(name)?;
            Some(reader.number(Some(given), &format!("{at}/{name}"), f64::MIN, f64::MAX))
        };
        let (from, to) = (end(self, "from"), end(self, "to"));
        let points = self.number(item.get("points"), &format!("{at}/points"), -POINTS_MAX, POINTS_MAX);
        for name in item.keys().filter(|name| !matches!(name.as_str(), "from" | "to" | "points")) {
            self.refuse(format!("{at}/{}", pointer_segment(name)), "is not known here");
        }
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
            && self.wrong.len() == before
        {
            self.refuse(format!("{at}/to"), "must be above `from`");
        }
        (self.wrong.len() == before).then_some(Bin { from, to, points })
    }

    /// Half-open ranges sorted by their beginning overlap when one begins before the one before ends.
    fn apart(&mut self, bins: &[Bin], at: &str) {
        let begin = |n: usize| bins[n].from.unwrap_or(f64::NEG_INFINITY);
        let mut order: Vec<usize> = (0..bins.len()).collect();
        order.sort_by(|a, b| begin(*a).total_cmp(&begin(*b)).then(a.cmp(b)));
        for pair in order.windows(2) {
            if begin(pair[1]) < bins[pair[0]].to.unwrap_or(f64::INFINITY) {
                let (first, second) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                self.refuse(format!("{at}/{second}"), format!("overlaps {at}/{first}"));
            }
        }
    }

    fn values(&mut self, given: Value, at: &str) -> Option<BTreeMap<String, f64>> {
        let Value::Object(items) = given else {
            self.refuse(at, "must be an object from values to points");
            return None;
        };
        self.entries += items.len();
        if items.is_empty() {
            self.refuse(at, "must have at least one value");
        }
        if self.entries > ENTRIES_MAX {
            return None;
        }
        let mut values = BTreeMap::new();
        for (value, points) in items {
            let place = format!("{at}/{}", pointer_segment(&value));
            if value.len() > NAME_MAX {
                self.refuse(at, format!("must have values of at most {NAME_MAX} bytes"));
                continue;
            }
            values.insert(value, self.number(Some(&points), &place, -POINTS_MAX, POINTS_MAX));
        }
        Some(values)
    }

    fn number(&mut self, given: Option<&Value>, at: &str, least: f64, most: f64) -> f64 {
        let number = given.and_then(Value::as_f64).filter(|n| n.is_finite() && (least..=most).contains(n));
        number.unwrap_or_else(|| {
            let range = if most < f64::MAX { format!(" from {least} to {most}") } else { String::new() };
            self.refuse(at, format!("must be a number{range}"));
            0.0
        })
    }

    fn unknown(&mut self, rest: &Map<String, Value>, at: &str) {
        for name in rest.keys() {
            self.refuse(format!("{at}/{}", pointer_segment(name)), "is not known here");
        }
    }
}

/// A JSON value in which no object has a field twice. The depth was bounded before.
struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Each).map(Self)
    }
}

struct Each;

impl<'de> Visitor<'de> for Each {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            read.push(item);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some((name, Strict(value))) = fields.next_entry::<String, Strict>()? {
            if read.contains_key(&name) {
                return Err(A::Error::custom(format!("the field {name:?} stands twice")));
            }
            read.insert(name, value);
        }
        Ok(read.into())
    }
}
