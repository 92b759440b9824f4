//! What must hold for any Responses request, and for any stream that becomes one of Responses.

use serde_json::{Value, json};

use super::taken::{MODELS, terms, translated};
use crate::Request;
use crate::event::{FromSse, Translator};
use crate::responses::{
    Before, Kept, ResponsesShape, ResponsesStamp, ResponsesStream, response, to_messages,
};
use crate::stage::Out;

/// A request is refused by name, or becomes a request that Messages takes, the same every time.
pub fn responses_request(input: &[u8]) {
    for model in MODELS {
        let Ok(request) = Request::parse(input) else { return };
        let before = Before::default();
        let translate = |strict| {
            to_messages(&request, &before, &terms(model, strict))
                .map(|translated| (translated.body, translated.changes))
        };
        translated(translate, model);
    }
}

/// Where the network cuts does not matter to the events, and an accumulator takes them.
pub fn responses_stream(input: &[u8]) {
    for encrypted in [false, true] {
        let shape = ResponsesShape { encrypted, ..ResponsesShape::default() };
        let whole = played(input, input.len().max(1), &shape);
        for size in [1, 3, 11] {
            assert_eq!(whole, played(input, size, &shape), "in pieces of {size} bytes");
        }
        let last = accumulated(&whole.0);
        if let Some(kept) = whole.2 {
            assert_eq!(
                serde_json::from_str::<Value>(&kept.object).expect("a kept object is JSON"),
                last,
                "what is kept is what was sent"
            );
        }
    }
    // And no answer at all makes the whole translation panic.
    if let Ok((object, _)) = response(input, ResponsesShape::default(), stamp()) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&object).is_ok(), "{object}");
    }
}

/// Who sends an answer back as items asks the same as who names it. Items have no place for citations and for what
/// the upstream ran itself, so answers with these are passed over.
pub fn responses_again(question: &[u8], answer: &[u8]) {
    const MODEL: &str = "claude-sonnet-4-5";
    let blocks = serde_json::from_slice::<Value>(answer)
        .ok()
        .and_then(|message| message["content"].as_array().cloned())
        .unwrap_or_default();
    let carried = |block: &Value| {
        block.get("citations").is_none()
            && ["text", "thinking", "redacted_thinking", "tool_use"]
                .iter()
                .any(|kind| block["type"] == *kind)
    };
    if !blocks.iter().all(carried) {
        return;
    }
    let Ok(request) = Request::parse(question) else { return };
    let Ok(first) = to_messages(&request, &Before::default(), &terms(MODEL, false)) else { return };
    let Ok((object, Some(kept))) =
        response(answer, ResponsesShape { encrypted: true, ..first.shape }, stamp())
    else {
        return;
    };
    let object: Value = serde_json::from_str(&object).expect("a response is JSON");
    // What was cut off is shown, and not remembered.
    if object["status"] != "completed" {
        return;
    }
    let asked: Value = serde_json::from_slice(question).expect("it was parsed a moment ago");
    let mut items = match &asked["input"] {
        Value::String(text) => vec![json!({"role": "user", "content": text})],
        other => other.as_array().cloned().unwrap_or_default(),
    };
    let output = object["output"].as_array().expect("a list of items");
    let results = output.iter().filter_map(|item| {
        Some(
            json!({"type": "function_call_output", "call_id": item.get("call_id")?, "output": "r"}),
        )
    });
    let next: Vec<Value> = results.chain([json!({"role": "user", "content": "and?"})]).collect();
    let turns = |input: Vec<Value>, before: &Before| {
        let mut body = asked.clone();
        body["input"] = input.into();
        let body = body.to_string();
        let request = Request::parse(body.as_bytes()).expect("it is JSON");
        let translated = to_messages(&request, before, &terms(MODEL, false))
            .unwrap_or_else(|fault| panic!("{}: {body}", fault.message));
        let translated: Value = serde_json::from_str(&translated.body).expect("it is JSON");
        translated["messages"].clone()
    };
    let named = turns(next.clone(), &Before { memory: Some(kept.memory), ..Before::default() });
    items.extend(output.iter().cloned());
    items.extend(next);
    assert_eq!(turns(items, &Before::default()), named);
}

fn stamp() -> ResponsesStamp {
    ResponsesStamp { id: "id".into(), created: 1, clock: || 2 }
}

fn played(input: &[u8], size: usize, shape: &ResponsesShape) -> (String, bool, Option<Kept>) {
    let mut stream = FromSse::new(ResponsesStream::new(shape.clone(), stamp()));
    let mut out = Out::new();
    input.chunks(size).for_each(|piece| stream.translate(piece, &mut out));
    let stream = stream.sink_mut();
    let kept = stream.take_kept();
    stream.settle(kept.is_some(), &mut out);
    let complete = stream.finish(&mut out);
    let bytes: Vec<u8> = out.iter().flat_map(|frame| frame.iter().copied()).collect();
    (String::from_utf8(bytes).expect("events are text"), complete, kept)
}

/// An item as its events tell it.
#[derive(Default)]
struct ToldResponse {
    id: String,
    parts: Vec<Value>,
    open: bool,
    text: String,
    arguments: String,
    summary: String,
}

