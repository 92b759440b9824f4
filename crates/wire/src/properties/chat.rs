//! What must hold for any Chat request and for any stream that becomes chunks.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::Request;
use crate::chat::{Shape, Stamp, Stream, Translated, completion, to_messages};
use crate::model::Traits;
use crate::openai::Terms;
use crate::stage::{End, Out, Stage};

/// A model of every kind: with prefill and sampling, with neither, with `system` turns, and unknown.
const MODELS: [&str; 4] = ["claude-haiku-4-5", "claude-sonnet-5", "claude-opus-5-5", "somebody-elses"];

/// A request is refused by name, or becomes a request that Messages takes, the same every time.
pub fn chat_request(input: &[u8]) {
    for model in MODELS {
        let Ok(request) = Request::parse(input) else { return };
        let terms = |strict| Terms { model, traits: Traits::of(model), strict, max_tokens: None, marked: false, web_search: Some("web_search_20250305") };
        match to_messages(&request, &terms(false)) {
            Ok(translated) => {
                taken(&translated, model);
                let again = to_messages(&request, &terms(false)).expect("it was translated a moment ago");
                assert_eq!(translated.body, again.body, "a retry must send the same bytes");
                if let Ok(strict) = to_messages(&request, &terms(true)) {
                    assert!(strict.changes.is_empty() && translated.changes.is_empty(), "strict mode notes nothing: {:?}", translated.changes);
                }
            }
            Err(fault) => {
                let param = fault.param.as_deref().unwrap_or_default();
                assert!(!param.is_empty() && fault.message.starts_with(param), "a refusal names the member: {}", fault.message);
            }
        }
    }
}

/// Holds a translated request against the rules of the Messages API.
fn taken(translated: &Translated, model: &str) {
    crate::json::check(&translated.body).unwrap_or_else(|malformed| panic!("{malformed}: {}", translated.body));
    // A number may be JSON and yet larger than any reader's.
    let Ok(request) = serde_json::from_str::<Value>(&translated.body) else { return };
    Request::parse(translated.body.as_bytes()).expect("the Messages parser takes it");
    let traits = Traits::of(model);
    assert_eq!(request["model"], model);
    assert!(request["max_tokens"].as_u64().is_some_and(|tokens| tokens >= 1), "{request}");
    let turns = request["messages"].as_array().expect("a list of turns");
    assert!(turns.iter().any(|turn| turn["role"] == "user"), "{request}");
    for (index, turn) in turns.iter().enumerate() {
        let blocks = turn["content"].as_array().expect("a list of blocks");
        assert!(!blocks.is_empty(), "an empty turn: {request}");
        for block in blocks {
            block_is_taken(block, turn["role"].as_str().unwrap_or_default());
        }
        results_pair(turns, index, &request);
        if let Some(next) = turns.get(index + 1) {
            assert_ne!(turn["role"], next["role"], "two turns of one role: {request}");
        }
        if turn["role"] == "system" {
            let before = index.checked_sub(1).map(|before| &turns[before]["role"]);
            assert!(traits.system_turns && before == Some(&"user".into()), "a system turn where none may be: {request}");
        }
    }
    if turns.last().is_some_and(|turn| turn["role"] == "assistant") {
        assert!(traits.prefill, "{request}");
    }
    choice_is_taken(&request, &traits);
    let blocks = ["system", "tools"].iter().filter_map(|key| request[*key].as_array()).chain(turns.iter().filter_map(|turn| turn["content"].as_array())).flatten();
    let marks = blocks.filter(|block| block.get("cache_control").is_some()).count() + usize::from(request.get("cache_control").is_some());
    assert!(marks <= 4, "{marks} cache marks: {request}");
}

fn block_is_taken(block: &Value, role: &str) {
    match block["type"].as_str() {
        Some("text") => assert!(block["text"].as_str().is_some_and(|text| !text.trim().is_empty()), "blank text: {block}"),
        Some("tool_use") => assert!(role == "assistant" && block["input"].is_object() && is_plain(&block["id"]) && is_plain(&block["name"]), "{block}"),
        Some("tool_result") => assert!(role == "user" && is_plain(&block["tool_use_id"]), "{block}"),
        Some("image" | "document") => assert!(role == "user" && block["source"].is_object(), "{block}"),
        Some("thinking" | "redacted_thinking") => assert_eq!(role, "assistant", "{block}"),
        _ => panic!("not a block of Messages: {block}"),
    }
}

fn is_plain(id: &Value) -> bool {
    id.as_str().is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')))
}

fn results_pair(turns: &[Value], index: usize, request: &Value) {
    let ids = |turn: Option<&Value>, kind: &str, key: &str| -> Vec<String> {
        let blocks = turn.and_then(|turn| turn["content"].as_array());
        let mut ids: Vec<String> = blocks.into_iter().flatten().filter(|block| block["type"] == kind).map(|block| block[key].to_string()).collect();
        ids.sort();
        ids
    };
    let turn = &turns[index];
    if turn["role"] == "assistant" {
        assert_eq!(ids(Some(turn), "tool_use", "id"), ids(turns.get(index + 1), "tool_result", "tool_use_id"), "{request}");
    }
    if turn["role"] == "user" {
        let kinds: Vec<bool> = turn["content"].as_array().into_iter().flatten().map(|block| block["type"] == "tool_result").collect();
        assert!(kinds.is_sorted_by(|a, b| a >= b), "results come first: {request}");
    }
}

