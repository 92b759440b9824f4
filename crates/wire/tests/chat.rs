//! Chat requests and Messages streams of every shape, made up: the properties that are fuzzed hold for them.

mod made_up;

use made_up::{stream, text, translated};
use proptest::prelude::*;
use proptest::sample::select;
use seaway_wire::properties;
use serde_json::{Value, json};

/// How ids begin; a place behind them makes most of them differ.
fn id() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "call|", "c."])
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(|text| json!({"type": "text", "text": text})),
        1 => text().prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})),
        1 => Just(json!({"type": "image_url", "image_url": {"url": "https://x"}})),
        1 => Just(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}})),
        1 => Just(json!({"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}})),
        1 => Just(json!({"type": "refusal", "refusal": "no"})),
        1 => select(vec!["input_audio", ""]).prop_map(|kind| json!({"type": kind})),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => text().prop_map(Value::from),
        3 => prop::collection::vec(part(), 0..3).prop_map(Value::from),
        3 => Just(Value::Null),
        1 => Just(json!(7)),
    ]
}

/// One exchange with a tool: the calls, and mostly their results.
fn tool_loop() -> impl Strategy<Value = Vec<Value>> {
    let arguments =
        select(vec!["", "{}", "{}", "{\"a\": 1.0}", "{\"b\":[]}", "7", "\"\\ud83d\"", "{"]);
    (prop::collection::vec((id(), 0..9_u8, arguments), 1..3), any::<bool>(), prop::bool::weighted(0.95), content()).prop_map(|(calls, thinks, answered, content)| {
        let calls: Vec<(String, &str)> = calls.into_iter().map(|(id, place, arguments)| (format!("{id}{place}"), arguments)).collect();
        let made: Vec<Value> = calls.iter().map(|(id, arguments)| json!({"id": id, "type": "function", "function": {"name": "f.x", "arguments": arguments}})).collect();
        let mut assistant = json!({"role": "assistant", "content": content, "tool_calls": made});
        if thinks {
            assistant["thinking_blocks"] = json!([{"type": "thinking", "thinking": "", "signature": "s"}]);
        }
        let results = calls.iter().filter(|_| answered).map(|(id, _)| json!({"role": "tool", "tool_call_id": id, "content": "r"}));
        std::iter::once(assistant).chain(results).collect()
    })
}

fn messages() -> impl Strategy<Value = Vec<Value>> {
    let plain = (
        select(vec!["system", "developer", "user", "user", "assistant", "user", "tool", "robot"]),
        content(),
    )
        .prop_map(|(role, content)| vec![json!({"role": role, "content": content})]);
    let said = (select(vec!["system", "user", "user", "assistant"]), text())
        .prop_map(|(role, text)| vec![json!({"role": role, "content": text})]);
    prop::collection::vec(prop_oneof![12 => said, 1 => plain, 4 => tool_loop()], 1..7)
        .prop_map(|pieces| pieces.concat())
}

/// Members of a request, right and wrong ones.
fn members() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let tool = json!({"type": "function", "function": {"name": "f.x", "strict": true, "parameters": {"properties": {"a": {"type": "string"}}}}});
    let choices = [
        json!("auto"),
        json!("none"),
        json!("required"),
        json!({"type": "function", "function": {"name": "f.x"}}),
        json!({"type": "function", "function": {"name": "y"}}),
    ];
    let member = prop_oneof![
        4 => Just(("tools", json!([tool]))),
        2 => select(choices.to_vec()).prop_map(|choice| ("tool_choice", choice)),
        2 => select(vec!["none", "low", "high", "high", "max", "much"]).prop_map(|effort| ("reasoning_effort", json!(effort))),
        2 => select(vec![json!(0), json!(0.5), json!(1.5), json!(1), json!(3), json!(null)]).prop_map(|temperature| ("temperature", temperature)),
        1 => select(vec![json!(1), json!(5000), json!(0), json!("9")]).prop_map(|limit| ("max_tokens", limit)),
        1 => select(vec![json!("END"), json!(["a", " "]), json!([]), json!(7)]).prop_map(|stop| ("stop", stop)),
        1 => Just(("response_format", json!({"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {"minimum": 1}}}}}))),
        1 => Just(("thinking", json!({"type": "enabled", "budget_tokens": 1024}))),
        1 => Just(("functions", json!([{"name": "f"}]))),
        1 => Just(("web_search_options", json!({}))),
        1 => Just(("parallel_tool_calls", json!(false))),
        1 => Just(("stream", json!(true))),
        1 => Just(("cache_control", json!({"type": "ephemeral"}))),
        1 => Just(("brand_new", json!([1]))),
        1 => Just(("n", json!(2))),
    ];
    prop::collection::vec(member, 0..5)
}

fn request() -> impl Strategy<Value = String> {
    (messages(), members()).prop_map(|(messages, members)| {
        let mut request = json!({"model": "gpt-x", "messages": messages});
        for (key, value) in members {
            request[key] = value;
        }
        request.to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_refused_by_name_or_taken_by_messages(request in request()) {
        properties::chat_request(request.as_bytes());
    }

    #[test]
    fn a_growing_conversation_keeps_its_beginning(request in request()) {
        properties::chat_prefix(request.as_bytes());
    }

    #[test]
    fn any_events_become_chunks_that_an_accumulator_takes(stream in stream()) {
        properties::chat_stream(stream.as_bytes());
    }
}

#[test]
fn most_made_up_requests_are_translated() {
    let taken = translated(request(), |request, terms| {
        seaway_wire::chat::to_messages(request, terms).is_ok()
    });
    assert!(
        (80..360).contains(&taken),
        "the properties look at both: {taken} of 400 were translated"
    );
}
