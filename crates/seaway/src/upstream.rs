//! Upstreams: a call goes in, a reply comes out, in the Messages dialect.
//!
//! What stands between: a gate (concurrency and queue), retries before the first
//! byte, and the credential. An upstream never learns who asked, or in which dialect.

mod api;
mod body;
pub mod claude_code;
pub mod gate;
mod health;
mod pool;
mod reach;
mod retry;
mod sandbox;
mod vendor;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use seaway_wire::Endpoint;
use seaway_wire::messages::Change;
use tokio_util::task::TaskTracker;

use body::HttpBody;
pub use body::{ReadError, ReplyBody, ReplyFrame, next_frame, read_whole};
pub use health::{Health, Trouble};
pub(crate) use pool::sweep_thread;
use reach::Reach;
use retry::{Extra, Next, Retry, retry_after};

use crate::config::{self, UpstreamName};
use crate::dial::Network;
use crate::fault::{Fault, FaultKind};
use crate::ledger::Books;
use crate::live::Live;
use crate::process::Programs;
use crate::store::Store;
use crate::tunnel::Tunnel;
use gate::{Gate, Permit};

pub use crate::causes::BoxError;
/// What is behind an error that several are told of.
pub type SharedError = Arc<dyn std::error::Error + Send + Sync>;
/// The body of a request: whole, or as it comes in.
pub type CallBody = Either<Full<Bytes>, RequestBody>;
/// The body of a request that is not looked into.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// A client's body that broke off.
#[derive(Debug, thiserror::Error)]
#[error("the client's body broke off")]
pub struct BodyError(#[from] pub BoxError);

/// What an upstream is asked.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub target: Target,
    /// As the client sent it.
    pub query: Option<String>,
    /// End-to-end headers, without any local credential.
    pub headers: HeaderMap,
    pub body: Payload,
    /// Whose it is. Opaque: what is kept for one is never used for another.
    pub owner: Arc<str>,
    /// The name of the conversation, if it has one.
    pub session: Option<Arc<str>>,
    /// The exchange that it is for, which knows of every attempt also when its client leaves meanwhile.
    pub live: Option<Arc<Live>>,
}

impl Call {
    /// A request of our own.
    pub fn own(
        method: Method,
        endpoint: Endpoint,
        query: Option<String>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        Self {
            method,
            target: endpoint.into(),
            query,
            headers,
            body: Payload::Whole(body),
            owner: "".into(),
            session: None,
            live: None,
        }
    }
}

/// What of an upstream's API is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Known {
        endpoint: Endpoint,
        /// As it stands in the path.
        id: Option<String>,
    },
    /// What is newer than this gateway, as the client wrote it from `/v1/` on.
    Other(String),
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Self {
        Self::Known { endpoint, id: None }
    }
}

impl Target {
    /// Reads a path from `/v1/` on, without its query.
    pub fn of_path(path: &str) -> Self {
        match Endpoint::find(path) {
            Some((endpoint, id)) => Self::Known { endpoint, id: id.map(str::to_owned) },
            None => Self::Other(path.to_owned()),
        }
    }

    pub const fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Known { endpoint, .. } => Some(*endpoint),
            Self::Other(_) => None,
        }
    }

    /// The endpoint, or that of what something newer stands below.
    pub fn family(&self) -> Option<Endpoint> {
        match self {
            Self::Known { endpoint, .. } => Some(*endpoint),
            Self::Other(path) => below(path).map(|(endpoint, _)| endpoint),
        }
    }

    /// The id of what is asked for.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Known { id, .. } => id.as_deref(),
            Self::Other(path) => below(path).map(|(_, id)| id),
        }
    }
}

/// What a path that the table does not have stands below, and the id of that.
fn below(path: &str) -> Option<(Endpoint, &str)> {
    let parents = [Endpoint::File, Endpoint::Batch, Endpoint::Response];
    parents.into_iter().find_map(|endpoint| {
        let rest = path.strip_prefix(endpoint.path(Some("")).as_str())?;
        let id = rest.split('/').next().filter(|id| !id.is_empty())?;
        Some((endpoint, id))
    })
}

/// Its path, from `/v1/` on.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known { endpoint, id } => endpoint.write_path(id.as_deref(), f),
            Self::Other(path) => f.write_str(path),
        }
    }
}

/// What a call carries.
#[derive(Debug)]
pub enum Payload {
    /// A body that can be sent again.
    Whole(Bytes),
    /// A body that is sent once, as it comes in.
    Streamed(RequestBody),
}

