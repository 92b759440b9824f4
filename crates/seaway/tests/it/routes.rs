//! Routes, fallback, the queue, and paths that are nobody's.

use crate::support::{ASK, Client, Gateway, Upstream, answer_json};

async fn pair(extra: &str) -> (Upstream, Upstream, Gateway) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let file = format!(
        "[upstream.one]\nkind='messages'\nbase_url='{}'\nretries=0\n{extra}\n[upstream.two]\nkind='messages'\nbase_url='{}'\nretries=0\n[[route]]\nmodel='only-two'\nupstream='two'\n[[route]]\nmodel='claude-*'\nupstream=['one','two']\n",
        one.url(),
        two.url()
    );
    let gateway = Gateway::with_file(&file, &[]).await;
    (one, two, gateway)
}

#[tokio::test]
async fn a_route_picks_by_model() {
    let (_one, mut two, gateway) = pair("").await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &ASK.replace("claude-sonnet-4-5", "only-two")).await;
    answer_json(two.next().await).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn the_next_upstream_is_tried_before_the_first_byte() {
    for trouble in ["429 X\r\nretry-after: 1", "529 X", "503 X", "reset"] {
        let (mut one, mut two, gateway) = pair("").await;
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], ASK).await;
        let received = one.next().await;
        if trouble == "reset" {
            received.reset();
        } else {
            received.answer(&format!("{trouble}\r\ncontent-type: application/json"), "{}").await;
        }
        let received = two.next().await;
        assert_eq!(received.text(), ASK);
        answer_json(received).await;
        assert_eq!(client.answer().await.status, 200, "{trouble}");
        // The one in trouble rests: the next request goes to the other first.
        client.ask("POST /v1/messages", &[], ASK).await;
        answer_json(two.next().await).await;
        assert_eq!(client.answer().await.status, 200);
        assert!(one.came().is_none(), "{trouble}");
        gateway.quiet().await;
        let receipt = gateway.receipt("req_up").await;
        assert_eq!(receipt.upstream.as_deref(), Some("two"));
    }
}

#[tokio::test]
async fn a_clients_own_mistake_is_not_taken_elsewhere() {
    let (mut one, mut two, gateway) = pair("").await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    one.next()
        .await
        .answer(
            "400 X\r\ncontent-type: application/json",
            "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\"}}",
        )
        .await;
    assert_eq!(client.answer().await.status, 400);
    assert!(two.came().is_none());
}

#[tokio::test]
async fn when_all_fail_the_best_answer_is_told_in_whatever_order_they_came() {
    const LATER: &str = "429 X\r\nretry-after: 7";
    const BUSY: &str = "529 X";
    const NOBODY: &str = "reset";
    for (first, second, told) in [
        (LATER, NOBODY, 1),
        (NOBODY, LATER, 2),
        (LATER, BUSY, 1),
        (BUSY, LATER, 2),
        (BUSY, NOBODY, 1),
        (NOBODY, BUSY, 2),
        ("503 X", BUSY, 1),
    ] {
        let (mut one, mut two, gateway) = pair("").await;
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], ASK).await;
        for (number, (upstream, trouble)) in
            [(&mut one, first), (&mut two, second)].into_iter().enumerate()
        {
            let received = upstream.next().await;
            if trouble == NOBODY {
                received.reset();
            } else {
                let body = format!("{{\"number\":{}}}", number + 1);
                received
                    .answer(&format!("{trouble}\r\ncontent-type: application/json"), &body)
                    .await;
            }
        }
        let answer = client.answer().await;
        assert_eq!(answer.text(), format!("{{\"number\":{told}}}"), "{first}, {second}");
        gateway.quiet().await;
        let receipt = gateway.receipt(answer.header("request-id").unwrap()).await;
        let names = ["one", "two"];
        assert_eq!(receipt.upstream.as_deref(), Some(names[told - 1]), "{first}, {second}");
    }
}

