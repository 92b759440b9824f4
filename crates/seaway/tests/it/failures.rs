//! What goes wrong upstream, and what the client is told.

use crate::support::{ASK, Gateway, Upstream, answer_json, ports};

#[tokio::test]
async fn an_upstreams_error_is_not_reworded() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let body = "{\"type\":\"error\", \"error\":{\"type\":\"rate_limit_error\",\"message\":\"messages.1.role: Input should be 'user'\"},\"new\":1.0}\n";
    for status in [400_u16, 401, 402, 403, 404, 413, 429, 500, 503, 529] {
        client.ask("POST /v1/messages", &[], ASK).await;
        let head = format!(
            "{status} Whatever\r\ncontent-type: application/json\r\nretry-after: 7\r\nx-should-retry: true\r\nanthropic-ratelimit-requests-remaining: 0\r\nrequest-id: req_{status}"
        );
        upstream.next().await.answer(&head, body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (status, body));
        assert_eq!(
            (answer.header("retry-after"), answer.header("x-should-retry")),
            (Some("7"), Some("true"))
        );
        assert_eq!(answer.header("request-id"), Some(format!("req_{status}").as_str()));
        assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), Some("0"));
        assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
    }
    gateway.quiet().await;
    let receipt = gateway.receipt("req_529").await;
    assert_eq!(
        (receipt.outcome.as_str(), receipt.status, receipt.fault.as_deref()),
        ("faulted", 529, Some("rate_limit_error"))
    );
}

#[tokio::test]
async fn a_lone_upstream_is_never_benched() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.retries", "2")]).await;
    let mut client = gateway.client().await;
    for (status, expect) in [("429 X\r\nretry-after: 600", 429), ("529 X", 529), ("200 OK", 200)] {
        client.ask("POST /v1/messages", &[], ASK).await;
        upstream
            .next()
            .await
            .answer(
                &format!("{status}\r\ncontent-type: application/json"),
                "{\"type\":\"error\",\"error\":{\"type\":\"t\",\"message\":\"m\"}}",
            )
            .await;
        assert_eq!(client.answer().await.status, expect);
        assert!(upstream.came().is_none(), "one request, one attempt");
    }
}

#[tokio::test]
async fn what_is_not_json_becomes_an_error_of_the_dialect() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    upstream.next().await.answer("502 Bad\r\ncontent-type: text/html", "<html>proxy</html>").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, &answer.json()["type"], answer.header("content-type")),
        (502, &"error".into(), Some("application/json"))
    );
    client.ask("POST /v1/messages", &[], ASK).await;
    upstream.next().await.answer("200 OK\r\ncontent-type: text/html", "<html>login</html>").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("base_url"), "{}", answer.text());
}

