//! Prices: the list that ships, and what the owner says beside it.

use std::path::Path;

use jiff::civil::Date;
use seaway_wire::price::{Price, Rates};

use super::{BUILT_IN, ConfigReader, below};
use crate::config::layers::ValueOrigin;
use crate::config::{Glob, PriceBook, PriceEntry, UpstreamName};

/// In the place of a pattern: what upstreams take more or less than the list says.
const MULTIPLIER: &str = "multiplier";
/// The day of the list of prices in `defaults.toml`.
const PRICES_OF: &str = "2026-11-29";

impl ConfigReader<'_> {
    pub(super) fn prices(&mut self) -> PriceBook {
        let mut entries = Vec::new();
        for name in self.layers.names("price").into_iter().filter(|name| name != MULTIPLIER) {
            if let Some(entry) = self.price_entry(&name) {
                entries.push(entry);
            }
        }
        let multipliers = self.multipliers();
        PriceBook::new(PRICES_OF, entries, multipliers)
    }

    /// What is said of the models by one name.
    fn price_entry(&mut self, name: &str) -> Option<PriceEntry> {
        let Some(price) = self.price(name, None, None) else {
            self.layers.mistake(
                ValueOrigin::Default,
                format!("price.\"{name}\": needs both `input` and `output`"),
            );
            return None;
        };
        let mut since = vec![(Date::MIN, price)];
        let mut days = self.days_of(name);
        days.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (day, origin) in days {
            let before = since.last().map(|(_, price)| *price);
            match day.parse::<Date>() {
                Ok(date) => since.extend(
                    self.price(name, Some(&day), before.as_ref()).map(|price| (date, price)),
                ),
                Err(_) => self.layers.mistake(
                    origin,
                    format!("price.\"{name}\".from.\"{day}\": a day is written as 2026-10-07"),
                ),
            }
        }
        let own = self.layers.iter().any(|(key, (_, origin))| {
            matches!(key.as_slice(), [group, of, ..] if group == "price" && of == name)
                && !is_built_in(origin)
        });
        self.halves(name);
        Some(PriceEntry { models: Glob(name.to_owned()), own, since })
    }

    /// Refuses what is said by halves, and would count for nothing.
    fn halves(&mut self, name: &str) {
        for (group, parts) in
            [("fast", &["input", "output"][..]), ("long", &["above", "input", "output"])]
        {
            let has = |part: &str| {
                self.layers.get(&below("price", name, &format!("{group}.{part}"))).is_some()
            };
            let said = ["above", "input", "output", "cache_read"].iter().any(|part| has(part));
            if said && let Some(missing) = parts.iter().find(|part| !has(part)) {
                let text = format!("price.\"{name}\".{group}: needs `{missing}` too");
                self.layers.mistake(ValueOrigin::Default, text);
            }
        }
    }

    /// The days from which on the models by one name have other prices. Where the owner says a price, the days of what ships do not count.
    fn days_of(&self, name: &str) -> Vec<(String, ValueOrigin)> {
        let mut days: Vec<(String, ValueOrigin)> = Vec::new();
        let own = ["input", "output"].iter().any(|rest| {
            self.layers
                .get(&below("price", name, rest))
                .is_some_and(|(_, origin)| !is_built_in(origin))
        });
        for (key, (_, origin)) in self.layers.iter() {
            if let [group, of, from, day, _] = key.as_slice()
                && group == "price"
                && of == name
                && from == "from"
                && !(own && is_built_in(origin))
                && days.iter().all(|(known, _)| known != day)
            {
                days.push((day.clone(), origin.clone()));
            }
        }
        days
    }

    /// The price of the models by one name, or what it is from a day on; what is not said then stays as it was before.
    fn price(&self, name: &str, day: Option<&str>, before: Option<&Price>) -> Option<Price> {
        let input = self.layers.get(&below("price", name, "input"));
        let own = input.is_some_and(|(_, origin)| !is_built_in(origin));
        let amount = |rest: &str| {
            let mut key = vec!["price".to_owned(), name.to_owned()];
            key.extend(day.iter().flat_map(|day| ["from".to_owned(), (*day).to_owned()]));
            key.extend(rest.split('.').map(str::to_owned));
            // What ships hangs on the input's price that ships.
            let hangs = !matches!(rest, "input" | "output");
            if own && hangs && self.layers.get(&key).is_some_and(|(_, origin)| is_built_in(origin))
            {
                return None;
            }
            self.get(&key).and_then(|value| value.amount())
        };
        let rates = |prefix: &str, other: Option<&Rates>| {
            let said = |rest: &str| amount(&format!("{prefix}{rest}")).map(micros);
            let input = said("input").or(other.map(|other| other.input))?;
            let output = said("output").or(other.map(|other| other.output))?;
            // What hangs on the input's price goes with it.
            let same = other.filter(|other| other.input == input);
            let of = |rest: &str, same: Option<u64>, parts: u64| {
                said(rest).or(same).unwrap_or(input.saturating_mul(parts) / 100)
            };
            Some(Rates {
                input,
                output,
                cache_read: of("cache_read", same.map(|same| same.cache_read), 10),
                cache_write: of("cache_write", same.map(|same| same.cache_write), 125),
                cache_write_1h: of("cache_write_1h", same.map(|same| same.cache_write_1h), 200),
            })
        };
        let above = amount("long.above").map(|tokens| micros(tokens) / 1_000_000);
        let long = above.and_then(|above| Some((above, rates("long.", None)?)));
        Some(Price {
            rates: rates("", before.map(|before| &before.rates))?,
            fast: rates("fast.", None).or(before.and_then(|before| before.fast)),
            long: long.or(before.and_then(|before| before.long)),
        })
    }

    /// By upstream.
    fn multipliers(&mut self) -> Vec<(UpstreamName, u64)> {
        let set: Vec<(String, u64, ValueOrigin)> = self
            .layers
            .iter()
            .filter_map(|(key, (value, origin))| match key.as_slice() {
                [group, word, name] if group == "price" && word == MULTIPLIER => {
                    Some((name.clone(), micros(value.amount()?), origin.clone()))
                }
                _ => None,
            })
            .collect();
        let known = self.layers.names("upstream");
        let mut found = Vec::new();
        for (name, multiplier, origin) in set {
            if known.contains(&name) {
                found.push((UpstreamName(name.into()), multiplier));
            } else {
                let text = format!("price.multiplier.{name}: there is no upstream `{name}`");
                self.layers.mistake(origin, text);
            }
        }
        found
    }
}

