//! Owns what gives the risk score: the baseline's constants, a scorecard, or nothing where the model
//! in force can't be used. Holds a stored model against what was registered before it scores.

use serde_json::Map;
use std::sync::Arc;

use super::scorecard::Scorecard;
use crate::domain::audit::{Hash, sha256};
use crate::domain::version::{Review, Version};
use crate::domain::{Invalid, Reason};

/// The code of the reason for which a decision was made without its model.
pub const MODEL_UNAVAILABLE: &str = "MODEL_UNAVAILABLE";

/// The code of the reason for which a decision was made without asking for a score.
pub const BUDGET_EXHAUSTED: &str = "BUDGET_EXHAUSTED";

/// What gives the score.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorer {
    /// The baseline's own constants.
    Baseline,
    /// A registered model of the kind `scorecard`.
    Scorecard(Arc<Scorecard>),
    /// A model is in force that can't be used: no score is given, and a person decides.
    Unavailable,
}

/// Why a stored model is not used; completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not, or no longer, there.
    #[error("use the model: it is not registered")]
    Missing,
    /// Nobody has approved it.
    #[error("use the model: it is {0}, not approved")]
    NotApproved(Review),
    /// It is not what was registered or made active.
    #[error("use the model: its content does not give the SHA-256 under which it was registered")]
    Changed,
    /// It is no model of a kind that this program knows.
    #[error("use the model: {0}")]
    Unreadable(Invalid),
}

impl Scorer {
    /// The scorer of a stored model. `expected`: the SHA-256 that is known of it from elsewhere.
    ///
    /// # Errors
    /// [`Unfit`]: the model must not score.
    pub fn load(version: &Version, content: &[u8], expected: Option<&Hash>) -> Result<Self, Unfit> {
        if version.review != Review::Approved {
            return Err(Unfit::NotApproved(version.review));
        }
        let hash = sha256(content);
        if hash != version.sha256 || expected.is_some_and(|expected| *expected != hash) {
            return Err(Unfit::Changed);
        }
        Scorecard::parse(content).map(|card| Self::Scorecard(Arc::new(card))).map_err(Unfit::Unreadable)
    }
}

/// Says that the model in force was not asked.
pub(super) fn budget_exhausted(model: &str) -> Reason {
    Reason {
        code: BUDGET_EXHAUSTED.into(),
        message: "the tenant's budget of the month is used up, so that a person decides".into(),
        rule: model.to_owned(),
        values: Map::new(),
    }
}

/// Says that the model in force could not be used.
pub(super) fn unavailable(model: &str) -> Reason {
    Reason {
        code: MODEL_UNAVAILABLE.into(),
        message: "the model in force can't be used, so that a person decides".into(),
        rule: model.to_owned(),
        values: Map::new(),
    }
}