#[tokio::test]
async fn a_full_queue_is_a_429_and_a_freed_place_is_used() {
    let mut upstream = Upstream::start().await;
    let gateway =
        Gateway::before(&upstream, &[("upstream.up.concurrency", "1"), ("upstream.up.queue", "1")])
            .await;
    let (mut first, mut second, mut third) =
        (gateway.client().await, gateway.client().await, gateway.client().await);
    first.ask("POST /v1/messages", &[], ASK).await;
    let held = upstream.next().await;
    second.ask("POST /v1/messages", &[], ASK).await;
    while gateway.app.state.snapshot.load().upstreams[0].gate.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = third.post("/v1/messages", ASK).await;
    assert_eq!((refused.status, refused.header("seaway-fault")), (429, Some("gateway")));
    assert!(refused.header("retry-after").is_some());
    assert!(upstream.came().is_none(), "one at a time");
    answer_json(held).await;
    assert_eq!(first.answer().await.status, 200);
    answer_json(upstream.next().await).await;
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn nobodys_paths_and_wrong_methods_are_told_in_the_dialect_of_the_path() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let table = [
        ("GET /nowhere", 404, "not_found_error"),
        ("GET /v1/nowhere", 404, "not_found_error"),
        ("GET /v1/messages", 405, "invalid_request_error"),
        ("DELETE /v1/models", 405, "invalid_request_error"),
        ("POST /v1/messagesx", 404, "not_found_error"),
        ("POST /v1/%ff/messages", 404, "not_found_error"),
        ("GET /v1/models/%ff", 404, "not_found_error"),
    ];
    for (line, status, kind) in table {
        client.ask(line, &[], if line.starts_with("POST") { ASK } else { "" }).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (status, &kind.into()),
            "{line}"
        );
    }
    for (line, status, words) in [
        ("POST /openai/v1/responses", 400, "input: field required"),
        ("GET /v1/responses/resp_none", 404, "there is no response `resp_none`"),
        ("PUT /v1/responses/resp_none", 405, "PUT cannot be used"),
        ("POST /v1/completions", 404, "use `/v1/chat/completions`"),
        ("GET /v1/chat/completions", 405, "GET cannot be used"),
        ("POST /v1/nobody/chat/completions", 404, "unknown preset `nobody`"),
        ("POST /v1/chat/completions", 400, "messages: field required"),
    ] {
        client.ask(line, &[], if line.starts_with("POST") { r#"{"model":"m"}"# } else { "" }).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json().get("type"), &answer.json()["error"]["type"]),
            (status, None, &"invalid_request_error".into()),
            "{line}"
        );
        assert!(answer.text().contains(words), "{line}: {}", answer.text());
    }
}

