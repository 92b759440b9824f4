//! What tokens cost, by the price table of the configuration.

use crate::config::{Glob, Price};
use crate::store::Row;

/// Returns the cost in US dollars, or `None` for a model without a price.
#[must_use]
pub fn cost(prices: &[(Glob, Price)], row: &Row) -> Option<f64> {
    let (_, price) = prices.iter().find(|(glob, _)| glob.matches(&row.model))?;
    let short = row.cache_write.saturating_sub(row.cache_write_1h);
    let parts = [(row.input, price.input), (row.output, price.output), (row.cache_read, price.cache_read), (short, price.cache_write), (row.cache_write_1h, price.cache_write_1h)];
    Some(parts.iter().map(|(tokens, price)| million(*tokens) * price).sum())
}

#[expect(clippy::cast_precision_loss, reason = "a count of tokens that large costs more than there is")]
fn million(tokens: u64) -> f64 {
    tokens as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_has_no_cost() {
        let price = Price { input: 1.0, output: 10.0, cache_read: 0.1, cache_write: 1.25, cache_write_1h: 2.0 };
        let prices = [(Glob("known-*".into()), price)];
        let mut row = Row {
            day: String::new(),
            model: "known-1".into(),
            caller: String::new(),
            requests: 1,
            failed: 0,
            input: 1_000_000,
            output: 100_000,
            cache_read: 1_000_000,
            cache_write: 2_000_000,
            cache_write_1h: 1_000_000,
        };
        assert!((cost(&prices, &row).unwrap() - (1.0 + 1.0 + 0.1 + 1.25 + 2.0)).abs() < 1e-9);
        row.model = "new".into();
        assert_eq!(cost(&prices, &row), None);
    }
}
