//! The program's full power over HTTP: runs, at once or in the background.

mod ask;
pub mod registry;
pub mod tasks;

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use seaway_wire::claude_code::Failure;
use seaway_wire::claude_code::run::Done;
use seaway_wire::messages::Summary;
use seaway_wire::{Dialect, StopReason};

pub use ask::RunBody;

use crate::auth::Caller;
use crate::causes::chain;
use crate::drain;
use crate::fault::{Fault, FaultKind};
use crate::ledger::{Entry, Opening, Recording};
use crate::record::{Asker, Outcome};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::Session;
use crate::upstream::Upstream;
use crate::upstream::claude_code::{
    ActiveRun, Continued, News, PermissionChannel, Program, RunRequest, Unusable, line,
};

/// How a run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// The client waits for the answer.
    Whole,
    /// The client watches.
    Watched,
    /// As a task.
    Background,
}

impl RunMode {
    const fn endpoint(self) -> &'static str {
        match self {
            Self::Whole | Self::Watched => "run",
            Self::Background => "tasks",
        }
    }
}

/// A run that was looked over and can start.
pub struct Job {
    state: Arc<AppState>,
    upstream: Arc<Upstream>,
    caller: Caller,
    run_request: RunRequest,
    pub listed: Arc<registry::ListedRun>,
    /// How many runs its session had before.
    runs: u64,
    permissions: Option<PermissionChannel>,
    entry: Entry,
    began: Instant,
}

/// What a run came to, for its client.
pub type RunAnswer = Result<String, Fault>;

impl Job {
    /// Looks a request over: everything that can be refused is refused here, before any work.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub async fn prepare(
        state: &Arc<AppState>,
        snapshot: &Snapshot,
        caller: &Caller,
        asked: RunBody,
        mode: RunMode,
    ) -> Result<Self, Fault> {
        let upstream = program_of(snapshot).cloned().ok_or_else(no_program)?;
        let Some(program) = upstream.program() else { return Err(no_program()) };
        if state.drain.has_begun() {
            return Err(drain::fault());
        }
        may_run(state, caller, &upstream, asked.model.as_deref())?;
        state.ledger.store().room().await;
        let session = session(state, program, caller, &asked).await?;
        let runs = session.as_ref().map_or(0, |session| session.turns);
        let run_request = RunRequest {
            patient: mode == RunMode::Background,
            ..asked.run_request(program.setting(), session)?
        };
        let (line, permissions) = (mode == RunMode::Watched).then(line).unzip();
        let listed = Arc::new(state.agents.list(caller, &run_request.id, line));
        let opening = Opening {
            caller: caller.clone(),
            dialect: Dialect::Messages,
            endpoint: mode.endpoint(),
            asked: run_request.model.clone().unwrap_or_default(),
            stream: mode == RunMode::Watched,
            team: state.ledger.accounts().of(&caller.0).and_then(|own| own.team_name()),
            asker: Asker::default(),
            prices: snapshot.config.prices.clone(),
        };
        let mut entry = state.ledger.open(opening);
        entry.goes_to(&upstream.name);
        Ok(Self {
            state: state.clone(),
            caller: caller.clone(),
            run_request,
            listed,
            runs,
            permissions,
            entry,
            began: Instant::now(),
            upstream,
        })
    }

    pub fn id(&self) -> &str {
        &self.run_request.id
    }

    /// The id under which the request is recorded.
    pub fn record_id(&self) -> &str {
        self.entry.id()
    }

    /// Waits for its turn, and starts. Dropped meanwhile, it leaves the queue; the record says that its client left.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub async fn start(mut self) -> Result<RunningWork, Fault> {
        if let Err(fault) = self.state.ledger.may_record() {
            return Err(self.faulted(fault).await);
        }
        let Some(program) = self.upstream.program() else { return Err(no_program()) };
        let owner = self.caller.0.clone();
        let starting = program.run(&self.run_request, owner, self.permissions.take());
        let started = tokio::select! {
            started = starting => started.map_err(Fault::from),
            () = self.listed.end.cancelled() => Err(ended()),
            () = self.state.drain.wait_cut() => Err(drain::fault()),
        };
        match started {
            Ok(running) => {
                self.entry.attempted(1, true);
                Ok(RunningWork { job: self, running, stop_reason: None })
            }
            Err(fault) => Err(self.faulted(fault).await),
        }
    }

    async fn faulted(mut self, fault: Fault) -> Fault {
        self.entry.answering(
            StatusCode::from_u16(fault.status(Dialect::Messages))
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        );
        self.entry.failed(fault.kind.name());
        let recording = self.entry.ends(if fault.kind == FaultKind::Draining {
            Outcome::Drained
        } else {
            Outcome::Faulted
        });
        recorded(recording).await;
        fault
    }
}

