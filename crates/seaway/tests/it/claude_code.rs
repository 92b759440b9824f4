//! The Claude Code upstream in front of a stand-in that says what a test wants, when it wants.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Upstream, answer_json, eventually};

const MODEL: &str = "claude-sonnet-5-5";
/// The start of a script: it is told what is asked.
const ASKED: &str = "wait \"client_composed\":true";

/// A gateway in front of the stand-in; `scripts` are for its first, second, … process.
struct House {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl House {
    async fn new(scripts: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (index, script) in scripts.iter().enumerate() {
            std::fs::write(folder.path().join((index + 1).to_string()), script).unwrap();
        }
        std::fs::write(folder.path().join("login"), "").unwrap();
        let program = program(&folder);
        let mut all =
            vec![("upstream.cc.kind", "claude-code"), ("claude_code.path", program.as_str())];
        all.extend_from_slice(settings);
        let gateway = Gateway::start(&all).await;
        Self { gateway, folder }
    }

    async fn ask(&self, body: &Value) -> Answer {
        self.gateway.client().await.post("/v1/messages", &body.to_string()).await
    }

    async fn say(&self, text: &str) -> Answer {
        self.ask(&request(&[json!({"role": "user", "content": text})])).await
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The lines that a process was told, as JSON.
    fn heard(&self, process: usize) -> Vec<Value> {
        self.read(&format!("heard-{process}"))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn processes(&self) -> usize {
        (1..1000)
            .take_while(|number| self.folder.path().join(format!("started-{number}")).exists())
            .count()
    }

    /// Ends everything; nothing may be left of it.
    async fn close(self) {
        for upstream in &self.gateway.app.state.snapshot.load().upstreams {
            upstream.close().await;
        }
        let mine = self.folder.path().to_string_lossy().into_owned();
        assert_eq!(running(&mine), Vec::<String>::new(), "no process is left");
    }
}

/// A script that starts the stand-in: a setting has room for a path alone.
fn program(folder: &tempfile::TempDir) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("claude");
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_fake-claude"),
            folder.path().display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The command lines of processes that name a folder.
fn running(folder: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines =
        processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.contains(folder) && line.contains("fake-claude") && line.contains("stream-json")
        })
        .collect()
}

fn request(messages: &[Value]) -> Value {
    json!({"model": MODEL, "max_tokens": 100, "messages": messages})
}

fn text_of(answer: &Answer) -> String {
    let blocks = answer.json()["content"].clone();
    blocks.as_array().unwrap().iter().filter_map(|block| block["text"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_turn_is_an_answer_whatever_its_pieces() {
    for script in [
        "play text",
        "bytes text 1",
        "bytes text 7",
        "raw garbage\\n\nplay text",
        "say {\"type\":\"brand_new\",\"x\":1}\nplay text\nplay text 19-19",
    ] {
        let house = House::new(&[&format!("{ASKED}\n{script}")], &[]).await;
        let answer = house.say("hi").await;
        assert_eq!(
            (answer.status, text_of(&answer).as_str()),
            (200, "naïve 漢字 🐙 text that goes on"),
            "{script}"
        );
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_written_as_it_comes_and_ends_once() {
    let house = House::new(&[&format!("{ASKED}\nplay text 1-6\nwait \"never\"")], &[]).await;
    let mut client = house.gateway.client().await;
    let mut body = request(&[json!({"role": "user", "content": "hi"})]);
    body["stream"] = true.into();
    client.ask("POST /v1/messages", &[], &body.to_string()).await;
    client.head().await;
    let mut came = String::new();
    while !came.contains("thinking_delta") {
        came.push_str(&String::from_utf8(client.chunk().await.unwrap()).unwrap());
    }
    drop(client);
    let folder = house.folder.path().to_string_lossy().into_owned();
    eventually("the process of a client that left is ended", async || running(&folder).is_empty())
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_an_error_with_a_status() {
    let table = [
        ("exit 3", 502, "ended without an answer"),
        ("play text 1-2\nexit 0", 502, "ended without an answer"),
        ("play text 1-8\nexit 0", 502, "ended without an answer"),
        ("play text 1-2\nplay text 19-19", 502, "naïve"),
        ("play tools", 502, "get_weather"),
        ("play cut", 502, "onnection"),
        ("play cut_later", 502, "onnection"),
        ("play error_event", 529, "Over"),
        ("play error_401", 401, "authentication"),
        ("play error_429", 429, "mock 429"),
        (
            "say {\"type\":\"control_response\",\"response\":{\"subtype\":\"error\",\"request_id\":\"seaway-settings\",\"error\":\"no such setting\"}}",
            502,
            "no such setting",
        ),
    ];
    for (script, status, words) in table {
        let house =
            House::new(&[&format!("{ASKED}\n{script}")], &[("upstream.cc.retries", "0")]).await;
        let answer = house.say("hi").await;
        let body = answer.json();
        assert_eq!(
            (answer.status, body["type"].as_str()),
            (status, Some("error")),
            "{script}: {body}"
        );
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{script}: {body}");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_in_a_stream_is_an_event_and_no_end() {
    for script in [
        "play text 1-8\nexit 0",
        "play cut",
        "play cut_later",
        "play error_event",
        "play text 1-8\nplay text 3-3",
    ] {
        let house =
            House::new(&[&format!("{ASKED}\n{script}")], &[("upstream.cc.retries", "0")]).await;
        let mut body = request(&[json!({"role": "user", "content": "hi"})]);
        body["stream"] = true.into();
        let answer = house.ask(&body).await;
        let said = answer.text();
        assert_eq!(answer.status, 200, "{script}");
        assert!(
            said.contains("event: error") && !said.contains("message_stop"),
            "{script}: {said}"
        );
        assert_eq!(said.matches("event: message_start").count(), 1, "{script}");
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_tried_again_in_another_process() {
    let house =
        House::new(&[&format!("{ASKED}\nplay reset"), &format!("{ASKED}\nplay text")], &[]).await;
    let answer = house.say("hi").await;
    assert_eq!((answer.status, house.processes() >= 2), (200, true));
    let receipt = house.gateway.receipt(answer.header("request-id").unwrap()).await;
    assert_eq!(receipt.attempts, 2);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_would_go_on_by_itself_is_ended_at_once() {
    for script in [
        "play max_tokens 1-8\nwait \"never\"",
        "play refusal\nwait \"never\"",
        "play empty 1-7\nwait \"never\"",
    ] {
        let house = House::new(&[&format!("deaf\n{ASKED}\n{script}"), ASKED], &[]).await;
        assert_eq!(house.say("hi").await.status, 200, "{script}");
        // The spare that follows is another one.
        eventually("the first is gone", async || {
            house.folder.path().join("started-2").exists()
                && running(&house.folder.path().to_string_lossy()).len() <= 1
        })
        .await;
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ignores_signals_gives_its_place_back_only_when_it_is_gone() {
    let never = format!("deaf\n{ASKED}\nplay text 1-2\nwait \"never\"");
    let house =
        House::new(&[&never, &format!("{ASKED}\nplay text")], &[("claude_code.workers", "1")])
            .await;
    let mut client = house.gateway.client().await;
    client
        .ask(
            "POST /v1/messages",
            &[],
            &request(&[json!({"role": "user", "content": "hi"})]).to_string(),
        )
        .await;
    eventually("it was asked", async || house.read("heard-1").contains("client_composed")).await;
    drop(client);
    let answer = house.say("next").await;
    assert_eq!(answer.status, 200);
    assert!(
        !seaway::process::is_alive(house.read("claimed-1").parse().unwrap()),
        "the first was gone before the next began"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_process_is_gone_before_its_place_is_given_on() {
    let failing = format!("deaf\n{ASKED}\nplay error_429\nwait \"never\"");
    let house = House::new(
        &[&failing, &format!("{ASKED}\nplay text")],
        &[("claude_code.workers", "1"), ("upstream.cc.retries", "0")],
    )
    .await;
    assert_eq!(house.say("hi").await.status, 429);
    assert_eq!(house.say("next").await.status, 200);
    assert!(!seaway::process::is_alive(house.read("claimed-1").parse().unwrap()));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_cut_short_is_told_anew_behind_the_programs_own_words() {
    let taken =
        r#"say {"type":"result","subtype":"success","is_error":false,"result":"","num_turns":0}"#;
    let second = format!("wait \"first\"\n{taken}\nwait \"more\"\nplay text");
    // Two begin at the same time, the one that is asked and the next one's spare.
    let house = House::new(&[&format!("{ASKED}\nplay max_tokens"), &second, &second], &[]).await;
    let ask = |messages: Value| {
        let body = request(messages.as_array().unwrap()).to_string();
        let house = &house;
        async move {
            let mut client = house.gateway.client().await;
            client.ask("POST /v1/messages", &["seaway-session: mine"], &body).await;
            client.answer().await
        }
    };
    let first = ask(json!([{"role": "user", "content": "first"}])).await;
    assert_eq!(first.json()["stop_reason"], "max_tokens");
    let answer = ask(json!([{"role": "user", "content": "first"}, {"role": "assistant", "content": first.json()["content"]}, {"role": "user", "content": "more"}])).await;
    assert_eq!(answer.status, 200);
    // Nothing of it is kept but by its client; what every process begins with holds no word of anybody's.
    let words: Vec<String> =
        (1..=house.processes()).map(|number| house.read(&format!("started-{number}"))).collect();
    assert!(
        words
            .iter()
            .all(|words| words.contains("--no-session-persistence")
                && !words.contains("--session-id")),
        "{words:?}"
    );
    let seed = words[1].lines().skip_while(|word| *word != "--resume").nth(1).unwrap();
    let seed = std::fs::read_to_string(seed).unwrap();
    assert!(seed.lines().count() == 5 && !seed.contains("first"), "{seed}");
    let heard = [2, 3].map(|process| {
        house.heard(process).iter().filter(|line| line["message"].is_object()).count()
    });
    assert_eq!(heard.iter().sum::<usize>(), 3, "{heard:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_deleted_at_work_does_not_come_back() {
    let house = House::new(
        &[&format!("{ASKED}\nplay text 1-8\nwait \"never\"")],
        &[("store.path", ":memory:")],
    )
    .await;
    let mut client = house.gateway.client().await;
    let mut body = request(&[json!({"role": "user", "content": "hi"})]);
    body["stream"] = true.into();
    client.ask("POST /v1/messages", &["seaway-session: mine"], &body.to_string()).await;
    client.head().await;
    let mut other = house.gateway.client().await;
    assert_eq!(other.get("/v1/sessions").await.json()["sessions"][0]["id"], "mine");
    other.ask("DELETE /v1/sessions/mine", &[], "").await;
    assert_eq!(other.answer().await.status, 200);
    assert_eq!(other.get("/v1/sessions").await.json()["sessions"], json!([]));
    drop(client);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_process_is_given_up_in_time() {
    let house = House::new(&[ASKED], &[("upstream.cc.first_byte_timeout", "300ms")]).await;
    let answer = house.say("hi").await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    let folder = house.folder.path().to_string_lossy().into_owned();
    eventually("it is gone", async || running(&folder).is_empty()).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_to_the_process_that_heard_it_and_nothing_is_said_twice() {
    let house = House::new(&[&format!("{ASKED}\nplay text\n{ASKED}\nplay text")], &[]).await;
    let mut messages = vec![json!({"role": "user", "content": "first"})];
    let first = house.ask(&request(&messages)).await;
    messages.push(json!({"role": "assistant", "content": first.json()["content"]}));
    messages.push(json!({"role": "user", "content": "second"}));
    assert_eq!(house.ask(&request(&messages)).await.status, 200);
    let told: Vec<Value> =
        house.heard(1).into_iter().filter(|line| line["type"] == "user").collect();
    assert_eq!(
        told.iter()
            .map(|line| line["message"]["content"][0]["text"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["first", "second"]
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_told_turn_by_turn_each_awaited() {
    let taken =
        r#"say {"type":"result","subtype":"success","is_error":false,"result":"","num_turns":0}"#;
    let script = format!("wait \"q1\"\n{taken}\nwait \"q2\"\n{taken}\nwait \"q3\"\nplay text");
    let house = House::new(&[&script], &[]).await;
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let messages = [
        turn("user", "q1"),
        turn("assistant", "a1"),
        turn("user", "q2"),
        turn("assistant", "a2"),
        turn("user", "q3"),
    ];
    assert_eq!(house.ask(&request(&messages)).await.status, 200);
    let heard = house.heard(1);
    let turns: Vec<(&str, bool)> = heard
        .iter()
        .filter(|line| line["message"].is_object())
        .map(|line| {
            (line["message"]["content"][0]["text"].as_str().unwrap(), line["shouldQuery"] == false)
        })
        .collect();
    assert_eq!(turns, [("q1", true), ("a1", false), ("q2", true), ("a2", false), ("q3", false)]);
    assert_eq!(heard[0]["request"]["subtype"], "initialize");
    assert!(
        heard
            .iter()
            .filter(|line| line["type"] == "assistant")
            .all(|line| line["message"]["model"] == MODEL && line["message"]["id"].is_string())
    );
    house.close().await;
}

fn tools() -> Value {
    json!([{"name": "get_weather", "input_schema": {"type": "object"}}, {"name": "Read", "input_schema": {"type": "object"}}])
}

#[tokio::test(flavor = "multi_thread")]
async fn results_go_to_the_calls_that_wait_for_them() {
    let script = format!(
        "{ASKED}\nplay tools\nwait \"request_id\":\"uuid-\nwait \"request_id\":\"uuid-\nplay text 2-19"
    );
    let house = House::new(&[&script], &[]).await;
    let mut body = request(&[json!({"role": "user", "content": "look"})]);
    body["tools"] = tools();
    let first = house.ask(&body).await.json();
    assert_eq!(first["stop_reason"], "tool_use");
    let calls: Vec<&Value> = first["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|block| block["type"] == "tool_use")
        .collect();
    let results: Vec<Value> = calls.iter().map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": call["name"]})).collect();
    body["messages"] = json!([{"role": "user", "content": "look"}, {"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]);
    let second = house.ask(&body).await;
    assert_eq!(second.status, 200, "{}", second.text());
    let answers: Vec<Value> =
        house.heard(1).into_iter().filter(|line| line["type"] == "control_response").collect();
    let said: Vec<&Value> = answers
        .iter()
        .map(|line| &line["response"]["response"]["mcp_response"]["result"]["content"][0]["text"])
        .collect();
    assert_eq!(said, ["get_weather", "Read"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_the_programs_own_end_the_turn_before_a_byte_is_relayed() {
    let init = r#"say {"type":"system","subtype":"init","tools":["Bash"],"session_id":"s"}"#;
    let house =
        House::new(&[&format!("{ASKED}\n{init}\nplay text 2-19")], &[("upstream.cc.retries", "0")])
            .await;
    let answer = house.say("hi").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("tools that the client did not send (Bash)"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"), "it would come to the same");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plans_limit_is_a_429_with_its_reset_and_the_gateway_says_so_until_then() {
    let resets_at = jiff::Timestamp::now().as_second() + 7200;
    let limit = format!(
        r#"say {{"type":"assistant","message":{{"model":"<synthetic>","content":[{{"type":"text","text":"limit"}}]}},"error":"rate_limit","api_error":"usage_limit_reached","api_error_status":429,"api_error_type":"rate_limit_error","api_error_params":{{"rate_limit_info":{{"resetsAt":{resets_at}}}}}}}"#
    );
    let house = House::new(&[&format!("{ASKED}\nplay text 1-2\n{limit}")], &[]).await;
    let answer = house.say("hi").await;
    let wait: i64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(
        (answer.status, (7190..=7200).contains(&wait), answer.header("x-should-retry")),
        (429, true, Some("false")),
        "{wait}"
    );
    assert!(answer.text().contains("resets at 20"), "{}", answer.text());
    let health = house.gateway.client().await.get("/health/ready").await;
    assert_eq!(health.status, 503);
    assert!(health.text().contains("the plan's limit is reached"), "{}", health.text());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_used_says_what_to_do() {
    let house = House::new(&[ASKED], &[]).await;
    let why = |health: Answer| {
        health.json()["upstreams"][0]["why"].as_str().unwrap_or_default().to_owned()
    };
    let mut client = house.gateway.client().await;
    assert_eq!(client.get("/health/ready").await.status, 200);
    client.post("/auth/logout", "").await;
    assert!(why(client.get("/health").await).contains("not signed in"));
    // Told so, it asks the program again.
    client.post("/auth/logout", "").await;
    std::fs::write(house.folder.path().join("login"), "").unwrap();
    std::fs::write(house.folder.path().join("expires"), "1000").unwrap();
    let expired = why(client.get("/health").await);
    assert!(expired.contains("login expired at 1970"), "{expired}");
    std::fs::write(house.folder.path().join("version"), "2.1.100 (Claude Code)").unwrap();
    let touched = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::open(house.folder.path().join("claude")).unwrap().set_modified(touched).unwrap();
    let old = why(client.get("/health").await);
    assert!(
        old.contains("2.1.100")
            && old.contains("install 2.1.197")
            && old.contains("claude-code@latest"),
        "{old}"
    );
    let answer = house.say("hi").await;
    assert_eq!((answer.status, answer.header("seaway-fault")), (503, Some("gateway")));
    std::fs::remove_file(house.folder.path().join("claude")).unwrap();
    let missing = why(client.get("/health").await);
    assert!(missing.contains("not installed"), "{missing}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_signed_in_and_out_over_http() {
    let house = House::new(&[ASKED], &[]).await;
    let mut client = house.gateway.client().await;
    let status = client.get("/auth/status").await.json();
    assert_eq!(
        (&status["loggedIn"], &status["authenticated"]),
        (&true.into(), &true.into()),
        "{status}"
    );
    assert!(status.get("expired").is_some() && status.get("expiresAt").is_some(), "{status}");
    assert_eq!(client.post("/auth/logout", "").await.status, 200);
    let status = client.get("/auth/status").await.json();
    assert_eq!(
        (&status["loggedIn"], &status["authenticated"], &status["version"]),
        (&false.into(), &false.into(), &"2.1.329".into())
    );
    assert!(status["why"].as_str().unwrap().contains("seaway login"));
    assert_eq!(client.get("/health/ready").await.status, 503);
    let begun = client.post("/auth/login", "").await.json();
    assert_eq!(begun["url"], "https://claude.example/oauth?code=true&state=s");
    let place = format!("/auth/login/{}", begun["id"].as_str().unwrap());
    let refused = client.post(&place, r#"{"code":"bad"}"#).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("the code is wrong"), "{}", refused.text());
    assert_eq!(
        client.post(&place, r#"{"code":"good-code"}"#).await.status,
        404,
        "each is for one code"
    );
    let begun = client.post("/auth/login", "").await.json();
    let place = format!("/auth/login/{}", begun["id"].as_str().unwrap());
    assert_eq!(client.post(&place, r#"{"code":"a\nb"}"#).await.status, 400);
    let done = client.post(&place, r#"{"code":" good-code "}"#).await;
    assert_eq!(
        (done.status, done.json()["loggedIn"].as_bool()),
        (200, Some(true)),
        "{}",
        done.text()
    );
    assert_eq!(client.get("/health/ready").await.status, 200);
    let stranger =
        Client::connect(house.gateway.address, Some("wrong")).await.post("/auth/logout", "").await;
    assert_eq!(stranger.status, 401);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_answered_with_the_very_arguments_or_refused() {
    let ask = r#"say {"type":"control_request","request_id":"ask-1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls","n":1.0}}}"#;
    let done = r#"say {"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1,"session_id":"s","total_cost_usd":0.5,"usage":{"input_tokens":1,"output_tokens":2}}"#;
    let script = format!("{ASKED}\n{ask}\nwait ask-1\n{done}");
    for (permission, expect) in [
        ("allow", json!({"behavior": "allow", "updatedInput": {"command": "ls", "n": 1.0}})),
        (
            "deny",
            json!({"behavior": "deny", "message": "Bash was not granted to this run, or not in this way"}),
        ),
    ] {
        let house = House::new(&[&script], &[("claude_code.permission", permission)]).await;
        let answer = house.gateway.client().await.post("/v1/run", r#"{"prompt":"go"}"#).await;
        assert_eq!(
            (answer.status, answer.json()["cost"].as_f64()),
            (200, Some(0.5)),
            "{}",
            answer.text()
        );
        let told =
            house.heard(1).into_iter().find(|line| line["type"] == "control_response").unwrap();
        assert_eq!(
            (&told["response"]["request_id"], &told["response"]["response"]),
            (&"ask-1".into(), &expect)
        );
        assert_eq!(house.gateway.receipt(answer.header("request-id").unwrap()).await.output, 2);
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_is_refused_in_time() {
    let ask = r#"say {"type":"control_request","request_id":"ask-1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{}}}"#;
    let done = r#"say {"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"s"}"#;
    let house = House::new(
        &[&format!("{ASKED}\n{ask}\nwait ask-1\n{done}")],
        &[("claude_code.permission", "ask"), ("claude_code.ask_timeout", "100ms")],
    )
    .await;
    let answer =
        house.gateway.client().await.post("/v1/run", r#"{"prompt":"go","stream":true}"#).await;
    let said = answer.text().to_owned();
    assert!(
        said.contains("event: permission\ndata: {\"id\":\"ask-1\",\"tool\":\"Bash\"")
            && said.contains("event: result"),
        "{said}"
    );
    let told = house.heard(1).into_iter().find(|line| line["type"] == "control_response").unwrap();
    assert_eq!(
        told["response"]["response"],
        json!({"behavior": "deny", "message": "nobody answered in time"})
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_told_but_not_streamed_are_an_answer() {
    let said = |block: &str| {
        format!(
            r#"say {{"type":"assistant","message":{{"id":"m","type":"message","role":"assistant","model":"c","content":[{block}]}},"parent_tool_use_id":null}}"#
        )
    };
    let thought = said(r#"{"type":"thinking","thinking":"hm","signature":"s"}"#);
    let text = said(r#"{"type":"text","text":"hello"}"#);
    let script = format!("{ASKED}\nplay text 1-2\n{thought}\n{text}\nplay text 19-19");
    for stream in [false, true] {
        let house = House::new(&[&script], &[]).await;
        let mut body = request(&[json!({"role": "user", "content": "hi"})]);
        body["stream"] = stream.into();
        let answer = house.ask(&body).await;
        let said = answer.text().to_owned();
        assert!(
            answer.status == 200 && said.contains("hello") && said.contains("\"signature\":\"s\""),
            "{said}"
        );
        assert_eq!(said.contains("event: message_stop"), stream);
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_an_error_is_no_200() {
    let result = r#"say {"type":"result","subtype":"success","is_error":true,"result":"API Error: no","api_error_status":529,"api_error_type":"overloaded_error","session_id":"s"}"#;
    for (script, status) in [
        (result, 529),
        ("exit 0", 502),
        (r#"say {"type":"result","subtype":"success","is_error":false}"#, 502),
        ("say [{\"type\":\"result\"}]\nexit 0", 502),
    ] {
        let house = House::new(&[&format!("{ASKED}\n{script}")], &[]).await;
        let answer = house.gateway.client().await.post("/v1/run", r#"{"prompt":"go"}"#).await;
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (status, Some("error")),
            "{script}"
        );
        house.close().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_on_no_command_line_and_a_key_of_ours_in_no_environment() {
    let house = House::new(&[&format!("{ASKED}\nplay text")], &[]).await;
    assert_eq!(house.say("--secret-words").await.status, 200);
    let words = house.read("started-1");
    assert!(words.contains("--tools\n\n") && !words.contains("secret-words"), "{words}");
    let folder = house.folder.path().to_string_lossy().into_owned();
    let environments = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        std::fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.contains(&folder) && line.contains("stream-json"))
    });
    let environments: Vec<String> = environments
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("environ")).ok())
        .collect();
    assert!(
        !environments.is_empty()
            && environments.iter().all(|one| one.contains("CLAUDE_CODE_DISABLE_ATTACHMENTS=1")
                && !one.contains("local-key")),
        "{environments:?}"
    );
    let temporary: std::path::PathBuf =
        environments[0].split('\0').find_map(|pair| pair.strip_prefix("TMPDIR=")).unwrap().into();
    assert!(temporary.exists());
    house.close().await;
    assert!(!temporary.exists(), "its temporary folder went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_never_share_a_conversation() {
    let house = House::new(
        &[&format!("{ASKED}\nplay text\n{ASKED}\nplay text"), "wait \"first\"\nsay {\"type\":\"result\",\"subtype\":\"success\",\"result\":\"\"}\nwait \"second\"\nplay text"],
        &[("keys", r#"{"one":"local-key","two":"other-key"}"#)],
    )
    .await;
    let mut messages = vec![json!({"role": "user", "content": "first"})];
    let first = house.ask(&request(&messages)).await;
    messages.push(json!({"role": "assistant", "content": first.json()["content"]}));
    messages.push(json!({"role": "user", "content": "second"}));
    let other = Client::connect(house.gateway.address, Some("other-key"))
        .await
        .post("/v1/messages", &request(&messages).to_string())
        .await;
    assert_eq!(other.status, 200);
    assert_eq!(
        house.heard(1).iter().filter(|line| line["type"] == "user").count(),
        1,
        "the first one's process heard nothing of it"
    );
    let mut other = Client::connect(house.gateway.address, Some("other-key")).await;
    // The child is put aside a moment after its answer.
    while other.get("/v1/sessions").await.json()["sessions"].as_array().unwrap().len() != 1 {
        tokio::task::yield_now().await;
    }
    house.close().await;
}

/// The line with which the program asks before it uses a tool.
fn hook(id: &str, tool: &str, input: &str) -> String {
    format!(
        r#"say {{"type":"control_request","request_id":"{id}","request":{{"subtype":"hook_callback","callback_id":"seaway","input":{{"hook_event_name":"PreToolUse","tool_name":"{tool}","tool_input":{input}}},"tool_use_id":"toolu-{id}"}}}}"#
    )
}

const DONE: &str = r#"say {"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"s"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_use_of_a_tool_is_judged_before_it_happens() {
    let uses = [
        ("q1", "Bash", r#"{"command":"echo x"}"#, "allow"),
        ("q2", "Bash", r#"{"command":"echo x && id"}"#, "deny"),
        ("q3", "Read", r#"{"file_path":"note.txt"}"#, "allow"),
        ("q4", "Read", r#"{"file_path":"/etc/passwd"}"#, "deny"),
        ("q5", "Monitor", "{}", "deny"),
        ("q6", "", "{}", "deny"),
        ("q7", "Write", r#"{"file_path":"note.txt"}"#, "deny"),
    ];
    let script: Vec<String> = uses
        .iter()
        .map(|(id, tool, input, _)| {
            format!("{}\nwait \"request_id\":\"{id}\"", hook(id, tool, input))
        })
        .collect();
    let house = House::new(
        &[&format!("{ASKED}\n{}\n{DONE}", script.join("\n"))],
        &[("claude_code.tools", r#"["Bash(echo:*)","Read"]"#)],
    )
    .await;
    let answer = house.gateway.client().await.post("/v1/run", r#"{"prompt":"go"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let heard = house.heard(1);
    assert_eq!(
        heard[0]["request"]["hooks"]["PreToolUse"][0]["matcher"], "*",
        "it is told to ask before it is told anything else"
    );
    let decided: Vec<(&str, &str)> = heard
        .iter()
        .filter(|line| line["type"] == "control_response")
        .map(|line| {
            (
                line["response"]["request_id"].as_str().unwrap(),
                line["response"]["response"]["hookSpecificOutput"]["permissionDecision"]
                    .as_str()
                    .unwrap(),
            )
        })
        .collect();
    assert_eq!(decided, uses.map(|(id, _, _, decision)| (id, decision)));
    let words = house.read("started-1");
    assert!(!words.contains("--allowedTools"), "the program has no rules of its own: {words}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_ask_is_ended_and_one_that_takes_too_long_too() {
    let result = r#"say {"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"root:x"}]},"parent_tool_use_id":null}"#;
    let house = House::new(&[&format!("{ASKED}\n{result}\nwait \"never\"")], &[]).await;
    let answer = house.gateway.client().await.post("/v1/run", r#"{"prompt":"go"}"#).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("without asking first") && !answer.text().contains("root:x"),
        "{}",
        answer.text()
    );
    house.close().await;
    let house =
        House::new(&[&format!("{ASKED}\nwait \"never\"")], &[("claude_code.run_timeout", "200ms")])
            .await;
    let answer = house.gateway.client().await.post("/v1/run", r#"{"prompt":"go"}"#).await;
    assert!(answer.status == 504 && answer.text().contains("run_timeout"), "{}", answer.text());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_lies_with_us_and_goes_with_its_deletion() {
    // What the program would write down is written by its stand-in's own hand.
    let house = House::new(
        &[&format!("{ASKED}\nkeep secret words\n{DONE}"), &format!("{ASKED}\nkept\n{DONE}")],
        &[("store.path", ":memory:"), ("keys", r#"{"one":"local-key","two":"other-key"}"#)],
    )
    .await;
    let mut client = house.gateway.client().await;
    let first = client.post("/v1/run", r#"{"prompt":"go","keepSession":true}"#).await.json();
    let id = first["sessionId"].as_str().unwrap().to_owned();
    let kept = house.gateway.state.path().join("claude-code/sessions").join(&id);
    assert!(kept.join("projects/-work/t.jsonl").is_file(), "{}", kept.display());
    let again = client
        .post("/v1/run", &json!({"prompt": "go on", "sessionId": id}).to_string())
        .await
        .json();
    assert_eq!(
        (&again["sessionId"], house.read("kept-2").as_str()),
        (&first["sessionId"], "secret words\n")
    );
    let mut other = Client::connect(house.gateway.address, Some("other-key")).await;
    other.ask(&format!("DELETE /v1/sessions/{id}"), &[], "").await;
    assert_eq!(other.answer().await.status, 404);
    assert!(kept.exists(), "it is not theirs to delete");
    client.ask(&format!("DELETE /v1/sessions/{id}"), &[], "").await;
    assert_eq!(client.answer().await.status, 200);
    assert!(!kept.exists());
    assert_eq!(
        client
            .post("/v1/run", &json!({"prompt": "go on", "sessionId": id}).to_string())
            .await
            .status,
        404
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_that_answers_is_told_or_refused() {
    let script = format!("{ASKED}\nplay text");
    let ask = |model: &str| {
        let mut body = request(&[json!({"role": "user", "content": "hi"})]);
        body["model"] = model.into();
        body
    };
    let house = House::new(&[&script], &[]).await;
    let answer = house.ask(&ask("claude-opus-4-20250514")).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("seaway-note")
            .is_some_and(|note| note.contains("model answered by claude-sonnet-5-5")),
        "{:?}",
        answer.header("seaway-note")
    );
    house.close().await;
    let house = House::new(&[&script], &[("strict", "true")]).await;
    let answer = house.ask(&ask("claude-opus-4-20250514")).await;
    assert!(
        answer.status == 400 && answer.text().contains("would answer as `claude-sonnet-5-5`"),
        "{}",
        answer.text()
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_a_family_of_models_leaves_the_others() {
    let resets_at = jiff::Timestamp::now().as_second() + 7200;
    let info = format!(
        r#"{{"status":"rejected","resetsAt":{resets_at},"rateLimitType":"seven_day_opus"}}"#
    );
    let event = format!(r#"say {{"type":"rate_limit_event","rate_limit_info":{info}}}"#);
    let failed = format!(
        r#"say {{"type":"assistant","message":{{"model":"<synthetic>","content":[{{"type":"text","text":"limit"}}]}},"error":"rate_limit","api_error":"usage_limit_reached","api_error_status":429,"api_error_type":"rate_limit_error","api_error_params":{{"rate_limit_info":{info}}}}}"#
    );
    let house = House::new(
        &[&format!("{ASKED}\nplay text 1-2\n{event}\n{failed}"), &format!("{ASKED}\nplay text")],
        &[],
    )
    .await;
    let answer = house.say("hi").await;
    assert!(
        answer.status == 429
            && answer.text().contains("limit for opus models (`seven_day_opus`) is reached"),
        "{}",
        answer.text()
    );
    let mut client = house.gateway.client().await;
    assert_eq!(client.get("/health/ready").await.status, 200);
    assert_eq!(
        client.get("/auth/status").await.json()["limits"][0]["rateLimitType"],
        "seven_day_opus"
    );
    assert_eq!(house.say("other").await.status, 200);
    house.close().await;
}

/// Where a plan's second request went after its first told how much is used: the model that another upstream was asked
/// for, if it was, and the note.
async fn after_telling(told: &str, spill_at: &str, routes: &str) -> (Option<String>, String) {
    let mut other = Upstream::start().await;
    let event = format!(r#"say {{"type":"rate_limit_event","rate_limit_info":{told}}}"#);
    let script = format!("{ASKED}\n{event}\nplay text\n{ASKED}\nplay text");
    let folder = tempfile::tempdir().unwrap();
    for process in ["1", "2"] {
        std::fs::write(folder.path().join(process), &script).unwrap();
    }
    std::fs::write(folder.path().join("login"), "").unwrap();
    let file = format!(
        "[upstream.plan]\nkind='claude-code'\n{spill_at}\n[upstream.other]\nkind='messages'\nbase_url='{}'\n{routes}",
        other.url()
    );
    let gateway =
        Gateway::with_file(&file, &[("claude_code.path", program(&folder).as_str())]).await;
    let body = |text: &str| request(&[json!({"role": "user", "content": text})]).to_string();
    let mut client = gateway.client().await;
    let first = client.post("/v1/messages", &body("one")).await;
    assert_eq!((first.status, first.header("seaway-note")), (200, None), "{}", first.text());
    client.ask("POST /v1/messages", &[], &body("two")).await;
    let (answer, asked) = tokio::select! {
        answer = client.answer() => (answer, None),
        received = other.next() => {
            let asked: Value = serde_json::from_str(&received.text()).unwrap();
            answer_json(received).await;
            (client.answer().await, asked["model"].as_str().map(str::to_owned))
        }
    };
    assert_eq!(answer.status, 200, "{}", answer.text());
    let note = answer.header("seaway-note").unwrap_or_default().to_owned();
    House { gateway, folder }.close().await;
    (asked, note)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_nears_its_limit_leaves_requests_to_others() {
    const AT: &str = "spill_at = 0.95";
    const NEXT: &str = "[[route]]\nupstream=['plan','other']\n";
    const ROUTE: &str = "[[route]]\nwhen='budget'\nupstream='other'\nask_model='claude-haiku-4-5'\n[[route]]\nupstream='plan'\n";
    const ALONE: &str = "[[route]]\nupstream='plan'\n";
    let resets_at = jiff::Timestamp::now().as_second() + 7200;
    let used = |share: f64, kind: &str| {
        json!({"status": "allowed_warning", "resetsAt": resets_at, "rateLimitType": kind, "utilization": share})
            .to_string()
    };
    let windows = json!({"status": "allowed", "resetsAt": resets_at, "rateLimitType": "five_hour",
        "unifiedWindows": {"five_hour": {"utilization": 0.2, "resetsAt": resets_at}, "seven_day": {"utilization": 0.97, "resetsAt": resets_at}}})
    .to_string();
    let near = used(0.96, "five_hour");
    for (told, spill_at, routes, model, note) in [
        (&near, AT, NEXT, Some(MODEL), "plan upstream"),
        (&windows, AT, NEXT, Some(MODEL), "plan upstream"),
        (&near, AT, ROUTE, Some("claude-haiku-4-5"), "plan model, plan upstream"),
        (&near, AT, ALONE, None, ""),
        (&near, "", NEXT, None, ""),
        (&used(0.5, "five_hour"), AT, NEXT, None, ""),
        // Another family's.
        (&used(0.99, "seven_day_opus"), AT, NEXT, None, ""),
    ] {
        let told = after_telling(told, spill_at, routes).await;
        assert_eq!(told, (model.map(str::to_owned), note.to_owned()), "{spill_at} {routes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_login_is_not_held_to_the_limit_of_the_one_before() {
    let resets_at = jiff::Timestamp::now().as_second() + 7200;
    let event = format!(
        r#"say {{"type":"rate_limit_event","rate_limit_info":{{"status":"rejected","resetsAt":{resets_at},"rateLimitType":"five_hour"}}}}"#
    );
    let house = House::new(
        &[&format!("{ASKED}\n{event}\nplay error_429")],
        &[("upstream.cc.retries", "0")],
    )
    .await;
    assert_eq!(house.say("hi").await.status, 429);
    let mut client = house.gateway.client().await;
    let both = async |client: &mut Client| {
        (
            client.get("/health/ready").await.status,
            client.get("/auth/status").await.json()["authenticated"].as_bool().unwrap(),
        )
    };
    assert_eq!(both(&mut client).await, (503, false));
    client.post("/auth/logout", "").await;
    assert_eq!(both(&mut client).await, (503, false));
    let begun = client.post("/auth/login", "").await.json();
    let done = client
        .post(&format!("/auth/login/{}", begun["id"].as_str().unwrap()), r#"{"code":"good-code"}"#)
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(both(&mut client).await, (200, true), "both at once");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_lacks_something_serves_what_does_not_need_it() {
    let house = House::new(&[&format!("{ASKED}\nplay text")], &[]).await;
    std::fs::write(house.folder.path().join("version"), "2.1.197 (Claude Code)").unwrap();
    let refused = house.say("/clear").await;
    assert!(
        refused.status == 400
            && refused.text().contains("takes a text that begins with `/` for a command"),
        "{}",
        refused.text()
    );
    assert_eq!(house.say("hi /clear").await.status, 200);
    house.close().await;
}
