//! Signing in from a program (`/login` in Claude Code): OAuth 2.0's device flow (RFC 8414, 8628, 7009), and the page where a person says yes.
//!
//! What it gives is as good as the key that was shown for it, and as long. Beyond this machine it is for https alone.

mod page;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, HOST, RETRY_AFTER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admission::{CameBy, guessed, is_loopback, name_of};
use super::{Admitted, Gateway, reply};
use crate::access::looks;
use crate::account::{ACCESS, LASTS, LoginRow, SIGN_INS};
use crate::admin;
use crate::auth::Caller;
use crate::fault::{Fault, FaultKind};
use crate::signin::{Approval, DeviceCodes, GOOD_FOR, INTERVAL, NoCodes, SignInState};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::{AuditEntry, AuditEvent};

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A sign-in goes on for longer once it was used for so long; not each time, since each is written.
const EXTENDED_AFTER: Duration = Duration::from_secs(86_400);

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(discovery))
        .route("/oauth/device_authorization", post(device))
        .route("/oauth/token", post(token))
        .route("/oauth/revoke", post(revoke))
        .route("/device", get(to_page))
        .route("/dashboard/device", get(show).post(decide))
        .layer(DefaultBodyLimit::max(FORM))
}

/// The largest form, in bytes.
const FORM: usize = 16 << 10;

type Fields = HashMap<String, String>;

/// A form of which each field is there once (RFC 6749, section 3.2).
struct FormOnce(Fields);

