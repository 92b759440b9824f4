//! Runs in the background.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use seaway_wire::Dialect;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Job, RunAnswer};
use crate::auth::Caller;
use crate::causes::chain;
use crate::drain::Drain;
use crate::fault::{Fault, FaultKind};
use crate::state::AppState;
use crate::store::{LEASE, RESTARTED, Store, Task, TaskStatus};

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Job {
    /// Does the run in the background, and says where it stands. The task is kept before this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be kept; nothing is begun then.
    pub async fn in_background(self) -> Result<Task, Fault> {
        let task = Task {
            id: self.run_request.id.clone(),
            owner: self.caller.0.to_string(),
            status: TaskStatus::Queued,
            created: now(),
            started: None,
            ended: None,
            answer: None,
            error: None,
        };
        let desk = TaskDesk {
            store: self.state.ledger.store().clone(),
            instance: self.state.instance.clone(),
            drain: self.state.drain.clone(),
        };
        desk.store.keep_task(task.clone(), &desk.instance).await?;
        let mut kept = task.clone();
        let tasks = self.state.tasks.clone();
        // Until its end is written, so that a gateway that leaves waits for that.
        let listed = self.listed.clone();
        tasks.spawn(async move {
            let id = kept.id.clone();
            let work = async {
                let work = self.start().await?;
                kept = Task { status: TaskStatus::Running, started: Some(now()), ..kept.clone() };
                // If this fails it is still said to be queued, which is what its client was told.
                let _kept = desk.store.keep_task(kept.clone(), &desk.instance).await;
                work.finish().await
            };
            let answer = tokio::select! {
                answer = work => answer,
                never = desk.renew(&id) => match never {},
            };
            desk.keep(over(kept, answer, listed.end.is_cancelled())).await;
            drop(listed);
        });
        Ok(task)
    }
}

/// How long to wait before a task's end is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where tasks are written down, and in whose name.
struct TaskDesk {
    store: Store,
    instance: Arc<str>,
    drain: Drain,
}

impl TaskDesk {
    /// Says now and then that somebody works on a task.
    async fn renew(&self, id: &str) -> Infallible {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            if let Err(error) = self.store.renew_task(id, &self.instance).await {
                tracing::warn!(error = %chain(&error), task = id, "the store was not told that a task goes on");
            }
        }
    }

    /// Writes how a task ended. Its client was told that it can be asked for, so this goes on until it is written.
    async fn keep(&self, task: Task) {
        while let Err(error) = self.store.keep_task(task.clone(), &self.instance).await {
            tracing::error!(error = %chain(&error), task = task.id, "the end of a task could not be written; it is tried again");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.drain.wait_cut() => return,
            }
        }
    }
}

fn over(task: Task, answer: RunAnswer, cancelled: bool) -> Task {
    let ended = Some(now());
    match answer {
        Ok(answer) => Task { status: TaskStatus::Completed, ended, answer: Some(answer), ..task },
        Err(_) if cancelled => Task { status: TaskStatus::Cancelled, ended, ..task },
        Err(fault) if fault.kind == FaultKind::Draining => {
            Task { status: TaskStatus::Failed, ended, error: Some(RESTARTED.into()), ..task }
        }
        Err(fault) => {
            Task { status: TaskStatus::Failed, ended, error: Some(error(&fault)), ..task }
        }
    }
}

/// A fault's own part of the envelope that the Messages API has for errors.
fn error(fault: &Fault) -> String {
    let envelope: Value =
        serde_json::from_str(&fault.body(Dialect::Messages, "")).unwrap_or_default();
    envelope["error"].to_string()
}

/// A task as its client sees it.
pub fn shown(task: &Task) -> String {
    let time = |at: Option<i64>| {
        at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).map(|at| at.to_string())
    };
    let raw = |text: &Option<String>| {
        text.as_deref().and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok())
    };
    // The answer's figures stand as the run wrote them.
    let head =
        json!({"id": task.id, "status": task.status.name(), "createdAt": time(Some(task.created)), "startedAt": time(task.started), "endedAt": time(task.ended)}).to_string();
    let null = || "null".to_owned();
    let answer = raw(&task.answer).map_or_else(null, |raw| raw.get().to_owned());
    let error = raw(&task.error).map_or_else(null, |raw| raw.get().to_owned());
    format!("{},\"answer\":{answer},\"error\":{error}}}", head.trim_end_matches('}'))
}

/// Ends a task that is under way, deletes one that is over.
///
/// # Errors
///
/// If there is none.
pub async fn remove(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &str,
) -> Result<&'static str, Fault> {
    // A run of this gateway is ended, whatever its task says.
    if state.agents.end(caller, id) {
        return Ok("cancelling");
    }
    let store = state.ledger.store();
    store.settle_tasks(&state.instance).await?;
    let Some(task) = store.task(&caller.0, id).await? else { return Err(unknown(id)) };
    if task.status.is_over() {
        store.forget_task(&caller.0, id).await?;
        return Ok("deleted");
    }
    // It ended this very moment, or another gateway works on it.
    Err(Fault::new(
        FaultKind::InvalidRequest,
        format!(
            "the task `{id}` is not under way in this gateway; try again, or cancel it where it was begun"
        ),
    ))
}

pub fn unknown(id: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no task `{id}`"))
}
