//! Our own lane for HTTP/1.1 beside hyper: the same bytes, and what becomes of them.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ASK, ASK_STREAM, Gateway, KEY, Received, Upstream, stream};

/// Answers with what it was asked, a stream where it was asked for one.
async fn echo(mut received: Received) {
    if received.text().contains("\"stream\":true") {
        received.begin_events().await;
        for event in stream() {
            received.chunk(event).await;
        }
        return received.end().await;
    }
    let mut headers: Vec<String> = received
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
        .map(|(name, value)| format!("{}: {value}", name.to_lowercase()))
        .collect();
    headers.sort();
    let seen = serde_json::json!({"type": "message", "line": received.line, "headers": headers, "body": received.text()});
    let head = "200 OK\r\nrequest-id: req_up\r\ncontent-type: application/json";
    received.answer(head, &seen.to_string()).await;
}

async fn gateway(lane: &str) -> Gateway {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("lane", lane), ("body_limit", "100000")]).await;
    upstream.serve(echo);
    gateway
}

/// Sends these pieces on one connection, each by itself, and returns all that comes until it is closed.
async fn said(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may be closed before all was sent.
        if connection.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut all = Vec::new();
    let _reset = connection.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// The same without what is never twice the same: dates, ids, the order of headers, where chunks are cut.
fn comparable(said: &str) -> Vec<String> {
    let mut lines: Vec<String> = said
        .split(['\r', '\n'])
        .filter(|line| !line.starts_with("date: ") && u32::from_str_radix(line, 16).is_err())
        .filter(|line| !line.is_empty())
        .map(|line| match line.find("req_sw_") {
            Some(at) => format!("{}{}", &line[..at], &line[(at + 39).min(line.len())..]),
            None => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

const LAST: &str = "Connection: close\r\n";

/// What clients send, as it becomes a request to a model in either lane.
fn conversations() -> Vec<(&'static str, String)> {
    let ask = |headers: &str| post("/v1/messages", headers, ASK);
    let chat = r#"{"model":"claude-x","messages":[{"role":"user","content":"hi"}]}"#;
    let big = format!(
        r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(60_000)
    );
    let chunked = |headers: &str| {
        format!(
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{ASK}\r\n0\r\n\r\n",
            ASK.len()
        )
    };
    vec![
        ("one", ask(LAST)),
        (
            "a query and headers",
            post(
                "/v1/messages?beta=true",
                &format!("X-New: \u{e9}\r\nanthropic-beta: a\r\nAnthropic-Beta: b\r\n{LAST}"),
                ASK,
            ),
        ),
        ("a stream", post("/v1/messages", LAST, ASK_STREAM)),
        ("chat", post("/v1/chat/completions", LAST, chat)),
        ("two, the second at once", format!("{}{}", ask(""), ask(LAST))),
        (
            "three behind each other, one a stream",
            format!("{}{}{}", ask(""), post("/v1/messages", "", ASK_STREAM), ask(LAST)),
        ),
        (
            "other paths between",
            format!("{}GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n{}", ask(""), ask(LAST)),
        ),
        ("in chunks, then not", format!("{}{}", chunked(""), ask(LAST))),
        ("with a go-ahead", post("/v1/messages", &format!("Expect: 100-continue\r\n{LAST}"), ASK)),
        ("HTTP/1.0", ask("").replace("HTTP/1.1", "HTTP/1.0")),
        ("a large body", post("/v1/messages", LAST, &big)),
        ("a body that is too large", post("/v1/messages", LAST, &"x".repeat(100_001))),
        (
            "and one after it",
            format!("{}{}", post("/v1/messages", "", &"x".repeat(100_001)), ask(LAST)),
        ),
        ("no body", post("/v1/messages", LAST, "")),
        ("no JSON", post("/v1/messages", LAST, "{")),
        ("a wrong key", ask(LAST).replace(KEY, "wrong")),
        ("a wrong host", ask(LAST).replace("localhost", "evil.example")),
        ("two hosts", ask(&format!("Host: localhost\r\n{LAST}"))),
        ("no host", ask(LAST).replace("Host: localhost\r\n", "")),
        ("a page's origin", ask(&format!("Origin: https://evil.example\r\n{LAST}"))),
        ("a socket", ask(&format!("Upgrade: websocket\r\nConnection: upgrade\r\n{LAST}"))),
        ("a folded line", ask(&format!("X: a\r\n b\r\n{LAST}"))),
        ("a space before a colon", ask(&format!("X : a\r\n{LAST}"))),
        ("a bare CR", ask(&format!("X: a\rb\r\n{LAST}"))),
        ("an absolute target", ask(LAST).replace("POST /v1", "POST http://localhost/v1")),
        ("a path that is written otherwise", post("//v1/./messages", LAST, ASK)),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
    ]
}

#[tokio::test]
async fn both_lanes_make_the_same_of_what_clients_send() {
    let (own, hyper) = (gateway("own").await, gateway("hyper").await);
    let mut answered = 0;
    for (name, sent) in conversations() {
        let mut of = Vec::new();
        for gateway in [&own, &hyper] {
            of.push(comparable(&said(gateway.address, &[sent.as_bytes()]).await));
        }
        assert_eq!(of[0], of[1], "{name}");
        answered += usize::from(of[0].iter().any(|line| line.starts_with("HTTP/1.1 200")));
    }
    assert!(answered >= 10, "{answered} were answered");
}

#[tokio::test]
async fn what_could_be_two_requests_is_none() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut upstream = upstream;
    let hidden = post("/v1/messages", "", ASK);
    for headers in [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 0\r\nX: a\n",
    ] {
        let sent = format!("{}{hidden}", post("/v1/messages", headers, "0\r\n\r\n"));
        let said = said(gateway.address, &[sent.as_bytes()]).await;
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{headers:?}: {said}");
        assert!(
            said.contains("\r\nconnection: close\r\n") && said.contains("is refused"),
            "{said}"
        );
        assert_eq!(said.matches("HTTP/1.1").count(), 1, "{headers:?}: {said}");
    }
    assert!(upstream.came().is_none(), "nothing of it went on");
}

#[tokio::test]
async fn a_cut_changes_nothing() {
    let gateway = gateway("own").await;
    let sent = format!(
        "{}{}",
        post("/v1/messages", "", ASK),
        post("/v1/messages", &format!("X-New: 1\r\n{LAST}"), ASK_STREAM)
    );
    let whole = comparable(&said(gateway.address, &[sent.as_bytes()]).await);
    assert_eq!(whole.iter().filter(|line| line.contains("HTTP/1.1 200")).count(), 2);
    for cut in 1..sent.len() {
        let (first, second) = sent.as_bytes().split_at(cut);
        let cut_so = comparable(&said(gateway.address, &[first, second]).await);
        assert_eq!(cut_so, whole, "cut at {cut}");
    }
}

#[tokio::test]
async fn an_upstreams_answer_is_the_same_wherever_it_is_cut() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("lane", "own")]).await;
    let mut client = gateway.client().await;
    let chunks: Vec<String> =
        stream().iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    let sent = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_up\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunks.concat()
    );
    for cut in 1..sent.len() {
        client.ask("POST /v1/messages", &[], ASK_STREAM).await;
        let mut received = upstream.next().await;
        received.write(&sent.as_bytes()[..cut]).await;
        tokio::task::yield_now().await;
        received.write(&sent.as_bytes()[cut..]).await;
        received.keep();
        let answer = client.answer().await;
        assert!(answer.whole, "cut at {cut}");
        assert_eq!(answer.body, stream().concat().as_bytes(), "cut at {cut}");
        assert_eq!(answer.header("link"), None, "what only announced it is no part of it");
    }
    assert_eq!(upstream.connections(), 1, "it is used again and again");
}

