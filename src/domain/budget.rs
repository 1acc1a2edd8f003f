//! Owns a tenant's budget: how much a month may cost, when somebody is warned, and whether being used up
//! stops the spending. Never reads a clock or a store: month and sum come in as arguments.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use std::fmt;

use super::cost::Micros;
use super::ids::TenantId;
use super::retention::Day;

/// The highest budget: a thousand million units.
pub const BUDGET_MAX: Micros = Micros::new(1_000_000_000_000_000);

/// The most tenants with a budget in one fleet: every worker keeps the list of those that are used up.
pub const BUDGETS_MAX: u32 = 10_000;

/// The share of a budget, in percent, at which somebody is warned, when nothing is said.
pub const WARN_PERCENT: u8 = 80;

/// A calendar month (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month(NaiveDate);

impl Month {
    /// The month of a moment.
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self::of(Day::at(moment))
    }

    /// The month of a day.
    pub fn of(day: Day) -> Self {
        let date = day.date();
        // Every month has a first.
        Self(date.with_day(1).unwrap_or(date))
    }

    /// Its first day.
    pub fn first(self) -> Day {
        Day::on(self.0)
    }

    /// The first day behind it.
    pub fn past(self) -> Day {
        self.0.checked_add_months(Months::new(1)).map_or(Day::numbered(u32::MAX), Day::on)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

/// What is set of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetTerms {
    /// What a month may cost; 0 is used up from the first moment.
    pub monthly: Micros,
    /// The share at which somebody is warned, 1 to 100 percent.
    pub warn_percent: u8,
    /// Whether, once it is used up, nothing more is spent: people decide instead.
    pub stop: bool,
}

/// A tenant's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub tenant: TenantId,
    /// What is set.
    pub terms: BudgetTerms,
    /// When.
    pub set_at: DateTime<Utc>,
    /// By whom.
    pub set_by: String,
}

/// Where a budget stands in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BudgetState {
    /// Below the share at which somebody is warned.
    Ok,
    /// At or above it.
    Warned,
    /// Used up.
    Exhausted,
}

impl BudgetState {
    /// Every state, in the order of their numbers in the store.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warned, Self::Exhausted];

    /// `ok`, `warned` or `exhausted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warned => "warned",
            Self::Exhausted => "exhausted",
        }
    }
}

impl BudgetTerms {
    /// Where it stands when so much is spent.
    pub fn state(&self, spent: Micros) -> BudgetState {
        let share = i128::from(self.monthly.get()) * i128::from(self.warn_percent);
        if spent >= self.monthly {
            BudgetState::Exhausted
        } else if i128::from(spent.get()) * 100 >= share {
            BudgetState::Warned
        } else {
            BudgetState::Ok
        }
    }

    /// As an audit record tells it.
    pub fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "monthly_micros": self.monthly.get(), "warn_percent": self.warn_percent, "stop": self.stop
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time;

    fn day(text: &str) -> Day {
        Day::on(text.parse().expect("a date"))
    }

    #[test]
    fn a_month_is_its_days_and_no_other() {
        for (of, first, past, text) in [
            ("2026-11-22", "2026-11-01", "2026-12-01", "2026-11"),
            ("2026-12-31", "2026-12-01", "2027-01-01", "2026-12"),
            ("2028-02-29", "2028-02-01", "2028-03-01", "2028-02"),
        ] {
            let month = Month::of(day(of));
            assert_eq!((month.first(), month.past(), month.to_string()), (day(first), day(past), text.into()));
        }
        let last = time::from_millis(1_798_761_599_999);
        assert_eq!((Month::at(last).to_string(), Day::at(last).to_string()), ("2026-12".into(), "2026-12-31".into()));
    }

    #[test]
    fn a_budget_is_warned_of_at_its_share_and_used_up_at_its_whole() {
        let terms = |monthly, warn_percent| BudgetTerms { monthly: Micros::new(monthly), warn_percent, stop: true };
        for (monthly, percent, spent, state) in [
            (1_000, 80, 799, BudgetState::Ok),
            (1_000, 80, 800, BudgetState::Warned),
            (1_000, 80, 999, BudgetState::Warned),
            (1_000, 80, 1_000, BudgetState::Exhausted),
            (3, 50, 1, BudgetState::Ok),
            (3, 50, 2, BudgetState::Warned),
            (0, 80, 0, BudgetState::Exhausted),
            (BUDGET_MAX.get(), 100, BUDGET_MAX.get() - 1, BudgetState::Ok),
        ] {
            assert_eq!(terms(monthly, percent).state(Micros::new(spent)), state, "{spent} of {monthly}");
        }
    }
}
