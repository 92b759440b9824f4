//! The runs that are under way: who may answer and end them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::Caller;
use crate::upstream::claude_code::{PermissionSender, PermissionVerdict};

/// Runs under way, by who may answer and end them.
#[derive(Debug, Clone, Default)]
pub struct Agents(Arc<Mutex<HashMap<String, Hand>>>);

/// What can be done to a run from outside.
#[derive(Debug, Clone)]
struct Hand {
    owner: Caller,
    line: Option<PermissionSender>,
    end: CancellationToken,
}

/// Keeps a run in the list until it is dropped.
pub struct ListedRun {
    agents: Agents,
    id: String,
    /// Cancelled when somebody wants the run to end.
    pub end: CancellationToken,
}

impl Drop for ListedRun {
    fn drop(&mut self) {
        self.agents.lock().remove(&self.id);
    }
}

impl Agents {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Hand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand(&self, caller: &Caller, id: &str) -> Option<Hand> {
        self.lock().get(id).filter(|hand| hand.owner == *caller).cloned()
    }

    /// Puts a run on the list.
    pub fn list(&self, caller: &Caller, id: &str, line: Option<PermissionSender>) -> ListedRun {
        let end = CancellationToken::new();
        self.lock().insert(id.to_owned(), Hand { owner: caller.clone(), line, end: end.clone() });
        ListedRun { agents: self.clone(), id: id.to_owned(), end }
    }

    /// Ends a run; false if there is none of this caller's.
    pub fn end(&self, caller: &Caller, id: &str) -> bool {
        let hand = self.hand(caller, id);
        hand.inspect(|hand| hand.end.cancel()).is_some()
    }

    /// Waits until no run is under way.
    pub async fn all_ended(&self) {
        while !self.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Answers a question of a run; false if nobody waits for it.
    pub fn judge(&self, caller: &Caller, id: &str, verdict: PermissionVerdict) -> bool {
        self.hand(caller, id).and_then(|hand| hand.line).is_some_and(|line| line.answer(verdict))
    }
}