#[tokio::test]
async fn no_answer_at_all_is_tried_again_within_limits() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.retries", "2")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    upstream.next().await.reset();
    upstream.next().await.reset();
    let received = upstream.next().await;
    assert_eq!(received.text(), ASK);
    answer_json(received).await;
    assert_eq!(client.answer().await.status, 200);
    client.ask("POST /v1/messages", &[], ASK).await;
    for _ in 0..3 {
        upstream.next().await.reset();
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("seaway-fault")), (502, Some("upstream")));
    assert!(answer.text().contains("upstream `up` cannot be reached"), "{}", answer.text());
    assert!(upstream.came().is_none());
    gateway.quiet().await;
    assert_eq!(gateway.outcomes().await.len(), 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_asked_for_again() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.retries", "2")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let mut received = upstream.next().await;
    received.write("HTTP/1.1 junk\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("answered, but its answer cannot be read"), "{}", answer.text());
    assert!(upstream.came().is_none());
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    let mut upstream = Upstream::start().await;
    // The close may cross the next request on its way, which then counts as an attempt.
    let gateway = Gateway::before(&upstream, &[("upstream.up.retries", "1")]).await;
    let mut client = gateway.client().await;
    for _ in 0..20 {
        client.ask("POST /v1/messages", &[], ASK).await;
        let mut received = upstream.next().await;
        received
            .write(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
            )
            .await;
        assert_eq!(client.answer().await.status, 200);
        // Closed as an idle one is: without a word, after the answer.
        drop(received);
    }
}

#[tokio::test]
async fn a_200_that_is_no_message_is_none() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    for head in [
        "200 OK\r\ncontent-type: text/plain",
        "200 OK\r\ncontent-type: application/json",
        "204 No Content",
    ] {
        client.ask("POST /v1/messages", &[], ASK).await;
        upstream.next().await.answer(head, if head.contains("plain") { "hello" } else { "" }).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (502, &"api_error".into()),
            "{head}"
        );
    }
    client.ask("POST /v1/messages", &[], ASK).await;
    upstream.next().await.answer("302 Found\r\nlocation: http://elsewhere/", "").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, None),
        "nobody is sent elsewhere with our key"
    );
    gateway.quiet().await;
    let (_, outcome) = gateway.outcomes().await.pop().unwrap();
    assert_eq!(outcome, "faulted", "it is no answer");
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let upstream = Upstream::start().await;
    let free = format!("127.0.0.1:{}", ports::reserved("127.0.0.1"));
    let gateway =
        Gateway::before(&upstream, &[("upstream.up.base_url", &format!("http://{free}"))]).await;
    let answer = gateway.client().await.post("/v1/messages", ASK).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains(&free) && answer.text().contains("refused"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn statuses_are_tried_again_where_that_was_asked_for() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(
        &upstream,
        &[("upstream.up.retries", "1"), ("upstream.up.retry_on", "529")],
    )
    .await;
    let mut client = gateway.client().await;
    let error = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}";
    client.ask("POST /v1/messages", &[], ASK).await;
    upstream
        .next()
        .await
        .answer("529 X\r\nretry-after: 0\r\ncontent-type: application/json", error)
        .await;
    answer_json(upstream.next().await).await;
    assert_eq!(client.answer().await.status, 200);
    client.ask("POST /v1/messages", &[], ASK).await;
    for _ in 0..2 {
        upstream
            .next()
            .await
            .answer("529 X\r\nretry-after: 0\r\ncontent-type: application/json", error)
            .await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (529, error));
}

#[tokio::test]
async fn an_upstream_that_never_answers_times_out() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(
        &upstream,
        &[("upstream.up.first_byte_timeout", "50ms"), ("upstream.up.retries", "2")],
    )
    .await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let received = upstream.next().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (504, &"timeout_error".into()));
    received.gone().await;
    assert!(upstream.came().is_none(), "it may still be at work, so it is not asked again");
}

#[tokio::test]
async fn a_refused_credential_is_read_anew_once() {
    let mut upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("n");
    let command = format!("echo x >> {0}; echo key-$(wc -l < {0})", count.display());
    let mut settings = vec![("upstream.up.kind", "messages")];
    let url = upstream.url();
    settings.extend([
        ("upstream.up.base_url", url.as_str()),
        ("upstream.up.bearer.command", command.as_str()),
        ("upstream.up.system_prefix", "PREFIX"),
        ("upstream.up.retries", "0"),
    ]);
    let gateway = Gateway::start(&settings).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &["seaway-preset: terse"], ASK).await;
    let first = upstream.next().await;
    let body = first.text();
    assert_eq!(first.header("authorization"), Some("Bearer key-1"));
    first
        .answer(
            "401 X\r\ncontent-type: application/json",
            "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"m\"}}",
        )
        .await;
    let second = upstream.next().await;
    assert_eq!(second.header("authorization"), Some("Bearer key-2"));
    assert_eq!(second.text(), body, "edits are applied to the original, once");
    assert_eq!(body.matches("PREFIX").count(), 1);
    assert_eq!(body.matches("as briefly as").count(), 1);
    answer_json(second).await;
    assert_eq!(client.answer().await.status, 200);
    client.ask("POST /v1/messages", &[], ASK).await;
    for _ in 0..2 {
        upstream.next().await.answer("401 X\r\ncontent-type: application/json", "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"m\"}}").await;
    }
    assert_eq!(client.answer().await.status, 401, "a second refusal is the answer");
    let ready = client.get("/health/ready").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
}
