//! What many records have in common, kept once: texts that repeat, and which of them come together.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, params_from_iter, types::Value};

use super::row::JournalRow;

/// Texts and shapes that are known without asking the database. There are few, unless somebody makes them up.
const KNOWN: usize = 10_000;

/// What of a record is a row of `shape`: texts, and numbers that repeat.
const TEXTS: [&str; 16] = [
    "caller",
    "dialect",
    "endpoint",
    "upstream",
    "asked",
    "wanted",
    "model",
    "outcome",
    "stop_reason",
    "fault",
    "changes",
    "book",
    "team",
    "class",
    "client",
    "version",
];
const NUMBERS: [&str; 4] = ["stream", "sent", "status", "attempts"];

/// The rows of names that records are summed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct SummedBy {
    pub(super) model: i64,
    pub(super) caller: i64,
    pub(super) upstream: i64,
    pub(super) team: Option<i64>,
}

/// The row of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) id: i64,
    pub(super) summed_by: SummedBy,
}

/// The rows that are known.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    names: HashMap<String, i64>,
    known: HashMap<Box<[u8]>, Shape>,
    /// Of the record at hand.
    key: Vec<u8>,
}

impl Shapes {
    /// A transaction is over. One that failed wrote no row of those that were new in it.
    pub(super) fn ended(&mut self, failed: bool) {
        if failed || self.names.len().max(self.known.len()) > KNOWN {
            self.names.clear();
            self.known.clear();
        }
    }

    /// The row of a record's shape, made where there is none.
    pub(super) fn shape(
        &mut self,
        database: &Connection,
        row: &JournalRow<'_>,
    ) -> rusqlite::Result<Shape> {
        write_key(&mut self.key, row);
        if let Some(shape) = self.known.get(self.key.as_slice()) {
            return Ok(*shape);
        }
        let shape =
            Shape { id: self.find(database, row)?, summed_by: self.summed_by(database, row)? };
        self.known.insert(self.key.as_slice().into(), shape);
        Ok(shape)
    }

    fn find(&mut self, database: &Connection, row: &JournalRow<'_>) -> rusqlite::Result<i64> {
        let mut values = Vec::with_capacity(TEXTS.len() + NUMBERS.len());
        for text in texts(row) {
            let name = text.map(|text| self.name(database, text)).transpose()?;
            values.push(name.map_or(Value::Null, Value::Integer));
        }
        values.extend(numbers(row).map(|number| Value::Integer(number.into())));
        let columns = || TEXTS.into_iter().chain(NUMBERS);
        let same: Vec<String> =
            columns().zip(1..).map(|(column, at)| format!("{column} IS ?{at}")).collect();
        let known = database
            .prepare_cached(&format!("SELECT id FROM shape WHERE {}", same.join(" AND ")))?
            .query_row(params_from_iter(&values), |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
        let (columns, places): (Vec<&str>, Vec<&str>) =
            columns().map(|column| (column, "?")).unzip();
        let (columns, places) = (columns.join(", "), places.join(", "));
        database
            .prepare_cached(&format!("INSERT INTO shape ({columns}) VALUES ({places})"))?
            .insert(params_from_iter(&values))
    }

    /// The rows that a record is summed by.
    pub(super) fn summed_by(
        &mut self,
        database: &Connection,
        row: &JournalRow<'_>,
    ) -> rusqlite::Result<SummedBy> {
        Ok(SummedBy {
            model: self.name(database, row.model())?,
            caller: self.name(database, &row.caller)?,
            upstream: self.name(database, row.upstream())?,
            team: row.team.as_deref().map(|team| self.name(database, team)).transpose()?,
        })
    }

    /// The row that stands for a text.
    pub(super) fn name(&mut self, database: &Connection, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.names.get(text) {
            return Ok(*id);
        }
        let id = super::accounts::name_of(database, text)?;
        self.names.insert(text.to_owned(), id);
        Ok(id)
    }
}

/// In the order of [`TEXTS`].
fn texts<'a>(row: &'a JournalRow<'_>) -> [Option<&'a str>; TEXTS.len()] {
    [
        Some(&row.caller),
        Some(&row.dialect),
        Some(&row.endpoint),
        row.upstream.as_deref(),
        Some(&row.asked),
        row.wanted.as_deref(),
        row.model.as_deref(),
        Some(&row.outcome),
        row.stop_reason.as_deref(),
        row.fault.as_deref(),
        row.changes.as_deref(),
        row.book.as_deref(),
        row.team.as_deref(),
        row.asker.class.as_deref(),
        row.asker.client.as_deref(),
        row.asker.version.as_deref(),
    ]
}

/// In the order of [`NUMBERS`].
fn numbers(row: &JournalRow<'_>) -> [u32; NUMBERS.len()] {
    [row.stream.into(), row.sent.into(), row.status.into(), row.attempts]
}

/// Writes what tells a shape from every other: each text behind its length, one more than it is, or zero where there is none.
fn write_key(key: &mut Vec<u8>, row: &JournalRow<'_>) {
    key.clear();
    for text in texts(row) {
        let length = text.map_or(0, |text| text.len() + 1);
        key.extend_from_slice(&length.to_le_bytes());
        key.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    for number in numbers(row) {
        key.extend_from_slice(&number.to_le_bytes());
    }
}
