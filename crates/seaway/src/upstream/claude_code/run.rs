//! Runs: the program at work with tools of its own, within what it was granted.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use seaway_wire::Usage;
use seaway_wire::claude_code::Failure;
use seaway_wire::claude_code::input::{self, Decision};
use seaway_wire::claude_code::run::{Done, Happened, Run};
use seaway_wire::json::quote;
use seaway_wire::sse::write_event;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answer_stream::Lease;
use super::launch::{self, Transcript};
use super::policy::{Judgement, Policy};
use super::run_request::{Continued, RunRequest};
use super::shared::ProgramState;
use super::{ConversationKey, Program, checkout, sessions, spawn};
use crate::fault::FaultKind;
use crate::process::{Folder, Piped};
use crate::upstream::UpstreamError;

/// The name of the line that has the program ask before it uses a tool.
const JUDGES: &str = "seaway-judges";
/// How long nothing may happen before that is told.
const QUIET: Duration = Duration::from_secs(15);

/// An answer to a question whether a tool may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionVerdict {
    pub request_id: String,
    pub allow: bool,
}

/// How a run is asked and answered from outside.
#[derive(Debug, Clone)]
pub struct PermissionSender {
    verdicts: mpsc::Sender<PermissionVerdict>,
    /// The questions that wait for an answer.
    open: Arc<Mutex<HashSet<String>>>,
}

/// The run's end of it.
#[derive(Debug)]
pub struct PermissionChannel {
    verdicts: mpsc::Receiver<PermissionVerdict>,
    open: Arc<Mutex<HashSet<String>>>,
}

/// Makes a line and its other end.
pub fn line() -> (PermissionSender, PermissionChannel) {
    let (sender, verdicts) = mpsc::channel(64);
    let open = Arc::<Mutex<HashSet<String>>>::default();
    (
        PermissionSender { verdicts: sender, open: open.clone() },
        PermissionChannel { verdicts, open },
    )
}

impl PermissionSender {
    /// Answers a question; false if nobody waits for that answer, or somebody gave it already.
    pub fn answer(&self, verdict: PermissionVerdict) -> bool {
        let waits =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&verdict.request_id);
        waits && self.verdicts.try_send(verdict).is_ok()
    }
}

/// An event of a run.
#[derive(Debug)]
pub enum News {
    /// Events for whoever watches.
    Events(Bytes),
    /// No event for a while.
    Silence,
    /// Its end, and whether it can be gone on with.
    Done(Box<Done>, bool),
    Failed(Failure),
}

/// A run under way. Dropping it ends it.
pub struct ActiveRun {
    working: Option<Lease>,
    run: Run,
    policy: Policy,
    permissions: Option<PermissionChannel>,
    /// Questions that wait for an answer, with when they are given up.
    asked: Vec<(String, String, Instant)>,
    /// Events that were not told yet.
    out: Vec<u8>,
    /// The last event, after all others.
    last: Option<News>,
    /// When the program last said something.
    heard: Instant,
    asking: Duration,
    idle: Duration,
    /// The deadline of the run.
    until: Option<Instant>,
    /// Cancelled with it: nobody need end it then.
    _deadline: DropGuard,
    /// What is kept of it, by the id of the session.
    session: Option<(ConversationKey, String)>,
    /// A process that did what it had to, with the turn of its session.
    finished: Option<Lease>,
}

