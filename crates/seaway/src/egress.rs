//! How an answer reaches the client: relayed, or in another dialect. A closed set.

use bytes::Bytes;
use seaway_wire::messages::Summary;
use seaway_wire::openai::UpstreamFault;
use seaway_wire::responses::{self, Kept};
use seaway_wire::stage::{End, Out, Relay, Stage};
use seaway_wire::{Dialect, Fault, Meter, chat};

/// A stage that has read the answer, whichever it is, so that it can say what it cost.
pub enum Egress {
    Relay(Relay<Meter>),
    /// From Messages into Chat.
    Chat(Box<chat::Stream>),
    /// From Messages into Responses.
    Responses(Box<responses::Stream>),
}

impl Egress {
    pub fn push(&mut self, frame: Bytes, out: &mut Out) {
        match self {
            Self::Relay(relay) => relay.push(frame, out),
            Self::Chat(stream) => stream.push(frame, out),
            Self::Responses(stream) => stream.push(frame, out),
        }
    }

    /// Told once that nothing more will come, and why if that was not the upstream's doing.
    pub fn finish(&mut self, end: End, why: Option<&Fault>, out: &mut Out) -> bool {
        match self {
            Self::Relay(relay) => relay.finish(end, out),
            Self::Chat(stream) => {
                if let Some(why) = why {
                    stream.cut(why, out);
                }
                stream.finish(end, out)
            }
            Self::Responses(stream) => {
                if let Some(why) = why {
                    stream.cut(why, out);
                }
                stream.finish(end, out)
            }
        }
    }

    /// Why there is no whole answer, if the client can be told so in its own dialect.
    #[must_use]
    pub fn failure(&self) -> Option<&UpstreamFault> {
        match self {
            Self::Relay(_) => None,
            Self::Chat(stream) => stream.failure(),
            Self::Responses(stream) => stream.failure(),
        }
    }

    /// What is to be kept of the answer, once it is whole. Told once.
    pub fn take_kept(&mut self) -> Option<Kept> {
        match self {
            Self::Relay(_) | Self::Chat(_) => None,
            Self::Responses(stream) => stream.take_kept(),
        }
    }

    /// Writes the end of an answer that was to be kept, which says whether it is.
    pub fn settle(&mut self, kept: bool, out: &mut Out) {
        match self {
            Self::Relay(_) | Self::Chat(_) => {}
            Self::Responses(stream) => stream.settle(kept, out),
        }
    }

    #[must_use]
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Relay(relay) => relay.tap().summary(),
            Self::Chat(stream) => stream.summary(),
            Self::Responses(stream) => stream.summary(),
        }
    }

    /// True where something of our own may be written.
    #[must_use]
    pub fn between_events(&self) -> bool {
        match self {
            Self::Relay(relay) => relay.tap().between_events(),
            Self::Chat(stream) => !stream.is_over(),
            Self::Responses(stream) => !stream.is_over(),
        }
    }

    /// What is written into a long silence.
    #[must_use]
    pub fn sign_of_life(&self) -> &'static [u8] {
        match self {
            Self::Relay(relay) if relay.tap().dialect() == Dialect::Messages => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
            Self::Relay(_) | Self::Chat(_) | Self::Responses(_) => b": keep-alive\n\n",
        }
    }

    /// True if what goes out is not as long as what comes in.
    #[must_use]
    pub const fn changes_length(&self) -> bool {
        match self {
            Self::Relay(_) => false,
            Self::Chat(_) | Self::Responses(_) => true,
        }
    }

    /// True if the client has been told in its own dialect that the answer is not whole, so
    /// that the transfer itself can end in order.
    #[must_use]
    pub fn has_told(&self) -> bool {
        self.failure().is_some()
    }
}
