//! How events are written: numbered, without an allocation each.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

/// Events that were written and are not on their way yet.
#[derive(Debug, Default)]
pub(super) struct EventWriter {
    sequence: u64,
    pub(super) out: BytesMut,
}

impl EventWriter {
    /// An event about the response.
    pub(super) fn whole(&mut self, kind: &str, object: &str) {
        self.begin(kind);
        self.end(&[",\"response\":", object]);
    }

    /// An event about an item.
    pub(super) fn item(&mut self, kind: &str, index: usize, item: &str) {
        self.begin(kind);
        self.number(",\"output_index\":", index as u64);
        self.end(&[",\"item\":", item]);
    }

    /// An event about a part of an item, in a message the part of that index. `pieces` are its further members.
    pub(super) fn part(
        &mut self,
        kind: &str,
        id: &str,
        index: usize,
        content: Option<usize>,
        pieces: &[&str],
    ) {
        self.begin(kind);
        self.put(&[",\"item_id\":\"", id, "\""]);
        self.number(",\"output_index\":", index as u64);
        if let Some(content) = content {
            self.number(",\"content_index\":", content as u64);
        }
        self.end(pieces);
    }

    fn begin(&mut self, kind: &str) {
        self.put(&["event: ", kind, "\ndata: {\"type\":\"", kind, "\""]);
        self.number(",\"sequence_number\":", self.sequence);
        self.sequence += 1;
    }

    fn end(&mut self, pieces: &[&str]) {
        self.put(pieces);
        self.put(&["}\n\n"]);
    }

    fn put(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.out.put_slice(piece.as_bytes());
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        // A buffer in memory takes what is written.
        let _ = write!(self.out, "{key}{number}");
    }
}
