//! What must hold for any Chat request and for any stream that becomes chunks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::taken::{MODELS, terms, translated};
use crate::Request;
use crate::chat::{ChatShape, ChatStamp, ChatStream, completion, to_messages};
use crate::event::{FromSse, Translator};
use crate::stage::Out;

/// A request is refused by name, or becomes a request that Messages takes, the same every time.
pub fn chat_request(input: &[u8]) {
    for model in MODELS {
        let Ok(request) = Request::parse(input) else { return };
        let translate = |strict| {
            to_messages(&request, &terms(model, strict))
                .map(|translated| (translated.body, translated.changes))
        };
        translated(translate, model);
    }
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
            let translated = to_messages(&request, &terms(model, false)).ok()?;
            let request: Value = serde_json::from_str(&translated.body).ok()?;
            Some(request["messages"].as_array()?.clone())
        };
        let Some(all) = turns(messages.len()) else { continue };
        // An answer follows a user's message, so a request ends with one, and the next goes on behind its answer. Where
        // there was only system text, that stood in for it.
        let asks = |message: &Value| {
            !matches!(message["role"].as_str(), Some("system" | "developer"))
                && (message["content"][0]["type"] == "image_url" || says_something(message))
        };
        for upto in 1..messages.len() {
            let answered = messages[upto]["role"] == "assistant"
                && messages[upto - 1]["role"] != "assistant"
                && says_something(&messages[upto]);
            let answered = answered && messages[..upto].iter().any(asks);
            if let Some(part) = turns(upto).filter(|part| {
                answered && part.last().is_some_and(|turn| turn["role"] != "assistant")
            }) {
                assert!(all.starts_with(&part), "{model}, {upto} messages: {part:?} / {all:?}");
            }
        }
    }
}

/// An answer that says nothing leaves no turn, so that what is said next joins the turn before it.
fn says_something(message: &Value) -> bool {
    let texts = message["content"].as_array().map_or_else(
        || vec![&message["content"]],
        |parts| parts.iter().flat_map(|part| [&part["text"], &part["refusal"]]).collect(),
    );
    message["tool_calls"].is_array()
        || texts.iter().any(|text| text.as_str().is_some_and(|text| !text.trim().is_empty()))
}

/// Where the network cuts does not matter to the chunks, and an accumulator takes them.
pub fn chat_stream(input: &[u8]) {
    for shape in [
        ChatShape::default(),
        ChatShape { include_usage: true, ..ChatShape::default() },
        ChatShape { legacy: true, ..ChatShape::default() },
    ] {
        let (whole, complete) = chunks(input, input.len().max(1), &shape);
        for size in [1, 3, 11] {
            assert_eq!(
                (&whole, complete),
                (&chunks(input, size, &shape).0, complete),
                "in pieces of {size} bytes"
            );
        }
        accumulated(&whole, &shape);
    }
    // And no answer at all makes the whole translation panic.
    if let Ok(completion) = completion(input, &ChatShape::default(), &stamp()) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&completion).is_ok(), "{completion}");
    }
}

fn stamp() -> ChatStamp {
    ChatStamp { id: "id".into(), created: 1 }
}

fn chunks(input: &[u8], size: usize, shape: &ChatShape) -> (String, bool) {
    let mut stream = FromSse::new(ChatStream::new(shape.clone(), stamp()));
    let mut out = Out::new();
    input.chunks(size).for_each(|piece| stream.translate(piece, &mut out));
    let complete = stream.sink_mut().finish(&mut out);
    let bytes: Vec<u8> = out.iter().flat_map(|frame| frame.iter().copied()).collect();
    (String::from_utf8(bytes).expect("chunks are text"), complete)
}

/// Puts chunks together as OpenAI's SDKs do, and is as strict.
fn accumulated(text: &str, shape: &ChatShape) {
    let lines: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("one line of data an event"))
        .collect();
    let (last, chunks) = lines.split_last().expect("a stream says something");
    let done = *last == "[DONE]";
    let mut arguments: BTreeMap<u64, String> = BTreeMap::new();
    let (mut finished, mut roles, mut counted) = (0, 0, 0);
    for (index, line) in chunks.iter().enumerate() {
        let chunk: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(chunk["error"].is_null(), "only the last line can be an error: {line}");
        counted += usize::from(chunk["usage"].is_object());
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert!(finished == 0, "a choice after the finish reason: {line}");
        assert!(
            index > 0 || choice["delta"]["role"] == "assistant",
            "the first chunk has the role: {line}"
        );
        roles += usize::from(choice["delta"].get("role").is_some());
        finished += usize::from(choice["finish_reason"].is_string());
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let at = call["index"].as_u64().expect("a call has an index");
            let known = arguments.len() as u64;
            assert!(
                at <= known && (at < known) == call.get("id").is_none(),
                "calls begin in order, and once: {line}"
            );
            arguments
                .entry(at)
                .or_default()
                .push_str(call["function"]["arguments"].as_str().expect("arguments are text"));
        }
    }
    if done {
        assert_eq!((finished, roles, counted), (1, 1, usize::from(shape.include_usage)), "{text}");
    } else {
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
        assert!(
            error["error"]["message"].is_string() && finished == 0,
            "a stream that failed does not look whole: {text}"
        );
    }
}
