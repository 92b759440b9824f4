//! `/v1/models`: one answer for both vendors' SDKs.

use serde_json::json;

use crate::support::{ASK, Gateway, Received, Upstream, answer_json};

const LIST: &str = r#"{"data":[{"type":"model","id":"claude-opus-4-8","display_name":"Opus","created_at":"2026-05-01T00:00:00Z","max_tokens":128000},{"id":"claude-opus-5-5","display_name":null,"created_at":"2026-09-15T00:00:00Z"},{"id":"org/odd","display_name":"Odd"}],"has_more":false}"#;

#[tokio::test]
async fn a_list_has_both_shapes_and_is_kept_for_a_while() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[("alias", r#"{"gpt-4o":"claude-opus-5-5"}"#)]).await;
    let mut client = gateway.client().await;
    client.ask("GET /v1/models?limit=2", &["anthropic-version: 2023-06-01"], "").await;
    let received = upstream.next().await;
    assert_eq!(
        (received.line.as_str(), received.header("x-api-key")),
        ("GET /v1/models?limit=1000 HTTP/1.1", Some("upstream-key"))
    );
    received.answer("200 OK\r\ncontent-type: application/json", LIST).await;
    let page = client.answer().await.json();
    assert_eq!(
        (&page["object"], &page["has_more"], &page["last_id"]),
        (&"list".into(), &true.into(), &"claude-opus-5-5".into())
    );
    assert_eq!(page["data"][0]["max_tokens"], 128_000);
    for model in page["data"].as_array().unwrap() {
        assert_eq!((&model["type"], &model["object"]), (&"model".into(), &"model".into()));
        assert!(
            model["display_name"].is_string()
                && model["created"].is_i64()
                && model["created_at"].is_string(),
            "{model}"
        );
    }
    let next = client.get("/v1/models?limit=2&after_id=claude-opus-5-5").await.json();
    assert_eq!(
        next["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["org/odd", "gpt-4o"]
    );
    assert_eq!(client.get("/v1/models/org/odd").await.json()["id"], "org/odd");
    assert_eq!(client.get("/v1/models/gpt-4o").await.json()["id"], "gpt-4o");
    assert_eq!(client.get("/v1/models/opus").await.json()["id"], "claude-opus-5-5");
    let unknown = client.get("/v1/models/nothing").await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["type"], &unknown.json()["error"]["code"]),
        (404, &"not_found_error".into(), &"model_not_found".into())
    );
    assert_eq!(client.get("/openai/v1/terse/models").await.json()["object"], "list");
    assert_eq!(client.get("/v1/models?limit=x").await.status, 400);
    assert!(upstream.came().is_none(), "one list serves for a while");
}

