//! Owns what a version of an artifact is and how it becomes usable: registered once, decided once, by
//! somebody else than its author. Never looks into the content, and never writes anything.
//!
//! # Decisions
//! Models and prompts share one life, so that four eyes are one rule with one table; a policy will
//! be one more [`Artifact`]. The rule stands three times on purpose: here, for the words of a
//! refusal; as constraints in both databases, against whoever goes past this program; and in the
//! audit, for whoever comes later.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::{fmt, str::FromStr, sync::Arc};

use super::audit::{AuditBody, Hash};
use super::ids::{BadId, TenantId};
use super::time;

/// The largest content, in bytes.
pub const CONTENT_MAX: usize = 1 << 20;

/// The most versions of one kind that a tenant has, over all names.
pub const VERSIONS_MAX: u32 = 10_000;

/// The most tenants with an active model in one fleet: every worker keeps the list of them.
pub const ACTIVE_MAX: u32 = 10_000;

/// What a version is a version of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Artifact {
    /// Gives the risk score. Can be made active.
    Model,
    /// The words that a language model is asked with.
    Prompt,
}

impl Artifact {
    /// Every kind, in the order of their numbers in the store.
    pub const ALL: [Self; 2] = [Self::Model, Self::Prompt];

    /// `model` or `prompt`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Prompt => "prompt",
        }
    }

    /// Whether no version may have this name: what the program itself decides by has it.
    pub fn reserves(self, name: &VersionName) -> bool {
        match self {
            Self::Model => name.as_str() == "baseline",
            Self::Prompt => false,
        }
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name under which versions are counted: 1–64 characters of `a-z0-9_-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionName(Arc<str>);

impl VersionName {
    /// Reads a name.
    ///
    /// # Errors
    /// When the text is empty, over 64 characters, or holds any other character.
    pub fn parse(raw: &str) -> Result<Self, BadId> {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-');
        if raw.is_empty() || raw.len() > 64 || !raw.bytes().all(legal) {
            return Err(BadId { what: "name", why: "must be 1 to 64 characters of a-z, 0-9, '_' and '-'" });
        }
        Ok(Self(raw.into()))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of one name, as people and decisions write it: `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionRef {
    /// Its name.
    pub name: VersionName,
    /// From 1, rising by one a registration.
    pub number: u32,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.number)
    }
}

impl FromStr for VersionRef {
    type Err = BadId;

    fn from_str(raw: &str) -> Result<Self, BadId> {
        let bad = || BadId { what: "version", why: "must be NAME@NUMBER, such as fraud@3" };
        let (name, number) = raw.split_once('@').ok_or_else(bad)?;
        Ok(Self { name: VersionName::parse(name)?, number: number_of(number).ok_or_else(bad)? })
    }
}

/// Reads a version number: 1 to 2147483647, in its one way of writing.
pub fn number_of(raw: &str) -> Option<u32> {
    let plain = raw.bytes().all(|c| c.is_ascii_digit()) && !raw.starts_with('0');
    raw.parse().ok().filter(|n| plain && i32::try_from(*n).is_ok())
}

/// Where a version stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionKey {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub artifact: Artifact,
    /// Which.
    pub version: VersionRef,
}

/// What people think of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Review {
    /// Nobody has decided.
    Pending,
    /// It may be used.
    Approved,
    /// It may never be used.
    Rejected,
}

/// A reviewer's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// It may be used.
    Approve,
    /// It may never be used.
    Reject,
}

impl Ruling {
    /// Every ruling.
    pub const ALL: [Self; 2] = [Self::Approve, Self::Reject];

    /// What a version is after it.
    pub fn review(self) -> Review {
        match self {
            Self::Approve => Review::Approved,
            Self::Reject => Review::Rejected,
        }
    }
}

impl Review {
    /// Every state, in the order of their numbers in the store.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Approved, Self::Rejected];

    /// `pending`, `approved` or `rejected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|review| review.as_str() == raw)
    }

    /// THE transition: what a version becomes when `by` rules on one that `author` registered.
    ///
    /// # Errors
    /// [`Refused::Decided`] when it was decided before, [`Refused::FourEyes`] for its author.
    pub fn rule(self, author: &str, by: &str, ruling: Ruling) -> Result<Self, Refused> {
        match self {
            Self::Approved | Self::Rejected => Err(Refused::Decided(self)),
            Self::Pending if author == by => Err(Refused::FourEyes),
            Self::Pending => Ok(ruling.review()),
        }
    }

    /// Whether a version that stands so may be made active.
    ///
    /// # Errors
    /// [`Refused::NotApproved`].
    pub fn usable(self) -> Result<(), Refused> {
        match self {
            Self::Approved => Ok(()),
            Self::Pending | Self::Rejected => Err(Refused::NotApproved(self)),
        }
    }
}

impl fmt::Display for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something is not done with a version; completes "failed to …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The tenant has no such version.
    #[error("find the version: the tenant has none of this name and number")]
    Unknown,
    /// The author decides.
    #[error("decide on it: its author never does, somebody else has to")]
    FourEyes,
    /// It was decided before.
    #[error("decide on it again: it is {0}")]
    Decided(Review),
    /// It is not approved.
    #[error("make it active: it is {0}, and only an approved one can be")]
    NotApproved(Review),
    /// The tenant has as many as it may have, or the fleet as many active ones.
    #[error("take one more: there are {0}, which is the most")]
    Full(u32),
}

