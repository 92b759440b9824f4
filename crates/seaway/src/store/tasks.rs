//! Runs in the background: where they stand, and what they came to. Never what was asked.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sessions::expired;
use super::{Promise, Store, StoreError};

/// One run in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: String,
    pub owner: String,
    pub status: TaskStatus,
    /// Milliseconds since the epoch.
    pub created: i64,
    pub started: Option<i64>,
    pub ended: Option<i64>,
    /// As JSON.
    pub answer: Option<String>,
    /// As JSON.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl TaskStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Queued, Self::Running, Self::Completed, Self::Failed];
        all.into_iter().find(|status| status.name() == name).unwrap_or(Self::Cancelled)
    }

    /// True if the task has ended.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

const COLUMNS: &str = "id, owner, status, created, started, ended, answer, error";
/// What became of a task whose gateway ended before it did.
pub const RESTARTED: &str = r#"{"type":"server_restart","message":"the gateway ended before the task did; start it again"}"#;
/// How long a gateway that says nothing more still counts as working on its tasks.
pub const LEASE: Duration = Duration::from_secs(10);

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn lease_end() -> i64 {
    now().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

impl Store {
    /// Writes where a task stands, and that `instance` works on it for another [`LEASE`].
    pub fn keep_task(&self, task: Task, instance: &str) -> Promise<()> {
        let instance = instance.to_owned();
        self.keep(move |database| put(database, &task, &instance, lease_end()))
    }

    /// Says that `instance` still works on a task.
    pub fn renew_task(&self, id: &str, instance: &str) -> Promise<()> {
        let (id, instance) = (id.to_owned(), instance.to_owned());
        self.keep(move |database| {
            database
                .execute(
                    "UPDATE task SET lease = ?1 WHERE id = ?2 AND instance = ?3",
                    params![lease_end(), id, instance],
                )
                .map(drop)
        })
    }

    /// Finds an owner's task.
    pub fn task(&self, owner: &str, id: &str) -> Promise<Option<Task>> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        let find = format!("SELECT {COLUMNS} FROM task WHERE owner = ?1 AND id = ?2");
        self.look_up(move |database| database.query_row(&find, params![owner, id], read).optional())
    }

    /// Lists an owner's tasks that did not end longer than `retention` ago, the newest first.
    pub fn tasks(&self, owner: &str, retention: Duration) -> Promise<Vec<Task>> {
        let owner = owner.to_owned();
        let oldest = expired(retention).saturating_mul(1000);
        self.look_up(move |database| {
            let find = format!("SELECT {COLUMNS} FROM task WHERE owner = ?1 AND coalesce(ended, ?2) >= ?2 ORDER BY created DESC, id DESC");
            let mut select = database.prepare_cached(&find)?;
            let rows = select.query_map(params![owner, oldest], read)?;
            rows.collect()
        })
    }

    /// Deletes a task; true if there was one.
    pub fn forget_task(&self, owner: &str, id: &str) -> Promise<bool> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        self.keep(move |database| {
            database
                .execute("DELETE FROM task WHERE owner = ?1 AND id = ?2", params![owner, id])
                .map(|count| count > 0)
        })
    }

    /// Ends the tasks that nobody works on any more: their gateway is gone without a word. Those of `instance` are its own business.
    ///
    /// # Errors
    ///
    /// If the store cannot be used.
    pub async fn settle_tasks(&self, instance: &str) -> Result<(), StoreError> {
        let (now, asks, ends) = (now(), instance.to_owned(), instance.to_owned());
        let find = "SELECT EXISTS (SELECT 1 FROM task WHERE ended IS NULL AND lease < ?1 AND instance <> ?2)";
        if self
            .look_up(move |database| {
                database.query_row(find, params![now, asks], |row| row.get::<_, bool>(0))
            })
            .await?
        {
            let end = "UPDATE task SET status = 'failed', ended = ?1, error = ?2 WHERE ended IS NULL AND lease < ?1 AND instance <> ?3";
            self.keep(move |database| database.execute(end, params![now, RESTARTED, ends])).await?;
        }
        Ok(())
    }
}

fn put(database: &Connection, task: &Task, instance: &str, lease: i64) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached(
        "INSERT OR REPLACE INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let row = params![
        task.id,
        task.owner,
        task.status.name(),
        task.created,
        task.started,
        task.ended,
        task.answer,
        task.error,
        instance,
        lease
    ];
    insert.execute(row).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get(0)?,
        owner: row.get(1)?,
        status: TaskStatus::parse(&row.get::<_, String>(2)?),
        created: row.get(3)?,
        started: row.get(4)?,
        ended: row.get(5)?,
        answer: row.get(6)?,
        error: row.get(7)?,
    })
}
