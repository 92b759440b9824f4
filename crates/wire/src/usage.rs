//! What an exchange cost in tokens, and why the model stopped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

/// Token counts as the Messages API gives them. `input` leaves out cached tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    /// Read from the prompt cache.
    pub cache_read: u64,
    /// Written to the prompt cache, all lifetimes together.
    pub cache_write: u64,
    /// The part of `cache_write` that is kept for an hour, which costs more.
    pub cache_write_1h: u64,
    /// The part of `output` that was thinking, where the upstream tells it.
    pub thinking: u64,
}

/// The `usage` object of a message or of `message_delta`. A missing or `null`
/// member says nothing, so it never erases a number that came before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Report<'a> {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Lifetimes>,
    output_tokens_details: Option<OutputTokenDetails>,
    /// The tier that served, by the upstream's name for it.
    #[serde(borrow)]
    pub(crate) service_tier: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputTokenDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lifetimes {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl Usage {
    /// Takes what `report` says.
    pub fn update(&mut self, report: &Report<'_>) {
        let hour = report
            .cache_creation
            .as_ref()
            .and_then(|lifetimes| lifetimes.ephemeral_1h_input_tokens);
        for (count, said) in [
            (&mut self.input, report.input_tokens),
            (&mut self.output, report.output_tokens),
            (&mut self.cache_read, report.cache_read_input_tokens),
            (&mut self.cache_write, report.cache_creation_input_tokens),
            (&mut self.cache_write_1h, hour),
            (
                &mut self.thinking,
                report.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens),
            ),
        ] {
            *count = said.unwrap_or(*count);
        }
    }
}

/// Why the model stopped, as the Messages API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    EndTurn,
    MaxTokens,
    StopSequence,
    ToolUse,
    PauseTurn,
    Refusal,
    ContextWindowExceeded,
    /// A reason newer than this gateway.
    Other(String),
}

impl StopReason {
    pub fn parse(name: &str) -> Self {
        match name {
            "end_turn" => Self::EndTurn,
            "max_tokens" => Self::MaxTokens,
            "stop_sequence" => Self::StopSequence,
            "tool_use" => Self::ToolUse,
            "pause_turn" => Self::PauseTurn,
            "refusal" => Self::Refusal,
            "model_context_window_exceeded" => Self::ContextWindowExceeded,
            other => Self::Other(other.to_owned()),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::EndTurn => "end_turn",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::ToolUse => "tool_use",
            Self::PauseTurn => "pause_turn",
            Self::Refusal => "refusal",
            Self::ContextWindowExceeded => "model_context_window_exceeded",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_never_erases_a_count() {
        let mut usage = Usage::default();
        for report in [
            r#"{"input_tokens":9,"output_tokens":1,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":2},"output_tokens_details":{"thinking_tokens":3}}"#,
            r#"{"input_tokens":null,"output_tokens":7,"cache_creation":null,"output_tokens_details":null,"new":{}}"#,
        ] {
            usage.update(&serde_json::from_str(report).unwrap());
        }
        assert_eq!(
            usage,
            Usage {
                input: 9,
                output: 7,
                cache_read: 0,
                cache_write: 5,
                cache_write_1h: 2,
                thinking: 3
            }
        );
    }

    #[test]
    fn every_reason_survives_its_name() {
        for name in [
            "end_turn",
            "max_tokens",
            "stop_sequence",
            "tool_use",
            "pause_turn",
            "refusal",
            "model_context_window_exceeded",
            "new_one",
        ] {
            assert_eq!(StopReason::parse(name).name(), name);
        }
    }
}
