//! Chat Completions in front of a Messages upstream whose every byte a test decides.

use serde_json::json;

use crate::support::{Gateway, KEY, Upstream, answer_json, events, stream};

const CHAT: &str = r#"{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"hi"}]}"#;
const CHAT_STREAM: &str = r#"{"model":"claude-haiku-4-5","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
const PATH: &str = "POST /v1/chat/completions";

async fn pair(settings: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, settings).await;
    (upstream, gateway)
}

/// The data lines of a stream.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn a_completion_is_asked_for_in_messages_and_answered_in_chat() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &["OpenAI-Organization: o", "anthropic-beta: x"], CHAT).await;
    let received = upstream.next().await;
    assert_eq!(received.line, "POST /v1/messages HTTP/1.1");
    assert_eq!(
        received.text(),
        r#"{"model":"claude-haiku-4-5","max_tokens":32000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#
    );
    assert_eq!(
        (
            received.header("anthropic-version"),
            received.header("x-api-key"),
            received.header("anthropic-beta")
        ),
        (Some("2023-06-01"), Some("upstream-key"), Some("x"))
    );
    assert_eq!(
        (received.header("openai-organization"), received.header("authorization")),
        (None, None)
    );
    answer_json(received).await;
    let answer = client.answer().await;
    assert_eq!(
        (
            answer.status,
            answer.header("x-request-id"),
            answer.header("content-type"),
            answer.header("seaway-note")
        ),
        (200, Some("req_up"), Some("application/json"), None)
    );
    let completion = answer.json();
    assert_eq!(
        (
            &completion["id"],
            &completion["choices"][0]["message"]["content"],
            &completion["usage"]["total_tokens"]
        ),
        (&"chatcmpl-msg_1".into(), &"ok".into(), &5.into())
    );
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!((receipt.outcome.as_str(), receipt.output), ("completed", 2));
    assert_eq!(gateway.outcomes().await, [("completions".to_owned(), "completed".to_owned())]);
}

