//! What outlives the process: killed at once, or with a store that another program holds.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::{ASK, ASK_STREAM, Client, KEY, Program, stream};

/// Answers that end when their records are on the disk.
const SYNCED: [&str; 6] = ["--upstream", "sandbox", "--api-key", KEY, "--set", "store.sync=full"];

fn model(ask: &str) -> String {
    ask.replace("claude-sonnet-4-5", "sandbox-sonnet-1")
}

/// Outcomes of all that is recorded.
fn outcomes(store: &Path) -> Vec<String> {
    let database = rusqlite::Connection::open(store).unwrap();
    let mut select = database.prepare("SELECT outcome FROM exchange").unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Reads a stream until it says that it is over, and not to its end.
async fn read_until(client: &mut Client, last: &str) {
    assert_eq!(client.head().await.status, 200);
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(last) {
        said.extend(client.chunk().await.expect("it goes on until it is over"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_recorded_though_the_gateway_is_killed_at_once() {
    let chat =
        json!({"model": "sandbox-sonnet-1", "messages": [{"role": "user", "content": "hi"}]});
    let streamed = |ask: &serde_json::Value| {
        let mut ask = ask.clone();
        ask["stream"] = true.into();
        ask.to_string()
    };
    let responses = json!({"model": "sandbox-sonnet-1", "input": "hi", "store": false});
    let table = [
        ("/v1/messages", model(ASK), ""),
        ("/v1/messages", model(ASK_STREAM), "event: message_stop"),
        ("/v1/chat/completions", chat.to_string(), ""),
        ("/v1/chat/completions", streamed(&chat), "[DONE]"),
        ("/v1/responses", responses.to_string(), ""),
        ("/v1/responses", streamed(&responses), "response.completed"),
        ("/v1/messages/count_tokens", model(ASK), ""),
        ("/v1/messages", "{}".to_owned(), ""),
    ];
    for (path, ask, last) in table {
        let program = Program::start(&SYNCED);
        let mut client = program.client().await;
        for _ in 0..3 {
            client.post(path, &ask).await;
        }
        client.ask(&format!("POST {path}"), &[], &ask).await;
        if last.is_empty() {
            client.answer().await;
        } else {
            read_until(&mut client, last).await;
        }
        program.signal(rustix::process::Signal::KILL);
        let outcomes = outcomes(&program.state.path().join("seaway.db"));
        let expect = if ask == "{}" { "faulted" } else { "completed" };
        assert_eq!(outcomes, [expect; 4], "{path} {ask}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_that_could_not_be_accounted_for() {
    let mut upstream = crate::support::Upstream::start().await;
    let program = Program::before(&upstream, &["--set", "store.sync=full"]);
    let store = program.state.path().join("seaway.db");
    let mut client = program.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    let other = rusqlite::Connection::open(&store).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    received.begin_events().await;
    for event in stream() {
        received.chunk(&event).await;
    }
    received.end().await;
    assert!(client.answer().await.whole, "what was paid for is passed on");
    let refused = program.client().await.post("/v1/messages", ASK).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("`store.sync` is `full`"), "{}", refused.text());
    drop(other);
    let mut client = program.client().await;
    loop {
        client.ask("POST /v1/messages", &[], ASK).await;
        tokio::select! {
            answer = client.answer() => assert_eq!(answer.status, 503),
            received = upstream.next() => break crate::support::answer_json(received).await,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.answer().await.status, 200);
    program.signal(rustix::process::Signal::KILL);
    assert_eq!(outcomes(&store).iter().filter(|outcome| *outcome == "completed").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_does_not_take_until_the_end_is_there_at_the_next_start() {
    let arguments = ["--upstream", "sandbox", "--api-key", KEY];
    let mut program = Program::start(&arguments);
    let store = program.state.path().join("seaway.db");
    let mut client = program.client().await;
    assert_eq!(client.post("/v1/messages", &model(ASK)).await.status, 200);
    let other = rusqlite::Connection::open(&store).unwrap();
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..10 {
        assert_eq!(client.post("/v1/messages", &model(ASK)).await.status, 200);
    }
    program.signal(rustix::process::Signal::TERM);
    program.says("the next gateway takes them over");
    assert!(program.child.wait().unwrap().success());
    drop(other);
    let state = std::mem::replace(&mut program.state, tempfile::tempdir().unwrap());
    drop(program);
    let _next = Program::start_in(state, &arguments);
    while outcomes(&store).len() < 11 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(outcomes(&store), ["completed"; 11]);
}
