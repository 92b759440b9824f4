//! What an exchange cost in tokens, and why the model stopped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

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
    pub web_searches: u64,
    pub served: Served,
}

/// How a request was served, where that has a price of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// `usage.speed` is `fast`.
    pub fast: bool,
    /// `usage.inference_geo` is `us`.
    pub in_us: bool,
    /// `usage.service_tier` is `batch`.
    pub in_batch: bool,
}

/// One sampling of several that a request was answered by: `usage.iterations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iteration {
    /// Another model than the answer's, such as an adviser's.
    pub model: Option<String>,
    pub usage: Usage,
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
    server_tool_use: Option<ServerToolUse>,
    /// The tier that served, by the upstream's name for it.
    #[serde(borrow)]
    pub(crate) service_tier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    speed: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inference_geo: Option<Cow<'a, str>>,
    #[serde(borrow)]
    iterations: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputTokenDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerToolUse {
    web_search_requests: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lifetimes {
    ephemeral_1h_input_tokens: Option<u64>,
}

/// Whose the tokens of an iteration are; its counts stand beside that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IterationHead<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}

impl Report<'_> {
    /// What each sampling used, where the report tells; what cannot be read tells nothing.
    pub fn iterations(&self) -> Option<Vec<Iteration>> {
        let each: Vec<&RawValue> = serde_json::from_str(self.iterations?.get()).ok()?;
        let read = |one: &RawValue| {
            let head: IterationHead<'_> = serde_json::from_str(one.get()).ok()?;
            let mut usage = Usage::default();
            usage.update(&serde_json::from_str(one.get()).ok()?);
            Some(Iteration { model: head.model.map(Cow::into_owned), usage })
        };
        each.into_iter().map(read).collect()
    }
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
            (
                &mut self.web_searches,
                report.server_tool_use.as_ref().and_then(|used| used.web_search_requests),
            ),
        ] {
            *count = said.unwrap_or(*count);
        }
        for (is_so, said, name) in [
            (&mut self.served.fast, &report.speed, "fast"),
            (&mut self.served.in_us, &report.inference_geo, "us"),
            (&mut self.served.in_batch, &report.service_tier, "batch"),
        ] {
            *is_so = said.as_deref().map_or(*is_so, |said| said == name);
        }
    }

    /// True if there is nothing that could cost.
    pub fn is_nothing(&self) -> bool {
        let Self { output, web_searches, .. } = self;
        self.prompt() == 0 && self.cache_write_1h == 0 && *output == 0 && *web_searches == 0
    }

    /// The tokens of the prompt: new ones, cached ones, those written to the cache.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
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
                thinking: 3,
                ..Usage::default()
            }
        );
    }

    #[test]
    fn how_it_was_served_and_by_how_many_samplings_is_read() {
        let read = |text: &str| {
            let report: Report<'_> = serde_json::from_str(text).unwrap();
            let mut usage = Usage::default();
            usage.update(&report);
            (usage.served, usage.web_searches, report.iterations())
        };
        let fast = Served { fast: true, in_us: true, in_batch: false };
        let text = r#"{"speed":"fast","inference_geo":"us","service_tier":"standard","server_tool_use":{"web_search_requests":2}}"#;
        assert_eq!(read(text), (fast, 2, None));
        let batch = Served { in_batch: true, ..Served::default() };
        assert_eq!(read(r#"{"service_tier":"batch","iterations":[]}"#), (batch, 0, Some(vec![])));
        let text = r#"{"iterations":[{"type":"message","input_tokens":1,"output_tokens":2},
            {"type":"advisor_message","model":"claude-opus-4-7","input_tokens":3,"cache_creation":{"ephemeral_1h_input_tokens":4},"cache_creation_input_tokens":5}]}"#;
        let iterations = read(text).2.unwrap();
        let models: Vec<_> = iterations.iter().map(|one| one.model.as_deref()).collect();
        assert_eq!(models, [None, Some("claude-opus-4-7")]);
        let (first, second) = (iterations[0].usage, iterations[1].usage);
        assert_eq!((first.input, first.output, first.prompt()), (1, 2, 1));
        assert_eq!((second.input, second.cache_write, second.cache_write_1h), (3, 5, 4));
        assert_eq!(read(r#"{"iterations":{"a":1}}"#).2, None);
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
