//! The door: every request passes here before any handler sees it.

use std::any::Any;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, ORIGIN, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use seaway_wire::Dialect;

use super::connection::{Connection, SlowBody};
use super::{address, decode, reply};
use crate::auth::{CARRIERS, Caller, mark_sensitive};
use crate::config::{Config, Listen, OWNER};
use crate::fault::{Fault, FaultKind};
use crate::memory::{Held, Memory};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::{access, answer, drain};

/// How much of a refused body is read, so that the connection can be used again.
pub(super) const DRAIN_LIMIT: usize = 4 << 20;
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(5);

/// By which of our doors a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// An address of the configuration.
    Public,
    /// Our own socket in the state folder, which only its owner can open.
    Own,
}

/// How a request came in.
#[derive(Debug, Clone)]
pub struct CameBy {
    pub door: Door,
    /// With TLS.
    pub secure: bool,
    pub connection: Arc<Connection>,
}

/// A request that was let in, the configuration that it sees, and who sent it.
pub(super) struct Admission {
    pub(super) request: Request,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) caller: Caller,
}

/// Checks host, origin and key, and says who calls.
pub async fn enter(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let came = request.extensions().get::<CameBy>().cloned();
    match admitted(&state, request, came.as_ref()).await {
        Ok(Admission { mut request, snapshot, caller }) => {
            let dialect = dialect_of(&request);
            request.extensions_mut().insert(snapshot);
            request.extensions_mut().insert(caller);
            guarded(dialect, next.run(request)).await
        }
        Err(refused) => refused,
    }
}

/// Answers for somebody who may panic, and makes sure that the answer has an id.
pub(super) async fn guarded(
    dialect: Dialect,
    answering: impl Future<Output = Response>,
) -> Response {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    let mut answered = answered.unwrap_or_else(|panic| panicked(&*panic, dialect));
    answer::identify_if_nameless(answered.headers_mut());
    answered
}

/// Lets a request in, or says what it is to be told in place of an answer.
pub(super) async fn admitted(
    state: &AppState,
    mut request: Request,
    came: Option<&CameBy>,
) -> Result<Admission, Response> {
    mark_sensitive(request.headers_mut());
    let door = came.map_or(Door::Public, |came| came.door);
    let address = came.and_then(|came| came.connection.address());
    let snapshot = state.snapshot.load_full();
    if door == Door::Public && !is_open(&request) {
        wait_for_keys(&snapshot, request.headers()).await;
    }
    let admitted = admit(state, &snapshot, &request, door);
    // What is told of health depends on the key, so that a wrong one is a guess there too.
    let guessed = admitted.as_ref().is_ok_and(Caller::is_stranger)
        && request.uri().path().starts_with("/health")
        && CARRIERS.iter().any(|name| request.headers().contains_key(name));
    if let Some(address) = address.filter(|_| guessed) {
        tokio::time::sleep(state.refuse_key(address)).await;
    }
    if let Some(came) = came.filter(|_| admitted.as_ref().is_ok_and(|who| !who.is_stranger())) {
        came.connection.knows();
    }
    match admitted {
        // Whether anybody is there is all that is asked; readiness has a path of its own.
        Ok(_)
            if request.method() == Method::HEAD && !request.uri().path().starts_with("/health") =>
        {
            Err(reply::empty())
        }
        Ok(_) if wants_a_socket(request.headers()) => Err(no_socket(request).await),
        // One request sees one configuration, even if another comes while its body does.
        Ok(caller) => Ok(Admission { request, snapshot, caller }),
        Err(fault) => Err(refused(state, fault, request, address).await),
    }
}

