//! Records, many in one transaction, and their sums by the hour.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use seaway_wire::StopReason;

use super::keys::{HOUR, key, signed};
use crate::record::{Outcome, Record};

/// Names that are known without asking the database. There are few, unless somebody makes them up.
const KNOWN: usize = 10_000;
/// Records of a transaction, however much of a hurry something else is in.
const AT_LEAST: usize = 32;

/// Leaves the core to who serves, now and then: a scheduler lets a thread that works run on for milliseconds, and a request
/// that woke behind it waits so long. Only where there is time for that: with many records the work itself matters.
#[derive(Debug)]
pub(super) struct Pace {
    records: usize,
    leisurely: bool,
}

impl Pace {
    /// Records from one offer to the next, some hundred microseconds of work.
    const TURN: usize = 16;
    /// Records of one batch for which there is time: twelve batches a second.
    const LEISURE: usize = 1024;

    pub(super) fn of(records: usize) -> Self {
        Self { records: 0, leisurely: records <= Self::LEISURE }
    }

    /// To be called for each record.
    pub(super) fn step(&mut self) {
        self.records += 1;
        if self.leisurely && self.records.is_multiple_of(Self::TURN) {
            std::thread::yield_now();
        }
    }
}

/// Writes records.
#[derive(Debug, Default)]
pub(super) struct Journal {
    names: HashMap<String, i64>,
}

/// Sums of records that themselves are lost.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<(i64, String, String, String), Counts>);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    requests: u64,
    failed: u64,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    /// In micro-dollars.
    cost: u64,
    /// Requests that are not in `cost`, since their model has no price.
    unpriced: u64,
}

impl Counts {
    fn add(&mut self, record: &Record) {
        let usage = record.summary.usage;
        self.requests += 1;
        self.failed += u64::from(record.outcome != Outcome::Completed);
        self.unpriced += u64::from(record.cost.is_none());
        let sums = [
            (&mut self.input, usage.input),
            (&mut self.output, usage.output),
            (&mut self.cache_read, usage.cache_read),
            (&mut self.cache_write, usage.cache_write),
            (&mut self.cache_write_1h, usage.cache_write_1h),
            (&mut self.cost, record.cost.unwrap_or_default()),
        ];
        for (sum, count) in sums {
            *sum = sum.saturating_add(count);
        }
    }
}

