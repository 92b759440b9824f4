//! Requests that a model answers, in any dialect: the body is read and the exchange called.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use seaway_wire::Endpoint;

use super::admission::{self, Admission, CameBy, HeldBody, whole_body};
use super::{Admitted, Gateway};
use super::{preset_header, reply};
use crate::answer;
use crate::auth::Caller;
use crate::exchange::{self, Answer, ClientRequest};
use crate::snapshot::Snapshot;
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

/// A request that was let in, and its body.
pub(super) struct Asked {
    pub(super) head: Parts,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) caller: Caller,
    /// As the path names it.
    pub(super) preset: Option<String>,
    pub(super) body: HeldBody,
}

/// Lets a request in and serves it, without a router around it.
pub(super) async fn enter(state: Arc<AppState>, endpoint: Endpoint, request: Request) -> Response {
    let came = request.extensions().get::<CameBy>().cloned();
    match admission::admitted(&state, request, came.as_ref()).await {
        Ok(Admission { request, snapshot, caller }) => {
            let known = (Extension(snapshot), Extension(caller));
            let answering = Box::pin(serve(state, known, endpoint, None, request));
            admission::guarded(endpoint.dialect(), answering).await
        }
        Err(refused) => refused,
    }
}

async fn serve(
    state: Arc<AppState>,
    (Extension(snapshot), Extension(caller)): Admitted,
    endpoint: Endpoint,
    preset: Option<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let limit = snapshot.config.body_limit;
    match whole_body(&state.memory, &head.headers, body, limit).await {
        Ok(body) => {
            let asked = Asked { head, snapshot, caller, preset, body };
            reply::of_exchange(answer(state, endpoint, asked).await)
        }
        Err(fault) => reply::fault(&fault, endpoint.dialect(), &answer::own_id()),
    }
}

/// Calls the exchange.
pub(super) fn answer(
    state: Arc<AppState>,
    endpoint: Endpoint,
    asked: Asked,
) -> impl Future<Output = Answer> {
    let Asked { mut head, snapshot, caller, preset, body: HeldBody { bytes: body, held } } = asked;
    // The body was decoded: what goes on from here is plain.
    head.headers.remove(CONTENT_ENCODING);
    let client = ClientRequest {
        caller,
        endpoint,
        preset: preset.or_else(|| preset_header(&head.headers)),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        held,
    };
    exchange::run(state, snapshot, client)
}
