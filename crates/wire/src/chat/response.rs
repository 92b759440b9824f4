//! From a whole message to a completion.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ChatShape, ChatStamp, finish_reason, service_tier};
use crate::event::report;
use crate::json::{Tag, Text, push_quoted, quote, whole};
use crate::openai::pieces::custom_input;
use crate::openai::usage;
use crate::{StopReason, Usage};

/// An answer that is no message of the Messages API.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer is not a message: {0}")]
pub struct NoMessage(String);

impl NoMessage {
    pub(crate) fn of(why: String) -> Self {
        Self(why)
    }
}

#[derive(Deserialize)]
struct WholeMessage<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    stop_details: Option<StopDetails>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// Why an answer was refused.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StopDetails {
    pub(super) explanation: Option<String>,
}

#[derive(Deserialize)]
struct TextBlock<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
    #[serde(borrow, default)]
    citations: Option<Vec<ChatCitation<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct ChatCitation<'a> {
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
}

impl ChatCitation<'_> {
    /// Writes the annotation for a citation of the web; others have no counterpart.
    pub(super) fn annotation(&self, start: usize, end: usize) -> Option<String> {
        let url = quote(self.url.as_deref()?);
        let title = quote(self.title.as_deref().unwrap_or_default());
        Some(format!(
            "{{\"type\":\"url_citation\",\"url_citation\":{{\"start_index\":{start},\"end_index\":{end},\"title\":{title},\"url\":{url}}}}}"
        ))
    }
}

#[derive(Deserialize)]
pub(super) struct ToolUse<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl<'a> ToolUse<'a> {
    /// The arguments: an object's JSON text.
    pub(super) fn input(&self) -> &'a str {
        self.input.map(RawValue::get).filter(|raw| *raw != "null").unwrap_or("{}")
    }
}

#[derive(Deserialize)]
pub(super) struct Thought<'a> {
    #[serde(borrow, default)]
    pub(super) thinking: Option<&'a RawValue>,
}

/// What a message says, sorted by where Chat has it. Texts are JSON without their quotes.
#[derive(Default)]
struct ChatContent<'a> {
    content: String,
    /// Characters of `content`.
    length: usize,
    reasoning: String,
    thoughts: Vec<Cow<'a, str>>,
    annotations: Vec<String>,
    calls: Vec<String>,
}

impl<'a> ChatContent<'a> {
    fn take(&mut self, block: &'a RawValue, shape: &ChatShape) -> serde_json::Result<()> {
        let source = block.get();
        let tag: Tag<'_> = serde_json::from_str(source)?;
        match &*tag.kind {
            "text" => {
                let block: TextBlock<'_> = serde_json::from_str(source)?;
                let text = Text::of_raw(block.text.get())
                    .ok_or_else(|| serde::de::Error::custom("a text that is no string"))?;
                let (start, end) = (self.length, self.length + text.count());
                self.content.push_str(text.inner());
                self.length = end;
                self.annotations.extend(
                    block
                        .citations
                        .unwrap_or_default()
                        .iter()
                        .filter_map(|citation| citation.annotation(start, end)),
                );
            }
            "tool_use" => {
                let block: ToolUse<'_> = serde_json::from_str(source)?;
                self.calls.push(call(&block, shape));
            }
            "thinking" => {
                let block: Thought<'_> = serde_json::from_str(source)?;
                if let Some(text) = block.thinking.and_then(|raw| Text::of_raw(raw.get())) {
                    self.reasoning.push_str(text.inner());
                }
                self.thoughts.push(whole(source));
            }
            "redacted_thinking" => self.thoughts.push(whole(source)),
            // What the upstream ran itself is not the client's to run; its results are in the text.
            _ => {}
        }
        Ok(())
    }
}

fn call(block: &ToolUse<'_>, shape: &ChatShape) -> String {
    let name = quote(shape.names.client(&block.name));
    if !shape.legacy && shape.custom.contains(&*block.name) {
        let input = quote(&custom_input(block.input()));
        return format!(
            "{{\"id\":{},\"type\":\"custom\",\"custom\":{{\"name\":{name},\"input\":{input}}}}}",
            quote(&block.id)
        );
    }
    let arguments = quote(block.input());
    let function = format!("{{\"name\":{name},\"arguments\":{arguments}}}");
    if shape.legacy {
        function
    } else {
        format!("{{\"id\":{},\"type\":\"function\",\"function\":{function}}}", quote(&block.id))
    }
}

