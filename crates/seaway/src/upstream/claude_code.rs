//! The Claude Code program as an upstream: a plan behind a proper API.
//!
//! A request is served by the child that suits it best: one that holds open the very tool
//! calls whose results came, one that has heard the conversation so far, a spare that is told
//! the history, or a new one. A child serves one owner and one turn at a time, and is gone as
//! soon as it would go on by itself.

mod answer_stream;
mod answers;
mod checkout;
mod children;
mod conversations;
mod home;
mod installed;
mod launch;
mod login;
mod plan;
mod policy;
mod pool;
mod run;
mod run_request;
mod seed;
mod sessions;
mod shared;
mod spawn;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::{Ask, AskTerms, COMPLETE, Failure, fingerprints};
use seaway_wire::event::{EventFrame, Sink};
use seaway_wire::messages::{Change, Fold};
use seaway_wire::model::ModelTraits;
use seaway_wire::{Endpoint, Faced, Request};
use tokio_util::task::TaskTracker;

pub use installed::{Installed, Unusable, install};
pub(crate) use launch::is_model_name;
pub use login::LoginError;
pub(crate) use policy::KNOWN;
pub use pool::ConversationKey;
pub use run::{ActiveRun, News, PermissionChannel, PermissionSender, PermissionVerdict, line};
pub use run_request::{Continued, RunRequest};

use super::gate::Gate;
use super::retry::backoff;
use super::{Call, Dependencies, Payload, Reply, UpstreamError};
use crate::config::{self, Limits, UpstreamName};
use crate::credential::Credential;
use crate::fault::FaultKind;
use crate::live::Live;
use crate::process::Piped;
use answer_stream::AnswerStream;
use children::Children;
use conversations::{Conversations, TurnGuard};
use plan::Plan;
use pool::WarmChild;
use shared::ProgramState;
use spawn::Spawner;

/// How long nothing may come of a request before who watches its stream is told that it is not forgotten.
const QUIET: Duration = Duration::from_secs(10);
/// How long children have to leave when the gateway does.
const FAREWELL: Duration = Duration::from_secs(8);

/// The program, ready to be asked.
pub struct Program {
    shared: Arc<ProgramState>,
}

impl Program {
    pub(super) fn new(
        name: &UpstreamName,
        setting: &config::ProgramConfig,
        limits: &Limits,
        gate: Arc<Gate>,
        dependencies: &Dependencies,
    ) -> Self {
        let Dependencies { store, programs, .. } = dependencies.clone();
        let tasks = TaskTracker::new();
        let spawner = Spawner {
            name: name.clone(),
            credential: setting.credential.clone().map(|setting| Credential::new(setting, &tasks)),
            setting: setting.clone(),
            installed: Installed::new(programs.clone(), tasks.clone()),
            programs,
            tasks,
        };
        let shared = Arc::new(ProgramState {
            limits: limits.clone(),
            children: Arc::new(Children::new(spawner, gate.clone())),
            conversations: Conversations::new(
                name.clone(),
                limits.clone(),
                setting.retention,
                gate,
                store,
            ),
            plan: Plan::default(),
        });
        crate::process::sweep(&setting.temporary);
        shared.children.prewarm();
        Self { shared }
    }

    fn shared(&self) -> &Arc<ProgramState> {
        &self.shared
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.shared.name().0
    }

    pub fn setting(&self) -> &config::ProgramConfig {
        self.shared.setting()
    }

    pub fn installed(&self) -> &Installed {
        self.shared.installed()
    }