impl Program {
    /// Starts a run, in its turn. With `permissions` somebody watches it and can be asked. Dropped meanwhile, it leaves the
    /// queue, or its process is ended.
    ///
    /// # Errors
    ///
    /// If the program cannot be had, or too many wait already.
    pub async fn run(
        &self,
        run_request: &RunRequest,
        owner: Arc<str>,
        permissions: Option<PermissionChannel>,
    ) -> Result<ActiveRun, UpstreamError> {
        let shared = self.shared();
        let session = match &run_request.session {
            Continued::No => None,
            Continued::From(id) | Continued::With(id) => Some(id.as_str().into()),
        };
        let whose = ConversationKey { owner, session };
        let held = shared.conversations.enter(&whose, run_request.patient).await?;
        let temporary = furnished(shared, run_request).await?;
        let policy =
            Policy::new(shared.setting(), run_request, temporary.path(), permissions.is_some());
        let arguments = arguments(run_request, &policy);
        let start = spawn::Start {
            arguments,
            manners: launch::WORKING,
            works_in: run_request.folder.clone(),
            temporary,
            has_tools: true,
            more: Vec::new(),
        };
        let child = shared.children.spawner.start_in(start).await?;
        let mut working = Lease::new(child, shared.clone(), held);
        if let Err(why) = begin(working.child(), &run_request.prompt).await {
            return Err(not_begun(shared, working.child(), &why));
        }
        let now = Instant::now();
        let until = Some(shared.setting().agent.run_timeout)
            .filter(|limit| !limit.is_zero())
            .map(|limit| now + limit);
        let deadline = deadline(shared, until, working.child());
        Ok(ActiveRun {
            working: Some(working),
            run: Run::default(),
            policy,
            permissions,
            asked: Vec::new(),
            out: Vec::new(),
            last: None,
            heard: now,
            asking: shared.setting().agent.ask_timeout,
            idle: shared.setting().idle_timeout,
            until,
            _deadline: deadline,
            session: match &run_request.session {
                Continued::No => None,
                Continued::From(id) | Continued::With(id) => Some((whose, id.clone())),
            },
            finished: None,
        })
    }
}

/// The flags of a run. Its prompt is none of them.
fn arguments(run_request: &RunRequest, policy: &Policy) -> Vec<String> {
    let mut words: Vec<String> = launch::PIPES.iter().map(|word| (*word).to_owned()).collect();
    words.extend(["--tools".to_owned(), policy.offered.join(",")]);
    words.extend(["--permission-prompt-tool".to_owned(), "stdio".to_owned()]);
    if let Some(model) = &run_request.model {
        words.extend(["--model".to_owned(), model.clone()]);
    }
    if let Some(turns) = run_request.max_turns {
        words.extend(["--max-turns".to_owned(), turns.to_string()]);
    }
    words.extend(launch::persistence(&match &run_request.session {
        Continued::No => Transcript::No,
        Continued::From(id) => Transcript::As(id.clone()),
        Continued::With(id) => Transcript::Resumed(id.clone()),
    }));
    words
}

impl ActiveRun {
    /// The model that works, once it said a word.
    pub fn model(&self) -> Option<&str> {
        self.run.model()
    }

    /// What it cost so far as the program told.
    pub fn counted(&self) -> Usage {
        self.run.counted()
    }

    /// True if its session was deleted while it was at work. What was kept of it is gone then.
    pub fn is_deleted(&self) -> bool {
        let (Some((whose, id)), Some(working)) = (&self.session, &self.finished) else {
            return false;
        };
        let deleted = working.shared().conversations.is_forgotten(whose);
        if deleted {
            sessions::erase(working.shared().setting(), id);
        }
        deleted
    }

