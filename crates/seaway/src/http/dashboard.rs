//! The dashboard: one page, and what it asks.
//!
//! It signs in with a local key once, and has a cookie from then on, which opens nothing but what the page uses.

mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Admitted;
use super::admission::{CameBy, guessed};
use super::{admin, login, reply, status};
use crate::access::{cookie, is_named, looks, may_look, not_named, wants_page};
use crate::auth::Caller;
use crate::connect::OTHERS;
use crate::connect::clients::{CLIENTS, ClientSetup};
use crate::fault::{Fault, FaultKind};
use crate::record::dollars;
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::{AuditEntry, AuditEvent, Filter};
use crate::upstream::claude_code::ConversationKey;

const PAGE: &str = include_str!("dashboard/page.html");
const STYLE: &str = include_str!("dashboard/page.css");
const SCRIPT: &str = include_str!("dashboard/page.js");
const PLOT: &str = include_str!("dashboard/plot.js");
const ICON: &str = include_str!("dashboard/icon.svg");

/// Nothing from anywhere else, nothing in line, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// In milliseconds.
const DAY: i64 = 86_400_000;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        // Here too, since that is where the cookie goes.
        .merge(login::routes("/dashboard/auth"))
        .merge(admin::page_routes())
        .route("/dashboard/page.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/dashboard/page.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/dashboard/plot.js", get(async || asset("text/javascript; charset=utf-8", PLOT)))
        .route("/dashboard/icon.svg", get(async || asset("image/svg+xml", ICON)))
        .route("/dashboard/door", get(door))
        .route("/dashboard/sign-in", post(sign_in))
        .route("/dashboard/sign-out", post(sign_out))
        .route("/dashboard/live", get(snapshot::stream))
        .route("/dashboard/usage", get(usage))
        .route("/dashboard/connect", get(connect))
        .route("/dashboard/sessions/close", post(close))
}

/// Whose doings somebody sees: everybody's who is named for it, or has the only key; else one's own.
#[derive(Debug, Clone)]
enum Sight {
    All,
    Own(Arc<str>),
}

impl Sight {
    fn of(snapshot: &Snapshot, caller: &Caller) -> Self {
        let keyring = &snapshot.keyring;
        let alone = keyring.is_open() || !keyring.is_shared() || keyring.is_owner(caller);
        if alone || is_named(snapshot, caller) { Self::All } else { Self::Own(caller.0.clone()) }
    }

    fn sees(&self, caller: &str) -> bool {
        match self {
            Self::All => true,
            Self::Own(own) => **own == *caller,
        }
    }
}

pub(super) async fn root(headers: HeaderMap) -> Response {
    if wants_page(&headers) { asset("text/html; charset=utf-8", PAGE) } else { status::root() }
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let fixed = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of ours may be next.
        (CACHE_CONTROL, "no-cache"),
    ];
    (fixed, text).into_response()
}

