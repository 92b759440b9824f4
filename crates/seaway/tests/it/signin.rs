//! Programs that sign in (`/login` in Claude Code): the device flow, the page, and what they ask from then on.

use serde_json::{Value, json};

use crate::support::{ASK, Answer, Client, Gateway, KEY, Upstream, answer_json};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const ORIGIN: &str = "Origin: http://localhost";
const DEVICE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";

/// Asks without a key.
async fn send(gateway: &Gateway, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut client = Client::connect(gateway.address, None).await;
    client.ask(line, headers, body).await;
    client.answer().await
}

/// The codes that a program gets: its own, and the one that a person types.
async fn begin(gateway: &Gateway) -> (String, String) {
    let agent = "user-agent: claude-code/2.1.332";
    let begun = send(
        gateway,
        "POST /oauth/device_authorization",
        &[FORM, agent],
        "surface=claude_code&x=1",
    )
    .await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let begun = begun.json();
    let of = |name: &str| begun[name].as_str().unwrap().to_owned();
    assert_eq!(of("verification_uri"), "http://localhost/device");
    assert_eq!(
        of("verification_uri_complete"),
        format!("http://localhost/device?user_code={}", of("user_code"))
    );
    (of("device_code"), of("user_code"))
}

async fn decide(gateway: &Gateway, headers: &[&str], form: &str) -> Answer {
    let headers = [&[FORM, ORIGIN], headers].concat();
    send(gateway, "POST /dashboard/device", &headers, form).await
}

