//! The conversations that can be gone on with.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::Admitted;
use super::{messages, reply};
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::Session;
use crate::upstream::claude_code::{ConversationKey, Program, Warm};

pub(super) fn routes(prefix: &str) -> Router<Arc<AppState>> {
    Router::new()
        .route(&format!("{prefix}/sessions"), get(list))
        .route(&format!("{prefix}/sessions/{{id}}"), delete(remove))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSession {
    id: String,
    /// `messages` or `run`.
    kind: &'static str,
    model: String,
    turns: u64,
    /// The conversation has a process that waits for its next turn.
    warm: bool,
    /// Tool calls that the process holds open.
    open_calls: usize,
    /// The conversation can be taken up after a restart.
    kept: bool,
    /// RFC 3339.
    last_used: Option<String>,
}

fn programs(snapshot: &Snapshot) -> impl Iterator<Item = &Program> {
    snapshot.upstreams.iter().filter_map(|upstream| upstream.program())
}

/// True for a client that means the sessions of Anthropic's managed agents, which have the same address.
pub(super) fn are_managed(headers: &HeaderMap) -> bool {
    headers
        .get_all("anthropic-beta")
        .iter()
        .any(|value| value.to_str().is_ok_and(|betas| betas.contains("managed-agents")))
}

async fn list(State(state): State<Arc<AppState>>, known: Admitted, request: Request) -> Response {
    if are_managed(request.headers()) && messages::is_relayed(&known.0, request.uri().path()) {
        return messages::relay(State(state), known, request).await;
    }
    let (Extension(snapshot), Extension(caller)) = known;
    let mut warm: Vec<Warm> = programs(&snapshot)
        .flat_map(Program::warm)
        .filter(|warm| warm.whose.owner == caller.0)
        .collect();
    let Some(retention) = programs(&snapshot).map(|program| program.setting().retention).max()
    else {
        return reply::json(StatusCode::OK, "{\"sessions\":[]}");
    };
    let mut shown = Vec::new();
    let sessions = match state.ledger.store().sessions(&caller.0, retention).await {
        Ok(sessions) => sessions,
        Err(error) => return reply::own_fault(&error.into()),
    };
    for session in sessions {
        let at = warm
            .iter()
            .position(|warm| warm.whose.session.as_deref() == Some(session.name.as_str()));
        let warm = at.map(|at| warm.remove(at));
        shown.push(ShownSession {
            kind: if session.folder.is_some() { "run" } else { "messages" },
            id: session.name,
            model: session.model,
            turns: session.turns,
            warm: warm.is_some(),
            open_calls: warm.map_or(0, |warm| warm.holds),
            kept: true,
            last_used: jiff::Timestamp::from_second(session.used).ok().map(|at| at.to_string()),
        });
    }
    shown.extend(warm.into_iter().map(|warm| {
        let last_used = jiff::Timestamp::now()
            .checked_sub(jiff::SignedDuration::try_from(warm.idle).unwrap_or_default())
            .ok();
        ShownSession {
            id: warm.id,
            kind: "messages",
            model: warm.model,
            turns: warm.turns,
            warm: true,
            open_calls: warm.holds,
            kept: false,
            last_used: last_used.map(|at| at.to_string()),
        }
    }));
    reply::json(StatusCode::OK, json!({"sessions": shown}).to_string())
}

async fn remove(
    State(state): State<Arc<AppState>>,
    known: Admitted,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    if are_managed(request.headers()) && messages::is_relayed(&known.0, request.uri().path()) {
        return messages::relay(State(state), known, request).await;
    }
    let (Extension(snapshot), Extension(caller)) = known;
    let id = path.map(|Path(id)| id).unwrap_or_default();
    let whose = ConversationKey { owner: caller.0.clone(), session: Some(id.as_str().into()) };
    let warm = programs(&snapshot).filter(|program| program.forget(&whose, &id)).count() > 0;
    let kept = match state.ledger.store().forget_session(&caller.0, &id).await {
        Ok(kept) => kept,
        Err(error) => return reply::own_fault(&error.into()),
    };
    erase(&snapshot, &kept);
    if warm || !kept.is_empty() {
        return reply::json(StatusCode::OK, json!({"id": id, "deleted": true}).to_string());
    }
    reply::own_fault(&Fault::new(FaultKind::NotFound, format!("there is no session `{id}`")))
}

/// Removes from the disk what was kept of sessions of runs. Their names are ours; those of conversations are their clients'.
pub(super) fn erase(snapshot: &Snapshot, deleted: &[Session]) {
    for session in deleted.iter().filter(|session| session.folder.is_some()) {
        programs(snapshot).for_each(|program| program.erase(&session.program_id));
    }
}
