//! Owns how people decide what the workflow escalates: who may claim, decide and comment when, and
//! from when on a request is overdue. Pure: the adapters ask it under the request's lock, so that
//! one rule holds on each of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::decision::Outcome;
use super::role::Role;

/// Comments that one request can have.
pub const COMMENTS_MAX: u32 = 200;

/// How often one request can be claimed; a claim that is renewed counts.
pub const CLAIMS_MAX: u32 = 200;

/// How long a comment may be, in characters.
pub const COMMENT_CHARS_MAX: usize = 2_000;

/// How long a claim lasts.
pub const CLAIM_FOR: Duration = Duration::from_secs(15 * 60);

/// A person's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Go on.
    Approved,
    /// Refused.
    Rejected,
}

impl Verdict {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Approved, Self::Rejected];

    /// The final outcome that it gives.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Approved => Outcome::Approved,
            Self::Rejected => Outcome::Rejected,
        }
    }
}

/// Who may decide a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Level {
    /// Whoever may approve.
    #[default]
    First,
    /// It was overdue: only the second role.
    Second,
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        match level {
            Level::First => 1,
            Level::Second => 2,
        }
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            other => Err(format!("level must be 1 or 2, not {other}")),
        }
    }
}

/// Somebody looks at a request: a courtesy that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub by: String,
    /// Up to when.
    pub until: DateTime<Utc>,
}

impl Claim {
    /// Whether it holds at a moment.
    pub fn is_live(&self, at: DateTime<Utc>) -> bool {
        self.until > at
    }
}

/// What happened to a request between its opening and its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Step {
    /// Somebody claimed it, or renewed the claim.
    Claimed {
        /// Up to when.
        until: DateTime<Utc>,
    },
    /// The claim was given back.
    Released,
    /// It was overdue, and is the second role's from here on.
    Escalated,
    /// Somebody said something about it.
    Commented {
        /// What; may hold personal data.
        text: String,
    },
}

impl Step {
    /// `claimed`, `released`, `escalated` or `commented`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "claimed",
            Self::Released => "released",
            Self::Escalated => "escalated",
            Self::Commented { .. } => "commented",
        }
    }
}

/// A [`Step`] with who took it and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastStep {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub step: Step,
}

/// The rules of a fleet's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalRules {
    /// After which a request is overdue; none: never.
    pub due_after: Option<Duration>,
    /// Who decides an overdue one.
    pub second_role: Role,
}

impl Default for ApprovalRules {
    /// A day, then administrators.
    fn default() -> Self {
        Self { due_after: Some(Duration::from_secs(86_400)), second_role: Role::Admin }
    }
}

impl ApprovalRules {
    /// When a request that was opened at a moment is due; none: never.
    pub fn due_at(&self, opened_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        opened_at.checked_add_signed(chrono::Duration::from_std(self.due_after?).ok()?)
    }

    /// Requests that were opened at or before this moment are overdue at `now`; none: there are none.
    pub fn overdue_by(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        now.checked_sub_signed(chrono::Duration::from_std(self.due_after?).ok()?)
    }

    /// What somebody with these roles may do beyond what the permission gives.
    pub fn powers(&self, roles: &[Role]) -> Powers {
        Powers { over_claims: roles.contains(&Role::Admin), second: roles.contains(&self.second_role) }
    }
}

/// What a person may do to a request beyond what everybody may who approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Powers {
    /// Pass over another's claim.
    pub over_claims: bool,
    /// Decide on the second level.
    pub second: bool,
}

/// A verdict that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub outcome: Outcome,
    /// By whom.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A request as it stands under its lock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Who may decide it.
    pub level: Level,
    /// The last claim that was not given back.
    pub claim: Option<Claim>,
    /// The verdict.
    pub given: Option<Given>,
    /// How often it was claimed.
    pub claims: u32,
    /// How many comments it has.
    pub comments: u32,
}

/// What somebody wants to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Claim it, or renew the claim.
    Claim,
    /// Give the claim back; with the power, another's.
    Release,
    /// Give the verdict.
    Decide,
    /// Say something.
    Comment,
}

/// Why it is not done; completes "the request …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No person was asked about this event.
    #[error("is not there: the workflow has not escalated it")]
    NotEscalated,
    /// Somebody was first.
    #[error("was decided {} by {by} at {}", .outcome.as_str(), super::time::text(*.at))]
    AlreadyDecided {
        /// The verdict.
        outcome: Outcome,
        /// Whose.
        by: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Another person looks at it.
    #[error("is claimed by {by} until {}", super::time::text(*.until))]
    Claimed {
        /// Who.
        by: String,
        /// Up to when.
        until: DateTime<Utc>,
    },
    /// There is no claim to be given back.
    #[error("is not claimed")]
    NotClaimed,
    /// It was overdue.
    #[error("was overdue and is on level 2: the second role decides it")]
    SecondLevel,
    /// So much was said or claimed that no more is kept.
    #[error("is full: it keeps no more than {0} of these")]
    Full(u32),
}

