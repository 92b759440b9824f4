//! What an answer says about itself: its model, its cost, its end.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Event, EventKind, MessageDelta, MessageHead, MessageStart, report};
use crate::json::{Malformed, Scanner, decoded};
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

/// A whole answer, as far as it is summed up: values as they are written, `None` for `null`.
#[derive(Default)]
struct WholeJson<'a> {
    model: Option<&'a str>,
    stop_reason: Option<&'a str>,
    usage: Option<&'a str>,
    error: Option<&'a str>,
}

impl<'a> WholeJson<'a> {
    /// Finds them without looking into anything else; of a member that stands there twice, the last.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for what is no JSON, or no object.
    fn find(text: &'a str) -> Result<Self, Malformed> {
        let (mut found, mut scanner) = (Self::default(), Scanner::new(text, 0));
        if !scanner.eat(b'{') {
            return scanner.fail("expected a JSON object");
        }
        let mut more = scanner.peek() != Some(b'}');
        while more {
            let (key, value) = scanner.member()?;
            let place = match key {
                "model" => &mut found.model,
                "stop_reason" => &mut found.stop_reason,
                "usage" => &mut found.usage,
                "error" => &mut found.error,
                _ => &mut None,
            };
            *place = Some(value).filter(|value| *value != "null");
            more = scanner.eat(b',');
        }
        if scanner.eat(b'}') { Ok(found) } else { scanner.fail("expected `,` or `}`") }
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

/// How the data of a delta begins, where it is written as Anthropic writes it.
const DELTA_DATA: &[u8] = br#"{"type":"content_block_delta","index":"#;

/// Whether a delta is of a signature, by what stands behind its beginning, where that is written as Anthropic writes it.
fn is_of_signature(rest: &[u8]) -> Option<bool> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kind = rest[digits..].strip_prefix(br#","delta":{"type":""#)?;
    Some(kind.starts_with(b"signature_delta\""))
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
        self.take(
            head.model.as_deref(),
            head.stop_reason.as_deref(),
            head.usage.map(RawValue::get),
        );
    }

    /// Takes what a `message_delta` says.
    pub(crate) fn stopped(&mut self, event: &MessageDelta<'_>) {
        let delta = &event.delta;
        self.take(
            delta.model.as_deref(),
            delta.stop_reason.as_deref(),
            event.usage.map(RawValue::get),
        );
    }

    /// Takes the members of a message that are set; others change nothing.
    pub(crate) fn take(&mut self, model: Option<&str>, reason: Option<&str>, usage: Option<&str>) {
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
        let known = event.data.strip_prefix(DELTA_DATA).and_then(is_of_signature);
        let head = &event.data[..event.data.len().min(KIND_WITHIN)];
        self.grew_by(event.data.len(), known.unwrap_or_else(|| SIGNED.find(head).is_some()));
    }

    /// How an event begins that says of a delta what [`Self::grew_plainly`] takes.
    pub(crate) const DELTA: &[u8] =
        concat!("event: content_block_delta\ndata: ", r#"{"type":"content_block_delta","index":"#)
            .as_bytes();

    /// The same by what stands behind [`Self::DELTA`].
    pub(crate) fn grew_plainly(&mut self, rest: &[u8]) {
        let head = &rest[..rest.len().min(KIND_WITHIN - DELTA_DATA.len())];
        let is_signature = is_of_signature(rest).unwrap_or_else(|| SIGNED.find(head).is_some());
        self.grew_by(DELTA_DATA.len() + rest.len(), is_signature);
    }

    /// By an event's data of so many bytes. A signature is no text: nobody counts it.
    fn grew_by(&mut self, length: usize, is_signature: bool) {
        if !is_signature {
            self.so_far += ((length as u64).saturating_sub(WRAPPING) / BYTES_A_TOKEN).max(1);
        }
    }

    /// Reads a whole JSON answer: a message, a token count or an error.
    pub fn of_json(body: &[u8]) -> Self {
        Self::of_whole_json(body).0
    }

    /// The same, and whether the JSON is all there: false where it ends in its midst.
    pub(crate) fn of_whole_json(body: &[u8]) -> (Self, bool) {
        let mut summary = Self { ended: true, ..Self::default() };
        // What it costs is in it also where a text in it is not what it should be.
        let lossy = || String::from_utf8_lossy(body);
        let text = std::str::from_utf8(body).map_or_else(|_| lossy(), Cow::Borrowed);
        let Ok(WholeJson { model, stop_reason, usage, error }) = WholeJson::find(&text) else {
            let read = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            return (summary, !read.is_err_and(|error| error.is_eof()));
        };
        let (model, reason) = (model.and_then(decoded), stop_reason.and_then(decoded));
        summary.take(model.as_deref(), reason.as_deref(), usage);
        let error = error.and_then(|error| serde_json::from_str(error).ok());
        summary.error = error.map(|error: EnvelopeError<'_>| error.into());
        (summary, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(model: &str, input: u64) -> Summary {
        Summary {
            model: Some(model).filter(|model| !model.is_empty()).map(str::to_owned),
            usage: Usage { input, ..Usage::default() },
            ended: true,
            ..Summary::default()
        }
    }

    #[test]
    fn a_whole_answer_is_summed_up_whatever_else_is_in_it() {
        let of = |error: &str| Summary {
            error: Some(UpstreamError { kind: error.into(), message: String::new() }),
            ..summary("", 0)
        };
        for (body, expect, whole) in [
            (r#"{"model":"m","usage":{"input_tokens":3}}"#, summary("m", 3), true),
            (r#" { "usage" : { "input_tokens" : 3 } , "model" : "m" } "#, summary("m", 3), true),
            (r#"{"content":[{"model":"x","usage":{}}],"model":"m"}"#, summary("m", 0), true),
            (r#"{"model":"\u006d\n"}"#, summary("m\n", 0), true),
            (r#"{"model":null,"usage":null,"error":null}"#, summary("", 0), true),
            (r#"{"model":7,"usage":{"input_tokens":3}}"#, summary("", 3), true),
            (r#"{"model":"m","model":"n","usage":[]}"#, summary("n", 0), true),
            (
                r#"{"error":{"type":"x"},"model":"m"}"#,
                Summary { model: Some("m".into()), ..of("x") },
                true,
            ),
            (r#"{"error":"x"}"#, summary("", 0), true),
            ("[1]", summary("", 0), true),
            ("x", summary("", 0), true),
            (r#"{"model":"m"} x"#, summary("m", 0), true),
            ("", summary("", 0), false),
            (r#"{"model":"m","usage":{"input_tokens":3}"#, summary("", 0), false),
            (r#"{"model":"m"#, summary("", 0), false),
        ] {
            assert_eq!(Summary::of_whole_json(body.as_bytes()), (expect, whole), "{body}");
        }
        let torn = b"{\"content\":\"\xff\",\"model\":\"m\",\"usage\":{\"input_tokens\":3}}";
        assert_eq!(Summary::of_json(torn), summary("m", 3), "what is no UTF-8 costs what it costs");
    }
}
