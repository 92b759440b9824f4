//! Whether we are there, whether we are well, and how much we did.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::{Admitted, Gateway, reply};
use crate::auth::Caller;
use crate::state::AppState;
use crate::store::StoreTrouble;
use crate::tunnel::TunnelStatus;
use crate::upstream::Trouble;

/// What `/health` and `seaway status` say. No secrets.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    /// `ok`, `degraded` (it serves, and something that it promises cannot be kept), `not ready` or `draining`.
    pub status: &'static str,
    /// What is wrong with the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<&'static str>,
    pub version: &'static str,
    /// In seconds.
    pub uptime: u64,
    /// Some upstream has a usable credential.
    pub authenticated: bool,
    /// Requests that are being answered.
    #[serde(rename = "inFlight")]
    pub in_flight: u64,
    /// Requests that wait for a place at an upstream.
    pub queue: usize,
    /// Conversations that a process of the Claude Code program waits for.
    #[serde(rename = "activeSessions")]
    pub active_sessions: usize,
    /// Figures of the warm sessions.
    pub sessions: Sessions,
    pub upstreams: Vec<UpstreamHealth>,
}

/// The conversations that are kept warm.
#[derive(Debug, Default, Serialize)]
pub struct Sessions {
    /// Under a name of their client's.
    pub named: usize,
    /// Sessions that are known by their history.
    pub unnamed: usize,
    /// Tool calls that wait for their results.
    #[serde(rename = "openCalls")]
    pub open_calls: usize,
}

/// One upstream's part of it.
#[derive(Debug, Serialize)]
pub struct UpstreamHealth {
    pub name: String,
    pub ready: bool,
    pub simulated: bool,
    /// What is missing, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub queue: usize,
    /// The last thing that went wrong, until something goes right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The way there by ssh, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelStatus>,
}

/// Looks at every upstream, without sending a request. What names people and machines is for the owner alone.
pub async fn look(state: &AppState, owner: bool) -> HealthReport {
    let runtime = state.snapshot.load_full();
    let mut upstreams = Vec::new();
    let mut authenticated = false;
    for upstream in &runtime.upstreams {
        let usable = upstream.usable().await;
        authenticated |= usable.is_ok();
        let ready = match usable {
            Ok(()) => upstream.ready(runtime.config.ready_grace).await,
            Err(why) => Err(why),
        };
        let hidden = upstream.tunnel().is_some() && !owner;
        let told = |why: String| {
            if hidden { "its tunnel is not up; `seaway status` tells why".to_owned() } else { why }
        };
        upstreams.push(UpstreamHealth {
            name: upstream.name.to_string(),
            ready: ready.is_ok(),
            simulated: upstream.is_simulated(),
            why: ready.err().map(told),
            queue: upstream.gate.waiting(),
            trouble: upstream.health.trouble().filter(|_| !hidden),
            tunnel: upstream
                .tunnel()
                .map(|tunnel| if owner { tunnel.told() } else { tunnel.told().discreet() }),
        });
    }
    let ready = upstreams.iter().any(|upstream| upstream.ready);
    let store = state.ledger.store().trouble();
    let status = match (state.drain.has_begun(), ready) {
        (true, _) => "draining",
        (false, true) if store.is_some() => "degraded",
        (false, true) => "ok",
        (false, false) => "not ready",
    };
    let mut sessions = Sessions::default();
    for warm in runtime
        .upstreams
        .iter()
        .filter_map(|upstream| upstream.program())
        .flat_map(crate::upstream::claude_code::Program::warm)
    {
        let kind =
            if warm.whose.session.is_some() { &mut sessions.named } else { &mut sessions.unnamed };
        *kind += 1;
        sessions.open_calls += warm.holds;
    }
    HealthReport {
        status,
        store: store.map(StoreTrouble::words),
        version: env!("CARGO_PKG_VERSION"),
        uptime: state.started.elapsed().as_secs(),
        authenticated,
        in_flight: state.ledger.running(),
        queue: upstreams.iter().map(|upstream| upstream.queue).sum(),
        active_sessions: sessions.named + sessions.unnamed,
        sessions,
        upstreams,
    }
}

pub(super) async fn health(State(state): Gateway, (_, Extension(caller)): Admitted) -> Response {
    show(StatusCode::OK, &look(&state, false).await, &caller)
}

/// Ready means: a request could be served now.
pub(super) async fn ready(State(state): Gateway, (_, Extension(caller)): Admitted) -> Response {
    let health = look(&state, false).await;
    let status = if matches!(health.status, "ok" | "degraded") {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    show(status, &health, &caller)
}

pub(super) async fn live() -> Response {
    reply::json(StatusCode::OK, "{\"status\":\"ok\"}")
}

pub(super) async fn hello() -> Response {
    reply::json(StatusCode::OK, "{}")
}

pub(super) fn root() -> Response {
    reply::json(
        StatusCode::OK,
        format!("{{\"name\":\"seaway\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION")),
    )
}

pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    (
        [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        state.ledger.metrics(),
    )
        .into_response()
}

/// Who shows no key is told in one word.
fn show(status: StatusCode, health: &HealthReport, caller: &Caller) -> Response {
    let text = if caller.is_stranger() {
        format!("{{\"status\":\"{}\"}}", health.status)
    } else {
        serde_json::to_string(health).unwrap_or_default()
    };
    reply::json(status, text)
}