async fn poll(gateway: &Gateway, device: &str) -> Answer {
    let form = format!("{DEVICE}&device_code={device}");
    send(gateway, "POST /oauth/token", &[FORM], &form).await
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// Signs in with a key, from the beginning to the tokens.
async fn signed_in(gateway: &Gateway, key: &str) -> (String, String) {
    let (device, code) = begin(gateway).await;
    let approved =
        decide(gateway, &[], &format!("user_code={code}&key={key}&answer=approve")).await;
    assert_eq!(approved.status, 200, "{}", approved.text());
    let tokens = poll(gateway, &device).await;
    assert_eq!((tokens.status, tokens.header("cache-control")), (200, Some("no-store")));
    let tokens = tokens.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let of = |name: &str| tokens[name].as_str().unwrap().to_owned();
    assert_eq!(error(&poll(gateway, &device).await), (400, "expired_token".into()), "once");
    (of("access_token"), of("refresh_token"))
}

async fn refreshed(gateway: &Gateway, token: &str) -> Answer {
    let form = format!("grant_type=refresh_token&refresh_token={token}");
    send(gateway, "POST /oauth/token", &[FORM], &form).await
}

/// Asks with a token.
async fn bearer(gateway: &Gateway, token: &str, line: &str, body: &str) -> Answer {
    send(gateway, line, &[&format!("authorization: Bearer {token}")], body).await
}

async fn owner(gateway: &Gateway, line: &str, body: &Value) -> Answer {
    let mut client = gateway.client().await;
    client.ask(line, &[], &body.to_string()).await;
    client.answer().await
}

async fn made(gateway: &Gateway, body: &Value) -> String {
    let answer = owner(gateway, "POST /v1/admin/keys", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_signs_in_with_a_key_and_is_out_when_the_key_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, &json!({"name": "ann", "budgets": ["20/day"]})).await;
    let found = send(&gateway, "GET /.well-known/oauth-authorization-server", &[], "").await.json();
    assert_eq!(
        (&found["issuer"], &found["token_endpoint"], found.get("authorization_endpoint")),
        (&json!("http://localhost"), &json!("http://localhost/oauth/token"), None)
    );
    let (access, refresh) = signed_in(&gateway, &key).await;
    assert_eq!(bearer(&gateway, &access, "POST /v1/messages", ASK).await.status, 200);
    let own = bearer(&gateway, &access, "GET /v1/key", "").await.json();
    assert_eq!((&own["name"], &own["budgets"][0]["budget"]), (&json!("ann"), &json!("20/day")));
    // No token is a key: what it is of may end, and it makes nothing that goes on.
    let (_, code) = begin(&gateway).await;
    let by_token =
        decide(&gateway, &[], &format!("user_code={code}&key={access}&answer=approve")).await;
    assert_eq!(by_token.status, 401);
    assert_eq!(bearer(&gateway, &refresh, "POST /v1/messages", ASK).await.status, 401);

    let newer = refreshed(&gateway, &refresh).await.json();
    let newer = newer["access_token"].as_str().unwrap();
    for token in [&access, newer] {
        assert_eq!(bearer(&gateway, token, "POST /v1/messages", ASK).await.status, 200);
    }
    assert_eq!(error(&refreshed(&gateway, &access).await), (401, "invalid_grant".into()));
    // Whose key is another is signed out, once the old one lets in no more.
    let rotate = "POST /v1/admin/keys/ann/rotate";
    assert_eq!(owner(&gateway, rotate, &json!({"grace": "1h"})).await.status, 200);
    assert_eq!(bearer(&gateway, &access, "POST /v1/messages", ASK).await.status, 200);
    let rotated = owner(&gateway, rotate, &json!({"grace": "0"})).await.json();
    let out = bearer(&gateway, &access, "POST /v1/messages", ASK).await;
    assert_eq!((out.status, out.header("x-should-retry")), (401, Some("false")));
    assert!(out.text().contains("sign in again"), "{}", out.text());
    assert_eq!(error(&refreshed(&gateway, &refresh).await), (401, "invalid_grant".into()));

    let (access, refresh) = signed_in(&gateway, rotated["key"].as_str().unwrap()).await;
    assert_eq!(bearer(&gateway, &access, "POST /v1/messages", ASK).await.status, 200);
    let form = format!("token={refresh}&token_type_hint=refresh_token");
    for _ in 0..2 {
        assert_eq!(send(&gateway, "POST /oauth/revoke", &[FORM], &form).await.status, 200);
    }
    let out = bearer(&gateway, &access, "POST /v1/messages", ASK).await;
    assert_eq!((out.status, out.header("x-should-retry")), (401, Some("false")));
    let audit = owner(&gateway, "GET /v1/admin/audit", &json!({})).await.json();
    let events: Vec<&str> =
        audit["audit"].as_array().unwrap().iter().filter_map(|row| row["event"].as_str()).collect();
    let of = |event: &str| events.iter().filter(|known| **known == event).count();
    assert_eq!((of("client_sign_in"), of("client_sign_out")), (2, 1), "{events:?}");
    let store = std::fs::read(gateway.state.path().join("seaway.db")).unwrap();
    for token in [access, refresh] {
        assert!(!store.windows(token.len()).any(|bytes| bytes == token.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_outlives_the_gateway() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let (access, refresh) = signed_in(&gateway, KEY).await;
    // The next one on its store.
    let state = gateway.state.path().to_string_lossy().into_owned();
    let gateway = Gateway::before(&upstream, &[("state_dir", &state)]).await;
    upstream.serve(answer_json);
    assert_eq!(bearer(&gateway, &access, "POST /v1/messages", ASK).await.status, 200);
    assert_eq!(refreshed(&gateway, &refresh).await.status, 200);
    // The owner's program is no owner: what it made would outlive it.
    for (line, body) in [
        ("GET /v1/admin/keys", String::new()),
        ("POST /v1/admin/keys", json!({"name": "mine"}).to_string()),
    ] {
        assert_eq!(bearer(&gateway, &access, line, &body).await.status, 403, "{line}");
    }
    let key = json!({"key": access}).to_string();
    assert_eq!(send(&gateway, "POST /dashboard/sign-in", &[ORIGIN], &key).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_who_is_signed_in_and_ends_it() {
    let gateway = shared().await;
    let (mine, _) = signed_in(&gateway, "k-me").await;
    let (guests, _) = signed_in(&gateway, "k-guest").await;
    let mut owner = Client::connect(gateway.address, Some("k-me")).await;
    let told = owner.get("/v1/admin/logins").await.json();
    let keys: Vec<&str> =
        told["logins"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["guest", "me"]);
    assert_eq!(told["logins"][0]["program"], "claude-code/2.1.332");
    let id = told["logins"][0]["id"].as_str().unwrap().to_owned();
    for (key, id, status) in [
        ("k-guest", id.as_str(), 403),
        ("k-me", "0123456789abcdef", 404),
        ("k-me", "x", 404),
        ("k-me", &id, 200),
        ("k-me", &id, 404),
    ] {
        let mut client = Client::connect(gateway.address, Some(key)).await;
        client.ask(&format!("DELETE /v1/admin/logins/{id}"), &[], "").await;
        let ended = client.answer().await;
        assert_eq!(ended.status, status, "{key} {id}: {}", ended.text());
    }
    for (access, status) in [(mine, 200), (guests, 401)] {
        assert_eq!(bearer(&gateway, &access, "GET /v1/models", "").await.status, status);
    }
    let audit = owner.get("/v1/admin/audit").await.json();
    let row =
        &audit["audit"].as_array().unwrap().iter().find(|row| row["event"] == "client_sign_out");
    assert_eq!(row.unwrap()["who"], "me", "{audit}");
}

async fn shared() -> Gateway {
    Gateway::start(&[
        ("upstream.s.kind", "sandbox"),
        ("keys", r#"{"me":"k-me","guest":"k-guest"}"#),
        ("admin.callers", "me"),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_answered_by_who_has_a_key_and_by_nobody_else() {
    let gateway = shared().await;
    let (device, code) = begin(&gateway).await;
    assert_eq!(error(&poll(&gateway, &device).await), (400, "authorization_pending".into()));
    assert_eq!(error(&poll(&gateway, &device).await), (400, "slow_down".into()));
    let led = send(&gateway, &format!("GET /device?user_code={code}"), &[], "").await;
    let page = format!("/dashboard/device?user_code={code}");
    assert_eq!((led.status, led.header("location")), (303, Some(&*page)));
    let shown = send(&gateway, &format!("GET {page}"), &[], "").await;
    let policy = shown.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script"), "{policy}");
    assert!(shown.text().contains("claude-code/2.1.332"), "{}", shown.text());
    let hostile =
        send(&gateway, "GET /dashboard/device?user_code=%22%3E%3Cscript%3E", &[], "").await;
    assert!(!hostile.text().contains("<script>"), "{}", hostile.text());

    for (form, headers, status) in [
        (format!("user_code={code}&key=wrong&answer=approve"), vec![], 401),
        (format!("user_code={code}&answer=approve"), vec![], 400),
        (format!("user_code={code}&as=me&answer=approve"), vec![], 400),
        ("user_code=BCDF-GHJK&key=k-me&answer=approve".to_owned(), vec![], 404),
        ("user_code=".to_owned(), vec![], 404),
        (format!("user_code={code}&user_code={code}&key=k-me&answer=approve"), vec![], 400),
        (format!("user_code={code}&pad={}", "x".repeat(3 << 20)), vec![], 413),
    ] {
        assert_eq!(decide(&gateway, &headers, &form).await.status, status, "{form}");
    }
    // Another page's form is none of ours.
    let form = format!("user_code={code}&key=k-me&answer=approve");
    let foreign =
        send(&gateway, "POST /dashboard/device", &[FORM, "Origin: http://evil.example"], &form);
    assert_eq!(foreign.await.status, 403);
    assert_eq!(decide(&gateway, &[], &format!("user_code={code}&answer=deny")).await.status, 200);
    assert_eq!(error(&poll(&gateway, &device).await), (400, "access_denied".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_in_to_the_dashboard_needs_no_key_to_approve() {
    let gateway = shared().await;
    // Who is signed in to the dashboard needs no key: the owner for anybody, another for oneself.
    for (key, name, status) in [
        ("k-me", "guest", 200),
        ("k-me", "nobody", 400),
        ("k-guest", "me", 400),
        ("k-guest", "guest", 200),
    ] {
        let cookie =
            send(&gateway, "POST /dashboard/sign-in", &[ORIGIN], &json!({"key": key}).to_string())
                .await;
        let cookie = cookie.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        let cookie = format!("Cookie: {}", cookie.unwrap());
        let (device, code) = begin(&gateway).await;
        let form = format!("user_code={}&as={name}&answer=approve", code.to_lowercase());
        assert_eq!(decide(&gateway, &[&cookie], &form).await.status, status, "{key} as {name}");
        if status == 200 {
            let access = poll(&gateway, &device).await.json()["access_token"].clone();
            let own = bearer(&gateway, access.as_str().unwrap(), "GET /v1/key", "").await.json();
            assert_eq!(own["name"], *name);
        }
    }
    for (form, wrong) in [
        ("grant_type=password", (400, "unsupported_grant_type".to_owned())),
        ("", (400, "unsupported_grant_type".to_owned())),
        (
            "grant_type=refresh_token&refresh_token=sk-seaway-re-AA",
            (401, "invalid_grant".to_owned()),
        ),
    ] {
        assert_eq!(error(&send(&gateway, "POST /oauth/token", &[FORM], form).await), wrong);
    }
    let unread =
        send(&gateway, "POST /oauth/token", &["content-type: application/json"], "{}").await;
    assert_eq!(error(&unread), (400, "invalid_request".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_asks_that_signed_in_is_there() {
    let upstream = Upstream::start().await;
    let managed = r#"{"env":{"B":"2","A":"1"},"cleanupPeriodDays":20}"#;
    let gateway = Gateway::before(&upstream, &[("managed", managed)]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, &json!({"name": "ann", "budgets": ["20/day", "0.0001/month"]})).await;
    let (access, _) = signed_in(&gateway, &key).await;
    let settings = bearer(&gateway, &access, "GET /managed/settings", "").await;
    let checksum = settings.json()["checksum"].as_str().unwrap().to_owned();
    assert_eq!(settings.header("etag"), Some(format!("\"{checksum}\"").as_str()));
    assert_eq!(
        settings.json()["settings"].to_string(),
        r#"{"cleanupPeriodDays":20,"env":{"A":"1","B":"2"}}"#
    );
    for (tag, status) in
        [(format!("\"{checksum}\""), 304), ("\"sha256:0\"".to_owned(), 200), ("*".to_owned(), 200)]
    {
        let authorization = format!("authorization: Bearer {access}");
        let asked = [authorization.as_str(), &format!("if-none-match: {tag}")];
        let mut client = Client::connect(gateway.address, None).await;
        client.ask("GET /managed/settings", &asked, "").await;
        assert_eq!(client.head().await.status, status, "{tag}");
    }
    assert_eq!(send(&gateway, "GET /managed/settings", &[], "").await.status, 401);

    let usage = bearer(&gateway, &access, "GET /api/oauth/usage", "").await.json();
    assert_eq!(
        (&usage["extra_usage"]["monthly_limit"], &usage["extra_usage"]["used_credits"]),
        (&json!(2000), &json!(0)),
        "{usage}"
    );
    assert_eq!(
        (&usage["limits"][0]["group"], &usage["limits"][0]["is_active"]),
        (&json!("daily"), &json!(true))
    );
    let limits = json!({"budgets": ["1/day"]});
    assert_eq!(owner(&gateway, "PATCH /v1/admin/keys/ann", &limits).await.status, 200);
    let answer = bearer(&gateway, &access, "POST /v1/messages", ASK).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.quiet().await;
    let usage = bearer(&gateway, &access, "GET /api/oauth/usage", "").await.json();
    let active = usage["limits"].as_array().unwrap().iter().find(|row| row["is_active"] == true);
    let resets = active.unwrap()["resets_at"].as_str().unwrap();
    let told = answer.header("anthropic-ratelimit-unified-overage-reset").unwrap();
    let resets: jiff::Timestamp = resets.parse().unwrap();
    assert_eq!(resets.as_second().to_string(), told, "{usage}");
    // Without a cap what was spent is told.
    let usage =
        send(&gateway, "GET /api/oauth/usage", &[&format!("x-api-key: {KEY}")], "").await.json();
    assert_eq!(
        (&usage["limits"], &usage["extra_usage"]["monthly_limit"]),
        (&json!([]), &Value::Null)
    );
    assert!(usage["extra_usage"]["daily"]["used_credits"].is_number(), "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_signing_in_is_for_https() {
    let gateway = Gateway::start(&[
        ("upstream.s.kind", "sandbox"),
        ("keys", r#"{"me":"k-me"}"#),
        ("hosts", "gw.example.com"),
    ])
    .await;
    let discovery = "GET /.well-known/oauth-authorization-server";
    for (headers, issuer) in [
        ("Host: gw.example.com", "https://gw.example.com"),
        ("Host: gw.example.com:8443", "https://gw.example.com:8443"),
        ("Host: localhost:7329\r\nx-forwarded-proto: https", "https://localhost:7329"),
        ("Host: localhost:7329\r\nx-forwarded-proto: https, http", "https://localhost:7329"),
        ("Host: localhost:7329\r\nx-forwarded-proto: http, https", "http://localhost:7329"),
        ("Host: [::1]:7329", "http://[::1]:7329"),
    ] {
        let mut client = Client::connect(gateway.address, None).await;
        client.write(format!("{discovery} HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        let found = client.answer().await;
        assert_eq!(found.json()["issuer"], *issuer, "{}", found.text());
    }
    let open = Gateway::start(&[("upstream.s.kind", "sandbox"), ("auth", "none")]).await;
    let found = send(&open, discovery, &[], "").await;
    assert_eq!(found.status, 404);
    assert!(found.text().contains("ANTHROPIC_BASE_URL"), "{}", found.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_ends_with_the_very_key_that_was_shown() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let old = made(&gateway, &json!({"name": "ann"})).await;
    let rotate = "POST /v1/admin/keys/ann/rotate";
    let newer = owner(&gateway, rotate, &json!({"grace": "6s"})).await.json();
    // The old key lets in still, and what signs in by it goes with it.
    let (by_old, refresh) = signed_in(&gateway, &old).await;
    let (by_new, _) = signed_in(&gateway, newer["key"].as_str().unwrap()).await;
    assert_eq!(bearer(&gateway, &by_old, "POST /v1/messages", ASK).await.status, 200);
    // Approved before, and replaced before it was asked for.
    let (device, code) = begin(&gateway).await;
    let form = format!("user_code={code}&key={}&answer=approve", newer["key"].as_str().unwrap());
    assert_eq!(decide(&gateway, &[], &form).await.status, 200);
    while bearer(&gateway, &old, "GET /v1/key", "").await.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(bearer(&gateway, &by_old, "POST /v1/messages", ASK).await.status, 401);
    assert_eq!(error(&refreshed(&gateway, &refresh).await), (401, "invalid_grant".into()));
    assert_eq!(bearer(&gateway, &by_new, "POST /v1/messages", ASK).await.status, 200);
    assert_eq!(owner(&gateway, rotate, &json!({"grace": "0"})).await.status, 200);
    assert_eq!(error(&poll(&gateway, &device).await), (400, "access_denied".into()));
    assert_eq!(bearer(&gateway, &by_new, "POST /v1/messages", ASK).await.status, 401);
}
