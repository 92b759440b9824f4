//! The heart: one request, from parsed to finished.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use seaway_wire::messages::{Fold, FoldError, Meter, Summary, UpstreamError as Said};
use seaway_wire::{Dialect, Fault, FaultKind, Request};

use crate::auth::Caller;
use crate::config::Preset;
use crate::house::House;
use crate::ledger::Opening;
use crate::pipe::{Patience, Pipe};
use crate::plan::{self, Endpoint};
use crate::record::{Entry, Outcome};
use crate::route;
use crate::runtime::Runtime;
use crate::upstream::{Call, Payload, ReadError, Reply, Upstream, UpstreamError, next_frame, read_whole};
use crate::{answer, headers};

/// The largest error body that is held to be looked at.
const ERROR_LIMIT: usize = 16 << 20;
/// The largest answer that is folded.
const FOLD_LIMIT: usize = 256 << 20;

/// What a client asks in the Messages dialect.
#[derive(Debug)]
pub struct Ask {
    pub caller: Caller,
    pub endpoint: Endpoint,
    /// As the client sent them.
    pub headers: HeaderMap,
    pub query: Option<String>,
    pub preset: Option<String>,
    pub body: Bytes,
}

/// Serves a Messages request.
pub async fn run(house: Arc<House>, runtime: Arc<Runtime>, ask: Ask) -> Response {
    let body = ask.body.clone();
    let request = Request::parse(&body);
    let known = request.as_ref().ok();
    let entry = house.ledger.open(Opening {
        caller: ask.caller.clone(),
        dialect: Dialect::Messages,
        endpoint: ask.endpoint.name(),
        asked: known.and_then(|request| request.model.as_deref()).unwrap_or_default().to_owned(),
        stream: known.is_some_and(|request| request.stream),
    });
    let mut exchange = Exchange { house, runtime, ask, entry };
    let answered = match request {
        Ok(request) => exchange.ask_upstreams(&request).await,
        Err(fault) => Err(fault),
    };
    match answered {
        Ok(answered) => exchange.respond(answered).await,
        Err(fault) => exchange.fault(&fault),
    }
}

/// Sends a request on that is not looked into: batches and files.
pub async fn relay(house: Arc<House>, runtime: Arc<Runtime>, caller: Caller, method: Method, path: String, client: HeaderMap, body: Body) -> Response {
    let endpoint = if path.contains("/files") { "files" } else { "batches" };
    let entry = house.ledger.open(Opening { caller, dialect: Dialect::Messages, endpoint, asked: String::new(), stream: false });
    let climbs = path.split(['/', '?']).any(|segment| segment.to_ascii_lowercase().replace("%2e", ".") == "..");
    let ask = Ask { caller: entry.record.caller.clone(), endpoint: Endpoint::Create, headers: client, query: None, preset: None, body: Bytes::new() };
    let mut exchange = Exchange { runtime: runtime.clone(), house, ask, entry };
    if climbs {
        return exchange.fault(&Fault::new(FaultKind::InvalidRequest, "the path climbs out of the API; write it without `..`"));
    }
    let first = route::route(&runtime.config, "", "").into_iter().next();
    let Some(upstream) = first.and_then(|name| runtime.upstream(&name)) else {
        return exchange.fault(&no_upstream());
    };
    let headers = headers::to_upstream(&exchange.ask.headers, &runtime.keyring, upstream.passes_credentials());
    let body = if body.is_end_stream() { Payload::Whole(Bytes::new()) } else { Payload::Streamed(body) };
    let call = Call { method, path, headers, body };
    exchange.entry.record.upstream = Some(upstream.name.clone());
    match exchange.call(upstream, call).await {
        Ok(reply) => exchange.respond(Answered { reply, upstream: upstream.clone(), form: Form::Opaque }).await,
        Err(fault) => exchange.fault(&fault),
    }
}

/// One request on its way.
struct Exchange {
    house: Arc<House>,
    runtime: Arc<Runtime>,
    ask: Ask,
    entry: Entry,
}

struct Answered {
    reply: Reply,
    upstream: Arc<Upstream>,
    form: Form,
}

/// What the client is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Events,
    Json,
    /// A whole message, from an answer that we had streamed.
    Folded,
    Opaque,
}

