//! The dashboard's door, and what its page asks.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway};

const ORIGIN: &str = "Origin: http://localhost";

async fn gateway(settings: &[(&str, &str)]) -> Gateway {
    let mut all =
        vec![("upstream.s.kind", "sandbox"), ("keys", r#"{"me":"k-me","guest":"k-guest"}"#)];
    all.extend_from_slice(settings);
    Gateway::start(&all).await
}

/// Asks without a key, as a browser does.
async fn send(gateway: &Gateway, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut client = Client::connect(gateway.address, None).await;
    client.ask(line, headers, body).await;
    client.answer().await
}

async fn sign_in(gateway: &Gateway, key: &str) -> (u16, String) {
    let answer =
        send(gateway, "POST /dashboard/sign-in", &[ORIGIN], &json!({"key": key}).to_string()).await;
    let cookie =
        answer.header("set-cookie").and_then(|cookie| cookie.split(';').next()).unwrap_or_default();
    (answer.status, format!("Cookie: {cookie}"))
}

/// What the page is told until the gateway drains, which ends its stream.
async fn look(gateway: &Gateway, cookie: &str) -> String {
    let mut page = Client::connect(gateway.address, None).await;
    page.ask("GET /dashboard/live", &[cookie], "").await;
    assert_eq!(page.head().await.status, 200);
    let mut text = page.chunk().await.expect("it tells something at once");
    gateway.app.state.drain.begin();
    while let Some(chunk) = page.chunk().await.filter(|chunk| !chunk.is_empty()) {
        text.extend(chunk);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_page_and_its_cookie_opens_nothing_else() {
    let gateway = gateway(&[("dashboard.callers", "[\"me\"]")]).await;
    assert_eq!(sign_in(&gateway, "wrong").await.0, 401);
    assert_eq!(sign_in(&gateway, "k-guest").await.0, 403, "only who is named");
    let (status, cookie) = sign_in(&gateway, "k-me").await;
    assert_eq!(status, 200);
    let close = r#"{"owner":"me","id":"none"}"#;
    for (line, body, expect) in [
        ("GET /dashboard/usage", "", 200),
        ("GET /dashboard/usage?days=x", "", 400),
        ("GET /dashboard/auth/status", "", 404),
        ("GET /auth/status", "", 401),
        ("POST /dashboard/sessions/close", close, 404),
        ("POST /dashboard/sessions/close", "{}", 400),
        ("GET /v1/models", "", 401),
        ("POST /v1/messages", "{}", 401),
        ("GET /metrics", "", 401),
        ("GET /dashboard/nothing", "", 404),
    ] {
        assert_eq!(send(&gateway, line, &[ORIGIN, &cookie], body).await.status, expect, "{line}");
    }
    assert!(
        !send(&gateway, "GET /dashboard/connect", &[&cookie], "").await.text().contains("k-me"),
        "a cookie does not buy the key"
    );
    for (line, body) in [
        ("GET /dashboard/usage", ""),
        ("GET /dashboard/live", ""),
        ("POST /dashboard/sessions/close", close),
    ] {
        assert_eq!(
            send(&gateway, line, &["X-Api-Key: k-guest"], body).await.status,
            403,
            "{line}: a key is not enough for who is not named"
        );
    }
    // Without an origin of ours nothing is changed, whatever the cookie.
    assert_eq!(
        send(&gateway, "POST /dashboard/sessions/close", &[&cookie], close).await.status,
        401
    );
    assert_eq!(
        send(&gateway, "POST /dashboard/sign-in", &[], r#"{"key":"k-me"}"#).await.status,
        401
    );
    assert_eq!(
        send(
            &gateway,
            "POST /dashboard/sign-in",
            &["Origin: http://evil.example"],
            r#"{"key":"k-me"}"#
        )
        .await
        .status,
        403
    );
    assert_eq!(
        send(&gateway, "GET /dashboard/usage", &["Cookie: seaway-=9999999999.00"], "").await.status,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_sees_what_goes_on_and_does_not_hold_up_a_drain() {
    let gateway = gateway(&[]).await;
    let (_, cookie) = sign_in(&gateway, "k-me").await;
    let asked = json!({"model": "claude-opus-4-8", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    assert_eq!(send(&gateway, "POST /v1/messages", &["X-Api-Key: k-me"], &asked).await.status, 200);
    let text = look(&gateway, &cookie).await;
    let data = |name: &str| -> Value {
        let event = text
            .split("\n\n")
            .find_map(|event| event.strip_prefix(&format!("event: {name}\ndata: ")));
        serde_json::from_str(event.unwrap_or_else(|| panic!("no {name}: {text}"))).unwrap()
    };
    assert_eq!(data("live")["ended"][0]["model"], "claude-opus-4-8");
    assert_eq!(data("gateway")["health"]["upstreams"][0]["name"], "s");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_named_each_sees_their_own() {
    let gateway = gateway(&[]).await;
    for (key, model) in [("k-me", "claude-opus-4-8"), ("k-guest", "claude-haiku-4-5")] {
        let asked = json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        assert_eq!(
            send(&gateway, "POST /v1/messages", &[&format!("X-Api-Key: {key}")], &asked)
                .await
                .status,
            200
        );
    }
    gateway.app.state.ledger.store().flush().await;
    let (_, cookie) = sign_in(&gateway, "k-me").await;
    let usage = send(&gateway, "GET /dashboard/usage", &[&cookie], "").await.json();
    let rows = usage["rows"].as_array().unwrap();
    assert!(rows.len() == 1 && rows[0]["row"]["caller"] == "me", "{usage}");
    let foreign = send(
        &gateway,
        "POST /dashboard/sessions/close",
        &[ORIGIN, &cookie],
        r#"{"owner":"guest","id":"x"}"#,
    )
    .await;
    assert_eq!(foreign.status, 403);
    let text = look(&gateway, &cookie).await;
    assert!(text.contains("claude-opus-4-8") && !text.contains("claude-haiku-4-5"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_itself_knows_nothing_and_trusts_nobody() {
    let gateway = gateway(&[]).await;
    let answer = send(&gateway, "GET /", &["Accept: text/html,*/*"], "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("<title>Seaway</title>"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for asset in ["page.css", "page.js", "plot.js", "icon.svg"] {
        assert_eq!(
            send(&gateway, &format!("GET /dashboard/{asset}"), &[], "").await.status,
            200,
            "{asset}"
        );
    }
    assert_eq!(send(&gateway, "GET /dashboard/door", &[], "").await.json(), json!({"open": false}));
    assert_eq!(send(&gateway, "GET /", &[], "").await.status, 401, "other programs use a key");
    let mut rebound = Client::connect(gateway.address, None).await;
    rebound.write("GET / HTTP/1.1\r\nHost: evil.example\r\nAccept: text/html\r\n\r\n").await;
    assert_eq!(rebound.answer().await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_the_owners_signs_a_browser_in_once() {
    let gateway = gateway(&[("dashboard.callers", "[\"guest\"]")]).await;
    let redeem = async |ticket: &str| {
        send(&gateway, "POST /dashboard/sign-in", &[ORIGIN], &json!({"ticket": ticket}).to_string())
            .await
    };
    let fragment = seaway::http::dashboard::fragment(&gateway.app.state);
    let ticket = fragment.strip_prefix("#in=").unwrap();
    let from_elsewhere = send(
        &gateway,
        "POST /dashboard/sign-in",
        &["Origin: http://evil.example"],
        &json!({"ticket": ticket}).to_string(),
    )
    .await;
    assert_eq!(from_elsewhere.status, 403);
    let signed = redeem(ticket).await;
    assert_eq!(
        (signed.status, &signed.json()["caller"]),
        (200, &"guest".into()),
        "the first who may look"
    );
    let cookie =
        format!("Cookie: {}", signed.header("set-cookie").unwrap().split(';').next().unwrap());
    assert_eq!(send(&gateway, "GET /dashboard/usage", &[&cookie], "").await.status, 200);
    for wrong in [ticket, "", "nothing"] {
        let again = redeem(wrong).await;
        assert_eq!(again.status, 401, "{wrong}");
        assert!(again.text().contains("`seaway status` prints a new one"), "{}", again.text());
    }
    for odd in ["{}", r#"{"ticket":"a","key":"k-me"}"#, "[]", ""] {
        assert_eq!(
            send(&gateway, "POST /dashboard/sign-in", &[ORIGIN], odd).await.status,
            400,
            "{odd}"
        );
    }
    let outside =
        Client::connect(gateway.address, Some("k-me")).await.post("/owner/link", "").await;
    assert_eq!(outside.status, 404, "the owner's own socket alone makes one: {}", outside.text());
    assert_eq!(
        Client::connect(gateway.address, Some("k-me")).await.get("/owner/key").await.status,
        404
    );
    let nobody = self::gateway(&[("dashboard.callers", "[\"somebody\"]")]).await;
    assert_eq!(seaway::http::dashboard::fragment(&nobody.app.state), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_another_tools_sign_in_leads_here() {
    let gateway = gateway(&[]).await;
    let browser = send(&gateway, "GET /auth/login", &["Accept: text/html,*/*"], "").await;
    assert_eq!((browser.status, browser.header("location")), (303, Some("/")));
    assert_eq!(send(&gateway, "GET /auth/login", &["Accept: */*"], "").await.status, 401);
    let program = send(&gateway, "GET /auth/login", &["Accept: */*", "X-Api-Key: k-me"], "").await;
    assert_eq!(program.status, 405);
    assert!(program.text().contains("use POST"), "{}", program.text());
}
