//! What is recorded, and what never is.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{ASK, Client, Gateway, Upstream};

#[tokio::test]
async fn no_prompt_and_no_answer_is_ever_kept() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client.ask("POST /v1/messages", &[], &ASK.replace("\"hi\"", "\"the secret plan\"")).await;
    upstream
        .next()
        .await
        .answer(
            "200 OK\r\ncontent-type: application/json",
            r#"{"content":[{"text":"the secret answer"}],"usage":{"input_tokens":1}}"#,
        )
        .await;
    client.answer().await;
    gateway.quiet().await;
    gateway.outcomes().await;
    for entry in std::fs::read_dir(gateway.state.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_file())
    {
        let content = std::fs::read(entry.path()).unwrap();
        let leaks = content.windows(10).any(|window| window == b"the secret");
        assert!(!leaks, "{}", entry.path().display());
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert!(
            mode == 0o600 || entry.file_name() == "seaway.toml",
            "{} has mode {mode:o}",
            entry.path().display()
        );
    }
}

#[tokio::test]
async fn usage_adds_up_by_day_model_and_caller() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let answer = r#"{"model":"claude-opus-4-5-20251101","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1000000,"output_tokens":100000,"cache_read_input_tokens":2000000,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_1h_input_tokens":10}}}"#;
    for _ in 0..3 {
        client.ask("POST /v1/messages", &[], ASK).await;
        upstream.next().await.answer("200 OK\r\ncontent-type: application/json", answer).await;
        client.answer().await;
    }
    client.ask("POST /v1/messages", &[], &ASK.replace("claude-sonnet-4-5", "claude-x")).await;
    upstream.next().await.answer("529 X\r\ncontent-type: application/json", "{}").await;
    client.answer().await;
    gateway.quiet().await;
    gateway.outcomes().await;
    let database =
        seaway::store::open_to_read(&gateway.state.path().join("seaway.db")).unwrap().unwrap();
    let rows = seaway::store::usage(&database, &seaway::store::Filter::default()).unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let known = rows.iter().find(|row| row.model.starts_with("claude-opus")).unwrap();
    assert_eq!((known.caller.as_str(), known.requests, known.failed), ("tester", 3, 0));
    assert_eq!(
        (known.input, known.output, known.cache_read, known.cache_write, known.cache_write_1h),
        (3_000_000, 300_000, 6_000_000, 90, 30)
    );
    assert_eq!(
        (known.cost, known.estimated, known.unpriced),
        (15_000_000 + 7_500_000 + 3_000_000 + 675, 0, 0)
    );
    let failed = rows.iter().find(|row| row.model == "claude-x").unwrap();
    assert_eq!((failed.requests, failed.failed, failed.known_cost()), (1, 1, Some(0)));
    let future = seaway::store::Filter { since: i64::MAX };
    assert_eq!(seaway::store::usage(&database, &future).unwrap(), []);
}

/// A store with a million records, every other one older than a month.
fn full(path: &std::path::Path) {
    let setting = seaway::config::StoreConfig {
        path: Some(path.to_owned()),
        retention: std::time::Duration::MAX,
        sync: seaway::config::StoreSync::Normal,
        modes: seaway::trusted::Modes::Strict,
    };
    drop(seaway::store::Store::start(
        setting,
        std::sync::Arc::default(),
        seaway::store::Opened::unheard(),
        |error| panic!("{error}"),
    ));
    // The thread that makes it may still be at it.
    while !seaway::store::open_to_read(path).is_ok_and(|store| {
        store.is_some_and(|store| store.prepare("SELECT * FROM record, hourly").is_ok())
    }) {
        std::thread::yield_now();
    }
    let database = rusqlite::Connection::open(path).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let fill = "
        BEGIN IMMEDIATE;
        INSERT OR IGNORE INTO name (text) VALUES ('tester'), ('messages'), ('sonnet'), ('completed');
        CREATE TEMP TABLE n AS SELECT (SELECT id FROM name WHERE text = 'tester') AS caller, (SELECT id FROM name WHERE text = 'messages') AS messages,
            (SELECT id FROM name WHERE text = 'sonnet') AS sonnet, (SELECT id FROM name WHERE text = 'completed') AS completed, unixepoch() * 1000 AS now;
        INSERT INTO shape (caller, dialect, endpoint, asked, model, outcome, stream, sent, status, attempts)
            SELECT caller, messages, messages, sonnet, sonnet, completed, 1, 1, 200, 1 FROM n;
        INSERT INTO record (id, at, shape, input, output, cache_read, cache_write, cache_write_1h, first_byte_us, total_us, body_in, cost, reckoned)
            WITH RECURSIVE each (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM each WHERE number < 1000000),
                 timed AS (SELECT number, now - 60 * 86400000 + number * 5184 AS at FROM each, n)
            SELECT unhex(printf('%012x', at) || hex(randomblob(10))), at, (SELECT max(id) FROM shape), 10, 5, 0, 0, 0, 700, 900, randomblob(32), 105, 0
            FROM timed;
        INSERT INTO hourly (hour, model, caller, upstream, requests, failed, input, output, cache_read, cache_write, cache_write_1h)
            SELECT at / 3600000, model, caller, caller, count(*), 0, sum(input), sum(output), 0, 0, 0 FROM record JOIN shape ON shape.id = record.shape GROUP BY 1, 2, 3, 4;
        COMMIT;";
    database.execute_batch(fill).unwrap();
}

