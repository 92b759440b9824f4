//! What waits to be written: heads and the lines around chunks in one buffer, frames as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::write;

/// So much is taken before it is written, in bytes and in pieces: as much as goes out in one call.
const ROOM: (usize, usize) = (64 << 10, 64);
/// What was made and is written is let go in portions of so many bytes.
const LET_GO: usize = 4 << 10;

/// Makes room for a read of so many bytes where less than a good part of it is left: a frame that waits for a slow client
/// keeps the buffer that it lies in, and many should share one.
pub fn make_room(buffer: &mut BytesMut, read: usize) {
    if buffer.capacity() - buffer.len() < read / 4 {
        buffer.reserve(read);
    }
}

/// Pieces in their order, of which none is copied but what is made here.
#[derive(Debug, Default)]
pub struct WriteQueue {
    pieces: VecDeque<Piece>,
    /// What is made here; before `at` it is written.
    made: Vec<u8>,
    at: usize,
    length: usize,
}

#[derive(Debug)]
enum Piece {
    /// So many bytes of what is made here.
    Made(usize),
    Frame(Bytes),
}

impl WriteQueue {
    /// True if more should be taken before this is written.
    pub fn has_room(&self) -> bool {
        self.length < ROOM.0 && self.pieces.len() < ROOM.1
    }

    /// Takes bytes as they are.
    pub fn data(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.length += data.len();
        self.pieces.push_back(Piece::Frame(data));
    }

    /// The same in a chunk of their own. None is made for nothing: it would be the last.
    pub fn in_chunk(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.make(|out| write::chunk_head(out, data.len()));
        self.data(data);
        self.make(|out| out.extend_from_slice(write::CHUNK_END));
    }

    /// Ends a body in chunks.
    pub fn last_chunk(&mut self) {
        self.make(|out| out.extend_from_slice(write::LAST_CHUNK));
    }

    /// Writes something of our own behind what there is.
    pub fn make(&mut self, with: impl FnOnce(&mut Vec<u8>)) {
        let before = self.made.len();
        with(&mut self.made);
        let length = self.made.len() - before;
        self.length += length;
        match self.pieces.back_mut() {
            _ if length == 0 => {}
            Some(Piece::Made(made)) => *made += length,
            _ => self.pieces.push_back(Piece::Made(length)),
        }
    }
}

impl Buf for WriteQueue {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            Some(Piece::Made(length)) => &self.made[self.at..self.at + length],
            Some(Piece::Frame(frame)) => frame,
            None => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.at;
        let slots = into.iter_mut().zip(&self.pieces).map(|(slot, piece)| {
            *slot = IoSlice::new(match piece {
                Piece::Made(length) => {
                    at += length;
                    &self.made[at - length..at]
                }
                Piece::Frame(frame) => frame,
            });
        });
        slots.count()
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        while let Some(piece) = self.pieces.front_mut() {
            let left = match piece {
                Piece::Made(length) => {
                    let here = count.min(*length);
                    (*length, self.at, count) = (*length - here, self.at + here, count - here);
                    *length
                }
                Piece::Frame(frame) => {
                    let here = count.min(frame.len());
                    frame.advance(here);
                    count -= here;
                    frame.len()
                }
            };
            if left > 0 {
                break;
            }
            self.pieces.pop_front();
        }
        // Where a reader is slow, something is always left.
        if self.pieces.is_empty() || self.at >= LET_GO {
            self.made.drain(..self.at);
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many bytes at a time until no more than `left` are there.
    fn written(queue: &mut WriteQueue, step: usize, left: usize) -> String {
        let mut all = Vec::new();
        while queue.remaining() > left {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = queue.chunks_vectored(&mut slices);
            let step = step.min(queue.remaining() - left);
            let here: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            assert!(here.starts_with(&queue.chunk()[..queue.chunk().len().min(here.len())]));
            queue.advance(here.len());
            all.extend(here);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn pieces_leave_in_their_order_however_much_is_taken() {
        for step in 1..40 {
            let mut queue = WriteQueue::default();
            for _ in 0..2 {
                queue.make(|made| made.extend_from_slice(b"head|"));
                queue.make(|_| {});
                queue.in_chunk(Bytes::from_static(b"first"));
                queue.in_chunk(Bytes::new());
                queue.in_chunk(Bytes::from_static(b"second"));
                queue.last_chunk();
                queue.data(Bytes::new());
                queue.data(Bytes::from_static(b"tail"));
                let expect = "head|5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\ntail";
                assert_eq!(queue.remaining(), expect.len());
                assert_eq!(written(&mut queue, step, 0), expect);
                assert!(!queue.has_remaining() && queue.made.is_empty());
            }
        }
    }

    #[test]
    fn what_was_written_is_let_go_though_something_is_always_left() {
        let mut queue = WriteQueue::default();
        let (mut all, mut expect) = (String::new(), String::new());
        for number in 0..10_000 {
            queue.in_chunk(Bytes::from(format!("frame {number:5}")));
            expect.push_str(&format!("b\r\nframe {number:5}\r\n"));
            all.push_str(&written(&mut queue, 7, 3));
            assert!(queue.made.capacity() <= 4 * LET_GO, "{}", queue.made.capacity());
        }
        all.push_str(&written(&mut queue, 7, 0));
        assert_eq!(all, expect);
    }

    #[test]
    fn there_is_room_up_to_a_point_in_bytes_and_in_pieces() {
        let mut queue = WriteQueue::default();
        queue.data(Bytes::from(vec![b'x'; ROOM.0 - 1]));
        assert!(queue.has_room());
        queue.data(Bytes::from_static(b"x"));
        assert!(!queue.has_room());
        queue.advance(1);
        assert!(queue.has_room());
        let mut queue = WriteQueue::default();
        let taken = std::iter::repeat_with(|| {
            let had = queue.has_room();
            queue.data(Bytes::from_static(b"x"));
            had
        });
        assert_eq!(taken.take_while(|had| *had).count(), ROOM.1);
    }

    #[test]
    fn small_reads_share_a_buffer() {
        let mut buffer = BytesMut::new();
        let mut held = Vec::new();
        let mut at = std::collections::BTreeSet::new();
        for _ in 0..64 {
            make_room(&mut buffer, 8 << 10);
            assert!(buffer.capacity() >= 2 << 10);
            at.insert(buffer.as_ptr().addr() & !((8 << 10) - 1));
            buffer.extend_from_slice(&[b'x'; 100]);
            held.push(buffer.split().freeze());
        }
        assert!(at.len() <= 4, "{} buffers for 6,400 bytes", at.len());
    }
}
