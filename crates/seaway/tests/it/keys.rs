//! Keys that are given out, and the caps over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{
    ASK, Answer, Client, Gateway, KEY, Program, Received, Upstream, answer_json, eventually, run,
    text,
};

/// Asks as somebody.
async fn as_key(gateway: &Gateway, key: &str) -> Client {
    Client::connect(gateway.address, Some(key)).await
}

/// Makes a key, and returns it.
async fn made(gateway: &Gateway, body: Value) -> String {
    let mut owner = gateway.client().await;
    let answer = owner.post("/v1/admin/keys", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["key"].as_str().unwrap().to_owned()
}

async fn asked(client: &mut Client, method: &str, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.ask(&format!("{method} {path}"), &[], &body).await;
    client.answer().await
}

fn sentence(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

async fn serving() -> Upstream {
    Upstream::start().await
}

async fn every_change_is_on_record(owner: &mut Client) {
    let audit = owner.get("/v1/admin/audit").await.json();
    let events: Vec<&str> = audit["audit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["event"].as_str().unwrap())
        .filter(|event| *event != "key_refused")
        .collect();
    assert_eq!(events, ["key_revoked", "key_rotated", "key_rotated", "key_set", "key_created"]);
    let set =
        audit["audit"].as_array().unwrap().iter().find(|row| row["event"] == "key_set").unwrap();
    assert_eq!((&set["who"], &set["address"]), (&json!("tester"), &json!("127.0.0.1")));
    assert_eq!(set["before"], json!({"models": ["claude-haiku*"]}).to_string());
    assert_eq!(set["after"], json!({"rpm": 100}).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lives_from_its_making_to_its_end_and_every_change_is_there_at_once() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, json!({"name": "ann", "models": ["claude-haiku*"]})).await;
    let mut ann = as_key(&gateway, &key).await;
    let refused = ann.post("/v1/messages", ASK).await;
    assert_eq!((refused.status, refused.header("x-should-retry")), (403, Some("false")));
    assert!(
        sentence(&refused).contains("`claude-sonnet-4-5`")
            && sentence(&refused).contains("`claude-haiku*`"),
        "{}",
        refused.text()
    );
    let mut owner = gateway.client().await;
    let patch = json!({"models": null, "rpm": 100});
    let set = asked(&mut owner, "PATCH", "/v1/admin/keys/ann", patch).await;
    assert_eq!((set.status, &set.json()["rpm"]), (200, &json!(100)), "{}", set.text());
    assert_eq!(ann.post("/v1/messages", ASK).await.status, 200);

    let rotated =
        asked(&mut owner, "POST", "/v1/admin/keys/ann/rotate", json!({"grace": "1h"})).await;
    let newer = rotated.json()["key"].as_str().unwrap().to_owned();
    assert_ne!(newer, key);
    for key in [&key, &newer] {
        assert_eq!(as_key(&gateway, key).await.post("/v1/messages", ASK).await.status, 200);
    }
    let rotated =
        asked(&mut owner, "POST", "/v1/admin/keys/ann/rotate", json!({"grace": "0"})).await;
    let newest = rotated.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(as_key(&gateway, &newer).await.post("/v1/messages", ASK).await.status, 401);
    let mut ann = as_key(&gateway, &newest).await;
    assert_eq!(ann.post("/v1/messages", ASK).await.status, 200);
    // No key is for others to give out keys with.
    assert_eq!(ann.get("/v1/admin/keys").await.status, 403);

    gateway.quiet().await;
    gateway.app.state.ledger.store().flush().await;
    let listed = owner.get("/v1/admin/keys").await;
    let row = &listed.json()["keys"][0];
    assert_eq!(
        (&row["name"], &row["state"], &row["requests"]),
        (&json!("ann"), &json!("active"), &json!(5)),
        "{row}"
    );
    assert!(row["last_used"].is_string() && row["spent_micros"] == json!(4 * 39), "{row}");
    let store = std::fs::read(gateway.state.path().join("seaway.db")).unwrap();
    let told = [listed.text().as_bytes(), &store].concat();
    for key in [&key, &newer, &newest] {
        assert!(
            !told.windows(key.len()).any(|bytes| bytes == key.as_bytes()),
            "a key is kept as it is"
        );
    }

    assert_eq!(asked(&mut owner, "DELETE", "/v1/admin/keys/ann", Value::Null).await.status, 200);
    let gone = ann.post("/v1/messages", ASK).await;
    assert_eq!(gone.status, 401);
    assert!(sentence(&gone).contains("the key `ann` was revoked at 20"), "{}", gone.text());

    every_change_is_on_record(&mut owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_key_is_said_and_changes_nothing() {
    let gateway = Gateway::start(&[]).await;
    let mut owner = gateway.client().await;
    assert_eq!(made(&gateway, json!({"name": "taken"})).await.len(), 53);
    for (body, part) in [
        (json!({}), "name"),
        (json!({"name": "a b"}), "`a b` is no name"),
        (json!({"name": "owner"}), "the gateway's own"),
        (json!({"name": "tester"}), "the configuration has a key"),
        (json!({"name": "taken"}), "is there already"),
        (json!({"name": "x", "budget": "20/day"}), "unknown field `budget`"),
        (json!({"name": "x", "budgets": ["20/year"]}), "`20/year` is no budget"),
        (json!({"name": "x", "budgets": ["1/day", "2/day"]}), "for the same time"),
        (json!({"name": "x", "rpm": 0}), "let nothing through"),
        (json!({"name": "x", "rpm": -1}), "rpm"),
        (json!({"name": "x", "team": "none"}), "there is no team `none`"),
        (json!({"name": "x", "upstreams": ["moon"]}), "no upstream `moon`"),
        (json!({"name": "x", "expires": "yesterday"}), "no time to come"),
        (json!({"name": "x", "expires": "2020-01-01T00:00:00Z"}), "no time to come"),
        (json!({"name": "x", "hash": "sha256:00"}), "64 hexadecimal"),
    ] {
        let answer = owner.post("/v1/admin/keys", &body.to_string()).await;
        assert!(matches!(answer.status, 400 | 404), "{body}: {}", answer.text());
        assert!(answer.text().contains(part), "{body}: {}", answer.text());
    }
    for (method, path) in [
        ("PATCH", "/v1/admin/keys/x"),
        ("DELETE", "/v1/admin/keys/x"),
        ("GET", "/v1/admin/keys/x"),
        ("POST", "/v1/admin/keys/x/rotate"),
        ("DELETE", "/v1/admin/teams/x"),
    ] {
        let body = if method == "PATCH" { json!({"rpm": 1}) } else { Value::Null };
        assert_eq!(asked(&mut owner, method, path, body).await.status, 404, "{method} {path}");
    }
    let rows = owner.get("/v1/admin/keys").await.json();
    assert_eq!(rows["keys"].as_array().unwrap().len(), 1);
}

/// What a request of this test costs: 39 micro-dollars, of three tokens and two.
const COST: u64 = 39;

#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_clients_passes_a_cap_together() {
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    let upstream = serving().await;
    let gateway =
        Gateway::before(&upstream, &[("upstream.up.concurrency", "64"), ("time_zone", "UTC")])
            .await;
    upstream.serve(|received: Received| {
        SERVED.fetch_add(1, Ordering::Relaxed);
        answer_json(received)
    });
    let mut owner = gateway.client().await;
    asked(&mut owner, "PUT", "/v1/admin/teams/lab", json!({"budgets": ["0.05/day"]})).await;
    let mut keys = Vec::new();
    for name in ["ann", "bob"] {
        keys.push(made(&gateway, json!({"name": name, "team": "lab", "budgets": ["1/day"]})).await);
    }
    let refused = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..40)
        .map(|number| {
            let (key, address, refused) =
                (keys[number % 2].clone(), gateway.address, refused.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address, Some(&key)).await;
                loop {
                    let answer = client.post("/v1/messages", ASK).await;
                    if answer.status == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                        return answer;
                    }
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            })
        })
        .collect();
    let mut last = None;
    for client in clients {
        last = Some(client.await.unwrap());
    }
    let last = last.unwrap();
    assert!(sentence(&last).contains("the team `lab` has 0.0"), "{}", last.text());
    assert_eq!(last.json()["error"]["type"], "billing_error");
    gateway.quiet().await;
    gateway.app.state.ledger.store().flush().await;
    let teams = owner.get("/v1/admin/teams/lab").await.json();
    let spent = teams["budgets"][0]["spent_micros"].as_u64().unwrap();
    let served = SERVED.load(Ordering::Relaxed) as u64;
    assert_eq!(spent, served * COST, "what is counted is what was served");
    // What the last one would have held at the most is all that is left.
    assert!((49_500..=50_000).contains(&spent), "{spent}");
    assert_eq!(teams["spent_micros"], spent, "what is written is what is counted");
    let database =
        seaway::store::open_to_read(&gateway.state.path().join("seaway.db")).unwrap().unwrap();
    let recorded: u64 =
        database.query_row("SELECT sum(cost) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(recorded, spent, "and what is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_used_up_is_told_in_every_dialect() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[("time_zone", "UTC")]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, json!({"name": "ann", "budgets": ["0.0005/month"]})).await;
    let mut client = as_key(&gateway, &key).await;
    let chat = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let responses = json!({"model": "claude-sonnet-4-5", "max_output_tokens": 9, "input": "hi"});
    for (path, body, kind) in [
        ("/v1/messages", ASK.to_owned(), "billing_error"),
        ("/v1/chat/completions", chat.to_string(), "insufficient_quota"),
        ("/v1/responses", responses.to_string(), "insufficient_quota"),
    ] {
        let answer = client.post(path, &body).await;
        assert_eq!(answer.status, 429, "{path}: {}", answer.text());
        assert_eq!(answer.json()["error"]["type"], kind, "{path}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{path}");
        let wait: i64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=31 * 86_400).contains(&wait), "{path}: {wait}");
        assert!(
            sentence(&answer).contains("dollars a month")
                && sentence(&answer).contains("begins anew at 20"),
            "{path}: {}",
            sentence(&answer)
        );
    }
    let answer = client.post("/v1/messages", ASK).await;
    let unified = |name: &str| answer.header(&format!("anthropic-ratelimit-unified-{name}"));
    assert_eq!(unified("status"), Some("rejected"));
    assert_eq!(unified("overage-period"), Some("monthly"));
    assert_eq!(unified("overage-disabled-reason"), Some("org_spend_cap_reached"));
    assert_eq!((unified("representative-claim"), unified("overage-status")), (None, None));
    // What costs nothing is let through, and models without a price are named.
    assert_eq!(client.post("/v1/messages/count_tokens", ASK).await.status, 200);
    let unpriced =
        client.post("/v1/messages", &ASK.replace("claude-sonnet-4-5", "new-model")).await;
    assert_eq!(unpriced.status, 403);
    assert!(sentence(&unpriced).contains("`new-model` has no price"), "{}", unpriced.text());
    let batch = client.post("/v1/messages/batches", r#"{"requests":[]}"#).await;
    assert_eq!(batch.status, 403, "{}", batch.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_warned_before_its_budget_ends_and_served_by_another_model_near_it() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[("time_zone", "UTC")]).await;
    upstream.serve(answer_json);
    let key = made(
        &gateway,
        json!({"name": "ann", "budgets": ["0.05/total"], "spill": "claude-haiku-4-5"}),
    )
    .await;
    let mut client = as_key(&gateway, &key).await;
    let unified = |answer: &Answer, name: &str| {
        answer.header(&format!("anthropic-ratelimit-unified-{name}")).map(str::to_owned)
    };
    let answer = client.post("/v1/messages", ASK).await;
    assert_eq!(unified(&answer, "overage-status").as_deref(), Some("allowed"));
    assert_eq!(unified(&answer, "overage-utilization").as_deref(), Some("0.00"));
    assert_eq!(answer.header("seaway-note"), None);
    let spend = |micros| {
        let accounts = gateway.app.state.ledger.accounts();
        accounts.spend(&"ann".into(), None, accounts.day(jiff::Timestamp::now()), micros);
    };
    spend(38_000);
    let answer = client.post("/v1/messages", ASK).await;
    assert_eq!(unified(&answer, "overage-surpassed-threshold").as_deref(), Some("0.75"));
    // What is left is too little for the model that is asked for, and enough for the other; then it is near the end.
    for (micros, ask) in [(2_900, ASK.replace(":9,", ":1000,")), (6_700, ASK.to_owned())] {
        spend(micros);
        let answer = client.post("/v1/messages", &ask).await;
        let told = (answer.status, answer.header("seaway-note"));
        assert_eq!(told, (200, Some("budget model")), "{}", answer.text());
    }
    spend(3_000);
    assert_eq!(client.post("/v1/messages", ASK).await.status, 429);
}

