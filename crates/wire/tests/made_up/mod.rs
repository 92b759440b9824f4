//! What is made up for more than one dialect: streams of the Messages API, of every shape, and who is asked.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use seaway_wire::Request;
use seaway_wire::model::ModelTraits;
use seaway_wire::openai::Terms;
use serde_json::{Value, json};

pub(crate) fn text() -> impl Strategy<Value = String> {
    select(vec!["", " ", "\n", "word", "ü🌊", "\"q\" \\", "two\nlines", "\u{2028}"])
        .prop_map(str::to_owned)
}

fn event() -> impl Strategy<Value = Value> {
    let index = 0..4_u64;
    let block = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        Just(json!({"type": "tool_use", "id": "t", "name": "n", "input": {}})),
        Just(json!({"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}})),
        Just(json!({"type": "thinking", "thinking": "", "signature": ""})),
        Just(json!({"type": "redacted_thinking", "data": "d"})),
        Just(json!({"type": "server_tool_use", "id": "s", "name": "w", "input": {}})),
        Just(
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}})
        ),
        Just(json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []})),
        Just(json!({"type": "brand_new"})),
    ];
    let delta = prop_oneof![
        text().prop_map(|text| json!({"type": "text_delta", "text": text})),
        select(vec!["", "{", "\"a\":1}", "{}"])
            .prop_map(|json| json!({"type": "input_json_delta", "partial_json": json})),
        text().prop_map(|text| json!({"type": "thinking_delta", "thinking": text})),
        Just(json!({"type": "signature_delta", "signature": "s"})),
        Just(json!({"type": "citations_delta", "citation": {"url": "https://x", "title": "X"}})),
        Just(json!({"type": "brand_new_delta", "x": 1})),
        Just(json!(7)),
    ];
    prop_oneof![
        2 => Just(json!({"type": "message_start", "message": {"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 1}}})),
        6 => (index.clone(), block).prop_map(|(index, block)| json!({"type": "content_block_start", "index": index, "content_block": block})),
        9 => (index.clone(), delta).prop_map(|(index, delta)| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        4 => index.prop_map(|index| json!({"type": "content_block_stop", "index": index})),
        2 => select(vec!["end_turn", "tool_use", "refusal", "newer"]).prop_map(|reason| json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}})),
        2 => Just(json!({"type": "message_stop"})),
        1 => Just(json!({"type": "ping"})),
        1 => Just(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})),
        1 => Just(json!({"type": "brand_new"})),
    ]
}

/// Events in any order; most begin as they should.
pub(crate) fn stream() -> impl Strategy<Value = String> {
    (prop::collection::vec(event(), 0..24), any::<bool>()).prop_map(|(events, whole)| {
        let start = json!({"type": "message_start", "message": {"id": "m", "model": "c"}});
        let events: Vec<Value> =
            if whole { std::iter::once(start).chain(events).collect() } else { events };
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    })
}

/// How many of 400 requests are translated.
pub(crate) fn translated(
    requests: impl Strategy<Value = String>,
    translates: impl Fn(&Request<'_>, &Terms<'_>) -> bool,
) -> usize {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let model = "claude-haiku-4-5";
    let terms = Terms {
        model,
        traits: ModelTraits::of(model),
        strict: false,
        max_tokens: None,
        marked: false,
        web_search: None,
    };
    let mut next = || requests.new_tree(&mut runner).expect("a request can be made up").current();
    (0..400)
        .filter(|_| {
            translates(&Request::parse(next().as_bytes()).expect("what is made up is JSON"), &terms)
        })
        .count()
}
