//! Records, many in one transaction, and their sums by the hour.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;
use jiff::civil::Date;
use rusqlite::{CachedStatement, Connection, ErrorCode, Statement, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::accounts::{UsedUp, add_used};
use super::keys::{HOUR, signed};
use super::row::JournalRow;
use super::shapes::{Shapes, SummedBy};
use crate::record::{Claimed, Record};

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
    shapes: Shapes,
}

/// A transaction under way: its statement, and sums of what is being written.
struct Batch<'c> {
    database: &'c Connection,
    insert: CachedStatement<'c>,
    /// By hour, model, caller and upstream.
    hours: HashMap<(i64, i64, i64, i64), Counts>,
    /// By whether it is a team's, whose, and day.
    used: HashMap<(bool, i64, Date), UsedUp>,
}

impl<'c> Batch<'c> {
    fn of(database: &'c Connection) -> rusqlite::Result<Self> {
        let insert = database.prepare_cached(INSERT)?;
        Ok(Self { database, insert, hours: HashMap::default(), used: HashMap::default() })
    }

    /// Adds what counts to what was used.
    fn add(&mut self, row: &JournalRow<'_>, by: SummedBy) {
        let key = (row.hour(), by.model, by.caller, by.upstream);
        self.hours.entry(key).or_default().add(Counts::of(row));
        let used = UsedUp { spent: row.cost.unwrap_or_default(), requests: 1, last: row.at };
        self.add_used(false, by.caller, row.day(), used);
        if let Some(team) = by.team {
            self.add_used(true, team, row.day(), used);
        }
    }

    fn add_used(&mut self, team: bool, who: i64, day: Date, more: UsedUp) {
        let used = self.used.entry((team, who, day)).or_default();
        used.spent = used.spent.saturating_add(more.spent);
        used.requests = used.requests.saturating_add(more.requests);
        used.last = used.last.max(more.last);
    }
}

/// Sums of records that themselves are lost.
#[derive(Debug, Default)]
pub(super) struct Owed {
    sums: HashMap<SumKey, Counts>,
    /// What finds them should these sums be lost too.
    claims: Vec<Arc<dyn Claimed>>,
}

/// What is summed together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct SumKey {
    /// Since the epoch.
    hour: i64,
    model: String,
    caller: String,
    upstream: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    /// As budgets go; none in files of older gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day: Option<Date>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    requests: u64,
    failed: u64,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    /// In micro-dollars.
    cost: u64,
    /// The part of `cost` that is for tokens which nobody told.
    #[serde(default)]
    estimated: u64,
    /// Requests that are not in `cost`, since their model has no price.
    unpriced: u64,
}

impl Counts {
    fn of(row: &JournalRow<'_>) -> Self {
        let [input, output, cache_read, cache_write, cache_write_1h] = row.tokens;
        Self {
            requests: 1,
            failed: u64::from(!row.is_complete()),
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            cost: row.cost.unwrap_or_default(),
            estimated: row.reckoned,
            unpriced: u64::from(row.cost.is_none()),
        }
    }

    fn add(&mut self, more: Self) {
        let sums = [
            (&mut self.requests, more.requests),
            (&mut self.failed, more.failed),
            (&mut self.input, more.input),
            (&mut self.output, more.output),
            (&mut self.cache_read, more.cache_read),
            (&mut self.cache_write, more.cache_write),
            (&mut self.cache_write_1h, more.cache_write_1h),
            (&mut self.cost, more.cost),
            (&mut self.estimated, more.estimated),
            (&mut self.unpriced, more.unpriced),
        ];
        for (sum, count) in sums {
            *sum = sum.saturating_add(count);
        }
    }
}

impl Owed {
    pub(super) fn add(&mut self, row: &JournalRow<'_>) {
        if row.counted {
            let key = SumKey {
                hour: row.hour(),
                model: row.model().to_owned(),
                caller: row.caller.to_string(),
                upstream: row.upstream().to_owned(),
                team: row.team.as_deref().map(str::to_owned),
                day: Some(row.day()),
            };
            self.add_counts(key, Counts::of(row));
        }
    }

    pub(super) fn add_counts(&mut self, key: SumKey, counts: Counts) {
        self.sums.entry(key).or_default().add(counts);
    }

    /// Keeps what finds a record, until the sums are written.
    pub(super) fn keep(&mut self, claim: Option<Arc<dyn Claimed>>) {
        if let Some(claim) = &claim {
            claim.summed();
        }
        self.claims.extend(claim);
    }

