//! How chunks are written.

use bytes::{BufMut, BytesMut};

use super::{ChatStamp, service_tier};
use crate::Usage;
use crate::json::push_quoted;
use crate::openai::usage;

/// The end of a stream that was earned.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What all chunks of one answer have in common, written once.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Up to the choices.
    head: String,
    /// Behind the choices of every chunk but the last.
    tail: &'static str,
    include_usage: bool,
}

impl Chunks {
    pub(super) fn new(
        stamp: &ChatStamp,
        id: Option<&str>,
        model: &str,
        tier: Option<&str>,
        include_usage: bool,
    ) -> Self {
        let mut head = String::from("data: {\"id\":");
        push_quoted(&mut head, &format!("chatcmpl-{}", id.unwrap_or(&stamp.id)));
        head.push_str(&format!(
            ",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":",
            stamp.created
        ));
        push_quoted(&mut head, model);
        if let Some(tier) = tier {
            head.push_str(",\"service_tier\":");
            push_quoted(&mut head, service_tier(tier));
        }
        head.push_str(",\"system_fingerprint\":null,\"choices\":[");
        Self {
            head,
            tail: if include_usage { "],\"usage\":null}\n\n" } else { "]}\n\n" },
            include_usage,
        }
    }

    /// Writes a chunk whose delta is made of these pieces of JSON.
    pub(super) fn delta(&self, out: &mut BytesMut, pieces: &[&str]) {
        self.choice(out, pieces, None);
    }

    fn choice(&self, out: &mut BytesMut, delta: &[&str], finish: Option<&str>) {
        const BEHIND: &str = ",\"logprobs\":null,\"finish_reason\":";
        out.reserve(self.head.len() + delta.iter().map(|piece| piece.len()).sum::<usize>() + 128);
        out.put_slice(self.head.as_bytes());
        out.put_slice(b"{\"index\":0,\"delta\":");
        for piece in delta {
            out.put_slice(piece.as_bytes());
        }
        out.put_slice(BEHIND.as_bytes());
        match finish {
            Some(reason) => {
                out.put_slice(b"\"");
                out.put_slice(reason.as_bytes());
                out.put_slice(b"\"}");
            }
            None => out.put_slice(b"null}"),
        }
        out.put_slice(self.tail.as_bytes());
    }

    /// Writes the chunk with the finish reason, the usage if it was asked for, and the end.
    pub(super) fn finish(&self, out: &mut BytesMut, reason: &str, spent: &Usage) {
        self.choice(out, &["{}"], Some(reason));
        if self.include_usage {
            let mut counts = String::new();
            usage::write(&mut counts, spent);
            out.put_slice(self.head.as_bytes());
            out.put_slice(b"],\"usage\":");
            out.put_slice(counts.as_bytes());
            out.put_slice(b"}\n\n");
        }
        out.put_slice(DONE);
    }
}

/// Writes an error, which ends a stream without its end mark.
pub(super) fn error(out: &mut BytesMut, body: &str) {
    out.put_slice(b"data: ");
    out.put_slice(body.as_bytes());
    out.put_slice(b"\n\n");
}