#[tokio::test]
async fn an_answer_that_came_in_one_piece_and_is_not_whole_has_no_length() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("lane", "own")]).await;
    for body in [r#"{"type":"message","content":[{"type":"te"#, ""] {
        let chunk =
            if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], ASK).await;
        let mut received = upstream.next().await;
        received
            .write(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"))
            .await;
        received.keep();
        let answer = client.answer().await;
        assert!(!answer.whole || answer.status == 502, "{body}: {answer:?}");
        assert_eq!(answer.whole, body.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn an_answer_may_come_before_all_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::before(&upstream, &[("lane", "own"), ("upstream.up.base_url", url.as_str())])
            .await;
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut first = vec![0; 1024];
        let read = connection.read(&mut first).await.unwrap();
        assert!(first[..read].starts_with(b"POST /v1/messages "));
        let error = r#"{"type":"error","error":{"type":"request_too_large","message":"no"}}"#;
        let head = "HTTP/1.1 413 Payload Too Large\r\ncontent-type: application/json";
        let answer = format!(
            "{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{error}",
            error.len()
        );
        connection.write_all(answer.as_bytes()).await.unwrap();
        // It is closed when the client has its answer, and not before.
        connection
    });
    let big = format!(
        r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(20 << 20)
    );
    let mut client = gateway.client().await;
    let answer = client.post("/v1/messages", &big).await;
    assert_eq!((answer.status, answer.whole), (413, true), "{}", answer.text());
    assert!(answer.text().contains("request_too_large"));
    drop(server.await.unwrap());
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_not_waited_for_though_its_answer_has_begun() {
    for lane in ["own", "hyper"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = Upstream::start().await;
        let settings = [("lane", lane), ("upstream.up.base_url", url.as_str())];
        let gateway = Gateway::before(&upstream, &settings).await;
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut came = Vec::new();
            while !came.ends_with(b"hello\r\n") {
                assert_ne!(connection.read_buf(&mut came).await.unwrap(), 0);
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            connection.write_all(head.as_bytes()).await.unwrap();
            let _reset = connection.read_to_end(&mut came).await;
            !came.ends_with(b"0\r\n\r\n")
        });
        let head = format!(
            "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n{LAST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        );
        let said = said(gateway.address, &[head.as_bytes(), b"zz\r\n"]).await;
        assert!(!said.starts_with("HTTP/1.1 200"), "{lane}: {said}");
        assert!(server.await.unwrap(), "{lane}: what broke off does not look whole");
    }
}

