//! The routes that clients know, and their thin handlers.

mod address;
mod admin;
pub mod admission;
mod ask;
pub mod connection;
pub mod dashboard;
mod decode;
mod lane;
mod login;
mod managed;
mod messages;
mod models;
mod openapi;
mod own_key;
mod owner;
mod reply;
mod responses;
mod run;
pub mod server;
mod sessions;
mod signin;
pub mod status;
mod telemetry;
pub mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use axum::{Extension, Router};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use seaway_wire::Endpoint;
use seaway_wire::endpoint::{Answered, ENDPOINTS};
use tower::Service;
use tower_http::cors::CorsLayer;

use crate::auth::Caller;
use crate::config::Lane;
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;

/// What handlers share.
type Gateway = State<Arc<AppState>>;

/// The configuration that a request sees, and who sent it.
type Admitted = (Extension<Arc<Snapshot>>, Extension<Caller>);

/// All routes, ready to be served.
#[derive(Clone)]
pub struct Routes {
    state: Arc<AppState>,
    router: Router,
    /// Nothing lies around the routes that every request has to pass.
    bare: bool,
}

impl Routes {
    /// Builds them.
    pub fn new(state: &Arc<AppState>) -> Self {
        let bare = state.snapshot.load().config.cors_origins.is_empty();
        Self { state: state.clone(), router: router(state), bare }
    }

    /// Answers a request. Dropped, it stops what is done for it.
    ///
    /// What a model answers is most of what is asked, and does not pass the router.
    pub fn answer(&self, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        if let Some(endpoint) = self.directly(&request) {
            return Box::pin(ask::enter(self.state.clone(), endpoint, request));
        }
        let answering = self.router.clone().call(request);
        Box::pin(async { answering.await.unwrap_or_else(|never| match never {}) })
    }

    fn directly(&self, request: &Request) -> Option<Endpoint> {
        self.hot(request.method(), request.uri().path())
    }

    /// True where what models are asked is read and answered by our own code.
    fn has_lane(&self) -> bool {
        self.bare && self.state.snapshot.load().config.lane == Lane::Own
    }

    /// What a model is asked at a path, if that is all there is to it.
    fn hot(&self, method: &Method, path: &str) -> Option<Endpoint> {
        let path = path.strip_prefix("/v1")?;
        let known = ENDPOINTS.iter().find(|row| row.path == path)?;
        let asks = self.bare && *method == Method::POST;
        (asks && matches!(known.answered, Answered::ByModel)).then_some(known.endpoint)
    }
}

/// Layers run from the last to the first.
fn router(state: &Arc<AppState>) -> Router {
    let router = Router::new()
        .route("/", get(dashboard::root))
        .merge(dashboard::routes())
        .route("/api/hello", get(status::hello))
        .route("/health", get(status::health))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::get))
        .merge(api("/v1"))
        .merge(api("/anthropic/v1"))
        .merge(api("/openai/v1"))
        .merge(api("/argoapi/v1"))
        .merge(run::routes("/v1"))
        .merge(run::routes("/api"))
        .merge(sessions::routes("/v1"))
        .merge(sessions::routes("/api"))
        .merge(login::routes("/auth"))
        .merge(owner::routes())
        .merge(admin::routes())
        .merge(signin::routes())
        .merge(managed::routes())
        .merge(telemetry::routes())
        .route("/v1/key", get(own_key::get))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), admission::enter));
    let origins = state.snapshot.load().config.cors_origins.clone();
    let router = if origins.is_empty() { router } else { router.layer(cors(origins)) };
    router.with_state(state.clone())
}

/// The API below a prefix, by the table. Not nested: that would cost every request another layer.
fn api(prefix: &str) -> Router<Arc<AppState>> {
    let mut router = Router::new();
    for row in &ENDPOINTS {
        let path = format!("{prefix}{}", row.path);
        let with_preset = format!("{prefix}/{{preset}}{}", row.path);
        router = match row.answered {
            Answered::ByModel => router
                .route(&path, ask::at(row.endpoint))
                .route(&with_preset, ask::at_preset(row.endpoint)),
            Answered::ByUpstream => router.route(&path, any(messages::relay)),
            Answered::ByUs if row.presets => {
                router.route(&path, ours(row.endpoint)).route(&with_preset, ours(row.endpoint))
            }
            Answered::ByUs => router.route(&path, ours(row.endpoint)),
        };
    }
    // What is newer than the table, below what its upstream has.
    router
        .route(&format!("{prefix}/messages/batches/{{id}}/{{*rest}}"), any(messages::relay))
        .route(&format!("{prefix}/files/{{id}}/{{*rest}}"), any(messages::relay))
}

/// Who answers what we answer ourselves.
fn ours(endpoint: Endpoint) -> MethodRouter<Arc<AppState>> {
    match endpoint {
        Endpoint::Models => get(models::list),
        Endpoint::Model => get(models::one),
        Endpoint::Response => get(responses::get).delete(responses::delete),
        Endpoint::InputItems => get(responses::items),
        Endpoint::ResponseCancel => post(responses::cancel),
        Endpoint::Compact
        | Endpoint::Messages
        | Endpoint::CountTokens
        | Endpoint::Batches
        | Endpoint::Batch
        | Endpoint::BatchCancel
        | Endpoint::BatchResults
        | Endpoint::Files
        | Endpoint::File
        | Endpoint::FileContent
        | Endpoint::Completions
        | Endpoint::Responses
        | Endpoint::InputTokens => any(unknown),
    }
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    let ids = [
        "request-id",
        "x-request-id",
        "seaway-note",
        "seaway-fault",
        "seaway-simulated",
        "retry-after",
    ]
    .map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(ids)
        .max_age(Duration::from_secs(600))
}

/// What has no address of its own here: the rest of the Messages API is its upstream's to answer.
async fn unknown(
    State(state): State<Arc<AppState>>,
    known: Admitted,
    request: Request,
) -> Response {
    let path = request.uri().path();
    if let Some(why) = address::without_counterpart(path) {
        return admission::refuse(
            Fault::new(FaultKind::NotFound, format!("{path}: {why}")).code("unknown_url"),
            request,
        )
        .await;
    }
    if messages::is_relayed(&known.0, path) {
        return messages::relay(State(state), known, request).await;
    }
    let message = format!(
        "there is no {path}; clients use `/v1/messages`, `/v1/chat/completions`, `/v1/responses`, `/v1/models` or `/health`"
    );
    admission::refuse(Fault::new(FaultKind::NotFound, message).code("unknown_url"), request).await
}

async fn wrong_method(
    State(state): State<Arc<AppState>>,
    known: Admitted,
    request: Request,
) -> Response {
    if sessions::are_managed(request.headers())
        && messages::is_relayed(&known.0, request.uri().path())
    {
        return messages::relay(State(state), known, request).await;
    }
    let (method, path) = (request.method(), request.uri().path());
    let meant = if path.starts_with("/auth/log") { "POST" } else { method_of(path) };
    let message = format!(
        "{method} cannot be used on {path}{}",
        if meant.is_empty() { String::new() } else { format!("; use {meant}") }
    );
    admission::refuse(Fault::new(FaultKind::WrongMethod, message), request).await
}

/// The method that a path wants, where it wants one.
fn method_of(path: &str) -> &'static str {
    let asks =
        ["/messages", "/count_tokens", "/chat/completions", "/responses", "/input_tokens", "/run"];
    if asks.iter().any(|end| path.ends_with(end)) { "POST" } else { "" }
}

/// The preset that a header names.
fn preset_header(headers: &HeaderMap) -> Option<String> {
    headers.get("seaway-preset").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
