//! Owns money and prices: what a decision costs, in whole millionths of the fleet's currency unit. Never
//! uses floating point, never rounds in anybody's favour but upwards, and never reads a setting.
//!
//! # Decisions
//! A decision is priced when it is made, by the prices of that moment, and its cost is stored with it: a
//! price that changes later changes no month that people have been shown.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::version::{VersionName, VersionRef};

/// Millionths in a unit.
const UNIT: i64 = 1_000_000;

/// Places behind the point.
const PLACES: usize = 6;

/// The highest price, of a decision and of 1,000 tokens.
pub const PRICE_MAX: Micros = Micros(1_000 * UNIT);

/// The most that one decision costs, whatever its tokens: a tenant's day of ten thousand million of them still
/// fits the sum that the store keeps, so that no price can make a commit fail.
pub const COST_MAX: Micros = Micros(1_000 * UNIT);

/// The model of a decision whose audit record names none.
pub const UNKNOWN_MODEL: &str = "unknown";

/// An amount of money, 0 or more, in millionths of the fleet's currency unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Micros(i64);

/// A text that is no amount; completes "must be …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a decimal number, 0 or more, with at most 6 places (0.002)")]
pub struct BadAmount;

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many millionths; 0 for a negative number.
    pub const fn new(millionths: i64) -> Self {
        if millionths < 0 { Self::ZERO } else { Self(millionths) }
    }

    /// The millionths.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum; saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl FromStr for Micros {
    type Err = BadAmount;

    /// Reads a decimal exactly: digits, and after a point one to six more.
    fn from_str(raw: &str) -> Result<Self, BadAmount> {
        let (whole, rest) = raw.split_once('.').map_or((raw, None), |(whole, rest)| (whole, Some(rest)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let places = rest.unwrap_or("0");
        if !digits(whole) || !digits(places) || places.len() > PLACES {
            return Err(BadAmount);
        }
        let parsed = |text: &str| text.parse::<i64>().map_err(|_| BadAmount);
        let millionths = parsed(&format!("{places:0<PLACES$}"))?;
        let units = parsed(whole)?.checked_mul(UNIT).and_then(|units| units.checked_add(millionths));
        units.map(Self).ok_or(BadAmount)
    }
}

impl fmt::Display for Micros {
    /// As a decimal without needless places: `25`, `0.002`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, millionths) = (self.0 / UNIT, self.0 % UNIT);
        if millionths == 0 {
            return write!(f, "{units}");
        }
        let places = format!("{millionths:0>PLACES$}");
        write!(f, "{units}.{}", places.trim_end_matches('0'))
    }
}

/// What one model costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// Each decision.
    pub per_decision: Micros,
    /// Each 1,000 tokens.
    pub per_1000_tokens: Micros,
}

/// What a scorer has used for one decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Whether a scorer was asked and has answered: nobody pays for a score that was not given.
    pub scored: bool,
    /// Tokens of a language model; 0 from every scorer that asks none.
    pub tokens: u32,
}

/// What one decision used and costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    /// Tokens of a language model.
    pub tokens: u32,
    /// By the prices of its moment.
    pub cost: Micros,
}

impl Charge {
    /// The JSON that is shown; null where nothing was used and nothing is to be paid.
    pub fn view(&self) -> Value {
        if *self == Self::default() {
            return Value::Null;
        }
        json!({ "tokens": self.tokens, "cost_micros": self.cost.get(), "cost": self.cost.to_string() })
    }
}

impl Prices {
    /// What a use costs; the tokens' part is rounded up to a whole millionth.
    pub fn charge(&self, usage: Usage) -> Charge {
        if !usage.scored {
            return Charge { tokens: usage.tokens, cost: Micros::ZERO };
        }
        let of_tokens = (i128::from(self.per_1000_tokens.0) * i128::from(usage.tokens) + 999) / 1_000;
        let whole = (i128::from(self.per_decision.0) + of_tokens).min(i128::from(COST_MAX.0));
        Charge { tokens: usage.tokens, cost: Micros(i64::try_from(whole).unwrap_or(COST_MAX.0)) }
    }
}

/// Prices of single models, by `name` or `name@version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrices(BTreeMap<String, Prices>);

/// What a list of model prices must look like.
pub const MODEL_PRICES_EXPECTED: &str = "MODEL=PRICE:PRICE, several joined by commas, each model once, named as name \
    or name@version: its price of a decision and of 1,000 tokens, from 0 to 1000 with at most 6 places \
    (fraud@3=0.01:0.002,fraud=0.02:0.001)";

impl FromStr for ModelPrices {
    type Err = &'static str;

