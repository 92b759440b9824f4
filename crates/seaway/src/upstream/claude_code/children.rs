//! The children that wait for their next turn, and those that wait for their first.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seaway_wire::claude_code::input;
use seaway_wire::claude_code::output::{self, Line, ListedModel};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pool::{ChildPool, Discarded, WarmChild};
use super::seed::{self, Seeds};
use super::spawn::{PATIENCE, Spawner};
use crate::fault::FaultKind;
use crate::process::Piped;
use crate::refreshed::{Fetched, Refreshed};
use crate::upstream::UpstreamError;
use crate::upstream::gate::Gate;

pub(super) struct Children {
    pub(super) spawner: Arc<Spawner>,
    pool: Mutex<ChildPool<Piped>>,
    pub(super) seeds: Seeds,
    /// The models that the program knows.
    models: Refreshed<Result<Arc<Vec<ListedModel>>, UpstreamError>>,
    gate: Arc<Gate>,
    /// Cancelled when the gateway leaves.
    pub(super) closing: CancellationToken,
    /// The day on which the spares were started: they know no other.
    day: Mutex<jiff::civil::Date>,
    handle: Handle,
}

impl Children {
    pub(super) fn new(spawner: Spawner, gate: Arc<Gate>) -> Self {
        let tasks = spawner.tasks.clone();
        Self {
            spawner: Arc::new(spawner),
            pool: Mutex::default(),
            seeds: Seeds::new(tasks.clone()),
            models: Refreshed::new(tasks),
            gate,
            closing: CancellationToken::new(),
            day: Mutex::new(seed::today()),
            handle: Handle::current(),
        }
    }

    /// Lets go of what waited for too long.
    pub(super) fn sweep(&self) {
        let setting = &self.spawner.setting;
        let mut gone =
            self.pool().sweep(setting.idle, setting.prewarm, Instant::now(), Piped::is_alive);
        let today = seed::today();
        if std::mem::replace(&mut *self.day.lock().unwrap_or_else(PoisonError::into_inner), today)
            != today
        {
            // They would tell the model the date of yesterday, and then that it has changed.
            gone.extend(self.pool().take_spares());
        }
        self.end_all(gone);
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, ChildPool<Piped>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner.tasks.spawn_on(task, &self.handle);
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

    pub(super) fn end_all(&self, gone: Vec<Discarded<Piped>>) {
        for Discarded { child, holds } in gone {
            if holds {
                child.kill();
            }
            self.let_go(child, ());
        }
    }

    pub(super) fn keep(&self, kept: WarmChild<Piped>) {
        let gone = self.pool().keep(kept, self.spawner.setting.sessions);
        self.end_all(gone);
    }

    /// How many spares there are to be.
    pub(super) fn spares(&self) -> usize {
        self.spawner.setting.prewarm.max(1)
    }

    pub(super) fn prewarm(self: &Arc<Self>) {
        for _ in 0..self.spawner.setting.prewarm {
            let children = self.clone();
            self.spawn(async move {
                match &children.spawner.setting.model {
                    Some(model) => children.add_spare(model).await,
                    // Which model that is, the program has to say.
                    None => drop(children.ask_models().await),
                }
            });
        }
    }

    /// Sees to it that the next conversation with a model finds a spare.
    pub(super) fn restock(self: &Arc<Self>, model: &str) {
        // Whoever waits already would start one of their own at the same time.
        if self.gate.waiting() == 0 && self.pool().lacks(model, self.spares()) {
            let (children, model) = (self.clone(), model.to_owned());
            self.spawn(async move { children.add_spare(&model).await });
        }
    }

    pub(super) async fn add_spare(self: &Arc<Self>, model: &str) {
        let seed = tokio::select! {
            seed = self.seeds.of(&self.spawner, model) => seed,
            () = self.closing.cancelled() => return,
        };
        match self.spawner.spawn(model, seed.as_deref()).await {
            Ok(child) => {
                let gone =
                    self.pool().put(model, (child, seed.is_some()), self.spares(), Instant::now());
                self.end_all(gone);
            }
            Err(error) => {
                tracing::warn!(upstream = %self.spawner.name, error = error.message, "no spare process");
            }
        }
    }

    /// The models that the program knows; asked for once. Cancel safe.
    pub(super) async fn models(self: &Arc<Self>) -> Result<Arc<Vec<ListedModel>>, UpstreamError> {
        let ask = async |children: &Arc<Self>| {
            let _pass = children
                .gate
                .enter(&"".into())
                .await
                .map_err(|refused| refused.of(&children.spawner.name))?;
            children.ask_models().await.map(Arc::new)
        };
        let listed = self.models.get(|| {
            let children = self.clone();
            async move {
                let value = ask(&children).await;
                Fetched {
                    fresh: if value.is_ok() { Duration::MAX } else { Duration::ZERO },
                    value,
                    lasting: false,
                }
            }
        });
        listed.await.map_err(|gone| UpstreamError::new(FaultKind::Draining, gone.to_string()))?
    }

    /// Asks a child for the models. It was told nothing, so it can serve whoever comes next.
    pub(super) async fn ask_models(self: &Arc<Self>) -> Result<Vec<ListedModel>, UpstreamError> {
        let spare = self.pool().any_spare();
        let (name, child, seeded) = match spare {
            Some((name, child, seeded)) => (Some(name), child, seeded),
            None => (None, self.spawner.spawn("default", None).await?, false),
        };
        let (child, clean, listed) = list_models(child).await;
        let known = listed.as_ref().ok().and_then(|models| {
            models.iter().find(|model| model.value == "default")?.resolved_model.clone()
        });
        match (name, known) {
            (Some(name), _) if clean => {
                let gone = self.pool().put(&name, (child, seeded), self.spares(), Instant::now());
                self.end_all(gone);
            }
            (_, known) => {
                self.end(child, ());
                // A spare that begins with what the program says of its surroundings serves more than this one could.
                if let Some(model) = known.filter(|_| self.spawner.setting.prewarm > 0) {
                    self.add_spare(&model).await;
                }
            }
        }
        listed.map_err(|message| UpstreamError::new(FaultKind::BadReply, message))
    }
}

/// Asks a child which models there are. True if it can still serve whoever comes next.
async fn list_models(mut child: Piped) -> (Piped, bool, Result<Vec<ListedModel>, String>) {
    if let Ok(listed) =
        asked(&mut child, "seaway-models", &input::list_models("seaway-models")).await
    {
        return (child, true, listed);
    }
    // An older version tells them where it is told everything.
    let listed = asked(&mut child, "seaway-hello", &input::hello("seaway-hello")).await;
    let listed = listed.unwrap_or_else(|why| Err(format!("Claude Code lists no models: {why}")));
    (child, false, listed)
}

/// Asks for models in one way; an error if the child does not know that way.
async fn asked(
    child: &mut Piped,
    id: &str,
    question: &str,
) -> Result<Result<Vec<ListedModel>, String>, String> {
    let asking = async {
        child.say(question).await.map_err(|error| error.to_string())?;
        loop {
            let Some(line) = child.line().await.map_err(|error| error.to_string())? else {
                tracing::warn!(last_words = child.last_words(), "Claude Code failed");
                return Ok(Err("Claude Code ended instead of listing its models".to_owned()));
            };
            if let Line::Answer(answer) = Line::parse(&line)
                && answer.request_id == id
            {
                let told = answer.result.map_err(Cow::into_owned)?;
                return Ok(told.and_then(output::models).ok_or_else(|| {
                    "Claude Code lists its models in a way that nobody knows".to_owned()
                }));
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Ok(Err("Claude Code did not list its models in time".to_owned())))
}
