//! `seaway price`: what a model costs, by which entry, and what the rules make of it.

use std::process::ExitCode;

use jiff::civil::Date;
use seaway_wire::price::{Price, Rates, WEB_SEARCH};
use serde_json::{Value, json};

use super::args::{Cli, PriceOptions};
use crate::config::{AS_LISTED, Config, PriceBook, PriceEntry, near};
use crate::record::dollars;

pub(super) fn run(cli: &Cli, options: &PriceOptions) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let day = options.at.unwrap_or_else(|| crate::config::day(jiff::Timestamp::now()));
    let Some(model) = &options.model else {
        list(&config.prices, day, options.json, |_| true)?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some((entry, price)) = config.prices.find(model, day) else {
        // A family's name, or another part of one: all that have it.
        let parts = |entry: &PriceEntry| entry.models.0.contains(model.as_str());
        anyhow::ensure!(config.prices.entries().iter().any(parts), "{}", unknown(&config, model));
        list(&config.prices, day, options.json, parts)?;
        return Ok(ExitCode::SUCCESS);
    };
    if options.json {
        let told = told(&config.prices, entry, price, day);
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        explain(&config, model, entry, price, day);
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(config: &Config, model: &str) -> String {
    if let Some((_, target)) = config.aliases.iter().find(|(alias, _)| alias.matches(model)) {
        return format!("`{model}` is an alias for `{target}`: ask for that");
    }
    let names = config.prices.entries().iter().map(|entry| entry.models.0.as_str());
    let near = near(model, names).map(|near| format!(" (is it one of `{near}`?)"));
    format!(
        "there is no price for `{model}`{}: its requests are counted in tokens, and `[price.\"{model}\"]` with `input` and `output` sets one",
        near.unwrap_or_default()
    )
}

fn list(
    book: &PriceBook,
    day: Date,
    json: bool,
    wanted: impl Fn(&PriceEntry) -> bool,
) -> anyhow::Result<()> {
    let priced = book
        .entries()
        .iter()
        .filter(|entry| wanted(entry))
        .filter_map(|entry| Some((entry, entry.at(day)?)));
    if json {
        let all: Vec<Value> = priced.map(|(entry, price)| told(book, entry, price, day)).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("US dollars for a million tokens on {day}, prices of {}", book.version());
    println!(
        "{:<26}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "models", "input", "output", "read", "write", "1 hour"
    );
    for (entry, price) in priced {
        println!(
            "{:<26}{}{}",
            entry.models.0,
            columns(&price.rates),
            if entry.own { "  yours" } else { "" }
        );
        for (what, rates) in variants(price) {
            println!("{:<26}{}", format!("  {what}"), columns(rates));
        }
    }
    Ok(())
}

fn columns(rates: &Rates) -> String {
    let all =
        [rates.input, rates.output, rates.cache_read, rates.cache_write, rates.cache_write_1h];
    all.iter().map(|micros| format!("{:>9}", amount(*micros))).collect()
}

/// Dollars with as many digits as there are, and two at the least.
fn amount(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let short = text.trim_end_matches('0');
    let least = text.len() - 4;
    text[..short.len().max(least)].to_owned()
}

/// What a request has other rates for.
fn variants(price: &Price) -> Vec<(String, &Rates)> {
    let fast = price.fast.as_ref().map(|rates| ("fast".to_owned(), rates));
    let long = price.long.as_ref().map(|(above, rates)| (format!("above {above}"), rates));
    fast.into_iter().chain(long).collect()
}

fn explain(config: &Config, model: &str, entry: &PriceEntry, price: &Price, day: Date) {
    println!("model     {model}");
    println!(
        "by        `{}`, {} ({})",
        entry.models.0,
        if entry.own { "your [price]" } else { "the list that ships" },
        config.prices.version()
    );
    println!("on        {day}");
    let line = |rates: &Rates| {
        format!(
            "${} in, ${} out, ${} cache read, ${} cache write (${} for an hour)",
            amount(rates.input),
            amount(rates.output),
            amount(rates.cache_read),
            amount(rates.cache_write),
            amount(rates.cache_write_1h)
        )
    };
    println!("a million {}", line(&price.rates));
    for (what, rates) in variants(price) {
        let when = if what == "fast" {
            "where it was served fast".to_owned()
        } else {
            format!("for a prompt {what} tokens, every token of that request")
        };
        println!("          {}, {when}", line(rates));
    }
    println!(
        "rules     × 1.1 where `inference_geo` is `us`; half in a batch; ${} a web search; each sampling by its own length and model",
        amount(WEB_SEARCH)
    );
    for upstream in &config.upstreams {
        let multiplier = config.prices.multiplier(Some(&upstream.name));
        if multiplier != AS_LISTED {
            println!("at        {}: × {}", upstream.name.0, amount(multiplier));
        }
    }
}

fn told(book: &PriceBook, entry: &PriceEntry, price: &Price, day: Date) -> Value {
    let rates = |rates: &Rates| {
        json!({"input": dollars(rates.input), "output": dollars(rates.output), "cache_read": dollars(rates.cache_read),
            "cache_write": dollars(rates.cache_write), "cache_write_1h": dollars(rates.cache_write_1h)})
    };
    json!({
        "models": entry.models.0, "own": entry.own, "day": day.to_string(), "book": &**book.version(), "rates": rates(&price.rates),
        "fast": price.fast.as_ref().map(rates), "long": price.long.as_ref().map(|(above, long)| json!({"above": above, "rates": rates(long)})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_two_digits_or_as_many_as_they_need() {
        for (micros, text) in [
            (0, "0.00"),
            (4_000_000, "4.00"),
            (300_000, "0.30"),
            (125_000, "0.125"),
            (1, "0.000001"),
        ] {
            assert_eq!(amount(micros), text);
        }
    }
}
