//! A gateway, an upstream whose every byte a test decides, and a client that shows every byte.

mod client;
mod gateway;
mod institution;
pub(crate) mod lab;
pub(crate) mod ports;
mod program;
mod upstream;

pub(crate) use client::{Answer, Client};
pub(crate) use gateway::Gateway;
pub(crate) use institution::Institution;
pub(crate) use program::{Program, command, run, text};
pub(crate) use upstream::{Received, Upstream, answer_json, events};

/// Waits until something holds, for twenty seconds at the most.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what}: did not come to pass");
}

/// A small, valid request.
pub(crate) const ASK: &str =
    r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
/// The same, streamed.
pub(crate) const ASK_STREAM: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// The local key of every test gateway.
pub(crate) const KEY: &str = "local-key";

/// A whole answer as a stream, event by event.
pub(crate) fn stream() -> Vec<String> {
    [
        ("message_start", r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#),
        ("ping", r#"{"type": "ping"}"#),
        ("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
        ("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"grüß 🌊"}}"#),
        ("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","x":1.0}}"#),
        ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        ("new_event", r#"{"type":"new_event","y":[]}"#),
        ("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}"#),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ]
    .iter()
    .map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"))
    .collect()
}
