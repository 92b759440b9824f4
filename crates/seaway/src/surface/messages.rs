//! The Messages API.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use seaway_wire::{Dialect, Fault};

use super::preset_header;
use crate::answer;
use crate::auth::Caller;
use crate::exchange::{self, Ask};
use crate::front::whole_body;
use crate::house::House;
use crate::plan::Endpoint;
use crate::runtime::Runtime;

type Shared = State<Arc<House>>;
type Known = (Extension<Arc<Runtime>>, Extension<Caller>);

pub(super) async fn create(State(house): Shared, (Extension(runtime), Extension(caller)): Known, request: Request) -> Response {
    serve(house, runtime, caller, Endpoint::Create, None, request).await
}

pub(super) async fn count(State(house): Shared, (Extension(runtime), Extension(caller)): Known, request: Request) -> Response {
    serve(house, runtime, caller, Endpoint::CountTokens, None, request).await
}

pub(super) async fn create_preset(State(house): Shared, (Extension(runtime), Extension(caller)): Known, preset: Result<Path<String>, PathRejection>, request: Request) -> Response {
    serve(house, runtime, caller, Endpoint::Create, Some(preset_of(preset)), request).await
}

pub(super) async fn count_preset(State(house): Shared, (Extension(runtime), Extension(caller)): Known, preset: Result<Path<String>, PathRejection>, request: Request) -> Response {
    serve(house, runtime, caller, Endpoint::CountTokens, Some(preset_of(preset)), request).await
}

/// A name that is not UTF-8 is no preset of ours, and is told so like any other.
fn preset_of(path: Result<Path<String>, PathRejection>) -> String {
    path.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name)
}

async fn serve(house: Arc<House>, runtime: Arc<Runtime>, caller: Caller, endpoint: Endpoint, preset: Option<String>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let limit = runtime.config.body_limit;
    let body = match whole_body(&head.headers, body, limit).await {
        Ok(body) => body,
        Err(fault) => return refused(&fault),
    };
    let ask = Ask { caller, endpoint, preset: preset.or_else(|| preset_header(&head.headers)), query: head.uri.query().map(str::to_owned), headers: head.headers, body };
    exchange::run(house, runtime, ask).await
}

fn refused(fault: &Fault) -> Response {
    answer::fault(fault, Dialect::Messages, &answer::own_id())
}

/// Batches and files: sent on as they come.
pub(super) async fn relay(State(house): Shared, (Extension(runtime), Extension(caller)): Known, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let path = path.strip_prefix("/anthropic").unwrap_or(&path).to_owned();
    exchange::relay(house, runtime, caller, head.method, path, head.headers, body).await
}
