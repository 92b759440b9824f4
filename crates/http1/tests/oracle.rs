//! Holds this crate against hyper: cases by name, and many more by chance.

use bytes::BytesMut;
use proptest::prelude::*;
use seaway_http1::{HeadError, RequestRead, properties, request, response};

/// What is to become of a request.
#[derive(Debug, PartialEq)]
enum Fate {
    Plain(u64),
    More,
    Other,
    Refused(HeadError),
}

fn fate(sent: &str) -> Fate {
    let mut buffer = BytesMut::from(sent);
    match request(&mut buffer, |_, _| true) {
        Ok(RequestRead::Plain(head)) => Fate::Plain(head.length),
        Ok(RequestRead::More) => Fate::More,
        Ok(RequestRead::Other) => Fate::Other,
        Err(error) => Fate::Refused(error),
    }
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_refused() {
    use Fate::{More, Other, Plain, Refused};
    use HeadError::{BareLineFeed, Length, LengthAndChunks, TransferEncoding};
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (head, expect) in [
        ("Content-Length: 3\r\n", Plain(3)),
        ("content-LENGTH:3\r\n", Plain(3)),
        ("Content-Length: 003\r\n", Plain(3)),
        ("", Plain(0)),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", Refused(Length)),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", Refused(Length)),
        ("Content-Length: 3, 3\r\n", Refused(Length)),
        ("Content-Length: +3\r\n", Refused(Length)),
        ("Content-Length: -3\r\n", Refused(Length)),
        ("Content-Length: 3 4\r\n", Refused(Length)),
        ("Content-Length: 0x3\r\n", Refused(Length)),
        ("Content-Length: \r\n", Refused(Length)),
        ("Content-Length: 99999999999999999999\r\n", Refused(Length)),
        (&format!("Content-Length: 3\r\n{chunked}"), Refused(LengthAndChunks)),
        (&format!("{chunked}Content-Length: 3\r\n"), Refused(LengthAndChunks)),
        (&format!("{chunked}{chunked}"), Refused(TransferEncoding)),
        ("Transfer-Encoding: gzip, chunked\r\n", Refused(TransferEncoding)),
        ("Transfer-Encoding: xchunked\r\n", Refused(TransferEncoding)),
        ("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", Refused(TransferEncoding)),
        ("X: a\nContent-Length: 3\r\n", Refused(BareLineFeed)),
        // hyper's to judge: it refuses the next five, and the others are more than a plain exchange.
        ("X: a\r\n b\r\n", Other),
        ("X : a\r\n", Other),
        ("X: a\rb\r\n", Other),
        ("X: a\0b\r\n", Other),
        (": a\r\n", Other),
        (chunked, Other),
        ("Expect: 100-continue\r\n", Other),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\n", Other),
        ("Connection: keep-alive, Upgrade\r\n", Other),
        ("X: a\r", More),
    ] {
        let whole = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\n{head}");
        let sent = if expect == More { whole } else { format!("{whole}\r\nabc") };
        assert_eq!(fate(&sent), expect, "{head:?}");
        properties::requests(sent.as_bytes());
    }
    for (sent, expect) in [
        ("POST /a HTTP/1.0\r\nHost: x\r\n\r\n", Other),
        ("POST http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", Other),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Other),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Other),
        ("POST /a HTTP/1.1\nHost: x\n\n", Refused(BareLineFeed)),
        ("\nPOST /a HTTP/1.1\r\nHost: x\r\n\r\n", Refused(BareLineFeed)),
        ("\u{16}\u{3}\u{1}", Other),
        ("POST /a", More),
        ("", More),
    ] {
        assert_eq!(fate(sent), expect, "{sent:?}");
        properties::requests(sent.as_bytes());
    }
}

#[test]
fn answers_are_framed_as_hyper_frames_them() {
    for (sent, expect) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", Some(Ok(true))),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", Some(Ok(true))),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab", Some(Ok(false))),
        ("HTTP/1.1 200 OK\r\n\r\nab", Some(Ok(false))),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", Some(Ok(false))),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", Some(Ok(true))),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some(Ok(true)),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nt: 1\r\n\r\n",
            Some(Ok(true)),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n", Some(Ok(true))),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", Some(Ok(true))),
        ("HTTP/1.1 529 \r\ncontent-length: 0\r\n\r\n", Some(Ok(true))),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Some(Ok(true))),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab",
            Some(Err(HeadError::Length)),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Some(Err(HeadError::LengthAndChunks)),
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Some(Err(HeadError::TransferEncoding)),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab",
            Some(Err(HeadError::TransferEncoding)),
        ),
        ("HTTP/1.1 20 OK\r\n\r\n", Some(Err(HeadError::Syntax(httparse::Error::Status)))),
        ("SSH-2.0-x\r\n", Some(Err(HeadError::Syntax(httparse::Error::Version)))),
        ("HTTP/1.1 200 OK\r\ncontent-le", None),
        ("", None),
    ] {
        let read = response(&mut BytesMut::from(sent), false);
        let told = read.transpose().map(|read| read.map(|head| head.keeps));
        assert_eq!(told, expect, "{sent:?}");
        properties::responses(sent.as_bytes());
    }
}

/// Parts of heads and bodies, put together by chance so that many are nearly right.
fn parts(first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just(first),
        4 => Just("\r\n"),
        4 => Just("content-length: 3\r\n"),
        3 => Just("transfer-encoding: chunked\r\n"),
        2 => prop::sample::select(vec![
            "Content-Length: 0\r\n", "content-length: 5\r\n", "Connection: close\r\n", "connection: keep-alive\r\n",
            "x: y\r\n", "x:\r\n", "\n", "\r", " ", "x: \u{e9}\r\n", "X-Y: z \r\n", "HTTP/1.1 100 Continue\r\n\r\n",
        ]),
        4 => prop::sample::select(vec![
            "abc", "3\r\nabc\r\n", "0\r\n\r\n", "3;e=f\r\nabc\r\n", "003\r\nabc\r\n", "0\r\nt: 1\r\n\r\n", "a", "3 \r\nabc\r\n",
        ]),
    ];
    prop::collection::vec(part, 0..12)
        .prop_map(move |parts| [first.as_bytes(), parts.concat().as_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_the_ones_that_hyper_sees(sent in parts("POST /v1/messages HTTP/1.1\r\nhost: x\r\n")) {
        properties::requests(&sent);
    }

    #[test]
    fn answers_are_the_ones_that_hyper_sees(sent in parts("HTTP/1.1 200 OK\r\n")) {
        properties::responses(&sent);
    }
}
