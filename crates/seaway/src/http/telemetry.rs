//! Telemetry of programs (OTLP): counted into their sessions, and otherwise forgotten.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use seaway_wire::otlp::{self, Encoding, Signal, Told};

use super::admission::{HeldBody, whole_body};
use super::{Admitted, Gateway, reply};
use crate::auth::Caller;
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;

/// What is read where it is; more would hold up what else the thread serves.
const SMALL: usize = 64 << 10;
/// The largest body, in bytes: some programs send by time, some by number, and none so much.
const LARGEST: usize = 4 << 20;
/// How much more memory a body takes while it is read, at the most: two bytes may be a record.
const UNPACKED: usize = 40;
/// Writing it may take so much of the store's time: one part in so many.
const SHARE: u32 = 10;

pub(super) fn routes() -> Router<Arc<AppState>> {
    let of = |signal| {
        post(
            async move |State(state): Gateway,
                        (Extension(snapshot), Extension(caller)): Admitted,
                        request: Request| {
                let (head, body) = request.into_parts();
                let headers = head.headers;
                let taken = take(&state, &snapshot, caller, signal, &headers, body).await;
                taken.unwrap_or_else(|fault| reply::own_fault(&fault))
            },
        )
    };
    Router::new()
        .route("/v1/metrics", of(Signal::Metrics))
        .route("/v1/logs", of(Signal::Logs))
        .route("/v1/traces", of(Signal::Traces))
}

async fn take(
    state: &AppState,
    snapshot: &Snapshot,
    caller: Caller,
    signal: Signal,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (encoding, written) = match kind_of(headers).as_str() {
        "application/json" => (Encoding::Json, "application/json"),
        "application/x-protobuf" | "application/protobuf" | "" => {
            (Encoding::Protobuf, "application/x-protobuf")
        }
        other => {
            let message = format!(
                "telemetry is taken as `application/x-protobuf` or `application/json`, and this is `{other}`"
            );
            return Err(Fault::new(FaultKind::InvalidRequest, message));
        }
    };
    let limit = snapshot.config.body_limit.min(LARGEST);
    let mut body = whole_body(&state.memory, headers, body, limit).await.map_err(|fault| {
        if fault.kind == FaultKind::TooLarge && limit == LARGEST {
            let message = format!("telemetry is taken up to {LARGEST} bytes at once; send it more often, or in smaller batches");
            return Fault::new(FaultKind::TooLarge, message);
        }
        fault
    })?;
    state.memory.hold(&mut body.held, body.bytes.len() * UNPACKED).await?;
    let Told { counts, left_out } = read(signal, encoding, body).await?;
    if !counts.is_empty() {
        // One after the other, with pauses: no loop of anybody's keeps the store from what it promised others.
        let turn = state.telemetry.clone().lock_owned().await;
        let began = Instant::now();
        state.ledger.store().keep_telemetry(caller.0, counts).await?;
        let pause = began.elapsed() * (SHARE - 1);
        state.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            drop(turn);
        });
    }
    let answer = otlp::answer(signal, encoding, left_out);
    let mut response = (StatusCode::OK, answer).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(written));
    Ok(response)
}

async fn read(signal: Signal, encoding: Encoding, body: HeldBody) -> Result<Told, Fault> {
    let HeldBody { bytes, held } = body;
    let told = if bytes.len() <= SMALL {
        otlp::read(signal, encoding, &bytes)
    } else {
        let work = tokio::task::spawn_blocking(move || {
            let told = otlp::read(signal, encoding, &bytes);
            // Also for a client that has left meanwhile.
            drop(held);
            told
        });
        let failed = |_| Fault::new(FaultKind::Internal, "the telemetry could not be read");
        work.await.map_err(failed)?
    };
    told.map_err(|error| Fault::new(FaultKind::InvalidRequest, error.to_string()))
}

/// The media type, without its parameters.
fn kind_of(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
