//! `seaway usage` and `seaway explain`: what the store knows.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::json;

use super::args::{Cli, RequestsOptions, UsageOptions};
use crate::config::{Config, parse_span};
use crate::record::dollars;
use crate::store::{self, Filter, Receipt, RequestFilter, Row, UsageBy, UsageSum};

pub(super) fn run(cli: &Cli, options: &UsageOptions) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let since = since(&options.since)?;
    if let Some(by) = options.by.as_deref().and_then(UsageBy::parse) {
        let sums = match database(&config)? {
            Some(database) => store::usage_by(&database, by, since)?,
            None => Vec::new(),
        };
        if options.json {
            println!("{}", serde_json::to_string_pretty(&sums)?);
        } else {
            sums_table(&sums, by, &options.since);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = match database(&config)? {
        Some(database) => store::usage(&database, &Filter { since })?,
        None => Vec::new(),
    };
    if options.json {
        let rows: Vec<_> = rows.iter().map(with_cost).collect::<Result<_, _>>()?;
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else if options.csv {
        csv(&rows);
    } else {
        table(&rows, &options.since);
    }
    Ok(ExitCode::SUCCESS)
}

/// Sums by one thing, a line each.
fn sums_table(sums: &[UsageSum], by: UsageBy, since: &str) {
    if sums.is_empty() {
        println!("no requests in the last {since}");
        return;
    }
    let wide = sums.iter().map(|sum| sum.name.chars().count()).max().unwrap_or_default().max(10);
    println!(
        "{:<wide$}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        by.name(),
        "requests",
        "failed",
        "input",
        "output",
        "cache",
        "cost"
    );
    for sum in sums {
        let UsageSum { requests, failed, input, output, cache_read, cache_write, .. } = sum;
        let name = if sum.name.is_empty() { "-" } else { &sum.name };
        let cache = cache_read + cache_write;
        let cost = if sum.unpriced < *requests || sum.cost > 0 {
            format!("${:.4}", dollars(sum.cost))
        } else {
            "-".to_owned()
        };
        println!(
            "{name:<wide$}{requests:>12}{failed:>12}{input:>12}{output:>12}{cache:>12}{cost:>12}"
        );
        if !sum.telemetry.is_empty() {
            println!("  {}", sum.telemetry_told());
        }
    }
}

/// A time ago, in milliseconds since the epoch.
pub(super) fn since(text: &str) -> anyhow::Result<i64> {
    let span = parse_span(text).ok_or_else(|| {
        super::UsageError(format!("--since {text}: expected a time such as `7d`"))
    })?;
    Ok(jiff::Timestamp::now().as_millisecond().saturating_sub(i64::try_from(span.as_millis())?))
}

pub(super) fn requests(cli: &Cli, options: &RequestsOptions) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let wanted = RequestFilter {
        since: since(&options.since)?,
        model: options.model.clone(),
        caller: options.caller.clone(),
        upstream: options.by.clone(),
        status: options.status,
        failed: options.failed,
        limit: options.limit,
    };
    let found = match database(&config)? {
        Some(database) => store::requests(&database, &wanted)?,
        None => Vec::new(),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        println!("no such requests in the last {}", options.since);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<20}  {:<12}  {:<12}  {:<12}  {:<28}  {:>6}  {:<11}  {:>8}  request",
        "at", "caller", "endpoint", "upstream", "model", "status", "ended", "ms"
    );
    for receipt in &found {
        let at = jiff::Timestamp::from_millisecond(receipt.at)?.strftime("%Y-%m-%dT%H:%M:%SZ");
        let model = receipt
            .model
            .as_ref()
            .or(receipt.wanted.as_ref())
            .map_or(receipt.asked.as_str(), String::as_str);
        let upstream = receipt.upstream.as_deref().unwrap_or("-");
        let Receipt { caller, endpoint, status, outcome, total_us, request_id, .. } = receipt;
        println!(
            "{at:<20}  {caller:<12}  {endpoint:<12}  {upstream:<12}  {model:<28}  {status:>6}  {outcome:<11}  {:>8}  {request_id}",
            total_us / 1000
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn database(config: &Config) -> anyhow::Result<Option<store::Reader>> {
    match &config.store.path {
        Some(path) => Ok(store::open_to_read(path)?),
        None => anyhow::bail!("`store.path` is `:memory:`: nothing is kept that could be shown"),
    }
}

fn with_cost(row: &Row) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(row)?;
    value["cost_usd"] = json!(row.known_cost().map(dollars));
    Ok(value)
}

fn csv(rows: &[Row]) {
    println!(
        "day,model,caller,requests,failed,input,output,cache_read,cache_write,cost_usd,estimated_usd,unpriced"
    );
    for row in rows {
        let cost = row.known_cost().map(|cost| format!("{:.6}", dollars(cost))).unwrap_or_default();
        let (model, caller) = (quoted(&row.model), quoted(&row.caller));
        println!(
            "{},{model},{caller},{},{},{},{},{},{},{cost},{:.6},{}",
            row.day,
            row.requests,
            row.failed,
            row.input,
            row.output,
            row.cache_read,
            row.cache_write,
            dollars(row.estimated),
            row.unpriced
        );
    }
}

/// A field as RFC 4180 wants it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn table(rows: &[Row], since: &str) {
    if rows.is_empty() {
        println!("no requests in the last {since}");
        return;
    }
    let line = |cells: [&str; 9]| {
        let [day, model, caller, rest @ ..] = cells;
        let rest: Vec<String> = rest.iter().map(|cell| format!("{cell:>12}")).collect();
        println!("{day:<10}  {model:<32}  {caller:<12}{}", rest.concat());
    };
    line(["day", "model", "caller", "requests", "failed", "input", "output", "cache", "cost"]);
    let mut total = Total::default();
    for row in rows {
        total.add(row);
        let shown = row
            .known_cost()
            .map_or_else(|| "-".to_owned(), |cost| format!("${:.4}", dollars(cost)));
        let numbers =
            [row.requests, row.failed, row.input, row.output, row.cache_read + row.cache_write]
                .map(|number| number.to_string());
        line([
            &row.day,
            &row.model,
            &row.caller,
            &numbers[0],
            &numbers[1],
            &numbers[2],
            &numbers[3],
            &numbers[4],
            &shown,
        ]);
    }
    let numbers = total.counts.map(|number| number.to_string());
    line([
        "total",
        "",
        "",
        &numbers[0],
        &numbers[1],
        &numbers[2],
        &numbers[3],
        &numbers[4],
        &format!("${:.4}", dollars(total.cost)),
    ]);
    total.remarks(rows);
}

/// The last line of the table.
#[derive(Default)]
struct Total {
    /// Requests, failed, input, output, cache.
    counts: [u64; 5],
    /// In micro-dollars.
    cost: u64,
    estimated: u64,
    unpriced: u64,
}

impl Total {
    fn add(&mut self, row: &Row) {
        let more =
            [row.requests, row.failed, row.input, row.output, row.cache_read + row.cache_write];
        for (count, more) in self.counts.iter_mut().zip(more) {
            *count += more;
        }
        self.cost += row.cost;
        self.estimated += row.estimated;
        self.unpriced += row.unpriced;
    }

    /// What the cost leaves out, and what of it is no more than an estimate.
    fn remarks(&self, rows: &[Row]) {
        if self.unpriced > 0 {
            let models: BTreeSet<&str> =
                rows.iter().filter(|row| row.unpriced > 0).map(|row| row.model.as_str()).collect();
            let models = models.into_iter().collect::<Vec<_>>().join(", ");
            println!(
                "\nnot in the cost: {} request(s) of models without a price ([price] sets one): {models}",
                self.unpriced
            );
        }
        if self.estimated > 0 {
            println!(
                "\nof the cost, ${:.4} are an estimate: for answers that were cut off before they told their tokens, and for requests of before costs were kept",
                dollars(self.estimated)
            );
        }
    }
}

pub(super) fn explain(cli: &Cli, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let found = match database(&config)? {
        Some(database) => store::explain(&database, id)?,
        None => None,
    };
    let Some(receipt) = found else {
        anyhow::bail!(
            "no request is known as `{id}`; the id is in the `request-id` header of its answer"
        )
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&receipt)?);
    } else {
        show(&receipt)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(receipt: &Receipt) -> anyhow::Result<()> {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a request are few")]
    let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1e3);
    println!("request   {}", receipt.request_id);
    println!("our id    {}", receipt.id);
    println!("at        {}", jiff::Timestamp::from_millisecond(receipt.at)?);
    println!("caller    {}", receipt.caller);
    println!("asked     {} {}, model {}", receipt.dialect, receipt.endpoint, receipt.asked);
    let model = receipt.model.clone().or_else(|| receipt.wanted.clone());
    println!(
        "upstream  {}, model {}, {} attempt(s)",
        or(&receipt.upstream),
        or(&model),
        receipt.attempts
    );
    println!(
        "ended     {} with status {}, stop reason {}, fault {}",
        receipt.outcome,
        receipt.status,
        or(&receipt.stop_reason),
        or(&receipt.fault)
    );
    println!(
        "took      {}, first byte after {}",
        millis(receipt.total_us),
        receipt.first_byte_us.map_or_else(|| "-".to_owned(), millis)
    );
    if matches!(receipt.endpoint.as_str(), "count_tokens" | "input_tokens") {
        println!("tokens    counted, none used");
    } else {
        println!("tokens    {} in, {} out", receipt.input, receipt.output);
    }
    let by = receipt.book.as_ref().map(|book| format!(", by the prices of {book}"));
    let least = if receipt.reckoned > 0 { "at least " } else { "" };
    println!(
        "cost      {}{}",
        receipt
            .cost
            .map_or_else(|| "not known".to_owned(), |cost| format!("{least}${:.6}", dollars(cost))),
        by.unwrap_or_default()
    );
    show_bodies(receipt);
    Ok(())
}

/// What came, what went, and what was done to it between.
fn show_bodies(receipt: &Receipt) {
    let hash = |hash: &Option<String>| match hash {
        Some(hash) => format!("blake3 {hash}"),
        None if receipt.as_it_came => "not hashed (`receipts = \"always\"` would)".to_owned(),
        None => "not known".to_owned(),
    };
    println!("body in   {}", hash(&receipt.body_in));
    if !receipt.reached() {
        println!("body out  none: no upstream got this request");
        return;
    }
    println!("body out  {}", hash(&receipt.body_out));
    let translated = receipt.dialect != "messages" && receipt.body_out.is_some();
    match (receipt.changes.is_empty(), translated) {
        (true, false) if receipt.as_it_came => {
            println!("changes   none: the upstream got the very bytes that the client sent");
        }
        (true, true) => println!("changes   translated to messages; nothing was left out"),
        (false, true) => println!("changes   translated to messages"),
        _ => {}
    }
    for (name, path) in &receipt.changes {
        // The words of the `seaway-note` header.
        println!("noted     {name} {path}");
    }
}