impl Owed {
    pub(super) fn add(&mut self, record: &Record) {
        if record.is_counted() {
            let key = (
                hour(record),
                record.model().to_owned(),
                record.caller.0.to_string(),
                upstream(record).to_owned(),
            );
            self.0.entry(key).or_default().add(record);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hour(record: &Record) -> i64 {
    record.at.as_millisecond().div_euclid(HOUR)
}

fn upstream(record: &Record) -> &str {
    record.upstream.as_ref().map_or("", |name| &name.0)
}

/// What one transaction did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchResult {
    /// Records, the first ones, that need not be written again.
    pub(super) records: usize,
    /// How many of them the database would not take by themselves; they are summed all the same.
    pub(super) refused: u64,
}

impl Journal {
    /// Writes records and what is owed in one transaction, or nothing: all of them, or as many as there are before `go_on` says
    /// that something else is in a hurry.
    pub(super) fn write(
        &mut self,
        database: &mut Connection,
        records: &VecDeque<Box<Record>>,
        owed: &Owed,
        go_on: impl Fn() -> bool,
    ) -> rusqlite::Result<BatchResult> {
        let written = self.write_in_turn(database, records, owed, go_on);
        if written.is_err() || self.names.len() > KNOWN {
            // Names that were new in it are not there.
            self.names.clear();
        }
        written
    }

    fn write_in_turn(
        &mut self,
        database: &mut Connection,
        records: &VecDeque<Box<Record>>,
        owed: &Owed,
        go_on: impl Fn() -> bool,
    ) -> rusqlite::Result<BatchResult> {
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut sums: HashMap<(i64, i64, i64, i64), Counts> = HashMap::new();
        let mut written = BatchResult::default();
        let mut pace = Pace::of(records.len());
        for record in records {
            if written.records >= AT_LEAST && !go_on() {
                break;
            }
            written.records += 1;
            pace.step();
            if let Err(error) = self.insert(&transaction, record) {
                if !is_its_own(&error) {
                    return Err(error);
                }
                tracing::error!(%error, id = record.request_id, "a record could not be written");
                written.refused += 1;
            }
            if record.is_counted() {
                let mut name = |text| self.name(&transaction, text);
                let key = (
                    hour(record),
                    name(record.model())?,
                    name(&record.caller.0)?,
                    name(upstream(record))?,
                );
                sums.entry(key).or_default().add(record);
            }
        }
        for ((hour, model, caller, upstream), counts) in &owed.0 {
            let mut name = |text: &String| self.name(&transaction, text);
            add(&transaction, (*hour, name(model)?, name(caller)?, name(upstream)?), counts)?;
        }
        for (key, counts) in &sums {
            add(&transaction, *key, counts)?;
        }
        transaction.commit()?;
        Ok(written)
    }

    /// The number that stands for a text that repeats.
    fn name(&mut self, database: &Connection, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.names.get(text) {
            return Ok(*id);
        }
        database
            .prepare_cached("INSERT INTO name (text) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([text])?;
        let id = database
            .prepare_cached("SELECT id FROM name WHERE text = ?1")?
            .query_row([text], |row| row.get(0))?;
        self.names.insert(text.to_owned(), id);
        Ok(id)
    }

    fn insert(&mut self, database: &Connection, record: &Record) -> rusqlite::Result<()> {
        let usage = record.summary.usage;
        let changes: Vec<(&str, &str)> =
            record.changes.iter().map(|change| (&*change.name, change.path.as_str())).collect();
        let changes = if changes.is_empty() { None } else { serde_json::to_string(&changes).ok() };
        let stop_reason =
            record.summary.stop_reason.as_ref().map(|reason| StopReason::name(reason).to_owned());
        let mut some = |text: Option<&str>| text.map(|text| self.name(database, text)).transpose();
        let mut insert = database.prepare_cached(
            "INSERT OR REPLACE INTO record
                (id, at, request, caller, dialect, endpoint, upstream, asked, wanted, model, stream, sent,
                    status, outcome, stop_reason, fault, attempts, input, output, cache_read, cache_write,
                    cache_write_1h, first_byte_us, total_us, body_in, body_out, changes, cost)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)",
        )?;
        insert.execute(params![
            key(&record.id),
            record.at.as_millisecond(),
            Some(&record.request_id).filter(|id| **id != record.id),
            some(Some(&record.caller.0))?,
            some(Some(record.dialect.name()))?,
            some(Some(record.endpoint))?,
            some(record.upstream.as_ref().map(|name| &*name.0))?,
            some(Some(&record.asked))?,
            some(record.wanted.as_deref())?,
            some(record.summary.model.as_deref())?,
            record.stream,
            record.sent,
            record.status,
            some(Some(record.outcome.name()))?,
            some(stop_reason.as_deref())?,
            some(record.fault.as_deref())?,
            record.attempts,
            signed(usage.input),
            signed(usage.output),
            signed(usage.cache_read),
            signed(usage.cache_write),
            signed(usage.cache_write_1h),
            record.first_byte.map(micros),
            micros(record.total),
            record.body_in.as_ref().map(blake3::Hash::as_bytes),
            record
                .body_out
                .as_ref()
                .filter(|_| record.body_out != record.body_in)
                .map(blake3::Hash::as_bytes),
            some(changes.as_deref())?,
            record.cost.map(signed),
        ])?;
        Ok(())
    }
}

/// Adds to what is known of an hour.
fn add(
    database: &Connection,
    (hour, model, caller, upstream): (i64, i64, i64, i64),
    counts: &Counts,
) -> rusqlite::Result<()> {
    let mut add = database.prepare_cached(
        "INSERT INTO hourly (hour, model, caller, upstream, requests, failed, input, output, cache_read, cache_write, cache_write_1h, cost, unpriced)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO UPDATE SET
            requests = requests + excluded.requests, failed = failed + excluded.failed, input = input + excluded.input, output = output + excluded.output,
            cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write, cache_write_1h = cache_write_1h + excluded.cache_write_1h,
            cost = cost + excluded.cost, unpriced = unpriced + excluded.unpriced",
    )?;
    let Counts {
        requests,
        failed,
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h,
        cost,
        unpriced,
    } = *counts;
    let counts =
        [requests, failed, input, output, cache_read, cache_write, cache_write_1h, cost, unpriced]
            .map(signed);
    let [requests, failed, input, output, cache_read, cache_write, cache_write_1h, cost, unpriced] =
        counts;
    add.execute(params![
        hour,
        model,
        caller,
        upstream,
        requests,
        failed,
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h,
        cost,
        unpriced
    ])
    .map(drop)
}

/// True where it is this record's fault, and not the database's.
fn is_its_own(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::ParameterOutOfRange
        )
    )
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
