//! What tokens cost, in integers: a price never loses a fraction on its way.

use crate::usage::{Iteration, Served, Usage};

/// Micro-dollars for a million tokens of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    /// For five minutes.
    pub cache_write: u64,
    pub cache_write_1h: u64,
}

/// What a model costs. The rules beside its rates are Anthropic's for all models, as of 2026-11-29.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub rates: Rates,
    /// Where it was served fast; the same otherwise.
    pub fast: Option<Rates>,
    /// For a prompt of more tokens than these: for every token of it, and of its answer.
    pub long: Option<(u64, Rates)>,
}

/// In micro-dollars: ten dollars for a thousand.
pub const WEB_SEARCH: u64 = 10_000;

impl Price {
    /// The rates of one sampling.
    pub fn rates(&self, usage: &Usage, served: Served) -> &Rates {
        match (&self.fast, &self.long) {
            (Some(fast), _) if served.fast => fast,
            (_, Some((above, long))) if usage.prompt() > *above => long,
            _ => &self.rates,
        }
    }
}

impl Rates {
    /// What tokens cost, in millionths of a micro-dollar.
    fn sum(&self, usage: &Usage) -> u128 {
        let for_minutes = usage.cache_write.saturating_sub(usage.cache_write_1h);
        let parts = [
            (usage.input, self.input),
            (usage.output, self.output),
            (usage.cache_read, self.cache_read),
            (for_minutes, self.cache_write),
            (usage.cache_write_1h, self.cache_write_1h),
        ];
        parts.iter().fold(0, |sum: u128, (tokens, rate)| {
            sum.saturating_add(u128::from(*tokens) * u128::from(*rate))
        })
    }
}

