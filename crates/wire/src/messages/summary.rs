//! What an answer says about itself: its model, its cost, its end.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Event, EventKind, MessageDelta, MessageHead, MessageStart, report};
use crate::usage::{Iteration, StopReason, Usage};

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
        Some(envelope.error.into())
    }
}

impl From<EnvelopeError<'_>> for UpstreamError {
    fn from(error: EnvelopeError<'_>) -> Self {
        Self { kind: error.kind.into_owned(), message: error.message.into_owned() }
    }
}

/// A whole answer, as far as it is summed up.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WholeJson<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
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
    /// Each sampling, where there were several, or one by another model: they are what is billed.
    pub iterations: Vec<Iteration>,
    pub stop_reason: Option<StopReason>,
    pub error: Option<UpstreamError>,
    /// Roughly how many tokens were said until now: the count itself comes at the end.
    pub so_far: u64,
    /// `message_stop` came, or the whole JSON message.
    pub ended: bool,
}

/// What stands around the text of a delta, in bytes.
const WRAPPING: u64 = 80;
const BYTES_A_TOKEN: u64 = 4;
/// Where the kind of a delta stands, and the one that is no text.
const KIND_WITHIN: usize = 96;
static SIGNED: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"\"signature_delta\""));

/// What stands behind `"delta":{"type":"`, where an event is written as Anthropic writes it.
fn kind_of_delta(data: &[u8]) -> Option<&[u8]> {
    let index = data.strip_prefix(br#"{"type":"content_block_delta","index":"#)?;
    let digits = index.iter().take_while(|byte| byte.is_ascii_digit()).count();
    index[digits..].strip_prefix(br#","delta":{"type":""#)
}

impl Summary {
    /// Reads what one event says, for whoever reads nothing else of it.
    pub fn observe(&mut self, event: &Event<'_>) {
        match event.kind {
            EventKind::MessageStart => {
                self.started(&event.read::<MessageStart<'_>>().unwrap_or_default().message);
            }
            EventKind::MessageDelta => {
                self.stopped(&event.read::<MessageDelta<'_>>().unwrap_or_default());
            }
            EventKind::MessageStop => self.ended = true,
            EventKind::Error => {
                self.failed(event);
            }
            EventKind::BlockDelta => self.grew(event),
            EventKind::BlockStart | EventKind::BlockStop | EventKind::Ping | EventKind::Other => {}
        }
    }

    /// Takes the beginning of a message, or a whole one.
    pub(crate) fn started(&mut self, head: &MessageHead<'_>) {
        self.take(head.model.as_deref(), head.stop_reason.as_deref(), head.usage);
    }

    /// Takes what a `message_delta` says.
    pub(crate) fn stopped(&mut self, event: &MessageDelta<'_>) {
        let delta = &event.delta;
        self.take(delta.model.as_deref(), delta.stop_reason.as_deref(), event.usage);
    }

    /// Takes the members of a message that are set; others change nothing.
    pub(crate) fn take(
        &mut self,
        model: Option<&str>,
        reason: Option<&str>,
        usage: Option<&RawValue>,
    ) {
        if let Some(model) = model {
            self.model = Some(model.to_owned());
        }
        if let Some(reason) = reason {
            self.stop_reason = Some(StopReason::parse(reason));
        }
        let report = report(usage);
        self.usage.update(&report);
        if let Some(iterations) = report.iterations() {
            self.iterations = iterations;
        }
    }

    /// Takes an error event; returns what it says.
    pub(crate) fn failed(&mut self, event: &Event<'_>) -> &UpstreamError {
        let unnamed = || UpstreamError { kind: "api_error".into(), message: String::new() };
        self.error.insert(UpstreamError::parse(event.data).unwrap_or_else(unnamed))
    }

    /// A block has grown by a delta.
    pub(crate) fn grew(&mut self, event: &Event<'_>) {
        // A signature is no text: nobody counts it.
        let head = &event.data[..event.data.len().min(KIND_WITHIN)];
        let is_signature = match kind_of_delta(head) {
            Some(kind) => kind.starts_with(b"signature_delta\""),
            None => SIGNED.find(head).is_some(),
        };
        if is_signature {
            return;
        }
        self.so_far += ((event.data.len() as u64).saturating_sub(WRAPPING) / BYTES_A_TOKEN).max(1);
    }

    /// Reads a whole JSON answer: a message, a token count or an error.
    pub fn of_json(body: &[u8]) -> Self {
        Self::of_whole_json(body).0
    }

    /// The same, and whether the JSON is all there: false where it ends in its midst.
    pub(crate) fn of_whole_json(body: &[u8]) -> (Self, bool) {
        let mut summary = Self { ended: true, ..Self::default() };
        let whole = match serde_json::from_slice::<WholeJson<'_>>(body) {
            Ok(answer) => {
                let (model, reason) = (answer.model.as_deref(), answer.stop_reason.as_deref());
                summary.take(model, reason, answer.usage);
                summary.error = answer.error.and_then(|error| {
                    let error: EnvelopeError<'_> = serde_json::from_str(error.get()).ok()?;
                    Some(error.into())
                });
                true
            }
            Err(error) => {
                // Its members may be of other types than ours, and an error in it is one all the same.
                summary.error = UpstreamError::parse(body);
                !error.is_eof()
            }
        };
        (summary, whole)
    }
}
