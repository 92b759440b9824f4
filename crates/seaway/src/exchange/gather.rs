//! Answers that are held until they are whole: the client asked for no stream, or it is an error.

use std::collections::HashSet;

use bytes::Bytes;
use http::StatusCode;
use seaway_wire::event::{EventFrame, FromSse, Sink};
use seaway_wire::messages::{
    Fold, FoldError, Summary, UpstreamError as Said, id_of_made, kept_of_list,
};
use seaway_wire::openai::{UpstreamFault, translate_error};
use seaway_wire::responses;
use seaway_wire::stage::{End, Out};
use seaway_wire::{Dialect, chat};

use crate::fault::{Fault, FaultKind};
use crate::memory::{self, Held, Memory};
use crate::store::Keepsake;

/// The largest answer that is held as a whole.
const WHOLE_LIMIT: usize = 256 << 20;
/// The largest error body that is held to be looked at.
const ERROR_LIMIT: usize = 16 << 20;

/// The body that is made of a whole answer.
pub(super) enum Made {
    /// The message itself.
    Message,
    Chat(chat::ChatShape, chat::ChatStamp),
    Responses(Box<responses::ResponsesShape>, responses::ResponsesStamp),
    /// A count of tokens, told in Responses.
    Count,
    /// A description of what was made at the upstream, told as it came.
    Created,
    /// A list, of which the client is told these.
    Listed(HashSet<String>),
    /// No body: the answer is of another kind than the request.
    Nothing(Fault),
    /// An error, told as it came, or in place of what is not JSON.
    Error(ErrorInstead),
    /// An error, told in OpenAI's shape. `waits`: it says when to come again; `own_key`: it is the client's key that was used.
    Translated {
        status: StatusCode,
        waits: bool,
        own_key: bool,
    },
}

/// An answer that waits for the store.
#[derive(Default)]
enum UntilKept {
    #[default]
    Nothing,
    Response(String),
    Made(Bytes),
}

/// What is told in place of an error that is not JSON.
pub(super) struct ErrorInstead {
    pub(super) status: StatusCode,
    pub(super) dialect: Dialect,
    pub(super) request_id: String,
    /// Nobody encoded it, so that it can be looked at.
    pub(super) legible: bool,
}

/// Why there is no answer.
pub(super) enum Refusal {
    /// The upstream said it; this is the client's dialect for it.
    Said {
        status: StatusCode,
        body: Bytes,
    },
    Fault(Fault),
}

impl From<UpstreamFault> for Refusal {
    fn from(fault: UpstreamFault) -> Self {
        Self::Said {
            status: StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY),
            body: fault.body.into(),
        }
    }
}

impl Refusal {
    fn bad(why: impl ToString) -> Self {
        Self::Fault(Fault::new(FaultKind::BadReply, why.to_string()))
    }
}

enum Collected {
    Body(Vec<u8>),
    /// Of a message that comes in events.
    Events(Box<FromSse<Fold>>),
}

/// A machine that frames go into, and that speaks when all of them are there.
pub(super) struct Gather {
    held: Collected,
    /// The memory that it may take, and what it takes.
    memory: Option<(Memory, Held)>,
    starved: bool,
    size: usize,
    made: Made,
    /// The status of an error.
    refused: Option<StatusCode>,
    summary: Summary,
    refusal: Option<Refusal>,
    /// To be kept before the client is told `answer`.
    kept: Option<Keepsake>,
    answer: UntilKept,
}

impl Gather {
    pub(super) fn body(made: Made) -> Self {
        Self::with(Collected::Body(Vec::new()), made)
    }

    pub(super) fn events(made: Made) -> Self {
        Self::with(Collected::Events(Box::default()), made)
    }

    fn with(held: Collected, made: Made) -> Self {
        Self {
            held,
            memory: None,
            starved: false,
            size: 0,
            refused: match &made {
                Made::Error(instead) => Some(instead.status),
                Made::Translated { status, .. } => Some(*status),
                _ => None,
            },
            made,
            summary: Summary::default(),
            refusal: None,
            kept: None,
            answer: UntilKept::Nothing,
        }
    }

    /// Counts the held bytes against a budget.
    pub(super) fn within(&mut self, memory: Memory) {
        // What was made is there, so that its client has to be told; it is a short description.
        if !matches!(self.made, Made::Created) {
            self.memory = Some((memory, Held::default()));
        }
    }