    /// These sums are lost: what was under a cap is left to the next gateway.
    pub(super) fn is_lost(&self) {
        self.claims.iter().for_each(|claim| claim.stays());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SumKey, &Counts)> {
        self.sums.iter()
    }
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
        self.shapes.ended(written.is_err());
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
        let mut batch = Batch::of(&transaction)?;
        let mut written = BatchResult::default();
        let mut pace = Pace::of(records.len());
        for record in records {
            if written.records >= AT_LEAST && !go_on() {
                break;
            }
            written.records += 1;
            pace.step();
            let refused = self.row(&mut batch, &JournalRow::of(record))?;
            written.refused += refused;
            if let Some(claim) = record.claim.as_ref().filter(|_| refused > 0) {
                claim.summed();
            }
        }
        self.add_sums(batch, owed)?;
        transaction.commit()?;
        Ok(written)
    }

    /// Writes what a gateway left in a file when it ended, all of it and once, whoever else has the same file. Returns how
    /// many rows the database would not take by themselves.
    pub(super) fn take(
        &mut self,
        database: &mut Connection,
        id: &str,
        rows: &[JournalRow<'_>],
        owed: &Owed,
    ) -> rusqlite::Result<u64> {
        let taken = self.take_all(database, id, rows, owed);
        self.shapes.ended(taken.is_err());
        taken
    }

    fn take_all(
        &mut self,
        database: &mut Connection,
        id: &str,
        rows: &[JournalRow<'_>],
        owed: &Owed,
    ) -> rusqlite::Result<u64> {
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let new = transaction.execute(
            "INSERT INTO spooled (id, taken) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![id, jiff::Timestamp::now().as_millisecond()],
        )?;
        if new == 0 {
            return Ok(0);
        }
        let (mut batch, mut refused) = (Batch::of(&transaction)?, 0);
        for row in rows {
            refused += self.row(&mut batch, row)?;
        }
        self.add_sums(batch, owed)?;
        transaction.commit()?;
        Ok(refused)
    }

    /// Writes a row and sums it. One if the database will not take it by itself.
    fn row(&mut self, batch: &mut Batch<'_>, row: &JournalRow<'_>) -> rusqlite::Result<u64> {
        let (by, refused) = match self.insert(batch, row) {
            Ok(by) => (by, 0),
            Err(error) if is_its_own(&error) => {
                let id = uuid::Uuid::from_bytes(row.id);
                tracing::error!(%error, id = %id.as_simple(), "a record could not be written");
                (self.shapes.summed_by(batch.database, row)?, 1)
            }
            Err(error) => return Err(error),
        };
        if row.counted {
            batch.add(row, by);
        }
        Ok(refused)
    }

    fn add_sums(&mut self, batch: Batch<'_>, owed: &Owed) -> rusqlite::Result<()> {
        let Batch { database, hours, used: days, .. } = batch;
        for (SumKey { hour, model, caller, upstream, team, day }, counts) in owed.iter() {
            let mut name = |text: &String| self.shapes.name(database, text);
            let (caller, team) = (name(caller)?, team.as_ref().map(&mut name).transpose()?);
            add(database, (*hour, name(model)?, caller, name(upstream)?), counts)?;
            let last = hour.saturating_mul(HOUR);
            let used = UsedUp { spent: counts.cost, requests: counts.requests, last };
            let at = jiff::Timestamp::from_millisecond(last).unwrap_or_default();
            let day = day.unwrap_or_else(|| crate::config::day(at));
            add_used(database, (false, caller, day), used)?;
            if let Some(team) = team {
                add_used(database, (true, team, day), used)?;
            }
        }
        hours.iter().try_for_each(|(key, counts)| add(database, *key, counts))?;
        days.iter().try_for_each(|(key, used)| add_used(database, *key, *used))
    }

    /// Writes what a gateway that was killed left under way, all of it or nothing.
    pub(super) fn charge(
        &mut self,
        database: &mut Connection,
        rows: &VecDeque<JournalRow<'_>>,
    ) -> rusqlite::Result<()> {
        let charged = self.charge_all(database, rows);
        self.shapes.ended(charged.is_err());
        charged
    }

    fn charge_all(
        &mut self,
        database: &mut Connection,
        rows: &VecDeque<JournalRow<'_>>,
    ) -> rusqlite::Result<()> {
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch::of(&transaction)?;
        for row in rows {
            self.row(&mut batch, row)?;
        }
        self.add_sums(batch, &Owed::default())?;
        transaction.commit()
    }

    /// Writes a row. Returns what it is summed by.
    fn insert(
        &mut self,
        batch: &mut Batch<'_>,
        row: &JournalRow<'_>,
    ) -> rusqlite::Result<SummedBy> {
        let shape = self.shapes.shape(batch.database, row)?;
        write(&mut batch.insert, shape.id, row)?;
        Ok(shape.summed_by)
    }
}

const INSERT: &str = "INSERT OR REPLACE INTO record
    (id, at, shape, request, input, output, cache_read, cache_write, cache_write_1h, first_byte_us, total_us, body_in, body_out,
        cost, reckoned, session, agent, parent_agent, prompt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";

fn write(insert: &mut Statement<'_>, shape: i64, row: &JournalRow<'_>) -> rusqlite::Result<usize> {
    let [input, output, cache_read, cache_write, cache_write_1h] = row.tokens.map(signed);
    insert.execute(params![
        row.id,
        row.at,
        shape,
        row.request,
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h,
        row.first_byte_us.map(signed),
        signed(row.total_us),
        row.body_in.as_ref().map(blake3::Hash::as_slice).or(row.as_it_came.then_some(&[])),
        row.body_out.as_ref().map(blake3::Hash::as_slice),
        row.cost.map(signed),
        signed(row.reckoned),
        row.asker.session.as_deref(),
        row.asker.agent.as_deref(),
        row.asker.parent_agent.as_deref(),
        row.asker.prompt.as_deref(),
    ])
}

/// Adds to what is known of an hour.
fn add(
    database: &Connection,
    (hour, model, caller, upstream): (i64, i64, i64, i64),
    counts: &Counts,
) -> rusqlite::Result<()> {
    let mut add = database.prepare_cached(
        "INSERT INTO hourly (hour, model, caller, upstream, requests, failed, input, output, cache_read, cache_write, cache_write_1h, cost, estimated, unpriced)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO UPDATE SET
            requests = requests + excluded.requests, failed = failed + excluded.failed, input = input + excluded.input, output = output + excluded.output,
            cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write, cache_write_1h = cache_write_1h + excluded.cache_write_1h,
            cost = cost + excluded.cost, estimated = estimated + excluded.estimated, unpriced = unpriced + excluded.unpriced",
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
        estimated,
        unpriced,
    } = *counts;
    add.execute(params![
        hour,
        model,
        caller,
        upstream,
        signed(requests),
        signed(failed),
        signed(input),
        signed(output),
        signed(cache_read),
        signed(cache_write),
        signed(cache_write_1h),
        signed(cost),
        signed(estimated),
        signed(unpriced)
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