/// Answers with the name of who serves it, and the model that was asked for.
async fn served(received: Received, name: &str) {
    let asked: Value = serde_json::from_str(&received.text()).unwrap();
    let body = json!({"id": "msg_1", "type": "message", "model": asked["model"], "content": [],
        "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}});
    let missing = asked["model"].as_str().is_some_and(|model| model.ends_with("missing"));
    let status = if missing { "404 Not Found" } else { "200 OK" };
    let head = format!("{status}\r\ncontent-type: application/json\r\nrequest-id: {name}");
    received.answer(&head, &body.to_string()).await;
}

/// What one request near the end of a budget came to: status, upstream, model, note.
async fn spilled(routes: &str, spill: Value, spent: u64, max_tokens: u32) -> Vec<String> {
    let [one, two] = [serving().await, serving().await];
    let file = format!(
        "[upstream.one]\nkind='messages'\nbase_url='{}'\n[upstream.two]\nkind='messages'\nbase_url='{}'\n{routes}",
        one.url(),
        two.url()
    );
    let gateway = Gateway::with_file(&file, &[("time_zone", "UTC")]).await;
    one.serve(|received| served(received, "one"));
    two.serve(|received| served(received, "two"));
    let key = json!({"name": "ann", "budgets": ["1/total"], "spill": spill});
    let mut client = as_key(&gateway, &made(&gateway, key).await).await;
    let accounts = gateway.app.state.ledger.accounts();
    accounts.spend(&"ann".into(), None, accounts.day(jiff::Timestamp::now()), spent);
    let ask = ASK.replace(":9,", &format!(":{max_tokens},"));
    let answer = client.post("/v1/messages", &ask).await;
    let model = answer.json()["model"].as_str().unwrap_or_default().to_owned();
    let told = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    vec![answer.status.to_string(), told("request-id"), model, told("seaway-note")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_leads_elsewhere_near_a_cap_and_at_it() {
    const MODEL: &str = "[[route]]\nmodel='*'\nwhen='budget'\nask_model='claude-haiku-4-5'\n";
    const PLACE: &str = "[[route]]\nmodel='*sonnet*'\nwhen='budget'\nupstream='two'\n";
    const BOTH: &str = "[[route]]\nwhen='budget'\nask_model='claude-haiku-4-5'\nupstream='two'\n";
    const OTHERS: &str = "[[route]]\nmodel='*opus*'\nwhen='budget'\nupstream='two'\n";
    const UNKNOWN: &str = "[[route]]\nwhen='budget'\nask_model='no-such-model'\n";
    const DEAD: &str = "[upstream.dead]\nkind='messages'\nbase_url='http://127.0.0.1:9'\nretries=0\n[[route]]\nwhen='budget'\nupstream='dead'\n";
    // It answers with 404, and one that speaks another language.
    const REFUSES: &str = "[[route]]\nwhen='budget'\nask_model='claude-haiku-3-missing'\n[price.'claude-haiku-3-missing']\ninput=1\noutput=1\n";
    const OTHER_DIALECT: &str = "[upstream.chat]\nkind='messages'\nbase_url='http://127.0.0.1:9'\nspeaks='responses'\n[[route]]\nwhen='budget'\nupstream='chat'\n";
    let (sonnet, haiku) = ("claude-sonnet-4-5", "claude-haiku-4-5");
    let none = Value::Null;
    for (routes, spill, spent, max_tokens, expected) in [
        // Far from the cap, near it, and at it: what is left is too little for the client's own model.
        (MODEL, &none, 0, 9, ["200", "one", sonnet, ""]),
        (MODEL, &none, 960_000, 9, ["200", "one", haiku, "budget model"]),
        (MODEL, &none, 900_000, 9_000, ["200", "one", haiku, "budget model"]),
        (PLACE, &none, 0, 9, ["200", "one", sonnet, ""]),
        (PLACE, &none, 960_000, 1, ["200", "two", sonnet, "budget upstream"]),
        (BOTH, &none, 960_000, 9, ["200", "two", haiku, "budget model, budget upstream"]),
        // What a key says goes before, what is of another model is nothing to this one.
        (PLACE, &json!(haiku), 960_000, 9, ["200", "one", haiku, "budget model"]),
        (OTHERS, &none, 900_000, 9, ["200", "one", sonnet, ""]),
        // What cannot be asked leaves what the client wants.
        (UNKNOWN, &none, 960_000, 1, ["200", "one", sonnet, ""]),
        (DEAD, &none, 960_000, 1, ["200", "one", sonnet, ""]),
        (REFUSES, &none, 960_000, 1, ["200", "one", sonnet, ""]),
        (OTHER_DIALECT, &none, 960_000, 1, ["200", "one", sonnet, ""]),
    ] {
        let told = spilled(routes, spill.clone(), spent, max_tokens).await;
        assert_eq!(told, expected, "{routes} {spent} {max_tokens}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_say_when_the_next_request_may_come() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, json!({"name": "ann", "rpm": 2})).await;
    let mut client = as_key(&gateway, &key).await;
    for _ in 0..2 {
        assert_eq!(client.post("/v1/messages", ASK).await.status, 200);
    }
    let answer = client.post("/v1/messages", ASK).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&wait), "{wait}");
    assert!(sentence(&answer).contains("2 requests a minute"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_its_own_models_and_upstreams_alone() {
    let upstream = serving().await;
    let gateway = Gateway::before(
        &upstream,
        &[("models", "claude-haiku-4-5,claude-opus-4-5"), ("models_only", "true")],
    )
    .await;
    upstream.serve(|received: Received| received.answer("404 Not Found", "{}"));
    let key = made(&gateway, json!({"name": "ann", "models": ["*haiku*"]})).await;
    let mut client = as_key(&gateway, &key).await;
    let listed = client.get("/v1/models").await.json();
    let ids: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["claude-haiku-4-5"]);
    assert_eq!(client.get("/v1/models/claude-opus-4-5").await.status, 404);
    let mut owner = gateway.client().await;
    assert_eq!(owner.get("/v1/models/claude-opus-4-5").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_the_gateway_was_killed_is_charged_by_the_next() {
    let mut upstream = serving().await;
    let mut program = Program::before(&upstream, &[]);
    let mut owner = program.client().await;
    let body = json!({"name": "ann", "budgets": ["5/day"]}).to_string();
    let key = owner.post("/v1/admin/keys", &body).await.json()["key"].as_str().unwrap().to_owned();
    let long = ASK.replace("\"hi\"", &format!("\"{}\"", "word ".repeat(2000)));
    let mut client = Client::connect(program.address, Some(&key)).await;
    client.ask("POST /v1/messages", &[], &long).await;
    let received = upstream.next().await;
    let mut answered = Client::connect(program.address, Some(&key)).await;
    answered.ask("POST /v1/messages", &[], ASK).await;
    answer_json(upstream.next().await).await;
    assert_eq!(answered.answer().await.status, 200);
    program.signal(rustix::process::Signal::KILL);
    program.child.wait().unwrap();
    let state = std::mem::replace(&mut program.state, tempfile::tempdir().unwrap());
    drop((program, received));
    let url = upstream.url();
    let base = format!("upstream.up.base_url={url}");
    let again = Program::start_in(
        state,
        &["--api-key", KEY, "--set", "upstream.up.kind=messages", "--set", &base],
    );
    let mut owner = again.client().await;
    // Ten thousand characters, four a token, at three dollars a million tokens; and the one that was answered.
    let spent = async |owner: &mut Client| {
        let row = owner.get("/v1/admin/keys/ann").await.json();
        row["budgets"][0]["spent_micros"].as_u64().unwrap_or_default()
    };
    eventually("what was under way is charged", async || spent(&mut owner).await > 7_500).await;
    let all = spent(&mut owner).await;
    assert!((7_500 + COST..7_700 + COST).contains(&all), "{all}");
    let database =
        seaway::store::open_to_read(&again.state.path().join("seaway.db")).unwrap().unwrap();
    let recorded: u64 = database
        .query_row("SELECT sum(cost) FROM exchange WHERE caller = 'ann'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(recorded, all);
    let killed: (String, u64) = database
        .query_row("SELECT outcome, reckoned FROM exchange WHERE outcome = 'killed'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(killed, ("killed".to_owned(), all - COST));
}

#[test]
fn keys_are_given_out_by_commands_also_where_no_gateway_runs() {
    let state = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let output = run(&state, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    said(&["team", "set", "lab", "--budget", "100/month"]);
    let key = said(&[
        "key",
        "create",
        "ann",
        "--team",
        "lab",
        "--budget",
        "20/day",
        "--expires",
        "90d",
        "--models",
        "claude-haiku*,claude-sonnet*",
    ]);
    assert!(key.starts_with("sk-seaway-") && key.trim().len() == 53, "{key}");
    said(&["key", "set", "ann", "--budget", "none", "--rpm", "60"]);
    let listed: Value = serde_json::from_str(&said(&["key", "list", "--json"])).unwrap();
    let row = &listed["keys"][0];
    assert_eq!(
        (&row["name"], &row["team"], &row["rpm"], &row["budgets"]),
        (&json!("ann"), &json!("lab"), &json!(60), &json!([]))
    );
    assert_eq!(row["models"], json!(["claude-haiku*", "claude-sonnet*"]));
    let export = state.path().join("export.json");
    // SHA-256 of `abc`, by FIPS 180-4.
    let token = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    std::fs::write(&export, json!({"keys": [{"token": token, "key_alias": "theirs", "max_budget": 3, "budget_duration": "1d", "spend": 1}]}).to_string()).unwrap();
    let import = said(&["key", "import", "litellm", &export.to_string_lossy()]);
    assert!(import.contains("made the key `theirs`"), "{import}");
    let audit: Value = serde_json::from_str(&said(&["audit", "--json"])).unwrap();
    assert_eq!(audit.as_array().unwrap().len(), 4);

    let program = Program::start_in(state, &["--upstream", "sandbox", "--api-key", KEY]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let body = ASK.replace("claude-sonnet-4-5", "claude-haiku-4-5");
        for key in [key.trim(), "abc"] {
            let mut client = Client::connect(program.address, Some(key)).await;
            let answer = client.post("/v1/messages/count_tokens", &body).await;
            assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        }
    });
    // A gateway that runs has it at once.
    let output = run(&program.state, &["key", "revoke", "ann"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listed = text(&run(&program.state, &["key", "list"]).stdout);
    assert!(
        listed.contains("theirs") && listed.contains("2 of 3/day") && !listed.contains("ann"),
        "{listed}"
    );
    runtime.block_on(async {
        let mut client = Client::connect(program.address, Some(key.trim())).await;
        assert_eq!(client.post("/v1/messages", ASK).await.status, 401);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_summed_by_whatever_a_request_is_known_by() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let mut owner = gateway.client().await;
    asked(&mut owner, "PUT", "/v1/admin/teams/lab", json!({})).await;
    let key = made(&gateway, json!({"name": "ann", "team": "lab"})).await;
    let mut ann = as_key(&gateway, &key).await;
    let claude = [
        "user-agent: claude-cli/2.1.332 (external, cli)",
        "x-claude-code-session-id: s-1",
        "x-claude-code-agent-id: a-1",
    ];
    let codex = ["user-agent: codex_exec/0.171.0", "originator: codex_exec", "session-id: s-2"];
    for headers in [&claude[..], &claude[..2], &codex[..]] {
        ann.ask("POST /v1/messages", headers, ASK).await;
        assert_eq!(ann.answer().await.status, 200);
    }
    let responses = json!({"model": "claude-sonnet-4-5", "input": "hi", "store": false, "prompt_cache_key": "s-3"});
    assert_eq!(owner.post("/v1/responses", &responses.to_string()).await.status, 200);
    gateway.quiet().await;
    gateway.app.state.ledger.store().flush().await;
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    for (by, expect) in [
        ("session", json!([["s-1", 2], ["s-2", 1], ["s-3", 1]])),
        ("agent", json!([["", 3], ["a-1", 1]])),
        ("key", json!([["ann", 3], ["tester", 1]])),
        ("team", json!([["lab", 3], ["", 1]])),
        ("client", json!([["claude-cli 2.1.332", 2], ["", 1], ["codex_exec 0.171.0", 1]])),
        ("model", json!([["claude-sonnet-4-5", 4]])),
        ("upstream", json!([["up", 4]])),
        ("day", json!([[day, 4]])),
    ] {
        let told = owner.get(&format!("/v1/admin/usage?by={by}")).await.json();
        let rows = told["usage"].as_array().unwrap_or_else(|| panic!("{by}: {told}"));
        let sums: Vec<Value> =
            rows.iter().map(|row| json!([row["name"], row["requests"]])).collect();
        assert_eq!(Value::from(sums), expect, "{by}");
        let cost: u64 = rows.iter().map(|row| row["cost_micros"].as_u64().unwrap()).sum();
        assert_eq!(cost, 4 * COST, "{by}");
    }
    assert_eq!(owner.get("/v1/admin/usage?by=moon").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_in_a_prompt_is_held_for_what_it_may_come_to() {
    static BILLED: AtomicUsize = AtomicUsize::new(0);
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[("upstream.up.concurrency", "64")]).await;
    // A token for every two bytes, as of what is no language.
    upstream.serve(|received: Received| async move {
        let tokens = received.text().len() / 2;
        BILLED.fetch_add(tokens * 3, Ordering::Relaxed);
        let usage = json!({"input_tokens": tokens, "output_tokens": 0});
        let body = json!({"id": "m", "type": "message", "model": "claude-sonnet-4-5", "content": [], "stop_reason": "end_turn", "usage": usage});
        received.answer("200 OK\r\ncontent-type: application/json", &body.to_string()).await;
    });
    let key = made(&gateway, json!({"name": "ann", "budgets": ["0.5/total"]})).await;
    let body = ASK.replace("\"hi\"", &format!("\"{}\"", "A".repeat(40_000)));
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (key, body, address) = (key.clone(), body.clone(), gateway.address);
            tokio::spawn(async move {
                let mut client = Client::connect(address, Some(&key)).await;
                while client.post("/v1/messages", &body).await.status == 200 {}
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let billed = BILLED.load(Ordering::Relaxed);
    assert!((300_000..=500_000).contains(&billed), "{billed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_for_some_models_alone_sends_nothing_that_is_not_looked_into() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let key = made(&gateway, json!({"name": "ci", "models": ["claude-haiku*"]})).await;
    let batch = r#"{"requests":[{"custom_id":"a","params":{"model":"claude-opus-5-5","max_tokens":1,"messages":[]}}]}"#;
    let mut client = as_key(&gateway, &key).await;
    let answer = client.post("/v1/messages/batches", batch).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(client.post("/v1/messages", ASK).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_alone_makes_no_unpriced_model_free() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(|received: Received| {
        let body = r#"{"id":"m","type":"message","model":"new-model","content":[],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#;
        received.answer("200 OK\r\ncontent-type: application/json\r\nrequest-id: req_new", body)
    });
    let key = made(&gateway, json!({"name": "ci", "rpm": 60})).await;
    let mut client = as_key(&gateway, &key).await;
    let ask = ASK.replace("claude-sonnet-4-5", "new-model");
    assert_eq!(client.post("/v1/messages", &ask).await.status, 200);
    gateway.quiet().await;
    assert_eq!(gateway.receipt("req_new").await.cost, None);
    let metrics = gateway.app.state.ledger.metrics();
    assert!(metrics.contains("seaway_unpriced_total{model=\"new-model\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_an_open_gateway_serves_and_with_one_that_was_revoked_it_does_not() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[("auth", "none")]).await;
    upstream.serve(answer_json);
    let accounts = gateway.app.state.ledger.accounts().clone();
    accounts.set_pepper(seaway::account::Pepper([1; 32]));
    let hash = accounts.pepper().unwrap().hash("sk-seaway-x");
    let row = |revoked| seaway::account::KeyRow {
        name: "ann".into(),
        hash: Some(hash),
        old: None,
        settings: Arc::default(),
        created: jiff::Timestamp::UNIX_EPOCH,
        revoked,
    };
    accounts.put(row(None));
    let mut open = Client::connect(gateway.address, None).await;
    assert_eq!(open.post("/v1/messages", ASK).await.status, 200);
    let mut ann = as_key(&gateway, "sk-seaway-x").await;
    assert_eq!(ann.post("/v1/messages", ASK).await.status, 200);
    accounts.put(row(Some(jiff::Timestamp::now())));
    let refused = ann.post("/v1/messages", ASK).await;
    assert_eq!(refused.status, 401);
    assert!(sentence(&refused).contains("was revoked"), "{}", refused.text());
    // It opens no door to who gives out keys either.
    assert_eq!(open.get("/v1/admin/keys").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_tells_of_no_keys_only_the_owner_is_served() {
    let state = tempfile::tempdir().unwrap();
    let key = text(&run(&state, &["key", "create", "ann", "--budget", "1/day"]).stdout);
    // A store of a newer Seaway is none that this one can read.
    let store = state.path().join("seaway.db");
    let layout = |number: i64| {
        let database = rusqlite::Connection::open(&store).unwrap();
        database.pragma_update(None, "user_version", number).unwrap();
    };
    let known: i64 = rusqlite::Connection::open(&store)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    layout(known + 1);
    let program = Program::start_in(state, &["--upstream", "sandbox", "--api-key", KEY]);
    let body = ASK.replace("claude-sonnet-4-5", "claude-haiku-4-5");
    assert_eq!(program.client().await.post("/v1/messages", &body).await.status, 200);
    let mut ann = Client::connect(program.address, Some(key.trim())).await;
    let refused = ann.post("/v1/messages", &body).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(sentence(&refused).contains("keys that were given out"), "{}", refused.text());
    layout(known);
    eventually("the keys are known", async || ann.post("/v1/messages", &body).await.status == 200)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_keeps_the_budgets_of_a_store_and_the_next_one_takes_over() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_string_lossy().into_owned();
    let key = text(&run(&state, &["key", "create", "ann", "--budget", "1/day"]).stdout);
    let sandbox = ["--upstream", "sandbox", "--api-key", KEY];
    let mut first = Program::start_in(state, &sandbox);
    let other = tempfile::tempdir().unwrap();
    let second = [&sandbox[..], &["--state-dir", &folder]].concat();
    let second = Program::start_in(other, &second);
    let body = ASK.replace("claude-sonnet-4-5", "claude-haiku-4-5");
    let ask = async |program: &Program| {
        let mut ann = Client::connect(program.address, Some(key.trim())).await;
        ann.post("/v1/messages", &body).await
    };
    assert_eq!(ask(&first).await.status, 200);
    let refused = ask(&second).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(
        refused.header("anthropic-ratelimit-unified-overage-disabled-reason"),
        Some("fetch_error")
    );
    assert!(sentence(&refused).contains("another gateway"), "{}", refused.text());
    let mut owner = second.client().await;
    let changed = asked(&mut owner, "DELETE", "/v1/admin/keys/ann", Value::Null).await;
    assert_eq!(changed.status, 503, "{}", changed.text());
    // Commands find the one that keeps them.
    let made = run(&first.state, &["key", "create", "bob"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mut bob = Client::connect(first.address, Some(text(&made.stdout).trim())).await;
    assert_eq!(bob.post("/v1/messages", &body).await.status, 200);
    first.signal(rustix::process::Signal::TERM);
    first.child.wait().unwrap();
    eventually("the second one keeps them", async || ask(&second).await.status == 200).await;
    let row = second.client().await.get("/v1/admin/keys/ann").await.json();
    assert!(row["budgets"][0]["spent_micros"].as_u64() > Some(0), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_line_tells_what_a_session_cost_and_what_is_left() {
    use std::io::Write;
    let upstream = serving().await;
    let program = Program::before(&upstream, &[]);
    upstream.serve(answer_json);
    let mut owner = program.client().await;
    let made = owner.post("/v1/admin/keys", r#"{"name":"ann","budgets":["20/day"]}"#).await.json();
    let key = made["key"].as_str().unwrap().to_owned();
    let mut ann = Client::connect(program.address, Some(&key)).await;
    ann.ask("POST /v1/messages", &["x-claude-code-session-id: s-1"], ASK).await;
    assert_eq!(ann.answer().await.status, 200);
    let line = |variables: &[(&str, &str)]| {
        let mut command = crate::support::command(&program.state);
        command.arg("statusline").envs(variables.iter().copied());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = json!({"session_id": "s-1", "model": {"id": "claude-opus-5-5", "display_name": "Opus 5.5"}, "version": "2.1.332"});
        child.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
        text(&child.wait_with_output().unwrap().stdout)
    };
    let url = format!("http://{}", program.address);
    let own = [("ANTHROPIC_BASE_URL", url.as_str()), ("ANTHROPIC_AUTH_TOKEN", key.as_str())];
    let expect = "Opus 5.5 · session $0.01 · today $0.01 · $19.99 of 20/day left · cache 0 %
";
    eventually("the record is written", async || line(&own) == expect).await;
    // Without a key it is the owner's, of all.
    assert_eq!(
        line(&[]),
        "Opus 5.5 · session $0.01 · today $0.01 · cache 0 %
"
    );
    // Another's session is none of a key's business.
    let other = owner.get("/v1/key?session=s-1").await.json();
    assert_eq!(other["session"]["requests"], 0, "{other}");
    program.signal(rustix::process::Signal::KILL);
    eventually("nobody answers", async || {
        line(&own)
            == "Opus 5.5 · no gateway
"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_configuration_has_the_limits_that_are_set_for_it() {
    let upstream = serving().await;
    let keys = r#"{"tester":"local-key","eve":"eves-key"}"#;
    let gateway = Gateway::before(&upstream, &[("keys", keys), ("admin.callers", "tester")]).await;
    upstream.serve(answer_json);
    let mut eve = as_key(&gateway, "eves-key").await;
    assert_eq!(eve.post("/v1/messages", ASK).await.status, 200);
    assert_eq!(eve.get("/v1/admin/keys").await.status, 403);
    let mut owner = gateway.client().await;
    let set = asked(&mut owner, "PATCH", "/v1/admin/keys/eve", json!({"rpm": 1})).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(eve.post("/v1/messages", ASK).await.status, 200);
    assert_eq!(eve.post("/v1/messages", ASK).await.status, 429);
    // A time that is past cannot be set, so that it has to pass.
    let soon = json!({"rpm": null, "expires": "1s"});
    assert_eq!(asked(&mut owner, "PATCH", "/v1/admin/keys/eve", soon).await.status, 200);
    eventually("it expires", async || eve.post("/v1/messages", ASK).await.status == 401).await;
    let refused = eve.post("/v1/messages", ASK).await;
    assert!(sentence(&refused).contains("the key `eve` has expired at 20"), "{}", refused.text());
    let revoked = asked(&mut owner, "DELETE", "/v1/admin/keys/eve", Value::Null).await;
    assert!(sentence(&revoked).contains("set in the configuration"), "{}", revoked.text());
    // Nor can its key become somebody else's.
    let sha256 = seaway::config::KeySecret::hashed("eves-key");
    let body = json!({"name": "mal", "hash": sha256}).to_string();
    assert_eq!(owner.post("/v1/admin/keys", &body).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_take_the_place_of_another_leaves_what_is_told_as_it_is() {
    let upstream = serving().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    upstream.serve(answer_json);
    let body = json!({"name": "ann", "budgets": ["0.0005/day"], "spill": "no-such-model"});
    let mut client = as_key(&gateway, &made(&gateway, body).await).await;
    let refused = client.post("/v1/messages", ASK).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (429, &json!("billing_error")));
    assert_eq!(refused.header("anthropic-ratelimit-unified-status"), Some("rejected"));
}

#[test]
fn one_budget_is_set_and_the_others_stay() {
    let state = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let output = run(&state, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let budgets = |kind: &str| {
        let told: Value = serde_json::from_str(&said(&[kind, "list", "--json"])).unwrap();
        let row = told["keys"].get(0).or(told["teams"].get(0)).unwrap().clone();
        let mut found: Vec<String> = row["budgets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|budget| budget["budget"].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        found
    };
    said(&["key", "create", "ann", "--budget", "20/day", "--budget", "200/month"]);
    said(&["key", "set", "ann", "--budget", "40/day"]);
    assert_eq!(budgets("key"), ["200/month", "40/day"]);
    said(&["key", "set", "ann", "--rpm", "7"]);
    assert_eq!(budgets("key"), ["200/month", "40/day"]);
    said(&["key", "set", "ann", "--budget", "none", "--budget", "1/week"]);
    assert_eq!(budgets("key"), ["1/week"]);
    said(&["team", "set", "lab", "--budget", "5/day"]);
    said(&["team", "set", "lab", "--budget", "50/month"]);
    assert_eq!(budgets("team"), ["5/day", "50/month"]);
    // What is there already stays, also where another gateway's export says otherwise.
    let export = state.path().join("export.json");
    let theirs =
        json!({"keys": [], "teams": [{"team_id": "t", "team_alias": "lab", "max_budget": 1}]});
    std::fs::write(&export, theirs.to_string()).unwrap();
    let import = said(&["key", "import", "litellm", &export.to_string_lossy()]);
    assert!(import.contains("is there already"), "{import}");
    assert_eq!(budgets("team"), ["5/day", "50/month"]);
    // A replaced key's grace is kept: another one in its place has to wait, or to end both.
    said(&["key", "rotate", "ann", "--grace", "1h"]);
    let again = run(&state, &["key", "rotate", "ann"]);
    assert!(!again.status.success() && text(&again.stderr).contains("lets in until"));
    said(&["key", "rotate", "ann", "--grace", "0"]);
}
