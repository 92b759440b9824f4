//! What the Messages API has beside messages.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::Method;
use http::header::CONTENT_ENCODING;
use http_body::Body as _;
use http_body_util::BodyExt;
use seaway_wire::{Dialect, Endpoint};

use super::admission::whole_body;
use super::reply;
use crate::auth::Caller;
use crate::config::UpstreamPlace;
use crate::exchange;
use crate::exchange::RelayedRequest;
use crate::memory::Held;
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::upstream::{BodyError, Payload, Target};

/// True for a path of the Messages API that is its upstream's to answer.
pub(super) fn is_relayed(snapshot: &Snapshot, path: &str) -> bool {
    let versioned = ["/v1/", "/anthropic/v1/"].iter().any(|start| path.starts_with(start));
    versioned
        && snapshot.first().is_some_and(|upstream| {
            matches!(upstream.setting.place, UpstreamPlace::Api(_))
                && upstream.setting.speaks.contains(&Dialect::Messages)
        })
}

/// The largest batch that the API takes.
const BATCH_LIMIT: usize = 256 << 20;

/// What a path means at an upstream, whatever prefix or preset it is served below.
fn target_of(path: &str) -> Target {
    let path = path.find("/v1/").map_or(path, |at| &path[at..]);
    let target = Target::of_path(path);
    let rest = path.strip_prefix("/v1/").and_then(|rest| rest.split_once('/'));
    let Some((_, rest)) = rest.filter(|_| target.family().is_none()) else { return target };
    match Target::of_path(&format!("/v1/{rest}")) {
        below @ Target::Known { endpoint, .. } if endpoint.row().presets => below,
        _ => target,
    }
}

/// Relays a request that is not looked into.
pub(super) async fn relay(
    State(state): State<Arc<AppState>>,
    (Extension(snapshot), Extension(caller)): (Extension<Arc<Snapshot>>, Extension<Caller>),
    request: Request,
) -> Response {
    let (mut head, body) = request.into_parts();
    let target = target_of(head.uri.path());
    let batch = head.method == Method::POST && target.endpoint() == Some(Endpoint::Batches);
    let mut memory = Held::default();
    let body = if body.is_end_stream() {
        Ok(Payload::Whole(Bytes::new()))
    } else if batch && (snapshot.upstreams.len() > 1 || snapshot.keyring.is_shared()) {
        // Its models say where it belongs, and its files whose they may be.
        let limit = snapshot.config.body_limit.max(BATCH_LIMIT);
        let read = whole_body(&state.memory, &head.headers, body, limit).await;
        read.map(|body| {
            head.headers.remove(CONTENT_ENCODING);
            memory = body.held;
            Payload::Whole(body.bytes)
        })
    } else {
        Ok(Payload::Streamed(body.map_err(|error| BodyError(error.into())).boxed_unsync()))
    };
    let query = head.uri.query().map(str::to_owned);
    let request = RelayedRequest {
        caller,
        method: head.method,
        target,
        query,
        headers: head.headers,
        body,
        held: memory,
    };
    reply::of_exchange(exchange::relay(state, snapshot, request).await)
}
