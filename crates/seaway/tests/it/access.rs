//! Who gets in, and what those who do not are told.

use crate::support::{ASK, Client, Gateway, Upstream, answer_json};

#[tokio::test]
async fn a_key_is_needed_and_any_carrier_will_do() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let table: [(&[&str], u16); 9] = [
        (&[], 401),
        (&["x-api-key: wrong"], 401),
        (&["X-Api-Key: local-key"], 200),
        (&["Authorization: Bearer local-key"], 200),
        (&["authorization: bearer local-key"], 200),
        (&["api-key: local-key"], 200),
        (&["x-api-key: local-key", "Authorization: Bearer local-key"], 200),
        (&["x-api-key: wrong", "Authorization: Bearer local-key"], 200),
        (&["x-api-key: local-key", "Authorization: Bearer other"], 200),
    ];
    for (headers, status) in table {
        let mut client = Client::connect(gateway.address, None).await;
        client.ask("POST /v1/messages", headers, ASK).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 401 {
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert_eq!(answer.json()["error"]["type"], "authentication_error");
            assert!(answer.header("request-id").is_some());
        }
    }
}

#[tokio::test]
async fn no_local_key_travels_in_any_spelling() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = Client::connect(gateway.address, None).await;
    client
        .ask(
            "POST /v1/messages",
            &[
                "X-API-KEY: local-key",
                "AUTHORIZATION: Bearer local-key",
                "Api-Key: local-key",
                "X-Odd: bearer local-key",
                "Cookie: k=local-key",
            ],
            ASK,
        )
        .await;
    let received = upstream.next().await;
    let leaks: Vec<_> =
        received.headers.iter().filter(|(_, value)| value.contains("local-key")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    let credentials: Vec<_> = received
        .headers
        .iter()
        .filter(|(name, _)| {
            ["x-api-key", "authorization", "api-key"].contains(&name.to_lowercase().as_str())
        })
        .collect();
    assert_eq!(credentials, [&("x-api-key".to_owned(), "upstream-key".to_owned())]);
    answer_json(received).await;
}

#[tokio::test]
async fn a_refused_body_does_not_spoil_the_connection() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let mut client = Client::connect(gateway.address, None).await;
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20));
    client.ask("POST /v1/messages", &["x-api-key: wrong"], &large).await;
    assert_eq!(client.answer().await.status, 401);
    client.ask("POST /v1/messages", &["x-api-key: local-key"], ASK).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whichever_way_it_comes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("body_limit", "1000")]).await;
    upstream.serve(answer_json);
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(2000));
    let mut client = gateway.client().await;
    let answer = client.post("/v1/messages", &large).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (413, &"request_too_large".into())
    );
    assert_eq!(client.post("/v1/messages", ASK).await.status, 200);
    let mut client = gateway.client().await;
    client
        .write(format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: local-key\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len()))
        .await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(
        &upstream,
        &[("cors_origins", "https://app.example"), ("hosts", "box.example")],
    )
    .await;
    upstream.serve(answer_json);
    for (header, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: https://app.example", 200),
        ("Origin: http://localhost", 200),
        ("Origin: null", 403),
        ("Origin: file://localhost", 403),
    ] {
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[header], ASK).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{header}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed.is_some(), header.contains("app.example"), "{header}: {allowed:?}");
    }
    for (host, status) in [
        ("evil.example", 403),
        ("evil.example:7329", 403),
        ("127.0.0.1:99", 200),
        ("[::1]:7", 200),
        ("BOX.example", 200),
    ] {
        let mut client = Client::connect(gateway.address, None).await;
        client.write(format!("POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nx-api-key: local-key\r\nContent-Length: {}\r\n\r\n{ASK}", ASK.len())).await;
        assert_eq!(client.answer().await.status, status, "{host}");
    }
    let mut client = Client::connect(gateway.address, None).await;
    client
        .ask(
            "OPTIONS /v1/messages",
            &[
                "Origin: https://app.example",
                "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: x-api-key,anthropic-version",
            ],
            "",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("x-api-key"));
}

#[tokio::test]
async fn what_anyone_may_ask_needs_no_key_and_tells_no_secret() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.api_key", "hush")]).await;
    for line in [
        "HEAD /",
        "HEAD /api/hello",
        "HEAD /argoapi",
        "HEAD /v1/models",
        "HEAD /nowhere",
        "GET /api/hello",
        "GET /health/live",
    ] {
        let mut client = Client::connect(gateway.address, None).await;
        client.ask(line, &[], "").await;
        assert_eq!(client.head().await.status, 200, "{line}");
    }
    let mut client = Client::connect(gateway.address, None).await;
    for path in ["/health", "/health/ready"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#), "{path}");
        let known = gateway.client().await.get(path).await;
        assert_eq!(known.json()["upstreams"][0]["name"], "up", "{path}");
        assert!(!known.text().contains("hush"));
    }
    assert_eq!(client.get("/metrics").await.status, 401);
    assert_eq!(client.get("/owner/status").await.status, 401);
    let mut client = gateway.client().await;
    assert_eq!(client.get("/owner/status").await.status, 404, "the owner comes by another door");
    assert!(client.get("/metrics").await.text().contains("seaway_in_flight"));
}

#[tokio::test]
async fn without_a_usable_credential_it_is_alive_and_not_ready() {
    let gateway = Gateway::start(&[
        ("upstream.up.kind", "anthropic"),
        ("upstream.up.api_key.env", "NOT_SET"),
    ])
    .await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/health/live").await.status, 200);
    let answer = client.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("the variable `NOT_SET` is not set"), "{}", answer.text());
    let answer = client.post("/v1/messages", ASK).await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (503, Some("false")));
}