impl Exchange {
    /// Asks one target after the other until one can serve.
    async fn ask_upstreams(&mut self, request: &Request<'_>) -> Result<Answered, Fault> {
        let runtime = self.runtime.clone();
        let preset = self.preset(&runtime)?;
        let (asked, from_default) = match (&request.model, &runtime.config.default_model) {
            (Some(model), _) => (model.as_ref(), false),
            (None, Some(model)) => (model.as_str(), true),
            (None, None) => return Err(Fault::new(FaultKind::InvalidRequest, "model: field required").param("model")),
        };
        let alias = route::alias(&runtime.config.aliases, asked);
        let names = route::route(&runtime.config, asked, alias.unwrap_or(asked));
        let targets: Vec<&Arc<Upstream>> = names.iter().filter_map(|name| runtime.upstream(name)).collect();
        let targets = route::healthy_first(targets, |upstream| upstream.health.rests());
        let count = targets.len();
        for (index, upstream) in targets.into_iter().enumerate() {
            let model = match alias {
                Some(target) => Some(("alias", target.to_owned())),
                None if from_default => Some(("model.default", asked.to_owned())),
                None => self.newest(upstream, asked).await.map(|model| ("alias", model)),
            };
            let edits = plan::edits(&upstream.setting, preset, model, self.ask.endpoint);
            let form = match (request.stream, edits.force_stream) {
                (true, _) => Form::Events,
                (false, true) => Form::Folded,
                (false, false) => Form::Json,
            };
            let edited = edits.apply(request);
            let body = edited.body.map_or_else(|| self.ask.body.clone(), Bytes::from);
            self.entry.record.changes = edited.changes;
            self.entry.record.upstream = Some(upstream.name.clone());
            let last = index + 1 == count;
            match self.call(upstream, self.request(upstream, body)).await {
                Ok(reply) if last || !passes_on(reply.status) => return Ok(Answered { reply, upstream: upstream.clone(), form }),
                Ok(reply) => tracing::warn!(upstream = %upstream.name, status = reply.status.as_u16(), "trying the next upstream"),
                Err(fault) if last || !worth_another(fault.kind) => return Err(fault),
                Err(fault) => tracing::warn!(upstream = %upstream.name, %fault, "trying the next upstream"),
            }
        }
        Err(no_upstream())
    }

