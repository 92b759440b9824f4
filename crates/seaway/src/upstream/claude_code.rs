//! The Claude Code program as an upstream: a plan behind a proper API.
//!
//! A request is served by the child that suits it best: one that holds open the very tool
//! calls whose results came, one that has heard the conversation so far, a spare that is told
//! the history, or a new one. A child serves one owner and one turn at a time, and is gone as
//! soon as it would go on by itself.

mod answers;
mod errand;
mod flow;
mod installed;
mod launch;
mod login;
mod pool;
mod seat;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::Method;
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::output::Model;
use seaway_wire::claude_code::{Ask, Failure, Print, Terms, fingerprints};
use seaway_wire::model::Traits;
use seaway_wire::{FaultKind, Request};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use errand::{Continued, Errand, News, Running, Verdict};
pub use installed::{Installed, Unusable};
pub(crate) use launch::is_model_name;
pub use login::LoginError;
pub use pool::Whose;

use super::gate::Gate;
use super::retry::backoff;
use super::{Call, Payload, Reply, UpstreamError};
use crate::config::{self, Limits, UpstreamName};
use crate::credential::Credential;
use crate::process::Piped;
use crate::store::{Session, Store};
use flow::{Conversation, Flow, Held};
use pool::{Kept, Pool};

/// How long children have to leave when the gateway does.
const FAREWELL: Duration = Duration::from_secs(8);

/// The program, ready to be asked.
pub struct Program {
    shared: Arc<Shared>,
}

/// What the tasks around the children share.
pub(super) struct Shared {
    name: UpstreamName,
    setting: config::Program,
    limits: Limits,
    credential: Option<Credential>,
    installed: Installed,
    pool: Mutex<Pool<Piped>>,
    /// The turn of each named session; whoever comes later waits in line.
    turns: Mutex<HashMap<Whose, Weak<tokio::sync::Mutex<()>>>>,
    models: tokio::sync::Mutex<Option<Arc<Vec<Model>>>>,
    /// What the program last said of its plan's limits.
    limit: Mutex<Option<Limit>>,
    logins: login::Logins,
    store: Store,
    /// What outlives a request: children that settle or leave.
    tasks: TaskTracker,
    handle: Handle,
}

impl Program {
    pub(super) fn new(name: &UpstreamName, setting: &config::Program, limits: &Limits, store: Store) -> Self {
        let shared = Arc::new(Shared {
            name: name.clone(),
            credential: setting.credential.clone().map(Credential::new),
            setting: setting.clone(),
            limits: limits.clone(),
            installed: Installed::default(),
            pool: Mutex::default(),
            turns: Mutex::default(),
            models: tokio::sync::Mutex::default(),
            limit: Mutex::default(),
            logins: login::Logins::default(),
            store,
            tasks: TaskTracker::new(),
            handle: Handle::current(),
        });
        crate::process::sweep(&setting.temporary);
        shared.prewarm();
        Self { shared }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The upstream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name.0
    }

    pub fn setting(&self) -> &config::Program {
        &self.shared.setting
    }

    pub fn installed(&self) -> &Installed {
        &self.shared.installed
    }

