//! Bytes that need no translation are not touched, in either direction.

use crate::support::{ASK, Client, Gateway, Upstream, answer_json, events, stream};

/// Key order, spacing, number spelling, escapes and unknown members: all a gateway could spoil.
const ODD: &str = "{\n \"stream\" :false,\"zeta\":1.0,\"model\":\"claude-\\u0078\",\"n\":12345678901234567890,\"messages\":[{\"content\":\"\\ud83d\\ude00 ü\",\"role\":\"user\",\"new\":{}}] ,\"max_tokens\":9}\n";

#[tokio::test]
async fn a_request_reaches_the_upstream_byte_for_byte() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    for path in
        ["/v1/messages?beta=true&u=http://a//b", "/anthropic/v1/messages?beta=true&u=http://a//b"]
    {
        let headers = [
            "Anthropic-Beta: a,b-2026",
            "anthropic-version: 2026-10-21",
            "anthropic-new: yes",
            "User-Agent: tester/1",
            "X-Stainless-Lang: rust",
            "Accept-Encoding: gzip",
        ];
        client.ask(&format!("POST {path}"), &headers, ODD).await;
        let received = upstream.next().await;
        assert_eq!(received.line, "POST /v1/messages?beta=true&u=http://a//b HTTP/1.1");
        assert_eq!(received.text(), ODD);
        let sent = |name| received.header(name).map(str::to_owned);
        assert_eq!(sent("anthropic-beta").as_deref(), Some("a,b-2026"));
        assert_eq!(sent("anthropic-version").as_deref(), Some("2026-10-21"));
        assert_eq!(sent("anthropic-new").as_deref(), Some("yes"));
        assert_eq!(sent("x-stainless-lang").as_deref(), Some("rust"));
        assert_eq!(
            sent("user-agent").unwrap(),
            format!("tester/1 seaway/{}", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(sent("host").unwrap(), upstream.address.to_string());
        assert_eq!(sent("x-api-key").as_deref(), Some("upstream-key"));
        assert_eq!(
            (sent("authorization"), sent("accept-encoding"), sent("transfer-encoding")),
            (None, None, None)
        );
        answer_json(received).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("request-id"), answer.header("x-request-id")),
            (200, Some("req_up"), Some("req_up"))
        );
        assert_eq!(answer.header("seaway-note"), None, "a relay has no receipt");
    }
}

#[tokio::test]
async fn an_answer_reaches_the_client_byte_for_byte() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let body = "{ \"id\":\"m\",\n\"n\":1.0 , \"usage\":{}}\n";
    client.ask("POST /v1/messages", &[], ASK).await;
    let head = "200 OK\r\ncontent-type: application/json; charset=utf-8\r\nanthropic-ratelimit-requests-remaining: 4\r\nanthropic-organization-id: o\r\nx-should-retry: true\r\nServer: up\r\nset-cookie: c\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nrequest-id: req_9";
    upstream.next().await.answer(head, body).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), body);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), Some("4"));
    assert_eq!(answer.header("anthropic-organization-id"), Some("o"));
    assert_eq!(answer.header("x-should-retry"), Some("true"));
    assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!(
        (answer.header("server"), answer.header("set-cookie"), answer.header("x-hop")),
        (None, None, None)
    );
    assert!(answer.header("date").is_some());
}

#[tokio::test]
async fn a_count_is_never_streamed_and_its_body_is_not_touched() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(
        &upstream,
        &[("upstream.up.stream", "always"), ("upstream.up.set", r#"{"max_tokens":1}"#)],
    )
    .await;
    let mut client = gateway.client().await;
    let body = r#"{"model":"claude-sonnet-4-5","messages":[]}"#;
    client.ask("POST /v1/messages/count_tokens?beta=true", &[], body).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.line.as_str(), received.text().as_str()),
        ("POST /v1/messages/count_tokens?beta=true HTTP/1.1", body)
    );
    received
        .answer("200 OK\r\ncontent-type: application/json", r#"{"input_tokens":7,"new":1}"#)
        .await;
    assert_eq!(client.answer().await.text(), r#"{"input_tokens":7,"new":1}"#);
}

#[tokio::test]
async fn a_stream_is_relayed_with_what_is_newer_than_this_gateway() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], crate::support::ASK_STREAM).await;
    events(upstream.next().await, &stream()).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), stream().concat());
    assert!(answer.whole);
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!((receipt.input, receipt.output, receipt.outcome.as_str()), (3, 7, "completed"));
    assert_eq!(
        (receipt.stop_reason.as_deref(), receipt.model.as_deref(), receipt.caller.as_str()),
        (Some("end_turn"), Some("claude-x"), "tester")
    );
    assert_eq!(receipt.body_in, receipt.body_out);
    assert_eq!(receipt.changes, []);
}

