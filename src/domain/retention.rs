//! Owns the rule of how long things are kept: days, what speaks for keeping one, and what is gone.
//!
//! A day is what is dropped: every event minted in one day (UTC), of all tenants together. Never
//! reads a clock or a store: the facts come in as arguments.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

use super::audit::{AuditBody, Fault, check_stored};
use super::ids::{EventId, TenantId};
use super::time;

/// The longest retention that can be set, in days: a hundred years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

const DAY_MS: u64 = 86_400_000;

/// A day (UTC), by its number since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    /// The day with a number.
    pub fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Its number since 1970-01-01.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The day in which an event was accepted.
    pub fn of(event: EventId) -> Self {
        // 48 bits of milliseconds are fewer than 2^22 days.
        Self((event.millis() / DAY_MS) as u32)
    }

    /// The day of a moment; the first one for anything before it.
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self(u32::try_from(time::to_millis(moment) / DAY_MS).unwrap_or(u32::MAX))
    }

    /// The day of a calendar date; the first one for anything before it.
    pub fn on(date: NaiveDate) -> Self {
        Self::at(date.and_time(chrono::NaiveTime::MIN).and_utc())
    }

    /// The calendar date.
    pub fn date(self) -> NaiveDate {
        time::from_millis(u64::from(self.0) * DAY_MS).date_naive()
    }

    /// The day that comes `days` later.
    pub fn plus(self, days: u32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// The floor of its events' ids.
    pub fn first_id(self) -> EventId {
        EventId::floor(u64::from(self.0) * DAY_MS)
    }

    /// The greatest id that an event of it can have.
    pub fn last_id(self) -> EventId {
        let next = EventId::floor(u64::from(self.plus(1).0) * DAY_MS);
        EventId(uuid::Uuid::from_u128(next.0.as_u128().wrapping_sub(1)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date().format("%Y-%m-%d"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// What a store knows of a day that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFacts {
    /// Which.
    pub day: Day,
    /// The day that it is by the store's clock.
    pub today: Day,
    /// Its events; none while nobody has counted them, which is done when it could go.
    pub events: Option<u64>,
    /// Whether it lies wholly below the mark W: nothing of it is pending, save what waits for a next
    /// try, and nothing can be added to it.
    pub below_mark: bool,
    /// The longest retention of a tenant with events in it, in days; 0: for ever.
    pub kept_days: u32,
    /// Its events that were begun or wait for a next try.
    pub waiting: u64,
    /// Its dead letters that nobody has discarded.
    pub dead: u64,
    /// Its approvals without a verdict.
    pub unjudged: u64,
    /// Its events that an outbox row names.
    pub unpublished: u64,
    /// Tenants under legal hold with events in it; ten at most.
    pub held: Vec<TenantId>,
}

/// Why a day stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stay {
    /// Somebody's events in it are kept for ever.
    ForEver,
    /// Its retention is not over: it may go on the day named, not before.
    Young(Day),
    /// It does not lie wholly below the mark W: something of it, or before it, is not decided.
    AboveMark,
    /// So many of its events were begun, or wait for a next try.
    Waiting(u64),
    /// So many of its dead letters wait for a person.
    DeadLetters(u64),
    /// So many of its approvals wait for a person.
    Approvals(u64),
    /// So many of its events are not known to be published.
    Unpublished(u64),
    /// Tenants with events in it are under legal hold.
    Held(Vec<TenantId>),
}

impl DayFacts {
    /// Everything that speaks for keeping the day; nothing when it may go.
    pub fn stays(&self) -> Vec<Stay> {
        let mut reasons = Vec::new();
        let goes = self.day.plus(1).plus(self.kept_days);
        if self.kept_days == 0 {
            reasons.push(Stay::ForEver);
        } else if goes > self.today {
            reasons.push(Stay::Young(goes));
        }
        if !self.below_mark {
            reasons.push(Stay::AboveMark);
        }
        let some = |n: u64, reason: fn(u64) -> Stay| (n > 0).then(|| reason(n));
        reasons.extend(some(self.waiting, Stay::Waiting));
        reasons.extend(some(self.dead, Stay::DeadLetters));
        reasons.extend(some(self.unjudged, Stay::Approvals));
        reasons.extend(some(self.unpublished, Stay::Unpublished));
        if !self.held.is_empty() {
            reasons.push(Stay::Held(self.held.clone()));
        }
        reasons
    }
}

impl Stay {
    /// Its stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ForEver => "for_ever",
            Self::Young(_) => "young",
            Self::AboveMark => "above_mark",
            Self::Waiting(_) => "waiting",
            Self::DeadLetters(_) => "dead_letters",
            Self::Approvals(_) => "approvals",
            Self::Unpublished(_) => "unpublished",
            Self::Held(_) => "held",
        }
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForEver => f.write_str("kept for ever"),
            Self::Young(goes) => write!(f, "kept until {goes}"),
            Self::AboveMark => f.write_str("not everything up to its end is decided"),
            Self::Waiting(n) => write!(f, "{n} events wait for their next try"),
            Self::DeadLetters(n) => write!(f, "{n} dead letters wait for somebody"),
            Self::Approvals(n) => write!(f, "{n} approvals wait for somebody"),
            Self::Unpublished(n) => write!(f, "{n} events are not known to be published"),
            Self::Held(tenants) => {
                let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
                write!(f, "legal hold on {}", names.join(", "))
            }
        }
    }
}

