//! What programs tell of their sessions by OTLP.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::{ASK, Answer, Client, Gateway, Upstream, answer_json};

const SESSION: &str = "x-claude-code-session-id: s-1";

/// Sends one kind of telemetry with a key.
async fn send(gateway: &Gateway, key: &str, path: &str, kind: &[&str], body: &[u8]) -> Answer {
    let mut client = Client::connect(gateway.address, None).await;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for line in kind {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    client.write(head).await;
    client.write(body).await;
    client.answer().await
}

fn lines(session: &str, count: u32) -> Value {
    let of = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
    json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "claude_code.lines_of_code.count", "sum": {
        "aggregationTemporality": 1, "isMonotonic": true,
        "dataPoints": [{"attributes": [of("session.id", session), of("type", "added")], "asInt": count.to_string()}]}}]}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_tells_is_counted_into_its_session() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(
        &upstream,
        &[("keys", r#"{"ann":"k-ann","bob":"k-bob"}"#), ("admin.callers", "ann")],
    )
    .await;
    upstream.serve(answer_json);
    let mut client = Client::connect(gateway.address, Some("k-ann")).await;
    client.ask("POST /v1/messages", &[SESSION], ASK).await;
    assert_eq!(client.answer().await.status, 200);
    gateway.quiet().await;
    let json_kind = "content-type: application/json; charset=utf-8";
    let body = lines("s-1", 5).to_string();
    for _ in 0..2 {
        let taken = send(&gateway, "k-ann", "/v1/metrics", &[json_kind], body.as_bytes()).await;
        assert_eq!((taken.status, taken.text()), (200, "{}"));
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(body.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let kinds = [json_kind, "content-encoding: gzip"];
    assert_eq!(send(&gateway, "k-ann", "/v1/metrics", &kinds, &packed).await.status, 200);
    let event = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "tool_result",
        "attributes": [{"key": "session.id", "value": {"stringValue": "s-1"}}, {"key": "prompt", "value": {"stringValue": "hush"}}]}]}]}]});
    let event = event.to_string();
    assert_eq!(
        send(&gateway, "k-ann", "/v1/logs", &[json_kind], event.as_bytes()).await.status,
        200
    );
    // Nobody tells of another's session.
    assert_eq!(
        send(&gateway, "k-bob", "/v1/metrics", &[json_kind], body.as_bytes()).await.status,
        200
    );
    gateway.app.state.ledger.store().flush().await;
    let mut owner = Client::connect(gateway.address, Some("k-ann")).await;
    let usage = owner.get("/v1/admin/usage?by=session").await.json();
    let rows = usage["usage"].as_array().unwrap();
    let session = rows.iter().find(|row| row["name"] == "s-1").unwrap();
    let told = json!({"claude_code.lines_of_code.count added": 15.0, "tool_result": 1.0});
    assert_eq!(session["telemetry"], told, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_that_is_none_is_refused_and_none_at_all_is_taken() {
    let gateway = Gateway::start(&[
        ("upstream.s.kind", "sandbox"),
        ("keys", r#"{"me":"k-me"}"#),
        ("body_limit", "1KiB"),
    ])
    .await;
    let long = vec![b' '; 2_000];
    let protobuf = "content-type: application/x-protobuf";
    let json = "content-type: application/json";
    for (path, kind, body, status, told) in [
        ("/v1/metrics", protobuf, &b""[..], 200, ""),
        ("/v1/logs", json, b"{}", 200, "{}"),
        ("/v1/traces", "content-type: application/json; charset=utf-8", b"{}", 200, "{}"),
        ("/v1/metrics", protobuf, b"{}", 400, "no OTLP in protobuf"),
        ("/v1/metrics", json, b"7", 400, "no OTLP in JSON"),
        ("/v1/logs", "content-type: text/plain", b"x", 400, "and this is `text/plain`"),
        ("/v1/logs", json, &long, 413, "`body_limit`"),
    ] {
        let taken = send(&gateway, "k-me", path, &[kind], body).await;
        assert_eq!(taken.status, status, "{path} {kind}: {}", taken.text());
        assert!(taken.text().contains(told), "{path} {kind}: {}", taken.text());
        let of = taken.header("content-type").unwrap();
        assert!(status != 200 || kind.contains(of), "{of}");
    }
    assert_eq!(send(&gateway, "wrong", "/v1/metrics", &[json], b"{}").await.status, 401);
}
