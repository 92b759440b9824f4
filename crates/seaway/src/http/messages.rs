//! What the Messages API has beside messages.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::BodyExt;

use seaway_wire::Dialect;

use super::reply;
use crate::auth::Caller;
use crate::config::Place;
use crate::house::House;
use crate::runtime::Runtime;
use crate::upstream::BodyError;
use crate::{exchange, route};

/// True for a path of the Messages API that is its upstream's to answer.
pub(super) fn is_relayed(runtime: &Runtime, path: &str) -> bool {
    let versioned = ["/v1/", "/anthropic/v1/"].iter().any(|start| path.starts_with(start));
    let first = route::route(&runtime.config, "", "").into_iter().next();
    let upstream = first.and_then(|name| runtime.upstream(&name));
    versioned && upstream.is_some_and(|upstream| matches!(upstream.setting.place, Place::Api(_)) && upstream.setting.speaks.contains(&Dialect::Messages))
}

/// What is not looked into: sent on as it comes.
pub(super) async fn relay(State(house): State<Arc<House>>, (Extension(runtime), Extension(caller)): (Extension<Arc<Runtime>>, Extension<Caller>), request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    // Whatever it is served below.
    let path = path.find("/v1/").map_or(path.as_str(), |at| &path[at..]).to_owned();
    let body = body.map_err(|error| BodyError(error.into())).boxed_unsync();
    reply::of_exchange(exchange::relay(house, runtime, caller, head.method, path, head.headers, body).await)
}
