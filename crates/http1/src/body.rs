//! Bodies, by length, by chunks, or to the end of the connection.

use bytes::{Buf, Bytes, BytesMut};

/// How a body is told from what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("a chunk's size is no number")]
    Size,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("a line of its chunks does not end with CR and LF")]
    BareLineFeed,
    #[error(
        "what its chunks say of themselves, or what follows them, is longer than {LONGEST_EXTRA} bytes"
    )]
    TooLong,
    #[error("the connection was closed before its end")]
    Unfinished,
}

/// Extensions of chunks and trailers are passed over, up to so many bytes in one body.
const LONGEST_EXTRA: u32 = 16 << 10;
/// Hexadecimal digits of a chunk's size; more could be no length.
const MOST_DIGITS: u8 = 15;

/// Takes a body out of the bytes that come.
///
/// Pieces that came together leave together: chunks are moved up to each other in place, so that an answer's reader is
/// called once for each read, and not for each chunk.
#[derive(Debug)]
pub struct BodyDecoder {
    place: Place,
    extra: u32,
}

/// Where in a body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So much of it is left.
    Length(u64),
    UntilClose,
    /// In a chunk's size, of so many digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind it, up to the line's end.
    Extension(u64),
    SizeEnd(u64),
    Chunk(u64),
    /// Behind a chunk's bytes.
    ChunkEnd,
    ChunkLineEnd,
    /// In trailers. `empty`: nothing stands in this line yet.
    Trailer {
        empty: bool,
    },
    TrailerEnd {
        empty: bool,
    },
    Done,
}

const NEXT_CHUNK: Place = Place::Size { size: 0, digits: 0 };

impl BodyDecoder {
    pub const fn new(framing: Framing) -> Self {
        let place = match framing {
            Framing::Length(0) => Place::Done,
            Framing::Length(length) => Place::Length(length),
            Framing::Chunked => NEXT_CHUNK,
            Framing::UntilClose => Place::UntilClose,
        };
        Self { place, extra: 0 }
    }

    /// True once nothing more belongs to the body.
    pub const fn is_done(&self) -> bool {
        matches!(self.place, Place::Done)
    }

    /// How much is left, in bytes, where that is known.
    pub const fn left(&self) -> Option<u64> {
        match self.place {
            Place::Length(left) => Some(left),
            Place::Done => Some(0),
            _ => None,
        }
    }