    fn preset<'r>(&self, runtime: &'r Runtime) -> Result<Option<&'r Preset>, Fault> {
        let Some(name) = &self.ask.preset else { return Ok(None) };
        let presets = &runtime.config.presets;
        let found = presets.iter().find(|preset| preset.name == *name);
        let unknown = || {
            let names: Vec<String> = presets.iter().map(|preset| format!("`{}`", preset.name)).collect();
            Fault::new(FaultKind::NotFound, format!("unknown preset `{name}`; there are {}", names.join(", ")))
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// `opus` and its like stand for the newest that the upstream lists.
    async fn newest(&self, upstream: &Upstream, asked: &str) -> Option<String> {
        if !route::FAMILIES.contains(&asked) {
            return None;
        }
        let headers = headers::to_upstream(&self.ask.headers, &self.runtime.keyring, upstream.passes_credentials());
        self.runtime.catalog.newest(upstream, &headers, asked).await
    }

    fn request(&self, upstream: &Upstream, body: Bytes) -> Call {
        let mut headers = headers::to_upstream(&self.ask.headers, &self.runtime.keyring, upstream.passes_credentials());
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
        let mut path = self.ask.endpoint.path().to_owned();
        if let Some(query) = &self.ask.query {
            path.push('?');
            path.push_str(query);
        }
        Call { method: Method::POST, path, headers, body: Payload::Whole(body) }
    }

    /// Calls an upstream. The hashes for the receipt are made while it thinks.
    async fn call(&mut self, upstream: &Upstream, call: Call) -> Result<Reply, Fault> {
        let went = match &call.body {
            Payload::Whole(bytes) => bytes.clone(),
            Payload::Streamed(_) => Bytes::new(),
        };
        let came = &self.ask.body;
        let looked_at = matches!(call.body, Payload::Whole(_)) && !came.is_empty();
        let hashes = async {
            if !looked_at {
                return (None, None);
            }
            let body_in = blake3::hash(came);
            let body_out = if went.as_ptr() == came.as_ptr() { body_in } else { blake3::hash(&went) };
            (Some(body_in), Some(body_out))
        };
        let asked = async {
            tokio::select! {
                biased;
                result = upstream.call(call) => Some(result),
                () = self.house.drain.wait_cut() => None,
            }
        };
        let (result, hashes) = tokio::join!(asked, hashes);
        (self.entry.record.body_in, self.entry.record.body_out) = hashes;
        match result {
            Some(Ok(reply)) => {
                self.entry.record.attempts += reply.attempts;
                Ok(reply)
            }
            Some(Err(error)) => {
                self.entry.record.attempts += error.attempts;
                Err(fault_of(error))
            }
            None => Err(draining()),
        }
    }

    fn fault(mut self, fault: &Fault) -> Response {
        let request_id = self.entry.record.id.clone();
        let mut response = answer::fault(fault, Dialect::Messages, &request_id);
        answer::note(response.headers_mut(), &self.entry.record.changes);
        if let Some(cause) = std::error::Error::source(fault) {
            tracing::debug!(id = request_id, %cause, "a request failed");
        }
        self.entry.record.status = response.status().as_u16();
        self.entry.record.fault = Some(fault.kind.name().to_owned());
        self.entry.close(if fault.kind == FaultKind::Draining { Outcome::Drained } else { Outcome::Faulted });
        response
    }

    async fn respond(mut self, answered: Answered) -> Response {
        let Answered { reply, upstream, form } = answered;
        let mut headers = headers::to_client(&reply.headers, upstream.is_simulated());
        let request_id = answer::identify(&mut headers, &self.entry.record.id);
        answer::note(&mut headers, &self.entry.record.changes);
        self.entry.request_id(&request_id);
        self.entry.record.status = reply.status.as_u16();
        if reply.status == StatusCode::UNAUTHORIZED && !upstream.passes_credentials() {
            // It is our credential that was refused: the client cannot mend that by asking again.
            headers.entry("x-should-retry").or_insert(HeaderValue::from_static("false"));
        }
        let idle = upstream.idle_timeout();
        if reply.status.is_informational() {
            return self.fault(&Fault::new(FaultKind::BadReply, "the upstream wants to change the protocol, which nobody asked for"));
        }
        // Who follows it would take the prompt and the local key along.
        headers.remove(http::header::LOCATION);
        if !reply.status.is_success() && form != Form::Opaque {
            return self.error(reply, headers, idle).await;
        }
        if form != Form::Opaque && is_no_message(&reply, form) {
            let message = format!("the upstream answered with status {} and no message; check its `base_url`", reply.status.as_u16());
            return self.fault(&Fault::new(FaultKind::BadReply, message));
        }
        if form == Form::Folded && !kind_of(&headers).contains("json") {
            return self.fold(reply, headers, idle).await;
        }
        let meter = meter(form, &headers);
        let ping = (form == Form::Events && !headers.contains_key(CONTENT_ENCODING)).then_some(self.runtime.config.ping);
        let patience = Patience { ping, idle };
        let status = reply.status;
        let pipe = Pipe::new(reply.body, meter, self.entry, patience, self.house.drain.clone(), reply.pass);
        assemble(status, headers, Body::new(pipe))
    }

    /// An error that the upstream answered goes on as it came; what is not JSON becomes so.
    async fn error(mut self, reply: Reply, mut headers: HeaderMap, idle: Option<Duration>) -> Response {
        let status = reply.status;
        let body = match read_whole(reply.body, ERROR_LIMIT, idle).await {
            Ok(body) => body,
            Err(error) => {
                let fault = Fault::new(FaultKind::BadReply, format!("the upstream's error (status {}) broke off", status.as_u16()));
                return self.fault(&fault.because(error));
            }
        };
        self.entry.first_byte();
        let said = Said::parse(&body);
        let encoded = headers.contains_key(CONTENT_ENCODING);
        let foreign = !encoded && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err();
        let body = if foreign {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Bytes::from(translate_error(status, &self.entry.record.request_id))
        } else {
            body
        };
        self.entry.record.fault = Some(said.as_ref().map_or_else(|| format!("status_{}", status.as_u16()), |said| said.kind.clone()));
        self.entry.record.summary = Summary { error: said, ..Summary::default() };
        self.entry.close(Outcome::Faulted);
        assemble(status, headers, Body::from(body))
    }

    async fn fold(mut self, reply: Reply, mut headers: HeaderMap, idle: Option<Duration>) -> Response {
        let mut fold = Fold::default();
        let read = self.fold_frames(reply, &mut fold, idle).await;
        self.entry.record.summary = fold.summary().clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Err(error @ ReadError::Idle(_)) = read {
            return self.fault(&Fault::new(FaultKind::TimedOut, error.to_string()));
        }
        match fold.finish() {
            Ok(folded) => {
                self.entry.close(Outcome::Completed);
                assemble(StatusCode::OK, headers, Body::from(folded.body))
            }
            Err(FoldError::Upstream { status, body }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                self.entry.record.status = status.as_u16();
                self.entry.record.fault = self.entry.record.summary.error.as_ref().map(|error| error.kind.clone());
                self.entry.close(Outcome::Faulted);
                assemble(status, headers, Body::from(body))
            }
            Err(error) => {
                let drained = self.house.drain.is_cutting();
                self.fault(&if drained { draining() } else { Fault::new(FaultKind::BadReply, error.to_string()) })
            }
        }
    }

    async fn fold_frames(&mut self, reply: Reply, fold: &mut Fold, idle: Option<Duration>) -> Result<(), ReadError> {
        let mut body = reply.body;
        let mut size = 0;
        let mut cut = std::pin::pin!(self.house.drain.wait_cut());
        while !fold.settled() {
            let frame = tokio::select! {
                frame = next_frame(&mut body, idle) => frame,
                () = &mut cut => return Ok(()),
            };
            let Some(bytes) = frame? else { break };
            self.entry.first_byte();
            size += bytes.len();
            fold.push(&bytes);
            // Kept at every step: a client that leaves has been billed for what came.
            self.entry.record.summary = fold.summary().clone();
            if size > FOLD_LIMIT {
                return Err(ReadError::TooLong(FOLD_LIMIT));
            }
        }
        Ok(())
    }
}