/// Puts events together as OpenAI's SDKs do, and is as strict; returns the last object.
fn accumulated(text: &str) -> Value {
    let mut done: Vec<Value> = Vec::new();
    let mut item: Option<ToldResponse> = None;
    let mut last = Value::Null;
    for (sequence, event) in text.split_terminator("\n\n").enumerate() {
        let (kind, data) = event.split_once('\n').expect("two lines an event");
        let data = data.strip_prefix("data: ").expect("one line of data an event");
        let event: Value =
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        let kind = kind.strip_prefix("event: ").expect("a named event");
        assert!(event["type"] == kind && event["sequence_number"] == sequence, "{data}");
        assert!(last.is_null(), "an event after the last: {data}");
        assert!(
            ["response.created", "response.in_progress"]
                .get(sequence)
                .is_none_or(|first| *first == kind),
            "{data}"
        );
        if let Some(index) = event.get("output_index") {
            assert_eq!(*index, json!(done.len()), "items come in order: {data}");
        }
        match kind.strip_prefix("response.").expect("an event of a response") {
            "created" | "in_progress" => {
                assert!(sequence < 2 && event["response"]["status"] == "in_progress", "{data}");
            }
            "output_item.added" => {
                assert!(item.is_none(), "two items are open: {data}");
                item = Some(ToldResponse {
                    id: event["item"]["id"].as_str().expect("an item has an id").to_owned(),
                    ..ToldResponse::default()
                });
            }
            "output_item.done" => {
                let told = item.take().expect("an item that began");
                ends_as_told(&told, &event["item"]);
                done.push(event["item"].clone());
            }
            ended @ ("completed" | "incomplete" | "failed") => {
                assert_eq!(event["response"]["status"], ended, "{data}");
                assert!(ended == "failed" || item.is_none(), "an item is open at the end: {data}");
                assert_eq!(event["response"]["output"], Value::from(done.clone()), "{data}");
                assert_eq!(ended == "failed", event["response"]["error"].is_object(), "{data}");
                assert_eq!(ended != "failed", event["response"]["usage"].is_object(), "{data}");
                last = event["response"].clone();
            }
            within => {
                let told = item.as_mut().unwrap_or_else(|| panic!("no item is open: {data}"));
                assert_eq!(event["item_id"], told.id, "{data}");
                told.take(within, &event);
            }
        }
    }
    assert!(last.is_object(), "a stream says how it ended: {text}");
    last
}

impl ToldResponse {
    fn take(&mut self, kind: &str, event: &Value) {
        let said = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("no {key}: {event}"));
        if let Some(index) = event.get("content_index") {
            assert_eq!(*index, json!(self.parts.len()), "parts come in order: {event}");
        }
        match kind {
            "content_part.added" => {
                assert!(!std::mem::replace(&mut self.open, true), "two parts are open: {event}");
                self.text.clear();
            }
            "output_text.delta" => {
                assert!(self.open && !said("delta").is_empty(), "{event}");
                self.text.push_str(said("delta"));
            }
            "output_text.done" => assert_eq!(said("text"), self.text, "{event}"),
            "content_part.done" => {
                assert!(
                    std::mem::take(&mut self.open) && event["part"]["text"] == self.text,
                    "{event}"
                );
                self.parts.push(event["part"].clone());
            }
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => {
                self.arguments.push_str(said("delta"));
            }
            "function_call_arguments.done" => {
                assert_eq!(said("arguments"), self.arguments, "{event}");
            }
            "custom_tool_call_input.done" => assert_eq!(said("input"), self.arguments, "{event}"),
            "reasoning_summary_text.delta" => self.summary.push_str(said("delta")),
            "reasoning_summary_text.done" => assert_eq!(said("text"), self.summary, "{event}"),
            "reasoning_summary_part.added" => assert!(self.summary.is_empty(), "{event}"),
            "reasoning_summary_part.done" => {
                assert_eq!(event["part"]["text"], self.summary, "{event}");
            }
            "output_text.annotation.added" => assert!(self.open, "{event}"),
            "web_search_call.in_progress"
            | "web_search_call.searching"
            | "web_search_call.completed" => {}
            other => panic!("not an event of Responses: {other}"),
        }
    }
}

/// An item is what its events told.
fn ends_as_told(told: &ToldResponse, item: &Value) {
    assert_eq!(item["id"], told.id, "{item}");
    match item["type"].as_str() {
        Some("message") => {
            assert!(!told.open && item["content"] == Value::from(told.parts.clone()), "{item}");
        }
        Some("function_call") => assert_eq!(item["arguments"], told.arguments, "{item}"),
        Some("custom_tool_call") => assert_eq!(item["input"], told.arguments, "{item}"),
        Some("reasoning") => {
            let summary = item["summary"].as_array().expect("a summary is a list");
            let text: String = summary.iter().filter_map(|part| part["text"].as_str()).collect();
            assert_eq!(text, told.summary, "{item}");
        }
        Some("web_search_call") => {
            assert!(item["status"] == "completed" || item["status"] == "failed", "{item}");
        }
        _ => panic!("not an item of Responses: {item}"),
    }
}
