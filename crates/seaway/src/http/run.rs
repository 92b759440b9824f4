//! Runs and tasks of the Claude Code program.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use seaway_wire::Dialect;
use seaway_wire::sse::write_event;
use serde::Deserialize;
use serde_json::json;

use super::admission::whole_body;
use super::reply;
use super::{Admitted, Gateway};
use crate::agent::{Job, RunBody, RunEvent, RunMode, RunningWork, tasks};
use crate::answer;
use crate::fault::{Fault, FaultKind};
use crate::state::AppState;
use crate::upstream::claude_code::PermissionVerdict;

/// The routes below a prefix.
pub(super) fn routes(prefix: &str) -> Router<Arc<AppState>> {
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/run"), post(run))
        .route(&at("/run/{id}/permissions/{ask}"), post(judge))
        .route(&at("/tasks"), post(begin).get(list))
        .route(&at("/tasks/{id}"), get(look).delete(remove))
}

/// Reads and looks over what is asked, before any work.
async fn prepare(
    state: &Arc<AppState>,
    (Extension(snapshot), Extension(caller)): Admitted,
    request: Request,
    background: bool,
) -> Result<(Job, bool), Fault> {
    let (head, body) = request.into_parts();
    let limit = snapshot.config.body_limit;
    let body = whole_body(&state.memory, &head.headers, body, limit).await?;
    let asked = RunBody::parse(&body.bytes)?;
    if background && asked.stream {
        let message = "stream: nobody watches a task; leave it out, and look at GET /v1/tasks/ID";
        return Err(Fault::new(FaultKind::InvalidRequest, message).param("stream"));
    }
    let mode = match (background, asked.stream) {
        (true, _) => RunMode::Background,
        (false, true) => RunMode::Watched,
        (false, false) => RunMode::Whole,
    };
    let job = Job::prepare(state, &snapshot, &caller, asked, mode).await?;
    Ok((job, mode == RunMode::Watched))
}

async fn run(State(state): Gateway, known: Admitted, request: Request) -> Response {
    let (job, stream) = match prepare(&state, known, request, false).await {
        Ok(prepared) => prepared,
        Err(wrong) => return reply::own_fault(&wrong),
    };
    let (id, request_id) = (job.id().to_owned(), job.record_id().to_owned());
    let mut response = match job.start().await {
        Ok(work) if stream => streamed(&id, &request_id, work),
        Ok(work) => match work.finish().await {
            Ok(body) => reply::json(StatusCode::OK, body),
            Err(wrong) => reply::fault(&wrong, Dialect::Messages, &request_id),
        },
        Err(wrong) => reply::fault(&wrong, Dialect::Messages, &request_id),
    };
    answer::identify(response.headers_mut(), &request_id);
    response
}

/// The events of a run; the last one is `result` or `error`.
fn streamed(id: &str, request_id: &str, work: RunningWork) -> Response {
    let mut first = Vec::new();
    write_event(&mut first, "start", &json!({"id": id}).to_string());
    let state = (Some(Bytes::from(first)), Some(work));
    let request_id: Arc<str> = request_id.into();
    let stream = futures_util::stream::unfold(state, move |(first, work)| {
        let request_id = request_id.clone();
        async move {
            if let Some(first) = first {
                return Some((Ok::<_, std::convert::Infallible>(first), (None, work)));
            }
            Some(match work?.next().await {
                (RunEvent::Events(events), left) => (Ok(events), (None, left)),
                (RunEvent::Silence, left) => {
                    (Ok(Bytes::from_static(b": keep-alive\n\n")), (None, left))
                }
                (RunEvent::Over(answer), _) => {
                    let mut last = Vec::new();
                    match answer {
                        Ok(body) => write_event(&mut last, "result", &body),
                        Err(wrong) => write_event(
                            &mut last,
                            "error",
                            &wrong.body(Dialect::Messages, &request_id),
                        ),
                    }
                    (Ok(Bytes::from(last)), (None, None))
                }
            })
        }
    });
    let mut response = Response::new(Body::from_stream(stream));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    allow: bool,
}

async fn judge(
    State(state): Gateway,
    (_, Extension(caller)): Admitted,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Bytes,
) -> Response {
    let (id, ask) = path.map(|Path(path)| path).unwrap_or_default();
    let Ok(judged) = serde_json::from_slice::<Judged>(&body) else {
        return reply::own_fault(
            &Fault::new(
                FaultKind::InvalidRequest,
                "expected {\"allow\": true} or {\"allow\": false}",
            )
            .param("allow"),
        );
    };
    if state.agents.judge(
        &caller,
        &id,
        PermissionVerdict { request_id: ask.clone(), allow: judged.allow },
    ) {
        return reply::json(StatusCode::OK, json!({"id": ask, "allow": judged.allow}).to_string());
    }
    reply::own_fault(&Fault::new(FaultKind::NotFound, format!("no run `{id}` waits for an answer")))
}

async fn begin(State(state): Gateway, known: Admitted, request: Request) -> Response {
    match prepare(&state, known, request, true).await {
        Ok((job, _)) => match job.in_background().await {
            Ok(task) => reply::json(StatusCode::ACCEPTED, tasks::shown(&task)),
            Err(wrong) => reply::own_fault(&wrong),
        },
        Err(wrong) => reply::own_fault(&wrong),
    }
}

async fn list(
    State(state): Gateway,
    (Extension(snapshot), Extension(caller)): Admitted,
) -> Response {
    let store = state.ledger.store();
    let listed = async {
        store.settle_tasks(&state.instance).await?;
        store.tasks(&caller.0, snapshot.config.store.retention).await
    };
    match listed.await {
        Ok(listed) => {
            let listed: Vec<String> = listed.iter().map(tasks::shown).collect();
            reply::json(StatusCode::OK, format!("{{\"tasks\":[{}]}}", listed.join(",")))
        }
        Err(error) => reply::own_fault(&error.into()),
    }
}

async fn look(
    State(state): Gateway,
    (_, Extension(caller)): Admitted,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    let store = state.ledger.store();
    let found = async {
        store.settle_tasks(&state.instance).await?;
        store.task(&caller.0, &id).await
    };
    match found.await {
        Ok(Some(task)) => reply::json(StatusCode::OK, tasks::shown(&task)),
        Ok(None) => reply::own_fault(&tasks::unknown(&id)),
        Err(error) => reply::own_fault(&error.into()),
    }
}

async fn remove(
    State(state): Gateway,
    (_, Extension(caller)): Admitted,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    match tasks::remove(&state, &caller, &id).await {
        Ok(done) => reply::json(StatusCode::OK, json!({"id": id, "status": done}).to_string()),
        Err(wrong) => reply::own_fault(&wrong),
    }
}