    /// Makes room for so many bytes more; false where there is none.
    fn grow(&mut self, more: usize) -> bool {
        self.size += more;
        if let Some((memory, held)) = &mut self.memory {
            self.starved |= !memory.try_hold(held, self.size);
        }
        !self.is_too_long()
    }

    pub(super) fn push(&mut self, frame: &[u8]) {
        if !self.grow(frame.len()) {
            return;
        }
        match &mut self.held {
            Collected::Body(held) => held.extend_from_slice(frame),
            Collected::Events(fold) => fold.push(frame),
        }
    }

    /// Takes an event that came without a frame.
    pub(super) fn push_event(&mut self, event: &EventFrame) {
        if matches!(self.held, Collected::Body(_)) {
            return self.push(&event.to_sse());
        }
        if !self.grow(event.event().data.len()) {
            return;
        }
        if let Collected::Events(fold) = &mut self.held {
            fold.push_event(event);
        }
    }

    const fn limit(&self) -> usize {
        if self.is_error() { ERROR_LIMIT } else { WHOLE_LIMIT }
    }

    pub(super) const fn is_error(&self) -> bool {
        self.refused.is_some()
    }

    /// True once no further frame changes the answer.
    pub(super) fn is_settled(&self) -> bool {
        matches!(&self.held, Collected::Events(fold) if fold.sink().is_over())
    }

    /// True for an answer above the limits.
    pub(super) fn is_too_long(&self) -> bool {
        self.size > self.limit() || self.starved
    }

    pub(super) fn summary(&self) -> &Summary {
        match &self.held {
            Collected::Events(fold) => fold.sink().summary(),
            Collected::Body(_) => &self.summary,
        }
    }

    pub(super) const fn has_refused(&self) -> bool {
        self.refusal.is_some()
    }

    pub(super) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    pub(super) fn take_kept(&mut self) -> Option<Keepsake> {
        self.kept.take()
    }

    /// Tells the answer that was to be kept, and whether it is.
    pub(super) fn settle(&mut self, kept: bool, out: &mut Out) {
        match std::mem::take(&mut self.answer) {
            UntilKept::Nothing => {}
            UntilKept::Response(answer) if kept => out.push_back(answer.into()),
            UntilKept::Response(answer) => out.push_back(responses::unkept(&answer).into()),
            // The file or batch is there, whoever knows where.
            UntilKept::Made(answer) => out.push_back(answer),
        }
    }

    /// Tells the answer, or has a reason why there is none; false where it was cut off.
    pub(super) fn finish(&mut self, end: End, out: &mut Out) -> bool {
        if self.starved {
            self.refusal = Some(Refusal::Fault(memory::no_answer()));
            return true;
        }
        if self.is_too_long() {
            let what = self.refused.map_or_else(
                || "answer".to_owned(),
                |status| format!("error (status {})", status.as_u16()),
            );
            let limit = self.limit();
            self.refusal =
                Some(Refusal::bad(format!("the upstream's {what} is larger than {limit} bytes")));
            return true;
        }
        if end == End::Broken && !self.is_settled() {
            return false;
        }
        match self.whole().and_then(|body| self.make(body)) {
            Ok(Some(answer)) => out.push_back(answer),
            // The answer waits for the store.
            Ok(None) => {}
            Err(refusal) => self.refusal = Some(refusal),
        }
        true
    }

    /// The body of the whole answer, however it came.
    fn whole(&mut self) -> Result<Bytes, Refusal> {
        match std::mem::replace(&mut self.held, Collected::Body(Vec::new())) {
            Collected::Events(fold) => {
                self.summary = fold.sink().summary().clone();
                match fold.into_sink().finish() {
                    Ok(folded) => Ok(folded.body.into()),
                    Err(FoldError::Upstream { status, body })
                        if matches!(self.made, Made::Message) =>
                    {
                        Err(Refusal::Said {
                            status: StatusCode::from_u16(status)
                                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                            body: body.into(),
                        })
                    }
                    Err(FoldError::Upstream { status, body }) => {
                        Err(translate_error(status, body.as_bytes(), true, false).into())
                    }
                    Err(error) => Err(Refusal::bad(error)),
                }
            }
            // Whatever it says of itself, its client reads it as it came.
            Collected::Body(body) if matches!(self.made, Made::Created | Made::Listed(_)) => {
                Ok(body.into())
            }
            Collected::Body(body) if self.is_error() => {
                self.summary = Summary { error: Said::parse(&body), ..Summary::default() };
                Ok(body.into())
            }
            Collected::Body(body) => {
                self.summary = Summary::of_json(&body);
                match &self.summary.error {
                    // An error that calls itself a success.
                    Some(_) => Err(translate_error(502, &body, false, false).into()),
                    None => Ok(body.into()),
                }
            }
        }
    }