/// Refuses a request that is not let in, and keeps that it was.
async fn refused(
    state: &AppState,
    fault: Fault,
    request: Request,
    address: Option<IpAddr>,
) -> Response {
    let dialect = dialect_of(&request);
    let refused = matches!(fault.kind, FaultKind::Unauthenticated | FaultKind::Forbidden);
    let told = refused.then(|| Fault::new(fault.kind, fault.message.clone()));
    if let Some(address) = address.filter(|_| fault.kind == FaultKind::Unauthenticated) {
        tokio::time::sleep(state.refuse_key(address)).await;
    }
    let response = refuse(fault, request).await;
    if let Some(fault) = told {
        let id = response
            .headers()
            .get("request-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or_default();
        state.ledger.refused(&fault, dialect, response.status(), id);
    }
    response
}

/// The language in which a client is told what goes wrong: that of the path, else the client's own.
fn dialect_of(request: &Request) -> Dialect {
    let headers = request.headers();
    let speaks_messages = headers.keys().any(|name| name.as_str().starts_with("anthropic-"))
        || headers.contains_key("x-api-key");
    let openai = || address::without_counterpart(request.uri().path()).is_some();
    let own = || {
        if openai() || !speaks_messages && headers.contains_key(AUTHORIZATION) {
            Dialect::Chat
        } else {
            Dialect::Messages
        }
    };
    address::dialect_of(request.uri().path()).unwrap_or_else(own)
}

/// True for a client that wants to leave HTTP.
fn wants_a_socket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Clients that can do without go on over HTTP at once after this status; after others they try again.
async fn no_socket(request: Request) -> Response {
    let message = "there are no WebSockets here; send the request over HTTP, with `stream: true`";
    let mut response = refuse(Fault::new(FaultKind::InvalidRequest, message), request).await;
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    response
}

pub(super) fn panicked(panic: &(dyn Any + Send), dialect: Dialect) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(what = what.unwrap_or_default(), "a handler panicked; please report this");
    let fault = Fault::new(
        FaultKind::Internal,
        "something went wrong inside the gateway; its log says more",
    );
    reply::fault(&fault, dialect, &answer::own_id())
}

/// Answers a request that is refused. Its body is read within limits; else the connection closes.
pub async fn refuse(fault: Fault, request: Request) -> Response {
    let dialect = dialect_of(&request);
    let mut response = reply::fault(&fault, dialect, &answer::own_id());
    // Who waits for a go-ahead has sent no body, and should not be told to.
    let waits = request.headers().contains_key(EXPECT);
    if waits || !drained(request.into_body()).await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn drained(mut body: Body) -> bool {
    let mut left = DRAIN_LIMIT;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                return false;
            }
            left -= length;
        }
        true
    };
    tokio::time::timeout(DRAIN_TIME, read).await.unwrap_or(false)
}

fn admit(
    state: &AppState,
    snapshot: &Snapshot,
    request: &Request,
    door: Door,
) -> Result<Caller, Fault> {
    if door == Door::Own {
        return Ok(Caller(OWNER.into()));
    }
    check_host(&snapshot.config, request)?;
    check_origin(&snapshot.config, request.headers())?;
    if state.drain.has_begun() && request.method() == Method::POST {
        return Err(drain::fault());
    }
    if let Some(caller) = access::signed_in(snapshot, request) {
        return Ok(caller);
    }
    if is_open(request) {
        return Ok(snapshot.keyring.caller(request.headers()).unwrap_or_else(Caller::stranger));
    }
    let wrong = || {
        let past = snapshot.keyring.past(request.headers());
        let why = past.map_or_else(
            || "the local key is missing or wrong; `seaway key show` prints it. Send it as `x-api-key` or `Authorization: Bearer`".into(),
            std::borrow::Cow::Owned,
        );
        Fault::new(FaultKind::Unauthenticated, why)
    };
    let caller = snapshot.keyring.caller(request.headers());
    if snapshot.keyring.is_awaited(|| caller.clone()) {
        let message = "the gateway's store, which knows the keys that were given out, cannot be read at the moment; ask again, and see the gateway's log";
        return Err(Fault::new(FaultKind::StoreDown, message));
    }
    let caller = caller.ok_or_else(wrong)?;
    access::admit(snapshot, request, &caller)?;
    Ok(caller)
}

/// How long a request waits for a store that has not told of keys yet.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);

/// At the start, and while the store is out of use: who may have limits waits until they are known.
async fn wait_for_keys(snapshot: &Snapshot, headers: &HeaderMap) {
    let keyring = &snapshot.keyring;
    if keyring.is_awaited(|| keyring.caller(headers)) {
        let _told = tokio::time::timeout(KEYS_PATIENCE, keyring.told()).await;
    }
}

/// What anyone may ask: whether we are there, and whether we are well.
fn is_open(request: &Request) -> bool {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if *request.method() == Method::HEAD {
        return true;
    }
    let health = reads
        && (matches!(path, "/health" | "/openapi.json")
            || path.starts_with("/health/")
            || path == "/api/hello");
    health || access::is_open(request)
}

/// A page that a browser was tricked into (DNS rebinding) names its own host, not ours.
fn check_host(config: &Config, request: &Request) -> Result<(), Fault> {
    let header = request
        .headers()
        .get_all(HOST)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let named: Vec<String> =
        request.uri().host().map(str::to_owned).into_iter().chain(header).collect();
    // RFC 9112, section 3.2: exactly one, whatever its value.
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (named.is_empty() && request.version() >= Version::HTTP_11) {
        let message = "a request names one host: send one `Host` header, such as `Host: localhost`";
        return Err(Fault::new(FaultKind::InvalidRequest, message));
    }
    match named.into_iter().find(|host| !is_ours(config, name_of(host))) {
        None => Ok(()),
        Some(host) => Err(Fault::new(
            FaultKind::Forbidden,
            format!("`{host}` is not a name of this gateway; add it to `hosts` if it should be"),
        )),
    }
}