fn json_response(value: &serde_json::Value) -> Response {
    let mut response = reply::json(StatusCode::OK, value.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether this browser is signed in; for a page that does not know yet.
async fn door(Extension(snapshot): Extension<Arc<Snapshot>>, headers: HeaderMap) -> Response {
    json_response(&json!({"open": looks(&snapshot, &headers).is_some()}))
}

/// A link's fragment that signs a browser in once, made for the owner: `#in=…`. Empty where no key is needed, or where
/// nobody may look.
pub fn fragment(state: &AppState) -> String {
    let snapshot = state.snapshot.load();
    let caller = snapshot
        .keyring
        .iter()
        .map(|(name, _)| Caller(name.clone()))
        .find(|caller| may_look(&snapshot, caller));
    let ticket = caller.and_then(|caller| state.tickets.make(caller, Instant::now()));
    ticket.map_or_else(String::new, |ticket| format!("#in={ticket}"))
}

/// What a browser signs in with.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Proof {
    Key(String),
    Ticket(String),
}

async fn sign_in(
    State(state): State<Arc<AppState>>,
    Extension(snapshot): Extension<Arc<Snapshot>>,
    came: Option<Extension<CameBy>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(proof) = serde_json::from_slice(&body) else {
        return reply::own_fault(
            &Fault::new(
                FaultKind::InvalidRequest,
                "expected {\"key\": \"…\"} with the local key, or {\"ticket\": \"…\"} of a link",
            )
            .param("key"),
        );
    };
    let address = came.and_then(|Extension(came)| came.connection.address());
    let (known, how, wrong) = match proof {
        Proof::Key(key) => (
            snapshot.keyring.whose(key.trim()),
            "to the dashboard, with a key",
            "this is not the local key; `seaway key show` prints it",
        ),
        Proof::Ticket(ticket) => {
            let caller = state
                .tickets
                .redeem(&ticket, Instant::now())
                .filter(|caller| snapshot.keyring.secret_of(&caller.0).is_some());
            (
                caller,
                "to the dashboard, by a link",
                "this link was used, or is too old; `seaway status` prints a new one, and `seaway key show` the local key",
            )
        }
    };
    let Some(caller) = known else {
        guessed(&state, address).await;
        return reply::own_fault(&Fault::new(FaultKind::Unauthenticated, wrong));
    };
    if !may_look(&snapshot, &caller) {
        return reply::own_fault(&not_named(&caller));
    }
    if snapshot.keyring.secret_of(&caller.0).is_none() {
        let message = "keys that were given out open no dashboard; its owner sees what they use";
        return reply::own_fault(&Fault::new(FaultKind::Forbidden, message));
    }
    let entry = AuditEntry::once(AuditEvent::SignIn, &*caller.0, how);
    state.ledger.store().audit(entry.from(address));
    let secure = headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    let mut response = json_response(&json!({"caller": &*caller.0}));
    if let Some(value) = snapshot.keyring.secret_of(&caller.0).and_then(|secret| {
        cookie::made(&headers, &caller, secret, jiff::Timestamp::now().as_second(), secure)
    }) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

async fn sign_out(headers: HeaderMap) -> Response {
    let mut response = json_response(&json!({}));
    response.headers_mut().extend(cookie::gone(&headers).map(|value| (SET_COOKIE, value)));
    response
}

#[derive(Deserialize)]
struct Span {
    #[serde(default = "month")]
    days: i64,
}

fn month() -> i64 {
    30
}

async fn usage(
    State(state): State<Arc<AppState>>,
    (Extension(snapshot), Extension(caller)): Admitted,
    span: Result<Query<Span>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(Span { days })) = span else {
        return reply::own_fault(
            &Fault::new(FaultKind::InvalidRequest, "days: expected a whole number").param("days"),
        );
    };
    // Whole days, in UTC: the first one too.
    let today = jiff::Timestamp::now().as_millisecond() / DAY;
    let since = (today + 1 - days.clamp(1, 3660)) * DAY;
    let rows = match state.ledger.store().usage(Filter { since }).await {
        Ok(rows) => rows,
        Err(error) => return reply::own_fault(&error.into()),
    };
    let sight = Sight::of(&snapshot, &caller);
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| sight.sees(&row.caller))
        .map(|row| json!({"row": row, "cost": row.known_cost().map(dollars)}))
        .collect();
    json_response(&json!({"days": days, "rows": rows}))
}

/// What to paste where. The page knows best by which address it was reached, and the key is not for a cookie to buy:
/// browsers send it to whoever listens on another port of this machine.
async fn connect(Extension(snapshot): Extension<Arc<Snapshot>>) -> Response {
    let by_hand = |client: &&ClientSetup| OTHERS.iter().any(|other| other.name == client.name);
    let clients: Vec<_> = CLIENTS.iter().filter(|client| !by_hand(client)).map(|client| json!({"name": client.name, "text": format!("# {}\nseaway connect {}", client.about, client.name)})).collect();
    let others: Vec<_> = OTHERS
        .iter()
        .map(|other| {
            let connects = ClientSetup::named(other.name).map_or_else(String::new, |client| {
                format!("# in its folder\nseaway connect {}\n# or by hand\n", client.name)
            });
            json!({"name": other.name, "text": format!("{connects}{}", other.text)})
        })
        .collect();
    json_response(
        &json!({"keyless": snapshot.keyring.is_open(), "model": snapshot.config.default_model.as_deref().unwrap_or("sonnet"), "clients": clients, "others": others}),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    owner: String,
    id: String,
}

async fn close(
    State(state): State<Arc<AppState>>,
    (Extension(snapshot), Extension(caller)): Admitted,
    body: Bytes,
) -> Response {
    let Ok(Closing { owner, id }) = serde_json::from_slice(&body) else {
        return reply::own_fault(&Fault::new(
            FaultKind::InvalidRequest,
            "expected {\"owner\": \"…\", \"id\": \"…\"}",
        ));
    };
    if !Sight::of(&snapshot, &caller).sees(&owner) {
        return reply::own_fault(&Fault::new(
            FaultKind::Forbidden,
            format!(
                "the sessions of `{owner}` are not yours; `dashboard.callers` names who may close them"
            ),
        ));
    }
    let whose = ConversationKey { owner: owner.as_str().into(), session: Some(id.as_str().into()) };
    let warm = snapshot
        .upstreams
        .iter()
        .filter_map(|upstream| upstream.program())
        .filter(|program| program.forget(&whose, &id))
        .count();
    let kept = match state.ledger.store().forget_session(&owner, &id).await {
        Ok(kept) => kept,
        Err(error) => return reply::own_fault(&error.into()),
    };
    super::sessions::erase(&snapshot, &kept);
    if warm == 0 && kept.is_empty() {
        return reply::own_fault(&Fault::new(
            FaultKind::NotFound,
            format!("there is no session `{id}`; it may have ended by itself"),
        ));
    }
    json_response(&json!({"closed": id}))
}

/// A stream of events to the page.
fn events(
    stream: impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response {
    let fixed = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (fixed, Body::from_stream(stream)).into_response()
}