/// A run at work.
pub struct RunningWork {
    job: Job,
    running: ActiveRun,
    /// Why the model stopped.
    stop_reason: Option<StopReason>,
}

/// What a client is told of a run.
pub enum RunEvent {
    /// Events for whoever watches.
    Events(bytes::Bytes),
    /// No event for a while.
    Silence,
    Over(RunAnswer),
}

impl RunningWork {
    /// Waits for the next thing to tell; nothing comes after the end.
    pub async fn next(mut self) -> (RunEvent, Option<Self>) {
        let news = tokio::select! {
            news = self.running.next() => news,
            () = self.job.listed.end.cancelled() => return self.over(Err(ended())).await,
            () = self.job.state.drain.wait_cut() => return self.over(Err(drain::fault())).await,
        };
        match news {
            Some(News::Events(events)) => {
                self.job.entry.heard();
                (RunEvent::Events(events), Some(self))
            }
            Some(News::Silence) => (RunEvent::Silence, Some(self)),
            Some(News::Done(done, kept)) => {
                let answer = self.done(&done, kept).await;
                self.over(Ok(answer)).await
            }
            Some(News::Failed(failure)) => self.over(Err(fault(failure))).await,
            None => {
                let message = "Claude Code ended without a result".into();
                self.over(Err(fault(Failure { message, ..Failure::default() }))).await
            }
        }
    }

    /// Works until the end, whoever watches.
    pub async fn finish(self) -> RunAnswer {
        let mut work = self;
        loop {
            match work.next().await {
                (RunEvent::Over(answer), _) => return answer,
                (RunEvent::Events(_) | RunEvent::Silence, Some(next)) => work = next,
                (RunEvent::Events(_) | RunEvent::Silence, None) => return Err(ended()),
            }
        }
    }

    async fn done(&mut self, done: &Done, kept: bool) -> String {
        let model = self.running.model().map(str::to_owned);
        self.stop_reason = done.stop_reason.as_deref().map(StopReason::parse);
        let mut session = match &self.job.run_request.session {
            Continued::From(id) | Continued::With(id) if kept && !self.running.is_deleted() => {
                Some(id.as_str())
            }
            Continued::From(_) | Continued::With(_) | Continued::No => None,
        };
        if let Some(name) = session {
            let kept = self.job.state.ledger.store().keep_session(Session {
                upstream: self.job.upstream.name.to_string(),
                owner: self.job.caller.0.to_string(),
                name: name.to_owned(),
                program_id: name.to_owned(),
                model: model.clone().unwrap_or_default(),
                folder: Some(self.job.run_request.folder.display().to_string()),
                turns: self.job.runs + 1,
                used: jiff::Timestamp::now().as_second(),
            });
            if let Err(error) = kept.await {
                tracing::error!(error = %chain(&error), "a run's session could not be kept; its client is told of none");
                session = None;
            }
        }
        done.body(
            &self.job.run_request.id,
            session,
            model.as_deref(),
            self.job.began.elapsed().as_millis(),
        )
    }

