//! The layout of the store, and how older ones become it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use seaway_wire::StopReason;

use super::StoreError;
use crate::record::Record;

/// Each step brings the layout to the version that is its place in the list.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE exchange (
        id TEXT PRIMARY KEY,
        request_id TEXT NOT NULL,
        at INTEGER NOT NULL,            -- milliseconds since the epoch
        caller TEXT NOT NULL,
        dialect TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        upstream TEXT,
        asked TEXT NOT NULL,            -- the model by the client's name
        model TEXT,                     -- the model by the upstream's word
        stream INTEGER NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        stop_reason TEXT,
        fault TEXT,
        attempts INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        first_byte_us INTEGER,
        total_us INTEGER NOT NULL,
        body_in BLOB,                   -- BLAKE3
        body_out BLOB,                  -- none where it is the same
        changes TEXT NOT NULL           -- JSON: [[name, path], …]
    ) STRICT;
    CREATE INDEX exchange_at ON exchange (at);
",
    "
    CREATE TABLE session (
        upstream TEXT NOT NULL,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        program_id TEXT NOT NULL,       -- the program's own name of it
        model TEXT NOT NULL,
        print TEXT NOT NULL,            -- SHA-256 of what was said; nothing of it is kept here
        folder TEXT,                    -- where a run worked
        turns INTEGER NOT NULL,
        used INTEGER NOT NULL,          -- seconds since the epoch
        PRIMARY KEY (owner, upstream, name)
    ) STRICT;
    CREATE TABLE task (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        status TEXT NOT NULL,           -- queued, running, completed, failed, cancelled
        created INTEGER NOT NULL,       -- milliseconds since the epoch
        started INTEGER,
        ended INTEGER,
        process INTEGER NOT NULL,       -- who works on it
        answer TEXT,                    -- JSON, as a run answers
        error TEXT                      -- JSON: {type, message}
    ) STRICT;
    CREATE INDEX task_owner ON task (owner, created);
",
    "
    CREATE TABLE response (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        created INTEGER NOT NULL,       -- seconds since the epoch
        object TEXT NOT NULL,           -- JSON, as the client got it
        items TEXT NOT NULL,            -- JSON: the input of its request
        system TEXT NOT NULL,           -- JSON: what a later request goes on from, as Messages had it
        turns TEXT NOT NULL,
        model TEXT NOT NULL
    ) STRICT;
    CREATE INDEX response_created ON response (created);
",
    "
    ALTER TABLE exchange ADD COLUMN wanted TEXT;    -- the model that its upstream was asked for
    ALTER TABLE exchange ADD COLUMN sent INTEGER;   -- an upstream got it, or may have; none where that was not noted
",
    "
    CREATE INDEX exchange_request ON exchange (request_id);
",
];

fn version(database: &Connection) -> rusqlite::Result<i64> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The version of the layout that this program knows.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Refuses a layout that is newer than this program.
pub(super) fn check(database: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(database)?;
    if found > known() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: known() });
    }
    Ok(())
}

/// Copies an older store, whole, before its layout is touched: `seaway.db.layout-4` holds what `seaway.db` was.
///
/// # Errors
///
/// If there is no room for it; the store is then left as it is.
pub(super) fn copy(database: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(database)?;
    if !(1..known()).contains(&found) {
        return Ok(());
    }
    let named = |end: &str| PathBuf::from(format!("{}.layout-{found}{end}", path.display()));
    let (copy, unfinished) = (named(""), named(&format!(".{}", std::process::id())));
    if copy.exists() {
        return Ok(());
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Copy { path: copy.clone(), source };
    super::private_file(&unfinished).map_err(|error| failed(error.into()))?;
    let written = database.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]).map_err(|error| failed(error.into()));
    let placed = written.and_then(|_| std::fs::rename(&unfinished, &copy).map_err(|error| failed(error.into())));
    if placed.is_err() {
        // Half a copy is of no use, and fills the disk.
        let _gone = std::fs::remove_file(&unfinished);
    }
    placed
}

