//! Heads of requests and of answers.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::body::Framing;

/// Header lines of one head. A request with more is hyper's to judge, an answer is refused.
const MOST_LINES: usize = 100;
/// The longest head, in bytes, as hyper has it.
pub const LONGEST: usize = 400 << 10;

/// Why a head cannot be read, or not in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("it is no HTTP/1.1")]
    Syntax(#[from] httparse::Error),
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("a line of its head does not end with CR and LF")]
    BareLineFeed,
    #[error("its length is said twice, or is no number (`Content-Length`)")]
    Length,
    #[error("it has a length and chunks at once (`Content-Length` and `Transfer-Encoding`)")]
    LengthAndChunks,
    #[error("its chunks are encoded otherwise, or twice (`Transfer-Encoding`)")]
    TransferEncoding,
    #[error("a name or a value in its head has bytes that none may have")]
    Header,
}

/// What there is to a request so far.
#[derive(Debug)]
pub enum RequestRead {
    /// Its head has not ended yet.
    More,
    Plain(RequestHead),
    /// It asks for more than a plain exchange of a body for an answer, or is not wanted. Nothing of it was taken.
    Other,
}

/// The head of a plain request, whose body has a length.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    /// The length of its body, in bytes.
    pub length: u64,
    /// The client wants to ask again on this connection.
    pub keeps: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Of its body; an answer to `HEAD` has none whatever its head says.
    pub framing: Framing,
    /// The server will answer again on this connection.
    pub keeps: bool,
}

/// Whether a head may end in a buffer of whose first bytes so many are known not to hold its end. Who asks before it reads
/// one again does not read it once for every byte that comes.
pub fn may_end(buffer: &[u8], known: usize) -> bool {
    let new = &buffer[known.saturating_sub(3)..];
    known == 0
        || buffer.len() > LONGEST
        || memchr::memchr_iter(b'\n', new)
            .any(|at| new[at + 1..].starts_with(b"\n") || new[at + 1..].starts_with(b"\r\n"))
}

/// Reads a request's head, and takes it out of the buffer where it is plain and `wanted` by its method and its target.
///
/// # Errors
///
/// [`HeadError`] where two readers could see two requests, so that nobody should answer it. What is merely unusual is
/// [`RequestRead::Other`].
pub fn request(
    buffer: &mut BytesMut,
    wanted: impl FnOnce(&Method, &str) -> bool,
) -> Result<RequestRead, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(buffer, &mut lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() > LONGEST => return Ok(RequestRead::Other),
        Ok(httparse::Status::Partial) => return Ok(RequestRead::More),
        // Also the preface of HTTP/2.
        Err(_) => return Ok(RequestRead::Other),
    };
    let (Some(1), Some(method), Some(path)) = (parsed.version, parsed.method, parsed.path) else {
        return Ok(RequestRead::Other);
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Ok(RequestRead::Other) };
    let wanted = wanted(&method, path);
    let target = places(buffer, path.as_bytes());
    let lines: Lines = parsed.headers.iter().map(|line| Line::of(buffer, line)).collect();
    only_whole_lines(&buffer[..length])?;
    let said = Said::of(parsed.headers)?;
    // What asks to wait, to leave HTTP, or comes in chunks; and what names no path.
    if !wanted || said.is_unusual || said.chunked || !path.starts_with('/') {
        return Ok(RequestRead::Other);
    }
    // It is copied once, so that what is kept of it does not keep the buffer.
    let head = Bytes::copy_from_slice(&buffer[..length]);
    let Ok(target) = PathAndQuery::from_maybe_shared(head.slice(target)) else {
        return Ok(RequestRead::Other);
    };
    let headers = headers(&head, &lines)?;
    bytes::Buf::advance(buffer, length);
    let length = said.length.unwrap_or(0);
    Ok(RequestRead::Plain(RequestHead { method, target, headers, length, keeps: !said.closes }))
}