    /// Reads `fraud@3=0.01:0.002,fraud=0.02:0.001`.
    fn from_str(raw: &str) -> Result<Self, &'static str> {
        let mut models = BTreeMap::new();
        for one in raw.split(',') {
            let (model, prices) = one.trim().split_once('=').ok_or(MODEL_PRICES_EXPECTED)?;
            let (per_decision, per_1000_tokens) = prices.split_once(':').ok_or(MODEL_PRICES_EXPECTED)?;
            let prices = Prices { per_decision: price(per_decision)?, per_1000_tokens: price(per_1000_tokens)? };
            let named = VersionName::parse(model).is_ok() || model.parse::<VersionRef>().is_ok();
            if !named || models.insert(model.to_owned(), prices).is_some() {
                return Err(MODEL_PRICES_EXPECTED);
            }
        }
        Ok(Self(models))
    }
}

fn price(raw: &str) -> Result<Micros, &'static str> {
    raw.parse().ok().filter(|price| *price <= PRICE_MAX).ok_or(MODEL_PRICES_EXPECTED)
}

/// What every model costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceList {
    default: Prices,
    models: ModelPrices,
}

impl PriceList {
    /// Prices for all models, and those that differ.
    pub fn new(default: Prices, models: ModelPrices) -> Self {
        Self { default, models }
    }

    /// The prices of a model, `name@version`: its own, else its name's, else everybody's.
    pub fn of(&self, model: &str) -> Prices {
        let models = &self.models.0;
        let named = || models.get(model.split('@').next().unwrap_or(model));
        models.get(model).or_else(named).copied().unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(raw: &str) -> Micros {
        raw.parse().expect("an amount")
    }

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (raw, millionths) in
            [("0", 0), ("0.002", 2_000), ("25.00", 25_000_000), ("0.000001", 1), ("007.5", 7_500_000)]
        {
            assert_eq!(micros(raw).get(), millionths, "{raw}");
        }
        let far = "99999999999999999999";
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0.0000001", " 1", "1 ", "NaN", "9223372036855", far]
        {
            assert_eq!(bad.parse::<Micros>(), Err(BadAmount), "{bad}");
        }
        assert_eq!((micros("25.50").to_string(), micros("0.002").to_string()), ("25.5".into(), "0.002".into()));
    }

    #[test]
    fn a_models_own_price_goes_over_its_names_and_that_over_everybodys() {
        let models = "fraud@3=0.01:0.002,fraud=0.02:0.001".parse().expect("legal");
        let list = PriceList::new(Prices { per_1000_tokens: micros("0.002"), ..Prices::default() }, models);
        assert_eq!(list.of("fraud@3").per_decision, micros("0.01"));
        assert_eq!(list.of("fraud@4").per_decision, micros("0.02"));
        assert_eq!((list.of("fraudster@3"), list.of("baseline@1")), (list.default, list.default));
        for bad in [
            "",
            "fraud",
            "fraud=1",
            "fraud=1:",
            "=1:1",
            "Fraud=1:1",
            "fraud=1:1,fraud=1:1",
            "fraud@0=1:1",
            "fraud=1000.000001:0",
            "fraud=0.1:0.1,",
        ] {
            assert_eq!(bad.parse::<ModelPrices>(), Err(MODEL_PRICES_EXPECTED), "{bad}");
        }
    }

    #[test]
    fn only_a_score_that_was_given_is_paid_for() {
        let prices = Prices { per_decision: micros("0.01"), per_1000_tokens: micros("0.002") };
        let charge = |scored, tokens| prices.charge(Usage { scored, tokens });
        assert_eq!(charge(false, 0), Charge::default());
        assert_eq!(charge(true, 0).cost, micros("0.01"));
        assert_eq!((charge(true, 1).cost, charge(true, 1_500).cost), (micros("0.010002"), micros("0.013")));
        let dear = Prices { per_decision: PRICE_MAX, per_1000_tokens: PRICE_MAX };
        assert_eq!(dear.charge(Usage { scored: true, tokens: u32::MAX }).cost, COST_MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millionths in 0..i64::MAX) {
            prop_assert_eq!(Micros::new(millionths).to_string().parse(), Ok(Micros::new(millionths)));
        }

        #[test]
        fn rounding_is_up_by_less_than_a_millionth(price in 0..UNIT, tokens in 0..1_000_000_u32) {
            let prices = Prices { per_1000_tokens: Micros(price), ..Prices::default() };
            let cost = i128::from(prices.charge(Usage { scored: true, tokens }).cost.0);
            let exact = i128::from(price) * i128::from(tokens);
            prop_assert!(cost * 1_000 >= exact && cost * 1_000 < exact + 1_000);
        }
    }
}
