//! What is old goes, day by day, and only what nothing speaks for keeping.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::retention::{Day, DayFacts, ExpiredDay, Stay};
use crate::domain::{AuditBody, TenantId};

/// Days looked at by one sweep at most: eleven years, the oldest first.
pub const DAYS_MAX: u32 = 4_000;

/// What became of a day that was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropAct {
    /// It is gone.
    Dropped(ExpiredDay),
    /// It stays, and why. The list is empty where what kept it has just passed: look again.
    Stays(Vec<Stay>),
    /// It was gone before.
    Gone,
    /// Somebody else is dropping one.
    Busy,
}

/// What a sweep is to do.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// How long the events of a tenant are kept that has no retention of its own, in days; 0: for
    /// ever.
    pub fleet_days: u32,
    /// Days dropped at most; 0 for a dry run.
    pub drops_max: u32,
    /// The record of a drop, of the platform's control chain (all but its place, and what the store
    /// fills in: the day and its counts).
    pub audit: &'a AuditBody,
}

/// What a sweep has found and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Every day looked at, the oldest first.
    pub days: Vec<SweptDay>,
    /// Whether days are left that may go: the sweep has dropped as many as it was to.
    pub more: bool,
}

impl Swept {
    /// The oldest day that is kept; none where nothing is stored of any day that is over.
    pub fn oldest_kept(&self) -> Option<Day> {
        self.days.iter().find(|swept| !matches!(swept.fate, Fate::Dropped(_))).map(|swept| swept.facts.day)
    }

    /// Days that went.
    pub fn dropped(&self) -> impl Iterator<Item = &ExpiredDay> {
        self.days.iter().filter_map(|swept| match &swept.fate {
            Fate::Dropped(expired) => Some(expired),
            Fate::Stays(_) | Fate::Goes => None,
        })
    }
}

/// One day of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptDay {
    /// What was known of it.
    pub facts: DayFacts,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, and why.
    Stays(Vec<Stay>),
    /// It may go, and was not to yet: a dry run, enough for one sweep, or somebody else is at it.
    Goes,
    /// It is gone.
    Dropped(ExpiredDay),
}

/// The keeping and dropping of days. Every verb may fail with [`StoreError::Away`] or
/// [`StoreError::Fault`].
///
/// A partition of time is shared by the tenants, so a day goes when the LONGEST retention of those
/// with events in it is over; a tenant whose own is shorter waits for the others'.
#[async_trait]
pub trait Retention: Send + Sync {
    /// The days that are over and of which events may be stored, the oldest first, at most `limit`,
    /// with what is known of each.
    async fn days(&self, fleet_days: u32, limit: u32) -> Result<Vec<DayFacts>, StoreError>;

    /// Drops a day: its events and decisions with everything that hangs on them, and notes that it is
    /// gone. Looks at every reason to stay again, in the transaction that drops; `audit` goes to the
    /// platform's control chain in that transaction too, with the day and its counts as new state.
    ///
    /// # Errors
    /// [`StoreError::Away`] also when others have not let it have its short turn: nothing was done.
    async fn drop_day(&self, day: Day, fleet_days: u32, audit: &AuditBody) -> Result<DropAct, StoreError>;

    /// Deletes what is left of days that are gone, after a process that ended half-way. Gives how many
    /// days it finished.
    async fn finish_drops(&self) -> Result<u64, StoreError>;

    /// Looks at every day that is over, and drops those that may go, the oldest first, until
    /// `drops_max` are gone.
    async fn sweep(&self, sweep: Sweep<'_>) -> Result<Swept, StoreError> {
        if sweep.drops_max > 0 {
            self.finish_drops().await?;
        }
        let mut swept = Swept { days: Vec::new(), more: false };
        let mut drops_left = sweep.drops_max;
        for facts in self.days(sweep.fleet_days, DAYS_MAX).await? {
            let stays = facts.stays();
            let fate = if !stays.is_empty() {
                Fate::Stays(stays)
            } else if drops_left == 0 {
                swept.more = sweep.drops_max > 0;
                Fate::Goes
            } else {
                drops_left -= 1;
                match self.drop_day(facts.day, sweep.fleet_days, sweep.audit).await? {
                    DropAct::Dropped(expired) => Fate::Dropped(expired),
                    DropAct::Stays(reasons) if !reasons.is_empty() => Fate::Stays(reasons),
                    DropAct::Stays(_) | DropAct::Busy => Fate::Goes,
                    // Somebody else was faster: it is no longer there to be told of.
                    DropAct::Gone => continue,
                }
            };
            swept.days.push(SweptDay { facts, fate });
        }
        Ok(swept)
    }
}

/// The audit record of a drop says what went, in numbers.
pub fn dropped_state(expired: &ExpiredDay) -> serde_json::Value {
    serde_json::json!({
        "day": expired.day, "events": expired.events, "decisions": expired.decisions,
    })
}

/// Whose control chain drops stand in.
pub fn chain() -> TenantId {
    TenantId::platform()
}
