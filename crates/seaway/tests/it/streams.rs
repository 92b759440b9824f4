//! Streams: every frame at once, every cut told, every leaver noticed.

use std::time::Duration;

use crate::support::{ASK_STREAM, Gateway, Received, Upstream, events, stream};

#[tokio::test]
async fn every_frame_leaves_before_the_next_one_comes() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    assert_eq!(client.head().await.status, 200, "the head leaves before any event");
    for event in stream() {
        // The upstream writes nothing more until the client has this one.
        received.chunk(&event).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    received.end().await;
    assert_eq!(client.chunk().await, Some(Vec::new()));
}

#[tokio::test]
async fn frames_may_be_cut_anywhere_and_leave_as_they_came() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let source = stream()
        .concat()
        .replace('\n', "\r\n")
        .replace("event: ping", ": a comment\r\nevent: ping");
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    client.head().await;
    for piece in source.as_bytes().chunks(7) {
        received.chunk(piece).await;
        assert_eq!(client.chunk().await.unwrap(), piece, "also inside a character");
    }
    received.end().await;
    assert_eq!(client.chunk().await, Some(Vec::new()));
    gateway.quiet().await;
    assert_eq!(gateway.receipt("req_up").await.output, 7, "read along all the same");
}

/// Cuts the stream after `count` events in one of several ways.
async fn cut(mut received: Received, count: usize, how: &str) {
    received.begin_events().await;
    for event in &stream()[..count] {
        received.chunk(event).await;
    }
    match how {
        "clean end" => received.end().await,
        "reset" => received.reset(),
        "close" => drop(received),
        "inside a character" => {
            received.chunk("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"gr".as_bytes()).await;
            received.chunk([0xc3]).await;
            drop(received);
        }
        _ => unreachable!("{how}"),
    }
}

#[tokio::test]
async fn a_cut_answer_never_looks_whole() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut refused = 0;
    for how in ["clean end", "reset", "close", "inside a character"] {
        for count in 0..stream().len() {
            if how == "clean end" && count == 8 {
                // With a stop reason and a proper end nothing of the answer is missing.
                continue;
            }
            let mut client = gateway.client().await;
            client.ask("POST /v1/messages", &[], ASK_STREAM).await;
            cut(upstream.next().await, count, how).await;
            let answer = client.answer().await;
            // Nothing had begun, so it is told; a reset takes with it what was sent and not yet read.
            if count == 0 || (how == "reset" && answer.status == 502) {
                assert_eq!((answer.status, answer.whole), (502, true), "{how}: {}", answer.text());
                refused += 1;
                continue;
            }
            assert!(
                !answer.whole,
                "{how} after {count} events: {}",
                String::from_utf8_lossy(&answer.body)
            );
            let text = String::from_utf8_lossy(&answer.body);
            assert!(!text.contains("message_stop"), "no made-up end");
            // What was sent before a reset may be lost with it, the error as well as the rest.
            let (_, error) = text.rsplit_once("event: error\ndata: ").expect("the cut is told");
            assert!(error.contains(r#"{"type":"error","error":{"type":"api_error","message":"the upstream's answer was cut off"}"#), "{text}");
            assert!(text.starts_with(&stream()[..count].concat()), "what came before is whole");
        }
    }
    gateway.quiet().await;
    let outcomes = gateway.outcomes().await;
    assert_eq!(outcomes.len(), 4 * stream().len() - 1);
    let of = |what: &str| outcomes.iter().filter(|(_, outcome)| outcome == what).count();
    assert_eq!(
        (of("faulted"), of("truncated")),
        (refused, outcomes.len() - refused),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn an_answer_that_lacks_its_last_event_only_is_relayed_as_it_is() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    events(upstream.next().await, &stream()[..8]).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.whole), (stream()[..8].concat().as_str(), true));
}

#[tokio::test]
async fn an_error_in_the_midst_is_relayed_and_recorded() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n".to_owned();
    let mut script = stream()[..3].to_vec();
    script.push(error);
    events(upstream.next().await, &script).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.whole), (script.concat().as_str(), true));
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!(
        (receipt.outcome.as_str(), receipt.fault.as_deref()),
        ("faulted", Some("overloaded_error"))
    );
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_work_upstream() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    // While the upstream still thinks.
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let received = upstream.next().await;
    drop(client);
    received.gone().await;
    // In the midst of a stream.
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(&stream()[0]).await;
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    received.gone().await;
    gateway.quiet().await;
    let outcomes = gateway.outcomes().await;
    assert_eq!(
        outcomes,
        [
            ("messages".to_owned(), "client_gone".to_owned()),
            ("messages".to_owned(), "client_gone".to_owned())
        ]
    );
    let receipt = gateway.receipt("req_up").await;
    assert_eq!(
        (receipt.model.as_deref(), receipt.input),
        (Some("claude-x"), 3),
        "what had come was billed"
    );
}

#[tokio::test]
async fn silence_is_bridged_by_pings_between_events_only() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("ping", "20ms")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    client.head().await;
    let ping = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";
    assert_eq!(client.chunk().await.unwrap(), ping, "before the first event too");
    assert_eq!(client.chunk().await.unwrap(), ping);
    // Half an event, a silence that is longer than a ping's, and the other half.
    let first = &stream()[0];
    received.chunk(&first[..30]).await;
    while client.chunk().await.unwrap() == ping {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    received.chunk(&first[30..]).await;
    assert_eq!(
        client.chunk().await.unwrap(),
        &first.as_bytes()[30..],
        "no ping tears an event apart"
    );
    for event in &stream()[1..] {
        received.chunk(event).await;
    }
    received.end().await;
    let mut rest = Vec::new();
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        rest.extend(chunk);
    }
    // The upstream's own ping looks like ours.
    let without_pings = |text: &str| text.replace(std::str::from_utf8(ping).unwrap(), "");
    assert_eq!(
        without_pings(std::str::from_utf8(&rest).unwrap()),
        without_pings(&stream()[1..].concat())
    );
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.idle_timeout", "50ms")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(&stream()[0]).await;
    let answer = client.answer().await;
    assert!(!answer.whole);
    received.gone().await;
    gateway.quiet().await;
    assert_eq!(gateway.receipt("req_up").await.outcome, "truncated");
}

#[tokio::test]
async fn a_hundred_streams_at_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(|received| async move { events(received, &stream()).await });
    let asks = (0..100).map(|_| async {
        let mut client = gateway.client().await;
        client.post("/v1/messages", ASK_STREAM).await
    });
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!((answer.text(), answer.whole), (stream().concat().as_str(), true));
    }
}
