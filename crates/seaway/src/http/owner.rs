//! What only the owner may ask, through our own socket in the state folder.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::json;

use super::admission::{CameBy, Door, refuse};
use super::{dashboard, reply, status};
use crate::fault::{Fault, FaultKind};
use crate::reload;
use crate::state::AppState;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/owner/status", get(look))
        .route("/owner/reload", post(reload))
        .route("/owner/key", get(key))
        .route("/owner/link", post(link))
}

async fn look(State(state): State<Arc<AppState>>, _: FromOwner) -> Response {
    reply::json(
        StatusCode::OK,
        serde_json::to_string(&status::look(&state, true).await).unwrap_or_default(),
    )
}

/// The key that clients need, and where it comes from: whoever asks elsewhere may know another configuration.
async fn key(State(state): State<Arc<AppState>>, _: FromOwner) -> Response {
    let snapshot = state.snapshot.load();
    let key = snapshot.keyring.first().map(secrecy::ExposeSecret::expose_secret);
    let known = json!({"key": key, "from": snapshot.config.key_from, "hashed": snapshot.keyring.is_hashed()});
    reply::json(StatusCode::OK, known.to_string())
}

/// What to put behind an address so that a browser is signed in, once.
async fn link(State(state): State<Arc<AppState>>, _: FromOwner) -> Response {
    reply::json(StatusCode::OK, json!({"fragment": dashboard::fragment(&state)}).to_string())
}

async fn reload(State(state): State<Arc<AppState>>, FromOwner(request): FromOwner) -> Response {
    match reload::reload(&state) {
        Ok(()) => reply::json(StatusCode::OK, "{}"),
        Err(error) => refuse(Fault::new(FaultKind::InvalidRequest, error), request).await,
    }
}

/// A request that came by our own socket; anywhere else there is no such path.
struct FromOwner(Request);

impl<S: Send + Sync> FromRequest<S> for FromOwner {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        if request.extensions().get::<CameBy>().is_some_and(|came| came.door == Door::Own) {
            return Ok(Self(request));
        }
        let message = format!("there is no {}", request.uri().path());
        Err(refuse(Fault::new(FaultKind::NotFound, message), request).await)
    }
}
