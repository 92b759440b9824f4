//! The tap of a relay between a Chat client and an upstream that speaks Chat itself.

use serde::Deserialize;

use crate::StopReason;
use crate::messages::{Summary, UpstreamError};
use crate::sse::Decoder;
use crate::stage::{End, Tap};
use crate::usage::Usage;

/// The largest event that is read along. A larger one is forwarded unread.
const EVENT_LIMIT: usize = 32 << 20;
/// The largest JSON answer that is read along.
const JSON_LIMIT: usize = 8 << 20;

/// Reads along as an answer is relayed.
#[derive(Debug)]
pub struct Meter {
    summary: Summary,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Events(Box<Decoder>),
    Json(Vec<u8>),
    /// Outgrew a limit, or is encoded.
    Opaque,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Counts>,
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
struct Choice {
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
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

impl Meter {
    #[must_use]
    pub fn for_events() -> Self {
        Self { summary: Summary::default(), form: Form::Events(Box::new(Decoder::with_limit(EVENT_LIMIT))) }
    }

    #[must_use]
    pub fn for_json() -> Self {
        Self { summary: Summary::default(), form: Form::Json(Vec::new()) }
    }

    #[must_use]
    pub fn opaque() -> Self {
        Self { summary: Summary::default(), form: Form::Opaque }
    }

    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// True where a comment of our own may be written into the stream.
    #[must_use]
    pub fn between_events(&self) -> bool {
        match &self.form {
            Form::Events(decoder) => decoder.between_events() && !self.summary.ended,
            Form::Json(_) | Form::Opaque => false,
        }
    }
}

/// Takes what a chunk or a completion says.
fn observe(summary: &mut Summary, data: &[u8]) {
    let answer: Answer = serde_json::from_slice(data).unwrap_or_default();
    if let Some(error) = answer.error {
        summary.error = Some(UpstreamError { kind: error.kind.unwrap_or_else(|| "error".into()), message: error.message.unwrap_or_default() });
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
        let cached = counts.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        summary.usage = Usage {
            input: counts.prompt_tokens.unwrap_or(0).saturating_sub(cached),
            output: counts.completion_tokens.unwrap_or(0),
            cache_read: cached,
            thinking: counts.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0),
            ..Usage::default()
        };
    }
}

impl Tap for Meter {
    fn read(&mut self, frame: &[u8]) {
        match &mut self.form {
            Form::Events(decoder) => {
                let summary = &mut self.summary;
                let mut events = decoder.read(frame);
                let lost = loop {
                    match events.next() {
                        Ok(Some(event)) if event.data == b"[DONE]" => summary.ended = true,
                        Ok(Some(event)) => observe(summary, event.data),
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
                drop(events);
                if lost {
                    self.form = Form::Opaque;
                }
            }
            Form::Json(held) if held.len() + frame.len() <= JSON_LIMIT => held.extend_from_slice(frame),
            Form::Json(_) => self.form = Form::Opaque,
            Form::Opaque => {}
        }
    }

    fn close(&mut self, end: End) -> bool {
        let complete = end == End::Complete;
        match &self.form {
            Form::Events(_) => self.summary.ended || (complete && (self.summary.error.is_some() || self.summary.stop_reason.is_some())),
            Form::Json(held) => {
                if complete {
                    observe(&mut self.summary, held);
                    self.summary.ended = true;
                }
                complete
            }
            Form::Opaque => complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_what_it_cost() {
        let source = concat!(
            "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n",
            "data: [DONE]\n\n"
        );
        for size in 1..source.len() {
            let mut meter = Meter::for_events();
            source.as_bytes().chunks(size).for_each(|piece| meter.read(piece));
            assert!(meter.close(End::Complete));
            let summary = meter.summary();
            assert_eq!((summary.model.as_deref(), &summary.stop_reason), (Some("m"), &Some(StopReason::MaxTokens)));
            assert_eq!((summary.usage.input, summary.usage.cache_read, summary.usage.output), (6, 3, 4));
        }
    }

    #[test]
    fn a_cut_stream_is_not_whole() {
        let mut meter = Meter::for_events();
        meter.read(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n");
        assert!(!meter.close(End::Complete));
    }

    #[test]
    fn an_error_is_one_whatever_it_says_of_itself() {
        let mut meter = Meter::for_events();
        meter.read(b"data: {\"error\":{\"message\":\"x\",\"type\":null,\"code\":null}}\n\n");
        assert!(meter.close(End::Complete));
        assert_eq!(meter.summary().error.as_ref().map(|error| error.message.as_str()), Some("x"));
    }

    #[test]
    fn a_completion_is_read_at_its_end() {
        let mut meter = Meter::for_json();
        meter.read(br#"{"model":"m","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        assert!(meter.close(End::Complete));
        assert_eq!(meter.summary().usage.output, 2);
    }
}
