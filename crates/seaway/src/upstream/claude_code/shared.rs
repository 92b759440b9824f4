//! What the tasks around the children share: the children that wait, the turns of sessions, what the program told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use seaway_wire::FaultKind;
use seaway_wire::claude_code::Failure;
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::output::Model;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flow::{Conversation, Held};
use super::installed::Installed;
use super::pool::{Gone, Kept, Pool, Whose};
use super::seed::{self, Seeds};
use super::{login, seat};
use crate::causes::chain;
use crate::config::{self, Limits, UpstreamName};
use crate::credential::Credential;
use crate::process::Piped;
use crate::refreshed::{Fetched, Refreshed};
use crate::store::{Session, Store, StoreError};
use crate::upstream::UpstreamError;
use crate::upstream::gate::{Gate, Refused};

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
    /// The models that the program knows.
    pub(super) models: Refreshed<Result<Arc<Vec<Model>>, UpstreamError>>,
    /// What the program last said of its plan's limits, by their types.
    pub(super) limits_told: Mutex<BTreeMap<String, Limit>>,
    pub(super) seeds: Seeds,
    /// Cancelled when the gateway leaves.
    pub(super) closing: CancellationToken,
    /// The day on which the spares were started: they know no other.
    pub(super) day: Mutex<jiff::civil::Date>,
    pub(super) logins: login::Logins,
    /// Sessions that were deleted while they were at work.
    pub(super) forgotten: Mutex<HashSet<Whose>>,
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
        let kind = limit.rate_limit_type.clone().unwrap_or_default();
        self.limits_told.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, limit);
    }

    /// Takes note of a limit that a failure tells of, and adds what was told of it before: an older program tells the limit
    /// alone, and then a failure without it.
    pub(super) fn with_limit(&self, failure: &Failure) -> Failure {
        let now = jiff::Timestamp::now().as_second();
        let told = |kind: Option<&str>| {
            let told = self.limits_told.lock().unwrap_or_else(PoisonError::into_inner);
            match kind {
                Some(kind) => told.get(kind).cloned(),
                None => told.values().find(|limit| limit.is_reached(now)).cloned(),
            }
        };
        let limit = match &failure.limit {
            Some(limit) => {
                let windows = told(limit.rate_limit_type.as_deref().or(Some(""))).map(|told| told.unified_windows).filter(|_| limit.unified_windows.is_empty());
                Some(Limit { status: "rejected".into(), unified_windows: windows.unwrap_or_else(|| limit.unified_windows.clone()), ..limit.clone() })
            }
            None if failure.status == Some(429) => told(None),
            None => None,
        };
        if let Some(limit) = &limit {
            self.limited(limit.clone());
        }
        Failure { limit, ..failure.clone() }
    }

    /// Waits for the turn of a session, if it is one, and for a place. Whoever waits for a session does not
    /// keep a place from others. The `patient` wait as long as it takes.
    pub(super) async fn enter(&self, whose: &Whose, patient: bool) -> Result<Held, UpstreamError> {
        let busy = |refused: Refused| refused.of(&self.name);
        let limit = if patient { Duration::MAX } else { self.limits.queue_timeout };
        let turn = match &whose.session {
            Some(_) => {
                let turn = self.turn(whose);
                // Of all who hold the lock's handle, the one at work and this request do not wait.
                let waiting = Arc::strong_count(&turn).saturating_sub(2);
                if !patient && waiting > self.limits.queue {
                    return Err(busy(Refused::Full(waiting)));
                }
                let waited = tokio::time::timeout(limit, turn.lock_owned()).await;
                let turn = waited.map_err(|_| busy(Refused::TimedOut(limit)))?;
                // What was deleted before is no business of this turn.
                self.is_forgotten(whose);
                Some(turn)
            }
            None => None,
        };
        let pass = loop {
            match self.gate.enter().await {
                Ok(pass) => break pass,
                Err(Refused::TimedOut(_)) if patient => {}
                Err(Refused::Full(_)) if patient => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(refused) => return Err(busy(refused)),
            }
        };
        Ok(Held { _pass: pass, _turn: turn })
    }

    /// Notes that a session was deleted while it is at work.
    pub(super) fn forget_later(&self, whose: &Whose) {
        let at_work = self.lock_turns().get(whose).and_then(Weak::upgrade).is_some_and(|turn| turn.try_lock().is_err());
        if at_work {
            self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).insert(whose.clone());
        }
    }

    /// True once for a session that was deleted while it was at work.
    pub(super) fn is_forgotten(&self, whose: &Whose) -> bool {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).remove(whose)
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

    pub(super) fn end_all(&self, gone: Vec<Gone<Piped>>) {
        for Gone { child, holds } in gone {
            if holds {
                child.kill();
            }
            self.let_go(child, ());
        }
    }

    pub(super) fn keep(&self, kept: Kept<Piped>) {
        let gone = self.pool().keep(kept, self.setting.sessions);
        self.end_all(gone);
    }

    /// Writes down where a named session stands.
    pub(super) async fn remember(&self, conversation: &Conversation, turns: u64) {
        let Some(session) = conversation.whose.session.as_deref() else { return };
        let kept = self.store.keep_session(Session {
            upstream: self.name.to_string(),
            owner: conversation.whose.owner.to_string(),
            name: session.to_owned(),
            program_id: String::new(),
            model: conversation.model.clone(),
            folder: None,
            turns,
            used: jiff::Timestamp::now().as_second(),
        });
        if let Err(error) = kept.await {
            tracing::error!(error = %chain(&error), session, "a named conversation's turn was not written down");
        }
    }

    /// Where a named session stands, if it is known.
    pub(super) async fn session(&self, whose: &Whose) -> Result<Option<Session>, StoreError> {
        let Some(name) = whose.session.as_deref() else { return Ok(None) };
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

    pub(super) async fn add_spare(self: &Arc<Self>, model: &str) {
        let seed = tokio::select! {
            seed = seed::of(self, model) => seed,
            () = self.closing.cancelled() => return,
        };
        match seat::spawn(self, model, seed.as_deref()).await {
            Ok(child) => {
                let gone = self.pool().put(model, (child, seed.is_some()), self.spares(), Instant::now());
                self.end_all(gone);
            }
            Err(error) => tracing::warn!(upstream = %self.name, error = error.message, "no spare process"),
        }
    }

    /// The models that the program knows; asked for once. Cancel safe.
    pub(super) async fn models(self: &Arc<Self>) -> Result<Arc<Vec<Model>>, UpstreamError> {
        let ask = async |shared: &Arc<Self>| {
            let _pass = shared.gate.enter().await.map_err(|refused| refused.of(&shared.name))?;
            shared.ask_models().await.map(Arc::new)
        };
        let listed = self.models.get(|| {
            let shared = self.clone();
            async move {
                let value = ask(&shared).await;
                Fetched { fresh: if value.is_ok() { Duration::MAX } else { Duration::ZERO }, value, lasting: false }
            }
        });
        listed.await.map_err(|gone| UpstreamError::new(FaultKind::Draining, gone.to_string()))?
    }

    /// Asks a child for the models. It was told nothing, so it can serve whoever comes next.
    pub(super) async fn ask_models(self: &Arc<Self>) -> Result<Vec<Model>, UpstreamError> {
        let spare = self.pool().any_spare();
        let (name, child, seeded) = match spare {
            Some((name, child, seeded)) => (Some(name), child, seeded),
            None => (None, seat::spawn(self, "default", None).await?, false),
        };
        let (child, clean, listed) = seat::list_models(child).await;
        let known = listed.as_ref().ok().and_then(|models| models.iter().find(|model| model.value == "default")?.resolved_model.clone());
        match (name, known) {
            (Some(name), _) if clean => {
                let gone = self.pool().put(&name, (child, seeded), self.spares(), Instant::now());
                self.end_all(gone);
            }
            (_, known) => {
                self.end(child, ());
                // One that begins with what the program says of its surroundings serves more than this one could.
                if let Some(model) = known.filter(|_| self.setting.prewarm > 0) {
                    self.add_spare(&model).await;
                }
            }
        }
        listed.map_err(|message| UpstreamError::new(FaultKind::BadReply, message))
    }
}
