//! What flows between the halves: the events of an answer in Messages, borrowed, each with its text as it came.
//!
//! A source turns frames into events ([`SseSource`], [`crate::claude_code::Turn`]), a sink takes them: a relay, a
//! dialect, a whole message, figures. A source says no more of an event than its kind; a sink reads what it needs of
//! it, once.

mod sink;
mod source;

pub use sink::{FromSse, Sink, Translator};
pub use source::SseSource;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Tag;
use crate::sse::{self, write_event};
use crate::usage::Report;

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

/// How nearly every event begins. What follows up to the next quote is its type.
const BEGINNING: &[u8] = br#"{"type":""#;
const DELTA: &[u8] = br#"{"type":"content_block_delta""#;

impl EventKind {
    /// Tells what an event is by the `type` in its JSON; `None` if it has none.
    fn of_json(data: &[u8]) -> Option<Self> {
        // Nearly every event is one.
        if data.starts_with(DELTA) {
            return Some(Self::BlockDelta);
        }
        let plain = data.strip_prefix(BEGINNING).and_then(|rest| {
            let name = &rest[..memchr::memchr(b'"', rest)?];
            Some(Self::named(std::str::from_utf8(name).ok()?)).filter(|kind| kind.is_read())
        });
        plain.or_else(|| {
            let tag: Tag<'_> = serde_json::from_slice(data).ok()?;
            (!tag.kind.is_empty()).then(|| Self::named(&tag.kind))
        })
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

    /// True for what a sink reads, so that this is spared a parse. Whether the others are JSON is seen here or nowhere.
    const fn is_read(self) -> bool {
        match self {
            Self::MessageStart
            | Self::BlockStart
            | Self::BlockDelta
            | Self::BlockStop
            | Self::MessageDelta => true,
            Self::MessageStop | Self::Ping | Self::Error | Self::Other => false,
        }
    }

    const fn name(self) -> Option<&'static str> {
        match self {
            Self::MessageStart => Some("message_start"),
            Self::BlockStart => Some("content_block_start"),
            Self::BlockDelta => Some("content_block_delta"),
            Self::BlockStop => Some("content_block_stop"),
            Self::MessageDelta => Some("message_delta"),
            Self::MessageStop => Some("message_stop"),
            Self::Ping => Some("ping"),
            Self::Error => Some("error"),
            Self::Other => None,
        }
    }
}

/// One event of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub kind: EventKind,
    /// Its JSON, exactly as it came.
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Of a stream of server-sent events: by its JSON, and by its name only where that says nothing.
    pub fn of_sse(event: &sse::SseEvent<'a>) -> Self {
        let kind = EventKind::of_json(event.data)
            .unwrap_or_else(|| event.name.map_or(EventKind::Other, EventKind::named));
        Self { kind, data: event.data }
    }

    /// By its JSON alone.
    pub fn of_json(data: &'a [u8]) -> Self {
        Self { kind: EventKind::of_json(data).unwrap_or(EventKind::Other), data }
    }

    /// Reads it as what its kind has. Errors are for the sink to judge: one that only counts goes on without.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(self.data)
    }
}

/// An event that comes by itself, without a stream's frame around it: Claude Code's, and those of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFrame {
    kind: EventKind,
    data: Bytes,
}

impl EventFrame {
    /// `data` is its JSON, without line breaks.
    pub fn new(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self { kind: Event::of_json(&data).kind, data }
    }

    /// The event that is that part of a line.
    pub(crate) fn of_line(line: &Bytes, event: &Event<'_>) -> Self {
        Self { kind: event.kind, data: line.slice_ref(event.data) }
    }

    pub fn event(&self) -> Event<'_> {
        Event { kind: self.kind, data: &self.data }
    }

    /// As a server-sent event.
    pub fn to_sse(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.data.len() + 64);
        let text = String::from_utf8_lossy(&self.data);
        if let Some(name) = self.kind.name() {
            write_event(&mut out, name, &text);
        } else {
            let name = serde_json::from_str::<Tag<'_>>(&text).ok().map(|tag| tag.kind);
            write_event(&mut out, name.as_deref().unwrap_or_default(), &text);
        }
        out.into()
    }
}

/// A `message_start`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct MessageStart<'a> {
    #[serde(borrow)]
    pub message: MessageHead<'a>,
}

/// A message, as far as it tells more than its blocks.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct MessageHead<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
}

impl<'a> MessageHead<'a> {
    /// The blocks that are there from the start.
    pub(crate) fn blocks(&self) -> serde_json::Result<Vec<&'a RawValue>> {
        self.content.map_or(Ok(Vec::new()), |content| {
            Ok(serde_json::from_str::<Option<_>>(content.get())?.unwrap_or_default())
        })
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

/// What is new of a block. Kinds that are newer than this gateway have their source alone.
#[derive(Deserialize)]
pub(crate) struct Delta<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub partial_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub signature: Option<&'a RawValue>,
}

impl<'a> BlockDelta<'a> {
    pub(crate) fn read(&self) -> serde_json::Result<Delta<'a>> {
        serde_json::from_str(self.delta.get())
    }
}

/// A `content_block_stop`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlockStop {
    pub index: u64,
}

/// A `message_delta`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct MessageDelta<'a> {
    #[serde(borrow)]
    pub delta: Stopped<'a>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stopped<'a> {
    #[serde(borrow)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub stop_details: Option<&'a RawValue>,
}

/// What an event says of tokens; what is none says nothing.
pub(crate) fn report(usage: Option<&str>) -> Report<'_> {
    usage.and_then(|usage| serde_json::from_str(usage).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_its_json_says_and_what_its_name_says_where_that_is_silent() {
        let table = [
            (r#"{"type":"content_block_delta","index":0}"#, None, EventKind::BlockDelta),
            (r#"{"type":"message_stop"}"#, Some("ping"), EventKind::MessageStop),
            (r#"{ "index": 1, "type" : "error"}"#, None, EventKind::Error),
            ("{\"type\":\"pi\\u006eg\"}", None, EventKind::Ping),
            (r#"{"type":"message_stop_new"}"#, Some("ping"), EventKind::Other),
            (r#"{"type":""}"#, Some("message_stop"), EventKind::MessageStop),
            ("{}", Some("message_start"), EventKind::MessageStart),
            ("[DONE]", None, EventKind::Other),
            (r#"{"type":"message_stop""#, None, EventKind::Other),
            (r#"{"type":"message_stop""#, Some("message_stop"), EventKind::MessageStop),
            (r#"{"type":"message_delta"#, None, EventKind::Other),
        ];
        for (data, name, expect) in table {
            let event = sse::SseEvent { name, data: data.as_bytes() };
            assert_eq!(Event::of_sse(&event).kind, expect, "{data}");
        }
    }

    #[test]
    fn an_event_is_written_by_its_name_and_as_it_came() {
        for (data, name) in [
            (r#"{"type":"ping"}"#, "ping"),
            (r#"{"type":"new_event", "x": 1.0}"#, "new_event"),
            (r#"{"x":"grüß"}"#, ""),
        ] {
            let written = EventFrame::new(data).to_sse();
            assert_eq!(written, format!("event: {name}\ndata: {data}\n\n"), "{data}");
        }
    }
}
