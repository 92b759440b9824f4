//! Newline-delimited JSON, as a child writes it into its pipe.
//!
//! Lines end with LF or CRLF, empty ones are skipped, and what the pipe's end cuts off is
//! no line.

use bytes::{Bytes, BytesMut};

/// A line is longer than the decoder was told to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub struct LineTooLong {
    /// In bytes.
    pub limit: usize,
}

/// Cuts a byte stream into lines. What came and was not pulled yet stays.
#[derive(Debug)]
pub struct LineDecoder {
    limit: usize,
    buffer: BytesMut,
    /// So far there is no line's end.
    looked: usize,
}

impl LineDecoder {
    /// Makes a decoder that refuses lines of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new(), looked: 0 }
    }

    /// Where the next frame, cut wherever the pipe cut it, is to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns the next line, or `None` until more has come.
    ///
    /// # Errors
    ///
    /// [`LineTooLong`] once a line outgrows the limit; the stream cannot be read further.
    pub fn pull(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.looked..]) else {
                self.looked = self.buffer.len();
                return if self.looked > self.limit {
                    Err(LineTooLong { limit: self.limit })
                } else {
                    Ok(None)
                };
            };
            let end = self.looked + found;
            self.looked = 0;
            if end > self.limit {
                return Err(LineTooLong { limit: self.limit });
            }
            let mut line = self.buffer.split_to(end + 1);
            let length = line.strip_suffix(b"\r\n").map_or(end, <[u8]>::len);
            line.truncate(length);
            if !line.is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `source` in pieces of every size; the lines must not depend on it.
    #[track_caller]
    fn check(source: &str, expect: &[&str]) {
        for size in 1..=source.len() {
            let mut decoder = LineDecoder::with_limit(1 << 16);
            let mut seen = Vec::new();
            for piece in source.as_bytes().chunks(size) {
                decoder.buffer().extend_from_slice(piece);
                while let Some(line) = decoder.pull().unwrap() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(seen, expect, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn lines_end_where_they_say() {
        check(
            "{\"a\":1}\n{\"b\":\"ü🌊\"}\r\n\n\r\n[2]\nrest",
            &["{\"a\":1}", "{\"b\":\"ü🌊\"}", "[2]"],
        );
    }

    #[test]
    fn a_line_over_the_limit_is_refused() {
        for piece in ["0123456789\n", "0123456789"] {
            let mut decoder = LineDecoder::with_limit(8);
            decoder.buffer().extend_from_slice(piece.as_bytes());
            assert_eq!(decoder.pull(), Err(LineTooLong { limit: 8 }), "{piece:?}");
        }
    }
}