/// Returns what a request costs, in micro-dollars; half of one counts as one. `None` where one of the models that worked on it has no price.
///
/// `price` finds the price of a model: of the one that answered, or of the one that is named. `multiplier` is in millionths.
pub fn cost<'p>(
    usage: &Usage,
    iterations: &[Iteration],
    multiplier: u64,
    mut price: impl FnMut(Option<&str>) -> Option<&'p Price>,
) -> Option<u64> {
    let mut one = |model: Option<&str>, tokens: &Usage| {
        Some(price(model)?.rates(tokens, usage.served).sum(tokens))
    };
    let sum = if iterations.is_empty() {
        one(None, usage)?
    } else {
        let mut sums = iterations.iter().map(|each| one(each.model.as_deref(), &each.usage));
        sums.try_fold(0_u128, |sum, each| Some(sum.saturating_add(each?)))?
    };
    // Eleven tenths in the United States, half in a batch: of tokens, not of searches.
    let (above, below) = match (usage.served.in_us, usage.served.in_batch) {
        (false, false) => (1, 1),
        (true, false) => (11, 10),
        (false, true) => (1, 2),
        (true, true) => (11, 20),
    };
    let searches = u128::from(usage.web_searches) * u128::from(WEB_SEARCH) * 1_000_000 * below;
    let all = sum.saturating_mul(above).saturating_add(searches);
    // One division at the end: nothing is rounded twice.
    let whole = 1_000_000 * 1_000_000 * below;
    let all = all.saturating_mul(u128::from(multiplier)).saturating_add(whole / 2) / whole;
    Some(u64::try_from(all).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1_000_000;

    const fn rates(input: u64, output: u64, cache_read: u64) -> Rates {
        Rates { input, output, cache_read, cache_write: input * 5 / 4, cache_write_1h: input * 2 }
    }

    const SONNET: Price =
        Price { rates: rates(3 * ONE, 15 * ONE, ONE * 3 / 10), fast: None, long: None };
    const OPUS: Price = Price {
        rates: rates(5 * ONE, 25 * ONE, ONE / 2),
        fast: Some(rates(10 * ONE, 50 * ONE, ONE)),
        long: None,
    };
    const HAIKU: Price = Price {
        rates: rates(ONE / 10, ONE / 2, ONE / 100),
        fast: None,
        long: Some((100_000, rates(ONE / 2, ONE * 5 / 2, ONE / 20))),
    };

    fn of(price: &Price, usage: Usage) -> u64 {
        cost(&usage, &[], ONE, |_| Some(price)).unwrap()
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = |input, output, cache_read, cache_write, cache_write_1h| Usage {
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            thinking: 9,
            ..Usage::default()
        };
        let cases = [
            (usage(1, 0, 0, 0, 0), 3),
            (usage(0, 1, 0, 0, 0), 15),
            (usage(0, 0, 1, 0, 0), 0),
            (usage(0, 0, 2, 0, 0), 1),
            (usage(0, 0, 10, 0, 0), 3),
            (usage(0, 0, 0, 4, 0), 15),
            (usage(0, 0, 0, 4, 4), 24),
            (usage(0, 0, 0, 4, 1), 17),
            (usage(0, 0, 0, 0, 7), 42),
            (
                usage(1_000_000, 100_000, 1_000_000, 2_000_000, 1_000_000),
                3_000_000 + 1_500_000 + 300_000 + 3_750_000 + 6_000_000,
            ),
        ];
        for (usage, cost) in cases {
            assert_eq!(of(&SONNET, usage), cost, "{usage:?}");
        }
        let most = usage(u64::MAX, u64::MAX, u64::MAX, u64::MAX, 0);
        assert!(of(&SONNET, most) >= u64::MAX / 1_000_000, "as much as there can be, and no panic");
    }

    #[test]
    fn how_it_was_served_has_its_price() {
        let usage = |served, web_searches| Usage {
            input: 1000,
            output: 100,
            served,
            web_searches,
            ..Usage::default()
        };
        let served = |fast, in_us, in_batch| Served { fast, in_us, in_batch };
        for (price, usage, cost) in [
            (&OPUS, usage(served(false, false, false), 0), 7_500),
            (&OPUS, usage(served(true, false, false), 0), 15_000),
            (&OPUS, usage(served(false, true, false), 0), 8_250),
            (&OPUS, usage(served(false, false, true), 0), 3_750),
            (&OPUS, usage(served(false, true, true), 0), 4_125),
            (&OPUS, usage(served(false, false, true), 3), 33_750),
            (&OPUS, usage(served(false, true, false), 1), 18_250),
            // Without fast rates of its own: the usual ones.
            (&SONNET, usage(served(true, false, false), 0), 4_500),
        ] {
            assert_eq!(of(price, usage), cost, "{usage:?}");
        }
    }

    #[test]
    fn a_long_prompt_costs_more_for_every_token_of_that_request() {
        let usage = |input, cache_read, cache_write| Usage {
            input,
            output: 1000,
            cache_read,
            cache_write,
            ..Usage::default()
        };
        assert_eq!(of(&HAIKU, usage(100_000, 0, 0)), 10_000 + 500);
        assert_eq!(of(&HAIKU, usage(100_001, 0, 0)), 50_001 + 2_500);
        assert_eq!(of(&HAIKU, usage(1, 60_000, 40_000)), 3_000 + 25_000 + 2_500 + 1);
    }

    #[test]
    fn samplings_are_what_is_billed_each_by_its_model_and_its_length() {
        let iteration = |model: Option<&str>, input| Iteration {
            model: model.map(str::to_owned),
            usage: Usage { input, ..Usage::default() },
        };
        let usage = Usage { input: 150_000, ..Usage::default() };
        let price = |model: Option<&str>| match model {
            None => Some(&HAIKU),
            Some("opus") => Some(&OPUS),
            Some(_) => None,
        };
        let check = |iterations: &[Iteration], expect| {
            assert_eq!(cost(&usage, iterations, ONE, price), expect, "{iterations:?}");
        };
        check(&[], Some(75_000));
        check(&[iteration(None, 75_000), iteration(None, 75_000)], Some(15_000));
        check(&[iteration(None, 75_000), iteration(Some("opus"), 1000)], Some(7_500 + 5_000));
        check(&[iteration(None, 1), iteration(Some("new"), 1)], None);
    }

    #[test]
    fn access_that_is_sold_on_has_a_multiplier() {
        let usage = Usage { input: 1000, web_searches: 1, ..Usage::default() };
        for (multiplier, expect) in [(0, 0), (ONE / 2, 6_500), (ONE * 5 / 4, 16_250), (1, 0)] {
            assert_eq!(cost(&usage, &[], multiplier, |_| Some(&SONNET)), Some(expect));
        }
    }
}
