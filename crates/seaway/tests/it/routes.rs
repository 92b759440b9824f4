//! Routes, fallback, the queue, and paths that are nobody's.

use crate::support::{ASK, Gateway, Upstream, answer_json};

async fn pair(extra: &str) -> (Upstream, Upstream, Gateway) {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let file = format!(
        "[upstream.one]\nkind='messages'\nbase_url='{}'\nretries=0\n{extra}\n[upstream.two]\nkind='messages'\nbase_url='{}'\n[[route]]\nmodel='only-two'\nupstream='two'\n[[route]]\nmodel='claude-*'\nupstream=['one','two']\n",
        one.url(),
        two.url()
    );
    let gateway = Gateway::with_file(&file, &[]).await;
    (one, two, gateway)
}

#[tokio::test]
async fn a_route_picks_by_model() {
    let (_one, mut two, gateway) = pair("").await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &ASK.replace("claude-x", "only-two")).await;
    answer_json(two.next().await).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn the_next_upstream_is_tried_before_the_first_byte() {
    for trouble in ["429 X\r\nretry-after: 1", "529 X", "503 X", "reset"] {
        let (mut one, mut two, gateway) = pair("").await;
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], ASK).await;
        let received = one.next().await;
        if trouble == "reset" {
            received.reset();
        } else {
            received.answer(&format!("{trouble}\r\ncontent-type: application/json"), "{}").await;
        }
        let received = two.next().await;
        assert_eq!(received.text(), ASK);
        answer_json(received).await;
        assert_eq!(client.answer().await.status, 200, "{trouble}");
        // The one in trouble rests: the next request goes to the other first.
        client.ask("POST /v1/messages", &[], ASK).await;
        answer_json(two.next().await).await;
        assert_eq!(client.answer().await.status, 200);
        assert!(one.came().is_none(), "{trouble}");
        gateway.quiet().await;
        let receipt = gateway.receipt("req_up").await;
        assert_eq!(receipt.upstream.as_deref(), Some("two"));
    }
}

#[tokio::test]
async fn a_clients_own_mistake_is_not_taken_elsewhere() {
    let (mut one, mut two, gateway) = pair("").await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    one.next().await.answer("400 X\r\ncontent-type: application/json", "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\"}}").await;
    assert_eq!(client.answer().await.status, 400);
    assert!(two.came().is_none());
}

#[tokio::test]
async fn when_all_fail_the_last_answer_is_told() {
    let (mut one, mut two, gateway) = pair("").await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    one.next().await.answer("529 X\r\ncontent-type: application/json", "{\"n\":1}").await;
    let body = "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"two\"}}";
    two.next().await.answer("429 X\r\ncontent-type: application/json", body).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (429, body));
}

#[tokio::test]
async fn a_full_queue_is_a_429_and_a_freed_place_is_used() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.concurrency", "1"), ("upstream.up.queue", "1")]).await;
    let (mut first, mut second, mut third) = (gateway.client().await, gateway.client().await, gateway.client().await);
    first.ask("POST /v1/messages", &[], ASK).await;
    let held = upstream.next().await;
    second.ask("POST /v1/messages", &[], ASK).await;
    while gateway.app.house.runtime.load().upstreams[0].gate.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = third.post("/v1/messages", ASK).await;
    assert_eq!((refused.status, refused.header("seaway-fault")), (429, Some("gateway")));
    assert!(refused.header("retry-after").is_some());
    assert!(upstream.came().is_none(), "one at a time");
    answer_json(held).await;
    assert_eq!(first.answer().await.status, 200);
    answer_json(upstream.next().await).await;
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn nobodys_paths_and_wrong_methods_are_told_in_the_dialect_of_the_path() {
    let gateway = Gateway::start(&[("upstream.up.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let table = [
        ("GET /nowhere", 404, "not_found_error"),
        ("GET /v1/nowhere", 404, "not_found_error"),
        ("GET /v1/messages", 405, "invalid_request_error"),
        ("DELETE /v1/models", 405, "invalid_request_error"),
        ("POST /v1/messagesx", 404, "not_found_error"),
        ("POST /v1/%ff/messages", 404, "not_found_error"),
        ("GET /v1/models/%ff", 404, "not_found_error"),
    ];
    for (line, status, kind) in table {
        client.ask(line, &[], if line.starts_with("POST") { ASK } else { "" }).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &kind.into()), "{line}");
    }
    for (line, status, words) in [
        ("POST /openai/v1/responses", 400, "input: field required"),
        ("GET /v1/responses/resp_none", 404, "there is no response `resp_none`"),
        ("PUT /v1/responses/resp_none", 405, "PUT cannot be used"),
        ("POST /v1/completions", 404, "Use `/v1/chat/completions`"),
        ("GET /v1/chat/completions", 405, "GET cannot be used"),
        ("POST /v1/nobody/chat/completions", 404, "unknown preset `nobody`"),
        ("POST /v1/chat/completions", 400, "messages: field required"),
    ] {
        client.ask(line, &[], if line.starts_with("POST") { r#"{"model":"m"}"# } else { "" }).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json().get("type"), &answer.json()["error"]["type"]), (status, None, &"invalid_request_error".into()), "{line}");
        assert!(answer.text().contains(words), "{line}: {}", answer.text());
    }
}