fn is_built_in(origin: &ValueOrigin) -> bool {
    match origin {
        ValueOrigin::Default => true,
        ValueOrigin::File { path, .. } => path == Path::new(BUILT_IN),
        ValueOrigin::Flag(_) | ValueOrigin::Variable(_) => false,
    }
}

/// Micro-dollars of dollars.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an amount is not negative, and so many dollars nobody asks for"
)]
fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, refused};
    use super::*;

    /// `tests/prices/make` takes the table out of the program: a stale price is a failing test.
    #[test]
    fn the_list_that_ships_is_what_claude_code_itself_reckons_with() {
        let table: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/prices/claude-code.json")).unwrap();
        let book = load("", &[], &[]).unwrap().config.prices;
        let models = table["models"].as_array().unwrap();
        assert!(models.len() >= 20);
        let rates = |from: &serde_json::Value| {
            let of = |name: &str| micros(from[name].as_f64().unwrap());
            Rates {
                input: of("input"),
                output: of("output"),
                cache_read: of("cache_read"),
                cache_write: of("cache_write"),
                cache_write_1h: of("cache_write_1h"),
            }
        };
        for model in models {
            assert_eq!(
                micros(model["web_search"].as_f64().unwrap()),
                seaway_wire::price::WEB_SEARCH
            );
            for name in model["names"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                let (entry, price) = book
                    .find(name, Date::MAX)
                    .unwrap_or_else(|| panic!("{name} has no price; {}", table["from"]));
                assert!(!entry.own);
                assert_eq!(price.rates, rates(model), "{name} by {}", table["from"]);
                let long = model
                    .get("long")
                    .map(|long| (micros(long["above"].as_f64().unwrap()) / 1_000_000, rates(long)));
                assert_eq!(price.long, long, "{name} with a long prompt");
            }
        }
    }

    #[test]
    fn prices_have_days_multipliers_and_their_mistakes() {
        let text = "[price.'m-*']\ninput = 1\noutput = 2\ncache_read = 0.3\nfast.input = 5\nfast.output = 6\nlong.above = 100\nlong.input = 7\nlong.output = 8\n\
            [price.'m-*'.from.'2027-01-01']\ninput = 3\n[price.multiplier]\nu = 1.25\n[upstream.u]\nkind = 'anthropic'\napi_key = 'k'\n";
        let book = load(text, &[], &[]).unwrap().config.prices;
        let at = |year| book.find("m-1", jiff::civil::date(year, 6, 1)).unwrap().1;
        let (before, after) = (at(2026), at(2027));
        assert_eq!(
            (before.rates.input, before.rates.output, before.rates.cache_read),
            (1_000_000, 2_000_000, 300_000)
        );
        assert_eq!(
            (after.rates.input, after.rates.output, after.rates.cache_read),
            (3_000_000, 2_000_000, 300_000)
        );
        assert_eq!(
            after.fast.map(|fast| (fast.input, fast.cache_read)),
            Some((5_000_000, 500_000))
        );
        assert_eq!(after.long.map(|(above, long)| (above, long.output)), Some((100, 8_000_000)));
        assert_eq!(book.multiplier(Some(&UpstreamName("u".into()))), 1_250_000);
        refused("[price.'m']\ninput = 1\n", &[], "needs both `input` and `output`");
        refused(
            "[price.'m']\ninput = 1\noutput = 2\nfrom.soon.input = 3\n",
            &[],
            "a day is written as 2026-10-07",
        );
        refused(
            "[price.'m']\ninput = 1\noutput = 2\nfast.input = 3\n",
            &[],
            "price.\"m\".fast: needs `output` too",
        );
        refused(
            "[price.'m']\ninput = 1\noutput = 2\nlong.input = 3\nlong.output = 3\n",
            &[],
            "price.\"m\".long: needs `above` too",
        );
        let text = "[price.'m']\ninput = 1\noutput = 2\nfrom.'2027-01-01'.input = 3\nfrom.'2027-06-01'.output = 9\n[price.'claude-opus-5-5*']\ninput = 8\noutput = 40\n";
        let book = load(text, &[], &[]).unwrap().config.prices;
        let rates = |model: &str| book.find(model, jiff::civil::date(2027, 7, 1)).unwrap().1;
        assert_eq!(
            (rates("m").rates.input, rates("m").rates.output),
            (3_000_000, 9_000_000),
            "each day goes on from the one before"
        );
        assert_eq!(
            (rates("claude-opus-5-5").rates.cache_read, rates("claude-opus-5-5").fast),
            (800_000, None),
            "what ships does not hang on the owner's price"
        );
        for (model, input) in [
            ("claude-fable-5-20260401", 10),
            ("claude-fable-5-2", 8),
            ("claude-fable-5-2-20261001", 8),
            ("claude-mythos-5-20260401", 10),
        ] {
            assert_eq!(rates(model).rates.input, input * 1_000_000, "{model}");
        }
        refused("[price.multiplier]\nnobody = 2\n", &[], "there is no upstream `nobody`");
    }
}
