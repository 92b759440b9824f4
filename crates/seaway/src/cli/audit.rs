//! `seaway audit`: who came in, who was not let in, and what was changed about that.

use std::process::ExitCode;

use super::args::{AuditOptions, Cli};
use super::usage::{database, since};
use crate::causes::chain;
use crate::config::Config;
use crate::store::{self, AuditEntry, AuditEvent};

pub(super) fn run(cli: &Cli, options: &AuditOptions) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let from = since(&options.since)?;
    let rows = match database(&config)? {
        Some(database) => store::audit(&database, from, options.limit)?,
        None => Vec::new(),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        println!("nothing in the last {}", options.since);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<20}  {:<14}  {:<12}  {:<15}  {:>6}  what", "at", "event", "who", "from", "times");
    for row in &rows {
        let at = jiff::Timestamp::from_millisecond(row.at)?.strftime("%Y-%m-%dT%H:%M:%SZ");
        let who = if row.who.is_empty() { "-" } else { &row.who };
        let from = row.address.as_deref().unwrap_or("-");
        println!(
            "{at:<20}  {:<14}  {who:<12}  {from:<15}  {:>6}  {}",
            row.event, row.count, row.detail
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Has something noted that a command did. The command goes on without.
pub(super) fn note(config: &Config, event: AuditEvent, detail: &str) {
    let Some(path) = &config.store.path else { return };
    let entry = AuditEntry::once(event, crate::config::OWNER, detail);
    if let Err(error) = store::append(path, config.modes, &entry) {
        eprintln!("hint: this is not in `seaway audit`: {}", chain(&error));
    }
}
