//! OpenAI's Chat Completions API.

use axum::extract::Request;
use axum::response::Response;
use seaway_wire::{Fault, FaultKind};

use crate::front;

/// The older endpoint, which Claude has nothing for.
pub(super) async fn completions(request: Request) -> Response {
    let message = "there is no /v1/completions here: Claude answers conversations. Use `/v1/chat/completions`, with the prompt as a user message";
    front::refuse(Fault::new(FaultKind::NotFound, message).code("unknown_url"), request).await
}