impl FromRequest<Arc<AppState>> for FormOnce {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Response> {
        let unread = |why: FormRejection| {
            let status = match why.status() {
                StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            refused(status, "invalid_request", &format!("expected a form: {why}"))
        };
        let form: Result<Form<Vec<(String, String)>>, _> = Form::from_request(request, state).await;
        let Form(pairs) = form.map_err(unread)?;
        let mut fields = Fields::new();
        for (name, value) in pairs {
            if fields.contains_key(&name) {
                let why = format!("the form has the field `{name}` twice");
                return Err(refused(StatusCode::BAD_REQUEST, "invalid_request", &why));
            }
            fields.insert(name, value);
        }
        Ok(Self(fields))
    }
}

/// An error as OAuth has it.
fn refused(status: StatusCode, error: &str, description: &str) -> Response {
    let body = json!({"error": error, "error_description": description});
    unstored(reply::json(status, body.to_string()))
}

fn unstored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn given(value: &Value) -> Response {
    unstored(reply::json(StatusCode::OK, value.to_string()))
}

/// Under which address we are asked, if keys and tokens may go over it.
fn base(request: &Request) -> Result<String, Fault> {
    let headers = request.headers();
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or(own).unwrap_or_default();
    let came = request.extensions().get::<CameBy>();
    let forwarded = headers
        .get("x-forwarded-proto")
        // The first of several is what the one that asks spoke.
        .and_then(|proto| proto.as_bytes().split(|byte| *byte == b',').next())
        .is_some_and(|proto| proto.trim_ascii().eq_ignore_ascii_case(b"https"));
    let local = is_loopback(name_of(host));
    let near = came.is_none_or(|came| came.connection.address().is_none_or(|ip| ip.is_loopback()));
    match (came.is_some_and(|came| came.secure) || forwarded, local) {
        (true, _) => Ok(format!("https://{host}")),
        (false, true) => Ok(format!("http://{host}")),
        // Whatever asks from this machine by another name is a proxy, and has the TLS.
        (false, false) if near => Ok(format!("https://{host}")),
        (false, false) => Err(Fault::new(
            FaultKind::Forbidden,
            "signing in from another machine needs https: set `tls.cert` and `tls.key`, or put a proxy in front that says `x-forwarded-proto: https`",
        )),
    }
}

/// Where signing in makes no sense.
fn not_needed(snapshot: &Snapshot) -> Option<Fault> {
    snapshot.keyring.is_open().then(|| {
        Fault::new(
            FaultKind::NotFound,
            "this gateway asks for no key, so that nobody signs in: set ANTHROPIC_BASE_URL alone",
        )
    })
}

async fn discovery(Extension(snapshot): Extension<Arc<Snapshot>>, request: Request) -> Response {
    let told = match not_needed(&snapshot) {
        Some(fault) => Err(fault),
        None => base(&request),
    };
    match told {
        Ok(base) => given(&json!({
            "issuer": base,
            "device_authorization_endpoint": format!("{base}/oauth/device_authorization"),
            "token_endpoint": format!("{base}/oauth/token"),
            "revocation_endpoint": format!("{base}/oauth/revoke"),
            "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
        })),
        Err(fault) => reply::own_fault(&fault),
    }
}

async fn device(
    State(state): Gateway,
    Extension(snapshot): Extension<Arc<Snapshot>>,
    request: Request,
) -> Response {
    let address = request.extensions().get::<CameBy>().and_then(|came| came.connection.address());
    let base = match (not_needed(&snapshot), base(&request)) {
        (Some(fault), _) | (None, Err(fault)) => {
            return refused(StatusCode::FORBIDDEN, "access_denied", &fault.message);
        }
        (None, Ok(base)) => base,
    };
    let program = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    // What else its form says, such as `surface`, is nothing that we need.
    match state.sign_ins.begin(program.unwrap_or_default(), address, Instant::now()) {
        Ok(DeviceCodes { device_code, user_code }) => given(&json!({
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": format!("{base}/device"),
            "verification_uri_complete": format!("{base}/device?user_code={user_code}"),
            "expires_in": GOOD_FOR.as_secs(),
            "interval": INTERVAL,
            "login_notice": "Approve with a key of this Seaway: its owner gives them out (`seaway key create`).",
        })),
        Err(why @ NoCodes::TooMany) => {
            let mut response =
                refused(StatusCode::TOO_MANY_REQUESTS, "slow_down", &why.to_string());
            response.headers_mut().insert(RETRY_AFTER, GOOD_FOR.as_secs().into());
            response
        }
        Err(why @ NoCodes::NoRandomness) => {
            refused(StatusCode::INTERNAL_SERVER_ERROR, "server_error", &why.to_string())
        }
    }
}

/// A form that is none.
async fn token(
    State(state): Gateway,
    Extension(snapshot): Extension<Arc<Snapshot>>,
    came: Option<Extension<CameBy>>,
    FormOnce(fields): FormOnce,
) -> Response {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let address = came.and_then(|Extension(came)| came.connection.address());
    match field("grant_type") {
        DEVICE_GRANT => by_device(&state, &snapshot, field("device_code"), address).await,
        "refresh_token" => by_refresh(&state, &snapshot, field("refresh_token")).await,
        _ => {
            let known = format!("expected `{DEVICE_GRANT}` or `refresh_token`");
            refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", &known)
        }
    }
}

async fn by_device(
    state: &AppState,
    snapshot: &Snapshot,
    device_code: &str,
    address: Option<IpAddr>,
) -> Response {
    let wait = |error, why| refused(StatusCode::BAD_REQUEST, error, why);
    let (approval, program) = match state.sign_ins.state(device_code, Instant::now()) {
        SignInState::Pending => return wait("authorization_pending", "nobody has approved it yet"),
        SignInState::SlowDown => return wait("slow_down", "ask less often"),
        SignInState::Denied => return wait("access_denied", "it was denied"),
        SignInState::Expired => return wait("expired_token", "begin anew"),
        SignInState::By(approval, program) => (approval, program),
    };
    match sign_in(state, snapshot, device_code, (approval, program), address).await {
        Ok(Some(tokens)) => given(&tokens),
        Ok(None) => wait("access_denied", "the key that it was approved with lets in no more"),
        // Its code is good still.
        Err(fault) => {
            tracing::error!(why = %fault.message, "a program could not be signed in");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            refused(status, "temporarily_unavailable", &fault.message)
        }
    }
}

/// Keeps a sign-in and makes its tokens; none if its key lets in no more.
async fn sign_in(
    state: &AppState,
    snapshot: &Snapshot,
    device_code: &str,
    (approval, program): (Approval, String),
    address: Option<IpAddr>,
) -> Result<Option<Value>, Fault> {
    let accounts = state.ledger.accounts();
    admin::pepper(accounts, &snapshot.config)?;
    let Approval { caller: name, proof, by } = approval;
    // It may be another by now.
    if !snapshot.keyring.proves(&name, &proof) {
        state.sign_ins.end(device_code, Instant::now());
        return Ok(None);
    }
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Fault::new(FaultKind::Internal, "the system has no randomness"))?;
    let now = Timestamp::now();
    let row = LoginRow {
        id: i64::from_le_bytes(random),
        name: name.clone(),
        proof,
        program,
        created: now,
        until: now + LASTS,
    };
    let detail = format!("{}, approved {by}", row.program);
    let noted = AuditEntry::once(AuditEvent::ClientSignIn, &*name, detail).from(address);
    let (id, kept, of) = (row.id, accounts.clone(), row.clone());
    let written =
        state.ledger.store().keep_login(row, noted, move || kept.put_login(of, now)).await;
    written?;
    // Whoever asks twice at once gets one.
    if !state.sign_ins.end(device_code, Instant::now()) {
        let (dropped, noted) =
            (accounts.clone(), AuditEntry::once(AuditEvent::ClientSignOut, &*name, "asked twice"));
        state.ledger.store().end_login(id, noted, move || dropped.drop_login(id)).await?;
        return Ok(None);
    }
    while let Some(oldest) = accounts.login_beyond(&name, now) {
        let detail = format!("{}: the key has more sign-ins than {SIGN_INS}", oldest.program);
        let noted = AuditEntry::once(AuditEvent::ClientSignOut, &*name, detail);
        let (id, dropped) = (oldest.id, accounts.clone());
        let ended = state.ledger.store().end_login(id, noted, move || dropped.drop_login(id));
        if let Err(error) = ended.await {
            // The one that was asked for is kept all the same.
            tracing::warn!(%error, "a sign-in that is one too many could not be ended");
            break;
        }
    }
    Ok(tokens(state, id, &name, now))
}

