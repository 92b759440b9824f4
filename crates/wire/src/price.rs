//! What tokens cost, in integers: a price never loses a fraction on its way.

use crate::Usage;

/// Micro-dollars for a million tokens of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    /// For five minutes.
    pub cache_write: u64,
    pub cache_write_1h: u64,
}

impl Price {
    /// Returns what `usage` costs, in micro-dollars; half of one counts as one.
    pub fn cost(&self, usage: Usage) -> u64 {
        let for_minutes = usage.cache_write.saturating_sub(usage.cache_write_1h);
        let parts = [
            (usage.input, self.input),
            (usage.output, self.output),
            (usage.cache_read, self.cache_read),
            (for_minutes, self.cache_write),
            (usage.cache_write_1h, self.cache_write_1h),
        ];
        let sum = parts.iter().fold(0_u128, |sum, (tokens, price)| {
            sum.saturating_add(u128::from(*tokens) * u128::from(*price))
        });
        u64::try_from(sum.saturating_add(500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SONNET: Price = Price {
        input: 3_000_000,
        output: 15_000_000,
        cache_read: 300_000,
        cache_write: 3_750_000,
        cache_write_1h: 6_000_000,
    };

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = |input, output, cache_read, cache_write, cache_write_1h| Usage {
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            thinking: 9,
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
            (usage(u64::MAX, u64::MAX, u64::MAX, u64::MAX, 0), u64::MAX),
        ];
        for (usage, cost) in cases {
            assert_eq!(SONNET.cost(usage), cost, "{usage:?}");
        }
    }
}