    /// Makes of it what the client is told; `None` where that waits until it is kept.
    fn make(&mut self, body: Bytes) -> Result<Option<Bytes>, Refusal> {
        let told = match std::mem::replace(&mut self.made, Made::Message) {
            Made::Message => return Ok(Some(body)),
            Made::Chat(shape, stamp) => chat::completion(&body, &shape, &stamp),
            Made::Responses(shape, stamp) => match responses::response(&body, *shape, stamp) {
                Ok((answer, Some(kept))) => {
                    (self.answer, self.kept) =
                        (UntilKept::Response(answer), Some(Keepsake::Response(kept)));
                    return Ok(None);
                }
                told => told.map(|(answer, _)| answer),
            },
            Made::Count => responses::counted(&body),
            Made::Created => {
                let Some(id) = id_of_made(&body) else { return Ok(Some(body)) };
                (self.answer, self.kept) = (UntilKept::Made(body), Some(Keepsake::Made(id)));
                return Ok(None);
            }
            Made::Listed(own) => {
                let kept = kept_of_list(&body, |id| own.contains(id));
                let kept = kept.ok_or_else(|| Refusal::bad("the upstream's list is none"))?;
                return Ok(Some(kept.into()));
            }
            Made::Nothing(fault) => return Err(Refusal::Fault(fault)),
            Made::Error(instead) => return instead.of(body).map(Some),
            Made::Translated { status, waits, own_key } => {
                return Err(translate_error(status.as_u16(), &body, waits, own_key).into());
            }
        };
        told.map(|answer| Some(answer.into())).map_err(Refusal::bad)
    }
}

impl ErrorInstead {
    /// An error that the upstream answered goes on as it came; what is not JSON becomes so.
    fn of(self, body: Bytes) -> Result<Bytes, Refusal> {
        if !self.legible || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
            return Ok(body);
        }
        let kind = match self.status.as_u16() {
            401 => FaultKind::Unauthenticated,
            403 => FaultKind::Forbidden,
            404 => FaultKind::NotFound,
            413 => FaultKind::TooLarge,
            429 => FaultKind::RateLimited,
            529 => FaultKind::Overloaded,
            504 => FaultKind::TimedOut,
            400..=499 => FaultKind::InvalidRequest,
            _ => FaultKind::BadReply,
        };
        let message = format!(
            "the upstream answered with status {} and a body that is not JSON; is something between us and it?",
            self.status.as_u16()
        );
        Err(Refusal::Said {
            status: self.status,
            body: Fault::new(kind, message).body(self.dialect, &self.request_id).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"content\":[],\"usage\":{\"input_tokens\":9}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    const ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    const SAID: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slower"}}"#;

    /// Gathers `source` in pieces of every size; the answer, or the status and text of why there is none, must not depend on it.
    #[track_caller]
    fn check(gather: fn() -> Gather, source: &str, end: End, expect: Result<&str, (u16, &str)>) {
        for size in 1..=source.len().max(1) {
            let (mut gather, mut out) = (gather(), Out::new());
            for piece in source.as_bytes().chunks(size) {
                gather.push(piece);
            }
            let whole = gather.finish(end, &mut out);
            let told: Vec<u8> = out.into_iter().flatten().collect();
            let told = match gather.take_refusal() {
                None if whole => Ok(String::from_utf8(told).unwrap()),
                None => Err((0, String::new())),
                Some(Refusal::Said { status, body }) => {
                    Err((status.as_u16(), String::from_utf8(body.to_vec()).unwrap()))
                }
                Some(Refusal::Fault(fault)) => {
                    Err((fault.status(Dialect::Messages), fault.message.to_string()))
                }
            };
            match (&told, expect) {
                (Ok(told), Ok(expect)) => assert_eq!(told, expect, "in pieces of {size} bytes"),
                (Err((status, told)), Err((expect, part))) => {
                    assert!(
                        *status == expect && told.contains(part),
                        "in pieces of {size} bytes: {status} {told}"
                    );
                }
                _ => panic!("in pieces of {size} bytes: {told:?}"),
            }
        }
    }

