//! Conversations that the program can take up again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use super::schema::signed;

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
    /// What was said so far is known by this; nothing for a run's.
    pub print: String,
    /// Where a run worked; the program finds it again only from there.
    pub folder: Option<String>,
    pub turns: u64,
    /// Seconds since the epoch.
    pub used: i64,
}

const COLUMNS: &str = "upstream, owner, name, program_id, model, print, folder, turns, used";

impl Store {
    /// Writes down where a session stands.
    pub fn keep_session(&self, session: Session) {
        self.work(move |database| put(database, &session));
    }

    /// Finds a session that was used within `retention`.
    pub async fn session(&self, upstream: &str, owner: &str, name: &str, retention: Duration) -> Option<Session> {
        let (upstream, owner, name) = (upstream.to_owned(), owner.to_owned(), name.to_owned());
        let oldest = expired(retention);
        let find = format!("SELECT {COLUMNS} FROM session WHERE upstream = ?1 AND owner = ?2 AND name = ?3 AND used >= ?4");
        self.ask(move |database| database.query_row(&find, params![upstream, owner, name, oldest], read).optional()).await?
    }

    /// Lists an owner's sessions that were used within `retention`, the newest first. Older ones are deleted.
    pub async fn sessions(&self, owner: &str, retention: Duration) -> Vec<Session> {
        let owner = owner.to_owned();
        let oldest = expired(retention);
        let listed = self.ask(move |database| {
            database.execute("DELETE FROM session WHERE used < ?1", [oldest])?;
            let mut select = database.prepare(&format!("SELECT {COLUMNS} FROM session WHERE owner = ?1 ORDER BY used DESC, name"))?;
            let rows = select.query_map([owner], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        listed.await.unwrap_or_default()
    }

    /// Deletes an owner's session, at whatever upstream; returns what was known of it.
    pub async fn forget_session(&self, owner: &str, name: &str) -> Vec<Session> {
        let (owner, name) = (owner.to_owned(), name.to_owned());
        let deleted = self.ask(move |database| {
            let mut delete = database.prepare(&format!("DELETE FROM session WHERE owner = ?1 AND name = ?2 RETURNING {COLUMNS}"))?;
            let rows = delete.query_map(params![owner, name], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        deleted.await.unwrap_or_default()
    }
}

pub(super) fn expired(retention: Duration) -> i64 {
    jiff::Timestamp::now().as_second().saturating_sub(i64::try_from(retention.as_secs()).unwrap_or(i64::MAX))
}

fn put(database: &Connection, session: &Session) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    let turns = signed(session.turns);
    insert.execute(params![session.upstream, session.owner, session.name, session.program_id, session.model, session.print, session.folder, turns, session.used]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        upstream: row.get(0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        program_id: row.get(3)?,
        model: row.get(4)?,
        print: row.get(5)?,
        folder: row.get(6)?,
        turns: row.get(7)?,
        used: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn session(name: &str, used: i64) -> Session {
        let owner = "me".to_owned();
        Session {
            upstream: "cc".into(),
            owner,
            name: name.into(),
            program_id: "id".into(),
            model: "m".into(),
            print: "p".into(),
            folder: None,
            turns: 1,
            used: jiff::Timestamp::now().as_second() - used,
        }
    }

    #[tokio::test]
    async fn a_session_is_its_owners_until_it_expires() {
        let store = Store::in_memory();
        for (name, age) in [("new", 5), ("old", 100_000), ("newer", 0)] {
            store.keep_session(session(name, age));
        }
        assert!(store.session("cc", "me", "new", DAY).await.is_some());
        assert!(store.session("cc", "you", "new", DAY).await.is_none());
        assert!(store.session("cc", "me", "old", DAY).await.is_none(), "expired on read");
        let names: Vec<String> = store.sessions("me", DAY).await.into_iter().map(|session| session.name).collect();
        assert_eq!(names, ["newer", "new"]);
        assert_eq!(store.forget_session("me", "new").await.len(), 1);
        assert!(store.forget_session("me", "new").await.is_empty());
        assert!(store.forget_session("me", "old").await.is_empty(), "what expired was deleted");
    }
}
