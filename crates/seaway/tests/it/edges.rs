//! What clients may hold: who does not read, send or ask is let go, and nobody takes the places of all.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ASK, ASK_STREAM, Client, Gateway, KEY, Upstream, answer_json, eventually};

/// More than the buffers of two sockets hold.
const LARGE: usize = 32 << 20;

/// An event of that length.
fn event(length: usize) -> String {
    let text = "x".repeat(length);
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
    )
}

async fn gone(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_let_go_with_its_place_and_what_works_for_it() {
    let mut upstream = Upstream::start().await;
    let gateway =
        Gateway::before(&upstream, &[("send_timeout", "300ms"), ("upstream.up.concurrency", "1")])
            .await;
    let mut reads_not = gateway.client().await;
    reads_not.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    let fed = tokio::spawn(async move {
        let event = event(64 << 10);
        for _ in 0..LARGE / event.len() {
            if !received.try_chunk(&event).await {
                return true;
            }
        }
        false
    });
    assert!(fed.await.unwrap(), "the upstream is told to stop");
    gateway.quiet().await;
    let mut other = gateway.client().await;
    other.ask("POST /v1/messages", &[], ASK).await;
    answer_json(upstream.next().await).await;
    assert_eq!(other.answer().await.status, 200, "its place is free");
    let outcomes = gateway.outcomes().await;
    assert_eq!(outcomes[0].1, "client_gone", "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_no_window_is_let_go_too() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("send_timeout", "300ms")]).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut builder =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.initial_stream_window_size(0).initial_connection_window_size(65_535);
    let (mut send, connection) = builder.handshake::<_, String>(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v1/messages", gateway.address))
        .header("x-api-key", KEY)
        .body(ASK_STREAM.to_owned())
        .unwrap();
    let asked = tokio::spawn(async move { (send.send_request(request).await, send) });
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(event(100)).await;
    let (answer, _send) = asked.await.unwrap();
    let unread = answer.unwrap();
    assert_eq!(unread.status(), 200);
    let until = tokio::time::timeout(Duration::from_secs(20), connection).await;
    assert!(until.is_ok(), "the connection is closed");
    drop(unread);
    received.gone().await;
    gateway.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_or_goes_on_with_nothing_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let limits = [("head_timeout", "1s"), ("client_idle_timeout", "4s"), ("body_timeout", "500ms")];
    let gateway = Gateway::before(&upstream, &limits).await;
    for begun in ["", "GET /health HTTP/1.1\r\nHos", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert!(gone(&mut stream).await, "{begun:?}");
    }
    // A body that does not go on is told so, in the client's dialect.
    for (path, kind) in [
        ("/v1/messages", "invalid_request_error"),
        ("/v1/chat/completions", "invalid_request_error"),
    ] {
        let mut client = Client::connect(gateway.address, Some(KEY)).await;
        client.ask(&format!("POST {path}"), &["Content-Length: 100"], "").await;
        client.write("{\"model\":").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (408, &kind.into()), "{path}");
        assert!(answer.text().contains("`body_timeout`"), "{}", answer.text());
    }
    // One that asked may wait longer than one that did not.
    let mut client = gateway.client().await;
    assert_eq!(client.get("/health").await.status, 200);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(client.get("/health").await.status, 200);
    assert!(client.closed().await, "but not for ever");
    // Nor is the rest of a later request's head.
    let mut client = gateway.client().await;
    assert_eq!(client.get("/health").await.status, 200);
    client.write("GET /health HTTP/1.1\r\nHos").await;
    assert!(client.closed().await, "half a head");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_who_asks() {
    let mut upstream = Upstream::start().await;
    let limits = [("connections", "20"), ("connections_per_address", "18")];
    let gateway = Gateway::before(&upstream, &limits).await;
    let mut busy = gateway.client().await;
    busy.ask("POST /v1/messages", &[], ASK).await;
    let received = upstream.next().await;
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let mut client = gateway.client().await;
    assert_eq!(client.get("/health").await.status, 200, "there is room");
    assert!(gone(&mut idle[0]).await, "the oldest idle one made it");
    answer_json(received).await;
    assert_eq!(busy.answer().await.status, 200, "what is being answered stays");
}

#[tokio::test]
async fn a_host_is_named_once() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    for (hosts, status) in
        [("", 400), ("Host: localhost\r\nHost: localhost\r\n", 400), ("Host: localhost\r\n", 200)]
    {
        let mut client = gateway.client().await;
        client.write(format!("GET /health HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{hosts:?}");
    }
}

#[tokio::test]
async fn what_may_be_read_as_another_path_goes_nowhere() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    for path in [
        "/v1/files/..%2f..%2fadmin",
        "/v1/files/%2e%2e/admin",
        "/v1/files/x%5c..%5cadmin",
        "/v1/files/%252e%252e/admin",
        "/v1/skills/a%2Fb",
        "/v1/files/x/./content",
        "/v1/messages/batches/..%2F",
        "/v1/files/%66ile_1",
        "/v1/files/..;/admin",
        "/v1/skills/%c0%ae%c0%ae/admin",
    ] {
        let answer = client.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(upstream.came().is_none(), "{path}");
    }
}

#[tokio::test]
async fn who_leaves_before_the_first_byte_has_asked_all_the_same() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let received = upstream.next().await;
    drop(client);
    received.gone().await;
    gateway.quiet().await;
    gateway.app.state.ledger.store().flush().await;
    let database =
        seaway::store::open_to_read(&gateway.state.path().join("seaway.db")).unwrap().unwrap();
    let row: (String, u32, bool) = database
        .query_row("SELECT outcome, attempts, sent FROM exchange", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, ("client_gone".into(), 1, true));
    // Nobody told what it took: four characters a token are the least.
    let (input, reckoned, cost): (u64, u64, u64) = database
        .query_row("SELECT input, reckoned, cost FROM exchange", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let floor = u64::try_from(ASK.len() / 4).unwrap();
    assert_eq!((input, reckoned, cost), (floor, 3 * floor, 3 * floor));
}

/// What was said in a stream that breaks off is charged by what it had told, and for the rest by the least that it can be.
#[tokio::test]
async fn an_answer_that_is_cut_off_is_charged_for_what_was_said() {
    let said = "all that was said until then, and no more of it ".repeat(10);
    let start = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":1000,"output_tokens":1}}}"#;
    let delta = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{said}"}}}}"#
    );
    let told = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":500}}"#;
    for (more, output, reckoned) in [(None, 120, true), (Some(told), 500, false)] {
        let mut upstream = Upstream::start().await;
        let gateway = Gateway::before(&upstream, &[]).await;
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], ASK_STREAM).await;
        let mut received = upstream.next().await;
        received.begin_events().await;
        for data in [start, &delta].into_iter().chain(more) {
            received.chunk(&format!("data: {data}\n\n")).await;
        }
        drop(received);
        assert!(!client.answer().await.whole);
        gateway.quiet().await;
        let receipt = gateway.receipt("req_up").await;
        let of = (receipt.outcome.as_str(), receipt.input, receipt.reckoned > 0);
        assert_eq!(of, ("truncated", 1000, reckoned));
        assert!(receipt.output.abs_diff(output) <= 5, "{}", receipt.output);
        assert_eq!(receipt.cost, Some(3 * receipt.input + 15 * receipt.output));
        assert_eq!(receipt.book.as_deref(), Some("2026-11-29"));
    }
}