/// What it answers: head first, then a stream of frames.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReplyBody,
    /// How many attempts it took.
    pub attempts: u32,
    /// Held until the answer is over.
    pub permit: Permit,
    /// What the upstream could not do as it was asked.
    pub changes: Vec<Change>,
}

/// What may be done after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recourse {
    /// Nothing: it may have done its work.
    Nothing,
    /// Trying again may help, and harms nothing.
    Again,
    /// The same, and a first time at once: a kept connection was found closed before anything was sent on it.
    Unsent,
    /// Once more at once: the way there was at fault, and was mended since.
    Reconnected,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct UpstreamError {
    pub kind: FaultKind,
    /// Names the upstream, what happened, and what to do where somebody can.
    pub message: String,
    pub recourse: Recourse,
    /// How many attempts it took.
    pub attempts: u32,
    pub retry_after: Option<Duration>,
    /// Where the trouble is, if that is neither us nor the upstream.
    pub layer: Option<&'static str>,
    #[source]
    pub source: Option<SharedError>,
}

impl UpstreamError {
    /// An error of which nothing more is known.
    fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            recourse: Recourse::Nothing,
            attempts: 0,
            retry_after: None,
            layer: None,
            source: None,
        }
    }
}

/// What it is to the client.
impl From<UpstreamError> for Fault {
    fn from(error: UpstreamError) -> Self {
        let mut fault = Self::new(error.kind, error.message);
        fault.retry_after = error.retry_after;
        fault.layer = error.layer;
        match error.source {
            Some(source) => fault.because(source),
            None => fault,
        }
    }
}

/// An upstream, ready to be called from many tasks.
pub struct Upstream {
    pub name: UpstreamName,
    pub setting: Arc<config::UpstreamConfig>,
    pub health: Health,
    pub gate: Arc<Gate>,
    reach: Reach,
    place: Backing,
}

enum Backing {
    Api(Box<api::Api>),
    Program(Box<claude_code::Program>),
    Sandbox(sandbox::Sandbox),
}

/// How long the program's login counts as bad after it was refused, in seconds: it may have been renewed meanwhile
/// by somebody who does not tell us.
const REFUSED_FOR: i64 = 300;

/// What upstreams share with the rest of the gateway.
#[derive(Debug, Clone)]
pub struct Dependencies {
    pub tasks: TaskTracker,
    pub store: Store,
    pub books: Books,
    pub network: Network,
    pub programs: Programs,
}

impl Upstream {
    pub fn new(setting: Arc<config::UpstreamConfig>, dependencies: &Dependencies) -> Self {
        let gate = Arc::new(Gate::new(&setting.limits));
        let place = match &setting.place {
            config::UpstreamPlace::Api(api) => Backing::Api(Box::new(api::Api::new(
                &setting.name,
                api,
                &setting.limits,
                dependencies,
            ))),
            config::UpstreamPlace::Program(program) => {
                Backing::Program(Box::new(claude_code::Program::new(
                    &setting.name,
                    program,
                    &setting.limits,
                    gate.clone(),
                    dependencies,
                )))
            }
            config::UpstreamPlace::Sandbox => Backing::Sandbox(sandbox::Sandbox::default()),
        };
        Self {
            name: setting.name.clone(),
            gate,
            health: Health::default(),
            reach: Reach::default(),
            place,
            setting,
        }
    }

    /// True if answers are simulated.
    pub fn is_simulated(&self) -> bool {
        matches!(self.place, Backing::Sandbox(_))
    }

    /// How long a reply may be silent before it is given up.
    pub fn idle_timeout(&self) -> Option<Duration> {
        match &self.setting.place {
            config::UpstreamPlace::Api(api) => {
                Some(api.idle_timeout).filter(|time| !time.is_zero())
            }
            config::UpstreamPlace::Program(program) => {
                Some(program.idle_timeout).filter(|time| !time.is_zero())
            }
            config::UpstreamPlace::Sandbox => None,
        }
    }

    /// True if the client's own credential is sent on.
    pub fn passes_credentials(&self) -> bool {
        matches!(&self.setting.place, config::UpstreamPlace::Api(api) if api.passthrough)
    }

    /// Does what needs doing now and then.
    pub fn sweep(&self) {
        match &self.place {
            Backing::Api(api) => api.sweep(),
            Backing::Program(program) => program.sweep(),
            Backing::Sandbox(_) => {}
        }
    }

    /// Lets go of everything, for good.
    pub async fn close(&self) {
        if let Backing::Program(program) = &self.place {
            program.close().await;
        }
    }