#[tokio::test]
async fn addresses_with_v1_twice_or_not_at_all_are_served() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let chat = r#"{"model":"sandbox-opus-1","messages":[{"role":"user","content":"hi"}]}"#;
    let responses = r#"{"model":"sandbox-opus-1","input":"hi"}"#;
    let table = [
        ("POST /v1/v1/messages", ASK, "type"),
        ("POST /v1/v1/messages?beta=true", ASK, "type"),
        ("POST /v1/v1/messages/count_tokens", ASK, "input_tokens"),
        ("POST /messages", ASK, "type"),
        ("POST /anthropic/messages", ASK, "type"),
        ("POST //v1//messages", ASK, "type"),
        ("POST /v1/messages/", ASK, "type"),
        ("POST /chat/completions", chat, "choices"),
        ("POST /v1/v1/chat/completions", chat, "choices"),
        ("POST /openai/chat/completions", chat, "choices"),
        ("POST /responses", responses, "output"),
        ("POST /v1/v1/responses", responses, "output"),
        ("GET /models", "", "data"),
        ("GET /v1/v1/models", "", "data"),
        ("GET /v1/v1/models/sandbox-opus-1", "", "id"),
    ];
    for (line, body, member) in table {
        client.ask(line, &[], body).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        assert!(answer.json().get(member).is_some(), "{line}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_claude_has_not_is_told_in_the_clients_dialect() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let table = [
        ("POST /v1/embeddings", 404, "makes no embeddings"),
        ("POST /embeddings", 404, "makes no embeddings"),
        ("POST /v1/images/generations", 404, "makes no images"),
        ("POST /openai/v1/audio/transcriptions", 404, "neither hears nor speaks"),
        ("POST /v1/moderations", 404, "no endpoint for moderation"),
        ("POST /v1/responses/compact", 404, "context_management"),
        ("GET /v1/assistants", 404, "kept by OpenAI"),
    ];
    for (line, status, words) in table {
        let mut client = gateway.client().await;
        client.ask(line, &[], if line.starts_with("POST") { "{}" } else { "" }).await;
        let answer = client.answer().await;
        // OpenAI's shape: nothing but `error` at the top.
        assert_eq!(
            (answer.status, answer.json().as_object().unwrap().len()),
            (status, 1),
            "{line}: {}",
            answer.text()
        );
        assert!(answer.text().contains(words), "{line}: {}", answer.text());
    }
    for (path, status) in [("/v1/responses", 426), ("/v1/realtime", 426)] {
        let mut client = gateway.client().await;
        client
            .ask(
                &format!("GET {path}"),
                &[
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                ],
                "",
            )
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains("WebSocket"), "{path}: {}", answer.text());
    }
    // Where the path is nobody's, what the client says of itself counts.
    for (header, anthropic) in [
        ("anthropic-version: 2023-06-01", true),
        ("Authorization: Bearer local-key", false),
        ("x-api-key: local-key", true),
    ] {
        let mut client = Client::connect(
            gateway.address,
            if header.contains("key") { None } else { Some(crate::support::KEY) },
        )
        .await;
        client.ask("GET /nowhere", &[header], "").await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json().get("type").is_some()),
            (404, anthropic),
            "{header}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn anyone_may_ask_whether_an_address_is_there() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    for path in ["/", "/argoapi", "/v1", "/v1/messages", "/v1/models", "/api/hello", "/nowhere"] {
        let mut client = Client::connect(gateway.address, None).await;
        client.write(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!(head.status, 200, "{path}");
        // No body, whatever the head says: the next answer follows at once.
        assert_eq!(client.get("/health/live").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_rest_of_the_messages_api_is_its_upstreams() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let table: [(&str, &[&str]); 5] = [
        ("GET /v1/skills?limit=2", &[]),
        ("POST /v1/skills", &["anthropic-beta: skills-2025-10-02"]),
        ("DELETE /v1/user_profiles/up_1", &[]),
        ("GET /v1/sessions", &["anthropic-beta: managed-agents-2026-04-01"]),
        ("POST /v1/sessions/sesn_1/events", &["anthropic-beta: managed-agents-2026-04-01"]),
    ];
    for (line, headers) in table {
        client
            .ask(line, headers, if line.starts_with("POST") { "{\"odd\": 1.0}" } else { "" })
            .await;
        let received = upstream.next().await;
        assert_eq!(
            (received.line.trim_end_matches(" HTTP/1.1"), received.header("x-api-key")),
            (line, Some("upstream-key"))
        );
        assert_eq!(received.text(), if line.starts_with("POST") { "{\"odd\": 1.0}" } else { "" });
        received.answer("200 OK\r\ncontent-type: application/json", "{\"theirs\":1.0}").await;
        assert_eq!(client.answer().await.text(), "{\"theirs\":1.0}", "{line}");
    }
    let own = client.get("/v1/sessions").await;
    assert!(upstream.came().is_none(), "without the beta they are ours: {}", own.text());
    gateway.quiet().await;
    assert_eq!(gateway.outcomes().await.len(), table.len());
    let mut stranger = Client::connect(gateway.address, None).await;
    assert_eq!(stranger.get("/v1/skills").await.status, 401);
    let sandbox = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let answer = sandbox.client().await.get("/v1/skills").await;
    assert_eq!(answer.status, 404, "{}", answer.text());
}