/// Reads the head of an answer and takes it out of the buffer; `None` where it has not ended yet. Heads that only announce
/// another (`100`, `103`) are passed over.
///
/// # Errors
///
/// [`HeadError`] for what is no answer, or could be read in two ways.
pub fn response(buffer: &mut BytesMut, to_head: bool) -> Result<Option<ResponseHead>, HeadError> {
    loop {
        let Some(head) = next_response(buffer, to_head)? else { return Ok(None) };
        let announces = head.status.is_informational();
        if !announces || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

fn next_response(buffer: &mut BytesMut, to_head: bool) -> Result<Option<ResponseHead>, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        buffer,
        &mut lines,
    )?;
    let httparse::Status::Complete(length) = read else {
        let too_long = buffer.len() > LONGEST;
        return if too_long { Err(HeadError::TooLong) } else { Ok(None) };
    };
    let version = parsed.version.unwrap_or_default();
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Syntax(httparse::Error::Status))?;
    let lines: Lines = parsed.headers.iter().map(|line| Line::of(buffer, line)).collect();
    let said = Said::of(parsed.headers)?;
    let framing = framing(status, &said, version, to_head)?;
    // What it says of itself is passed on to those that outlive it, so that it is copied as a request's is.
    let head = Bytes::copy_from_slice(&buffer[..length]);
    let headers = headers(&head, &lines)?;
    bytes::Buf::advance(buffer, length);
    let lasts = version == 1 && !said.closes && framing != Framing::UntilClose;
    let keeps = lasts && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(Some(ResponseHead { status, headers, framing, keeps }))
}

/// How the body of an answer is framed (RFC 9112, section 6.3).
fn framing(
    status: StatusCode,
    said: &Said,
    version: u8,
    to_head: bool,
) -> Result<Framing, HeadError> {
    let bodiless = to_head || status.is_informational() || matches!(status.as_u16(), 204 | 304);
    if said.chunked && version == 0 {
        return Err(HeadError::TransferEncoding);
    }
    Ok(match said.length {
        _ if bodiless => Framing::Length(0),
        _ if said.chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    })
}

/// What a head says of its connection and its body.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    /// It wants to wait for a go-ahead, or to leave HTTP.
    is_unusual: bool,
}

impl Said {
    fn of(lines: &[httparse::Header<'_>]) -> Result<Self, HeadError> {
        let mut said = Self::default();
        for line in lines {
            said.hears(line)?;
        }
        if said.chunked && said.length.is_some() {
            return Err(HeadError::LengthAndChunks);
        }
        Ok(said)
    }

    fn hears(&mut self, line: &httparse::Header<'_>) -> Result<(), HeadError> {
        // By their lengths first: nearly all others are told apart by that.
        match line.name.len() {
            14 if line.name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) => {
                let length = number(line.value).ok_or(HeadError::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(HeadError::Length);
                }
            }
            17 if line.name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()) => {
                if self.chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::TransferEncoding);
                }
                self.chunked = true;
            }
            10 if line.name.eq_ignore_ascii_case(CONNECTION.as_str()) => {
                let words = || line.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                self.closes |= words().any(|word| word.eq_ignore_ascii_case(b"close"));
                self.is_unusual |= words().any(|word| word.eq_ignore_ascii_case(b"upgrade"));
            }
            6 if line.name.eq_ignore_ascii_case(EXPECT.as_str()) => self.is_unusual = true,
            7 if line.name.eq_ignore_ascii_case(UPGRADE.as_str()) => self.is_unusual = true,
            _ => {}
        }
        Ok(())
    }
}

/// Digits alone: no sign, no space, no list.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Each line ends with both bytes, and neither stands anywhere else.
fn only_whole_lines(head: &[u8]) -> Result<(), HeadError> {
    let whole = memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r');
    // httparse takes no CR but before an LF.
    if whole { Ok(()) } else { Err(HeadError::BareLineFeed) }
}

type Lines = smallvec::SmallVec<[Line; 24]>;

/// Where a line's parts lie.
struct Line {
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl Line {
    fn of(buffer: &[u8], line: &httparse::Header<'_>) -> Self {
        Self { name: places(buffer, line.name.as_bytes()), value: places(buffer, line.value) }
    }
}

/// Where a part lies in what it is a part of.
fn places(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    // An empty value may lie nowhere.
    if part.is_empty() { 0..0 } else { start..start + part.len() }
}

fn headers(head: &Bytes, lines: &[Line]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(&head[line.name.clone()]);
        let value = HeaderValue::from_maybe_shared(head.slice(line.value.clone()));
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err(HeadError::Header),
        };
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_looked_for_where_its_end_may_be() {
        for sent in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\nhost: a\n\r\n",
        ] {
            let sent = sent.as_bytes();
            for known in 1..sent.len() {
                assert!(may_end(sent, known), "{known} of {sent:?}");
                let mut begun = BytesMut::from(&sent[..known]);
                let more = matches!(request(&mut begun, |_, _| true), Ok(RequestRead::More));
                assert!(more, "{known} of {sent:?}");
                assert!((1..known).all(|known| !may_end(&begun, known)), "{known} of {sent:?}");
            }
            assert!(may_end(sent, 0) && may_end(&sent[..1], 0), "nothing is known");
        }
        assert!(may_end(&vec![b'a'; LONGEST + 1], LONGEST), "it is too long");
    }
}