/// A version to be registered; its number is given by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub artifact: Artifact,
    /// Under which name.
    pub name: VersionName,
    /// 1 to [`CONTENT_MAX`] bytes, kept as they are.
    pub content: Vec<u8>,
    /// Who registers it, and will not decide on it.
    pub author: String,
    /// What is new in it.
    pub reason: String,
    /// When, in whole milliseconds.
    pub at: DateTime<Utc>,
}

/// How a version was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// By whom; never the author.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Why; always there for a rejection.
    pub reason: Option<String>,
}

/// A registered version, without its content. All but `review` and `verdict` never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Where it stands.
    pub key: VersionKey,
    /// Of its content.
    pub sha256: Hash,
    /// Length of its content.
    pub bytes: u64,
    /// Who registered it.
    pub author: String,
    /// What is new in it.
    pub reason: String,
    /// When it was registered.
    pub at: DateTime<Utc>,
    /// What people think of it.
    pub review: Review,
    /// How it was decided; none while it is pending.
    pub verdict: Option<Verdict>,
}

impl Version {
    /// The JSON that is shown.
    pub fn view(&self) -> Value {
        let verdict = self.verdict.as_ref();
        json!({
            "tenant_id": self.key.tenant,
            "kind": self.key.artifact.as_str(),
            "name": self.key.version.name.as_str(),
            "version": self.key.version.number,
            "sha256": hex::encode(self.sha256),
            "bytes": self.bytes,
            "author": self.author,
            "reason": self.reason,
            "created_at": time::text(self.at),
            "state": self.review.as_str(),
            "decided_by": verdict.map(|v| v.by.as_str()),
            "decided_at": verdict.map(|v| time::text(v.at)),
            "decision_reason": verdict.and_then(|v| v.reason.as_deref()),
        })
    }

    /// The record of its registration, completed by what only the transaction knows.
    pub fn registered(&self, audit: &AuditBody) -> AuditBody {
        let new = json!({ "state": self.review.as_str(), "sha256": hex::encode(self.sha256) });
        AuditBody { resource_id: self.key.version.to_string(), new: Some(new), ..audit.clone() }
    }

    /// The record of the ruling on it, which stood at `before`.
    pub fn decided(&self, before: Review, audit: &AuditBody) -> AuditBody {
        AuditBody {
            resource_id: self.key.version.to_string(),
            previous: Some(before.as_str().into()),
            new: Some(self.review.as_str().into()),
            ..audit.clone()
        }
    }
}

/// The record of a change of what is active, from `before` to `after`; none: the baseline.
pub fn activated(before: Option<&VersionRef>, after: Option<&VersionRef>, audit: &AuditBody) -> AuditBody {
    let state = |version: Option<&VersionRef>| version.map(|v| Value::from(v.to_string()));
    let resource = after.or(before).map_or_else(|| audit.resource_id.clone(), ToString::to_string);
    AuditBody {
        resource_id: resource,
        previous: Some(state(before).unwrap_or(Value::Null)),
        new: Some(state(after).unwrap_or(Value::Null)),
        ..audit.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transitions_hold_for_every_pair() {
        use Review::{Approved, Pending, Rejected};
        for by_author in [false, true] {
            for ruling in Ruling::ALL {
                for state in Review::ALL {
                    let by = if by_author { "ann" } else { "ben" };
                    let want = match (state, by_author, ruling) {
                        (Pending, true, _) => Err(Refused::FourEyes),
                        (Pending, false, Ruling::Approve) => Ok(Approved),
                        (Pending, false, Ruling::Reject) => Ok(Rejected),
                        (Approved | Rejected, _, _) => Err(Refused::Decided(state)),
                    };
                    assert_eq!(state.rule("ann", by, ruling), want, "{state} {ruling:?} by {by}");
                }
            }
        }
        for state in Review::ALL {
            assert_eq!(state.usable().is_ok(), state == Approved, "{state}");
            assert_eq!(Review::parse(state.as_str()), Some(state));
        }
    }

    #[test]
    fn names_and_references_are_read_in_one_way_only() {
        for good in ["a", "fraud_2-x", &"x".repeat(64)] {
            assert!(VersionName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "a@1", "a.b", "ä", &"x".repeat(65)] {
            assert!(VersionName::parse(bad).is_err(), "{bad:?}");
        }
        let fraud: VersionRef = "fraud@12".parse().expect("legal");
        assert_eq!((fraud.name.as_str(), fraud.number, fraud.to_string().as_str()), ("fraud", 12, "fraud@12"));
        for bad in ["fraud", "fraud@", "fraud@0", "fraud@01", "fraud@+1", "fraud@1@2", "@1", "fraud@2147483648"] {
            assert!(bad.parse::<VersionRef>().is_err(), "{bad}");
        }
        assert!(Artifact::Model.reserves(&VersionName::parse("baseline").expect("legal")));
    }
}
