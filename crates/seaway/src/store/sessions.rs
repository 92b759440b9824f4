//! Conversations that the program can take up again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::keys::signed;
use super::{Promise, Store};

/// Where a named conversation stands, without a word of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub upstream: String,
    pub owner: String,
    /// By the client's name.
    pub name: String,
    /// By the program's.
    pub program_id: String,
    pub model: String,
    /// Where a run worked; the program finds it again only from there.
    pub folder: Option<String>,
    pub turns: u64,
    /// Seconds since the epoch.
    pub used: i64,
}

const COLUMNS: &str = "upstream, owner, name, program_id, model, folder, turns, used";

impl Store {
    /// Writes down where a session stands.
    pub fn keep_session(&self, session: Session) -> Promise<()> {
        self.keep(move |database| put(database, &session))
    }

    /// Finds a session that was used within `retention`.
    pub fn session(
        &self,
        upstream: &str,
        owner: &str,
        name: &str,
        retention: Duration,
    ) -> Promise<Option<Session>> {
        let (upstream, owner, name) = (upstream.to_owned(), owner.to_owned(), name.to_owned());
        let oldest = expired(retention);
        let find = format!(
            "SELECT {COLUMNS} FROM session WHERE upstream = ?1 AND owner = ?2 AND name = ?3 AND used >= ?4"
        );
        self.look_up(move |database| {
            database.query_row(&find, params![upstream, owner, name, oldest], read).optional()
        })
    }

    /// Lists an owner's sessions that were used within `retention`, the newest first.
    pub fn sessions(&self, owner: &str, retention: Duration) -> Promise<Vec<Session>> {
        let owner = owner.to_owned();
        let oldest = expired(retention);
        self.look_up(move |database| {
            let mut select = database.prepare_cached(&format!("SELECT {COLUMNS} FROM session WHERE owner = ?1 AND used >= ?2 ORDER BY used DESC, name"))?;
            let rows = select.query_map(params![owner, oldest], read)?;
            rows.collect()
        })
    }

    /// Deletes an owner's session, at whatever upstream; returns what was known of it.
    pub fn forget_session(&self, owner: &str, name: &str) -> Promise<Vec<Session>> {
        let (owner, name) = (owner.to_owned(), name.to_owned());
        self.keep(move |database| {
            let mut delete = database.prepare_cached(&format!(
                "DELETE FROM session WHERE owner = ?1 AND name = ?2 RETURNING {COLUMNS}"
            ))?;
            let rows = delete.query_map(params![owner, name], read)?;
            rows.collect()
        })
    }
}

pub(super) fn expired(retention: Duration) -> i64 {
    jiff::Timestamp::now()
        .as_second()
        .saturating_sub(i64::try_from(retention.as_secs()).unwrap_or(i64::MAX))
}

fn put(database: &Connection, session: &Session) -> rusqlite::Result<()> {
    let mut insert = database
        .prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    let turns = signed(session.turns);
    insert
        .execute(params![
            session.upstream,
            session.owner,
            session.name,
            session.program_id,
            session.model,
            session.folder,
            turns,
            session.used
        ])
        .map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        upstream: row.get(0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        program_id: row.get(3)?,
        model: row.get(4)?,
        folder: row.get(5)?,
        turns: row.get(6)?,
        used: row.get(7)?,
    })
}
