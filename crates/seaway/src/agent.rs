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
use seaway_wire::{Dialect, Fault, FaultKind, StopReason};

pub use ask::Asked;

use crate::auth::Caller;
use crate::causes::chain;
use crate::drain;
use crate::house::House;
use crate::ledger::{Entry, Opening};
use crate::record::Outcome;
use crate::runtime::Runtime;
use crate::store::Session;
use crate::upstream::Upstream;
use crate::upstream::claude_code::{Continued, Ear, Errand, News, Program, Running, Unusable, line};

/// How a run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The client waits for the answer.
    Whole,
    /// The client watches.
    Watched,
    /// As a task.
    Background,
}

impl Manner {
    const fn endpoint(self) -> &'static str {
        match self {
            Self::Whole | Self::Watched => "run",
            Self::Background => "tasks",
        }
    }
}

/// A run that was looked over and can start.
pub struct Job {
    house: Arc<House>,
    upstream: Arc<Upstream>,
    caller: Caller,
    errand: Errand,
    pub listed: Arc<registry::Listed>,
    /// How many runs its session had before.
    runs: u64,
    ear: Option<Ear>,
    entry: Entry,
    began: Instant,
}

/// What a run came to, for its client.
pub type Answer = Result<String, Fault>;

impl Job {
    /// Looks a request over: everything that can be refused is refused here, before any work.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub async fn prepare(house: &Arc<House>, runtime: &Runtime, caller: &Caller, asked: Asked, manner: Manner) -> Result<Self, Fault> {
        let upstream = program_of(runtime).cloned().ok_or_else(no_program)?;
        let Some(program) = upstream.program() else { return Err(no_program()) };
        if house.drain.has_begun() {
            return Err(drain::fault());
        }
        house.ledger.store().room().await;
        let session = session(house, program, caller, &asked).await?;
        let runs = session.as_ref().map_or(0, |session| session.turns);
        let errand = Errand { patient: manner == Manner::Background, ..asked.errand(program.setting(), session)? };
        let (line, ear) = (manner == Manner::Watched).then(line).unzip();
        let listed = Arc::new(house.agents.list(caller, &errand.id, line));
        let opening = Opening {
            caller: caller.clone(),
            dialect: Dialect::Messages,
            endpoint: manner.endpoint(),
            asked: errand.model.clone().unwrap_or_default(),
            stream: manner == Manner::Watched,
            prices: runtime.config.prices.clone(),
        };
        let mut entry = house.ledger.open(opening);
        entry.goes_to(&upstream.name);
        Ok(Self { house: house.clone(), caller: caller.clone(), errand, listed, runs, ear, entry, began: Instant::now(), upstream })
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.errand.id
    }

    /// The id under which the request is recorded.
    #[must_use]
    pub fn record_id(&self) -> &str {
        self.entry.id()
    }

    /// Waits for its turn, and starts.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub async fn start(mut self) -> Result<Work, Fault> {
        let Some(program) = self.upstream.program() else { return Err(no_program()) };
        let owner = self.caller.0.clone();
        let starting = program.run(&self.errand, owner, self.ear.take());
        let started = tokio::select! {
            started = starting => started.map_err(Fault::from),
            () = self.listed.end.cancelled() => Err(ended()),
            () = self.house.drain.wait_cut() => Err(drain::fault()),
        };
        match started {
            Ok(running) => {
                self.entry.attempted(1, true);
                Ok(Work { job: self, running, stop_reason: None })
            }
            Err(fault) => Err(self.faulted(fault)),
        }
    }

    fn faulted(mut self, fault: Fault) -> Fault {
        self.entry.answering(StatusCode::from_u16(fault.kind.status(Dialect::Messages)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        self.entry.failed(fault.kind.name());
        self.entry.ends(if fault.kind == FaultKind::Draining { Outcome::Drained } else { Outcome::Faulted });
        fault
    }
}

/// A run at work.
pub struct Work {
    job: Job,
    running: Running,
    /// Why it ended.
    stop_reason: Option<StopReason>,
}

/// What there is to tell of it.
pub enum Told {
    /// Events for whoever watches.
    Events(bytes::Bytes),
    /// Nothing for a while.
    Silence,
    Over(Answer),
}

impl Work {
    /// Waits for the next thing to tell; nothing comes after the end.
    pub async fn next(mut self) -> (Told, Option<Self>) {
        let news = tokio::select! {
            news = self.running.next() => news,
            () = self.job.listed.end.cancelled() => return self.over(Err(ended())),
            () = self.job.house.drain.wait_cut() => return self.over(Err(drain::fault())),
        };
        match news {
            Some(News::Events(events)) => {
                self.job.entry.heard();
                (Told::Events(events), Some(self))
            }
            Some(News::Silence) => (Told::Silence, Some(self)),
            Some(News::Done(done, kept)) => {
                let answer = self.done(&done, kept).await;
                self.over(Ok(answer))
            }
            Some(News::Failed(failure)) => self.over(Err(fault(failure))),
            None => self.over(Err(fault(Failure { message: "Claude Code ended without a result".into(), ..Failure::default() }))),
        }
    }

    /// Works until the end, whoever watches.
    pub async fn finish(self) -> Answer {
        let mut work = self;
        loop {
            match work.next().await {
                (Told::Over(answer), _) => return answer,
                (Told::Events(_) | Told::Silence, Some(next)) => work = next,
                (Told::Events(_) | Told::Silence, None) => return Err(ended()),
            }
        }
    }

    async fn done(&mut self, done: &Done, kept: bool) -> String {
        let model = self.running.model().map(str::to_owned);
        self.stop_reason = done.stop_reason.as_deref().map(StopReason::parse);
        let mut session = match &self.job.errand.session {
            Continued::From(id) | Continued::With(id) if kept && !self.running.is_deleted() => Some(id.as_str()),
            Continued::From(_) | Continued::With(_) | Continued::No => None,
        };
        if let Some(name) = session {
            let kept = self.job.house.ledger.store().keep_session(Session {
                upstream: self.job.upstream.name.to_string(),
                owner: self.job.caller.0.to_string(),
                name: name.to_owned(),
                program_id: name.to_owned(),
                model: model.clone().unwrap_or_default(),
                folder: Some(self.job.errand.folder.display().to_string()),
                turns: self.job.runs + 1,
                used: jiff::Timestamp::now().as_second(),
            });
            if let Err(error) = kept.await {
                tracing::error!(error = %chain(&error), "a run's session could not be kept; its client is told of none");
                session = None;
            }
        }
        done.body(&self.job.errand.id, session, model.as_deref(), self.job.began.elapsed().as_millis())
    }

    fn over(self, answer: Answer) -> (Told, Option<Self>) {
        let mut job = self.job;
        let (model, usage) = (self.running.model().map(str::to_owned), self.running.counted());
        job.entry.saw(&Summary { model, usage, stop_reason: self.stop_reason, ended: answer.is_ok(), ..Summary::default() });
        drop(self.running);
        let answer = match answer {
            Ok(body) => {
                job.entry.answering(StatusCode::OK);
                job.entry.heard();
                job.entry.ends(Outcome::Completed);
                Ok(body)
            }
            Err(fault) => Err(job.faulted(fault)),
        };
        (Told::Over(answer), None)
    }
}

/// The first upstream that is the program.
#[must_use]
pub fn program_of(runtime: &Runtime) -> Option<&Arc<Upstream>> {
    runtime.upstreams.iter().find(|upstream| upstream.program().is_some())
}

/// The answer where there is none.
#[must_use]
pub fn no_program() -> Fault {
    Fault::new(FaultKind::NotFound, "runs are done by the Claude Code program, and no upstream here is one; add an upstream with `kind = \"claude-code\"`")
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
        None if failure.kind.as_deref() == Some("invalid_request_error") => FaultKind::InvalidRequest,
        _ => FaultKind::BadReply,
    };
    let signed_out = failure.status.is_none() && failure.class.as_deref() == Some("authentication_failed");
    Fault::new(kind, if signed_out { Unusable::SignedOut.to_string() } else { failure.message })
}

/// What came before a run, if it continues something.
async fn session(house: &House, program: &Program, caller: &Caller, asked: &Asked) -> Result<Option<Session>, Fault> {
    let Some(id) = &asked.session_id else { return Ok(None) };
    let known = house.ledger.store().session(program.name(), &caller.0, id, program.setting().retention).await?;
    let unknown = || {
        let message = format!("there is no session `{id}`, or it has expired; start one with `\"keepSession\": true`");
        Fault::new(FaultKind::NotFound, message).param("sessionId")
    };
    known.filter(|session| session.folder.is_some()).map(Some).ok_or_else(unknown)
}
