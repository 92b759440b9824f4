//! Runs in the background.

use std::sync::Arc;

use seaway_wire::{Dialect, Fault, FaultKind};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Answer, Job};
use crate::auth::Caller;
use crate::house::House;
use crate::store::{RESTARTED, Task, TaskStatus};

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Job {
    /// Does the run in the background, and says where it stands.
    #[must_use]
    pub fn in_background(self) -> Task {
        let store = self.house.ledger.store().clone();
        let task = Task {
            id: self.errand.id.clone(),
            owner: self.caller.0.to_string(),
            status: TaskStatus::Queued,
            created: now(),
            started: None,
            ended: None,
            answer: None,
            error: None,
        };
        store.keep_task(task.clone());
        let mut kept = task.clone();
        let tasks = self.house.tasks.clone();
        let end = self.listed.end.clone();
        tasks.spawn(async move {
            let answer = match self.start().await {
                Ok(work) => {
                    kept = Task { status: TaskStatus::Running, started: Some(now()), ..kept };
                    store.keep_task(kept.clone());
                    work.finish().await
                }
                Err(fault) => Err(fault),
            };
            store.keep_task(over(kept, answer, end.is_cancelled()));
        });
        task
    }
}

fn over(task: Task, answer: Answer, cancelled: bool) -> Task {
    let ended = Some(now());
    match answer {
        Ok(answer) => Task { status: TaskStatus::Completed, ended, answer: Some(answer), ..task },
        Err(_) if cancelled => Task { status: TaskStatus::Cancelled, ended, ..task },
        Err(fault) if fault.kind == FaultKind::Draining => Task { status: TaskStatus::Failed, ended, error: Some(RESTARTED.into()), ..task },
        Err(fault) => Task { status: TaskStatus::Failed, ended, error: Some(error(&fault)), ..task },
    }
}

/// A fault's own part of the envelope that the Messages API has for errors.
fn error(fault: &Fault) -> String {
    let envelope: Value = serde_json::from_str(&fault.body(Dialect::Messages, "")).unwrap_or_default();
    envelope["error"].to_string()
}

/// A task as its client sees it.
#[must_use]
pub fn shown(task: &Task) -> String {
    let time = |at: Option<i64>| at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).map(|at| at.to_string());
    let raw = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
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
pub async fn remove(house: &Arc<House>, caller: &Caller, id: &str) -> Result<&'static str, Fault> {
    let store = house.ledger.store();
    let Some(task) = store.task(&caller.0, id).await else { return Err(unknown(id)) };
    if task.status.is_over() {
        store.forget_task(&caller.0, id).await;
        return Ok("deleted");
    }
    if house.agents.end(caller, id) {
        return Ok("cancelling");
    }
    // It ended this very moment, or another gateway works on it.
    Err(Fault::new(FaultKind::InvalidRequest, format!("the task `{id}` is not under way in this gateway; try again, or cancel it where it was begun")))
}

#[must_use]
pub fn unknown(id: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no task `{id}`"))
}