    /// Tells whether requests could be served now.
    ///
    /// # Errors
    ///
    /// What is missing, and what to do.
    pub async fn ready(&self) -> Result<(), String> {
        let shared = &self.shared;
        shared.installed.program(&shared.setting).await.map_err(|error| error.to_string())?;
        if let Some(credential) = &shared.credential {
            let written = credential.write(&mut http::HeaderMap::new()).await;
            return written.map_err(|error| format!("upstream `{}` has no usable credential: {error}", shared.name));
        }
        match shared.installed.login(&shared.setting).await {
            Ok(status) if status.logged_in => self.within_limit(),
            Ok(_) => Err(Unusable::SignedOut.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// An error while the plan's limit is reached.
    fn within_limit(&self) -> Result<(), String> {
        let Some(until) = self.limit().filter(|limit| limit.status == "rejected").and_then(|limit| limit.resets_at) else { return Ok(()) };
        let left = until - jiff::Timestamp::now().as_second();
        let at = jiff::Timestamp::from_second(until).map(|at| at.to_string()).unwrap_or_default();
        if left > 0 { Err(format!("the plan's limit is reached; it resets at {at}")) } else { Ok(()) }
    }

    /// What the program last said of its plan's limits.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        self.shared.limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds the program and asks for its version.
    pub(super) async fn probe(&self) -> Result<(), Unusable> {
        self.shared.installed.program(&self.shared.setting).await.map(drop)
    }

    /// Lets go of what waited for too long.
    pub(super) fn sweep(&self) {
        let shared = &self.shared;
        let gone = shared.pool().sweep(shared.setting.idle, shared.setting.prewarm, Instant::now(), Piped::is_alive);
        shared.end_all(gone);
        self.sweep_logins();
        shared.lock_turns().retain(|_, turn| turn.strong_count() > 0);
    }

    /// Ends every child, and waits for them.
    pub(super) async fn close(&self) {
        let shared = &self.shared;
        let gone = shared.pool().close();
        shared.end_all(gone);
        self.close_logins();
        shared.tasks.close();
        let _late = tokio::time::timeout(FAREWELL, shared.tasks.wait()).await;
    }

    /// The conversations that are warm.
    #[must_use]
    pub fn warm(&self) -> Vec<Warm> {
        let pool = self.shared.pool();
        pool.kept()
            .map(|kept| Warm { id: id_of(kept), whose: kept.whose.clone(), model: kept.model.clone(), turns: kept.turns, holds: kept.calls.len(), idle: kept.since.elapsed() })
            .collect()
    }

    /// Ends what is warm of a session, by its name or ours; true if there was something.
    pub fn forget(&self, whose: &Whose, id: &str) -> bool {
        let mut gone = Vec::new();
        self.shared.pool().take(|kept| kept.whose == *whose || (kept.whose.owner == whose.owner && kept.whose.session.is_none() && id_of(kept) == id), &mut gone);
        let some = !gone.is_empty();
        self.shared.end_all(gone);
        some
    }

    /// Asks the program.
    pub(super) async fn call(&self, call: Call, gate: &Gate) -> Result<Reply, UpstreamError> {
        let path = call.path.split('?').next().unwrap_or_default().to_owned();
        match (&call.method, path.as_str()) {
            (&Method::POST, "/v1/messages") => self.create(call, gate).await,
            (&Method::POST, "/v1/messages/count_tokens") => Ok(answers::estimate(&call.body)),
            (&Method::GET, "/v1/models") => {
                drop(call);
                Ok(answers::list(&self.shared.models(gate).await?))
            }
            (&Method::GET, path) if path.starts_with("/v1/models/") => {
                drop(call);
                Ok(answers::model(&self.shared.models(gate).await?, path))
            }
            _ => Ok(Reply::error(404, "not_found_error", &format!("upstream `{}` is the Claude Code program, which has no {path}", self.shared.name))),
        }
    }

    async fn create(&self, call: Call, gate: &Gate) -> Result<Reply, UpstreamError> {
        let Call { headers, body: Payload::Whole(body), owner, session, .. } = call else {
            return Ok(Reply::error(400, "invalid_request_error", "the request body must come whole"));
        };
        let shared = &self.shared;
        let wrong = |fault: seaway_wire::Fault| UpstreamError::new(fault.kind, fault.message.into_owned());
        let request = Request::parse(&body).map_err(wrong)?;
        let traits = Traits::of(request.model.as_deref().unwrap_or_default());
        let ask = Ask::read(&request, &Terms { traits, strict: shared.setting.strict }).map_err(wrong)?;
        if !is_model_name(&ask.model) {
            return Err(UpstreamError::new(FaultKind::InvalidRequest, format!("model: `{}` is no name of a model", ask.model)));
        }
        let whose = Whose { owner, session };
        // Whoever waits for a session does not keep a place from others.
        let turn = match &whose.session {
            Some(_) => Some(shared.turn(&whose).lock_owned().await),
            None => None,
        };
        let pass = gate.enter().await.map_err(|refused| refused.of(&shared.name))?;
        let held = Held { _pass: pass, _turn: turn };
        let limit = shared.limits.first_byte_timeout;
        let answering = self.attempts(&ask, whose, held);
        let (answer, attempts) = if limit.is_zero() {
            answering.await?
        } else {
            let late = || UpstreamError::new(FaultKind::TimedOut, format!("upstream `{}` sent no answer within {} seconds (`first_byte_timeout`)", shared.name, limit.as_secs()));
            tokio::time::timeout(limit, answering).await.map_err(|_| late())??
        };
        let reply = match answer {
            Ok((first, flow)) if ask.stream => answers::streamed(first, flow),
            Ok((first, flow)) => self.whole(first, flow).await?,
            Err(failure) => self.unanswered(&failure).await?,
        };
        let changes = answers::notes(&ask, &headers);
        Ok(Reply { attempts, changes, ..reply })
    }

    /// Tries until something comes. Only what surely did nothing is tried again.
    async fn attempts(&self, ask: &Ask<'_>, whose: Whose, mut held: Held) -> Result<(Begun, u32), UpstreamError> {
        let prints = fingerprints(ask);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let taken = seat::take(&self.shared, ask, &whose, &prints, held).await;
            let mut flow = taken.map_err(|error| UpstreamError { attempts, ..error })?;
            let failure = match flow.next().await {
                Ok(Some(first)) => return Ok((Ok((first, flow)), attempts)),
                Ok(None) => Box::new(Failure { message: "Claude Code ended without an answer".into(), ..Failure::default() }),
                Err(failure) => failure,
            };
            match flow.discard() {
                Some(left) if attempts <= self.shared.limits.retries && self.is_safe(&failure) => {
                    tracing::debug!(upstream = %self.shared.name, attempts, message = failure.message, "trying again");
                    tokio::time::sleep(backoff(attempts)).await;
                    held = left;
                }
                _ => return Ok((Err(failure), attempts)),
            }
        }
    }

    /// True for a failure after which the model surely did nothing that counts.
    fn is_safe(&self, failure: &Failure) -> bool {
        match failure.status {
            Some(status) => self.shared.limits.retry_on.contains(&status),
            None => failure.reason.as_deref() == Some("connection_failed"),
        }
    }

    /// Reads an answer to its end for a client that asked for no stream.
    async fn whole(&self, first: bytes::Bytes, mut flow: Flow) -> Result<Reply, UpstreamError> {
        let mut fold = seaway_wire::messages::Fold::default();
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            fold.push(&bytes);
            let silent = || UpstreamError::new(FaultKind::TimedOut, "Claude Code said nothing for too long (`idle_timeout`)");
            let next = match self.shared.setting.idle_timeout {
                Duration::ZERO => flow.next().await,
                idle => tokio::time::timeout(idle, flow.next()).await.map_err(|_| silent())?,
            };
            piece = next.map_err(|failure| UpstreamError::new(FaultKind::BadReply, failure.message))?;
        }
        match flow.failure() {
            Some(failure) => self.unanswered(&failure).await,
            None => Ok(answers::folded(fold)),
        }
    }

    /// What the program says instead of an answer.
    async fn unanswered(&self, failure: &Failure) -> Result<Reply, UpstreamError> {
        if failure.status == Some(401) || failure.class.as_deref() == Some("authentication_failed") {
            self.shared.installed.forget_login().await;
        }
        if let Some(resets_at) = failure.resets_at {
            self.shared.limited(Limit { status: "rejected".into(), resets_at: Some(resets_at), rate_limit_type: None, utilization: None });
        }
        match failure.status {
            Some(_) => Ok(answers::refused(failure)),
            None if failure.class.as_deref() == Some("authentication_failed") => Err(UpstreamError::new(FaultKind::NotReady, Unusable::SignedOut.to_string())),
            None if failure.reason.as_deref() == Some("connection_failed") => Err(UpstreamError::new(FaultKind::Unreachable, failure.message.clone())),
            None => Err(UpstreamError::new(FaultKind::BadReply, failure.message.clone())),
        }
    }
}

/// An answer that has begun, or why none did.
type Begun = Result<(bytes::Bytes, Flow), Box<Failure>>;

/// A conversation that can go on at once.
#[derive(Debug)]
pub struct Warm {
    /// Its name, or one of ours until its next turn.
    pub id: String,
    pub whose: Whose,
    pub model: String,
    pub turns: u64,
    /// Tool calls that are held open.
    pub holds: usize,
    pub idle: Duration,
}

fn id_of(kept: &Kept<Piped>) -> String {
    kept.whose.session.as_deref().map_or_else(|| format!("warm_{}", &kept.print.text()[..16]), str::to_owned)
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool<Piped>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_turns(&self) -> MutexGuard<'_, HashMap<Whose, Weak<tokio::sync::Mutex<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limited(&self, limit: Limit) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    /// The lock of a session: first come, first served.
    fn turn(&self, whose: &Whose) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.lock_turns();
        if let Some(turn) = turns.get(whose).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(whose.clone(), Arc::downgrade(&turn));
        turn
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.handle);
    }

    /// Ends a child; what is held for it is let go once it is reaped.
    fn end(&self, child: Piped, held: impl Send + 'static) {
        self.spawn(async move {
            let _status = child.stop().await;
            drop(held);
        });
    }

    /// Lets a child that does nothing end by itself.
    fn let_go(&self, child: Piped, held: impl Send + 'static) {
        self.spawn(async move {
            let _status = child.finish().await;
            drop(held);
        });
    }

    fn end_all(&self, gone: Vec<Piped>) {
        for child in gone {
            self.let_go(child, ());
        }
    }

    fn keep(&self, kept: Kept<Piped>) {
        let gone = self.pool().keep(kept, self.setting.sessions);
        self.end_all(gone);
    }

    /// Writes down where the program can take a named session up again.
    fn remember(&self, conversation: &Conversation, session: &str, id: &str, print: Print, turns: u64) {
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
    async fn session(&self, whose: &Whose) -> Option<Session> {
        let name = whose.session.as_deref()?;
        self.store.session(&self.name.0, &whose.owner, name, self.setting.retention).await
    }

    /// How many spares there are to be.
    fn spares(&self) -> usize {
        self.setting.prewarm.max(1)
    }

    fn prewarm(self: &Arc<Self>) {
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
    fn restock(self: &Arc<Self>, model: &str) {
        if self.pool().lacks(model, self.spares()) {
            let (shared, model) = (self.clone(), model.to_owned());
            self.spawn(async move { shared.add_spare(&model).await });
        }
    }

    async fn add_spare(&self, model: &str) {
        match seat::spawn(self, model, &launch::Kept::No).await {
            Ok(child) => {
                let gone = self.pool().put(model, child, self.spares(), Instant::now());
                self.end_all(gone);
            }
            Err(error) => tracing::warn!(upstream = %self.name, error = error.message, "no spare process"),
        }
    }

    /// The models that the program knows; asked for once.
    async fn models(&self, gate: &Gate) -> Result<Arc<Vec<Model>>, UpstreamError> {
        let mut models = self.models.lock().await;
        if let Some(known) = &*models {
            return Ok(known.clone());
        }
        let _pass = gate.enter().await.map_err(|refused| refused.of(&self.name))?;
        let listed = Arc::new(self.ask_models().await?);
        *models = Some(listed.clone());
        Ok(listed)
    }

    /// Asks a child for the models. It was told nothing, so it can serve whoever comes next.
    async fn ask_models(&self) -> Result<Vec<Model>, UpstreamError> {
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
