//! The Responses API: what is kept, whose it is, and how it is gone on from.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Upstream, events, stream};

async fn sandbox(settings: &[(&str, &str)]) -> Gateway {
    let mut all = vec![("upstream.s.kind", "sandbox")];
    all.extend_from_slice(settings);
    Gateway::start(&all).await
}

async fn ask(client: &mut Client, body: &Value) -> Value {
    let answer = client.post("/v1/responses", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn text(response: &Value) -> String {
    let items =
        response["output"].as_array().unwrap().iter().filter(|item| item["type"] == "message");
    items
        .flat_map(|item| item["content"].as_array().unwrap())
        .map(|part| part["text"].as_str().unwrap())
        .collect()
}

/// The events of a stream, each as its object.
fn told(body: &str) -> Vec<Value> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

const MODEL: &str = "claude-opus-4-8";

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_kept_listed_and_deleted() {
    let gateway = sandbox(&[("keys", r#"{"tester":"local-key","other":"other-key"}"#)]).await;
    let mut client = gateway.client().await;
    let response = ask(&mut client, &json!({"model": MODEL, "instructions": "Be brief.", "input": "hello", "metadata": {"a": "b"}, "temperature": 1})).await;
    let id = response["id"].as_str().unwrap().to_owned();
    assert!(
        id.starts_with("resp_")
            && response["status"] == "completed"
            && text(&response).contains("hello"),
        "{response}"
    );
    assert_eq!(
        (&response["metadata"]["a"], &response["instructions"], &response["store"]),
        (&"b".into(), &"Be brief.".into(), &true.into())
    );
    assert_eq!(client.get(&format!("/v1/responses/{id}")).await.json(), response);
    let items = client.get(&format!("/v1/responses/{id}/input_items?limit=5")).await.json();
    assert_eq!(
        (&items["data"][0]["content"][0]["text"], &items["has_more"]),
        (&"hello".into(), &false.into()),
        "{items}"
    );
    // Nobody else knows of it.
    let mut other = Client::connect(gateway.address, Some("other-key")).await;
    assert_eq!(other.get(&format!("/v1/responses/{id}")).await.status, 404);
    let foreign = other
        .post(
            "/v1/responses",
            &json!({"model": MODEL, "input": "x", "previous_response_id": id}).to_string(),
        )
        .await;
    assert_eq!(
        (foreign.status, &foreign.json()["error"]["code"]),
        (404, &"previous_response_not_found".into())
    );
    client.ask(&format!("POST /v1/responses/{id}/cancel"), &[], "{}").await;
    assert_eq!(client.answer().await.status, 400, "it was not made in the background");
    client.ask(&format!("DELETE /v1/responses/{id}"), &[], "").await;
    assert_eq!(
        client.answer().await.json(),
        json!({"id": id, "object": "response", "deleted": true})
    );
    for path in ["", "/input_items"] {
        assert_eq!(client.get(&format!("/v1/responses/{id}{path}")).await.status, 404);
    }
    let untold = ask(&mut client, &json!({"model": MODEL, "input": "hello", "store": false})).await;
    assert_eq!(
        client.get(&format!("/v1/responses/{}", untold["id"].as_str().unwrap())).await.status,
        404,
        "nothing of it was kept"
    );
}

/// What follows the start of a message that thinks and calls a tool.
const THOUGHT: [&str; 9] = [
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s=="}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\": 1.0}"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":7}}"#,
    r#"{"type":"message_stop"}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_from_a_response_also_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_string_lossy().into_owned();
    let mut upstream = Upstream::start().await;
    let settings = [("state_dir", folder.as_str())];
    let gateway = Gateway::before(&upstream, &settings).await;
    let mut client = gateway.client().await;
    let input = json!([{"role": "system", "content": "In the input."}, {"role": "user", "content": "first"}]);
    let body = json!({"model": MODEL, "instructions": "Not inherited.", "input": input, "stream": true, "reasoning": {"effort": "low"}});
    client.ask("POST /v1/responses", &[], &body.to_string()).await;
    let received = upstream.next().await;
    let first: Value = serde_json::from_str(&received.text()).unwrap();
    assert_eq!(
        first["system"],
        json!([{"type": "text", "text": "Not inherited."}, {"type": "text", "text": "In the input."}])
    );
    let mut all = vec![stream()[0].clone()];
    all.extend(THOUGHT.iter().map(|data| format!("event: x\ndata: {data}\n\n")));
    events(received, &all).await;
    let answer = client.answer().await;
    let last = told(answer.text()).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["output"][1]["arguments"]),
        (&"response.completed".into(), &"{\"a\": 1.0}".into()),
        "{last}"
    );
    let id = last["response"]["id"].as_str().unwrap().to_owned();
    gateway.app.state.ledger.store().flush().await;
    // Another gateway on the same store.
    let gateway = Gateway::before(&upstream, &settings).await;
    let mut client = gateway.client().await;
    let follow = json!({"model": MODEL, "previous_response_id": id, "input": [{"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}]});
    client.ask("POST /v1/responses", &[], &follow.to_string()).await;
    let received = upstream.next().await;
    let second: Value = serde_json::from_str(&received.text()).unwrap();
    assert_eq!(second["system"], json!([{"type": "text", "text": "In the input."}]));
    assert_eq!(
        second["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "first"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s=="}, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.0}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}]},
        ])
    );
    assert!(received.text().contains(r#""input":{"a": 1.0}"#), "word for word");
    received.answer("200 OK\r\ncontent-type: application/json", r#"{"id":"msg_2","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{"type":"text","text":"done"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#).await;
    let response = client.answer().await.json();
    assert_eq!((text(&response).as_str(), &response["previous_response_id"]), ("done", &json!(id)));
    // A call without its result is told, and so is a result of nothing.
    let lacking = client
        .post(
            "/v1/responses",
            &json!({"model": MODEL, "previous_response_id": id, "input": "never mind"}).to_string(),
        )
        .await;
    assert_eq!(
        (lacking.status, lacking.text().contains("`toolu_1` has no result")),
        (400, true),
        "{}",
        lacking.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_referred_to_by_their_ids() {
    let gateway = sandbox(&[]).await;
    let mut client = gateway.client().await;
    let first = ask(&mut client, &json!({"model": MODEL, "input": "remember the whale"})).await;
    let item =
        first["output"].as_array().unwrap().iter().find(|item| item["type"] == "message").unwrap()
            ["id"]
            .clone();
    let input = json!([{"role": "user", "content": "q"}, {"type": "item_reference", "id": item}, {"role": "user", "content": "again"}]);
    let second = ask(&mut client, &json!({"model": MODEL, "input": input})).await;
    assert_eq!(second["status"], "completed");
    let unknown = client
        .post(
            "/v1/responses",
            &json!({"model": MODEL, "input": [{"type": "item_reference", "id": "msg_x_0"}]})
                .to_string(),
        )
        .await;
    assert_eq!(
        (unknown.status, unknown.text().contains("there is no item `msg_x_0`")),
        (404, true),
        "{}",
        unknown.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_ends_as_failed_and_is_not_kept() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let body = json!({"model": MODEL, "input": "q", "stream": true}).to_string();
    client.ask("POST /v1/responses", &[], &body).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(stream()[..4].concat()).await;
    received.reset();
    let answer = client.answer().await;
    let events = told(answer.text());
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"], &last["response"]["error"]["code"]),
        (&"response.failed".into(), &"failed".into(), &"server_error".into()),
        "{last}"
    );
    assert!(answer.whole && !events.iter().any(|event| event["type"] == "response.completed"));
    assert_eq!(
        client
            .get(&format!("/v1/responses/{}", last["response"]["id"].as_str().unwrap()))
            .await
            .status,
        404
    );
    // What fails before the first event has a status.
    client.ask("POST /v1/responses", &[], &body).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n").await;
    received.end().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"overloaded".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_the_work() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client
        .ask(
            "POST /v1/responses",
            &[],
            &json!({"model": MODEL, "input": "q", "stream": true}).to_string(),
        )
        .await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(stream()[..4].concat()).await;
    client.head().await;
    drop(client);
    received.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_the_upstream() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    client
        .ask(
            "POST /v1/responses/input_tokens",
            &[],
            &json!({"model": MODEL, "input": "q", "instructions": "i", "temperature": 1})
                .to_string(),
        )
        .await;
    let received = upstream.next().await;
    let asked: Value = serde_json::from_str(&received.text()).unwrap();
    assert!(
        received.line.starts_with("POST /v1/messages/count_tokens")
            && asked.get("max_tokens").is_none()
            && asked["system"][0]["text"] == "i",
        "{asked}"
    );
    received.answer("200 OK\r\ncontent-type: application/json", r#"{"input_tokens":12}"#).await;
    assert_eq!(
        client.answer().await.json(),
        json!({"object": "response.input_tokens", "input_tokens": 12})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_it_is_asked_in_it_but_for_what_claude_serves() {
    let mut upstream = Upstream::start().await;
    let settings = [
        ("upstream.up.speaks", "messages,chat,responses"),
        ("upstream.up.translate", "claude*"),
        ("upstream.up.system_prefix", "P"),
    ];
    let gateway = Gateway::before(&upstream, &settings).await;
    let mut client = gateway.client().await;
    let body = r#"{"model":"gpt-x", "input":"q","new":1.0}"#;
    client.ask("POST /v1/responses", &[], body).await;
    let received = upstream.next().await;
    assert_eq!(
        (received.line.as_str(), received.text().as_str()),
        ("POST /v1/responses HTTP/1.1", body),
        "byte for byte"
    );
    let answer = r#"{"id":"resp_up","object":"response","status":"completed","model":"gpt-x","output":[],"usage":{"input_tokens":5,"output_tokens":2}}"#;
    received.answer("200 OK\r\ncontent-type: application/json\r\nrequest-id: req_up", answer).await;
    let came = client.answer().await;
    assert_eq!(came.text(), answer);
    gateway.quiet().await;
    let receipt = gateway.receipt("req_up").await;
    assert_eq!((receipt.input, receipt.output), (5, 2));
    client.ask("GET /v1/responses/resp_up?include=x", &[], "").await;
    let received = upstream.next().await;
    assert_eq!(received.line, "GET /v1/responses/resp_up?include=x HTTP/1.1");
    received.answer("200 OK\r\ncontent-type: application/json", answer).await;
    assert_eq!(client.answer().await.text(), answer);
    client.ask("POST /v1/responses", &[], &json!({"model": MODEL, "input": "q"}).to_string()).await;
    let received = upstream.next().await;
    assert!(
        received.line.starts_with("POST /v1/messages")
            && received.text().contains("\"text\":\"P\""),
        "{} {}",
        received.line,
        received.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_by_name() {
    let gateway = sandbox(&[("responses.retention", "0")]).await;
    let mut client = gateway.client().await;
    let table = [
        (json!({"background": true}), "background"),
        (json!({"conversation": "c"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"tools": [{"type": "computer_use_preview"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"type": "mcp_list_tools"}]}), "input"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
            "input[0].content[0].file_id",
        ),
        (json!({"previous_response_id": "resp_x"}), "previous_response_id"),
    ];
    for (members, param) in table {
        let mut body = json!({"model": MODEL, "input": "q"});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = client.post("/v1/responses", &body.to_string()).await;
        assert_eq!(
            (answer.status / 100, &answer.json()["error"]["param"]),
            (4, &param.into()),
            "{body}: {}",
            answer.text()
        );
    }
    let response = ask(&mut client, &json!({"model": MODEL, "input": "q"})).await;
    assert_eq!(
        client.get(&format!("/v1/responses/{}", response["id"].as_str().unwrap())).await.status,
        404,
        "nothing is kept where that is configured"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_thinking_brings_the_thinking_itself() {
    let mut upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream, &[]).await;
    let mut client = gateway.client().await;
    let answer = r#"{"type":"message","id":"m","role":"assistant","model":"claude-opus-4-8","content":[{"type":"thinking","thinking":"deep","signature":"sig"},{"type":"tool_use","id":"t1","name":"n","input":{}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let tools = json!([{"type": "function", "name": "n"}]);
    client
        .ask(
            "POST /v1/responses",
            &[],
            &json!({"model": MODEL, "input": "q", "tools": tools}).to_string(),
        )
        .await;
    upstream.next().await.answer("200 OK\r\ncontent-type: application/json", answer).await;
    let first = client.answer().await.json();
    let (thought, call) = (&first["output"][0], &first["output"][1]);
    assert!(thought.get("encrypted_content").is_none(), "it was not asked for");
    let reference = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "r"});
    let input =
        json!([{"role": "user", "content": "q"}, reference(thought), {"id": call["id"]}, result]);
    client
        .ask(
            "POST /v1/responses",
            &[],
            &json!({"model": MODEL, "input": input, "tools": tools}).to_string(),
        )
        .await;
    let received = upstream.next().await;
    assert!(received.text().contains(r#"{"type":"thinking","thinking":"deep","signature":"sig"},{"type":"tool_use","id":"t1""#), "{}", received.text());
    received.answer("200 OK\r\ncontent-type: application/json", answer).await;
    let second = client.answer().await;
    assert_eq!(second.header("seaway-note"), None);
    let items = client
        .get(&format!(
            "/v1/responses/{}/input_items?order=asc",
            second.json()["id"].as_str().unwrap()
        ))
        .await
        .json();
    let kinds: Vec<&str> = items["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["message", "reasoning", "function_call", "function_call_output"],
        "references are listed as what they stand for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_not_gone_on_from() {
    let gateway = sandbox(&[]).await;
    let mut client = gateway.client().await;
    let tools = json!([{"type": "function", "name": "n", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
    let long = format!("[[say part]][[tool n {{\"city\":\"{}\"}}]]", "w ".repeat(200));
    let cut = ask(
        &mut client,
        &json!({"model": MODEL, "input": long, "tools": tools, "max_output_tokens": 10}),
    )
    .await;
    assert_eq!(
        (&cut["status"], &cut["output"][1]["status"], &cut["completed_at"]),
        (&"incomplete".into(), &"incomplete".into(), &Value::Null),
        "{cut}"
    );
    let next = ask(&mut client, &json!({"model": MODEL, "input": "[[say on]]", "tools": tools, "previous_response_id": cut["id"]})).await;
    assert_eq!(text(&next), "on");
    // What another model thought is left out, and told.
    let thought = ask(&mut client, &json!({"model": MODEL, "input": "[[think deep]][[say a]]", "reasoning": {"effort": "low"}})).await;
    let answer = client.post("/v1/responses", &json!({"model": "claude-opus-4-6", "input": "x", "previous_response_id": thought["id"]}).to_string()).await;
    assert_eq!(
        (answer.status, answer.header("seaway-note")),
        (200, Some("previous_response_id.reasoning left out"))
    );
    // A call that waits is named by where it was made.
    let call = ask(
        &mut client,
        &json!({"model": MODEL, "input": "[[tool n {\"city\":\"x\"}]]", "tools": tools}),
    )
    .await;
    let answer = client.post("/v1/responses", &json!({"model": MODEL, "input": "go on", "tools": tools, "previous_response_id": call["id"]}).to_string()).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (400, &"previous_response_id".into()),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preset_has_all_of_the_api_and_ids_stay_apart() {
    let gateway = sandbox(&[]).await;
    let mut client = gateway.client().await;
    let same = json!({"role": "user", "content": "1", "id": "msg_dup"});
    let body = json!({"model": MODEL, "input": [same, same, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q", "id": 5}]});
    let made = client.post("/v1/terse/responses", &body.to_string()).await.json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/terse/responses/{id}")).await.json(), made);
    let items = client.get(&format!("/v1/terse/responses/{id}/input_items?order=asc")).await.json();
    let items = items["data"].as_array().unwrap();
    let ids: std::collections::HashSet<&str> =
        items.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids.len(), &items[2]["status"], &items[2]["content"][0]["annotations"]),
        (4, &"completed".into(), &json!([])),
        "{items:?}"
    );
    assert_eq!(
        client.get(&format!("/v1/responses/{id}/input_items?after=nobody")).await.json()["error"]["param"],
        "after"
    );
    client
        .ask(
            "POST /v1/terse/responses/input_tokens",
            &[],
            &json!({"model": MODEL, "input": "q"}).to_string(),
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    client.ask(&format!("DELETE /v1/terse/responses/{id}"), &[], "").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.get("/v1/conversations/c").await.json()["error"]["code"], "unknown_url");
}
