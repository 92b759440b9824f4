//! The events of a Messages stream, as far as they tell what an answer cost.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Tag;
use crate::sse;
use crate::usage::{Report, StopReason, Usage};

/// The kinds of event that a Messages stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    MessageStart,
    BlockStart,
    BlockDelta,
    BlockStop,
    MessageDelta,
    MessageStop,
    Ping,
    Error,
    /// An event newer than this gateway.
    Other,
}

impl EventKind {
    /// Tells what an event is: by the `type` in its JSON, by its name only where that is missing.
    pub fn of(event: &sse::Event<'_>) -> Self {
        // Nearly every event is a delta, written exactly so. This spares it a parse.
        if event.data.starts_with(br#"{"type":"content_block_delta""#) {
            return Self::BlockDelta;
        }
        match serde_json::from_slice::<Tag<'_>>(event.data) {
            Ok(tag) if !tag.kind.is_empty() => Self::named(&tag.kind),
            _ => event.name.map_or(Self::Other, Self::named),
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "message_start" => Self::MessageStart,
            "content_block_start" => Self::BlockStart,
            "content_block_delta" => Self::BlockDelta,
            "content_block_stop" => Self::BlockStop,
            "message_delta" => Self::MessageDelta,
            "message_stop" => Self::MessageStop,
            "ping" => Self::Ping,
            "error" => Self::Error,
            _ => Self::Other,
        }
    }
}

/// A `content_block_start`.
#[derive(Deserialize)]
pub(crate) struct BlockStart<'a> {
    #[serde(default)]
    pub index: u64,
    #[serde(borrow)]
    pub content_block: &'a RawValue,
}

/// A `content_block_delta`.
#[derive(Deserialize)]
pub(crate) struct BlockDelta<'a> {
    #[serde(default)]
    pub index: u64,
    #[serde(borrow)]
    pub delta: &'a RawValue,
}

/// What went wrong, in the upstream's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    /// `error.type`, such as `overloaded_error`.
    pub kind: String,
    pub message: String,
}

impl UpstreamError {
    /// Reads an error envelope. `None` if the text is none.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
        Some(Self {
            kind: envelope.error.kind.into_owned(),
            message: envelope.error.message.into_owned(),
        })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: EnvelopeError<'a>,
}

#[derive(Deserialize)]
struct EnvelopeError<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// What an answer says about itself: all that is recorded of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The model that answered, by its own word.
    pub model: Option<String>,
    pub usage: Usage,
    pub stop_reason: Option<StopReason>,
    pub error: Option<UpstreamError>,
    /// Roughly how many tokens were said until now: the count itself comes at the end.
    pub so_far: u64,
    /// `message_stop` came, or the whole JSON message.
    pub ended: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Start<'a> {
    #[serde(borrow)]
    message: SummaryHead<'a>,
}

/// The members of a message that matter here; also those of `message_delta`'s `delta`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SummaryHead<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<Report>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SummaryDelta<'a> {
    #[serde(borrow)]
    delta: SummaryHead<'a>,
    usage: Option<Report>,
}

/// What stands around the text of a delta, in bytes.
const WRAPPING: u64 = 80;
const BYTES_A_TOKEN: u64 = 4;

impl Summary {
    /// Takes what one event of a stream says.
    pub fn observe(&mut self, kind: EventKind, data: &[u8]) {
        match kind {
            EventKind::MessageStart => {
                let start: Start<'_> = serde_json::from_slice(data).unwrap_or_default();
                self.take(start.message);
            }
            EventKind::MessageDelta => {
                let delta: SummaryDelta<'_> = serde_json::from_slice(data).unwrap_or_default();
                self.take(delta.delta);
                self.usage.update(&delta.usage.unwrap_or_default());
            }
            EventKind::MessageStop => self.ended = true,
            EventKind::Error => {
                let unnamed = || UpstreamError { kind: "api_error".into(), message: String::new() };
                self.error = Some(UpstreamError::parse(data).unwrap_or_else(unnamed));
            }
            EventKind::BlockDelta => {
                self.so_far +=
                    ((data.len() as u64).saturating_sub(WRAPPING) / BYTES_A_TOKEN).max(1);
            }
            EventKind::BlockStart | EventKind::BlockStop | EventKind::Ping | EventKind::Other => {}
        }
    }

    /// Reads a whole JSON answer: a message, a token count or an error.
    pub fn of_json(body: &[u8]) -> Self {
        let mut summary =
            Self { ended: true, error: UpstreamError::parse(body), ..Self::default() };
        summary.take(serde_json::from_slice(body).unwrap_or_default());
        summary
    }

    fn take(&mut self, head: SummaryHead<'_>) {
        if let Some(model) = head.model {
            self.model = Some(model.into_owned());
        }
        if let Some(reason) = head.stop_reason {
            self.stop_reason = Some(StopReason::parse(&reason));
        }
        self.usage.update(&head.usage.unwrap_or_default());
    }
}
