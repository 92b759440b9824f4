//! Responses that clients may ask for again, and go on from.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use seaway_wire::responses::Memory;

use super::Store;
use super::sessions::expired;

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
    /// Keeps a response.
    pub fn keep_response(&self, response: Response) {
        self.work(move |database| {
            let items = format!("[{}]", response.items.join(","));
            let Memory { system, turns, model } = response.memory;
            let mut insert = database.prepare_cached("INSERT OR REPLACE INTO response VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
            insert.execute(params![response.id, response.owner, response.created, response.object, items, system, turns, model]).map(drop)
        });
    }

    /// Finds an owner's response that is not older than `retention`.
    pub async fn response(&self, owner: &str, id: &str, retention: Duration) -> Option<Response> {
        let (owner, id, oldest) = (owner.to_owned(), id.to_owned(), expired(retention));
        self.ask(move |database| find(database, &owner, &id, oldest)).await?
    }

    /// Finds an item of an owner's, of an answer or of a request. Its id says which response it belongs to.
    pub async fn response_item(&self, owner: &str, id: &str, retention: Duration) -> Option<String> {
        let response = format!("resp_{}", id.split('_').nth(1)?);
        let found = self.response(owner, &response, retention).await?;
        let object: Output = serde_json::from_str(&found.object).ok()?;
        let mut all = object.output.iter().map(|raw| raw.get()).chain(found.items.iter().map(String::as_str));
        let item = all.find(|item| serde_json::from_str::<Named>(item).is_ok_and(|named| named.id == id))?;
        Some(found.memory.with_thinking(&found.object, item))
    }

    /// Deletes a response; true if there was one.
    pub async fn forget_response(&self, owner: &str, id: &str) -> bool {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        let deleted = self.ask(move |database| database.execute("DELETE FROM response WHERE owner = ?1 AND id = ?2", params![owner, id]));
        deleted.await.is_some_and(|count| count > 0)
    }

    /// Deletes what is older than `retention`, and of the rest the oldest beyond `limit` bytes.
    pub fn sweep_responses(&self, retention: Duration, limit: u64) {
        let (oldest, limit) = (expired(retention), i64::try_from(limit).unwrap_or(i64::MAX));
        self.work(move |database| {
            database.execute("DELETE FROM response WHERE created < ?1", [oldest])?;
            // The sizes stand at the head of each row: no text is read for them.
            let size = "octet_length(object) + octet_length(items) + octet_length(system) + octet_length(turns)";
            let newer = format!("SELECT rowid AS number, sum({size}) OVER (ORDER BY created DESC, rowid DESC) AS total FROM response");
            database.execute(&format!("DELETE FROM response WHERE rowid IN (SELECT number FROM ({newer}) WHERE total > ?1)"), [limit]).map(drop)
        });
    }
}

#[derive(serde::Deserialize)]
struct Output {
    output: Vec<Box<serde_json::value::RawValue>>,
}

#[derive(serde::Deserialize)]
struct Named {
    #[serde(default)]
    id: String,
}

fn find(database: &Connection, owner: &str, id: &str, oldest: i64) -> rusqlite::Result<Option<Response>> {
    let mut select = database.prepare_cached("SELECT id, owner, created, object, items, system, turns, model FROM response WHERE owner = ?1 AND id = ?2 AND created >= ?3")?;
    select.query_row(params![owner, id, oldest], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Response> {
    let items: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default();
    Ok(Response {
        id: row.get(0)?,
        owner: row.get(1)?,
        created: row.get(2)?,
        object: row.get(3)?,
        items: items.iter().map(|item| item.get().to_owned()).collect(),
        memory: Memory { system: row.get(5)?, turns: row.get(6)?, model: row.get(7)? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn a_response_is_its_owners_until_it_is_deleted_or_old() {
        let store = Store::in_memory();
        let now = jiff::Timestamp::now().as_second();
        let response = |id: &str, age: i64| Response {
            id: id.into(),
            owner: "me".into(),
            created: now - age,
            object: r#"{"output":[{"id":"msg_1_0","a": 1.0}]}"#.into(),
            items: vec![r#"{"id":"msg_1_in_0"}"#.into()],
            memory: Memory { system: String::new(), turns: "[]".into(), model: "m".into() },
        };
        store.keep_response(response("resp_1", 5));
        store.keep_response(response("resp_2", 100_000));
        assert_eq!(store.response("me", "resp_1", DAY).await, Some(response("resp_1", 5)));
        assert_eq!(store.response("you", "resp_1", DAY).await, None);
        assert_eq!(store.response("me", "resp_2", DAY).await, None, "too old");
        assert_eq!(store.response_item("me", "msg_1_0", DAY).await.as_deref(), Some(r#"{"id":"msg_1_0","a": 1.0}"#));
        assert_eq!(store.response_item("me", "msg_1_in_0", DAY).await.as_deref(), Some(r#"{"id":"msg_1_in_0"}"#));
        assert_eq!(store.response_item("me", "msg_9_0", DAY).await, None);
        assert!(store.forget_response("me", "resp_1").await && !store.forget_response("me", "resp_1").await);
        store.sweep_responses(DAY, 1 << 20);
        assert!(!store.forget_response("me", "resp_2").await, "what is old was deleted");
        for (id, age) in [("resp_3", 9), ("resp_4", 8), ("resp_5", 7)] {
            store.keep_response(response(id, age));
        }
        store.sweep_responses(DAY, 150);
        let left = async |id: &str| store.response("me", id, DAY).await.is_some();
        assert_eq!((left("resp_3").await, left("resp_4").await, left("resp_5").await), (false, true, true), "the oldest made room");
    }
}
