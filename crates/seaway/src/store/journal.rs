//! Records, many in one transaction, and their sums by the hour.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::accounts::{UsedUp, add_used};
use super::keys::{HOUR, signed};
use super::row::JournalRow;
use crate::record::{Claimed, Record};

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

/// Sums of what is being written.
#[derive(Debug, Default)]
struct Sums {
    /// By hour, model, caller and upstream.
    hours: HashMap<(i64, i64, i64, i64), Counts>,
    /// By whether it is a team's, whose, and day.
    used: HashMap<(bool, i64, String), UsedUp>,
}

impl Sums {
    fn add_used(&mut self, team: bool, who: i64, day: &str, more: UsedUp) {
        let used = self.used.entry((team, who, day.to_owned())).or_default();
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
    day: Option<String>,
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
                day: Some(row.day().into_owned()),
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
        let mut sums = Sums::default();
        let mut written = BatchResult::default();
        let mut pace = Pace::of(records.len());
        for record in records {
            if written.records >= AT_LEAST && !go_on() {
                break;
            }
            written.records += 1;
            pace.step();
            let refused = self.row(&transaction, &JournalRow::of(record), &mut sums)?;
            written.refused += refused;
            if let Some(claim) = record.claim.as_ref().filter(|_| refused > 0) {
                claim.summed();
            }
        }
        self.add_sums(&transaction, owed, &sums)?;
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
        if taken.is_err() {
            self.names.clear();
        }
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
        let (mut sums, mut refused) = (Sums::default(), 0);
        for row in rows {
            refused += self.row(&transaction, row, &mut sums)?;
        }
        self.add_sums(&transaction, owed, &sums)?;
        transaction.commit()?;
        Ok(refused)
    }

    /// Writes a row and sums it. One if the database will not take it by itself.
    fn row(
        &mut self,
        database: &Connection,
        row: &JournalRow<'_>,
        sums: &mut Sums,
    ) -> rusqlite::Result<u64> {
        let mut refused = 0;
        if let Err(error) = self.insert(database, row) {
            if !is_its_own(&error) {
                return Err(error);
            }
            let id = uuid::Uuid::from_bytes(row.id);
            tracing::error!(%error, id = %id.as_simple(), "a record could not be written");
            refused = 1;
        }
        if row.counted {
            let mut name = |text| self.name(database, text);
            let key = (row.hour(), name(row.model())?, name(&row.caller)?, name(row.upstream())?);
            let team = row.team.as_deref().map(&mut name).transpose()?;
            sums.hours.entry(key).or_default().add(Counts::of(row));
            let used = UsedUp { spent: row.cost.unwrap_or_default(), requests: 1, last: row.at };
            sums.add_used(false, key.2, &row.day(), used);
            if let Some(team) = team {
                sums.add_used(true, team, &row.day(), used);
            }
        }
        Ok(refused)
    }

    fn add_sums(
        &mut self,
        database: &Connection,
        owed: &Owed,
        sums: &Sums,
    ) -> rusqlite::Result<()> {
        for (SumKey { hour, model, caller, upstream, team, day }, counts) in owed.iter() {
            let mut name = |text: &String| self.name(database, text);
            let (caller, team) = (name(caller)?, team.as_ref().map(&mut name).transpose()?);
            add(database, (*hour, name(model)?, caller, name(upstream)?), counts)?;
            let last = hour.saturating_mul(HOUR);
            let used = UsedUp { spent: counts.cost, requests: counts.requests, last };
            let at = jiff::Timestamp::from_millisecond(last).unwrap_or_default();
            let day = day.clone().unwrap_or_else(|| crate::config::day(at).to_string());
            add_used(database, (false, caller, &day), used)?;
            if let Some(team) = team {
                add_used(database, (true, team, &day), used)?;
            }
        }
        sums.hours.iter().try_for_each(|(key, counts)| add(database, *key, counts))?;
        sums.used
            .iter()
            .try_for_each(|((team, who, day), used)| add_used(database, (*team, *who, day), *used))
    }

    /// Writes what a gateway that was killed left under way, all of it or nothing.
    pub(super) fn charge(
        &mut self,
        database: &mut Connection,
        rows: &VecDeque<JournalRow<'_>>,
    ) -> rusqlite::Result<()> {
        let charged = self.charge_all(database, rows);
        if charged.is_err() {
            self.names.clear();
        }
        charged
    }

    fn charge_all(
        &mut self,
        database: &mut Connection,
        rows: &VecDeque<JournalRow<'_>>,
    ) -> rusqlite::Result<()> {
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut sums = Sums::default();
        for row in rows {
            self.row(&transaction, row, &mut sums)?;
        }
        self.add_sums(&transaction, &Owed::default(), &sums)?;
        transaction.commit()
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

    fn insert(&mut self, database: &Connection, row: &JournalRow<'_>) -> rusqlite::Result<()> {
        let [input, output, cache_read, cache_write, cache_write_1h] = row.tokens.map(signed);
        let mut some = |text: Option<&str>| text.map(|text| self.name(database, text)).transpose();
        let mut insert = database.prepare_cached(
            "INSERT OR REPLACE INTO record
                (id, at, request, caller, dialect, endpoint, upstream, asked, wanted, model, stream, sent,
                    status, outcome, stop_reason, fault, attempts, input, output, cache_read, cache_write,
                    cache_write_1h, first_byte_us, total_us, body_in, body_out, changes, cost, book, reckoned,
                    team, session, agent, parent_agent, prompt, class, client, version)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30,
                    ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38)",
        )?;
        insert.execute(params![
            row.id,
            row.at,
            row.request,
            some(Some(&row.caller))?,
            some(Some(&row.dialect))?,
            some(Some(&row.endpoint))?,
            some(row.upstream.as_deref())?,
            some(Some(&row.asked))?,
            some(row.wanted.as_deref())?,
            some(row.model.as_deref())?,
            row.stream,
            row.sent,
            row.status,
            some(Some(&row.outcome))?,
            some(row.stop_reason.as_deref())?,
            some(row.fault.as_deref())?,
            row.attempts,
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h,
            row.first_byte_us.map(signed),
            signed(row.total_us),
            row.body_in.as_ref().map(blake3::Hash::as_slice).or(row.as_it_came.then_some(&[])),
            row.body_out.as_ref().map(blake3::Hash::as_slice),
            some(row.changes.as_deref())?,
            row.cost.map(signed),
            some(row.book.as_deref())?,
            signed(row.reckoned),
            some(row.team.as_deref())?,
            row.asker.session.as_deref(),
            row.asker.agent.as_deref(),
            row.asker.parent_agent.as_deref(),
            row.asker.prompt.as_deref(),
            some(row.asker.class.as_deref())?,
            some(row.asker.client.as_deref())?,
            some(row.asker.version.as_deref())?,
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