#[tokio::test]
async fn every_frame_leaves_at_once_and_the_end_is_earned() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], CHAT_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    let script = stream();
    received.chunk(&script[0]).await;
    let head = client.head().await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream; charset=utf-8"))
    );
    let role = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    assert!(role.contains(r#""delta":{"role":"assistant","content":"","refusal":null}"#), "{role}");
    for frame in &script[1..4] {
        received.chunk(frame).await;
    }
    // The rest has not been written yet.
    let text = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    assert!(text.contains(r#""delta":{"content":"grüß 🌊"}"#), "{text}");
    received.chunk(script[4..].concat()).await;
    received.end().await;
    let mut rest = String::new();
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let rest = lines(&rest);
    assert_eq!((rest.len(), rest[2]), (3, "[DONE]"), "{rest:?}");
    assert!(
        rest[0].contains(r#""finish_reason":"stop""#)
            && rest[1]
                .contains(r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"#),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_connection_serves_one_stream_after_the_other() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client.ask(PATH, &[], CHAT_STREAM).await;
        events(upstream.next().await, &stream()).await;
        let answer = client.answer().await;
        assert!(answer.whole && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_and_no_end_mark() {
    for upto in [1, 4, 8] {
        for orderly in [true, false] {
            let (mut upstream, gateway) = pair(&[]).await;
            let mut client = gateway.client().await;
            client.ask(PATH, &[], CHAT_STREAM).await;
            let mut received = upstream.next().await;
            received.begin_events().await;
            received.chunk(stream()[..upto].concat()).await;
            if orderly {
                received.end().await;
            } else {
                received.chunk(": half\n").await;
                drop(received);
            }
            let answer = client.answer().await;
            let lines = lines(answer.text());
            assert!(
                lines
                    .last()
                    .unwrap()
                    .starts_with(r#"{"error":{"message":"the upstream's stream ended"#),
                "{upto} {orderly}: {lines:?}"
            );
            assert!(
                lines
                    .iter()
                    .all(|line| !line.contains(r#""finish_reason":"stop""#) && *line != "[DONE]"),
                "{lines:?}"
            );
            gateway.quiet().await;
            assert_eq!(
                gateway.outcomes().await,
                [("completions".to_owned(), "truncated".to_owned())]
            );
        }
    }
}

#[tokio::test]
async fn what_fails_before_the_first_event_has_a_status() {
    let table = [
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            503,
            "overloaded",
        ),
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n",
            429,
            "rate_limit_exceeded",
        ),
        ("", 502, "null"),
        (": nothing but a comment\n\n", 502, "null"),
        ("data: {\"type\":\"message_start\"\n\n", 502, "null"),
    ];
    for (body, status, code) in table {
        let (mut upstream, gateway) = pair(&[]).await;
        let mut client = gateway.client().await;
        client.ask(PATH, &[], CHAT_STREAM).await;
        let mut received = upstream.next().await;
        received.begin_events().await;
        if !body.is_empty() {
            received.chunk(body).await;
        }
        received.end().await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/json")),
            "{body}"
        );
        assert_eq!(answer.json()["error"]["code"].as_str().unwrap_or("null"), code, "{body}");
    }
}

#[tokio::test]
async fn upstream_errors_keep_their_words_status_and_waits() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow \"down\""},"request_id":"r"}"#;
    for ask in [CHAT, CHAT_STREAM] {
        client.ask(PATH, &[], ask).await;
        let head = "429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 7\r\nrequest-id: req_9\r\nanthropic-ratelimit-requests-limit: 50";
        upstream.next().await.answer(head, body).await;
        let answer = client.answer().await;
        assert_eq!(
            (
                answer.status,
                answer.header("retry-after"),
                answer.header("x-request-id"),
                answer.header("x-ratelimit-limit-requests")
            ),
            (429, Some("7"), Some("req_9"), Some("50"))
        );
        assert_eq!(
            answer.text(),
            r#"{"error":{"message":"slow \"down\"","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#
        );
    }
    for (head, body, status) in [
        (
            "401 Unauthorized\r\ncontent-type: application/json",
            r#"{"type":"error","error":{"type":"authentication_error","message":"bad key"}}"#,
            500,
        ),
        ("503 Service Unavailable\r\ncontent-type: text/html", "<html>busy</html>", 503),
        ("200 OK\r\ncontent-type: text/html", "<html>hello</html>", 502),
        (
            "200 OK\r\ncontent-type: application/json",
            r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#,
            502,
        ),
        ("200 OK\r\ncontent-type: application/json", "", 502),
    ] {
        client.ask(PATH, &[], CHAT).await;
        upstream.next().await.answer(head, body).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["message"].is_string()),
            (status, true),
            "{head}"
        );
    }
}

#[tokio::test]
async fn silence_is_filled_with_comments_also_before_the_first_event() {
    let (mut upstream, gateway) = pair(&[("ping", "30ms")]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], CHAT_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.chunk().await.unwrap(), b": keep-alive\n\n");
    received.chunk(stream().concat()).await;
    received.end().await;
    let mut rest = Vec::new();
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        rest.extend(chunk);
    }
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_upstream() {
    let (mut upstream, gateway) = pair(&[]).await;
    for begun in [true, false] {
        let mut client = gateway.client().await;
        client.ask(PATH, &[], CHAT_STREAM).await;
        let mut received = upstream.next().await;
        received.begin_events().await;
        if begun {
            received.chunk(&stream()[0]).await;
            client.head().await;
        }
        drop(client);
        received.gone().await;
    }
    gateway.quiet().await;
    assert_eq!(
        gateway.outcomes().await,
        [
            ("completions".to_owned(), "client_gone".to_owned()),
            ("completions".to_owned(), "client_gone".to_owned())
        ]
    );
}

#[tokio::test]
async fn what_is_not_carried_over_is_noted_and_refused_when_strict() {
    let ask = CHAT.replace("\"messages\"", "\"seed\":1,\"messages\"");
    let (mut upstream, gateway) =
        pair(&[("alias", r#"{"claude-haiku-4-5":"claude-opus-5-5"}"#)]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], &ask).await;
    answer_json(upstream.next().await).await;
    assert_eq!(client.answer().await.header("seaway-note"), Some("alias model, seed ignored"));
    let (_upstream, gateway) = pair(&[("strict", "true")]).await;
    let answer = gateway.client().await.post("/v1/chat/completions", &ask).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"], &answer.json()["error"]["code"]),
        (400, &"seed".into(), &"unsupported_parameter".into())
    );
}

#[tokio::test]
async fn an_upstream_that_speaks_chat_is_relayed() {
    let (mut upstream, gateway) =
        pair(&[("upstream.up.speaks", "chat"), ("alias", r#"{"gpt":"gpt4o"}"#)]).await;
    let mut client = gateway.client().await;
    let ask = r#"{ "model": "gpt", "n":2, "brand_new": 1.0, "messages":[] }"#;
    client.ask("POST /v1/chat/completions?x=1", &["OpenAI-Beta: b"], ask).await;
    let received = upstream.next().await;
    assert_eq!(received.line, "POST /v1/chat/completions?x=1 HTTP/1.1");
    assert_eq!(received.text(), ask.replace("\"gpt\"", "\"gpt4o\""));
    assert_eq!(
        (
            received.header("openai-beta"),
            received.header("anthropic-version"),
            received.header("x-api-key")
        ),
        (Some("b"), None, Some("upstream-key"))
    );
    let body = r#"{"model":"gpt4o","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2},"new": 1.0}"#;
    received.answer("200 OK\r\ncontent-type: application/json\r\nx-request-id: req_c", body).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("x-request-id")), (body, Some("req_c")));
    gateway.quiet().await;
    assert_eq!(gateway.receipt("req_c").await.output, 2);
    let refused = client.post("/v1/messages", crate::support::ASK).await;
    assert_eq!(
        (
            refused.status,
            refused.json()["error"]["message"].as_str().unwrap().contains("speaks chat only")
        ),
        (400, true)
    );
}

#[tokio::test]
async fn a_relayed_chat_stream_that_is_cut_is_broken_off() {
    let (mut upstream, gateway) = pair(&[("upstream.up.speaks", "messages,chat")]).await;
    let mut client = gateway.client().await;
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    for whole in [true, false] {
        client.ask(PATH, &[], CHAT_STREAM).await;
        let mut received = upstream.next().await;
        assert_eq!(received.text(), CHAT_STREAM);
        received.begin_events().await;
        received.chunk(chunk).await;
        if whole {
            received.chunk("data: [DONE]\n\n").await;
        }
        received.end().await;
        let answer = client.answer().await;
        assert_eq!((answer.whole, answer.text().starts_with(chunk)), (whole, true));
    }
}

#[tokio::test]
async fn the_next_upstream_is_asked_from_the_clients_own_bytes() {
    let (mut first, mut second) = (Upstream::start().await, Upstream::start().await);
    let (one, two) = (first.url(), second.url());
    let file = format!(
        "[upstream.a]\nkind = 'messages'\nbase_url = '{one}'\napi_key = 'x'\nspeaks = 'chat'\n[upstream.b]\nkind = 'messages'\nbase_url = '{two}'\napi_key = 'x'\nsystem_prefix = 'P'\n[[route]]\nmodel = '*'\nupstream = ['a', 'b']\n"
    );
    let gateway = Gateway::with_file(&file, &[]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], CHAT).await;
    let received = first.next().await;
    assert_eq!(received.text(), CHAT);
    received.answer("503 Service Unavailable\r\ncontent-type: application/json", "{}").await;
    let received = second.next().await;
    assert_eq!(received.line, "POST /v1/messages HTTP/1.1");
    assert!(
        received.text().contains(r#""system":[{"type":"text","text":"P"}]"#),
        "{}",
        received.text()
    );
    answer_json(received).await;
    assert_eq!(client.answer().await.json()["choices"][0]["message"]["content"], "ok");
}

#[tokio::test]
async fn an_unknown_model_takes_what_its_upstream_says() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    client
        .ask(
            PATH,
            &[],
            &CHAT
                .replace("claude-haiku-4-5", "in-house")
                .replace("\"messages\"", "\"reasoning_effort\":\"high\",\"messages\""),
        )
        .await;
    let listed = upstream.next().await;
    assert!(listed.line.starts_with("GET /v1/models"), "{}", listed.line);
    let models = r#"{"data":[{"id":"in-house","max_tokens":5000,"capabilities":{"effort":{"supported":true},"thinking":{"types":{"adaptive":{"supported":true}}}}}]}"#;
    listed.answer("200 OK\r\ncontent-type: application/json", models).await;
    let received = upstream.next().await;
    assert!(received.text().contains(r#""max_tokens":5000,"thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"high"}"#), "{}", received.text());
    answer_json(received).await;
    assert_eq!(client.answer().await.header("seaway-note"), None);
}

#[tokio::test]
async fn the_key_is_asked_for_in_chats_own_words() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let mut stranger = crate::support::Client::connect(gateway.address, None).await;
    let refused = stranger.post("/v1/chat/completions", CHAT).await;
    assert_eq!(
        (
            refused.status,
            &refused.json()["error"]["code"],
            refused.header("x-request-id").is_some()
        ),
        (401, &"invalid_api_key".into(), true)
    );
    for line in [
        "POST /v1/chat/completions",
        "POST /openai/v1/chat/completions",
        "POST /v1/terse/chat/completions",
    ] {
        stranger.ask(line, &[&format!("Authorization: Bearer {KEY}")], CHAT).await;
        let answer = stranger.answer().await;
        assert_eq!(
            (answer.status, answer.header("seaway-simulated")),
            (200, Some("true")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_upstreams_pings_do_not_silence_ours() {
    let (mut upstream, gateway) = pair(&[("ping", "40ms")]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], CHAT_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(&stream()[0]).await;
    client.head().await;
    client.chunk().await.unwrap();
    let pings = async {
        loop {
            received.chunk("event: ping\ndata: {\"type\":\"ping\"}\n\n").await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = pings => {}
        chunk = client.chunk() => assert_eq!(chunk.unwrap(), b": keep-alive\n\n"),
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_asked_is_passed_over() {
    let (mut first, second) = (Upstream::start().await, Upstream::start().await);
    let (one, two) = (first.url(), second.url());
    let file = format!(
        "[upstream.a]\nkind = 'messages'\nbase_url = '{one}'\napi_key = 'x'\n[upstream.b]\nkind = 'messages'\nbase_url = '{two}'\napi_key = 'x'\nspeaks = 'chat'\n[[route]]\nmodel = '*'\nupstream = ['a', 'b']\n"
    );
    let gateway = Gateway::with_file(&file, &[]).await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        // The second time the first one rests, and is asked all the same.
        client.ask("POST /v1/messages", &[], crate::support::ASK).await;
        let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        first
            .next()
            .await
            .answer("529 Overloaded\r\ncontent-type: application/json\r\nretry-after: 3", body)
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("retry-after"), answer.text()),
            (529, Some("3"), body)
        );
    }
}

#[tokio::test]
async fn an_encoded_answer_is_not_passed_off_as_ours() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    for (status, expect) in [("429 Too Many Requests", 429), ("200 OK", 502)] {
        client.ask(PATH, &[], CHAT).await;
        upstream.next().await.answer(&format!("{status}\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\netag: x"), "\u{1f}\u{8b}").await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("content-encoding"), answer.header("etag")),
            (expect, None, None)
        );
        assert!(answer.json()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn a_limit_of_the_configuration_holds_where_the_client_gives_none() {
    let (mut upstream, gateway) = pair(&[("preset.short.defaults", r#"{"max_tokens":5}"#)]).await;
    let mut client = gateway.client().await;
    let limited = CHAT.replace("\"messages\"", "\"max_tokens\":7,\"messages\"");
    for (ask, limit, note) in
        [(CHAT, 5, Some("preset:short max_tokens")), (limited.as_str(), 7, None)]
    {
        client.ask("POST /v1/short/chat/completions", &[], ask).await;
        let received = upstream.next().await;
        assert!(
            received.text().contains(&format!("\"max_tokens\":{limit},")),
            "{}",
            received.text()
        );
        answer_json(received).await;
        assert_eq!(client.answer().await.header("seaway-note"), note);
    }
}

#[tokio::test]
async fn a_cache_mark_of_the_configuration_leaves_three_for_the_client() {
    let (mut upstream, gateway) =
        pair(&[("upstream.up.set", r#"{"cache_control":{"type":"ephemeral"}}"#)]).await;
    let mut client = gateway.client().await;
    let part = r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}"#;
    client.ask(PATH, &[], &CHAT.replace("\"hi\"", &format!("[{}]", [part; 4].join(",")))).await;
    let received = upstream.next().await;
    assert_eq!(received.text().matches("cache_control").count(), 4, "{}", received.text());
    assert!(
        received.text().ends_with(r#""cache_control":{"type":"ephemeral"}}"#),
        "{}",
        received.text()
    );
    answer_json(received).await;
    assert_eq!(
        client.answer().await.header("seaway-note"),
        Some("cache_control left out but for the last ones, set cache_control")
    );
}

#[tokio::test]
async fn configured_edits_are_made_also_where_the_upstream_speaks_chat() {
    let (mut upstream, gateway) =
        pair(&[("upstream.up.speaks", "messages,chat"), ("upstream.up.system_prefix", "P")]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], CHAT).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.line.as_str(), received.text().contains(r#""text":"P""#)),
        ("POST /v1/messages HTTP/1.1", true)
    );
    answer_json(received).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_stream_is_one_whatever_it_calls_itself() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    for kind in ["text/plain", "Text/Event-Stream;charset=utf-8", "application/octet-stream"] {
        client.ask(PATH, &[], CHAT_STREAM).await;
        upstream
            .next()
            .await
            .answer(&format!("200 OK\r\ncontent-type: {kind}"), &stream().concat())
            .await;
        let answer = client.answer().await;
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{kind}: {}", answer.text());
    }
    client.ask(PATH, &[], CHAT_STREAM).await;
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"word for word"}}"#;
    upstream.next().await.answer("200 OK\r\ncontent-type: application/json", body).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (502, &"word for word".into()));
}

#[tokio::test]
async fn what_came_before_a_failure_is_counted() {
    let (mut upstream, gateway) = pair(&[]).await;
    let mut client = gateway.client().await;
    client.ask(PATH, &[], &CHAT.replace("\"messages\"", "\"stream\":true,\"messages\"")).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(format!("{}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":\"x\"}}}}\n\n", stream()[0])).await;
    received.end().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-request-id")), (500, Some("req_up")));
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!((receipt.outcome.as_str(), receipt.input, receipt.status), ("faulted", 3, 500));
}

#[tokio::test]
async fn what_a_strict_tool_cannot_be_is_noted_and_not_sent() {
    let gateway = Gateway::start(&[("upstream.s.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let schemas = [
        json!({}),
        json!({"description": "x"}),
        json!({"type": "object", "properties": {}}),
        json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}),
        json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "OBJECT", "properties": {"b": {}}}}}),
        json!({"type": "object", "properties": {"a": null}, "required": ["a", null]}),
    ];
    for parameters in schemas {
        let tool = json!({"type": "function", "function": {"name": "f", "strict": true, "parameters": parameters}});
        let ask = json!({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]});
        let answer = client.post("/v1/chat/completions", &ask.to_string()).await;
        assert_eq!(answer.status, 200, "{parameters}: {}", answer.text());
        assert!(
            answer.header("seaway-note").is_some_and(|note| note.contains("strict left out")),
            "{parameters}: {:?}",
            answer.header("seaway-note")
        );
    }
    // Who thinks begins with it, so an answer that is begun leaves no place for it.
    let begun = json!({"model": "claude-sonnet-4-5", "reasoning_effort": "high", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}]});
    let answer = client.post("/v1/chat/completions", &begun.to_string()).await;
    assert_eq!(
        (answer.status, answer.header("seaway-note")),
        (200, Some("reasoning_effort left out")),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn no_mark_lives_longer_than_one_before_it() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let part = json!({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}});
    let ask = json!({"model": "claude-opus-4-8", "cache_control": {"type": "ephemeral", "ttl": "1h"}, "messages": [{"role": "user", "content": [part]}]});
    client.ask("POST /v1/chat/completions", &[], &ask.to_string()).await;
    let received = upstream.next().await;
    assert!(!received.text().contains("1h"), "{}", received.text());
    answer_json(received).await;
    assert!(
        client
            .answer()
            .await
            .header("seaway-note")
            .is_some_and(|note| note.contains("cache_control.ttl lowered to 5m"))
    );
}