    /// Takes out of the buffer what of the body is in it; empty where that is nothing yet, or nothing more. What follows the
    /// body is left.
    ///
    /// # Errors
    ///
    /// [`BodyError`]; what came before was handed out.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Bytes, BodyError> {
        match self.place {
            Place::Done => Ok(Bytes::new()),
            Place::UntilClose => Ok(buffer.split().freeze()),
            Place::Length(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                self.place = match left - here as u64 {
                    0 => Place::Done,
                    left => Place::Length(left),
                };
                Ok(buffer.split_to(here).freeze())
            }
            _ => self.chunks(buffer),
        }
    }

    /// The connection was closed.
    ///
    /// # Errors
    ///
    /// [`BodyError::Unfinished`] where the body did not end with that.
    pub fn closed(&mut self) -> Result<(), BodyError> {
        match self.place {
            Place::Done | Place::UntilClose => {
                self.place = Place::Done;
                Ok(())
            }
            _ => Err(BodyError::Unfinished),
        }
    }

    fn chunks(&mut self, buffer: &mut BytesMut) -> Result<Bytes, BodyError> {
        // Before `kept` lies the body, and from `at` on what has not been looked at.
        let (mut kept, mut at) = (0, 0);
        let mut failed = None;
        while at < buffer.len() && !self.is_done() {
            if let Place::Chunk(left) = self.place {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - at);
                if kept != at {
                    buffer.copy_within(at..at + here, kept);
                }
                (kept, at) = (kept + here, at + here);
                self.place = match left - here as u64 {
                    0 => Place::ChunkEnd,
                    left => Place::Chunk(left),
                };
                continue;
            }
            if let Some((length, place)) = plain(self.place, &buffer[at..]) {
                (at, self.place) = (at + length, place);
                continue;
            }
            let byte = buffer[at];
            at += 1;
            match self.step(byte) {
                Ok(place) => self.place = place,
                // What is whole before it leaves first; the same byte is looked at again.
                Err(_) if kept > 0 => {
                    at -= 1;
                    break;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let body = buffer.split_to(kept).freeze();
        buffer.advance(at - kept);
        failed.map_or(Ok(body), Err)
    }

    /// What a byte of the framing leads to.
    fn step(&mut self, byte: u8) -> Result<Place, BodyError> {
        Ok(match (self.place, byte) {
            (Place::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MOST_DIGITS {
                    return Err(BodyError::Size);
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Place::Size { digits: 0, .. }, _) => return Err(BodyError::Size),
            (Place::Size { size, .. } | Place::Extension(size), b'\r') => Place::SizeEnd(size),
            // Some pad a size with spaces.
            (Place::Size { size, .. }, b' ' | b'\t' | b';') => {
                self.extra(Place::Extension(size))?
            }
            (Place::Size { .. }, _) => return Err(BodyError::Size),
            (Place::Extension(_) | Place::Trailer { .. }, b'\n') => {
                return Err(BodyError::BareLineFeed);
            }
            (Place::Extension(size), _) => self.extra(Place::Extension(size))?,
            (Place::SizeEnd(0), b'\n') => Place::Trailer { empty: true },
            (Place::SizeEnd(size), b'\n') => Place::Chunk(size),
            (Place::ChunkEnd, b'\r') => Place::ChunkLineEnd,
            (Place::ChunkLineEnd, b'\n') => NEXT_CHUNK,
            (Place::ChunkEnd | Place::ChunkLineEnd, _) => return Err(BodyError::ChunkEnd),
            (Place::Trailer { empty }, b'\r') => Place::TrailerEnd { empty },
            (Place::Trailer { .. }, _) => self.extra(Place::Trailer { empty: false })?,
            (Place::TrailerEnd { empty: true }, b'\n') => Place::Done,
            (Place::TrailerEnd { empty: false }, b'\n') => Place::Trailer { empty: true },
            (Place::SizeEnd(_) | Place::TrailerEnd { .. }, _) => {
                return Err(BodyError::BareLineFeed);
            }
            (place @ (Place::Length(_) | Place::UntilClose | Place::Chunk(_) | Place::Done), _) => {
                place
            }
        })
    }

    fn extra(&mut self, next: Place) -> Result<Place, BodyError> {
        self.extra += 1;
        if self.extra > LONGEST_EXTRA { Err(BodyError::TooLong) } else { Ok(next) }
    }
}

/// What nearly every chunk has around it, in one step where it is there as a whole: its length, and what it leads to.
fn plain(place: Place, rest: &[u8]) -> Option<(usize, Place)> {
    match place {
        Place::ChunkEnd => rest.starts_with(b"\r\n").then_some((2, NEXT_CHUNK)),
        NEXT_CHUNK => {
            let mut size = 0;
            for (at, byte) in rest.iter().enumerate().take(8) {
                match byte {
                    b'0'..=b'9' => size = size << 4 | u64::from(byte - b'0'),
                    b'a'..=b'f' => size = size << 4 | u64::from(byte - b'a' + 10),
                    b'\r' if size > 0 && rest.get(at + 1) == Some(&b'\n') => {
                        return Some((at + 2, Place::Chunk(size)));
                    }
                    _ => return None,
                }
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a body that arrives in these pieces, and what is left behind it.
    fn decoded(framing: Framing, pieces: &[&[u8]]) -> (Vec<u8>, Result<bool, BodyError>, Vec<u8>) {
        let (mut decoder, mut buffer, mut body) =
            (BodyDecoder::new(framing), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(bytes) if bytes.is_empty() => break,
                    Ok(bytes) => body.extend_from_slice(&bytes),
                    Err(error) => return (body, Err(error), Vec::new()),
                }
            }
        }
        (body, Ok(decoder.is_done()), buffer.to_vec())
    }

    /// The same at every cut into two, and byte by byte.
    fn at_every_cut(framing: Framing, sent: &[u8]) -> (Vec<u8>, Result<bool, BodyError>, Vec<u8>) {
        let whole = decoded(framing, &[sent]);
        for cut in 0..=sent.len() {
            assert_eq!(decoded(framing, &[&sent[..cut], &sent[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = sent.chunks(1).collect();
        let single = decoded(framing, &bytes);
        assert_eq!((&single.0, &single.1), (&whole.0, &whole.1), "byte by byte");
        whole
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let (chunked, next) = (Framing::Chunked, b"HTTP/1.1 200".as_slice());
        for (framing, sent, body) in [
            (Framing::Length(5), "hello", "hello"),
            (Framing::Length(0), "", ""),
            (chunked, "5\r\nhello\r\n0\r\n\r\n", "hello"),
            (chunked, "0\r\n\r\n", ""),
            (chunked, "2\r\nhe\r\n0003 \r\nllo\r\n0\r\n\r\n", "hello"),
            (chunked, "2;a=b\r\nhe\r\n3 ; c=\"d\"\r\nllo\r\n0;e\r\nx: y\r\nz: 1\r\n\r\n", "hello"),
            (
                chunked,
                "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                "abcdefghijklmnopqrstuvwxyz",
            ),
        ] {
            let sent = [sent.as_bytes(), next].concat();
            let expect = (body.as_bytes().to_vec(), Ok(true), next.to_vec());
            assert_eq!(at_every_cut(framing, &sent), expect, "{framing:?}");
        }
        let whole = (next.to_vec(), Ok(false), Vec::new());
        assert_eq!(at_every_cut(Framing::UntilClose, next), whole);
    }

    #[test]
    fn what_is_no_chunk_is_refused_after_what_was_whole() {
        use BodyError::{BareLineFeed, ChunkEnd, Size};
        for (sent, body, why) in [
            ("\r\n", "", Size),
            ("g\r\n", "", Size),
            ("-1\r\n", "", Size),
            ("0x5\r\nhello\r\n", "", Size),
            ("5\nhello\r\n", "", Size),
            ("5 \nhello\r\n", "", BareLineFeed),
            ("5;a\nhello\r\n", "", BareLineFeed),
            ("5\rhello\r\n", "", BareLineFeed),
            ("5\r\nhellos\r\n", "hello", ChunkEnd),
            ("5\r\nhello\n0\r\n\r\n", "hello", ChunkEnd),
            ("5\r\nhello\r0", "hello", ChunkEnd),
            ("5\r\nhello\r\n\r\n", "hello", Size),
            ("5\r\nhello\r\n0\r\n\n", "hello", BareLineFeed),
            ("5\r\nhello\r\n0\r\na: b\n\r\n", "hello", BareLineFeed),
            ("1000000000000000\r\n", "", Size),
        ] {
            let (came, ended, _) = at_every_cut(Framing::Chunked, sent.as_bytes());
            assert_eq!((came.as_slice(), ended), (body.as_bytes(), Err(why)), "{sent:?}");
        }
        let long = format!("1;{}\r\na\r\n", "x".repeat(LONGEST_EXTRA as usize));
        assert_eq!(decoded(Framing::Chunked, &[long.as_bytes()]).1, Err(BodyError::TooLong));
        let many = "1;x\r\na\r\n".repeat(LONGEST_EXTRA as usize);
        assert_eq!(decoded(Framing::Chunked, &[many.as_bytes()]).1, Err(BodyError::TooLong));
    }

    #[test]
    fn a_body_that_breaks_off_is_not_whole() {
        for (framing, sent, whole) in [
            (Framing::Length(2), "a", false),
            (Framing::Length(1), "a", true),
            (Framing::Chunked, "1\r\na", false),
            (Framing::Chunked, "1\r\na\r\n0\r\n", false),
            (Framing::Chunked, "1\r\na\r\n0\r\n\r\n", true),
            (Framing::UntilClose, "a", true),
        ] {
            let (mut decoder, mut buffer) = (BodyDecoder::new(framing), BytesMut::from(sent));
            assert_eq!(decoder.decode(&mut buffer).unwrap(), "a", "{framing:?} {sent:?}");
            let closed = if whole { Ok(()) } else { Err(BodyError::Unfinished) };
            assert_eq!(decoder.closed(), closed, "{framing:?} {sent:?}");
        }
    }
}