    /// The Claude Code program, if that is what answers.
    pub fn program(&self) -> Option<&claude_code::Program> {
        match &self.place {
            Backing::Program(program) => Some(program),
            Backing::Api(_) | Backing::Sandbox(_) => None,
        }
    }

    /// The tunnel that it is reached by, if it is.
    pub fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        match &self.place {
            Backing::Api(api) => api.tunnel(),
            Backing::Program(_) | Backing::Sandbox(_) => None,
        }
    }

    /// Tells whether requests could be served now, without sending one. `grace`: how long one that cannot be reached
    /// still counts.
    ///
    /// # Errors
    ///
    /// What is missing, and what to do.
    pub async fn ready(&self, grace: Duration) -> Result<(), String> {
        self.usable().await?;
        match &self.place {
            // A tunnel says itself whether it is up; none is opened to find out.
            Backing::Api(api) if api.tunnel().is_none() => {
                let found = self.reach.look(grace, api.probe()).await;
                found.map_err(|why| format!("upstream `{}` cannot be reached: {why}", self.name))
            }
            Backing::Api(_) | Backing::Program(_) | Backing::Sandbox(_) => Ok(()),
        }
    }

    /// Tells whether there is all that is needed to ask: a credential, a login, a tunnel.
    ///
    /// # Errors
    ///
    /// What is missing, and what to do.
    pub async fn usable(&self) -> Result<(), String> {
        if let Backing::Program(program) = &self.place {
            let ready = program.ready().await;
            if program.takes_new_login() {
                // Whatever was refused before was another login's.
                self.health.good();
            }
            ready?;
        }
        // The program is asked itself; only what it cannot know is remembered: that its login was refused.
        let refused_lately = |trouble: &Trouble| {
            trouble.kind == FaultKind::Unauthenticated.name()
                && jiff::Timestamp::now().as_second() - trouble.since < REFUSED_FOR
        };
        let counts = |trouble: &Trouble| {
            trouble.needs_care && (self.program().is_none() || refused_lately(trouble))
        };
        if let Some(trouble) = self.health.trouble().filter(counts) {
            return Err(trouble.message);
        }
        match &self.place {
            Backing::Api(api) => api.ready().await.map_err(|error| error.message),
            Backing::Program(_) | Backing::Sandbox(_) => Ok(()),
        }
    }

    /// Opens a connection and drops it: is anybody there, and is it who it should be?
    ///
    /// # Errors
    ///
    /// What went wrong, cause by cause.
    pub async fn probe(&self) -> Result<(), BoxError> {
        match &self.place {
            Backing::Api(api) => api.probe().await,
            Backing::Program(program) => program.probe().await.map_err(BoxError::from),
            Backing::Sandbox(_) => Ok(()),
        }
    }

    /// Asks, with as many attempts as the configuration allows. Dropped meanwhile, it leaves the queue, or what was sent is
    /// broken off.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] if there was no answer. An error that the upstream *answered*
    /// is a reply like any other.
    pub async fn call(&self, call: Call) -> Result<Reply, UpstreamError> {
        // Whether it lists its models says nothing of whether it answers, and a count of our own nothing at all.
        let asks = call.method != Method::GET
            && !(self.program().is_some() && call.target.endpoint() == Some(Endpoint::CountTokens));
        let result = match &self.place {
            Backing::Api(api) => {
                let permit = self.permit(&call.owner).await?;
                self.attempts(api, call, permit).await
            }
            // It holds its places beyond the answer, until the child is put aside. Boxed, so that calls of others are small.
            Backing::Program(program) => Box::pin(program.call(call)).await,
            Backing::Sandbox(sandbox) => {
                let permit = self.permit(&call.owner).await?;
                Ok(sandbox.answer(call, permit).await)
            }
        };
        match &result {
            Ok(_) => self.reach.told(Ok(())),
            Err(error) if error.kind == FaultKind::Unreachable && error.layer.is_none() => {
                self.reach.told(Err(error
                    .source
                    .as_deref()
                    .map_or_else(|| error.message.clone(), |source| crate::causes::chain(source))));
            }
            Err(_) => {}
        }
        if asks {
            self.note(&result);
        }
        result
    }

    async fn permit(&self, caller: &Arc<str>) -> Result<Permit, UpstreamError> {
        self.gate.enter(caller).await.map_err(|refused| refused.of(&self.name))
    }

    async fn attempts(
        &self,
        api: &api::Api,
        call: Call,
        permit: Permit,
    ) -> Result<Reply, UpstreamError> {
        let limits = &self.setting.limits;
        let live = call.live.clone();
        let (head, mut payload) = api.prepare(call);
        let mut retry = Retry::new(limits);
        loop {
            retry.attempts += 1;
            if let Some(live) = &live {
                live.tried();
            }
            let (body, again) = split(payload);
            let mut sent = HeaderMap::new();
            let mended = api.mended();
            // Boxed, so that what asks is small.
            let result = Box::pin(api.attempt(&head, body, &mut sent)).await;
            let result = match result {
                Err(error)
                    if !retry.had(Extra::Reconnected) && error.recourse != Recourse::Unsent =>
                {
                    Err(api.looked_into(error, mended).await)
                }
                result => result,
            };
            let refreshable = api.credential_can_change() && !sent.is_empty();
            let next = match (&result, &again) {
                (_, None) => Next::Stop,
                (Ok(reply), Some(_)) => {
                    retry.after_reply(reply.status(), reply.headers(), refreshable)
                }
                (Err(error), Some(_)) => retry.after_error(error),
            };
            match (next, again) {
                (Next::Refresh, Some(again)) => {
                    api.refused(&sent);
                    payload = again;
                }
                (Next::Wait(wait), Some(again)) => {
                    tracing::debug!(upstream = %self.name, attempt = retry.attempts, ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                    payload = again;
                }
                _ => {
                    if result.as_ref().is_ok_and(|reply| reply.status() == StatusCode::UNAUTHORIZED)
                    {
                        api.refused(&sent);
                    }
                    return match result {
                        Ok(reply) => Ok(Reply::new(reply, retry.attempts, permit)),
                        Err(error) => Err(UpstreamError { attempts: retry.attempts, ..error }),
                    };
                }
            }
        }
    }

    fn note(&self, result: &Result<Reply, UpstreamError>) {
        match result {
            Ok(reply) => match kind_of_status(reply.status) {
                None => self.health.good(),
                // The client's own credential was refused.
                Some(FaultKind::Unauthenticated) if self.passes_credentials() => {}
                Some(kind) => {
                    let message = match kind {
                        FaultKind::Unauthenticated
                            if self
                                .program()
                                .is_some_and(|program| program.setting().credential.is_none()) =>
                        {
                            format!(
                                "upstream `{}`: Claude Code's login was refused; run `seaway login`",
                                self.name
                            )
                        }
                        FaultKind::Unauthenticated => format!(
                            "upstream `{}` refused our credential (status 401); check it",
                            self.name
                        ),
                        _ => format!(
                            "upstream `{}` answered with status {}",
                            self.name,
                            reply.status.as_u16()
                        ),
                    };
                    self.health.bad(kind, &message, retry_after(&reply.headers));
                }
            },
            // That was the client's doing, or our own.
            Err(error)
                if matches!(
                    error.kind,
                    FaultKind::RateLimited | FaultKind::InvalidRequest | FaultKind::Unsupported
                ) => {}
            // The way says of itself whether it is up.
            Err(error) if error.layer.is_some() => {
                self.health.bad(FaultKind::Unreachable, &error.message, error.retry_after);
            }
            Err(error) => self.health.bad(error.kind, &error.message, error.retry_after),
        }
    }
}

