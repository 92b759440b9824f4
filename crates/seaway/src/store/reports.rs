//! What people ask: usage by day, model and caller, and the receipt of one exchange.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde::Serialize;

use super::keys::{HOUR, bound, key};
use super::{Promise, Store};

/// Which records count.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Milliseconds since the epoch; what is older in the same hour counts too.
    pub since: i64,
}

/// Usage of one model by one caller on one day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `2026-11-21`, in UTC.
    pub day: String,
    pub model: String,
    pub caller: String,
    pub requests: u64,
    /// Requests that did not end with a whole answer.
    pub failed: u64,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub cache_write_1h: u64,
    /// In micro-dollars: what each request cost when it ended, added up.
    #[serde(rename = "cost_micros")]
    pub cost: u64,
    /// The part of `cost` that was reckoned: for tokens that nobody told, and for requests of before costs were kept.
    #[serde(rename = "estimated_micros")]
    pub estimated: u64,
    /// Requests that are not in `cost`, since their model had no price.
    pub unpriced: u64,
}

impl Row {
    /// The cost in micro-dollars; none where no request had a price.
    pub fn known_cost(&self) -> Option<u64> {
        (self.unpriced < self.requests || self.cost > 0).then_some(self.cost)
    }
}

/// Sums up the records that count.
///
/// # Errors
///
/// If the store cannot be read.
pub fn usage(database: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Row>> {
    // Added up here: SQLite would sort the hours of a month to group them, which takes three times as long.
    let mut select = database.prepare_cached(
        "SELECT hour, model, caller, requests, failed, input, output, cache_read, cache_write, cache_write_1h, cost, estimated, unpriced FROM hourly WHERE hour >= ?1",
    )?;
    let mut hours = select.query([filter.since.div_euclid(HOUR)])?;
    let mut days: HashMap<(i64, i64, i64), [u64; 10]> = HashMap::new();
    while let Some(hour) = hours.next()? {
        let sums = days
            .entry((hour.get::<_, i64>(0)?.div_euclid(24), hour.get(1)?, hour.get(2)?))
            .or_default();
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = sum.saturating_add(hour.get(3 + at)?);
        }
    }
    let mut names: HashMap<i64, String> = HashMap::new();
    let mut select = database.prepare_cached("SELECT text FROM name WHERE id = ?1")?;
    let mut name = |id: i64| match names.entry(id) {
        Entry::Occupied(known) => Ok(known.get().clone()),
        Entry::Vacant(unknown) => select
            .query_row([id], |row| row.get(0))
            .map(|text: String| unknown.insert(text).clone()),
    };
    let mut rows = Vec::with_capacity(days.len());
    for (
        (day, model, caller),
        [
            requests,
            failed,
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            cost,
            estimated,
            unpriced,
        ],
    ) in days
    {
        let (day, model, caller) = (date(day), name(model)?, name(caller)?);
        rows.push(Row {
            day,
            model,
            caller,
            requests,
            failed,
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            cost,
            estimated,
            unpriced,
        });
    }
    rows.sort_unstable_by(|a, b| (&a.day, &a.model, &a.caller).cmp(&(&b.day, &b.model, &b.caller)));
    Ok(rows)
}

/// `2026-11-21` from its days since the epoch.
fn date(day: i64) -> String {
    let date = jiff::Timestamp::from_second(day.saturating_mul(86_400))
        .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    date.map_or_else(|_| day.to_string(), |date| date.to_string())
}

impl Store {
    /// The same by a thread of the store, for who must not wait on a disk.
    pub fn usage(&self, filter: Filter) -> Promise<Vec<Row>> {
        self.report(move |database| usage(database, &filter))
    }
}

/// What was done with one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    pub id: String,
    pub request_id: String,
    /// Milliseconds since the epoch.
    pub at: i64,
    pub caller: String,
    pub dialect: String,
    pub endpoint: String,
    pub upstream: Option<String>,
    /// The model by the client's name for it.
    pub asked: String,
    /// The model that its upstream was asked for.
    pub wanted: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// An upstream got it, or may have; `None` where that was not noted.
    pub sent: Option<bool>,
    pub status: u16,
    pub outcome: String,
    pub stop_reason: Option<String>,
    pub fault: Option<String>,
    pub attempts: u32,
    pub input: u64,
    pub output: u64,
    /// In micro-dollars, as it was when it ended; `None` where its model had no price, or before costs were kept.
    #[serde(rename = "cost_micros")]
    pub cost: Option<u64>,
    /// Which prices these were; `None` where they were not noted.
    pub book: Option<String>,
    /// The part of `cost` for tokens that nobody told: the least that they can be.
    #[serde(rename = "reckoned_micros")]
    pub reckoned: u64,
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
    /// BLAKE3 of the body that came, in hexadecimal; of one that went on as it came only where that is wanted.
    pub body_in: Option<String>,
    /// BLAKE3 of the body that went.
    pub body_out: Option<String>,
    /// The upstream got the very bytes that came.
    pub as_it_came: bool,
    /// Each edit: its name, and the place it touched.
    pub changes: Vec<(String, String)>,
}

