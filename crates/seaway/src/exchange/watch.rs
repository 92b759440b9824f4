//! Watching an exchange: the four places at which all of it can be seen.
//!
//! What its client asked, what an upstream is asked for it, what that answers, and what the client is told. Whoever
//! wants to see more of it (a budget, a recording) is told here, and nowhere else.

use bytes::Bytes;

use crate::ledger::Entry;
use crate::record::Carried;
use crate::upstream::{Payload, ReplyFrame};

/// An exchange as it is seen, for its record.
pub(super) struct ExchangeWatch {
    pub(super) entry: Entry,
    client_body: Bytes,
    /// Of the last request, where it is sent as bytes.
    upstream_body: Option<Bytes>,
    /// How much of the answer came, in bytes.
    heard: u64,
    /// How much the client was told, in bytes.
    told: u64,
}

impl Drop for ExchangeWatch {
    fn drop(&mut self) {
        // It is held until an upstream has answered.
        if !self.client_body.is_empty() {
            self.entry.asked(&self.client_body);
        }
    }
}

impl ExchangeWatch {
    /// Begins with the first place: what the client asked. Empty where that is sent on as it comes.
    pub(super) fn client_body(entry: Entry, body: &Bytes) -> Self {
        Self { entry, client_body: body.clone(), upstream_body: None, heard: 0, told: 0 }
    }

    /// The second place: what an upstream is about to be asked. `as_bytes`: it is these bytes that go there.
    pub(super) fn upstream_request(&mut self, payload: &Payload, as_bytes: bool) {
        self.upstream_body = match payload {
            Payload::Whole(body) if as_bytes => Some(body.clone()),
            Payload::Whole(_) | Payload::Streamed(_) => None,
        };
    }

    /// Compares what came with what went, while the upstream thinks. What went on as it came is known by its place, and
    /// hashed only where `always` is said.
    pub(super) fn compare(&mut self, always: bool) {
        let went = self.upstream_body.take().filter(|_| !self.client_body.is_empty());
        self.entry.carried(went.map_or(Carried::Unseen, |went| {
            let came = &self.client_body;
            let same = went.as_ptr() == came.as_ptr() && went.len() == came.len();
            match same {
                true if !always => Carried::AsItCame(None),
                true => Carried::AsItCame(Some(blake3::hash(came))),
                false => Carried::of(blake3::hash(came), blake3::hash(&went)),
            }
        }));
    }

    /// An upstream has answered: what it was asked need not be held any longer.
    pub(super) fn answered(&mut self) {
        (self.client_body, self.upstream_body) = (Bytes::new(), None);
    }

    /// The third place: a piece of the upstream's answer, before anything is made of it.
    pub(super) fn upstream_frame(&mut self, frame: &ReplyFrame) {
        self.heard += frame.size() as u64;
        self.entry.heard();
    }

    /// The fourth place: a piece of what the client is told, as it leaves.
    pub(super) fn client_frame(&mut self, frame: &Bytes) {
        self.told += frame.len() as u64;
    }

    /// Tells the log that the client did not wait for the end.
    pub(super) fn left(&self) {
        let (id, heard, told) = (self.entry.request_id(), self.heard, self.told);
        tracing::debug!(id, heard, told, "the client left before its answer ended");
    }
}