/// Turns of two: a response, and one that goes on from it.
const TURNS: usize = 500;
const ASKED: usize = 3000;

/// Clients that ask as fast as they can.
async fn busy(gateway: &Gateway) -> tokio::task::JoinSet<()> {
    let ask = ASK.replace("claude-sonnet-4-5", "sandbox-sonnet-1");
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut client, ask) = (gateway.client().await, ask.clone());
        busy.spawn(async move {
            for _ in 0..ASKED / 8 {
                assert_eq!(client.post("/v1/messages", &ask).await.status, 200);
            }
        });
    }
    busy
}

/// Has responses made that are to be kept, and returns their ids.
async fn turns(client: &mut Client) -> Vec<String> {
    let mut kept = Vec::new();
    for _ in 0..TURNS {
        let mut before = Value::Null;
        for _ in 0..2 {
            let turn = client.post("/v1/responses", &json!({"model": "claude-opus-4-8", "input": "hello", "previous_response_id": before}).to_string()).await;
            assert_eq!(turn.status, 200, "{}", turn.text());
            before = turn.json()["id"].clone();
            kept.push(before.as_str().unwrap().to_owned());
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_people_look_and_old_records_go() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("seaway.db");
    full(&path);
    let settings = [
        ("upstream.s.kind", "sandbox"),
        ("state_dir", &*state.path().to_string_lossy()),
        ("store.retention", "30d"),
        ("log_level", "off"),
    ];
    let gateway = Gateway::start(&settings).await;
    let mut busy = busy(&gateway).await;
    let mut looking = gateway.client().await;
    let looker = tokio::spawn(async move {
        loop {
            let usage = looking.get("/dashboard/usage?days=30").await;
            let summed: u64 = usage.json()["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["row"]["requests"].as_u64().unwrap())
                .sum();
            // Today, however little of it is over, and 29 days.
            assert!(usage.status == 200 && summed >= 29 * 86_400_000 / 5184, "{summed}");
        }
    });
    let mut client = gateway.client().await;
    let kept = turns(&mut client).await;
    for id in &kept {
        assert_eq!(client.get(&format!("/v1/responses/{id}")).await.status, 200, "{id}");
    }
    while let Some(done) = busy.join_next().await {
        done.unwrap();
    }
    looker.abort();
    assert!(looker.await.unwrap_err().is_cancelled(), "every look was answered");
    gateway.quiet().await;
    gateway.app.state.ledger.store().flush().await;
    assert_eq!(gateway.app.state.ledger.store().dropped().get(), 0);
    let database = seaway::store::open_to_read(&path).unwrap().unwrap();
    let count = |what: &str| {
        database
            .query_row(&format!("SELECT count(*) FROM exchange WHERE {what}"), [], |row| {
                row.get::<_, usize>(0)
            })
            .unwrap()
    };
    assert_eq!(
        (count("asked = 'sandbox-sonnet-1'"), count("asked = 'claude-opus-4-8'")),
        (ASKED, 2 * TURNS),
        "all were recorded"
    );
    while count("at < unixepoch() * 1000 - 30 * 86400000 - 3600000") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(count("asked = 'sonnet'") >= 499_000, "what is not old stays");
}

#[tokio::test]
async fn a_message_that_names_a_file_does_not_need_the_store() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("seaway.db")).unwrap();
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let named = |name: &str| {
        format!("[upstream.{name}]\nkind = 'messages'\nbase_url = '{url}'\napi_key = 'x'\n")
    };
    let route = "[[route]]\nmodel = '*'\nupstream = ['a', 'b']\n";
    let folder = state.path().to_string_lossy().into_owned();
    let settings = [("state_dir", folder.as_str()), ("log_level", "off")];
    let gateway = Gateway::with_file(&(named("a") + &named("b") + route), &settings).await;
    let mut client = gateway.client().await;
    let source = r#"[{"type":"document","source":{"type":"file","file_id":"file_1"}}]"#;
    client.ask("POST /v1/messages", &[], &ASK.replace("\"hi\"", source)).await;
    let received = upstream.next().await;
    assert!(received.text().contains("file_1"));
    received.answer("200 OK\r\ncontent-type: application/json", "{}").await;
    assert_eq!(client.answer().await.status, 200);
}

/// A gateway whose database is a file of something else.
async fn without_store() -> (Gateway, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let text = "this is no database, and long enough to be looked at";
    std::fs::write(state.path().join("seaway.db"), text).unwrap();
    let gateway = Gateway::start(&[
        ("upstream.s.kind", "sandbox"),
        ("state_dir", &*state.path().to_string_lossy()),
        ("log_level", "off"),
    ])
    .await;
    (gateway, state)
}

#[tokio::test]
async fn a_store_that_is_out_of_use_is_not_nothing_found() {
    let (gateway, _state) = without_store().await;
    let mut client = gateway.client().await;
    let ask = |more: Value| {
        let mut body = json!({"model": "claude-opus-4-8", "input": "hello"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let down = client.post("/v1/responses", &ask(json!({"previous_response_id": "resp_1"}))).await;
    assert_eq!(
        (down.status, &down.json()["error"]["type"]),
        (503, &"server_error".into()),
        "{}",
        down.text()
    );
    assert!(down.text().contains("store cannot be used"), "{}", down.text());
    for path in ["/v1/responses/resp_1", "/v1/responses/resp_1/input_items", "/dashboard/usage"] {
        assert_eq!(client.get(path).await.status, 503, "{path}");
    }
    let whole = client.post("/v1/responses", &ask(json!({}))).await;
    assert_eq!(
        (whole.status, &whole.json()["store"]),
        (200, &false.into()),
        "it was not kept, and says so"
    );
    let streamed = client.post("/v1/responses", &ask(json!({"stream": true}))).await;
    let last: Value = serde_json::from_str(
        streamed
            .text()
            .lines()
            .rfind(|line| line.starts_with("data: "))
            .unwrap()
            .trim_start_matches("data: "),
    )
    .unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["store"]),
        (&"response.completed".into(), &false.into()),
        "{last}"
    );
    assert_eq!(
        client
            .post("/v1/messages", &ASK.replace("claude-sonnet-4-5", "sandbox-sonnet-1"))
            .await
            .status,
        200,
        "what wants nothing kept goes on"
    );
}

#[tokio::test]
async fn a_store_that_is_out_of_use_shows() {
    let (gateway, state) = without_store().await;
    let mut client = gateway.client().await;
    let ask = ASK.replace("claude-sonnet-4-5", "sandbox-sonnet-1");
    assert_eq!(client.post("/v1/messages", &ask).await.status, 200);
    let health = client.get("/health").await.json();
    assert_eq!(health["status"], "degraded");
    assert!(health["store"].as_str().unwrap().contains("could not be opened"), "{health}");
    assert_eq!(client.get("/health/ready").await.status, 200, "it serves");
    std::fs::remove_file(state.path().join("seaway.db")).unwrap();
    while client.get("/health").await.json()["status"] != "ok" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let rows = gateway.app.state.ledger.store().usage(seaway::store::Filter::default()).await;
    assert_eq!(rows.unwrap()[0].requests, 1, "its record was held back");
}
