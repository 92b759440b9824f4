//! How an answer reaches the client: relayed, translated, or gathered. A closed set.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use seaway_wire::event::{FromSse, Sink, Translator};
use seaway_wire::messages::Summary;
use seaway_wire::responses;
use seaway_wire::stage::{End, Out};
use seaway_wire::{Dialect, Meter, Relay, chat};

use super::gather::{Gather, Refusal};
use crate::fault::Fault;
use crate::store::Keepsake;
use crate::upstream::ReplyFrame;

/// A stage that has read the answer, whichever it is, so that it can say what it cost.
#[expect(
    clippy::large_enum_variant,
    reason = "the relay, which is the largest, is what most requests need; a box would cost each of them"
)]
pub(super) enum Egress {
    /// As it comes. `at_once`: its head does not wait for a beginning.
    Relay { relay: Relay, at_once: bool },
    /// From Messages into Chat.
    Chat(Box<FromSse<chat::ChatStream>>),
    /// From Messages into Responses.
    Responses(Box<FromSse<responses::ResponsesStream>>),
    /// The whole answer in one piece.
    Gather(Box<Gather>),
}

impl Egress {
    /// For a body that is not looked into.
    pub(super) fn opaque(dialect: Dialect) -> Self {
        Self::Relay { relay: Relay::new(Meter::opaque(dialect)), at_once: true }
    }

    pub(super) fn relay(meter: Meter) -> Self {
        Self::Relay { relay: Relay::new(meter), at_once: false }
    }

    pub(super) fn push(&mut self, frame: ReplyFrame, out: &mut Out) {
        match (self, frame) {
            (Self::Relay { relay, .. }, ReplyFrame::Bytes(bytes)) => relay.push(bytes, out),
            (Self::Relay { relay, .. }, ReplyFrame::Event(event)) => relay.event(&event, out),
            (Self::Chat(stream), ReplyFrame::Bytes(bytes)) => stream.translate(&bytes, out),
            (Self::Chat(stream), ReplyFrame::Event(event)) => stream.translate_event(&event, out),
            (Self::Responses(stream), ReplyFrame::Bytes(bytes)) => stream.translate(&bytes, out),
            (Self::Responses(stream), ReplyFrame::Event(event)) => {
                stream.translate_event(&event, out);
            }
            (Self::Gather(gather), ReplyFrame::Bytes(bytes)) => gather.push(&bytes),
            (Self::Gather(gather), ReplyFrame::Event(event)) => gather.push_event(&event),
        }
    }

    /// Told once that nothing more will come, and why if that was not the upstream's doing. False if the answer is not whole.
    pub(super) fn finish(&mut self, end: End, why: Option<&Fault>, out: &mut Out) -> bool {
        match self {
            // What is to be said of it depends on more than it knows.
            Self::Relay { relay, .. } => relay.finish(end),
            Self::Chat(stream) => {
                if let Some(why) = why {
                    stream.sink_mut().cut(why, out);
                }
                stream.sink_mut().finish(out)
            }
            Self::Responses(stream) => {
                if let Some(why) = why {
                    stream.sink_mut().cut(why, out);
                }
                stream.sink_mut().finish(out)
            }
            Self::Gather(gather) => gather.finish(end, out),
        }
    }

    /// Says that a relayed answer was cut off; a translated one has said it by itself.
    pub(super) fn cut(&mut self, why: &Fault, request_id: &str, out: &mut Out) {
        if let Self::Relay { relay, .. } = self {
            relay.cut(why, request_id, out);
        }
    }

    /// True once the client's head can be decided: by a whole event of a stream, or the first bytes of anything else.
    pub(super) fn has_begun(&self, out: &Out) -> bool {
        match self {
            Self::Relay { relay, at_once } => *at_once || relay.meter().has_begun(),
            Self::Chat(_) | Self::Responses(_) => !out.is_empty(),
            Self::Gather(gather) => gather.has_refused() || !out.is_empty(),
        }
    }

