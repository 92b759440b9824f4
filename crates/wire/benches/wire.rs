//! Speed and allocations of the machines that every byte passes.
//!
//! `cargo bench -p seaway-wire`. The relay allocates nothing per frame: see the counts
//! under `relay`, which are those of its queue and its decoder, once a stream.

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use seaway_wire::chat::{self, ChatShape, ChatStamp};
use seaway_wire::event::{FromSse, Translator};
use seaway_wire::json::RawObject;
use seaway_wire::messages::{Edits, Fold};
use seaway_wire::model::ModelTraits;
use seaway_wire::openai::Terms;
use seaway_wire::stage::{End, Out};
use seaway_wire::{Dialect, Meter, Relay, Request, responses};

#[global_allocator]
static ALLOC: AllocProfiler<std::alloc::System> = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A stream of `count` deltas, a frame each.
fn frames(count: usize) -> Vec<Bytes> {
    let mut frames = vec![event(
        r#"{"type":"message_start","message":{"model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#,
    )];
    frames.push(event(
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    ));
    let delta = event(
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a few words of text"}}"#,
    );
    frames.extend(std::iter::repeat_n(delta, count));
    frames.push(event(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#));
    frames.push(event(r#"{"type":"message_stop"}"#));
    frames
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("event: content_block_delta\ndata: {data}\n\n"))
}

/// A request of about 200 KB, half of it code.
fn request() -> String {
    let code = include_str!("wire.rs").repeat(4);
    let turns: Vec<serde_json::Value> =
        (0..14).map(|turn| serde_json::json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": [{"type": "text", "text": code}]})).collect();
    serde_json::json!({"model": "m", "max_tokens": 9, "stream": true, "system": code, "messages": turns}).to_string()
}

#[divan::bench(args = [10, 100, 2000])]
fn relay(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(
        || {
            let mut relay = Relay::new(Meter::for_events(Dialect::Messages));
            let mut out = Out::new();
            for frame in &frames {
                relay.push(frame.clone(), &mut out);
                black_box(out.pop_front());
            }
            relay.finish(End::Complete)
        },
    );
}

#[divan::bench(args = [10, 100, 1000])]
fn fold(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(
        || {
            let mut fold = FromSse::<Fold>::default();
            for frame in &frames {
                fold.push(frame);
            }
            fold.into_sink().finish().map(|folded| folded.body)
        },
    );
}

#[divan::bench]
fn look_at_a_request(bencher: Bencher<'_, '_>) {
    let body = request();
    bencher
        .counter(BytesCount::of_str(&body))
        .bench(|| RawObject::parse(black_box(body.as_bytes())).is_ok());
}

#[divan::bench]
fn edit_a_request(bencher: Bencher<'_, '_>) {
    let body = request();
    let edits = Edits {
        model: Some(("alias".into(), "other".into())),
        strip_cache_ttl: true,
        ..Edits::default()
    };
    bencher.counter(BytesCount::of_str(&body)).bench(|| {
        Request::parse(black_box(body.as_bytes())).map(|request| edits.apply(&request).body)
    });
}

/// A Chat conversation of 200 messages, a third of them tool loops, with 20 tools: about 160 KB.
fn chat_request() -> String {
    let code = include_str!("wire.rs");
    let tools: Vec<serde_json::Value> = (0..20)
        .map(|n| serde_json::json!({"type": "function", "function": {"name": format!("tool_{n}"), "description": "What this tool does, at length. ".repeat(20), "parameters": {"type": "object", "properties": {"path": {"type": "string", "description": "a path"}, "limit": {"type": "integer"}}, "required": ["path"]}}}))
        .collect();
    let mut messages = vec![serde_json::json!({"role": "system", "content": code})];
    while messages.len() < 200 {
        let n = messages.len();
        let text = &code[n % 50..n % 50 + 600];
        messages
            .push(serde_json::json!({"role": "user", "content": [{"type": "text", "text": text}]}));
        messages.push(serde_json::json!({"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": format!("call_{n}"), "type": "function", "function": {"name": "tool_1", "arguments": "{\"path\": \"/a/b\", \"limit\": 7}"}}]}));
        messages.push(serde_json::json!({"role": "tool", "tool_call_id": format!("call_{n}"), "content": text}));
        messages.push(serde_json::json!({"role": "assistant", "content": text}));
    }
    messages.push(serde_json::json!({"role": "user", "content": "go on"}));
    serde_json::json!({"model": "m", "stream": true, "messages": messages, "tools": tools, "reasoning_effort": "high"}).to_string()
}

#[divan::bench]
fn translate_a_chat_request(bencher: Bencher<'_, '_>) {
    let body = chat_request();
    let terms = Terms {
        model: "claude-opus-4-8",
        traits: ModelTraits::of("claude-opus-4-8"),
        strict: false,
        max_tokens: None,
        marked: false,
        web_search: None,
    };
    let translate = || {
        Request::parse(black_box(body.as_bytes()))
            .and_then(|request| chat::to_messages(&request, &terms))
            .map(|translated| translated.body.len())
    };
    assert!(translate().is_ok());
    bencher.counter(BytesCount::of_str(&body)).bench(translate);
}

/// The same frames as under `relay`, as chunks.
#[divan::bench(args = [10, 100, 2000])]
fn translate_to_chunks(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(
        || {
            let stream = chat::ChatStream::new(
                ChatShape::default(),
                ChatStamp { id: "id".into(), created: 1 },
            );
            let (mut stream, mut out) = (FromSse::new(stream), Out::new());
            for frame in &frames {
                stream.translate(frame, &mut out);
                black_box(out.pop_front());
            }
            stream.sink_mut().finish(&mut out)
        },
    );
}

/// The same as events of Responses.
#[divan::bench(args = [10, 100, 2000])]
fn translate_to_events(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(
        || {
            let stream = responses::ResponsesStream::new(
                responses::ResponsesShape::default(),
                responses::ResponsesStamp { id: "id".into(), created: 1, clock: || 1 },
            );
            let (mut stream, mut out) = (FromSse::new(stream), Out::new());
            for frame in &frames {
                stream.translate(frame, &mut out);
                black_box(out.pop_front());
            }
            stream.sink_mut().finish(&mut out)
        },
    );
}

/// The conversation of the Chat request, in items.
#[divan::bench]
fn translate_a_responses_request(bencher: Bencher<'_, '_>) {
    let chat: serde_json::Value = serde_json::from_str(&chat_request()).unwrap_or_default();
    let mut items = Vec::new();
    for message in chat["messages"].as_array().into_iter().flatten() {
        if message["role"] == "tool" {
            items.push(serde_json::json!({"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}));
            continue;
        }
        items.push(message.clone());
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            items.push(serde_json::json!({"type": "function_call", "call_id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}));
        }
    }
    for item in &mut items {
        item.as_object_mut().map(|item| item.remove("tool_calls"));
        for part in item["content"].as_array_mut().into_iter().flatten() {
            part["type"] = "input_text".into();
        }
    }
    let tools: Vec<serde_json::Value> = chat["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| {
            let mut flat = tool["function"].clone();
            flat["type"] = "function".into();
            flat
        })
        .collect();
    let body = serde_json::json!({"model": "m", "stream": true, "input": items, "tools": tools, "reasoning": {"effort": "high"}}).to_string();
    let terms = Terms {
        model: "claude-opus-4-8",
        traits: ModelTraits::of("claude-opus-4-8"),
        strict: false,
        max_tokens: None,
        marked: false,
        web_search: None,
    };
    let before = responses::Before::default();
    let translate = || {
        Request::parse(black_box(body.as_bytes()))
            .and_then(|request| responses::to_messages(&request, &before, &terms))
            .map(|translated| translated.body.len())
    };
    assert!(
        translate().is_ok(),
        "{:?}",
        Request::parse(body.as_bytes())
            .and_then(|request| responses::to_messages(&request, &before, &terms))
            .err()
    );
    bencher.counter(BytesCount::of_str(&body)).bench(translate);
}

#[divan::bench]
fn translate_a_message(bencher: Bencher<'_, '_>) {
    let mut fold = FromSse::<Fold>::default();
    for frame in frames(1000) {
        fold.push(&frame);
    }
    let message = fold.into_sink().finish().map(|folded| folded.body).unwrap_or_default();
    let stamp = ChatStamp { id: "id".into(), created: 1 };
    bencher.counter(BytesCount::of_str(&message)).bench(|| {
        chat::completion(black_box(message.as_bytes()), &ChatShape::default(), &stamp).is_ok()
    });
}
