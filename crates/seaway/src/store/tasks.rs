//! Runs in the background: where they stand, and what they came to. Never what was asked.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use super::sessions::expired;

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
    #[must_use]
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

    /// True if nothing more will come of it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

const COLUMNS: &str = "id, owner, status, created, started, ended, answer, error";
/// What became of a task whose gateway ended before it did.
pub const RESTARTED: &str = r#"{"type":"server_restart","message":"the gateway ended before the task did; start it again"}"#;

impl Store {
    /// Writes where a task stands.
    pub fn keep_task(&self, task: Task) {
        self.work(move |database| put(database, &task));
    }

    /// Finds an owner's task.
    pub async fn task(&self, owner: &str, id: &str) -> Option<Task> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        let find = format!("SELECT {COLUMNS} FROM task WHERE owner = ?1 AND id = ?2");
        self.ask(move |database| database.query_row(&find, params![owner, id], read).optional()).await?
    }

    /// Lists an owner's tasks, the newest first. Those that ended before `retention` are deleted.
    pub async fn tasks(&self, owner: &str, retention: Duration) -> Vec<Task> {
        let owner = owner.to_owned();
        let oldest = expired(retention).saturating_mul(1000);
        let listed = self.ask(move |database| {
            database.execute("DELETE FROM task WHERE ended < ?1", [oldest])?;
            let mut select = database.prepare(&format!("SELECT {COLUMNS} FROM task WHERE owner = ?1 ORDER BY created DESC, id DESC"))?;
            let rows = select.query_map([owner], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        listed.await.unwrap_or_default()
    }

    /// Deletes a task; true if there was one.
    pub async fn forget_task(&self, owner: &str, id: &str) -> bool {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        let deleted = self.ask(move |database| database.execute("DELETE FROM task WHERE owner = ?1 AND id = ?2", params![owner, id]));
        deleted.await.is_some_and(|count| count > 0)
    }

    /// Ends the tasks of gateways that are no more.
    ///
    /// A gateway that starts has no tasks yet: those under its number are of one before it.
    pub fn settle_tasks(&self, starting: bool, is_alive: impl Fn(u32) -> bool + Send + 'static) {
        self.work(move |database| {
            let mut select = database.prepare("SELECT DISTINCT process FROM task WHERE status IN ('queued', 'running')")?;
            let processes: Vec<u32> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let own = std::process::id();
            for process in processes.into_iter().filter(|process| if *process == own { starting } else { !is_alive(*process) }) {
                let now = jiff::Timestamp::now().as_millisecond();
                let end = "UPDATE task SET status = 'failed', ended = ?1, error = ?2 WHERE process = ?3 AND status IN ('queued', 'running')";
                database.execute(end, params![now, RESTARTED, process])?;
            }
            Ok(())
        });
    }
}

fn put(database: &Connection, task: &Task) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached("INSERT OR REPLACE INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    let row = params![task.id, task.owner, task.status.name(), task.created, task.started, task.ended, std::process::id(), task.answer, task.error];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_gateway_left_unfinished_has_failed() {
        let store = Store::in_memory();
        let task = |id: &str, status| Task { id: id.into(), owner: "me".into(), status, created: 1, started: None, ended: None, answer: None, error: None };
        store.keep_task(task("a", TaskStatus::Running));
        store.keep_task(task("b", TaskStatus::Completed));
        assert!(store.task("you", "a").await.is_none());
        store.settle_tasks(false, |_| true);
        assert_eq!(store.task("me", "a").await.unwrap().status, TaskStatus::Running);
        store.settle_tasks(true, |_| true);
        let (a, b) = (store.task("me", "a").await.unwrap(), store.task("me", "b").await.unwrap());
        assert_eq!((a.status, b.status), (TaskStatus::Failed, TaskStatus::Completed));
        assert!(a.error.unwrap().contains("server_restart") && b.error.is_none());
        assert_eq!(store.tasks("me", Duration::from_secs(3600)).await.len(), 2);
        assert!(store.forget_task("me", "a").await && !store.forget_task("you", "b").await);
    }
}
