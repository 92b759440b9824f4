//! `stream = "always"`: a client that asked for no stream gets the whole message.

use crate::support::{ASK, ASK_STREAM, Gateway, Upstream, events, stream};

async fn pair() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.stream", "always")]).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_stream_is_folded_into_the_message() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let received = upstream.next().await;
    assert_eq!(received.text(), ASK.replace("\"hi\"}]}", "\"hi\"}],\"stream\":true}"));
    events(received, &stream()).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.header("request-id")),
        (200, Some("application/json"), Some("req_up"))
    );
    assert_eq!(answer.header("seaway-note"), Some("stream stream"));
    let message = answer.json();
    assert_eq!(
        (&message["content"][0]["text"], &message["content"][0]["x"]),
        (&"grüß 🌊".into(), &1.0.into())
    );
    assert_eq!(
        (&message["stop_reason"], &message["usage"]["output_tokens"]),
        (&"end_turn".into(), &7.into())
    );
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!((receipt.outcome.as_str(), receipt.output), ("completed", 7));
    assert_ne!(receipt.body_in, receipt.body_out);
}

#[tokio::test]
async fn tool_arguments_and_thinking_survive() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let event = |data: &str| format!("data: {data}\n\n");
    let script: Vec<String> = [
        r#"{"type":"message_start","message":{"content":[],"usage":{}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":":1}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop"}"#,
    ]
    .map(event)
    .into();
    events(upstream.next().await, &script).await;
    let message = client.answer().await.json();
    assert_eq!(
        message["content"][0],
        serde_json::json!({"type": "thinking", "thinking": "hm", "signature": "sig"})
    );
    assert_eq!(message["content"][1]["input"], serde_json::json!({"a": 1}));
    assert_eq!(message["stop_reason"], "tool_use");
}

#[tokio::test]
async fn an_error_inside_the_stream_is_a_real_status() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
    client.ask("POST /v1/messages", &[], ASK).await;
    let mut script = stream()[..4].to_vec();
    script.push(format!("event: error\ndata: {body}\n\n"));
    events(upstream.next().await, &script).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (529, body));
}

#[tokio::test]
async fn a_cut_stream_is_an_error() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    events(upstream.next().await, &stream()[..8]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("seaway-fault")), (502, Some("upstream")));
}

#[tokio::test]
async fn who_asked_for_a_stream_gets_it_untouched() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let received = upstream.next().await;
    assert_eq!(received.text(), ASK_STREAM);
    events(received, &stream()).await;
    assert_eq!(client.answer().await.text(), stream().concat());
}

#[tokio::test]
async fn an_upstream_that_does_not_stream_after_all_is_relayed() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    crate::support::answer_json(upstream.next().await).await;
    assert_eq!(client.answer().await.json()["content"][0]["text"], "ok");
}

#[tokio::test]
async fn a_connection_whose_end_comes_late_serves_again() {
    let (mut upstream, gateway) = pair().await;
    let mut client = gateway.client().await;
    for turn in 0..20 {
        let asking = async {
            let answer = client.post("/v1/messages", ASK).await;
            assert_eq!(answer.status, 200, "{turn}");
        };
        let answering = async {
            let mut received = upstream.next().await;
            received.begin_events().await;
            received.chunk(stream().concat()).await;
            received
        };
        let ((), received) = tokio::join!(asking, answering);
        received.end().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // A machine that is busy may be late now and then; never in time is the defect.
    assert!(upstream.connections() < 10, "{}", upstream.connections());
}