#[tokio::test]
async fn batches_and_files_are_relayed() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages/batches?beta=true", &[], r#"{"requests":[]}"#).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.line.as_str(), received.text().as_str()),
        ("POST /v1/messages/batches?beta=true HTTP/1.1", r#"{"requests":[]}"#)
    );
    received.answer("200 OK\r\ncontent-type: application/json", "{\"id\":\"b\"}").await;
    assert_eq!(client.answer().await.text(), "{\"id\":\"b\"}");
    client.ask("GET /anthropic/v1/files/f_1/content", &[], "").await;
    let received = upstream.next().await;
    assert_eq!(received.line, "GET /v1/files/f_1/content HTTP/1.1");
    received.answer("200 OK\r\ncontent-type: application/octet-stream", "bytes").await;
    assert_eq!(client.answer().await.text(), "bytes");
    for path in [
        "/v1/files/../organizations/api_keys",
        "/v1/files/%2E%2e/x",
        "/v1/messages/batches/../../files",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
    }
    client.ask("DELETE /v1/files/f_1", &[], "").await;
    upstream
        .next()
        .await
        .answer("404 Not Found\r\ncontent-type: application/json", "{\"type\":\"error\"}")
        .await;
    assert_eq!(client.answer().await.status, 404);
}

/// Sends a request, has one upstream answer it, and returns the line of it that the upstream got.
async fn served(
    client: &mut Client,
    upstream: &mut Upstream,
    line: &str,
    body: &str,
    answer: &str,
) -> String {
    client.ask(line, &[], body).await;
    let received = upstream.next().await;
    let got = received.line.clone();
    received.answer("200 OK\r\ncontent-type: application/json", answer).await;
    let told = client.answer().await;
    assert_eq!((told.status, told.text()), (200, answer), "{line}");
    got
}