fn tokens(state: &AppState, id: i64, name: &Arc<str>, now: Timestamp) -> Option<Value> {
    let made = state.ledger.accounts().tokens(id, now)?;
    Some(json!({
        "access_token": made.access,
        "refresh_token": made.refresh,
        "token_type": "Bearer",
        "expires_in": ACCESS.as_secs(),
        // Shown to whoever signs in: as whom.
        "email": &**name,
    }))
}

async fn by_refresh(state: &AppState, snapshot: &Snapshot, token: &str) -> Response {
    let (accounts, now) = (state.ledger.accounts(), Timestamp::now());
    let over = || {
        let why = "this sign-in is over, or its key lets in no more; sign in again";
        refused(StatusCode::UNAUTHORIZED, "invalid_grant", why)
    };
    if accounts.is_awaited() {
        let why = "the gateway's store is not open; ask again";
        return refused(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why);
    }
    let login = accounts.refreshed(token, now).filter(|login| snapshot.keyring.bears(login));
    let Some(login) = login else { return over() };
    let until = now + LASTS;
    if login.until + EXTENDED_AFTER < until {
        let (row, kept) = (LoginRow { until, ..login.clone() }, accounts.clone());
        let of = row.clone();
        match state.ledger.store().extend_login(&row, move || kept.put_login(of, now)).await {
            Ok(true) => {}
            Ok(false) => return over(),
            // It is good still; that it goes on for longer is written with the next one.
            Err(error) => tracing::warn!(%error, "a sign-in could not be extended"),
        }
    }
    tokens(state, login.id, &login.name, now).map_or_else(over, |tokens| given(&tokens))
}

