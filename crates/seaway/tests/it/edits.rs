//! Edits and their receipts.

use crate::support::{ASK, Client, Gateway, KEY, Upstream, answer_json};

#[tokio::test]
async fn every_edit_has_a_receipt() {
    let mut upstream = Upstream::start().await;
    let settings = [
        ("alias", r#"{"gpt-*":"claude-y"}"#),
        ("upstream.up.system_prefix", "P"),
        ("upstream.up.strip_cache_ttl", "true"),
        ("upstream.up.one_sampling_param", "true"),
        ("upstream.up.drop", "metadata"),
        ("upstream.up.strict_tools", "drop"),
        ("upstream.up.set", r#"{"service_tier":"auto"}"#),
    ];
    let gateway = Gateway::before(&upstream, &settings).await;
    let mut client = gateway.client().await;
    let body = r#"{"model":"gpt-4o","metadata":{"user_id":"u"},"temperature":0.7,"top_p":1,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}],"tools":[{"name":"n","strict":true}],"messages":[]}"#;
    client.ask("POST /v1/messages", &[], body).await;
    let received = upstream.next().await;
    assert_eq!(
        received.text(),
        r#"{"model":"claude-y","temperature":0.7,"system":[{"type":"text","text":"P"},{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"tools":[{"name":"n"}],"messages":[],"service_tier":"auto"}"#
    );
    answer_json(received).await;
    let answer = client.answer().await;
    let receipts = "drop metadata, one_sampling_param top_p, alias model, set service_tier, system_prefix system, strip_cache_ttl system[0].cache_control.ttl, strict_tools tools[0].strict";
    assert_eq!(answer.header("seaway-note"), Some(receipts));
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    let kept: Vec<String> =
        receipt.changes.iter().map(|(name, path)| format!("{name} {path}")).collect();
    assert_eq!(kept.join(", "), receipts);
    assert_eq!(
        (receipt.asked.as_str(), receipt.body_in.as_ref().map(String::len)),
        ("gpt-4o", Some(64))
    );
    assert_ne!(receipt.body_in, receipt.body_out);
}

#[tokio::test]
async fn a_preset_is_named_by_path_or_header() {
    let mut upstream = Upstream::start().await;
    let file = "[preset.'my one']\nsystem = 'Be brief.'\nsuffix = 'Thanks.'\nsuffix_thinking = 'Think.'\ndefaults = { top_k = 5, max_tokens = 1 }\n";
    let url = upstream.url();
    let gateway = Gateway::with_file(
        file,
        &[("upstream.up.kind", "messages"), ("upstream.up.base_url", &url)],
    )
    .await;
    let mut client = gateway.client().await;
    let edited = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi\n\nThanks."}],"top_k":5,"system":[{"type":"text","text":"Be brief."}]}"#;
    for (path, headers) in [
        ("/v1/my%20one/messages?x=1", &[][..]),
        ("/v1/messages?x=1", &["seaway-preset: my one"][..]),
    ] {
        client.ask(&format!("POST {path}"), headers, ASK).await;
        let received = upstream.next().await;
        assert_eq!(
            (received.line.as_str(), received.text().as_str()),
            ("POST /v1/messages?x=1 HTTP/1.1", edited)
        );
        assert_eq!(received.header("seaway-preset"), None);
        answer_json(received).await;
        assert_eq!(
            client.answer().await.header("seaway-note"),
            Some("preset:my one top_k, preset:my one system, preset:my one messages[0].content")
        );
    }
    let answer = client.post("/v1/nothing/messages", ASK).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("there are `my one`, `terse`"), "{}", answer.text());
}

#[tokio::test]
async fn a_missing_model_is_the_default_one_or_an_error() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("model.default", "claude-d")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], r#"{"messages":[]}"#).await;
    let received = upstream.next().await;
    assert_eq!(received.text(), r#"{"messages":[],"model":"claude-d"}"#);
    answer_json(received).await;
    assert_eq!(client.answer().await.header("seaway-note"), Some("model.default model"));
    let gateway = Gateway::before(&upstream, &[]).await;
    let answer = gateway.client().await.post("/v1/messages", r#"{"messages":[]}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["message"]),
        (400, &"model: field required".into())
    );
}

#[tokio::test]
async fn a_reload_changes_what_comes_next_and_a_bad_one_nothing() {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let gateway =
        Gateway::with_file("", &[("upstream.up.kind", "messages"), ("upstream.up.base_url", &url)])
            .await;
    let path = gateway.state.path().join("seaway.toml");
    let instance = seaway::instance::find(gateway.state.path()).remove(0);
    let reload = async || {
        let stream = tokio::net::UnixStream::connect(&instance.socket).await.unwrap();
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request =
            http::Request::post("/owner/reload").header("host", "x").body(String::new()).unwrap();
        send.send_request(request).await.unwrap().status().as_u16()
    };
    let mut client = Client::connect(gateway.address, Some(KEY)).await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let in_flight = upstream.next().await;
    std::fs::write(&path, "[alias]\nclaude-sonnet-4-5 = 'claude-z'\n").unwrap();
    assert_eq!(reload().await, 200);
    answer_json(in_flight).await;
    assert_eq!(
        client.answer().await.header("seaway-note"),
        None,
        "what began before the reload ends as it began"
    );
    for _ in 0..2 {
        client.ask("POST /v1/messages", &[], ASK).await;
        let received = upstream.next().await;
        assert!(received.text().contains("claude-z"));
        answer_json(received).await;
        assert_eq!(client.answer().await.status, 200);
        std::fs::write(&path, "lisen = 1\n").unwrap();
        assert_eq!(reload().await, 400, "and the next request goes as before");
    }
    assert_eq!(upstream.connections(), 1, "an upstream that did not change keeps its connections");
    std::fs::write(&path, "[preset.'grüß']\nsystem = 'x'\n").unwrap();
    assert_eq!(reload().await, 200);
    client.ask("POST /v1/messages", &["seaway-preset: grüß"], ASK).await;
    answer_json(upstream.next().await).await;
    assert_eq!(
        client.answer().await.header("seaway-note"),
        Some("preset:grüß system"),
        "a receipt in any script"
    );
}