fn is_ours(config: &Config, name: &str) -> bool {
    let local = is_loopback(name);
    // Where others can reach us the key protects, and names are not ours to know.
    let wide = config.hosts.is_empty() && !config.listen.iter().all(Listen::is_local);
    local || wide || config.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// True for a name of this machine that leads nowhere else.
pub(super) fn is_loopback(name: &str) -> bool {
    let ip = name.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    name.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback())
}

/// How long a wrong key or code takes where a person types it.
const WRONG: Duration = Duration::from_millis(500);

/// Waits after a wrong key or code: guessing is slow, and counted.
pub(super) async fn guessed(state: &AppState, address: Option<IpAddr>) {
    let wait = address.map(|from| state.refuse_key(from)).unwrap_or_default();
    tokio::time::sleep(wait.max(WRONG)).await;
}

/// A host without its port.
pub(super) fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn check_origin(config: &Config, headers: &HeaderMap) -> Result<(), Fault> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for origin in headers.get_all(ORIGIN) {
        let text = String::from_utf8_lossy(origin.as_bytes());
        if !access::is_origin_of(host, &text) && !config.cors_origins.contains(origin) {
            let message = format!(
                "pages of `{text}` may not call this gateway; add it to `cors_origins` if they should"
            );
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
    }
    Ok(())
}

/// A request's body, with the memory that it takes.
#[derive(Debug, Default)]
pub struct HeldBody {
    pub bytes: Bytes,
    pub held: Held,
}

/// Reads a request's body into one piece, without a copy where it came in one, and as it was before it was compressed.
/// Dropped meanwhile, what was read is lost and its memory given back.
///
/// # Errors
///
/// [`FaultKind::TooLarge`] past `limit`, [`FaultKind::InvalidRequest`] if it breaks off or cannot be decoded,
/// [`FaultKind::NoMemory`] if there is no memory for it.
pub async fn whole_body(
    memory: &Memory,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<HeldBody, Fault> {
    let mut whole = HeldBody::default();
    whole.bytes = as_sent(memory, &mut whole.held, headers, body, limit).await?;
    decoded(memory, headers, whole, limit).await
}

/// A body as it was before it was compressed.
pub(super) async fn decoded(
    memory: &Memory,
    headers: &HeaderMap,
    mut whole: HeldBody,
    limit: usize,
) -> Result<HeldBody, Fault> {
    if headers.contains_key(CONTENT_ENCODING) {
        whole.bytes = decode::plain(memory, &mut whole.held, headers, whole.bytes, limit).await?;
    }
    Ok(whole)
}

async fn as_sent(
    memory: &Memory,
    held: &mut Held,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<Bytes, Fault> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0_usize);
    if declared > limit {
        // Who waits for a go-ahead has sent nothing, and should not be told to.
        if !headers.contains_key(EXPECT) {
            let _rest = drained(body).await;
        }
        return Err(too_large(limit));
    }
    memory.hold(held, declared).await?;
    let Some(first) = frame(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(declared.max(first.len() * 2));
    whole.extend_from_slice(&first);
    drop(first);
    while whole.len() <= limit {
        match frame(&mut body).await? {
            Some(bytes) => {
                memory.hold(held, whole.len() + bytes.len()).await?;
                whole.extend_from_slice(&bytes);
            }
            None => return Ok(whole.freeze()),
        }
    }
    let _rest = drained(body).await;
    Err(too_large(limit))
}

fn broken(error: axum::Error) -> Fault {
    let error = error.into_inner();
    match error.downcast_ref::<SlowBody>() {
        Some(slow) => self::slow(slow),
        None => broken_off().because(error),
    }
}

pub(super) fn broken_off() -> Fault {
    Fault::new(FaultKind::InvalidRequest, "the request's body broke off")
}

pub(super) fn slow(slow: &SlowBody) -> Fault {
    Fault::new(FaultKind::SlowClient, slow.to_string())
}

pub(super) fn too_large(limit: usize) -> Fault {
    let message =
        format!("the body is larger than {limit} bytes; raise `body_limit` if that is meant");
    Fault::new(FaultKind::TooLarge, message)
}

async fn frame(body: &mut Body) -> Result<Option<Bytes>, Fault> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Some(Err(error)) => return Err(broken(error)),
        }
    }
}
