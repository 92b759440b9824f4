//! The simulated upstream, through the gateway.

use seaway_wire::event::FromSse;
use seaway_wire::messages::Fold;

use crate::support::{Client, Gateway};

async fn gateway() -> Gateway {
    Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await
}

fn ask(text: &str, stream: bool) -> String {
    serde_json::json!({"model": "sandbox-haiku-1", "max_tokens": 400, "stream": stream, "messages": [{"role": "user", "content": text}]}).to_string()
}

async fn answer(client: &mut Client, text: &str, stream: bool) -> crate::support::Answer {
    client.post("/v1/messages", &ask(text, stream)).await
}

#[tokio::test]
async fn every_answer_says_that_it_is_simulated() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    for text in [
        "hello",
        "[[error 429]]",
        "[[error 529 overloaded_error Overloaded]] [[header x-extra: 1]]",
    ] {
        for stream in [false, true] {
            let answer = answer(&mut client, text, stream).await;
            assert_eq!(answer.header("seaway-simulated"), Some("true"), "{text}");
            assert_eq!(answer.header("x-extra").is_some(), text.contains("x-extra"));
        }
    }
}

#[tokio::test]
async fn the_same_script_streamed_or_not() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    let text = "[[think Let me see.]] [[say It is sunny.]] [[tool f {\"a\":[1.0]}]] [[tool g]]";
    let plain = answer(&mut client, text, false).await.json();
    assert_eq!(plain["content"].as_array().unwrap().len(), 4);
    let streamed = answer(&mut client, text, true).await;
    let mut fold = FromSse::<Fold>::default();
    fold.push(&streamed.body);
    let folded: serde_json::Value =
        serde_json::from_str(&fold.into_sink().finish().unwrap().body).unwrap();
    assert_eq!(
        (&folded["content"][0], &folded["content"][1], &folded["stop_reason"]),
        (&plain["content"][0], &plain["content"][1], &plain["stop_reason"])
    );
    assert_eq!(
        (&folded["content"][2]["input"], &folded["content"][3]["name"]),
        (&plain["content"][2]["input"], &plain["content"][3]["name"])
    );
}

#[tokio::test]
async fn cuts_and_error_events_are_real() {
    let gateway = gateway().await;
    for how in ["cut", "end"] {
        let mut client = gateway.client().await;
        let answer = answer(&mut client, &format!("[[{how} 500]] hello"), true).await;
        let (sent, told) = answer.body.split_at(500);
        assert!(!answer.whole && sent.starts_with(b"event: message_start"), "{how}");
        let told = String::from_utf8_lossy(told);
        assert!(told.starts_with("\nevent: error\ndata: {\"type\":\"error\""), "{how}: {told}");
        // Nothing has begun before the first event is whole: that can still be told as an error.
        let nothing =
            self::answer(&mut gateway.client().await, &format!("[[{how} 200]] hello"), true).await;
        assert_eq!(
            (nothing.status, nothing.whole, nothing.header("seaway-fault")),
            (502, true, Some("upstream")),
            "{how}: {}",
            nothing.text()
        );
    }
    let mut client = gateway.client().await;
    let streamed = answer(&mut client, "[[error-event overloaded_error Busy]] hello", true).await;
    assert!(streamed.text().contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Busy\"}}"), "{}", streamed.text());
    let folded = answer(&mut client, "[[error-event overloaded_error Busy]] hello", false).await;
    assert_eq!(folded.status, 529);
    let first = answer(&mut client, "[[error-first rate_limit_error Slow down]]", true).await;
    assert!(first.text().starts_with("event: error"), "{}", first.text());
}

#[tokio::test]
async fn a_failure_can_pass() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    let statuses = [429, 429, 200];
    for status in statuses {
        let answer =
            answer(&mut client, "[[error 429]] [[header retry-after: 1]] [[times 2]]", false).await;
        assert_eq!(
            (answer.status, answer.header("retry-after").is_some()),
            (status, status == 429)
        );
    }
}

#[tokio::test]
async fn a_marked_prompt_is_cached_and_counted() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    let body = r#"{"model":"sandbox-opus-1","max_tokens":9,"system":[{"type":"text","text":"a long system prompt","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"hi"}]}"#;
    let first = client.post("/v1/messages", body).await.json();
    let second = client.post("/v1/messages", body).await.json();
    assert_eq!(
        (
            &first["usage"]["cache_creation_input_tokens"],
            &first["usage"]["cache_read_input_tokens"]
        ),
        (&5.into(), &0.into())
    );
    assert_eq!(
        (
            &second["usage"]["cache_creation_input_tokens"],
            &second["usage"]["cache_read_input_tokens"]
        ),
        (&0.into(), &5.into())
    );
    let count = client.post("/v1/messages/count_tokens", body).await.json();
    assert_eq!(count, serde_json::json!({"input_tokens": 7}));
}
