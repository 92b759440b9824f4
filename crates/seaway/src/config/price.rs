//! Which price a model has, and had.

use std::sync::Arc;

use jiff::civil::Date;
use seaway_wire::bound::PromptBound;
use seaway_wire::messages::Summary;
use seaway_wire::price::{self, Price};
use seaway_wire::{Served, Usage};

use super::{Glob, UpstreamName};

/// A multiplier that changes nothing, in millionths.
pub const AS_LISTED: u64 = 1_000_000;

/// The price of the models that match, as it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceEntry {
    pub models: Glob,
    /// By the owner's word, not by the list that ships.
    pub own: bool,
    /// Each from its day on, the earliest first; what comes first was so always.
    pub since: Vec<(Date, Price)>,
}

impl PriceEntry {
    /// The price of a day; of before it was known, the first that is.
    pub fn at(&self, day: Date) -> Option<&Price> {
        let begun = self.since.iter().rev().find(|(since, _)| *since <= day);
        begun.or(self.since.first()).map(|(_, price)| price)
    }
}

/// Prices by the names of models; the first entry that matches counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceBook {
    entries: Vec<PriceEntry>,
    /// What an upstream takes more or less than the list says, in millionths.
    multipliers: Vec<(UpstreamName, u64)>,
    version: Arc<str>,
}

impl PriceBook {
    /// `shipped` is the day of the list that ships.
    pub fn new(
        shipped: &str,
        mut entries: Vec<PriceEntry>,
        multipliers: Vec<(UpstreamName, u64)>,
    ) -> Self {
        for entry in &mut entries {
            entry.since.sort_by_key(|(day, _)| *day);
        }
        let own: Vec<_> = entries.iter().filter(|entry| entry.own).collect();
        let version = if own.is_empty() && multipliers.is_empty() {
            shipped.to_owned()
        } else {
            // Two books of the owner's are told apart by what is in them.
            let hash = blake3::hash(format!("{own:?}{multipliers:?}").as_bytes());
            format!("{shipped}+{}", &hash.to_hex()[..8])
        };
        Self { entries, multipliers, version: version.into() }
    }

    /// The day of the list that ships, with eight hexadecimal digits of what the owner has set beside it.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    pub fn entries(&self) -> &[PriceEntry] {
        &self.entries
    }

    /// Returns the entry of a model, and the price that it had on a day; `None` where none is known.
    pub fn find(&self, model: &str, day: Date) -> Option<(&PriceEntry, &Price)> {
        let entry = self.entries.iter().find(|entry| entry.models.matches(model))?;
        Some((entry, entry.at(day)?))
    }

    /// What an upstream's prices are multiplied with, in millionths.
    pub fn multiplier(&self, upstream: Option<&UpstreamName>) -> u64 {
        let own = self.multipliers.iter().find(|(name, _)| Some(name) == upstream);
        own.map_or(AS_LISTED, |(_, multiplier)| *multiplier)
    }

    /// Returns what the tokens of many requests cost together, in micro-dollars: which of them were long nobody knows any more.
    pub fn of_sum(&self, model: &str, usage: &Usage, day: Date) -> Option<u64> {
        if usage.is_nothing() {
            return Some(0);
        }
        let flat = Price { long: None, ..*self.find(model, day)?.1 };
        price::cost(usage, &[], AS_LISTED, |_| Some(&flat))
    }

    /// Returns the most that a request can cost, in micro-dollars; `None` where its model has no price.
    pub fn worst(
        &self,
        model: &str,
        bound: &PromptBound,
        upstream: Option<&UpstreamName>,
        day: Date,
    ) -> Option<u64> {
        let (_, price) = self.find(model, day)?;
        let multiplier = self.multiplier(upstream);
        // The tier is that of the longest of its prompts.
        let long = price.long.filter(|(above, _)| bound.longest > *above).map(|(_, long)| long);
        let flat = Price { rates: long.unwrap_or(price.rates), fast: price.fast, long: None };
        let usage = Usage {
            output: bound.output,
            web_searches: bound.searches,
            served: Served { fast: false, in_us: bound.in_us, in_batch: false },
            ..Usage::default()
        };
        let read = Usage { input: bound.input, ..usage };
        let written = Usage {
            cache_write: bound.input,
            cache_write_1h: if bound.for_an_hour { bound.input } else { 0 },
            ..usage
        };
        let fast = |usage: Usage| Usage { served: Served { fast: true, ..usage.served }, ..usage };
        let ways = [
            Some(read),
            bound.cached.then_some(written),
            bound.fast.then(|| fast(read)),
            (bound.fast && bound.cached).then(|| fast(written)),
        ];
        let cost = |usage| price::cost(&usage, &[], multiplier, |_| Some(&flat));
        ways.into_iter().flatten().filter_map(cost).max()
    }

    /// Returns the cost in micro-dollars. What used nothing costs nothing, whatever its model.
    pub fn cost(
        &self,
        model: &str,
        summary: &Summary,
        upstream: Option<&UpstreamName>,
        day: Date,
    ) -> Option<u64> {
        let (usage, iterations) = (&summary.usage, &summary.iterations);
        if usage.is_nothing() && iterations.iter().all(|each| each.usage.is_nothing()) {
            return Some(0);
        }
        let of = |named: Option<&str>| Some(self.find(named.unwrap_or(model), day)?.1);
        price::cost(usage, iterations, self.multiplier(upstream), of)
    }
}