#[tokio::test]
async fn an_upstream_that_repeats_an_id_costs_no_record() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client.ask("POST /v1/messages", &[], ASK).await;
        answer_json(upstream.next().await).await;
        assert_eq!(client.answer().await.header("request-id"), Some("req_up"));
    }
    gateway.quiet().await;
    assert_eq!(gateway.outcomes().await.len(), 3);
    assert_eq!(gateway.receipt("req_up").await.outcome, "completed", "and the newest is found");
}

/// Two callers before one upstream, which answers each request with what is given.
async fn shared(
    upstream: &mut Upstream,
    client: &mut Client,
    line: &str,
    body: &str,
    answer: &str,
) -> (u16, String) {
    client.ask(line, &[], body).await;
    upstream.next().await.answer("200 OK\r\ncontent-type: application/json", answer).await;
    let told = client.answer().await;
    (told.status, told.text().to_owned())
}

#[tokio::test]
async fn what_one_caller_made_is_no_others() {
    let mut upstream = Upstream::start().await;
    let keys = [("keys", r#"{"one":"local-key","two":"other-key"}"#)];
    let gateway = Gateway::before(&upstream, &keys).await;
    let mut one = gateway.client().await;
    let mut two = Client::connect(gateway.address, Some("other-key")).await;
    let up = &mut upstream;
    shared(up, &mut one, "POST /v1/files", "content", r#"{"id":"file_1"}"#).await;
    let batch = r#"{"requests":[{"custom_id":"1","params":{"model":"m","messages":[]}}]}"#;
    shared(up, &mut one, "POST /v1/messages/batches", batch, r#"{"id":"batch_1"}"#).await;
    shared(up, &mut two, "POST /v1/files", "content", r#"{"id":"file_2"}"#).await;
    // Lists show each its own, and how to go on.
    let list = r#"{"data":[{"id":"file_1"},{"id":"file_2"},{"id":"file_3"}],"has_more":true,"last_id":"file_3"}"#;
    for (client, own) in [(&mut one, "file_1"), (&mut two, "file_2")] {
        assert_eq!(
            shared(up, client, "GET /v1/files?limit=3", "", list).await,
            (200, format!(r#"{{"data":[{{"id":"{own}"}}],"has_more":true,"last_id":"file_3"}}"#))
        );
    }
    // What is another's is not there, however it is asked for.
    let names = |id: &str| {
        ASK.replace(
            "\"hi\"",
            &format!(r#"[{{"type":"document","source":{{"type":"file","file_id":"{id}"}}}}]"#),
        )
    };
    let in_a_batch =
        format!(r#"{{"requests":[{{"custom_id":"1","params":{}}}]}}"#, names("file_1"));
    for (line, body) in [
        ("GET /v1/files/file_1", ""),
        ("GET /v1/files/file_1/content", ""),
        ("DELETE /v1/files/file_1", ""),
        ("GET /v1/messages/batches/batch_1", ""),
        ("GET /v1/messages/batches/batch_1/results", ""),
        ("POST /v1/messages/batches/batch_1/cancel", ""),
        ("DELETE /v1/messages/batches/batch_1", ""),
        ("POST /v1/messages", &names("file_1")),
        ("POST /v1/messages", &names("\\u0066ile_1")),
        ("POST /v1/messages", &names("file_1").replace("file_id", "file\\u005fid")),
        ("POST /v1/messages/batches", &in_a_batch),
    ] {
        two.ask(line, &[], body).await;
        let answer = two.answer().await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (404, &"not_found_error".into()),
            "{line}"
        );
        assert!(up.came().is_none(), "{line}");
    }
    // One's own is, and what nobody made here may be anybody's.
    for (line, body) in [
        ("GET /v1/files/file_1", ""),
        ("GET /v1/files/file_9", ""),
        ("GET /v1/messages/batches/batch_1/results", ""),
        ("POST /v1/messages", &names("file_1")),
    ] {
        assert_eq!(shared(up, &mut one, line, body, "{}").await.0, 200, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_wait_for_memory_and_an_answer_that_outgrows_it_is_none() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("memory_limit", "2MiB")]).await;
    let memory = gateway.app.state.memory.clone();
    let all = memory.left();
    let large = ASK.replace("\"hi\"", &format!("\"{}\"", "x".repeat(3 << 19)));
    let mut first = gateway.client().await;
    first.ask("POST /v1/messages", &[], &large).await;
    let received = upstream.next().await;
    assert!(memory.left() < all, "it is counted while it may be sent again");
    let mut second = gateway.client().await;
    let waits = tokio::spawn(async move {
        second.ask("POST /v1/messages", &[], &large).await;
        second.answer().await.status
    });
    // A small one has not to wait.
    let mut small = gateway.client().await;
    small.ask("POST /v1/messages", &[], ASK).await;
    answer_json(upstream.next().await).await;
    assert_eq!(small.answer().await.status, 200);
    assert!(upstream.came().is_none(), "the second waits");
    answer_json(received).await;
    assert_eq!(first.answer().await.status, 200);
    answer_json(upstream.next().await).await;
    assert_eq!(waits.await.unwrap(), 200, "until there is room");
    // An answer that is held until it is whole takes as much, and no more.
    let mut client = gateway.client().await;
    client.ask("POST /v1/chat/completions", &[], ASK).await;
    let text = "y".repeat(3 << 20);
    let answer = format!(r#"{{"type":"message","content":[{{"type":"text","text":"{text}"}}]}}"#);
    let received = upstream.next().await;
    tokio::spawn(async move {
        received.answer("200 OK\r\ncontent-type: application/json", &answer).await;
    });
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("x-should-retry")),
        (503, Some("false")),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("`memory_limit`"), "{}", answer.text());
    let state = gateway.app.state.clone();
    eventually("all of it is given back", async || {
        (state.memory.left(), state.answers.left()) == (all, all)
    })
    .await;
    // What is larger than all of it is told at once.
    let mut client = gateway.client().await;
    client
        .ask(
            "POST /v1/messages",
            &[],
            &ASK.replace("\"hi\"", &format!("\"{}\"", "x".repeat(3 << 20))),
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[tokio::test]
async fn wrong_keys_are_slowed_down_and_right_ones_are_not() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let mut guesses = Client::connect(gateway.address, Some("wrong")).await;
    for _ in 0..7 {
        assert_eq!(guesses.get("/v1/models").await.status, 401);
    }
    let began = std::time::Instant::now();
    guesses.ask("GET /v1/models", &[], "").await;
    // Who has the key is answered meanwhile.
    assert_eq!(gateway.client().await.get("/v1/models").await.status, 200);
    assert_eq!(guesses.answer().await.status, 401);
    assert!(began.elapsed() >= Duration::from_millis(500), "the eighth waits");
    let began = std::time::Instant::now();
    assert_eq!(guesses.get("/health").await.text(), r#"{"status":"ok"}"#);
    assert!(began.elapsed() >= Duration::from_millis(900), "nor can keys be tried there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_and_steadily_is_not_let_go() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("send_timeout", "2s")]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Length: {}\r\n\r\n{ASK_STREAM}",
        ASK_STREAM.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut received = upstream.next().await;
    received.begin_events().await;
    let feeding = tokio::spawn(async move {
        let event = event(64 << 10);
        while received.try_chunk(&event).await {}
    });
    // Some 2 MB a second, of what comes much faster, for several times as long as it may read nothing.
    let (began, mut piece) = (std::time::Instant::now(), vec![0; 200 << 10]);
    while began.elapsed() < Duration::from_secs(7) {
        assert!(stream.read(&mut piece).await.unwrap() > 0, "after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(stream);
    feeding.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_key_has_a_place_before_who_has_none() {
    let gateway = Gateway::start(&[
        ("upstream.up.kind", "sandbox"),
        ("connections", "8"),
        ("connections_per_address", "8"),
    ])
    .await;
    // All places are taken by guesses whose answers wait, and by bodies that nobody may send.
    let mut guesses = Vec::new();
    for _ in 0..12 {
        let mut guess = Client::connect(gateway.address, Some("wrong")).await;
        guess.ask("POST /v1/messages", &["Content-Length: 100"], "").await;
        guess.write("{").await;
        guesses.push(guess);
    }
    let mut client = gateway.client().await;
    assert_eq!(client.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn a_whole_answer_that_ends_in_its_midst_is_broken_off() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let mut received = upstream.next().await;
    received.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    received.chunk(r#"{"type":"message","content":[{"type":"te"#).await;
    received.end().await;
    assert!(!client.answer().await.whole);
    gateway.quiet().await;
    assert_eq!(gateway.outcomes().await[0].1, "truncated");
}
