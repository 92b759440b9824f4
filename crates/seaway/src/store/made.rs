//! At which upstream something was made that can be asked for again: files and batches.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Promise, Store};

/// How long that is remembered. Batches are gone before; of files this is how long one may lie unasked.
const KEPT: Duration = Duration::from_secs(2 * 365 * 86_400);

impl Store {
    /// Keeps where something was made. It is kept once this resolves well, and not before.
    pub fn keep_made(&self, id: String, upstream: String) -> Promise<()> {
        let now = jiff::Timestamp::now().as_second();
        self.keep(move |database| {
            let mut insert =
                database.prepare_cached("INSERT OR REPLACE INTO made VALUES (?1, ?2, ?3)")?;
            insert.execute(params![id, upstream, now]).map(drop)
        })
    }

    /// Finds the upstream at which something was made, if it was made by way of us.
    pub fn made_at(&self, id: &str) -> Promise<Option<String>> {
        let id = id.to_owned();
        self.look_up(move |database| {
            database
                .prepare_cached("SELECT upstream FROM made WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()
        })
    }

    /// Forgets something that is no more.
    pub fn forget_made(&self, id: &str) -> Promise<()> {
        let id = id.to_owned();
        self.keep(move |database| {
            database.execute("DELETE FROM made WHERE id = ?1", [id]).map(drop)
        })
    }
}

/// Deletes up to `limit` of what nobody can mean any more; true if there was some.
pub(super) fn forget(database: &Connection, limit: i64) -> rusqlite::Result<bool> {
    let oldest = jiff::Timestamp::now()
        .as_second()
        .saturating_sub(i64::try_from(KEPT.as_secs()).unwrap_or(i64::MAX));
    let gone = database.execute(
        "DELETE FROM made WHERE id IN (SELECT id FROM made WHERE made < ?1 LIMIT ?2)",
        params![oldest, limit],
    )?;
    Ok(gone > 0)
}
