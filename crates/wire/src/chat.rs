//! OpenAI's Chat Completions API: a spoke.
//!
//! A request becomes one of Messages ([`to_messages`]), a message becomes a completion
//! ([`completion`]), and a stream of Messages events a stream of chunks ([`ChatStream`]).
//!
//! <https://platform.openai.com/docs/api-reference/chat> is the source of every protocol fact here.

mod chunk;
mod open;
mod request;
mod response;
mod stream;
mod summary;

pub use request::{ChatRequest, to_messages};
pub use response::{NoMessage, completion};
pub use stream::ChatStream;
pub use summary::{observe, summary_of_json};

use std::collections::HashSet;

use crate::StopReason;
use crate::openai::Names;

/// What of a request its answer depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatShape {
    pub names: Names,
    /// The tools whose calls have text in place of arguments, as the upstream calls them.
    pub custom: HashSet<String>,
    /// The client knows `function_call` only.
    pub legacy: bool,
    /// A stream is to end with its usage.
    pub include_usage: bool,
}

/// When an answer was made, and what to call it if the upstream does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatStamp {
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
}

/// What OpenAI calls the upstream's tiers.
pub(crate) fn service_tier(tier: &str) -> &str {
    match tier {
        "standard" => "default",
        "batch" => "flex",
        other => other,
    }
}

/// Why the answer ended, in Chat's words.
fn finish_reason(reason: Option<&StopReason>, legacy: bool) -> &'static str {
    match reason {
        Some(StopReason::ToolUse) if legacy => "function_call",
        Some(StopReason::ToolUse) => "tool_calls",
        // A turn that pauses is not over: its answer must not look whole.
        Some(StopReason::MaxTokens | StopReason::ContextWindowExceeded | StopReason::PauseTurn) => {
            "length"
        }
        Some(StopReason::Refusal) => "content_filter",
        // What is newer than this gateway is an end like any other.
        Some(StopReason::EndTurn | StopReason::StopSequence | StopReason::Other(_)) | None => {
            "stop"
        }
    }
}
