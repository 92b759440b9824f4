//! What chunks and completions say about themselves, for an upstream that speaks Chat itself.

use serde::Deserialize;

use crate::StopReason;
use crate::messages::{Summary, UpstreamError};
use crate::usage::Usage;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatAnswer {
    model: Option<String>,
    choices: Vec<ChatChoice>,
    usage: Option<ChatCounts>,
    error: Option<ErrorFace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorFace {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatChoice {
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatCounts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<ChatInputDetails>,
    completion_tokens_details: Option<ChatOutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatInputDetails {
    cached_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatOutputDetails {
    reasoning_tokens: Option<u64>,
}

/// Takes what a chunk or a completion says.
pub fn observe(summary: &mut Summary, data: &[u8]) {
    if data == b"[DONE]" {
        summary.ended = true;
        return;
    }
    let answer: ChatAnswer = serde_json::from_slice(data).unwrap_or_default();
    if let Some(error) = answer.error {
        summary.error = Some(UpstreamError {
            kind: error.kind.unwrap_or_else(|| "error".into()),
            message: error.message.unwrap_or_default(),
        });
    }
    summary.model = answer.model.or(summary.model.take());
    if let Some(reason) = answer.choices.into_iter().find_map(|choice| choice.finish_reason) {
        summary.stop_reason = Some(match reason.as_str() {
            "stop" => StopReason::EndTurn,
            "length" => StopReason::MaxTokens,
            "tool_calls" | "function_call" => StopReason::ToolUse,
            "content_filter" => StopReason::Refusal,
            _ => StopReason::Other(reason),
        });
    }
    if let Some(counts) = answer.usage {
        let cached =
            counts.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        summary.usage = Usage {
            input: counts.prompt_tokens.unwrap_or(0).saturating_sub(cached),
            output: counts.completion_tokens.unwrap_or(0),
            cache_read: cached,
            thinking: counts
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens)
                .unwrap_or(0),
            ..Usage::default()
        };
    }
}

/// Reads a whole completion, or an error in its place.
pub fn summary_of_json(body: &[u8]) -> Summary {
    let mut summary = Summary { ended: true, ..Summary::default() };
    observe(&mut summary, body);
    summary
}