#[tokio::test]
async fn a_family_name_is_its_newest_model() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &ASK.replace("claude-sonnet-4-5", "opus")).await;
    upstream.next().await.answer("200 OK\r\ncontent-type: application/json", LIST).await;
    let received = upstream.next().await;
    assert!(received.text().contains(r#""model":"claude-opus-5-5""#), "{}", received.text());
    answer_json(received).await;
    assert_eq!(client.answer().await.header("seaway-note"), Some("alias model"));
}

async fn no_list(received: Received) {
    assert_eq!(received.line, "POST /v1/messages HTTP/1.1", "nobody fetches a list of their own");
    answer_json(received).await;
}

fn family() -> String {
    ASK.replace("claude-sonnet-4-5", "opus")
}

#[tokio::test]
async fn one_list_is_fetched_for_all_who_ask_first_and_for_whoever_stays() {
    for passthrough in ["false", "true"] {
        let mut upstream = Upstream::start().await;
        let gateway = Gateway::before(&upstream, &[("upstream.up.passthrough", passthrough)]).await;
        let mut first = gateway.client().await;
        first.ask("POST /v1/messages", &["authorization: Bearer theirs"], &family()).await;
        let list = upstream.next().await;
        assert_eq!(list.line, "GET /v1/models?limit=1000 HTTP/1.1");
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = gateway.client().await;
            client.ask("POST /v1/messages", &["authorization: Bearer theirs"], &family()).await;
            clients.push(client);
        }
        drop(first);
        list.answer("200 OK\r\ncontent-type: application/json", LIST).await;
        upstream.serve(no_list);
        for mut client in clients {
            assert_eq!(client.answer().await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_name_that_stands_for_nothing_is_a_clear_fault() {
    let mut upstream = Upstream::start().await;
    let table = [
        (
            "200 OK",
            r#"{"data":[{"id":"claude-haiku-5"}]}"#,
            404,
            "model: upstream `up` lists no `opus`; there are claude-haiku-5",
        ),
        ("404 X", "{}", 404, "upstream `up` lists no models (status 404); name a model in full"),
        (
            "401 X",
            "{}",
            401,
            "model: `opus` stands for the newest that upstream `up` lists, and there is no list",
        ),
        ("500 X", "{}", 502, "(status 500)"),
        ("200 OK", "<html>", 502, "lists no models"),
    ];
    for (head, list, status, says) in table {
        let gateway = Gateway::before(&upstream, &[]).await;
        let mut client = gateway.client().await;
        client.ask("POST /v1/messages", &[], &family()).await;
        upstream
            .next()
            .await
            .answer(&format!("{head}\r\ncontent-type: application/json"), list)
            .await;
        let answer = client.answer().await;
        assert!(
            answer.status == status && answer.text().contains(says),
            "{head}: {} {}",
            answer.status,
            answer.text()
        );
        for path in ["/v1/chat/completions", "/v1/responses"] {
            let body =
                r#"{"model":"opus","input":"hi","messages":[{"role":"user","content":"hi"}]}"#;
            let error = client.post(path, body).await.json();
            assert_eq!(
                (&error["error"]["param"], error["error"]["code"] == "model_not_found"),
                (&"model".into(), status == 404),
                "{path}: {error}"
            );
        }
        assert!(
            upstream.came().is_none(),
            "{head}: it is asked once, and nothing goes up unresolved"
        );
    }
}

#[tokio::test]
async fn a_list_that_hangs_holds_nobody_for_long() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &family()).await;
    let list = upstream.next().await;
    let answer = client.answer().await;
    assert!(
        answer.status == 504 && answer.text().contains("listed no models within 2 seconds"),
        "{} {}",
        answer.status,
        answer.text()
    );
    assert_eq!(client.post("/v1/messages", &family()).await.status, 504);
    assert!(
        upstream.came().is_none(),
        "the one list is waited for, and nothing goes up unresolved"
    );
    list.answer("200 OK\r\ncontent-type: application/json", LIST).await;
    client.ask("POST /v1/messages", &[], &family()).await;
    let received = upstream.next().await;
    assert!(
        received.text().contains("claude-opus-5-5"),
        "what came late is not lost: {}",
        received.text()
    );
    answer_json(received).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn an_upstream_without_a_list_says_so_itself() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("GET /v1/models", &[], "").await;
    let error = r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#;
    upstream.next().await.answer("403 X\r\ncontent-type: application/json", error).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (403, error));
}

#[tokio::test]
async fn what_only_the_upstream_can_tell_is_asked_of_it_each_time() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    for query in [
        "lifecycle[]=deprecated&lifecycle[]=active",
        "lifecycle%5B%5D=deprecated&workspace_id=wrkspc_1",
    ] {
        client.ask(&format!("GET /v1/models?{query}&limit=1"), &[], "").await;
        let received = upstream.next().await;
        assert_eq!(received.line, format!("GET /v1/models?limit=1000&{query} HTTP/1.1"));
        received.answer("200 OK\r\ncontent-type: application/json", LIST).await;
        let page = client.answer().await.json();
        assert_eq!(
            (page["data"].as_array().unwrap().len(), &page["has_more"]),
            (1, &true.into()),
            "{page}"
        );
    }
    client.ask("GET /v1/models", &[], "").await;
    let received = upstream.next().await;
    assert_eq!(
        received.line, "GET /v1/models?limit=1000 HTTP/1.1",
        "no narrowed list is kept for others"
    );
    received.answer("200 OK\r\ncontent-type: application/json", LIST).await;
    assert!(client.answer().await.json().get("models").is_none());
    assert!(upstream.came().is_none());
}

