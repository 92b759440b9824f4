//! `/v1/key`: what a key has left, and what a session of its cost, for who has the key.

use std::collections::HashMap;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::{Admitted, Gateway, reply};
use crate::admin;
use crate::config::OWNER;

pub(super) async fn get(
    State(state): Gateway,
    (_, Extension(caller)): Admitted,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let session = query.get("session").filter(|session| !session.is_empty()).cloned();
    // The owner's socket sees all there is.
    let caller = (&*caller.0 != OWNER).then(|| caller.0.to_string());
    let (store, accounts) = (state.ledger.store(), state.ledger.accounts());
    let mut response = match admin::own(store, accounts, caller, session).await {
        Ok(value) => reply::json(StatusCode::OK, value.to_string()),
        Err(fault) => reply::own_fault(&fault),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