#[tokio::test]
async fn without_an_upstream_requests_are_told_what_to_do() {
    let gateway = Gateway::start(&[]).await;
    let mut client = gateway.client().await;
    let answer = client.post("/v1/messages", ASK).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("ANTHROPIC_API_KEY"));
}

#[tokio::test]
async fn an_open_gateway_takes_any_key_or_none() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("auth", "none")]).await;
    let mut client = Client::connect(gateway.address, None).await;
    client.ask("POST /v1/messages", &["x-api-key: anything"], ASK).await;
    let received = upstream.next().await;
    assert_eq!(received.header("x-api-key"), Some("upstream-key"));
    answer_json(received).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_reload_does_not_open_what_others_can_reach() {
    let gateway =
        Gateway::with_file("", &[("listen", "0.0.0.0:0"), ("upstream.sandbox.kind", "sandbox")])
            .await;
    std::fs::write(gateway.state.path().join("seaway.toml"), "auth = 'none'\n").unwrap();
    let house = &gateway.app.state;
    assert!(seaway::reload::reload(house).unwrap_err().contains("for loopback only"));
    let mut client = Client::connect(([127, 0, 0, 1], gateway.address.port()).into(), None).await;
    assert_eq!(client.post("/v1/messages", ASK).await.status, 401);
}

#[tokio::test]
async fn a_failing_command_tells_outsiders_nothing() {
    let gateway = Gateway::start(&[
        ("upstream.up.kind", "anthropic"),
        ("upstream.up.api_key.command", "echo hush >&2; exit 3"),
    ])
    .await;
    for path in ["/health", "/health/ready"] {
        let mut stranger = Client::connect(gateway.address, None).await;
        assert_eq!(stranger.get(path).await.text(), r#"{"status":"not ready"}"#);
        let answer = gateway.client().await.get(path).await;
        assert!(
            answer.text().contains("status 3") && !answer.text().contains("hush"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_passed_credential_that_is_refused_is_the_clients_trouble() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.passthrough", "true")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &["Authorization: Bearer theirs"], ASK).await;
    upstream.next().await.answer("401 X\r\ncontent-type: application/json", "{}").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (401, None));
    assert_eq!(client.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_passed_credential_goes_on_unchanged() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.passthrough", "true")]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &["Authorization: Bearer their own"], ASK).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.header("authorization"), received.header("x-api-key")),
        (Some("Bearer their own"), None)
    );
    answer_json(received).await;
    client.answer().await;
    client.ask("POST /v1/messages", &[], ASK).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.header("authorization"), received.header("x-api-key")),
        (None, Some("upstream-key"))
    );
    answer_json(received).await;
}

/// The tester's key by its hash, beside one that is written out.
fn hashed_keys() -> String {
    let hash = seaway::config::KeySecret::hashed("local-key");
    serde_json::json!({"tester": hash, "other": "other-key"}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_hash_is_configured_lets_in_and_goes_nowhere() {
    let mut upstream = Upstream::start().await;
    let keys = hashed_keys();
    let gateway = Gateway::before(&upstream, &[("keys", &keys)]).await;
    for (key, status) in
        [(keys.split('"').nth(3).unwrap(), 401), ("local-kez", 401), ("other-key", 404)]
    {
        let mut client = Client::connect(gateway.address, Some(key)).await;
        client.ask("GET /v1/responses/none", &[], "").await;
        assert_eq!(client.answer().await.status, status, "{key}");
    }
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &["X-Odd: local-key", "Cookie: k=local-key"], ASK).await;
    let received = upstream.next().await;
    let leaks: Vec<_> =
        received.headers.iter().filter(|(_, value)| value.contains("local-key")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    answer_json(received).await;
    let id = client.answer().await.header("request-id").unwrap().to_owned();
    assert_eq!(gateway.receipt(&id).await.caller, "tester");
}

/// What happened, the newest first: event, who, and how often.
async fn audited(gateway: &Gateway) -> Vec<(String, String, u32)> {
    gateway.app.state.ledger.store().flush().await;
    let store = gateway.state.path().join("seaway.db");
    let database = seaway::store::open_to_read(&store).unwrap().unwrap();
    let rows = seaway::store::audit(&database, 0, 100).unwrap();
    rows.into_iter().map(|row| (row.event, row.who, row.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_in_and_who_does_not_is_on_record() {
    let gateway = Gateway::with_file(
        "[keys]\ntester = \"local-key\"\nformer = \"former-key\"\n",
        &[("keys", "{}"), ("upstream.s.kind", "sandbox")],
    )
    .await;
    let page = ["Origin: http://localhost"];
    for key in ["wrong", "local-key"] {
        let mut client = Client::connect(gateway.address, None).await;
        client.ask("POST /dashboard/sign-in", &page, &format!("{{\"key\":\"{key}\"}}")).await;
        client.answer().await;
    }
    for _ in 0..3 {
        let mut client = Client::connect(gateway.address, Some("wrong")).await;
        client.ask("GET /v1/models", &[], "").await;
        assert_eq!(client.answer().await.status, 401);
    }
    let file = "[keys]\ntester = \"another-key\"\nlatter = \"latter-key\"\n";
    std::fs::write(gateway.state.path().join("seaway.toml"), file).unwrap();
    seaway::reload::reload(&gateway.app.state).unwrap();
    let row = |event: &str, who: &str| (event.to_owned(), who.to_owned(), 1);
    let mut rows = audited(&gateway).await;
    rows[..3].sort();
    assert_eq!(
        rows,
        [
            row("key_changed", "former"),
            row("key_changed", "latter"),
            row("key_changed", "tester"),
            row("sign_in", "tester"),
            row("key_refused", "")
        ]
    );
}
