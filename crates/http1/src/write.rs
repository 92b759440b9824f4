//! What is written: heads, and the lines around chunks.

use std::io::Write;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::body::Framing;

/// Stands behind each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes the head of a request; the headers say how long its body is.
pub fn request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: Option<&PathAndQuery>,
    headers: &HeaderMap,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.map_or("/", PathAndQuery::as_str).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    lines(out, headers, |_| false);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer. What `headers` say of the body's length is left out where `framing` says another thing.
pub fn response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    date: &HeaderValue,
    closes: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    lines(out, headers, |name| {
        name == CONTENT_LENGTH || name == TRANSFER_ENCODING || (closes && name == CONNECTION)
    });
    match framing {
        // Such an answer has no body at all (RFC 9110, section 8.6).
        Framing::Length(0) if matches!(status.as_u16(), 204 | 304) => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    if !headers.contains_key(DATE) {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line that stands before a chunk of so many bytes, which is not zero.
pub fn chunk_head(out: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

fn lines(out: &mut Vec<u8>, headers: &HeaderMap, left_out: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers {
        if left_out(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn decimal(out: &mut Vec<u8>, number: u64) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_how_their_bodies_end() {
        let headers = HeaderMap::from_iter([
            (CONTENT_LENGTH, HeaderValue::from_static("99")),
            (HeaderName::from_static("x-a"), HeaderValue::from_static("1")),
        ]);
        let date = HeaderValue::from_static("now");
        for (status, framing, closes, expect) in [
            (
                200,
                Framing::Length(12),
                false,
                "HTTP/1.1 200 OK|x-a: 1|content-length: 12|date: now||",
            ),
            (
                200,
                Framing::Chunked,
                false,
                "HTTP/1.1 200 OK|x-a: 1|transfer-encoding: chunked|date: now||",
            ),
            (204, Framing::Length(0), false, "HTTP/1.1 204 No Content|x-a: 1|date: now||"),
            (
                529,
                Framing::Length(0),
                true,
                "HTTP/1.1 529 |x-a: 1|content-length: 0|connection: close|date: now||",
            ),
        ] {
            let mut out = Vec::new();
            let status = StatusCode::from_u16(status).unwrap();
            response_head(&mut out, status, &headers, framing, &date, closes);
            assert_eq!(String::from_utf8(out).unwrap().replace("\r\n", "|"), expect);
        }
        let mut out = Vec::new();
        request_head(&mut out, &Method::POST, Some(&PathAndQuery::from_static("/a?b")), &headers);
        let expect = "POST /a?b HTTP/1.1|content-length: 99|x-a: 1||";
        assert_eq!(String::from_utf8(out).unwrap().replace("\r\n", "|"), expect);
    }

    #[test]
    fn the_size_of_a_chunk_is_written_as_it_is_read() {
        for length in [1, 9, 15, 16, 255, 256, 0xabcd, 1 << 20, usize::MAX >> 4] {
            let mut out = Vec::new();
            chunk_head(&mut out, length);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }
}
