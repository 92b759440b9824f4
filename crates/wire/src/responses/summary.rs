//! What Responses events and objects say about themselves, for an upstream that speaks Responses itself.

use serde::Deserialize;

use crate::StopReason;
use crate::messages::{Summary, UpstreamError};
use crate::usage::Usage;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponsesEvent {
    #[serde(rename = "type")]
    kind: String,
    response: Option<Object>,
    message: Option<String>,
    code: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    model: Option<String>,
    status: Option<String>,
    incomplete_details: Option<ResponsesUsageDetails>,
    usage: Option<Counts>,
    error: Option<ObjectError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponsesUsageDetails {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectError {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

/// Takes what one event of a stream says.
pub fn observe(summary: &mut Summary, data: &[u8]) {
    let event: ResponsesEvent = serde_json::from_slice(data).unwrap_or_default();
    match event.kind.as_str() {
        "response.created" | "response.in_progress" | "response.queued" => {
            summary.model = event.response.and_then(|object| object.model).or(summary.model.take());
        }
        "response.completed" | "response.incomplete" | "response.failed" => {
            take(summary, event.response.unwrap_or_default());
            summary.ended = true;
        }
        "error" => {
            summary.error = Some(UpstreamError {
                kind: event.code.unwrap_or_else(|| "error".into()),
                message: event.message.unwrap_or_default(),
            });
        }
        _ => {}
    }
}

/// Reads a whole response, or an error in its place.
pub fn summary_of_json(body: &[u8]) -> Summary {
    let mut summary = Summary { ended: true, ..Summary::default() };
    take(&mut summary, serde_json::from_slice(body).unwrap_or_default());
    summary
}

fn take(summary: &mut Summary, object: Object) {
    summary.model = object.model.or(summary.model.take());
    if let Some(error) = object.error {
        let kind = error.kind.or(error.code).unwrap_or_else(|| "error".into());
        summary.error = Some(UpstreamError { kind, message: error.message.unwrap_or_default() });
    }
    summary.stop_reason = match (
        object.status.as_deref(),
        object.incomplete_details.and_then(|details| details.reason),
    ) {
        (Some("completed"), _) => Some(StopReason::EndTurn),
        (Some("incomplete"), Some(reason)) if reason == "content_filter" => {
            Some(StopReason::Refusal)
        }
        (Some("incomplete"), _) => Some(StopReason::MaxTokens),
        _ => summary.stop_reason.take(),
    };
    if let Some(counts) = object.usage {
        let cached =
            counts.input_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        summary.usage = Usage {
            input: counts.input_tokens.saturating_sub(cached),
            output: counts.output_tokens,
            cache_read: cached,
            thinking: counts
                .output_tokens_details
                .and_then(|details| details.reasoning_tokens)
                .unwrap_or(0),
            ..Usage::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_cost() {
        let mut summary = Summary::default();
        observe(&mut summary, br#"{"type":"response.created","response":{"model":"gpt-x"}}"#);
        assert_eq!((summary.model.as_deref(), summary.ended), (Some("gpt-x"), false));
        let object = r#"{"model":"gpt-y","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":2}}}"#;
        observe(
            &mut summary,
            format!(r#"{{"type":"response.incomplete","response":{object}}}"#).as_bytes(),
        );
        assert_eq!(summary, Summary { ended: true, ..summary_of_json(object.as_bytes()) });
        assert_eq!(
            (
                summary.usage.input,
                summary.usage.cache_read,
                summary.usage.output,
                summary.stop_reason
            ),
            (6, 4, 3, Some(StopReason::MaxTokens))
        );
        assert_eq!(
            summary_of_json(br#"{"error":{"type":"t","message":"m"}}"#).error,
            Some(UpstreamError { kind: "t".into(), message: "m".into() })
        );
    }
}
