//! Owns the settings that say what decisions cost. Reads decimals exactly: a price never goes through a
//! floating point number.

use serde::{Deserialize, Deserializer};
use std::sync::Arc;

use super::Settings;
use crate::domain::cost::{Micros, ModelPrices, PRICE_MAX, PriceList, Prices};

/// What a price must look like.
pub(super) const EXPECTED: &str =
    "a decimal number from 0 to 1000 with at most 6 places, in a settings file in quotes (\"0.002\")";

/// A price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price(Micros);

impl Price {
    /// Reads a decimal.
    ///
    /// # Errors
    /// What was expected, when the text is no such number, or above the highest price.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        raw.parse().ok().filter(|price| *price <= PRICE_MAX).map(Self).ok_or(EXPECTED)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Reads prices of single models.
pub(super) fn of_models<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ModelPrices>, D::Error> {
    let raw = Option::<String>::deserialize(d)?;
    raw.map(|raw| raw.parse().map_err(serde::de::Error::custom)).transpose()
}

impl Settings {
    /// What every model costs.
    pub fn prices(&self) -> Arc<PriceList> {
        let default = Prices { per_decision: self.price_per_decision.0, per_1000_tokens: self.price_per_1000_tokens.0 };
        Arc::new(PriceList::new(default, self.model_prices.clone().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_decimal_within_bounds() {
        for good in ["0", "0.002", "1000", "1000.000000"] {
            assert!(Price::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-1", "1000.000001", "0.0000001", "2e-3", "free"] {
            assert_eq!(Price::parse(bad), Err(EXPECTED), "{bad}");
        }
    }
}
