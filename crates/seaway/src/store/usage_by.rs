//! Usage by whatever a request is known by: its key, its session, its client, …

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use super::keys::{HOUR, bound};
use super::{Promise, Store, telemetry};

/// What requests are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    Session,
    Agent,
    Key,
    Team,
    Client,
    Model,
    Upstream,
    Day,
}

impl UsageBy {
    pub const ALL: [Self; 8] = [
        Self::Session,
        Self::Agent,
        Self::Key,
        Self::Team,
        Self::Client,
        Self::Model,
        Self::Upstream,
        Self::Day,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Team => "team",
            Self::Client => "client",
            Self::Model => "model",
            Self::Upstream => "upstream",
            Self::Day => "day",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == text)
    }

    /// What its rows are summed by. Sums by the hour outlive records, and know less.
    const fn column(self) -> (&'static str, bool) {
        match self {
            Self::Session => ("session", false),
            Self::Agent => ("agent", false),
            Self::Team => ("(SELECT text FROM name WHERE id = team)", false),
            Self::Client => (
                "(SELECT text FROM name WHERE id = client) || coalesce(' ' || (SELECT text FROM name WHERE id = version), '')",
                false,
            ),
            Self::Key => ("(SELECT text FROM name WHERE id = caller)", true),
            Self::Model => ("(SELECT text FROM name WHERE id = model)", true),
            Self::Upstream => ("(SELECT text FROM name WHERE id = upstream)", true),
            Self::Day => ("date(hour * 3600, 'unixepoch')", true),
        }
    }
}

/// What requests of one name add up to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsageSum {
    /// Empty for those that told none.
    pub name: String,
    pub requests: u64,
    /// Requests that did not end with a whole answer.
    pub failed: u64,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// In micro-dollars.
    #[serde(rename = "cost_micros")]
    pub cost: u64,
    /// The part of `cost` that was reckoned.
    #[serde(rename = "estimated_micros")]
    pub estimated: u64,
    /// Requests that are not in `cost`, since their model had no price.
    pub unpriced: u64,
    /// What the client's program told of the session by OTLP, by names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub telemetry: BTreeMap<String, f64>,
}

impl UsageSum {
    /// `commit.count 2, lines_of_code.count added 120`: what the client's program told, for people.
    pub fn telemetry_told(&self) -> String {
        let said = self.telemetry.iter().map(|(name, value)| {
            let name = name.strip_prefix("claude_code.").unwrap_or(name);
            // Three digits behind the point are enough of a sum.
            format!("{name} {}", (value * 1000.0).round() / 1000.0)
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

fn sum(row: &rusqlite::Row<'_>) -> rusqlite::Result<UsageSum> {
    Ok(UsageSum {
        name: row.get(0)?,
        requests: row.get(1)?,
        failed: row.get::<_, Option<u64>>(2)?.unwrap_or_default(),
        input: row.get(3)?,
        output: row.get(4)?,
        cache_read: row.get(5)?,
        cache_write: row.get(6)?,
        cost: row.get(7)?,
        estimated: row.get(8)?,
        unpriced: row.get(9)?,
        telemetry: BTreeMap::new(),
    })
}

/// Sums up by one of them, from a time on in milliseconds since the epoch; the dearest first, days in their order.
///
/// # Errors
///
/// If the store cannot be read.
pub fn usage_by(database: &Connection, by: UsageBy, since: i64) -> rusqlite::Result<Vec<UsageSum>> {
    let (column, hourly) = by.column();
    let order = if by == UsageBy::Day { "1" } else { "8 DESC, 2 DESC, 1" };
    let from = if hourly {
        "sum(requests), sum(failed), sum(input), sum(output), sum(cache_read), sum(cache_write), sum(cost), sum(estimated), sum(unpriced)
            FROM hourly WHERE hour >= ?1"
    } else {
        "count(*), sum(outcome <> (SELECT id FROM name WHERE text = 'completed')), sum(input), sum(output), sum(cache_read), sum(cache_write),
            coalesce(sum(cost), 0), sum(reckoned), sum(cost IS NULL)
            FROM record AS r CROSS JOIN shape AS s ON s.id = r.shape WHERE r.id >= ?1 AND endpoint NOT IN (SELECT id FROM name WHERE text IN ('count_tokens', 'input_tokens'))"
    };
    let mut select = database.prepare(&format!(
        "SELECT coalesce({column}, '') AS name, {from} GROUP BY 1 ORDER BY {order}"
    ))?;
    let mut sums: Vec<UsageSum> = if hourly {
        select.query_map([since.div_euclid(HOUR)], sum)?.collect::<Result<_, _>>()?
    } else {
        select.query_map([bound(since)], sum)?.collect::<Result<_, _>>()?
    };
    if by == UsageBy::Session {
        let mut told = telemetry::told(database, since)?;
        for sum in &mut sums {
            sum.telemetry = told.remove(&sum.name).unwrap_or_default();
        }
    }
    Ok(sums)
}

/// What one session adds up to, of one caller or of all.
fn session_sum(
    database: &Connection,
    session: &str,
    caller: Option<&str>,
) -> rusqlite::Result<UsageSum> {
    database
        .prepare_cached(
            "SELECT ?1, count(*), coalesce(sum(outcome <> (SELECT id FROM name WHERE text = 'completed')), 0), coalesce(sum(input), 0), coalesce(sum(output), 0),
                coalesce(sum(cache_read), 0), coalesce(sum(cache_write), 0), coalesce(sum(cost), 0), coalesce(sum(reckoned), 0), coalesce(sum(cost IS NULL), 0)
                FROM record AS r CROSS JOIN shape AS s ON s.id = r.shape WHERE session = ?1 AND (?2 IS NULL OR caller = (SELECT id FROM name WHERE text = ?2))",
        )?
        .query_row(rusqlite::params![session, caller], sum)
}

impl Store {
    /// What requests of a caller, or of all of them, cost from a time on, in micro-dollars, and what one session adds up to. `begun` is in milliseconds
    /// since the epoch.
    pub fn own_use(
        &self,
        caller: Option<String>,
        begun: i64,
        session: Option<String>,
    ) -> Promise<(u64, Option<UsageSum>)> {
        self.look_up(move |database| {
            let today = database
                .prepare_cached(
                    "SELECT coalesce(sum(cost), 0) FROM record AS r CROSS JOIN shape AS s ON s.id = r.shape WHERE r.id >= ?1 AND (?2 IS NULL OR caller = (SELECT id FROM name WHERE text = ?2))",
                )?
                .query_row(rusqlite::params![bound(begun), caller], |row| row.get(0))?;
            let session = session
                .map(|session| session_sum(database, &session, caller.as_deref()))
                .transpose()?;
            Ok((today, session))
        })
    }

    /// The same by a thread of the store, for who must not wait on a disk.
    pub fn usage_by(&self, by: UsageBy, since: i64) -> Promise<Vec<UsageSum>> {
        self.report(move |database| usage_by(database, by, since))
    }
}
