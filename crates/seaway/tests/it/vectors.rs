//! Malformed input: a 400 in the caller's dialect, never a dropped connection, never a 500.

use crate::support::Gateway;

#[tokio::test]
async fn malformed_bodies_are_told_where() {
    let gateway = Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let table = [
        ("[]", "expected a JSON object"),
        ("\"text\"", "expected a JSON object"),
        ("{", "member name"),
        ("{\"model\":\"m\",}", "member name"),
        (&deep, "nested too deeply"),
        ("{\"model\":7}", "model: input should be a string"),
        ("{\"model\":\"m\",\"stream\":1}", "stream: input should be true or false"),
        ("{\"model\":\"m\",\"model\":\"n\"}", "the same member twice"),
        ("{\"model\":\"\\ud83d\",\"messages\":[]}", "model: input should be a string"),
        ("{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "messages.0.content.0"),
        ("{\"model\":\"m\",\"max_tokens\":\"many\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "max_tokens: Input"),
    ];
    for (body, what) in table {
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            if path.ends_with("count_tokens") && what.starts_with("max_tokens") {
                continue;
            }
            let answer = client.post(path, body).await;
            let json = answer.json();
            assert_eq!((answer.status, &json["type"], &json["error"]["type"]), (400, &"error".into(), &"invalid_request_error".into()), "{body:.60}");
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains(what), "{message}");
        }
    }
    let empty = client.post("/v1/messages", "").await;
    assert_eq!(empty.status, 400);
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_disturb_others() {
    let gateway = Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await;
    for garbage in ["\0\0\0\0", "GET\r\n\r\n", "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: local-key\r\nContent-Length: nine\r\n\r\n{}"] {
        let mut client = gateway.client().await;
        client.write(garbage).await;
        let answer = client.head().await;
        assert_eq!(answer.status, 400, "{garbage:?}");
    }
    assert_eq!(gateway.client().await.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn an_encoded_body_is_refused_by_name() {
    let gateway = Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &["Content-Encoding: gzip"], "{}").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("`gzip`"), "{}", answer.text());
}
