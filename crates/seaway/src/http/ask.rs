//! Requests that a model answers, in any dialect: the body is read and the exchange called.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use http::header::CONTENT_ENCODING;
use seaway_wire::Endpoint;

use super::admission::whole_body;
use super::{preset_header, reply};
use crate::answer;
use crate::auth::Caller;
use crate::exchange::{self, Ask};
use crate::house::House;
use crate::runtime::Runtime;

type Shared = State<Arc<House>>;
type Known = (Extension<Arc<Runtime>>, Extension<Caller>);

/// Serves an endpoint at its own path.
pub(super) fn at(endpoint: Endpoint) -> MethodRouter<Arc<House>> {
    post(move |State(house): Shared, known: Known, request: Request| serve(house, known, endpoint, None, request))
}

/// Serves an endpoint below the name of a preset.
pub(super) fn at_preset(endpoint: Endpoint) -> MethodRouter<Arc<House>> {
    post(move |State(house): Shared, known: Known, preset: Result<Path<String>, PathRejection>, request: Request| {
        // A name that is not UTF-8 is no preset of ours, and is told so like any other.
        let preset = preset.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name);
        serve(house, known, endpoint, Some(preset), request)
    })
}

async fn serve(house: Arc<House>, (Extension(runtime), Extension(caller)): Known, endpoint: Endpoint, preset: Option<String>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let limit = runtime.config.body_limit;
    let body = match whole_body(&head.headers, body, limit).await {
        Ok(body) => body,
        Err(fault) => return reply::fault(&fault, endpoint.dialect(), &answer::own_id()),
    };
    // It was read: what goes on from here is plain.
    head.headers.remove(CONTENT_ENCODING);
    let ask = Ask { caller, endpoint, preset: preset.or_else(|| preset_header(&head.headers)), query: head.uri.query().map(str::to_owned), headers: head.headers, body };
    reply::of_exchange(exchange::run(house, runtime, ask).await)
}