/// Brings the layout up to date, all of it or nothing.
pub(super) fn migrate(database: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // Of several that start at once, one migrates and the others find it done.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check(&transaction, path)?;
    let from = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known())?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn insert(database: &Connection, record: &Record) -> rusqlite::Result<()> {
    let usage = record.summary.usage;
    let changes: Vec<(&str, &str)> = record.changes.iter().map(|change| (&*change.name, change.path.as_str())).collect();
    let mut insert = database.prepare_cached(
        "INSERT OR REPLACE INTO exchange VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)",
    )?;
    insert.execute(params![
        record.id,
        record.request_id,
        record.at.as_millisecond(),
        &*record.caller.0,
        record.dialect.name(),
        record.endpoint,
        record.upstream.as_ref().map(|name| &*name.0),
        record.asked,
        record.summary.model,
        record.stream,
        record.status,
        record.outcome.name(),
        record.summary.stop_reason.as_ref().map(StopReason::name),
        record.fault,
        record.attempts,
        signed(usage.input),
        signed(usage.output),
        signed(usage.cache_read),
        signed(usage.cache_write),
        signed(usage.cache_write_1h),
        record.first_byte.map(micros),
        micros(record.total),
        record.body_in.as_ref().map(blake3::Hash::as_bytes),
        record.body_out.as_ref().filter(|_| record.body_out != record.body_in).map(blake3::Hash::as_bytes),
        serde_json::to_string(&changes).unwrap_or_default(),
        record.wanted,
        record.sent,
    ])?;
    Ok(())
}

/// Deletes records that are older than `retention`.
pub(super) fn forget(database: &Connection, retention: Duration) -> rusqlite::Result<()> {
    let oldest = jiff::Timestamp::now().as_millisecond() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    database.execute("DELETE FROM exchange WHERE at < ?1", [oldest])?;
    database.execute("DELETE FROM task WHERE ended < ?1", [oldest])?;
    database.execute("DELETE FROM session WHERE used < ?1", [oldest / 1000]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_store_is_copied_before_it_is_migrated() {
        let folder = tempfile::tempdir().unwrap();
        for from in 1..MIGRATIONS.len() {
            let path = folder.path().join(format!("{from}.db"));
            let old = Connection::open(&path).unwrap();
            for step in &MIGRATIONS[..from] {
                old.execute_batch(step).unwrap();
            }
            old.pragma_update(None, "user_version", i64::try_from(from).unwrap()).unwrap();
            let columns: usize = old.query_row("SELECT count(*) FROM pragma_table_info('exchange')", [], |row| row.get(0)).unwrap();
            // Two of them are hashes, which a number is not.
            let value = |number: usize| if (22..24).contains(&number) { "NULL".to_owned() } else { number.to_string() };
            let values = (0..columns).map(value).collect::<Vec<_>>().join(",");
            old.execute(&format!("INSERT INTO exchange VALUES ({values})"), []).unwrap();
            drop(old);
            drop(super::super::open(Some(&path)).unwrap());
            drop(super::super::open(Some(&path)).unwrap());
            let copy = folder.path().join(format!("{from}.db.layout-{from}"));
            let kept = Connection::open(&copy).unwrap();
            let asked = |database: &Connection| database.query_row("SELECT asked FROM exchange", [], |row| row.get::<_, String>(0)).unwrap();
            assert_eq!((version(&kept).unwrap(), asked(&kept)), (i64::try_from(from).unwrap(), "7".into()));
            let migrated = Connection::open(&path).unwrap();
            assert_eq!((version(&migrated).unwrap(), asked(&migrated)), (known(), "7".into()));
            let mode = std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2 * (MIGRATIONS.len() - 1), "no side files, no half copies");
    }

    #[test]
    fn an_exchange_is_found_without_reading_the_table() {
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, Path::new("x")).unwrap();
        let mut plan = database.prepare("EXPLAIN QUERY PLAN SELECT id FROM exchange WHERE id = ?1 OR request_id = ?1 ORDER BY at DESC LIMIT 1").unwrap();
        let steps: Vec<String> = plan.query_map(["x"], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(steps.iter().any(|step| step.contains("exchange_request")) && !steps.iter().any(|step| step.contains("SCAN")), "{steps:?}");
    }

    #[test]
    fn a_layout_from_the_future_is_refused() {
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, Path::new("x")).unwrap();
        migrate(&mut database, Path::new("x")).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(migrate(&mut database, Path::new("x")), Err(StoreError::Newer { found: 99, .. })));
    }
}
