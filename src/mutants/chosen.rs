//! Owns the choice of a defect at run time, and the poison; only with the feature `mutants`.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Mutant;
use crate::domain::{Event, EventId};

/// Names the defect that a test wants; one a process.
const VARIABLE: &str = "RISKFLEET_TEST_MUTANT";

/// Poisoned events whose attempts are counted, at most.
const COUNTED_MAX: usize = 10_000;

/// Whether this process runs with that defect.
///
/// # Panics
/// When the variable names none: a suite that tests nothing must not be green.
pub fn active(mutant: Mutant) -> bool {
    static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok().map(|name| named(&name))) == Some(mutant)
}

fn named(name: &str) -> Mutant {
    let names: Vec<&str> = Mutant::ALL.iter().map(|m| m.name()).collect();
    let found = Mutant::ALL.into_iter().find(|m| m.name() == name);
    found.unwrap_or_else(|| panic!("{VARIABLE} is {name}, and must be one of {}", names.join(", ")))
}

/// An event whose `metadata.poison` is `abort` ends the process here, as a fault in native code would;
/// `panic` panics; `panic-twice` panics the first two times that this process sees it.
///
/// # Panics
/// As asked.
pub fn poison(event: &Event) {
    match event.body.metadata.get("poison").and_then(serde_json::Value::as_str) {
        Some("abort") => std::process::abort(),
        Some("panic") => panic!("a poisoned event"),
        Some("panic-twice") if seen(event.id) <= 2 => panic!("a poisoned event"),
        _ => {}
    }
}

/// How often this process has seen an event, this time included.
fn seen(event: EventId) -> u32 {
    static SEEN: Mutex<Option<HashMap<EventId, u32>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.get_or_insert_with(HashMap::new);
    if seen.len() >= COUNTED_MAX && !seen.contains_key(&event) {
        return u32::MAX;
    }
    let count = seen.entry(event).or_insert(0);
    *count = count.saturating_add(1);
    *count
}
