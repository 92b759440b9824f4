//! At which upstream something was made that can be asked for again: files and batches.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Promise, Store};

/// How long that is remembered. Batches are gone before; of files this is how long one may lie unasked.
const KEPT: Duration = Duration::from_secs(2 * 365 * 86_400);

/// The upstream and the owner of a file or batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeAt {
    pub upstream: String,
    /// The caller; empty where that was not noted.
    pub owner: String,
}

impl MadeAt {
    /// True for something that is known to be another caller's.
    pub fn is_of_another(&self, caller: &str) -> bool {
        !self.owner.is_empty() && self.owner != caller
    }
}

impl Store {
    /// Keeps where something was made, and for whom. It is kept once this resolves well, and not before.
    pub fn keep_made(&self, id: String, made: MadeAt) -> Promise<()> {
        let now = jiff::Timestamp::now().as_second();
        self.keep(move |database| {
            let mut insert = database.prepare_cached(
                "INSERT OR REPLACE INTO made (id, upstream, made, owner) VALUES (?1, ?2, ?3, ?4)",
            )?;
            insert.execute(params![id, made.upstream, now, made.owner]).map(drop)
        })
    }

    /// Finds where something was made, if it was made by way of us.
    pub fn made_at(&self, id: &str) -> Promise<Option<MadeAt>> {
        let id = id.to_owned();
        self.look_up(move |database| {
            database
                .prepare_cached("SELECT upstream, owner FROM made WHERE id = ?1")?
                .query_row([id], |row| Ok(MadeAt { upstream: row.get(0)?, owner: row.get(1)? }))
                .optional()
        })
    }

    /// Finds all that was made for a caller, by its ids.
    pub fn made_for(&self, owner: &str) -> Promise<HashSet<String>> {
        let owner = owner.to_owned();
        self.look_up(move |database| {
            let mut select = database.prepare_cached("SELECT id FROM made WHERE owner = ?1")?;
            let ids = select.query_map([owner], |row| row.get(0))?;
            ids.collect()
        })
    }

    /// Finds one among these that was made for another caller.
    pub fn made_for_another(&self, ids: Vec<String>, caller: &str) -> Promise<Option<String>> {
        let caller = caller.to_owned();
        self.look_up(move |database| {
            let mut select = database
                .prepare_cached("SELECT 1 FROM made WHERE id = ?1 AND owner NOT IN ('', ?2)")?;
            for id in ids {
                if select.exists(params![id, caller])? {
                    return Ok(Some(id));
                }
            }
            Ok(None)
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