impl Standing {
    /// Whether somebody may have the wish at a moment.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, wish: Wish, who: &str, powers: Powers, at: DateTime<Utc>) -> Result<(), Refusal> {
        if wish == Wish::Comment {
            return full(self.comments, COMMENTS_MAX);
        }
        if let Some(Given { outcome, by, at }) = &self.given {
            return Err(Refusal::AlreadyDecided { outcome: *outcome, by: by.clone(), at: *at });
        }
        let live = self.claim.as_ref().filter(|claim| claim.is_live(at));
        if wish == Wish::Release && live.is_none() {
            return Err(Refusal::NotClaimed);
        }
        if wish != Wish::Release && self.level == Level::Second && !powers.second {
            return Err(Refusal::SecondLevel);
        }
        if let Some(Claim { by, until }) = live.filter(|claim| claim.by != who && !powers.over_claims) {
            return Err(Refusal::Claimed { by: by.clone(), until: *until });
        }
        if wish == Wish::Claim { full(self.claims, CLAIMS_MAX) } else { Ok(()) }
    }
}

fn full(count: u32, max: u32) -> Result<(), Refusal> {
    if count < max { Ok(()) } else { Err(Refusal::Full(max)) }
}

#[cfg(test)]
mod tests {
    use super::super::time::from_millis;
    use super::*;

    const PLAIN: Powers = Powers { over_claims: false, second: false };
    const ADMIN: Powers = Powers { over_claims: true, second: true };

    fn claimed() -> Standing {
        let claim = Claim { by: "ann".into(), until: from_millis(1_000) };
        Standing { claim: Some(claim), ..Standing::default() }
    }

    #[test]
    fn a_live_claim_holds_others_back_but_not_its_owner_nor_who_may_pass_over_it() {
        let refused = Err(Refusal::Claimed { by: "ann".into(), until: from_millis(1_000) });
        for wish in [Wish::Claim, Wish::Release, Wish::Decide] {
            assert_eq!(claimed().judge(wish, "bob", PLAIN, from_millis(999)), refused, "{wish:?}");
            assert_eq!(claimed().judge(wish, "ann", PLAIN, from_millis(999)), Ok(()), "{wish:?}");
            assert_eq!(claimed().judge(wish, "bob", ADMIN, from_millis(999)), Ok(()), "{wish:?}");
        }
        assert_eq!(claimed().judge(Wish::Decide, "bob", PLAIN, from_millis(1_000)), Ok(()), "it has ended");
        assert_eq!(claimed().judge(Wish::Release, "ann", PLAIN, from_millis(1_000)), Err(Refusal::NotClaimed));
        assert_eq!(claimed().judge(Wish::Comment, "bob", PLAIN, from_millis(999)), Ok(()));
    }

    #[test]
    fn the_second_level_is_the_second_roles() {
        let second = Standing { level: Level::Second, ..Standing::default() };
        for wish in [Wish::Claim, Wish::Decide] {
            assert_eq!(second.judge(wish, "bob", PLAIN, from_millis(0)), Err(Refusal::SecondLevel));
            assert_eq!(second.judge(wish, "bob", ADMIN, from_millis(0)), Ok(()));
        }
        assert_eq!(second.judge(Wish::Comment, "bob", PLAIN, from_millis(0)), Ok(()));
    }

    #[test]
    fn what_is_decided_stays_so_and_can_still_be_commented() {
        let given = Given { outcome: Outcome::Rejected, by: "ann".into(), at: from_millis(5) };
        let decided = Standing { given: Some(given), ..claimed() };
        let refused = Refusal::AlreadyDecided { outcome: Outcome::Rejected, by: "ann".into(), at: from_millis(5) };
        for wish in [Wish::Claim, Wish::Release, Wish::Decide] {
            for who in ["ann", "bob"] {
                assert_eq!(decided.judge(wish, who, ADMIN, from_millis(9)), Err(refused.clone()));
            }
        }
        assert_eq!(decided.judge(Wish::Comment, "bob", PLAIN, from_millis(9)), Ok(()));
        assert_eq!(refused.to_string(), "was decided REJECTED by ann at 1970-01-01T00:00:00.005Z");
    }

    #[test]
    fn comments_and_claims_are_bounded() {
        let full = Standing { claims: CLAIMS_MAX, comments: COMMENTS_MAX, ..Standing::default() };
        assert_eq!(full.judge(Wish::Claim, "ann", ADMIN, from_millis(0)), Err(Refusal::Full(CLAIMS_MAX)));
        assert_eq!(full.judge(Wish::Comment, "ann", ADMIN, from_millis(0)), Err(Refusal::Full(COMMENTS_MAX)));
        assert_eq!(full.judge(Wish::Decide, "ann", PLAIN, from_millis(0)), Ok(()));
    }

    #[test]
    fn the_due_time_is_counted_from_the_opening() {
        let rules = ApprovalRules { due_after: Some(Duration::from_secs(60)), second_role: Role::Admin };
        assert_eq!(rules.due_at(from_millis(1_000)), Some(from_millis(61_000)));
        assert_eq!(rules.overdue_by(from_millis(61_000)), Some(from_millis(1_000)));
        let never = ApprovalRules { due_after: None, ..rules };
        assert_eq!((never.due_at(from_millis(0)), never.overdue_by(from_millis(0))), (None, None));
        assert_eq!(rules.powers(&[Role::Approver]), PLAIN);
        assert_eq!(rules.powers(&[Role::Viewer, Role::Admin]), ADMIN);
    }
}
