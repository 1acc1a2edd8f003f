//! `replay`: a decided event is decided again from what is stored, and must give the same bytes.
//!
//! The model is the one that the decision names, held against its SHA-256; one that could not be used
//! then is not used now, whether it could be or not.

use serde::Serialize;
use serde_json::{Value, json};

use super::args::OneEvent;
use super::events_get::read_decision;
use super::screen::{Ink, clean};
use super::{CliError, Exit, Reading, Screen, table};
use crate::domain::audit::sha256;
use crate::domain::decision::PolicyRef;
use crate::domain::invalid::pointer_segment;
use crate::domain::version::{Artifact, VersionKey, VersionRef};
use crate::domain::{Decision, Event, EventBody, EventId};
use crate::pipeline::baseline::BASELINE_MODEL;
use crate::pipeline::scorer::MODEL_UNAVAILABLE;
use crate::pipeline::{self, Policy, Scorer, Unfit};
use crate::ports::ActiveVersions;
use crate::ports::store::{Disposition, EventRecord};

/// How many differing fields are named.
const DIFFERENCES_MAX: usize = 100;

/// What deciding again gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Replayed {
    /// The same bytes.
    Same {
        /// SHA-256 of them, hex.
        sha256: String,
    },
    /// Other bytes.
    Differs {
        /// Where; empty when only the text differs, not the fields.
        differences: Vec<Difference>,
    },
    /// Its key was destroyed: nobody can decide it again.
    Erased,
    /// It was decided by a policy that this program does not hold.
    UnknownPolicy {
        /// Which.
        policy: PolicyRef,
    },
    /// The model that it was decided by is not there any more, or not what it was.
    UnknownModel {
        /// Which, `name@version`.
        model: String,
        /// What is wrong with it.
        why: String,
    },
}

/// One field that came out otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Difference {
    /// JSON pointer (RFC 6901) into the decision.
    pub(super) pointer: String,
    /// What is stored; null where it is not there.
    pub(super) stored: Value,
    /// What the replay gave; null where it gave nothing.
    pub(super) replayed: Value,
}

impl Replayed {
    /// Whether the stored decision was reproduced.
    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same { .. })
    }

    /// One sentence.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Same { sha256 } => format!("reproduced: deciding again gives the stored bytes (SHA-256 {sha256})"),
            Self::Differs { differences } if differences.is_empty() => {
                "NOT reproduced: the fields are the same, but the stored text is not the canonical one".into()
            }
            Self::Differs { differences } => format!("NOT reproduced: {} fields differ", differences.len()),
            Self::Erased => "erased: the key of its subject or its tenant was destroyed".into(),
            Self::UnknownPolicy { policy } => {
                format!(
                    "not checked: policy {}@{} ({}) is not in this program",
                    policy.name, policy.version, policy.hash
                )
            }
            Self::UnknownModel { model, why } => format!("not checked: failed to {why} ({model})"),
        }
    }
}