    /// Decides what the upstream's head leaves open.
    pub(super) fn begins(&self, headers: &mut HeaderMap) {
        if matches!(self, Self::Chat(_) | Self::Responses(_)) {
            headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        }
    }

    /// Why there is no whole answer, as far as the head can still say it.
    pub(super) fn take_refusal(&mut self) -> Option<Refusal> {
        match self {
            Self::Relay { .. } => None,
            Self::Chat(stream) => stream.sink().failure().cloned().map(Refusal::from),
            Self::Responses(stream) => stream.sink().failure().cloned().map(Refusal::from),
            Self::Gather(gather) => gather.take_refusal(),
        }
    }

    /// Takes the part of a whole answer that is to be kept.
    pub(super) fn take_kept(&mut self) -> Option<Keepsake> {
        match self {
            Self::Relay { .. } | Self::Chat(_) => None,
            Self::Responses(stream) => stream.sink_mut().take_kept().map(Keepsake::Response),
            Self::Gather(gather) => gather.take_kept(),
        }
    }

    /// Writes the end of an answer that was to be kept, which says whether it is.
    pub(super) fn settle(&mut self, kept: bool, out: &mut Out) {
        match self {
            Self::Relay { .. } | Self::Chat(_) => {}
            Self::Responses(stream) => stream.sink_mut().settle(kept, out),
            Self::Gather(gather) => gather.settle(kept, out),
        }
    }

    pub(super) fn summary(&self) -> &Summary {
        match self {
            Self::Relay { relay, .. } => relay.meter().summary(),
            Self::Chat(stream) => stream.sink().summary(),
            Self::Responses(stream) => stream.sink().summary(),
            Self::Gather(gather) => gather.summary(),
        }
    }

    /// True where an event of the gateway's own fits.
    pub(super) fn between_events(&self) -> bool {
        match self {
            Self::Relay { relay, .. } => relay.meter().between_events(),
            Self::Chat(stream) => !stream.sink().is_over(),
            Self::Responses(stream) => !stream.sink().is_over(),
            Self::Gather(_) => false,
        }
    }

    /// What is written into a long silence.
    pub(super) fn sign_of_life(&self) -> &'static [u8] {
        match self {
            Self::Relay { relay, .. } if relay.meter().dialect() == Dialect::Messages => {
                b"event: ping\ndata: {\"type\": \"ping\"}\n\n"
            }
            Self::Relay { .. } | Self::Chat(_) | Self::Responses(_) | Self::Gather(_) => {
                b": keep-alive\n\n"
            }
        }
    }

    /// What goes with a head that had to leave before the answer began.
    pub(super) fn sign_of_waiting(&self) -> Option<&'static [u8]> {
        match self {
            Self::Relay { .. } | Self::Gather(_) => None,
            Self::Chat(_) | Self::Responses(_) => Some(self.sign_of_life()),
        }
    }

    /// True if the client's body has another length than the upstream's.
    pub(super) const fn changes_length(&self) -> bool {
        match self {
            Self::Relay { .. } => false,
            Self::Chat(_) | Self::Responses(_) | Self::Gather(_) => true,
        }
    }

    /// True if the client is told in words that the answer is not whole, so that the transfer itself can end in order.
    pub(super) fn has_told(&self) -> bool {
        match self {
            Self::Relay { .. } => false,
            Self::Chat(stream) => stream.sink().failure().is_some(),
            Self::Responses(stream) => stream.sink().failure().is_some(),
            Self::Gather(gather) => gather.has_refused(),
        }
    }

    /// True for an error that is told in place of an answer.
    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Gather(gather) if gather.is_error())
    }

    /// True if the answer is whole although the upstream has not ended its body.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Gather(gather) if gather.is_settled())
    }

    /// True if no further frame is of use.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Gather(gather) => gather.is_settled() || gather.is_too_long(),
            Self::Relay { .. } | Self::Chat(_) | Self::Responses(_) => self.has_told(),
        }
    }
}