/// The day of a time, as prices go.
pub fn day(at: jiff::Timestamp) -> Date {
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use seaway_wire::Iteration;
    use seaway_wire::price::Rates;

    use super::*;

    fn flat(input: u64) -> Price {
        let rates = Rates { input, output: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0 };
        Price { rates, fast: None, long: None }
    }

    fn entry(models: &str, own: bool, since: &[(Date, u64)]) -> PriceEntry {
        let since = since.iter().map(|(day, input)| (*day, flat(*input))).collect();
        PriceEntry { models: Glob(models.into()), own, since }
    }

    fn of(input: u64) -> Summary {
        Summary { usage: Usage { input, ..Usage::default() }, ..Summary::default() }
    }

    #[test]
    fn a_model_has_the_price_of_its_day_and_its_upstream() {
        let (early, late) = (date(2026, 1, 1), date(2026, 10, 7));
        let entries = vec![
            entry("known-*", true, &[(late, 2_000_000), (Date::MIN, 1_000_000)]),
            entry("known-1", false, &[(Date::MIN, 5)]),
            entry("begins-*", false, &[(late, 7_000_000)]),
        ];
        let upstream = UpstreamName("sold".into());
        let book = PriceBook::new("2026-11-29", entries, vec![(upstream.clone(), 1_500_000)]);
        for (model, day, by, expect) in [
            ("known-1", early, None, Some(7)),
            ("known-1", late, None, Some(14)),
            ("known-1", late, Some(&upstream), Some(21)),
            // Of before it was known: the first that is.
            ("begins-1", early, None, Some(49)),
            ("new", late, None, None),
        ] {
            assert_eq!(book.cost(model, &of(7), by, day), expect, "{model} on {day}");
        }
        assert_eq!(book.cost("new", &of(0), None, late), Some(0), "nothing costs nothing");
        let adviser = Iteration { model: Some("new".into()), usage: of(1).usage };
        let by_two = Summary { iterations: vec![adviser], ..of(7) };
        assert_eq!(book.cost("known-1", &by_two, None, late), None, "one of two has no price");
    }

    #[test]
    fn a_book_is_known_by_its_day_and_by_what_the_owner_set() {
        let shipped = || entry("a", false, &[(Date::MIN, 1)]);
        let version =
            |entries, multipliers| PriceBook::new("2026-11-29", entries, multipliers).version;
        let plain = version(vec![shipped()], Vec::new());
        assert_eq!(&*plain, "2026-11-29");
        let own =
            |input| version(vec![entry("a", true, &[(Date::MIN, input)]), shipped()], Vec::new());
        let sold = version(vec![shipped()], vec![(UpstreamName("u".into()), 1)]);
        let all = [&plain, &own(1), &own(2), &sold];
        let different: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), 4, "{different:?}");
        assert_eq!(own(1), own(1));
    }
}
