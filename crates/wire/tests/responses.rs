//! Responses requests and Messages streams of every shape, made up: the properties that are fuzzed hold for them.

mod made_up;

use made_up::{stream, text, translated};
use proptest::prelude::*;
use proptest::sample::select;
use seaway_wire::properties;
use serde_json::{Value, json};

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(|text| json!({"type": "input_text", "text": text})),
        2 => text().prop_map(|text| json!({"type": "output_text", "text": text, "annotations": []})),
        1 => Just(json!({"type": "input_image", "image_url": "https://x", "detail": "low"})),
        1 => Just(json!({"type": "input_image", "image_url": "data:image/png;base64,aGk="})),
        1 => Just(json!({"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="})),
        1 => Just(json!({"type": "input_file", "file_url": "https://x/y.pdf"})),
        1 => Just(json!({"type": "refusal", "refusal": "no"})),
        1 => select(vec!["input_audio", "", "input_image"]).prop_map(|kind| json!({"type": kind, "file_id": "f"})),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => text().prop_map(Value::from),
        3 => prop::collection::vec(part(), 0..3).prop_map(Value::from),
        1 => Just(json!(7)),
    ]
}

/// Calls, and mostly their results; some in a namespace, some with text for an argument.
fn tool_loop() -> impl Strategy<Value = Vec<Value>> {
    let arguments = select(vec!["", "{}", "{\"a\": 1.0}", "7", "\"\\ud83d\"", "{"]);
    let kind = select(vec!["plain", "plain", "space", "custom"]);
    let call = (select(vec!["a", "b", "call|"]), 0..9_u8, arguments, kind);
    (prop::collection::vec(call, 1..3), prop::bool::weighted(0.95), any::<bool>()).prop_map(|(calls, answered, thinks)| {
        let mut items = Vec::new();
        if thinks {
            items.push(json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "not ours"}));
        }
        for (id, place, arguments, kind) in &calls {
            let id = format!("{id}{place}");
            items.push(match *kind {
                "space" => json!({"type": "function_call", "call_id": id, "namespace": "mcp", "name": "f.x", "arguments": arguments}),
                "custom" => json!({"type": "custom_tool_call", "call_id": id, "name": "patch", "input": arguments}),
                _ => json!({"type": "function_call", "call_id": id, "name": "f.x", "arguments": arguments, "status": "completed"}),
            });
        }
        for (id, place, _, kind) in calls.iter().filter(|_| answered) {
            let kind = if *kind == "custom" { "custom_tool_call_output" } else { "function_call_output" };
            items.push(json!({"type": kind, "call_id": format!("{id}{place}"), "output": "r"}));
        }
        items
    })
}

fn input() -> impl Strategy<Value = Value> {
    let message = (
        select(vec!["system", "developer", "user", "user", "user", "assistant", "robot"]),
        content(),
    );
    let said = (select(vec!["system", "user", "user", "assistant"]), text())
        .prop_map(|(role, text)| vec![json!({"role": role, "content": text})]);
    let other = select(vec![
        json!({"type": "web_search_call", "id": "ws"}),
        json!({"type": "item_reference", "id": "i"}),
        json!({"type": "brand_new"}),
        json!(7),
    ]);
    let piece = prop_oneof![
        14 => said,
        2 => message.prop_map(|(role, content)| vec![json!({"type": "message", "role": role, "content": content})]),
        4 => tool_loop(),
        1 => other.prop_map(|item| vec![item]),
    ];
    prop_oneof![
        1 => text().prop_map(Value::from),
        9 => prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat().into()),
    ]
}

/// Members of a request, right and wrong ones.
fn members() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let plain = json!({"type": "function", "name": "f.x", "strict": true, "parameters": {"properties": {"a": {"type": "string"}}}});
    let tools = json!([plain, {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}, {"type": "namespace", "name": "mcp", "description": "D", "tools": [plain, {"type": "custom", "name": "c"}]}]);
    let choices = [
        json!("auto"),
        json!("none"),
        json!("required"),
        json!({"type": "function", "name": "f.x"}),
        json!({"type": "function", "name": "y"}),
    ];
    let member = prop_oneof![
        6 => Just(("tools", tools)),
        1 => select(vec!["web_search", "file_search", "mcp"]).prop_map(|kind| ("tools", json!([{"type": kind}]))),
        2 => select(choices.to_vec()).prop_map(|choice| ("tool_choice", choice)),
        2 => select(vec!["none", "low", "high", "xhigh", "much"]).prop_map(|effort| ("reasoning", json!({"effort": effort, "summary": "auto"}))),
        2 => select(vec![json!(0), json!(0.5), json!(1.5), json!(3), json!(null)]).prop_map(|temperature| ("temperature", temperature)),
        1 => select(vec![json!(1), json!(5000), json!(0), json!("9")]).prop_map(|limit| ("max_output_tokens", limit)),
        1 => Just(("text", json!({"format": {"type": "json_schema", "name": "n", "schema": {"type": "object", "properties": {"a": {"minimum": 1}}}}, "verbosity": "low"}))),
        1 => Just(("instructions", json!("Be brief."))),
        1 => Just(("include", json!(["reasoning.encrypted_content", "message.output_text.logprobs"]))),
        1 => select(vec!["auto", "disabled", "never"]).prop_map(|name| ("truncation", json!(name))),
        1 => any::<bool>().prop_map(|on| ("background", json!(on))),
        1 => any::<bool>().prop_map(|on| ("parallel_tool_calls", json!(on))),
        1 => any::<bool>().prop_map(|on| ("store", json!(on))),
        1 => Just(("stream", json!(true))),
        1 => Just(("brand_new", json!([1]))),
    ];
    prop::collection::vec(member, 0..5)
}

fn request() -> impl Strategy<Value = String> {
    (input(), members()).prop_map(|(input, members)| {
        let mut request = json!({"model": "gpt-x", "input": input});
        for (key, value) in members {
            request[key] = value;
        }
        request.to_string()
    })
}

fn answer() -> impl Strategy<Value = String> {
    let block = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        Just(json!({"type": "thinking", "thinking": "t", "signature": "s"})),
        Just(json!({"type": "redacted_thinking", "data": "d"})),
        (0..99_u8).prop_map(|id| json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": "n", "input": {"a": 1.0}})),
    ];
    prop::collection::vec(block, 0..5).prop_map(|content| {
        let mut content: Vec<Value> = content;
        // Two calls with one id are no answer of the API's.
        let mut seen = std::collections::HashSet::new();
        content.retain(|block| block.get("id").is_none_or(|id| seen.insert(id.to_string())));
        json!({"type": "message", "id": "m", "model": "claude-sonnet-4-5", "content": content, "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}})
            .to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_refused_by_name_or_taken_by_messages(request in request()) {
        properties::responses_request(request.as_bytes());
    }

    #[test]
    fn any_events_become_events_that_an_accumulator_takes(stream in stream()) {
        properties::responses_stream(stream.as_bytes());
    }

    #[test]
    fn an_answer_that_comes_back_is_the_answer_that_is_named(text in text(), answer in answer()) {
        let question = json!({"model": "m", "input": [{"role": "user", "content": "q"}, {"role": "user", "content": text}]}).to_string();
        properties::responses_again(question.as_bytes(), answer.as_bytes());
    }
}

#[test]
fn most_made_up_requests_are_translated() {
    let taken = translated(request(), |request, terms| {
        seaway_wire::responses::to_messages(
            request,
            &seaway_wire::responses::Before::default(),
            terms,
        )
        .is_ok()
    });
    assert!(
        (80..360).contains(&taken),
        "the properties look at both: {taken} of 400 were translated"
    );
}