#[tokio::test]
async fn codex_is_told_what_each_model_is() {
    let mut upstream = Upstream::start().await;
    let settings = [("alias", r#"{"mine":"opus","gpt-5.5":"haiku"}"#)];
    let gateway = Gateway::before(&upstream, &settings).await;
    let mut client = gateway.client().await;
    client.ask("GET /v1/models?client_version=0.171.0", &[], "").await;
    let list = json!({"data": [
        {"type": "model", "id": "claude-opus-4-8", "display_name": "Claude Opus 4.8", "created_at": "2026-09-01T00:00:00Z", "max_input_tokens": 1_000_000},
        {"type": "model", "id": "claude-haiku-4-5-20251001", "display_name": "Claude Haiku 4.5", "created_at": "2025-10-01T00:00:00Z"},
    ]});
    let received = upstream.next().await;
    received.answer("200 OK\r\ncontent-type: application/json", &list.to_string()).await;
    let answer = client.answer().await;
    let tag = answer.header("etag").map(str::to_owned);
    assert!(tag.is_some_and(|tag| tag.len() == 18));
    let told = answer.json();
    assert_eq!(told["data"].as_array().unwrap().len(), 4, "the other shapes stand beside it");
    let said = |slug: &str| {
        let all = told["models"].as_array().unwrap();
        let mut found = all.iter().filter(|model| model["slug"] == slug);
        let model = found.next().unwrap_or_else(|| panic!("{slug} is not there"));
        assert!(found.next().is_none(), "{slug} is there once");
        (
            model["visibility"].as_str().unwrap().to_owned(),
            model["display_name"].as_str().unwrap().to_owned(),
            model["context_window"].as_u64().unwrap(),
            model["default_reasoning_level"].as_str().map(str::to_owned),
        )
    };
    let row = |shown: &str, name: &str, window, level: Option<&str>| {
        (shown.to_owned(), name.to_owned(), window, level.map(str::to_owned))
    };
    let high = Some("high");
    assert_eq!(said("claude-opus-4-8"), row("list", "Claude Opus 4.8", 1_000_000, high));
    assert_eq!(said("claude-haiku-4-5-20251001"), row("list", "Claude Haiku 4.5", 200_000, None));
    assert_eq!(said("mine"), row("list", "mine", 1_000_000, high), "what it stands for");
    assert_eq!(
        said("gpt-5.5"),
        row("list", "gpt-5.5", 200_000, None),
        "an alias is no model of Codex's"
    );
    assert_eq!(said("opus"), row("hide", "opus", 1_000_000, high), "known, and not offered");
    assert_eq!(said("claude-haiku-4-5").0, "hide");
    assert_eq!(said("gpt-6.2-sol").0, "hide", "nobody serves it");
}

type Settings = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn the_owner_lists_models_beside_the_upstreams_or_alone() {
    let mut upstream = Upstream::start().await;
    let table: [(Settings, &[&str]); 3] = [
        (
            &[("models", "hidden-1,org/odd")],
            &["claude-opus-4-8", "claude-opus-5-5", "org/odd", "hidden-1"],
        ),
        (
            &[
                ("models", "hidden-1,org/odd"),
                ("models_only", "true"),
                ("alias", r#"{"gpt-4o":"claude-opus-5-5"}"#),
            ],
            &["org/odd", "hidden-1"],
        ),
        (&[("models", r#"["a"]"#), ("models_only", "true")], &["a"]),
    ];
    for (settings, ids) in table {
        let gateway = Gateway::before(&upstream, settings).await;
        let mut client = gateway.client().await;
        client.ask("GET /v1/models", &[], "").await;
        upstream.next().await.answer("200 OK\r\ncontent-type: application/json", LIST).await;
        let page = client.answer().await.json();
        let found: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap())
            .collect();
        assert_eq!(found, ids, "{settings:?}");
        assert_eq!(client.get(&format!("/v1/models/{}", ids[0])).await.json()["id"], ids[0]);
    }
    // What the owner lists needs no list of the upstream's.
    let gateway = Gateway::before(&upstream, &[("models", "a")]).await;
    let mut client = gateway.client().await;
    client.ask("GET /v1/models", &[], "").await;
    upstream.next().await.answer("404 X\r\ncontent-type: application/json", "{}").await;
    assert_eq!(client.answer().await.json()["data"][0]["id"], "a");
}
