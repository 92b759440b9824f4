//! Responses that clients may ask for again, and go on from.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use seaway_wire::responses::Memory;

use super::keys::signed;
use super::schema::give_back;
use super::sessions::expired;
use super::{Promise, Store, StoreError};

/// A response, with all that a later request needs to go on from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: String,
    pub owner: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// As the client got it.
    pub object: String,
    /// The items of its request's input, each as JSON.
    pub items: Vec<String>,
    pub memory: Memory,
}

impl Store {
    /// Keeps a response. It is kept once this resolves well, and not before.
    pub fn keep_response(&self, response: Response) -> Promise<()> {
        let items = format!("[{}]", response.items.join(","));
        let Memory { system, turns, model } = response.memory;
        let bytes = [&response.object, &items, &system, &turns].iter().map(|text| text.len()).sum();
        let size = signed(bytes as u64);
        self.keep_sized(bytes, move |database| {
            let mut insert = database.prepare_cached(
                "INSERT OR REPLACE INTO response VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            insert
                .execute(params![
                    response.id,
                    response.owner,
                    response.created,
                    response.object,
                    items,
                    system,
                    turns,
                    model,
                    size
                ])
                .map(drop)
        })
    }

    /// Finds an owner's response that is not older than `retention`.
    pub fn response(
        &self,
        owner: &str,
        id: &str,
        retention: Duration,
    ) -> Promise<Option<Response>> {
        let (owner, id, oldest) = (owner.to_owned(), id.to_owned(), expired(retention));
        self.look_up(move |database| find(database, &owner, &id, oldest))
    }

    /// Finds an item of an owner's, of an answer or of a request. Its id says which response it belongs to.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn response_item(
        &self,
        owner: &str,
        id: &str,
        retention: Duration,
    ) -> Result<Option<String>, StoreError> {
        let Some(number) = id.split('_').nth(1) else { return Ok(None) };
        let found = self.response(owner, &format!("resp_{number}"), retention).await?;
        Ok(found.and_then(|found| item(&found, id)))
    }

    /// Deletes a response; true if there was one.
    pub fn forget_response(&self, owner: &str, id: &str) -> Promise<bool> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        self.keep(move |database| {
            database
                .execute("DELETE FROM response WHERE owner = ?1 AND id = ?2", params![owner, id])
                .map(|count| count > 0)
        })
    }

    /// Deletes what is older than `retention`, and of the rest the oldest beyond `limit` bytes; a few at a time, so that nobody waits for it.
    ///
    /// # Errors
    ///
    /// If the store cannot be written. What was deleted before stays so.
    pub async fn sweep_responses(&self, retention: Duration, limit: u64) -> Result<(), StoreError> {
        let oldest = expired(retention);
        while self.keep(move |database| forget_old(database, oldest)).await? {}
        let total = self
            .report(|database| {
                database.query_row("SELECT coalesce(sum(size), 0) FROM response", [], |row| {
                    row.get::<_, i64>(0)
                })
            })
            .await?;
        let mut over = total.saturating_sub(signed(limit));
        while over > 0 {
            let freed = self.keep(move |database| forget_oldest(database, over)).await?;
            if freed == 0 {
                break;
            }
            over -= freed;
        }
        Ok(())
    }
}

/// Responses that are deleted at once at most.
const SLICE: i64 = 20;

/// Deletes some of what is too old; true if there may be more.
fn forget_old(database: &mut Connection, oldest: i64) -> rusqlite::Result<bool> {
    let old = database.execute("DELETE FROM response WHERE id IN (SELECT id FROM response WHERE created < ?1 ORDER BY created LIMIT ?2)", params![oldest, SLICE])?;
    if old > 0 {
        give_back(database)?;
    }
    Ok(old > 0)
}

/// Deletes some of the oldest, but no more than needed to free so many bytes; returns how many it freed.
fn forget_oldest(database: &mut Connection, over: i64) -> rusqlite::Result<i64> {
    let oldest: Vec<(i64, i64)> = {
        let mut select = database
            .prepare_cached("SELECT rowid, size FROM response ORDER BY created, rowid LIMIT ?1")?;
        let rows = select.query_map([SLICE], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut freed = 0;
    for (row, size) in oldest {
        if freed >= over {
            break;
        }
        database.execute("DELETE FROM response WHERE rowid = ?1", [row])?;
        freed += size;
    }
    give_back(database)?;
    Ok(freed)
}

fn item(response: &Response, id: &str) -> Option<String> {
    let object: Output = serde_json::from_str(&response.object).ok()?;
    let mut all =
        object.output.iter().map(|raw| raw.get()).chain(response.items.iter().map(String::as_str));
    let item =
        all.find(|item| serde_json::from_str::<NamedItem>(item).is_ok_and(|named| named.id == id))?;
    Some(response.memory.with_thinking(&response.object, item))
}

#[derive(serde::Deserialize)]
struct Output {
    output: Vec<Box<serde_json::value::RawValue>>,
}

#[derive(serde::Deserialize)]
struct NamedItem {
    #[serde(default)]
    id: String,
}

fn find(
    database: &Connection,
    owner: &str,
    id: &str,
    oldest: i64,
) -> rusqlite::Result<Option<Response>> {
    let mut select = database.prepare_cached("SELECT id, owner, created, object, items, system, turns, model FROM response WHERE owner = ?1 AND id = ?2 AND created >= ?3")?;
    select.query_row(params![owner, id, oldest], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Response> {
    let items: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default();
    Ok(Response {
        id: row.get(0)?,
        owner: row.get(1)?,
        created: row.get(2)?,
        object: row.get(3)?,
        items: items.iter().map(|item| item.get().to_owned()).collect(),
        memory: Memory { system: row.get(5)?, turns: row.get(6)?, model: row.get(7)? },
    })
}
