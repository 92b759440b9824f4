//! How an answer reaches the client: relayed, or in another dialect. A closed set.

use bytes::Bytes;
use seaway_wire::chat;
use seaway_wire::messages::{self, Summary};
use seaway_wire::stage::{End, Out, Relay, Stage};

/// A stage that has read the answer, whichever it is, so that it can say what it cost.
pub enum Egress {
    Messages(Relay<messages::Meter>),
    /// A Chat client at an upstream that speaks Chat itself.
    ChatRelay(Relay<chat::Meter>),
    Chat(Box<chat::Stream>),
}

impl Egress {
    pub fn push(&mut self, frame: Bytes, out: &mut Out) {
        match self {
            Self::Messages(relay) => relay.push(frame, out),
            Self::ChatRelay(relay) => relay.push(frame, out),
            Self::Chat(stream) => stream.push(frame, out),
        }
    }

    /// Told once that nothing more will come, and why if that was not the upstream's doing.
    pub fn finish(&mut self, end: End, why: Option<&str>, out: &mut Out) -> bool {
        match self {
            Self::Messages(relay) => relay.finish(end, out),
            Self::ChatRelay(relay) => relay.finish(end, out),
            Self::Chat(stream) => {
                if let Some(why) = why {
                    stream.cut(why, out);
                }
                stream.finish(end, out)
            }
        }
    }

    #[must_use]
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Messages(relay) => relay.tap().summary(),
            Self::ChatRelay(relay) => relay.tap().summary(),
            Self::Chat(stream) => stream.summary(),
        }
    }

    /// True where something of our own may be written.
    #[must_use]
    pub fn between_events(&self) -> bool {
        match self {
            Self::Messages(relay) => relay.tap().between_events(),
            Self::ChatRelay(relay) => relay.tap().between_events(),
            Self::Chat(stream) => !stream.is_over(),
        }
    }

    /// What is written into a long silence.
    #[must_use]
    pub const fn sign_of_life(&self) -> &'static [u8] {
        match self {
            Self::Messages(_) => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
            Self::ChatRelay(_) | Self::Chat(_) => b": keep-alive\n\n",
        }
    }

    /// True if what goes out is not as long as what comes in.
    #[must_use]
    pub const fn changes_length(&self) -> bool {
        match self {
            Self::Messages(_) | Self::ChatRelay(_) => false,
            Self::Chat(_) => true,
        }
    }

    /// True if the client has been told in its own dialect that the answer is not whole, so
    /// that the transfer itself can end in order.
    #[must_use]
    pub fn has_told(&self) -> bool {
        match self {
            Self::Messages(_) | Self::ChatRelay(_) => false,
            Self::Chat(stream) => stream.failure().is_some(),
        }
    }
}
