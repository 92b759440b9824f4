//! What the tasks around the children share: the children that wait, the turns of sessions, what the program told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use seaway_wire::FaultKind;
use seaway_wire::claude_code::Print;
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::output::Model;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::flow::Conversation;
use super::installed::Installed;
use super::pool::{Kept, Pool, Whose};
use super::{launch, login, seat};
use crate::config::{self, Limits, UpstreamName};
use crate::credential::Credential;
use crate::process::Piped;
use crate::store::{Session, Store};
use crate::upstream::UpstreamError;
use crate::upstream::gate::Gate;

/// What the tasks around the children share.
pub(super) struct Shared {
    pub(super) name: UpstreamName,
    pub(super) setting: config::Program,
    pub(super) limits: Limits,
    pub(super) gate: Arc<Gate>,
    pub(super) credential: Option<Credential>,
    pub(super) installed: Installed,
    pub(super) pool: Mutex<Pool<Piped>>,
    /// The turn of each named session; whoever comes later waits in line.
    pub(super) turns: Mutex<HashMap<Whose, Weak<tokio::sync::Mutex<()>>>>,
    pub(super) models: tokio::sync::Mutex<Option<Arc<Vec<Model>>>>,
    /// What the program last said of its plan's limits.
    pub(super) limit: Mutex<Option<Limit>>,
    pub(super) logins: login::Logins,
    pub(super) store: Store,
    /// What outlives a request: children that settle or leave.
    pub(super) tasks: TaskTracker,
    pub(super) handle: Handle,
}

impl Shared {
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool<Piped>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_turns(&self) -> MutexGuard<'_, HashMap<Whose, Weak<tokio::sync::Mutex<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limited(&self, limit: Limit) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    /// The lock of a session: first come, first served.
    pub(super) fn turn(&self, whose: &Whose) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.lock_turns();
        if let Some(turn) = turns.get(whose).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(whose.clone(), Arc::downgrade(&turn));
        turn
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.handle);
    }

    /// Ends a child; what is held for it is let go once it is reaped.
    pub(super) fn end(&self, child: Piped, held: impl Send + 'static) {
        self.spawn(async move {
            let _status = child.stop().await;
            drop(held);
        });
    }

    /// Lets a child that does nothing end by itself.
    pub(super) fn let_go(&self, child: Piped, held: impl Send + 'static) {
        self.spawn(async move {
            let _status = child.finish().await;
            drop(held);
        });
    }

    pub(super) fn end_all(&self, gone: Vec<Piped>) {
        for child in gone {
            self.let_go(child, ());
        }
    }

    pub(super) fn keep(&self, kept: Kept<Piped>) {
        let gone = self.pool().keep(kept, self.setting.sessions);
        self.end_all(gone);
    }

    /// Writes down where the program can take a named session up again.
    pub(super) fn remember(&self, conversation: &Conversation, session: &str, id: &str, print: Print, turns: u64) {
        self.store.keep_session(Session {
            upstream: self.name.to_string(),
            owner: conversation.whose.owner.to_string(),
            name: session.to_owned(),
            program_id: id.to_owned(),
            model: conversation.model.clone(),
            print: print.text(),
            folder: None,
            turns,
            used: jiff::Timestamp::now().as_second(),
        });
    }

    /// Where a named session stands, if it is known.
    pub(super) async fn session(&self, whose: &Whose) -> Option<Session> {
        let name = whose.session.as_deref()?;
        self.store.session(&self.name.0, &whose.owner, name, self.setting.retention).await
    }

    /// How many spares there are to be.
    pub(super) fn spares(&self) -> usize {
        self.setting.prewarm.max(1)
    }

    pub(super) fn prewarm(self: &Arc<Self>) {
        for _ in 0..self.setting.prewarm {
            let shared = self.clone();
            self.spawn(async move {
                match &shared.setting.model {
                    Some(model) => shared.add_spare(model).await,
                    // Which model that is, the program has to say.
                    None => drop(shared.ask_models().await),
                }
            });
        }
    }

    /// Sees to it that the next conversation with a model finds a spare.
    pub(super) fn restock(self: &Arc<Self>, model: &str) {
        // Whoever waits already would start one of their own at the same time.
        if self.gate.waiting() == 0 && self.pool().lacks(model, self.spares()) {
            let (shared, model) = (self.clone(), model.to_owned());
            self.spawn(async move { shared.add_spare(&model).await });
        }
    }

    pub(super) async fn add_spare(&self, model: &str) {
        match seat::spawn(self, model, &launch::Kept::No).await {
            Ok(child) => {
                let gone = self.pool().put(model, child, self.spares(), Instant::now());
                self.end_all(gone);
            }
            Err(error) => tracing::warn!(upstream = %self.name, error = error.message, "no spare process"),
        }
    }

    /// The models that the program knows; asked for once.
    pub(super) async fn models(&self) -> Result<Arc<Vec<Model>>, UpstreamError> {
        let mut models = self.models.lock().await;
        if let Some(known) = &*models {
            return Ok(known.clone());
        }
        let _pass = self.gate.enter().await.map_err(|refused| refused.of(&self.name))?;
        let listed = Arc::new(self.ask_models().await?);
        *models = Some(listed.clone());
        Ok(listed)
    }

    /// Asks a child for the models. It was told nothing, so it can serve whoever comes next.
    pub(super) async fn ask_models(&self) -> Result<Vec<Model>, UpstreamError> {
        let spare = self.pool().any_spare();
        let (name, child) = match spare {
            Some((name, child)) => (Some(name), child),
            None => (None, seat::spawn(self, "default", &launch::Kept::No).await?),
        };
        let (child, listed) = seat::list_models(child).await;
        let known = listed.as_ref().ok().and_then(|models| models.iter().find(|model| model.value == "default")?.resolved_model.clone());
        match name.or(known).filter(|_| listed.is_ok()) {
            Some(name) => {
                let gone = self.pool().put(&name, child, self.spares(), Instant::now());
                self.end_all(gone);
            }
            None => self.end(child, ()),
        }
        listed.map_err(|message| UpstreamError::new(FaultKind::BadReply, message))
    }
}