impl Reply {
    fn new(response: http::Response<ReplyBody>, attempts: u32, permit: Permit) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            attempts,
            permit,
            changes: Vec::new(),
        }
    }

    /// An answer of our own making, in JSON.
    fn json(status: u16, text: String) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = ReplyBody::whole(text);
        Self { status, headers, body, attempts: 1, permit: Permit::free(), changes: Vec::new() }
    }

    /// An error, as the Messages API writes it.
    fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::json(
            status,
            serde_json::json!({"type": "error", "error": {"type": kind, "message": message}})
                .to_string(),
        )
    }
}

/// A payload for this attempt, and one for the next if there can be one.
fn split(payload: Payload) -> (CallBody, Option<Payload>) {
    match payload {
        Payload::Whole(bytes) => {
            (Either::Left(Full::new(bytes.clone())), Some(Payload::Whole(bytes)))
        }
        Payload::Streamed(body) => (Either::Right(body), None),
    }
}

/// What a status says about the upstream itself. A client's own mistake says nothing.
pub fn kind_of_status(status: StatusCode) -> Option<FaultKind> {
    match status.as_u16() {
        401 => Some(FaultKind::Unauthenticated),
        429 => Some(FaultKind::RateLimited),
        503 | 529 => Some(FaultKind::Overloaded),
        504 => Some(FaultKind::TimedOut),
        500..=599 => Some(FaultKind::BadReply),
        _ => None,
    }
}
