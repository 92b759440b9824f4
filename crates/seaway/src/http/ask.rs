//! Requests that a model answers, in any dialect: the body is read and the exchange called.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use http::header::CONTENT_ENCODING;
use seaway_wire::Endpoint;

use super::admission::{self, HeldBody, whole_body};
use super::{Admitted, Gateway};
use super::{preset_header, reply};
use crate::answer;
use crate::exchange::{self, ClientRequest};
use crate::state::AppState;

/// Serves an endpoint at its own path.
pub(super) fn at(endpoint: Endpoint) -> MethodRouter<Arc<AppState>> {
    post(move |State(state): Gateway, known: Admitted, request: Request| {
        serve(state, known, endpoint, None, request)
    })
}

/// Serves an endpoint below the name of a preset.
pub(super) fn at_preset(endpoint: Endpoint) -> MethodRouter<Arc<AppState>> {
    post(
        move |State(state): Gateway,
              known: Admitted,
              preset: Result<Path<String>, PathRejection>,
              request: Request| {
            // A name that is not UTF-8 is no preset of ours, and is told so like any other.
            let preset = preset.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name);
            serve(state, known, endpoint, Some(preset), request)
        },
    )
}

/// Lets a request in and serves it, without a router around it.
pub(super) async fn enter(state: Arc<AppState>, endpoint: Endpoint, request: Request) -> Response {
    let serving = state.clone();
    let answer = move |request, snapshot, caller| {
        serve(serving, (Extension(snapshot), Extension(caller)), endpoint, None, request)
    };
    admission::admitted(state, request, answer).await
}

async fn serve(
    state: Arc<AppState>,
    (Extension(snapshot), Extension(caller)): Admitted,
    endpoint: Endpoint,
    preset: Option<String>,
    request: Request,
) -> Response {
    let (mut head, body) = request.into_parts();
    let limit = snapshot.config.body_limit;
    let HeldBody { bytes: body, held } =
        match whole_body(&state.memory, &head.headers, body, limit).await {
            Ok(body) => body,
            Err(fault) => return reply::fault(&fault, endpoint.dialect(), &answer::own_id()),
        };
    // The body was decoded: what goes on from here is plain.
    head.headers.remove(CONTENT_ENCODING);
    let ask = ClientRequest {
        caller,
        endpoint,
        preset: preset.or_else(|| preset_header(&head.headers)),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        held,
    };
    reply::of_exchange(exchange::run(state, snapshot, ask).await)
}
