//! Which price a model has.

use seaway_wire::Usage;
use seaway_wire::price::Price;

use super::Glob;

/// Prices by the names of models; the first that matches counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceBook(Vec<(Glob, Price)>);

impl PriceBook {
    pub const fn new(prices: Vec<(Glob, Price)>) -> Self {
        Self(prices)
    }

    /// Returns the price of a model; `None` where none is known.
    pub fn of(&self, model: &str) -> Option<&Price> {
        self.0.iter().find(|(glob, _)| glob.matches(model)).map(|(_, price)| price)
    }

    /// Returns the cost in micro-dollars. What used no token costs nothing, whatever its model.
    pub fn cost(&self, model: &str, usage: Usage) -> Option<u64> {
        if usage == Usage::default() {
            Some(0)
        } else {
            self.of(model).map(|price| price.cost(usage))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_has_no_cost() {
        let price =
            Price { input: 1_000_000, output: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0 };
        let book = PriceBook::new(vec![
            (Glob("known-*".into()), price),
            (Glob("known-1".into()), Price { input: 5, ..price }),
        ]);
        let usage = Usage { input: 7, ..Usage::default() };
        let costs = [("known-1", usage), ("new", usage), ("new", Usage::default())]
            .map(|(model, usage)| book.cost(model, usage));
        assert_eq!(costs, [Some(7), None, Some(0)]);
    }
}
