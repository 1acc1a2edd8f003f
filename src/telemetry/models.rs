//! Owns which models have a label of their own in this process's metrics: the first few that decide. Never
//! grows: tenants choose the names of models, and a series a name would be theirs to make.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Models with a label of their own, at most.
const MODELS_MAX: usize = 20;

/// The label of all others.
pub const OTHER: &str = "other";

static LABELLED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The label of a model.
pub fn label(model: &str) -> String {
    label_among(&mut LABELLED.lock().unwrap_or_else(PoisonError::into_inner), model)
}

fn label_among(labelled: &mut BTreeSet<String>, model: &str) -> String {
    if !labelled.contains(model) {
        if labelled.len() >= MODELS_MAX {
            return OTHER.to_owned();
        }
        labelled.insert(model.to_owned());
    }
    model.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_models_have_labels_and_the_others_share_one() {
        let mut labelled = BTreeSet::new();
        let name = |n: usize| format!("fraud@{n}");
        for n in 1..=MODELS_MAX {
            assert_eq!(label_among(&mut labelled, &name(n)), name(n));
        }
        assert_eq!(label_among(&mut labelled, &name(MODELS_MAX + 1)), OTHER);
        assert_eq!(label_among(&mut labelled, &name(1)), name(1));
        assert_eq!(labelled.len(), MODELS_MAX);
    }
}