    /// Waits for the next thing to tell; `None` when all is told.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            while self.last.is_none()
                && let Some(Ok(Some(line))) =
                    self.working.as_mut().map(|working| working.child().pending())
            {
                self.line(&line).await;
            }
            if !self.out.is_empty() {
                return Some(News::Events(std::mem::take(&mut self.out).into()));
            }
            if let Some(last) = self.last.take() {
                return Some(last);
            }
            let late = self.asked.iter().map(|(_, _, until)| *until).min();
            // A person who is asked may take time.
            let silence = (late.is_none() && !self.idle.is_zero()).then(|| self.heard + self.idle);
            let working = self.working.as_mut()?;
            tokio::select! {
                line = working.child().line() => match line {
                    Ok(Some(line)) => self.line(&line).await,
                    Ok(None) if self.until.is_some_and(|until| until <= Instant::now()) => {
                        let message = "the run took too long (`claude_code.run_timeout`); what it had done is done";
                        self.failed(Failure { status: Some(504), kind: Some("timeout_error".into()), message: message.into(), ..Failure::default() });
                    }
                    Ok(None) => {
                        let failure = self.run.end();
                        self.failed(failure);
                    }
                    Err(error) => self.failed(Failure { message: format!("Claude Code cannot be understood: {error}"), ..Failure::default() }),
                },
                Some(verdict) = heard(&mut self.permissions) => self.judged(&verdict).await,
                () = until(late) => self.give_up().await,
                () = until(silence) => self.failed(Failure { message: "Claude Code said nothing for too long (`idle_timeout`)".into(), ..Failure::default() }),
                () = tokio::time::sleep(QUIET), if self.permissions.is_some() => return Some(News::Silence),
            }
        }
    }

    async fn line(&mut self, line: &[u8]) {
        self.heard = Instant::now();
        match self.run.line(line, &mut self.out) {
            Happened::Quiet | Happened::Told => {}
            Happened::Limit(limit) => {
                if let Some(working) = &self.working {
                    working.shared().plan.limited(limit);
                }
            }
            Happened::Withdrawn(id) => {
                self.close(&id);
            }
            Happened::Uses { request_id, tool, input, cwd } => {
                if let Some(cwd) = cwd {
                    self.policy.moves_to(cwd);
                }
                let judgement = self.policy.judge(&tool, &input);
                let decision = match &judgement {
                    Judgement::Allow => Decision::Allow,
                    Judgement::Deny(why) => Decision::Deny(why),
                    // The program asks in its own words then, and that question can wait.
                    Judgement::Ask => Decision::Ask,
                };
                self.say(&input::decide(&request_id, decision)).await;
            }
            Happened::Unasked => {
                let message = "Claude Code used a tool without asking first; the run was ended. Look for hooks that its managed settings turn off";
                self.failed(Failure {
                    message: message.into(),
                    is_final: true,
                    ..Failure::default()
                });
            }
            Happened::Asks { request_id, tool, input } => self.asks(request_id, &tool, input).await,
            Happened::Done(done) => self.done(done).await,
            Happened::Failed(failure) => self.failed(failure),
        }
    }

    /// Ends the run. Its session is kept before a client is told so.
    async fn done(&mut self, done: Box<Done>) {
        let Some(mut working) = self.working.take() else { return };
        let kept = if let Some((_, id)) = &self.session {
            working.wind_up().await;
            let kept = keep(&mut working, id.clone()).await;
            // Its turn is over only when this is dropped: until then it is deleted by a mark, which its owner looks at.
            self.finished = Some(working);
            kept
        } else {
            working.shared().children.clone().spawn(async move { working.wind_up().await });
            false
        };
        self.last = Some(News::Done(done, kept));
    }

    async fn asks(&mut self, request_id: String, tool: &str, input: String) {
        match self.policy.judge(tool, &input) {
            Judgement::Allow => self.say(&input::allow(&request_id, &input)).await,
            Judgement::Deny(why) => self.say(&input::deny(&request_id, &why)).await,
            Judgement::Ask => {
                write_event(
                    &mut self.out,
                    "permission",
                    &format!(
                        "{{\"id\":{},\"tool\":{},\"input\":{input}}}",
                        quote(&request_id),
                        quote(tool)
                    ),
                );
                if let Some(permissions) = &self.permissions {
                    permissions
                        .open
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(request_id.clone());
                }
                self.asked.push((request_id, input, Instant::now() + self.asking));
            }
        }
    }

    /// Takes a question off the list; its arguments, if it was on it.
    fn close(&mut self, id: &str) -> Option<String> {
        if let Some(permissions) = &self.permissions {
            permissions.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        let at = self.asked.iter().position(|(known, _, _)| known == id)?;
        Some(self.asked.remove(at).1)
    }

    async fn judged(&mut self, verdict: &PermissionVerdict) {
        let id = &verdict.request_id;
        let Some(input) = self.close(id) else { return };
        let line = if verdict.allow {
            input::allow(id, &input)
        } else {
            input::deny(id, "it was refused")
        };
        self.say(&line).await;
    }

    /// Refuses what nobody answered in time.
    async fn give_up(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self
            .asked
            .iter()
            .filter(|(_, _, until)| *until <= now)
            .map(|(id, _, _)| id.clone())
            .collect();
        for id in late {
            self.close(&id);
            self.say(&input::deny(&id, "nobody answered in time")).await;
        }
    }

    async fn say(&mut self, line: &str) {
        if let Some(working) = &mut self.working
            && working.child().say(line).await.is_err()
        {
            tracing::debug!("Claude Code does not listen any more");
        }
    }

    fn failed(&mut self, failure: Failure) {
        if let Some(mut working) = self.working.take() {
            let last_words = working.child().last_words();
            if !last_words.is_empty() {
                tracing::warn!(last_words, "Claude Code failed");
            }
        }
        self.last = Some(News::Failed(failure));
    }
}

