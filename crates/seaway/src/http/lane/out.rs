//! What waits to be written to a client: heads and the lines around chunks in one buffer, frames as they are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, StatusCode};
use seaway_http1::{Framing, write};

/// Pieces in their order, of which none is copied but what is made here.
#[derive(Debug, Default)]
pub(super) struct Out {
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

impl Out {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.made.clear();
        (self.at, self.length) = (0, 0);
    }

    pub(super) fn head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        framing: Framing,
        closes: bool,
    ) {
        self.make(|out| {
            with_date(|date| write::response_head(out, status, headers, framing, date, closes));
        });
    }

    pub(super) fn data(&mut self, data: Bytes) {
        self.length += data.len();
        self.pieces.push_back(Piece::Frame(data));
    }

    pub(super) fn in_chunk(&mut self, data: Bytes) {
        self.make(|out| write::chunk_head(out, data.len()));
        self.data(data);
        self.make(|out| out.extend_from_slice(write::CHUNK_END));
    }

    pub(super) fn last_chunk(&mut self) {
        self.make(|out| out.extend_from_slice(write::LAST_CHUNK));
    }

    /// Writes something of our own behind what there is.
    fn make(&mut self, with: impl FnOnce(&mut Vec<u8>)) {
        let before = self.made.len();
        with(&mut self.made);
        let length = self.made.len() - before;
        self.length += length;
        match self.pieces.back_mut() {
            Some(Piece::Made(made)) => *made += length,
            _ => self.pieces.push_back(Piece::Made(length)),
        }
    }
}

impl Buf for Out {
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
                return;
            }
            self.pieces.pop_front();
        }
        self.made.clear();
        self.at = 0;
    }
}

/// The time as heads say it, made once a second on each thread.
fn with_date(with: impl FnOnce(&HeaderValue)) {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    DATE.with_borrow_mut(|(second, date)| {
        if *second != now {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            (*second, *date) = (now, HeaderValue::try_from(text).unwrap_or_else(|_| date.clone()));
        }
        with(date);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many bytes at a time until nothing is left.
    fn written(out: &mut Out, step: usize) -> String {
        let mut all = Vec::new();
        while out.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = out.chunks_vectored(&mut slices);
            let here: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            assert!(here.starts_with(&out.chunk()[..out.chunk().len().min(here.len())]));
            out.advance(here.len());
            all.extend(here);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn pieces_leave_in_their_order_however_much_is_taken() {
        for step in 1..40 {
            let mut out = Out::default();
            for _ in 0..2 {
                out.make(|made| made.extend_from_slice(b"head|"));
                out.in_chunk(Bytes::from_static(b"first"));
                out.in_chunk(Bytes::from_static(b"second"));
                out.last_chunk();
                out.data(Bytes::from_static(b"tail"));
                let expect = "head|5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\ntail";
                assert_eq!((out.len(), written(&mut out, step).as_str()), (expect.len(), expect));
                assert!(out.is_empty() && out.made.is_empty());
            }
        }
    }

    #[test]
    fn the_date_is_that_of_now() {
        let before = SystemTime::now() - Duration::from_secs(1);
        with_date(|date| {
            let said = httpdate::parse_http_date(date.to_str().unwrap()).unwrap();
            assert!(said >= before && said <= SystemTime::now());
        });
    }
}