    /// Tells whether requests could be served now.
    ///
    /// # Errors
    ///
    /// What is missing, and what to do.
    pub async fn ready(&self) -> Result<(), String> {
        let shared = &self.shared;
        shared.installed().program(shared.setting()).await.map_err(|error| error.to_string())?;
        if let Some(credential) = &shared.children.spawner.credential {
            let written = credential.write(&mut http::HeaderMap::new()).await;
            return written.map_err(|error| {
                format!("upstream `{}` has no usable credential: {error}", shared.name())
            });
        }
        let login = shared.installed().login(shared.setting()).await;
        if shared.installed().login_has_changed() {
            shared.plan.forget();
        }
        match login {
            Ok(status) if status.logged_in => {
                let expires = status
                    .login_expires_at
                    .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
                match expires.filter(|at| *at <= jiff::Timestamp::now()) {
                    Some(at) => Err(Unusable::Expired(at).to_string()),
                    None => shared.plan.within_limit(),
                }
            }
            Ok(_) => Err(Unusable::SignedOut.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the program last said of its plan's limits that still holds: first what is reached, then what it warned of, of
    /// both the plan's before those of families of models.
    pub fn limits(&self) -> Vec<Limit> {
        self.shared.plan.limits()
    }

    /// True where so much of its plan is used that others are asked first for this model.
    pub fn spills(&self, model: &str) -> bool {
        let at = self.setting().spill_at;
        at.is_some_and(|at| self.shared.plan.share(model) >= at)
    }

    /// True once after a login became another one, or one at all: what was refused before says nothing of it.
    pub fn takes_new_login(&self) -> bool {
        self.shared.installed().take_change_of_login()
    }

    /// Finds the program and asks for its version.
    pub(super) async fn probe(&self) -> Result<(), Unusable> {
        self.shared.installed().program(self.shared.setting()).await.map(drop)
    }

    /// Lets go of what waited for too long.
    pub(super) fn sweep(&self) {
        self.shared.children.sweep();
        sessions::sweep(self.setting());
        self.sweep_logins();
        self.shared.conversations.sweep();
    }

    /// Ends every child, and waits for them.
    pub(super) async fn close(&self) {
        let shared = &self.shared;
        shared.children.closing.cancel();
        let gone = shared.children.pool().close();
        shared.children.end_all(gone);
        self.close_logins();
        shared.children.spawner.tasks.close();
        let _late = tokio::time::timeout(FAREWELL, shared.children.spawner.tasks.wait()).await;
    }

    /// The conversations that are warm.
    pub fn warm(&self) -> Vec<Warm> {
        let pool = self.shared.children.pool();
        pool.kept()
            .map(|kept| Warm {
                id: id_of(kept),
                whose: kept.whose.clone(),
                model: kept.model.clone(),
                turns: kept.turns,
                holds: kept.calls.len(),
                idle: kept.since.elapsed(),
            })
            .collect()
    }

    /// Children that wait for nobody's next turn yet.
    pub fn spares(&self) -> usize {
        self.shared.children.pool().spares()
    }

    /// Ends what is warm of a session, by its name or ours; true if there was something.
    pub fn forget(&self, whose: &ConversationKey, id: &str) -> bool {
        let mut gone = Vec::new();
        self.shared.children.pool().take(
            |kept| {
                kept.whose == *whose
                    || (kept.whose.owner == whose.owner
                        && kept.whose.session.is_none()
                        && id_of(kept) == id)
            },
            &mut gone,
        );
        let some = !gone.is_empty();
        self.shared.children.end_all(gone);
        self.shared.conversations.forget_later(whose);
        some
    }

    /// Removes what is kept of a session of runs. Whose it is, the caller has to know.
    pub fn erase(&self, id: &str) {
        sessions::erase(self.shared.setting(), id);
    }

    /// Asks the program.
    pub(super) async fn call(&self, call: Call) -> Result<Reply, UpstreamError> {
        match (&call.method, call.target.endpoint()) {
            (&Method::POST, Some(Endpoint::Messages)) => self.create(call).await,
            (&Method::POST, Some(Endpoint::CountTokens)) => Ok(answers::estimate(&call.body)),
            (&Method::GET, Some(Endpoint::Models)) => {
                drop(call);
                Ok(answers::list(&self.shared.children.models().await?))
            }
            (&Method::GET, Some(Endpoint::Model)) => {
                let id = call.target.id().unwrap_or_default().to_owned();
                drop(call);
                Ok(answers::model(&self.shared.children.models().await?, &id))
            }
            _ => Ok(Reply::error(
                404,
                "not_found_error",
                &format!(
                    "upstream `{}` is the Claude Code program, which has no {}",
                    self.shared.name(),
                    call.target
                ),
            )),
        }
    }

    async fn create(&self, call: Call) -> Result<Reply, UpstreamError> {
        let Call { headers, body: Payload::Whole(body), owner, session, live, .. } = call else {
            return Ok(Reply::error(
                400,
                "invalid_request_error",
                "the request body must come whole",
            ));
        };
        let shared = &self.shared;
        let ask = read(shared, &body)?;
        if !is_model_name(&ask.model) {
            return Err(UpstreamError::new(
                FaultKind::InvalidRequest,
                format!("model: `{}` is no name of a model", ask.model),
            ));
        }
        let notes = answers::notes(&ask, &headers);
        let stream = ask.stream;
        drop(ask);
        let whose = ConversationKey { owner, session };
        let held = shared.conversations.enter(&whose, false).await?;
        let mut answering = Box::pin(answer(shared.clone(), body, whose, held, live));
        let quick =
            tokio::time::timeout(if stream { QUIET } else { Duration::MAX }, &mut answering).await;
        let Ok(answered) = quick else {
            // Who watches a stream is told that somebody is at work; what comes of it is said in the stream.
            let told = late(shared.clone(), answering);
            return Ok(Reply { changes: notes, ..answers::awaited(told) });
        };
        let BegunAnswer { begun, attempts, notes: more } = answered?;
        let reply = match begun {
            Ok((first, answer)) if stream => answers::streamed(first, answer),
            Ok((first, answer)) => whole(shared, first, answer).await?,
            Err(failure) => {
                unanswered(shared, &failure).map_err(|error| UpstreamError { attempts, ..error })?
            }
        };
        let changes = notes.into_iter().chain(more).chain(reply.changes).collect();
        Ok(Reply { attempts, changes, ..reply })
    }
}

/// Reads a request for the program.
fn read<'b>(shared: &ProgramState, body: &'b [u8]) -> Result<Ask<'b>, UpstreamError> {
    let wrong = |fault: seaway_wire::Fault| {
        UpstreamError::new(fault.kind.into(), fault.message.into_owned())
    };
    let request = Request::parse(body).map_err(wrong)?;
    let traits = ModelTraits::of(request.model.as_deref().unwrap_or_default());
    Ask::read(&request, &AskTerms { traits, strict: shared.setting().strict }).map_err(wrong)
}

/// What came of asking.
struct BegunAnswer {
    begun: Begun,
    attempts: u32,
    /// Notes for the client.
    notes: Vec<Change>,
}

/// Asks, and waits for the beginning of an answer as long as the configuration says.
async fn answer(
    shared: Arc<ProgramState>,
    body: Bytes,
    whose: ConversationKey,
    held: TurnGuard,
    live: Option<Arc<Live>>,
) -> Result<BegunAnswer, UpstreamError> {
    let ask = read(&shared, &body)?;
    let limit = shared.limits.first_byte_timeout;
    let answering = attempts(&shared, &ask, whose, held, live.as_deref());
    let (begun, attempts) = if limit.is_zero() {
        answering.await?
    } else {
        let late = || UpstreamError {
            attempts: 1,
            ..UpstreamError::new(
                FaultKind::TimedOut,
                format!(
                    "upstream `{}` sent no answer within {} seconds (`first_byte_timeout`)",
                    shared.name(),
                    limit.as_secs()
                ),
            )
        };
        tokio::time::timeout(limit, answering).await.map_err(|_| late())??
    };
    let answers = begun
        .as_ref()
        .ok()
        .and_then(|(_, answer)| answer.model())
        .filter(|model| !answers::is_meant(&ask.model, model));
    let notes = match answers {
        Some(model) if shared.setting().strict => {
            let message = format!(
                "model: `{}` was asked for, and Claude Code would answer as `{model}`",
                ask.model
            );
            return Err(UpstreamError {
                attempts,
                ..UpstreamError::new(FaultKind::InvalidRequest, message)
            });
        }
        Some(model) => Some(Change { name: "model".into(), path: format!("answered by {model}") }),
        None => None,
    };
    let uncached = begun.as_ref().map_or(0, |(_, answer)| answer.uncached_history());
    let uncached = (uncached > 0).then(|| Change {
        name: "prompt cache".into(),
        path: format!(
            "not read for {uncached} bytes of history; Claude Code {COMPLETE} and newer can"
        ),
    });
    let notes = notes.into_iter().chain(uncached).collect();
    let begun = begun.map_err(|failure| Box::new(answers::put_right(*failure, &ask.model)));
    Ok(BegunAnswer { begun, attempts, notes })
}

/// What is said in a stream that has begun without an answer: the answer and what is to be told of it, or an event that
/// says why there is none.
async fn late(
    shared: Arc<ProgramState>,
    answering: impl Future<Output = Result<BegunAnswer, UpstreamError>>,
) -> Result<(EventFrame, AnswerStream, Vec<Change>), EventFrame> {
    let why = match answering.await {
        Ok(BegunAnswer { begun: Ok((first, answer)), notes, .. }) => {
            return Ok((first, answer, notes));
        }
        Ok(BegunAnswer { begun: Err(failure), .. }) => match unanswered(&shared, &failure) {
            Ok(_) => shared.plan.with_limit(&failure),
            Err(error) => told(error),
        },
        Err(error) => told(error),
    };
    tracing::warn!(upstream = %shared.name(), message = why.message, "no answer came of a request whose stream had begun");
    Err(why.event())
}

fn told(error: UpstreamError) -> Failure {
    Failure {
        status: Some(error.kind.face().status(seaway_wire::Dialect::Messages)),
        message: error.message,
        ..Failure::default()
    }
}

/// Tries until something comes. Only what surely did nothing is tried again.
async fn attempts(
    shared: &Arc<ProgramState>,
    ask: &Ask<'_>,
    whose: ConversationKey,
    mut held: TurnGuard,
    live: Option<&Live>,
) -> Result<(Begun, u32), UpstreamError> {
    let prints = fingerprints(ask);
    let mut attempts = 0;
    loop {
        attempts += 1;
        if let Some(live) = live {
            live.tried();
        }
        let taken = checkout::checkout(shared, ask, &whose, &prints, held).await;
        let mut answer = taken.map_err(|error| UpstreamError { attempts, ..error })?;
        let failure = match answer.next().await {
            Ok(Some(first)) => return Ok((Ok((first, answer)), attempts)),
            Ok(None) => Box::new(Failure {
                message: "Claude Code ended without an answer".into(),
                ..Failure::default()
            }),
            Err(failure) => failure,
        };
        if attempts > shared.limits.retries || !is_safe(shared, &failure) {
            return Ok((Err(failure), attempts));
        }
        tracing::debug!(upstream = %shared.name(), attempts, message = failure.message, "trying again");
        let Some(left) = answer.discard().await else { return Ok((Err(failure), attempts)) };
        tokio::time::sleep(backoff(attempts)).await;
        held = left;
    }
}

/// True for a failure after which the model surely did nothing that counts.
fn is_safe(shared: &ProgramState, failure: &Failure) -> bool {
    match failure.status {
        // A plan that is used up stays so for longer than anybody would wait here.
        Some(_) if failure.limit.is_some() => false,
        Some(status) => shared.limits.retry_on.contains(&status),
        None => failure.reason.as_deref() == Some("connection_failed"),
    }
}

/// Reads an answer to its end for a client that asked for no stream.
async fn whole(
    shared: &ProgramState,
    first: EventFrame,
    mut answer: AnswerStream,
) -> Result<Reply, UpstreamError> {
    let mut fold = Fold::default();
    let mut next = Some(first);
    while let Some(event) = next {
        fold.event(&event.event());
        let silent = || {
            UpstreamError::new(
                FaultKind::TimedOut,
                "Claude Code said nothing for too long (`idle_timeout`)",
            )
        };
        let came = match shared.setting().idle_timeout {
            Duration::ZERO => answer.next().await,
            idle => tokio::time::timeout(idle, answer.next()).await.map_err(|_| silent())?,
        };
        next = came.map_err(|failure| UpstreamError::new(FaultKind::BadReply, failure.message))?;
    }
    match answer.failure() {
        Some(failure) => unanswered(shared, &failure),
        None => Ok(answers::folded(fold)),
    }
}

/// What the program says instead of an answer.
fn unanswered(shared: &ProgramState, failure: &Failure) -> Result<Reply, UpstreamError> {
    if failure.status == Some(401) || failure.class.as_deref() == Some("authentication_failed") {
        shared.installed().forget_login();
    }
    let failure = &shared.plan.with_limit(failure);
    match failure.status {
        Some(_) => Ok(answers::refused(failure)),
        None if failure.is_final => Ok(answers::refused(failure)),
        None if failure.class.as_deref() == Some("authentication_failed") => {
            Err(UpstreamError::new(FaultKind::NotReady, Unusable::SignedOut.to_string()))
        }
        // It saw by itself that there is no use in asking: the prompt is too long.
        None if failure.class.as_deref() == Some("invalid_request") => {
            Err(UpstreamError::new(FaultKind::InvalidRequest, failure.message.clone()))
        }
        None if failure.reason.as_deref() == Some("connection_failed") => {
            Err(UpstreamError::new(FaultKind::Unreachable, failure.message.clone()))
        }
        None => Err(UpstreamError::new(FaultKind::BadReply, failure.message.clone())),
    }
}

/// An answer that has begun, or why none did.
type Begun = Result<(EventFrame, AnswerStream), Box<Failure>>;

/// A conversation that can go on at once.
#[derive(Debug)]
pub struct Warm {
    /// Its name, or one of ours until its next turn.
    pub id: String,
    pub whose: ConversationKey,
    pub model: String,
    pub turns: u64,
    /// Tool calls that are held open.
    pub holds: usize,
    pub idle: Duration,
}

fn id_of(kept: &WarmChild<Piped>) -> String {
    kept.whose
        .session
        .as_deref()
        .map_or_else(|| format!("warm_{}", &kept.print.text()[..16]), str::to_owned)
}