/// Translates a whole message.
///
/// # Errors
///
/// [`NoMessage`] if it is none.
pub fn completion(body: &[u8], shape: &ChatShape, stamp: &ChatStamp) -> Result<String, NoMessage> {
    let foreign = |error: serde_json::Error| NoMessage(error.to_string());
    let message: WholeMessage<'_> = serde_json::from_slice(body).map_err(foreign)?;
    if let Some(other) = message.kind.as_deref().filter(|kind| *kind != "message") {
        return Err(NoMessage(format!("its type is `{other}`")));
    }
    let mut said = ChatContent::default();
    message.content.iter().try_for_each(|block| said.take(block, shape)).map_err(foreign)?;
    // Counts of a new kind must not cost the answer.
    let report = report(message.usage.map(RawValue::get));
    let mut spent = Usage::default();
    spent.update(&report);

    let mut out = String::with_capacity(body.len() + 512);
    out.push_str("{\"id\":");
    push_quoted(&mut out, &format!("chatcmpl-{}", message.id.as_deref().unwrap_or(&stamp.id)));
    out.push_str(&format!(
        ",\"object\":\"chat.completion\",\"created\":{},\"model\":",
        stamp.created
    ));
    push_quoted(&mut out, message.model.as_deref().unwrap_or_default());
    out.push_str(",\"choices\":[{\"index\":0,\"message\":");
    write_message(&mut out, &message, &said, shape);
    let reason =
        finish_reason(message.stop_reason.as_deref().map(StopReason::parse).as_ref(), shape.legacy);
    out.push_str(&format!(",\"logprobs\":null,\"finish_reason\":\"{reason}\"}}],\"usage\":"));
    usage::write(&mut out, &spent);
    if let Some(tier) = &report.service_tier {
        out.push_str(",\"service_tier\":");
        push_quoted(&mut out, service_tier(tier));
    }
    out.push_str(",\"system_fingerprint\":null}");
    Ok(out)
}