fn batch(models: &[&str]) -> String {
    let requests: Vec<String> = models
        .iter()
        .map(|model| format!(r#"{{"custom_id":"{model}","params":{{"model":"{model}"}}}}"#))
        .collect();
    format!(r#"{{"requests":[{}]}}"#, requests.join(","))
}

/// A message that names a file.
fn message(model: &str, file: &str) -> String {
    let source = format!(r#"{{"type":"file","file_id":"{file}"}}"#);
    let content = format!(r#"[{{"type":"document","source":{source}}}]"#);
    format!(
        r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":{content}}}]}}"#
    )
}

#[tokio::test]
async fn batches_and_files_stay_with_their_upstream() {
    let (mut first, mut second) = (Upstream::start().await, Upstream::start().await);
    let (one, two) = (first.url(), second.url());
    let config = format!(
        "[upstream.a]\nkind = 'messages'\nbase_url = '{one}'\napi_key = 'x'\n[upstream.b]\nkind = 'messages'\nbase_url = '{two}'\napi_key = 'x'\n[alias]\nfar = 'claude-b'\n[[route]]\nmodel = 'claude-b'\nupstream = 'b'\n[[route]]\nmodel = 'claude-both'\nupstream = ['b', 'a']\n[[route]]\nmodel = '*'\nupstream = ['a', 'b']\n"
    );
    let gateway = Gateway::with_file(&config, &[]).await;
    let mut client = gateway.client().await;
    // By its models, also by what an alias stands for, to where all of them can go.
    for (models, id) in [
        (&["claude-b"][..], "b1"),
        (&["far"], "b2"),
        (&["claude-a", "claude-b"], "b3"),
        (&["claude-both", "claude-b"], "b4"),
    ] {
        let made = format!(r#"{{"id":"{id}","type":"message_batch"}}"#);
        assert_eq!(
            served(
                &mut client,
                &mut second,
                "POST /v1/messages/batches?beta=true",
                &batch(models),
                &made
            )
            .await,
            "POST /v1/messages/batches?beta=true HTTP/1.1"
        );
    }
    served(
        &mut client,
        &mut first,
        "POST /v1/messages/batches",
        &batch(&["claude-a"]),
        r#"{"id":"a1"}"#,
    )
    .await;
    served(&mut client, &mut second, "GET /v1/messages/batches/b1/results", "", "{}").await;
    served(&mut client, &mut second, "POST /anthropic/v1/messages/batches/b3/cancel", "", "{}")
        .await;
    served(&mut client, &mut second, "GET /v1/messages/batches/b4/newer/x", "", "{}").await;
    served(&mut client, &mut first, "GET /v1/messages/batches/a1", "", "{}").await;
    served(&mut client, &mut first, "GET /v1/messages/batches/nobodys", "", "{}").await;
    // A file goes to the first, and the messages that name it follow.
    served(
        &mut client,
        &mut first,
        "POST /v1/files",
        "content",
        r#"{"id":"file_1","type":"file"}"#,
    )
    .await;
    served(&mut client, &mut first, "GET /v1/files/file_1/content", "", "{}").await;
    served(&mut client, &mut second, "POST /v1/messages", &message("claude-both", "nobodys"), "{}")
        .await;
    served(&mut client, &mut first, "POST /v1/messages", &message("claude-both", "file_1"), "{}")
        .await;
    served(&mut client, &mut second, "POST /v1/messages", &message("claude-b", "file_1"), "{}")
        .await;
    // What was deleted is forgotten, a moment later.
    served(&mut client, &mut second, "DELETE /v1/messages/batches/b1", "", "{}").await;
    while gateway.app.state.ledger.store().made_at("b1").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    served(&mut client, &mut first, "GET /v1/messages/batches/b1", "", "{}").await;
}

#[tokio::test]
async fn a_batch_for_the_only_upstream_is_sent_as_it_comes() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("body_limit", "1KiB")]).await;
    let mut client = gateway.client().await;
    let large = format!(r#"{{"requests":[{{"params":{{"model":"{}"}}}}]}}"#, "x".repeat(5000));
    served(&mut client, &mut upstream, "POST /v1/messages/batches", &large, r#"{"id":"b"}"#).await;
    // What calls itself an error is its client's to read.
    let odd = r#"{"error":{"type":"x","message":"y"}}"#;
    served(&mut client, &mut upstream, "POST /v1/files", "content", odd).await;
    gateway.quiet().await;
    let completed = |endpoint: &str| (endpoint.to_owned(), "completed".to_owned());
    assert_eq!(gateway.outcomes().await[0], completed("batches"));
}

#[tokio::test]
async fn a_batch_that_belongs_nowhere_is_refused_in_words() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (one, two) = (first.url(), second.url());
    let config = format!(
        "[upstream.a]\nkind = 'messages'\nbase_url = '{one}'\napi_key = 'x'\n[upstream.b]\nkind = 'messages'\nbase_url = '{two}'\napi_key = 'x'\n[[route]]\nmodel = 'claude-b'\nupstream = 'b'\n[[route]]\nmodel = '*'\nupstream = 'a'\n"
    );
    let gateway = Gateway::with_file(&config, &[]).await;
    let mut client = gateway.client().await;
    client
        .ask(
            "POST /v1/messages/batches",
            &[],
            r#"{"requests":[{"params":{"model":"claude-a"}},{"params":{"model":"claude-b"}}]}"#,
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (400, Some("invalid_request_error"))
    );
    assert!(answer.text().contains("`claude-a` to a, `claude-b` to b"), "{}", answer.text());
}

#[tokio::test]
async fn a_chunked_body_arrives_and_the_connection_goes_on() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let (first, second) = ASK.split_at(20);
    client.write("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nauthorization: Bearer local-key\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client
        .write(format!(
            "{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        ))
        .await;
    let received = upstream.next().await;
    assert_eq!(
        (received.text().as_str(), received.header("content-length")),
        (ASK, Some(ASK.len().to_string().as_str()))
    );
    answer_json(received).await;
    assert_eq!(client.answer().await.status, 200);
    client.ask("POST /v1/messages", &[], ASK).await;
    answer_json(upstream.next().await).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(upstream.connections(), 1, "connections to the upstream are used again");
}

#[tokio::test]
async fn two_hundred_at_once_open_no_connection_after_the_first_round() {
    const CLIENTS: usize = 200;
    let mut upstream = Upstream::start().await;
    // With fewer kept than there are, and with none, so many are opened anew.
    for (keepalive, threads, rounds) in
        [("256", "2", [200, 0, 0]), ("60", "1", [200, 140, 140]), ("0", "2", [200, 200, 200])]
    {
        let gateway = Gateway::before(
            &upstream,
            &[("upstream.up.keepalive", keepalive), ("threads", threads)],
        )
        .await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(gateway.client().await);
        }
        for opened in rounds {
            let before = upstream.connections();
            for client in &mut clients {
                client.ask("POST /v1/messages", &[], ASK).await;
            }
            let mut received = Vec::new();
            while received.len() < CLIENTS {
                received.push(upstream.next().await);
            }
            assert_eq!(upstream.connections() - before, opened, "keepalive {keepalive}");
            for received in received {
                answer_json(received).await;
            }
            for client in &mut clients {
                assert_eq!(client.answer().await.status, 200);
            }
        }
    }
}