/// Ends the sign-in of either token. One that is none has nothing to end (RFC 7009, section 2.2).
async fn revoke(
    State(state): Gateway,
    came: Option<Extension<CameBy>>,
    FormOnce(fields): FormOnce,
) -> Response {
    let accounts = state.ledger.accounts().clone();
    let login = fields.get("token").and_then(|token| accounts.login_of(token.as_bytes()));
    let Some(id) = login else { return given(&json!({})) };
    let address = came.and_then(|Extension(came)| came.connection.address());
    let who = accounts.login_name(id).unwrap_or_default();
    let noted = AuditEntry::once(AuditEvent::ClientSignOut, &*who, "by its token").from(address);
    match state.ledger.store().end_login(id, noted, move || accounts.drop_login(id)).await {
        Ok(()) => given(&json!({})),
        Err(error) => {
            let fault = Fault::from(error);
            refused(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", &fault.message)
        }
    }
}

/// The page lies where the dashboard's cookie goes.
async fn to_page(request: Request) -> Response {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    Redirect::to(&format!("/dashboard/device{query}")).into_response()
}

/// As whom somebody may approve: every key for the owner, else oneself.
fn names(state: &AppState, snapshot: &Snapshot, caller: Option<&Caller>) -> Vec<Arc<str>> {
    let Some(caller) = caller.filter(|caller| !caller.is_stranger()) else { return Vec::new() };
    let mut names = vec![caller.0.clone()];
    if snapshot.keyring.is_owner(caller) {
        let configured = snapshot.keyring.iter().map(|(name, _)| name.clone());
        let given = state.ledger.accounts().keys().into_iter().map(|key| key.scope.name.clone());
        names.extend(configured.chain(given));
        names.retain(|name| snapshot.keyring.is_good(name));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
    }
    names
}

async fn show(
    State(state): Gateway,
    Extension(snapshot): Extension<Arc<Snapshot>>,
    Query(query): Query<Fields>,
    request: Request,
) -> Response {
    if let Some(fault) = not_needed(&snapshot).or_else(|| base(&request).err()) {
        return page::told(StatusCode::FORBIDDEN, "Signing in", &fault.message);
    }
    let code = query.get("user_code").map(String::as_str).unwrap_or_default();
    let caller = looks(&snapshot, request.headers());
    let names = names(&state, &snapshot, caller.as_ref());
    let waiting = state.sign_ins.waiting(code, Instant::now());
    // Here too guessing is slow, and counted.
    if !code.is_empty() && waiting.is_none() && caller.is_none() {
        let came = request.extensions().get::<CameBy>();
        let address = came.and_then(|came| came.connection.address());
        guessed(&state, address).await;
    }
    page::form(StatusCode::OK, code, waiting.as_ref(), &names, "")
}

/// Whose key the program gets: that of a key that is shown, else of a name that may be chosen.
fn approved(
    snapshot: &Snapshot,
    names: &[Arc<str>],
    (key, chosen): (&str, &str),
    (who, address): (&str, Option<IpAddr>),
) -> Result<Approval, &'static str> {
    let from = address.map(|address| format!(" at {address}")).unwrap_or_default();
    if key.is_empty() {
        let name = names.iter().find(|name| &***name == chosen);
        let known = name.and_then(|name| Some((name.clone(), snapshot.keyring.proof(name)?)));
        let (caller, proof) = known.ok_or("Enter the key that the program is to use.")?;
        return Ok(Approval { caller, proof, by: format!("by `{who}` in the dashboard{from}") });
    }
    let known = snapshot.keyring.shown_proof(key);
    let (caller, proof) = known.ok_or("This is no key of this gateway, or it lets in no more.")?;
    Ok(Approval { caller, proof, by: format!("with the key{from}") })
}

async fn decide(
    State(state): Gateway,
    (Extension(snapshot), Extension(caller)): Admitted,
    came: Option<Extension<CameBy>>,
    headers: HeaderMap,
    FormOnce(fields): FormOnce,
) -> Response {
    let field = |name: &str| fields.get(name).map(|text| text.trim()).unwrap_or_default();
    let address = came.and_then(|Extension(came)| came.connection.address());
    let code = field("user_code");
    let (now, caller) = (Instant::now(), Some(caller));
    let guessed = || guessed(&state, address);
    let known = looks(&snapshot, &headers).and(caller);
    let names = names(&state, &snapshot, known.as_ref());
    let Some(waiting) = state.sign_ins.waiting(code, now) else {
        guessed().await;
        let why = "Nothing waits under this code: it was answered, or is older than ten minutes. Begin anew in the program.";
        return page::form(StatusCode::NOT_FOUND, code, None, &names, why);
    };
    if field("answer") != "approve" {
        state.sign_ins.answer(code, None, now);
        return page::told(
            StatusCode::OK,
            "Denied",
            "The program was told. You can close this page.",
        );
    }
    if let Err(fault) = admin::pepper(state.ledger.accounts(), &snapshot.config) {
        return page::told(StatusCode::SERVICE_UNAVAILABLE, "Not now", &fault.message);
    }
    let again = |status, why| page::form(status, code, Some(&waiting), &names, why);
    let key = field("key");
    let by = known.map_or_else(|| "nobody".into(), |Caller(who)| who);
    let approved = approved(&snapshot, &names, (key, field("as")), (&by, address));
    match approved {
        Ok(approval) => {
            let done = format!(
                "The program is signed in as `{}`. Go back to it; you can close this page.",
                approval.caller
            );
            state.sign_ins.answer(code, Some(approval), now);
            page::told(StatusCode::OK, "Approved", &done)
        }
        Err(why) if key.is_empty() => again(StatusCode::BAD_REQUEST, why),
        Err(why) => {
            guessed().await;
            again(StatusCode::UNAUTHORIZED, why)
        }
    }
}
