//! What is recorded, and what never is.

use std::os::unix::fs::PermissionsExt;

use crate::support::{ASK, Gateway, Upstream};

#[tokio::test]
async fn no_prompt_and_no_answer_is_ever_kept() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &ASK.replace("\"hi\"", "\"the secret plan\"")).await;
    upstream.next().await.answer("200 OK\r\ncontent-type: application/json", r#"{"content":[{"text":"the secret answer"}],"usage":{"input_tokens":1}}"#).await;
    client.answer().await;
    gateway.quiet().await;
    gateway.outcomes().await;
    for entry in std::fs::read_dir(gateway.state.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let content = std::fs::read(entry.path()).unwrap();
        let leaks = content.windows(10).any(|window| window == b"the secret");
        assert!(!leaks, "{}", entry.path().display());
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert!(mode == 0o600 || entry.file_name() == "seaway.toml", "{} has mode {mode:o}", entry.path().display());
    }
}

#[tokio::test]
async fn usage_adds_up_by_day_model_and_caller() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let answer = r#"{"model":"claude-opus-4-5-20251101","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1000000,"output_tokens":100000,"cache_read_input_tokens":2000000,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_1h_input_tokens":10}}}"#;
    for _ in 0..3 {
        client.ask("POST /v1/messages", &[], ASK).await;
        upstream.next().await.answer("200 OK\r\ncontent-type: application/json", answer).await;
        client.answer().await;
    }
    client.ask("POST /v1/messages", &[], &ASK.replace("claude-sonnet-4-5", "claude-x")).await;
    upstream.next().await.answer("529 X\r\ncontent-type: application/json", "{}").await;
    client.answer().await;
    gateway.quiet().await;
    gateway.outcomes().await;
    let database = seaway::store::open_to_read(&gateway.state.path().join("seaway.db")).unwrap().unwrap();
    let rows = seaway::store::usage(&database, &seaway::store::Filter::default()).unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let known = rows.iter().find(|row| row.model.starts_with("claude-opus")).unwrap();
    assert_eq!((known.caller.as_str(), known.requests, known.failed), ("tester", 3, 0));
    assert_eq!((known.input, known.output, known.cache_read, known.cache_write, known.cache_write_1h), (3_000_000, 300_000, 6_000_000, 90, 30));
    let prices = &gateway.app.house.runtime.load().config.prices;
    let cost = seaway::price::cost(prices, known).unwrap();
    assert!((cost - (15.0 + 7.5 + 3.0 + 0.000_675)).abs() < 1e-6, "{cost}");
    let failed = rows.iter().find(|row| row.model == "claude-x").unwrap();
    assert_eq!((failed.requests, failed.failed, seaway::price::cost(prices, failed)), (1, 1, None));
    let future = seaway::store::Filter { since: i64::MAX };
    assert_eq!(seaway::store::usage(&database, &future).unwrap(), []);
}