fn choice_is_taken(request: &Value, traits: &Traits) {
    let kind = request["tool_choice"]["type"].as_str();
    assert!(kind.is_none() || request["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "a choice without tools: {request}");
    assert!(traits.forced_tool || !matches!(kind, Some("any" | "tool")), "forced: {request}");
}

/// A conversation that grows keeps what was sent before, turn by turn.
pub fn chat_prefix(input: &[u8]) {
    let Ok(whole) = serde_json::from_slice::<Value>(input) else { return };
    let Some(messages) = whole["messages"].as_array() else { return };
    for model in MODELS {
        let turns = |upto: usize| {
            let mut part = whole.clone();
            part["messages"] = messages[..upto].into();
            let body = part.to_string();
            let request = Request::parse(body.as_bytes()).ok()?;
            let translated = to_messages(&request, &Terms { model, traits: Traits::of(model), strict: false, max_tokens: None, marked: false, web_search: None }).ok()?;
            let request: Value = serde_json::from_str(&translated.body).ok()?;
            Some(request["messages"].as_array()?.clone())
        };
        let Some(all) = turns(messages.len()) else { continue };
        // An answer follows a user's message, so a request ends with one, and the next goes on behind its answer.
        for upto in 1..messages.len() {
            let answered = messages[upto]["role"] == "assistant" && messages[upto - 1]["role"] != "assistant" && says_something(&messages[upto]);
            if let Some(part) = turns(upto).filter(|part| answered && part.last().is_some_and(|turn| turn["role"] != "assistant")) {
                assert!(all.starts_with(&part), "{model}, {upto} messages: {part:?} / {all:?}");
            }
        }
    }
}

/// An answer that says nothing leaves no turn, so that what is said next joins the turn before it.
fn says_something(message: &Value) -> bool {
    let texts = message["content"].as_array().map_or_else(|| vec![&message["content"]], |parts| parts.iter().flat_map(|part| [&part["text"], &part["refusal"]]).collect());
    message["tool_calls"].is_array() || texts.iter().any(|text| text.as_str().is_some_and(|text| !text.trim().is_empty()))
}

/// Where the network cuts does not matter to the chunks, and an accumulator takes them.
pub fn chat_stream(input: &[u8]) {
    for shape in [Shape::default(), Shape { include_usage: true, ..Shape::default() }, Shape { legacy: true, ..Shape::default() }] {
        let (whole, complete) = chunks(input, input.len().max(1), &shape);
        for size in [1, 3, 11] {
            assert_eq!((&whole, complete), (&chunks(input, size, &shape).0, complete), "in pieces of {size} bytes");
        }
        accumulated(&whole, &shape);
    }
    // And no answer at all makes the whole translation panic.
    if let Ok(completion) = completion(input, &Shape::default(), &stamp()) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&completion).is_ok(), "{completion}");
    }
}

fn stamp() -> Stamp {
    Stamp { id: "id".into(), created: 1 }
}

fn chunks(input: &[u8], size: usize, shape: &Shape) -> (String, bool) {
    let mut stream = Stream::new(shape.clone(), stamp());
    let mut out = Out::new();
    input.chunks(size).for_each(|piece| stream.push(Bytes::copy_from_slice(piece), &mut out));
    let complete = stream.finish(End::Complete, &mut out);
    let bytes: Vec<u8> = out.iter().flat_map(|frame| frame.iter().copied()).collect();
    (String::from_utf8(bytes).expect("chunks are text"), complete)
}

/// Puts chunks together as OpenAI's SDKs do, and is as strict.
fn accumulated(text: &str, shape: &Shape) {
    let lines: Vec<&str> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("one line of data an event")).collect();
    let (last, chunks) = lines.split_last().expect("a stream says something");
    let done = *last == "[DONE]";
    let mut arguments: BTreeMap<u64, String> = BTreeMap::new();
    let (mut finished, mut roles, mut counted) = (0, 0, 0);
    for (index, line) in chunks.iter().enumerate() {
        let chunk: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(chunk["error"].is_null(), "only the last line can be an error: {line}");
        counted += usize::from(chunk["usage"].is_object());
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert!(finished == 0, "a choice after the finish reason: {line}");
        assert!(index > 0 || choice["delta"]["role"] == "assistant", "the first chunk has the role: {line}");
        roles += usize::from(choice["delta"].get("role").is_some());
        finished += usize::from(choice["finish_reason"].is_string());
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let at = call["index"].as_u64().expect("a call has an index");
            let known = arguments.len() as u64;
            assert!(at <= known && (at < known) == call.get("id").is_none(), "calls begin in order, and once: {line}");
            arguments.entry(at).or_default().push_str(call["function"]["arguments"].as_str().expect("arguments are text"));
        }
    }
    if done {
        assert_eq!((finished, roles, counted), (1, 1, usize::from(shape.include_usage)), "{text}");
    } else {
        let error: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
        assert!(error["error"]["message"].is_string() && finished == 0, "a stream that failed does not look whole: {text}");
    }
}