#[tokio::test]
async fn who_is_refused_with_a_large_body_is_told_why() {
    let gateway = gateway("own").await;
    for (sent, expect) in [
        (post("/v1/messages", "", &"x".repeat(6 << 20)).replace(KEY, "wrong"), "HTTP/1.1 401 "),
        (post("/v1/messages", "", &"x".repeat(6 << 20)), "HTTP/1.1 413 "),
        (post("/v1/messages", "", &"x".repeat(30 << 20)), "HTTP/1.1 413 "),
    ] {
        let mut connection = TcpStream::connect(gateway.address).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        let said = String::from_utf8_lossy(&all);
        assert!(said.starts_with(expect) && said.contains("connection: close"), "{said}");
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_has_none_whatever_we_say_of_it() {
    for lane in ["own", "hyper"] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::before(&upstream, &[("lane", lane)]).await;
        upstream.serve(|received: Received| received.answer("304 Not Modified", ""));
        let sent = format!(
            "{}GET /health/live HTTP/1.1\r\nHost: localhost\r\n{LAST}\r\n",
            post("/v1/messages", "", ASK)
        );
        let said = said(gateway.address, &[sent.as_bytes()]).await;
        assert!(said.starts_with("HTTP/1.1 304 "), "{lane}: {said}");
        assert!(said.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"), "{lane}: {said}");
    }
}

#[tokio::test]
async fn a_refusal_is_in_the_dialect_of_its_path_and_on_record() {
    let gateway = gateway("own").await;
    let sent = post("/v1/chat/completions", "Content-Length: 5\r\n", ASK);
    let said = said(gateway.address, &[sent.as_bytes()]).await;
    assert!(said.contains(r#"{"error":{"message":"the request is refused"#), "{said}");
    gateway.quiet().await;
    assert_eq!(gateway.outcomes().await.len(), 1);
}