/// A web page, a text, nothing at all: whatever answered, it was not the Messages API.
/// Streams that are labelled as something else are known, so for those only a page counts.
fn is_no_message(reply: &Reply, form: Form) -> bool {
    let kind = kind_of(&reply.headers);
    let empty = matches!(reply.status.as_u16(), 204 | 205) || reply.body.size_hint().exact() == Some(0);
    let text = kind.starts_with("text/") && !kind.contains("event-stream");
    kind.starts_with("text/html") || (form != Form::Events && (empty || text))
}

fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn kind_of(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Chooses by what the answer says it is, and by what was asked for where it says nothing.
fn meter(form: Form, headers: &HeaderMap) -> Meter {
    let kind = kind_of(headers);
    match form {
        Form::Opaque => Meter::opaque(),
        _ if headers.contains_key(CONTENT_ENCODING) => Meter::opaque(),
        _ if kind.contains("event-stream") => Meter::for_events(),
        _ if kind.contains("json") => Meter::for_json(),
        Form::Events => Meter::for_events(),
        Form::Json | Form::Folded => Meter::for_json(),
    }
}

/// True for what another upstream may do better: it is overloaded, limited or out of reach.
fn passes_on(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504 | 529)
}

fn worth_another(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Unreachable | FaultKind::TimedOut | FaultKind::RateLimited | FaultKind::NotReady)
}

fn fault_of(error: UpstreamError) -> Fault {
    let mut fault = Fault::new(error.kind, error.message);
    fault.retry_after = error.retry_after;
    match error.source {
        Some(source) => fault.because(source),
        None => fault,
    }
}

fn no_upstream() -> Fault {
    Fault::new(FaultKind::NotReady, "there is no upstream yet; set ANTHROPIC_API_KEY, configure an [upstream.NAME], or try `seaway demo`")
}

/// The answer to requests that come when the gateway is leaving.
#[must_use]
pub fn draining() -> Fault {
    Fault::new(FaultKind::Draining, "the gateway is shutting down; try again in a moment").retry_after(Duration::from_secs(2))
}

fn translate_error(status: StatusCode, request_id: &str) -> String {
    let kind = match status.as_u16() {
        401 => FaultKind::Unauthenticated,
        403 => FaultKind::Forbidden,
        404 => FaultKind::NotFound,
        413 => FaultKind::TooLarge,
        429 => FaultKind::RateLimited,
        529 => FaultKind::Overloaded,
        504 => FaultKind::TimedOut,
        400..=499 => FaultKind::InvalidRequest,
        _ => FaultKind::BadReply,
    };
    let message = format!("the upstream answered with status {} and a body that is not JSON; is something between us and it?", status.as_u16());
    Fault::new(kind, message).body(Dialect::Messages, request_id)
}