fn write_message(
    out: &mut String,
    message: &WholeMessage<'_>,
    said: &ChatContent<'_>,
    shape: &ChatShape,
) {
    out.push_str("{\"role\":\"assistant\",\"content\":");
    if said.content.is_empty() && !said.calls.is_empty() {
        out.push_str("null");
    } else {
        for piece in ["\"", &said.content, "\""] {
            out.push_str(piece);
        }
    }
    out.push_str(",\"refusal\":");
    let refused = message.stop_reason.as_deref() == Some("refusal");
    let explained = message
        .stop_details
        .as_ref()
        .and_then(|details| details.explanation.as_deref())
        .filter(|text| !text.is_empty());
    match (refused, explained) {
        (true, Some(explanation)) => push_quoted(out, explanation),
        (true, None) if !said.content.is_empty() => out.push_str(&format!("\"{}\"", said.content)),
        _ => out.push_str("null"),
    }
    out.push_str(&format!(",\"annotations\":[{}]", said.annotations.join(",")));
    match said.calls.first() {
        Some(call) if shape.legacy => out.push_str(&format!(",\"function_call\":{call}")),
        Some(_) => out.push_str(&format!(",\"tool_calls\":[{}]", said.calls.join(","))),
        None => {}
    }
    if !said.reasoning.is_empty() {
        out.push_str(&format!(",\"reasoning_content\":\"{}\"", said.reasoning));
    }
    if !said.thoughts.is_empty() {
        out.push_str(&format!(
            ",\"thinking_blocks\":[{}],\"thinking_model\":",
            said.thoughts.join(",")
        ));
        push_quoted(out, message.model.as_deref().unwrap_or_default());
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Names;

    #[track_caller]
    fn message(members: &str, shape: &ChatShape) -> serde_json::Value {
        let body = format!(r#"{{"id":"msg_1","type":"message","model":"claude-x",{members}}}"#);
        let stamp = ChatStamp { id: "own".into(), created: 7 };
        let completion: serde_json::Value =
            serde_json::from_str(&completion(body.as_bytes(), shape, &stamp).unwrap()).unwrap();
        assert_eq!(
            (&completion["id"], &completion["created"]),
            (&"chatcmpl-msg_1".into(), &7.into())
        );
        completion
    }

    #[track_caller]
    fn check(members: &str, expect: &str) {
        let completion = message(members, &ChatShape::default());
        assert_eq!(completion["choices"][0].to_string(), expect);
    }

    #[test]
    fn texts_are_joined() {
        check(
            r#""content":[{"type":"text","text":"a\u00fc"},{"type":"text","text":"b"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}"#,
            r#"{"index":0,"message":{"role":"assistant","content":"aüb","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}"#,
        );
        check(
            r#""content":[]"#,
            r#"{"index":0,"message":{"role":"assistant","content":"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}"#,
        );
    }

    #[test]
    fn tools_thoughts_and_what_the_upstream_ran() {
        check(
            r#""content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"d"},{"type":"server_tool_use","id":"x","name":"web_search","input":{}},{"type":"web_search_tool_result","content":[]},{"type":"tool_use","id":"t","name":"n","input":{"a": 1.0}},{"type":"tool_use","id":"u","name":"m"}],"stop_reason":"tool_use""#,
            r#"{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"annotations":[],"tool_calls":[{"id":"t","type":"function","function":{"name":"n","arguments":"{\"a\": 1.0}"}},{"id":"u","type":"function","function":{"name":"m","arguments":"{}"}}],"reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"d"}],"thinking_model":"claude-x"},"logprobs":null,"finish_reason":"tool_calls"}"#,
        );
    }

    #[test]
    fn citations_of_the_web_are_annotations() {
        check(
            r#""content":[{"type":"text","text":"ü🌊 "},{"type":"text","text":"cited","citations":[{"type":"web_search_result_location","url":"https://x","title":"X","cited_text":"c"},{"type":"char_location"}]}],"stop_reason":"end_turn""#,
            r#"{"index":0,"message":{"role":"assistant","content":"ü🌊 cited","refusal":null,"annotations":[{"type":"url_citation","url_citation":{"start_index":3,"end_index":8,"title":"X","url":"https://x"}}]},"logprobs":null,"finish_reason":"stop"}"#,
        );
    }

    #[test]
    fn a_refusal_says_why() {
        let refusal = |members: &str| {
            message(&format!("\"stop_reason\":\"refusal\",{members}"), &ChatShape::default())["choices"][0].clone()
        };
        let explained =
            refusal(r#""content":[],"stop_details":{"type":"refusal","explanation":"no \"x\""}"#);
        assert_eq!(
            (&explained["message"]["refusal"], &explained["finish_reason"]),
            (&"no \"x\"".into(), &"content_filter".into())
        );
        assert_eq!(
            refusal(r#""content":[{"type":"text","text":"I won't"}],"stop_details":null"#)["message"]
                ["refusal"],
            "I won't"
        );
        assert_eq!(refusal(r#""content":[]"#)["message"]["refusal"], serde_json::Value::Null);
    }

    #[test]
    fn rewritten_names_and_legacy_functions_come_back() {
        let mut names = Names::default();
        names.add("fs_read_1", "fs.read", None);
        let members = r#""content":[{"type":"tool_use","id":"t","name":"fs_read_1","input":{}}],"stop_reason":"tool_use""#;
        let modern = message(members, &ChatShape { names: names.clone(), ..ChatShape::default() });
        assert_eq!(modern["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "fs.read");
        let legacy = message(members, &ChatShape { names, legacy: true, ..ChatShape::default() });
        assert_eq!(
            legacy["choices"][0]["message"]["function_call"],
            serde_json::json!({"name": "fs.read", "arguments": "{}"})
        );
        assert_eq!(legacy["choices"][0]["finish_reason"], "function_call");
    }

    #[test]
    fn a_custom_call_is_text() {
        let shape = ChatShape { custom: ["patch".to_owned()].into(), ..ChatShape::default() };
        let completion = message(
            r#""content":[{"type":"tool_use","id":"t","name":"patch","input":{"input":"a\nb"}}],"stop_reason":"tool_use""#,
            &shape,
        );
        assert_eq!(
            completion["choices"][0]["message"]["tool_calls"][0],
            serde_json::json!({"id": "t", "type": "custom", "custom": {"name": "patch", "input": "a\nb"}})
        );
    }

    #[test]
    fn every_stop_reason() {
        for (reason, expect) in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("tool_use", "tool_calls"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("refusal", "content_filter"),
            ("pause_turn", "length"),
            ("compaction", "stop"),
            ("newer", "stop"),
        ] {
            assert_eq!(
                message(
                    &format!("\"content\":[],\"stop_reason\":\"{reason}\""),
                    &ChatShape::default()
                )["choices"][0]["finish_reason"],
                expect
            );
        }
    }

    #[test]
    fn tiers_are_renamed() {
        let tier = |tier: &str| {
            message(
                &format!("\"content\":[],\"usage\":{{\"service_tier\":\"{tier}\"}}"),
                &ChatShape::default(),
            )["service_tier"]
                .clone()
        };
        assert_eq!(
            [tier("standard"), tier("priority"), tier("batch")],
            ["default", "priority", "flex"]
        );
    }

    #[test]
    fn what_is_no_message_is_told() {
        let stamp = ChatStamp { id: "x".into(), created: 0 };
        for body in
            ["", "[]", "{}", "<html>", r#"{"type":"error","content":[]}"#, r#"{"content":[7]}"#]
        {
            assert!(completion(body.as_bytes(), &ChatShape::default(), &stamp).is_err(), "{body}");
        }
    }
}
