//! What only the owner may ask, through our own socket in the state folder.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use seaway_wire::{Fault, FaultKind};
use serde_json::json;

use super::admission::{Door, refuse};
use super::{dashboard, reply, status};
use crate::reload;
use crate::state::AppState;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/owner/status", get(look))
        .route("/owner/reload", post(reload))
        .route("/owner/key", get(key))
        .route("/owner/link", post(link))
}

async fn look(
    State(state): State<Arc<AppState>>,
    Extension(door): Extension<Door>,
    request: Request,
) -> Response {
    if door != Door::Own {
        return elsewhere(request).await;
    }
    reply::json(
        StatusCode::OK,
        serde_json::to_string(&status::look(&state, true).await).unwrap_or_default(),
    )
}

/// The key that clients need, and where it comes from: whoever asks elsewhere may know another configuration.
async fn key(
    State(state): State<Arc<AppState>>,
    Extension(door): Extension<Door>,
    request: Request,
) -> Response {
    if door != Door::Own {
        return elsewhere(request).await;
    }
    let runtime = state.snapshot.load();
    let key = runtime.keyring.first().map(secrecy::ExposeSecret::expose_secret);
    reply::json(StatusCode::OK, json!({"key": key, "from": runtime.config.key_from}).to_string())
}

/// What to put behind an address so that a browser is signed in, once.
async fn link(
    State(state): State<Arc<AppState>>,
    Extension(door): Extension<Door>,
    request: Request,
) -> Response {
    if door != Door::Own {
        return elsewhere(request).await;
    }
    reply::json(StatusCode::OK, json!({"fragment": dashboard::fragment(&state)}).to_string())
}

async fn reload(
    State(state): State<Arc<AppState>>,
    Extension(door): Extension<Door>,
    request: Request,
) -> Response {
    if door != Door::Own {
        return elsewhere(request).await;
    }
    match reload::reload(&state) {
        Ok(()) => reply::json(StatusCode::OK, "{}"),
        Err(error) => refuse(Fault::new(FaultKind::InvalidRequest, error), request).await,
    }
}

async fn elsewhere(request: Request) -> Response {
    let message = format!("there is no {}", request.uri().path());
    refuse(Fault::new(FaultKind::NotFound, message), request).await
}