/// A temporary folder for a run, with what is kept of its session.
async fn furnished(
    shared: &ProgramState,
    run_request: &RunRequest,
) -> Result<Folder, UpstreamError> {
    let temporary = shared.children.spawner.folder()?;
    if let Continued::With(id) = &run_request.session {
        let (setting, id, folder) =
            (shared.setting().clone(), id.clone(), temporary.path().to_owned());
        let taken =
            tokio::task::spawn_blocking(move || sessions::take_up(&setting, &id, &folder)).await;
        taken.map_err(std::io::Error::other).flatten().map_err(|error| match error.kind() {
            // The session was deleted while this run waited for its turn, or somebody else removed it.
            std::io::ErrorKind::NotFound => UpstreamError::new(
                FaultKind::NotFound,
                "sessionId: the session is gone; start one with `\"keepSession\": true`",
            ),
            _ => UpstreamError::new(
                FaultKind::NotReady,
                format!("what was kept of the session cannot be read: {error}"),
            ),
        })?;
    }
    Ok(temporary)
}

/// Gives a child its prompt. Nothing is asked of it before it has agreed to ask us.
async fn begin(child: &mut Piped, prompt: &str) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    child.say(&input::ask_before_tools(JUDGES)).await.map_err(said)?;
    checkout::agreed(child, JUDGES).await?;
    let prompt = format!("[{{\"type\":\"text\",\"text\":{}}}]", quote(prompt));
    child.say(&input::user(&prompt, true)).await.map_err(said)
}

fn not_begun(shared: &ProgramState, child: &mut Piped, why: &str) -> UpstreamError {
    let last_words = child.last_words();
    tracing::warn!(last_words, "Claude Code did not start");
    UpstreamError::new(
        FaultKind::BadReply,
        format!("upstream `{}`: Claude Code did not take the prompt ({why})", shared.name()),
    )
}

/// Ends a run when its time is over, also for a client that does not read, and so does not ask how it goes.
fn deadline(shared: &ProgramState, until: Option<Instant>, child: &Piped) -> DropGuard {
    let running = CancellationToken::new();
    if let Some(until) = until {
        let (over, end) = (running.clone(), child.end_all());
        shared.children.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep_until(until) => end(),
                () = over.cancelled() => {}
            }
        });
    }
    running.drop_guard()
}

/// Keeps what a run wrote of its session; false if that cannot be.
async fn keep(working: &mut Lease, id: String) -> bool {
    let (setting, folder) =
        (working.shared().setting().clone(), working.child().folder().to_owned());
    let kept = tokio::task::spawn_blocking(move || sessions::keep(&setting, &id, &folder)).await;
    match kept.map_err(std::io::Error::other).flatten() {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "a session of runs could not be kept; its client is told that there is none");
            false
        }
    }
}

/// An answer from outside; `None` where there will be none.
async fn heard(permissions: &mut Option<PermissionChannel>) -> Option<PermissionVerdict> {
    match permissions {
        Some(permissions) => permissions.verdicts.recv().await,
        None => None,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