impl Receipt {
    /// True if an upstream got it, or may have. Older records do not say; one without an upstream or a body went nowhere.
    pub fn reached(&self) -> bool {
        self.sent.unwrap_or(self.upstream.is_some() && (self.as_it_came || self.body_out.is_some()))
    }
}

/// Finds an exchange by the id that the client saw, or by ours.
///
/// # Errors
///
/// If the store cannot be read.
pub fn explain(database: &Connection, id: &str) -> rusqlite::Result<Option<Receipt>> {
    let at = |key: [u8; 16]| {
        database
            .query_row(&format!("SELECT {COLUMNS} FROM exchange WHERE key = ?1"), [key], receipt)
            .optional()
    };
    if let Some(found) = at(key(id))? {
        return Ok(Some(found));
    }
    let newest = database.query_row(BY_REQUEST, [id], |row| row.get(0)).optional()?;
    newest.map_or(Ok(None), at)
}

/// The newest of those that had the same id from their upstream.
pub(super) const BY_REQUEST: &str =
    "SELECT id FROM record WHERE request = ?1 ORDER BY id DESC LIMIT 1";

/// Which requests are listed.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Milliseconds since the epoch.
    pub since: i64,
    /// A part of the model's name, by whichever name it is known.
    pub model: Option<String>,
    pub caller: Option<String>,
    pub upstream: Option<String>,
    /// One status, or the first digit of several.
    pub status: Option<u16>,
    /// Only those that did not end with a whole answer.
    pub failed: bool,
    pub limit: u32,
}

/// Lists requests, the newest first.
///
/// # Errors
///
/// If the store cannot be read.
pub fn requests(database: &Connection, wanted: &RequestFilter) -> rusqlite::Result<Vec<Receipt>> {
    let mut select = database.prepare(&format!(
        "SELECT {COLUMNS} FROM exchange
         WHERE key >= ?1 AND (?2 IS NULL OR instr(coalesce(model, '') || ' ' || coalesce(wanted, '') || ' ' || asked, ?2)) AND (?3 IS NULL OR caller = ?3)
           AND (?4 IS NULL OR upstream = ?4) AND (?5 IS NULL OR status = ?5 OR status / 100 = ?5) AND (NOT ?6 OR outcome <> 'completed')
         ORDER BY key DESC LIMIT ?7"
    ))?;
    let rows = select.query_map(
        params![
            bound(wanted.since),
            wanted.model,
            wanted.caller,
            wanted.upstream,
            wanted.status,
            wanted.failed,
            wanted.limit
        ],
        receipt,
    )?;
    rows.collect()
}

/// What a [`Receipt`] is read from.
const COLUMNS: &str = "id, request_id, at, caller, dialect, endpoint, upstream, asked, model, status, outcome, stop_reason, fault,
                attempts, input, output, first_byte_us, total_us, nullif(lower(hex(body_in)), ''), nullif(lower(hex(coalesce(body_out, body_in))), ''), changes, wanted, sent, cost, book, reckoned, body_in IS NOT NULL AND body_out IS NULL";

fn receipt(row: &SqlRow<'_>) -> rusqlite::Result<Receipt> {
    let changes: String = row.get(20)?;
    Ok(Receipt {
        id: row.get(0)?,
        request_id: row.get(1)?,
        at: row.get(2)?,
        caller: row.get(3)?,
        dialect: row.get(4)?,
        endpoint: row.get(5)?,
        upstream: row.get(6)?,
        asked: row.get(7)?,
        model: row.get(8)?,
        wanted: row.get(21)?,
        sent: row.get(22)?,
        status: row.get(9)?,
        outcome: row.get(10)?,
        stop_reason: row.get(11)?,
        fault: row.get(12)?,
        attempts: row.get(13)?,
        input: row.get(14)?,
        output: row.get(15)?,
        cost: row.get(23)?,
        book: row.get(24)?,
        reckoned: row.get(25)?,
        first_byte_us: row.get(16)?,
        total_us: row.get(17)?,
        body_in: row.get(18)?,
        body_out: row.get(19)?,
        as_it_came: row.get(26)?,
        changes: serde_json::from_str(&changes).unwrap_or_default(),
    })
}
