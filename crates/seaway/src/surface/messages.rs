//! What the Messages API has beside messages.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;

use crate::auth::Caller;
use crate::exchange;
use crate::house::House;
use crate::runtime::Runtime;

/// Batches and files: sent on as they come.
pub(super) async fn relay(State(house): State<Arc<House>>, (Extension(runtime), Extension(caller)): (Extension<Arc<Runtime>>, Extension<Caller>), request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    // Whatever it is served below.
    let path = path.find("/v1/").map_or(path.as_str(), |at| &path[at..]).to_owned();
    exchange::relay(house, runtime, caller, head.method, path, head.headers, body).await
}