    async fn over(self, answer: RunAnswer) -> (RunEvent, Option<Self>) {
        let mut job = self.job;
        let (model, usage) = (self.running.model().map(str::to_owned), self.running.counted());
        job.entry.saw(&Summary {
            model,
            usage,
            stop_reason: self.stop_reason,
            ended: answer.is_ok(),
            ..Summary::default()
        });
        drop(self.running);
        let answer = match answer {
            Ok(body) => {
                job.entry.answering(StatusCode::OK);
                job.entry.heard();
                recorded(job.entry.ends(Outcome::Completed)).await;
                Ok(body)
            }
            Err(fault) => Err(job.faulted(fault).await),
        };
        (RunEvent::Over(answer), None)
    }
}

/// Checks that a caller may have the program work for it.
fn may_run(
    state: &AppState,
    caller: &Caller,
    upstream: &Upstream,
    model: Option<&str>,
) -> Result<(), Fault> {
    let Some(standing) = state.ledger.accounts().of(&caller.0) else { return Ok(()) };
    let settings = &standing.key.row.settings;
    let message = if standing.has_budget() {
        "what a run costs is not known before it ends, so that a key with a budget cannot have one"
    } else if !settings.may_use(&upstream.name.0) {
        "the key may not use the upstream that does runs"
    } else if !settings.models.is_empty() && !model.is_some_and(|model| settings.may_ask(model)) {
        "the key may not ask for this model; name one that it may ask for"
    } else {
        return Ok(());
    };
    Err(Fault::new(FaultKind::Forbidden, message))
}

/// Waits for a record, where the client is not to hear of an end before it is written.
async fn recorded(recording: Option<Recording>) {
    if let Some(recording) = recording
        && !recording.await
    {
        tracing::error!("a run ended whose record is not on the disk");
    }
}

/// The first upstream that is the program.
pub fn program_of(snapshot: &Snapshot) -> Option<&Arc<Upstream>> {
    snapshot.upstreams.iter().find(|upstream| upstream.program().is_some())
}

/// The fault where no upstream is the program.
pub fn no_program() -> Fault {
    Fault::new(
        FaultKind::NotFound,
        "runs are done by the Claude Code program, and no upstream here is one; add an upstream with `kind = \"claude-code\"`",
    )
}

fn ended() -> Fault {
    Fault::new(FaultKind::InvalidRequest, "the run was cancelled").code("cancelled")
}

fn fault(failure: Failure) -> Fault {
    let kind = match failure.status {
        Some(401) => FaultKind::NotReady,
        Some(403) => FaultKind::Forbidden,
        Some(404) => FaultKind::NotFound,
        Some(413) => FaultKind::TooLarge,
        Some(429) => FaultKind::RateLimited,
        Some(504) => FaultKind::TimedOut,
        Some(529) => FaultKind::Overloaded,
        Some(400..=499) => FaultKind::InvalidRequest,
        None if failure.class.as_deref() == Some("authentication_failed") => FaultKind::NotReady,
        None if failure.kind.as_deref() == Some("invalid_request_error") => {
            FaultKind::InvalidRequest
        }
        _ => FaultKind::BadReply,
    };
    let signed_out =
        failure.status.is_none() && failure.class.as_deref() == Some("authentication_failed");
    Fault::new(kind, if signed_out { Unusable::SignedOut.to_string() } else { failure.message })
}

/// What came before a run, if it continues something.
async fn session(
    state: &AppState,
    program: &Program,
    caller: &Caller,
    asked: &RunBody,
) -> Result<Option<Session>, Fault> {
    let Some(id) = &asked.session_id else { return Ok(None) };
    let known = state
        .ledger
        .store()
        .session(program.name(), &caller.0, id, program.setting().retention)
        .await?;
    let unknown = || {
        let message = format!(
            "there is no session `{id}`, or it has expired; start one with `\"keepSession\": true`"
        );
        Fault::new(FaultKind::NotFound, message).param("sessionId")
    };
    known.filter(|session| session.folder.is_some()).map(Some).ok_or_else(unknown)
}
