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
mod shared;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::{Ask, Failure, Terms, fingerprints};
use seaway_wire::model::Traits;
use seaway_wire::{FaultKind, Request};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use errand::{Continued, Ear, Errand, Line, News, Running, Verdict, line};
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
use crate::store::Store;
use flow::{Flow, Held};
use pool::Kept;
use shared::Shared;

/// How long children have to leave when the gateway does.
const FAREWELL: Duration = Duration::from_secs(8);

/// The program, ready to be asked.
pub struct Program {
    shared: Arc<Shared>,
}

impl Program {
    pub(super) fn new(name: &UpstreamName, setting: &config::Program, limits: &Limits, gate: Arc<Gate>, store: Store) -> Self {
        let shared = Arc::new(Shared {
            name: name.clone(),
            credential: setting.credential.clone().map(Credential::new),
            setting: setting.clone(),
            limits: limits.clone(),
            gate,
            installed: Installed::default(),
            pool: Mutex::default(),
            turns: Mutex::default(),
            models: tokio::sync::Mutex::default(),
            limit: Mutex::default(),
            logins: login::Logins::default(),
            started: Mutex::default(),
            forgotten: Mutex::default(),
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
            Ok(status) if status.logged_in => {
                let expires = status.login_expires_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
                match expires.filter(|at| *at <= jiff::Timestamp::now()) {
                    Some(at) => Err(Unusable::Expired(at).to_string()),
                    None => self.within_limit(),
                }
            }
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

    /// Children that wait for nobody's next turn yet.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.shared.pool().spares()
    }

    /// Ends what is warm of a session, by its name or ours; true if there was something.
    pub fn forget(&self, whose: &Whose, id: &str) -> bool {
        let mut gone = Vec::new();
        self.shared.pool().take(|kept| kept.whose == *whose || (kept.whose.owner == whose.owner && kept.whose.session.is_none() && id_of(kept) == id), &mut gone);
        let some = !gone.is_empty();
        self.shared.end_all(gone);
        self.shared.forget_later(whose);
        some
    }

    /// Asks the program.
    pub(super) async fn call(&self, call: Call) -> Result<Reply, UpstreamError> {
        let path = call.path.split('?').next().unwrap_or_default().to_owned();
        match (&call.method, path.as_str()) {
            (&Method::POST, "/v1/messages") => self.create(call).await,
            (&Method::POST, "/v1/messages/count_tokens") => Ok(answers::estimate(&call.body)),
            (&Method::GET, "/v1/models") => {
                drop(call);
                Ok(answers::list(&self.shared.models().await?))
            }
            (&Method::GET, path) if path.starts_with("/v1/models/") => {
                drop(call);
                Ok(answers::model(&self.shared.models().await?, path))
            }
            _ => Ok(Reply::error(404, "not_found_error", &format!("upstream `{}` is the Claude Code program, which has no {path}", self.shared.name))),
        }
    }

    async fn create(&self, call: Call) -> Result<Reply, UpstreamError> {
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
        let held = shared.enter(&whose, false).await?;
        let limit = shared.limits.first_byte_timeout;
        let answering = self.attempts(&ask, whose, held);
        let (answer, attempts) = if limit.is_zero() {
            answering.await?
        } else {
            let late = || UpstreamError {
                attempts: 1,
                ..UpstreamError::new(FaultKind::TimedOut, format!("upstream `{}` sent no answer within {} seconds (`first_byte_timeout`)", shared.name, limit.as_secs()))
            };
            tokio::time::timeout(limit, answering).await.map_err(|_| late())??
        };
        let reply = match answer {
            Ok((first, flow)) if ask.stream => answers::streamed(first, flow),
            Ok((first, flow)) => self.whole(first, flow).await?,
            Err(failure) => self.unanswered(&failure).await.map_err(|error| UpstreamError { attempts, ..error })?,
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
            if attempts > self.shared.limits.retries || !self.is_safe(&failure) {
                return Ok((Err(failure), attempts));
            }
            tracing::debug!(upstream = %self.shared.name, attempts, message = failure.message, "trying again");
            let Some(left) = flow.discard().await else { return Ok((Err(failure), attempts)) };
            tokio::time::sleep(backoff(attempts)).await;
            held = left;
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
            // It saw by itself that there is no use in asking: the prompt is too long.
            None if failure.class.as_deref() == Some("invalid_request") => Err(UpstreamError::new(FaultKind::InvalidRequest, failure.message.clone())),
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