    fn error(status: u16, legible: bool) -> Gather {
        let status = StatusCode::from_u16(status).unwrap();
        Gather::body(Made::Error(ErrorInstead {
            status,
            dialect: Dialect::Messages,
            request_id: "req_1".into(),
            legible,
        }))
    }

    fn translated() -> Gather {
        Gather::body(Made::Translated {
            status: StatusCode::TOO_MANY_REQUESTS,
            waits: true,
            own_key: false,
        })
    }

    #[test]
    fn a_message_is_made_of_its_events() {
        let message = r#"{"id":"m","type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":9}}"#;
        let events = || Gather::events(Made::Message);
        check(events, EVENTS, End::Complete, Ok(message));
        check(events, EVENTS, End::Broken, Ok(message));
        check(
            events,
            &EVENTS[..EVENTS.len() - 60],
            End::Complete,
            Err((502, "ended before its answer did")),
        );
        check(events, &EVENTS[..EVENTS.len() - 60], End::Broken, Err((0, "")));
        check(events, ERROR, End::Complete, Err((529, "overloaded_error")));
        check(|| Gather::events(Made::Count), ERROR, End::Complete, Err((503, "\"server_error\"")));
    }

    #[test]
    fn a_body_is_told_when_it_is_whole() {
        let count = || Gather::body(Made::Count);
        check(
            count,
            r#"{"input_tokens":7}"#,
            End::Complete,
            Ok(r#"{"object":"response.input_tokens","input_tokens":7}"#),
        );
        check(count, r#"{"input_tokens":7}"#, End::Broken, Err((0, "")));
        check(count, "<html>", End::Complete, Err((502, "expected value")));
        check(count, "", End::Complete, Err((502, "EOF")));
        check(count, SAID, End::Complete, Err((502, "slower")));
        let nothing = || Gather::body(Made::Nothing(Fault::new(FaultKind::BadReply, "no stream")));
        check(nothing, r#"{"input_tokens":7}"#, End::Complete, Err((502, "no stream")));
        check(nothing, SAID, End::Complete, Err((502, "slower")));
    }

    #[test]
    fn an_error_goes_on_as_it_came_or_becomes_json() {
        check(|| error(429, true), SAID, End::Complete, Ok(SAID));
        check(|| error(429, true), SAID, End::Broken, Err((0, "")));
        check(|| error(502, true), "<html>bad</html>", End::Complete, Err((502, "not JSON")));
        check(|| error(503, true), "", End::Complete, Err((503, "req_1")));
        check(|| error(503, false), "\u{1f}encoded", End::Complete, Ok("\u{1f}encoded"));
        check(translated, SAID, End::Complete, Err((429, "\"rate_limit_exceeded\"")));
    }

    #[test]
    fn more_than_is_held_is_no_answer() {
        let mut gather = error(500, true);
        gather.push(&vec![b' '; ERROR_LIMIT]);
        assert!(!gather.is_too_long());
        gather.push(b" ");
        assert!(gather.is_too_long() && gather.finish(End::Complete, &mut Out::new()));
        assert!(
            matches!(gather.take_refusal(), Some(Refusal::Fault(fault)) if fault.message.contains("larger than"))
        );
    }

    #[test]
    fn a_response_that_is_to_be_kept_waits_for_it() {
        let shape = responses::ResponsesShape::default;
        let stamp = || responses::ResponsesStamp { id: "1".into(), created: 5, clock: || 6 };
        let message = br#"{"type":"message","id":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
        for kept in [true, false] {
            let (mut gather, mut out) =
                (Gather::body(Made::Responses(Box::new(shape()), stamp())), Out::new());
            gather.push(message);
            assert!(gather.finish(End::Complete, &mut out));
            assert!(out.is_empty() && gather.take_kept().is_some() && gather.take_kept().is_none());
            gather.settle(kept, &mut out);
            let told: serde_json::Value = serde_json::from_slice(&out[0]).unwrap();
            assert_eq!((&told["status"], told["store"] == false), (&"completed".into(), !kept));
        }
    }
}