pub(super) async fn run(
    args: &OneEvent,
    (reading, versions): (Reading<'_>, &dyn ActiveVersions),
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let replayed = match reading.record(args.event).await {
        Ok(record) => replay(&record, versions).await?.ok_or(CliError::NotDecided(args.event))?,
        Err(CliError::Erased(_)) => Replayed::Erased,
        Err(e) => return Err(e),
    };
    if args.json {
        screen.json(&document(args.event, &replayed))?;
        return Ok(Exit::when(replayed.is_same()));
    }
    let ink = if replayed.is_same() { Ink::Green } else { Ink::Red };
    let sentence = screen.paint(ink, &clean(&replayed.sentence()));
    writeln!(screen.out, "{sentence}")?;
    if let Replayed::Differs { differences } = &replayed {
        let mut table = table::table(screen, &["field", "stored", "replayed"]);
        for d in differences {
            table.add_row([table::text(&d.pointer), table::text(&d.stored), table::text(&d.replayed)]);
        }
        if !table.is_empty() {
            writeln!(screen.out, "{}", table.trim_fmt())?;
        }
    }
    Ok(Exit::when(replayed.is_same()))
}

/// What scripts read: `{event_id, same, result, …}`.
fn document(event: EventId, replayed: &Replayed) -> Value {
    let mut shown = json!(replayed);
    shown["event_id"] = json!(event);
    shown["same"] = replayed.is_same().into();
    shown
}

/// Decides a stored event again; nothing for an event without a decision.
///
/// # Errors
/// When the stored event or decision can't be read, or the store is away.
pub(super) async fn replay(record: &EventRecord, versions: &dyn ActiveVersions) -> Result<Option<Replayed>, CliError> {
    let Some(Disposition::Decided { decision: text, .. }) = record.end.as_ref().map(|end| &end.disposition) else {
        return Ok(None);
    };
    let stored = read_decision(record.event.id, text)?;
    if stored.policy != Policy::baseline().reference {
        return Ok(Some(Replayed::UnknownPolicy { policy: stored.policy }));
    }
    let policy = match policy_of(&stored, versions).await? {
        Ok(policy) => policy,
        Err(why) => return Ok(Some(Replayed::UnknownModel { model: stored.model_version, why })),
    };
    let unreadable = |why| CliError::Unreadable { what: "event", event: record.event.id, why };
    let body = EventBody::from_canonical(&record.event.body).map_err(unreadable)?;
    let event = Event { id: record.event.id, correlation_id: record.event.correlation_id.clone(), body };
    let again = pipeline::replay(&event, &stored, &policy).canonical();
    if again == *text {
        return Ok(Some(Replayed::Same { sha256: hex::encode(sha256(text)) }));
    }
    let mut differences = Vec::new();
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    differ(&read(text), &read(&again), &mut String::new(), &mut differences);
    Ok(Some(Replayed::Differs { differences }))
}

/// What decided then; inside, why it can't be had.
async fn policy_of(stored: &Decision, versions: &dyn ActiveVersions) -> Result<Result<Policy, String>, CliError> {
    if stored.model_version == BASELINE_MODEL {
        return Ok(Ok(Policy::baseline()));
    }
    let version: VersionRef = match stored.model_version.parse() {
        Ok(version) => version,
        Err(e) => return Ok(Err(format!("use the model: its name can't be read: {e}"))),
    };
    if stored.reasons.iter().any(|reason| reason.code == MODEL_UNAVAILABLE) {
        return Ok(Ok(Policy::with_model(&version, Scorer::Unavailable)));
    }
    let key = VersionKey { tenant: stored.tenant_id.clone(), artifact: Artifact::Model, version: version.clone() };
    let loaded = match versions.version_content(&key).await? {
        Some(found) => Scorer::load(&found.version, &found.content, None),
        None => Err(Unfit::Missing),
    };
    Ok(loaded.map(|scorer| Policy::with_model(&version, scorer)).map_err(|why| why.to_string()))
}

/// Names every field that differs. The depth is bounded by the reader that made the values.
fn differ(stored: &Value, replayed: &Value, pointer: &mut String, found: &mut Vec<Difference>) {
    if stored == replayed || found.len() >= DIFFERENCES_MAX {
        return;
    }
    let before = pointer.len();
    let mut enter = |segment: &str, a: &Value, b: &Value| {
        pointer.push('/');
        pointer.push_str(segment);
        differ(a, b, pointer, found);
        pointer.truncate(before);
    };
    match (stored, replayed) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                enter(&pointer_segment(name), value, b.get(name).unwrap_or(&Value::Null));
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                enter(&pointer_segment(name), &Value::Null, value);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for n in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(n).unwrap_or(&Value::Null), b.get(n).unwrap_or(&Value::Null));
                enter(&n.to_string(), a, b);
            }
        }
        _ => found.push(Difference { pointer: pointer.clone(), stored: stored.clone(), replayed: replayed.clone() }),
    }
}