/// A day whose events and decisions are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredDay {
    /// Which.
    pub day: Day,
    /// Events that went.
    pub events: u64,
    /// Decisions and dead letters that went.
    pub decisions: u64,
    /// When.
    pub at: DateTime<Utc>,
}

/// Every day that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired(BTreeMap<Day, ExpiredDay>);

impl Expired {
    /// The day of an event, if it is gone: what is not stored of the event is no fault then.
    pub fn of(&self, event: EventId) -> Option<&ExpiredDay> {
        self.0.get(&Day::of(event))
    }

    /// As [`check_stored`], but what retention has dropped is missing by right.
    ///
    /// # Errors
    /// [`Fault::Stored`], or [`Fault::Missing`] for what is of no day that is gone.
    pub fn check_stored(&self, body: &AuditBody, event: Option<&[u8]>, decision: Option<&[u8]>) -> Result<(), Fault> {
        match check_stored(body, event, decision) {
            Err(Fault::Missing { .. }) if body.event_id.is_some_and(|id| self.of(id).is_some()) => Ok(()),
            checked => checked,
        }
    }

    /// The days, the oldest first.
    pub fn days(&self) -> impl Iterator<Item = &ExpiredDay> {
        self.0.values()
    }
}

impl FromIterator<ExpiredDay> for Expired {
    fn from_iter<I: IntoIterator<Item = ExpiredDay>>(days: I) -> Self {
        Self(days.into_iter().map(|expired| (expired.day, expired)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day of a hundred days ago that may go.
    fn facts() -> DayFacts {
        DayFacts {
            day: Day(19_000),
            today: Day(19_100),
            events: Some(3),
            below_mark: true,
            kept_days: 30,
            waiting: 0,
            dead: 0,
            unjudged: 0,
            unpublished: 0,
            held: Vec::new(),
        }
    }

    #[test]
    fn a_day_is_the_ids_between_two_midnights() {
        let day = Day::at(time::from_millis(1_700_000_000_000));
        assert_eq!(day.to_string(), "2023-11-14");
        assert_eq!(Day::on(day.date()), day);
        for (id, want) in [
            (day.first_id(), day),
            (day.last_id(), day),
            (EventId::mint(1_700_000_000_000, [0xff; 10]), day),
            (EventId(uuid::Uuid::from_u128(day.last_id().0.as_u128() + 1)), day.plus(1)),
            (EventId(uuid::Uuid::from_u128(day.first_id().0.as_u128() - 1)), Day(day.0 - 1)),
        ] {
            assert_eq!(Day::of(id), want, "{id}");
        }
    }

    #[test]
    fn each_reason_alone_keeps_a_day() {
        assert_eq!(facts().stays(), []);
        let tenant = TenantId::parse("acme").expect("legal");
        let cases: [(DayFacts, Stay); 9] = [
            (DayFacts { kept_days: 0, ..facts() }, Stay::ForEver),
            (DayFacts { kept_days: 100, ..facts() }, Stay::Young(Day(19_101))),
            (DayFacts { today: Day(19_030), ..facts() }, Stay::Young(Day(19_031))),
            (DayFacts { below_mark: false, ..facts() }, Stay::AboveMark),
            (DayFacts { waiting: 1, ..facts() }, Stay::Waiting(1)),
            (DayFacts { dead: 2, ..facts() }, Stay::DeadLetters(2)),
            (DayFacts { unjudged: 3, ..facts() }, Stay::Approvals(3)),
            (DayFacts { unpublished: 4, ..facts() }, Stay::Unpublished(4)),
            (DayFacts { held: vec![tenant.clone()], ..facts() }, Stay::Held(vec![tenant])),
        ];
        for (facts, want) in cases {
            assert_eq!(facts.stays(), [want]);
        }
        assert_eq!(DayFacts { kept_days: 99, ..facts() }.stays(), [], "its last day of retention is over");
    }
}
