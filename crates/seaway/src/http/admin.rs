//! `/v1/admin`: keys, teams, what they used, and who changed them. For the owner alone.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::admission::{CameBy, whole_body};
use super::{Admitted, Gateway, reply};
use crate::admin::Admin;
use crate::config::parse_span;
use crate::fault::{Fault, FaultKind};
use crate::state::AppState;
use crate::store::{Filter, UsageBy};

/// The largest body of such a request.
const LARGEST: usize = 1 << 20;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/v1/admin/keys", get(keys).post(create_key))
        .route("/v1/admin/keys/{name}", get(key).patch(set_key).delete(revoke_key))
        .route("/v1/admin/keys/{name}/rotate", post(rotate_key))
        .route("/v1/admin/logins", get(logins))
        .route("/v1/admin/logins/{id}", delete(end_login))
        .route("/v1/admin/teams", get(teams))
        .route("/v1/admin/teams/{name}", put(set_team).get(team).delete(remove_team))
        .route("/v1/admin/usage", get(usage))
        .route("/v1/admin/audit", get(audit))
}

/// The same for the dashboard, where its cookie goes.
pub(super) fn page_routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/dashboard/keys", get(keys).post(create_key))
        .route("/dashboard/keys/{name}/revoke", post(revoke_key))
        .route("/dashboard/usage-by", get(usage))
}

/// Answers, if the owner asks. What is told is for nobody's cache.
async fn answered<F>(state: &AppState, known: &Admitted, request: Request, work: F) -> Response
where
    F: for<'a> AsyncFnOnce(Admin<'a>, Bytes) -> Result<Value, Fault>,
{
    let (Extension(snapshot), Extension(caller)) = known;
    let told = async {
        if !snapshot.keyring.is_owner(caller) {
            let message =
                format!("`{}` does not own this gateway; its owner gives out keys", caller.0);
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
        if snapshot.keyring.shows_token(request.headers()) {
            let message = "a program that signed in gives out no keys; use the owner's key itself";
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
        let came = request.extensions().get::<CameBy>();
        let address = came.and_then(|came| came.connection.address());
        let (head, body) = request.into_parts();
        let body = whole_body(&state.memory, &head.headers, body, LARGEST).await?;
        let admin = Admin {
            store: state.ledger.store(),
            accounts: state.ledger.accounts(),
            config: &snapshot.config,
            who: caller.0.to_string(),
            address,
        };
        work(admin, body.bytes).await
    };
    let mut response = match told.await {
        Ok(value) => reply::json(StatusCode::OK, value.to_string()),
        Err(fault) => reply::own_fault(&fault),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn keys(State(state): Gateway, known: Admitted, request: Request) -> Response {
    answered(&state, &known, request, async |admin, _| admin.keys(None).await).await
}

async fn key(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| admin.keys(Some(&name)).await).await
}

async fn create_key(State(state): Gateway, known: Admitted, request: Request) -> Response {
    answered(&state, &known, request, async |admin, body| admin.create_key(&body).await).await
}

async fn set_key(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, body| admin.set_key(&name, &body).await).await
}

async fn revoke_key(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| admin.revoke_key(&name).await).await
}

async fn rotate_key(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, body| admin.rotate_key(&name, &body).await)
        .await
}

async fn logins(State(state): Gateway, known: Admitted, request: Request) -> Response {
    answered(&state, &known, request, async |admin, _| Ok(admin.logins())).await
}

async fn end_login(
    State(state): Gateway,
    known: Admitted,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| admin.end_login(&id).await).await
}

async fn teams(State(state): Gateway, known: Admitted, request: Request) -> Response {
    answered(&state, &known, request, async |admin, _| admin.teams(None).await).await
}

async fn team(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| admin.teams(Some(&name)).await).await
}

async fn set_team(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, body| admin.set_team(&name, &body).await).await
}

async fn remove_team(
    State(state): Gateway,
    known: Admitted,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| admin.remove_team(&name).await).await
}

/// A time ago, in milliseconds since the epoch, from `since=7d`.
fn since(query: &HashMap<String, String>) -> Result<i64, Fault> {
    let text = query.get("since").map_or("30d", String::as_str);
    let span = parse_span(text).ok_or_else(|| {
        Fault::new(FaultKind::InvalidRequest, "since: expected a time such as `7d`").param("since")
    })?;
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Ok(jiff::Timestamp::now().as_millisecond().saturating_sub(span))
}

async fn usage(
    State(state): Gateway,
    known: Admitted,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| {
        let since = since(&query)?;
        let Some(by) = query.get("by") else {
            let rows = admin.store.usage(Filter { since }).await?;
            return Ok(json!({ "usage": rows }));
        };
        let by = UsageBy::parse(by).ok_or_else(|| {
            let names = UsageBy::ALL.map(UsageBy::name).join(", ");
            let message = format!("by: expected one of {names}");
            Fault::new(FaultKind::InvalidRequest, message).param("by")
        })?;
        let sums = admin.store.usage_by(by, since).await?;
        Ok(json!({"by": by.name(), "usage": sums}))
    })
    .await
}

async fn audit(
    State(state): Gateway,
    known: Admitted,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    answered(&state, &known, request, async |admin, _| {
        let limit = query.get("limit").map_or(Ok(100), |limit| limit.parse());
        let limit = limit.map_err(|_| {
            Fault::new(FaultKind::InvalidRequest, "limit: expected a number").param("limit")
        })?;
        let rows = admin.store.audited(since(&query)?, limit).await?;
        Ok(json!({ "audit": rows }))
    })
    .await
}
