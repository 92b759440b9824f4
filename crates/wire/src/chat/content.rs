//! The messages of a Chat request, one by one, as turns and blocks.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::Fault;
use crate::json::{Node, RawObject, Text};
use crate::notes::Notes;
use crate::openai::conversation::{Block, Call, Content, Kind, Role, ToolResult};
use crate::openai::draft::{Draft, mark_of};
use crate::openai::tools::arguments;
use crate::openai::{Terms, is_another_model, media, names};
use crate::read::{Path, array, member, object, string, text, unsupported, verbatim, wrong};

/// Which parts a message may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Text,
    TextAndRefusals,
    Anything,
}

/// Reads all messages into the draft's conversation.
pub(super) fn converse<'a>(draft: &mut Draft<'a>, betas: &mut Vec<String>, list: &Node<'a>, terms: &Terms<'_>) -> Result<(), Fault> {
    const PATH: Path<'_> = Path::of("messages");
    let messages = array(list, PATH)?;
    if messages.is_empty() {
        return Err(wrong(PATH, "expected at least one message"));
    }
    let mut reader = Reader { draft, betas, terms, legacy: Legacy::default() };
    for (at, node) in messages.iter().enumerate() {
        let path = PATH.at(at);
        reader.message(&object(node, path)?, path, at)?;
    }
    Ok(())
}

/// The ids that legacy calls get, since they have none. Paired in order.
#[derive(Default)]
struct Legacy {
    made: usize,
    open: VecDeque<String>,
}

struct Reader<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    betas: &'d mut Vec<String>,
    terms: &'d Terms<'t>,
    legacy: Legacy,
}

impl<'a> Reader<'_, 'a, '_> {
    fn message(&mut self, message: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let role = member(message, "role").ok_or_else(|| wrong(path.key("role"), "field required"))?;
        let role = string(&role, path.key("role"))?;
        self.unknown(message, &role)?;
        match &*role {
            "system" | "developer" => self.said(message, path, Role::System, Parts::Text),
            "user" => self.said(message, path, Role::User, Parts::Anything),
            "assistant" => self.assistant(message, path, at),
            "tool" => {
                let id = member(message, "tool_call_id").ok_or_else(|| wrong(path.key("tool_call_id"), "field required"))?;
                let id = string(&id, path.key("tool_call_id"))?;
                self.result(message, names::call_id(id), path, at)
            }
            "function" => {
                let id = self.legacy.open.pop_front().ok_or_else(|| wrong(path, "there is no `function_call` before it that waits for a result"))?;
                self.result(message, Cow::Owned(id), path, at)
            }
            other => Err(wrong(path.key("role"), format!("`{other}` is no role; expected `system`, `developer`, `user`, `assistant` or `tool`"))),
        }
    }

    /// Notes members that Messages has nothing for, or that have no place in this role.
    fn unknown(&mut self, message: &RawObject<'a>, role: &str) -> Result<(), Fault> {
        let own: &[&str] = match role {
            "assistant" => &["tool_calls", "function_call", "refusal", "thinking_blocks", "thinking_model", "audio"],
            // The name is its call's.
            "tool" => &["tool_call_id", "name"],
            "function" => &["name"],
            _ => &[],
        };
        // A thought's text is in its block as well.
        let thoughts = role == "assistant" && member(message, "thinking_blocks").is_some();
        for (key, node) in message.members() {
            // Annotations are our own, made from what the text says.
            let known = ["role", "content", "cache_control", "annotations"].contains(&key) || own.contains(&key) || (thoughts && key == "reasoning_content");
            let empty = matches!(node.raw(), "null" | "\"\"" | "[]" | "{}");
            if !known && !empty {
                self.draft.notes.ignored(format!("messages.{key}"))?;
            }
        }
        Ok(())
    }

    /// A message that is its content.
    fn said(&mut self, message: &RawObject<'a>, path: Path<'_>, role: Role, parts: Parts) -> Result<(), Fault> {
        let blocks = self.content(message, path, parts)?;
        self.push(role, blocks, message, path)
    }

    /// Adds a message's blocks; a mark on the message is one on its last block that can have one.
    fn push(&mut self, role: Role, mut blocks: Vec<Block<'a>>, message: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let last = blocks.iter_mut().rev().find(|block| !matches!(block.kind, Kind::Thought(_)));
        if let (Some(node), Some(last)) = (member(message, "cache_control"), last) {
            last.mark = Some(verbatim(&node, path.key("cache_control"))?);
        }
        for block in blocks {
            self.draft.conversation.push(role, block);
        }
        Ok(())
    }

    fn assistant(&mut self, message: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        if member(message, "audio").is_some() {
            return Err(unsupported(path.key("audio"), "Claude cannot hear what it is said to have spoken; send its transcript as `content`"));
        }
        let mut blocks = self.thoughts(message, path)?;
        if blocks.is_empty() {
            blocks = self.thoughts_in_parts(message, path)?;
        }
        let spoken = self.content(message, path, Parts::TextAndRefusals)?;
        if let Some(node) = member(message, "refusal") {
            let refusal = text(&node, path.key("refusal"))?;
            // Our own answers say a refusal twice where the upstream did not explain it.
            let repeated = matches!(spoken.as_slice(), [Block { kind: Kind::Text(said), .. }] if said.decoded() == refusal.decoded());
            blocks.extend(spoken);
            if !repeated && !refusal.is_blank() {
                blocks.push(Block::new(Kind::Text(refusal)));
            }
        } else {
            blocks.extend(spoken);
        }
        if let Some(node) = member(message, "tool_calls") {
            let path = path.key("tool_calls");
            for (index, call) in array(&node, path)?.iter().enumerate() {
                blocks.push(call_of(call, path.at(index), at, &mut self.draft.notes)?);
            }
        }
        if let Some(node) = member(message, "function_call") {
            let path = path.key("function_call");
            self.legacy.made += 1;
            let id = format!("call_legacy_{}", self.legacy.made);
            self.legacy.open.push_back(id.clone());
            blocks.push(Block::new(Kind::Call(function(&object(&node, path)?, Cow::Owned(id), path, at, &mut self.draft.notes)?)));
        }
        self.push(Role::Assistant, blocks, message, path)
    }

    /// Thinking that the client sends back, word for word, unless another model thought it.
    fn thoughts(&mut self, message: &RawObject<'a>, path: Path<'_>) -> Result<Vec<Block<'a>>, Fault> {
        let Some(node) = member(message, "thinking_blocks") else { return Ok(Vec::new()) };
        let path = path.key("thinking_blocks");
        let thinker = member(message, "thinking_model").and_then(|node| node.as_str());
        let foreign = thinker.is_some_and(|thinker| is_another_model(&thinker, self.terms.model));
        let mut blocks = Vec::new();
        for (index, node) in array(&node, path)?.iter().enumerate() {
            let path = path.at(index);
            let thought = object(node, path)?;
            let kind = member(&thought, "type").map(|node| string(&node, path)).transpose()?;
            let sealed = |key: &str| member(&thought, key).is_some_and(|node| node.is_string() && node.raw() != "\"\"");
            let usable = match kind.as_deref() {
                Some("thinking") => sealed("signature"),
                Some("redacted_thinking") => sealed("data"),
                _ => return Err(wrong(path, "expected a block of type `thinking` or `redacted_thinking`")),
            };
            if foreign || !usable {
                self.draft.notes.left_out("messages.thinking_blocks")?;
            } else {
                blocks.push(Block::new(Kind::Thought(verbatim(node, path)?)));
            }
        }
        Ok(blocks)
    }

    /// The same from a part: some clients spread our message over the parts of theirs.
    fn thoughts_in_parts(&mut self, message: &RawObject<'a>, path: Path<'_>) -> Result<Vec<Block<'a>>, Fault> {
        let path = path.key("content");
        for (index, part) in member(message, "content").and_then(|node| node.as_array()).unwrap_or_default().iter().enumerate() {
            let Some(part) = part.as_object().filter(|part| member(part, "thinking_blocks").is_some()) else { continue };
            return self.thoughts(&part, path.at(index));
        }
        Ok(Vec::new())
    }

    fn result(&mut self, message: &RawObject<'a>, id: Cow<'a, str>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let plain = member(message, "content").filter(Node::is_string);
        let (content, mark) = if let Some(node) = plain {
            (Content::Text(text(&node, path.key("content"))?), None)
        } else {
            let mut blocks = self.content(message, path, Parts::Anything)?;
            let mark = blocks.iter_mut().fold(None, |last, block| block.mark.take().or(last));
            (if blocks.is_empty() { Content::Text(Text::quoted("")) } else { Content::Blocks(blocks) }, mark)
        };
        let block = Block { kind: Kind::Result(ToolResult { id, content, at }), mark };
        self.push(Role::User, vec![block], message, path)
    }

    /// What a message says: a string or parts. Blank text vanishes.
    fn content(&mut self, message: &RawObject<'a>, path: Path<'_>, allowed: Parts) -> Result<Vec<Block<'a>>, Fault> {
        let Some(node) = member(message, "content") else { return Ok(Vec::new()) };
        let path = path.key("content");
        if node.is_string() {
            let said = text(&node, path)?;
            return Ok(if said.is_blank() { Vec::new() } else { vec![Block::new(Kind::Text(said))] });
        }
        let Some(parts) = node.as_array() else { return Err(wrong(path, "expected a string or a list of parts")) };
        let mut blocks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            blocks.extend(self.part(part, path.at(index), allowed)?);
        }
        Ok(blocks)
    }

    fn part(&mut self, node: &Node<'a>, path: Path<'_>, allowed: Parts) -> Result<Option<Block<'a>>, Fault> {
        let part = object(node, path)?;
        let at = |key: &'static str| path.key(key);
        let kind = member(&part, "type").ok_or_else(|| wrong(at("type"), "field required"))?;
        let kind = string(&kind, at("type"))?;
        let required = |key: &'static str| member(&part, key).ok_or_else(|| wrong(at(key), "field required"));
        let anything = allowed == Parts::Anything;
        let kind = match &*kind {
            "text" => said(&required("text")?, at("text"))?,
            "refusal" if allowed == Parts::TextAndRefusals => said(&required("refusal")?, at("refusal"))?,
            "image_url" if anything => Some(Kind::Media(image(&required("image_url")?, at("image_url"), &mut self.draft.notes)?)),
            "file" if anything => Some(Kind::Media(self.file(&required("file")?, at("file"))?)),
            "input_audio" => return Err(unsupported(at("type"), "Claude does not hear audio; send a transcript as text")),
            other if anything => return Err(unsupported(at("type"), format!("parts of type `{other}` are not supported; expected `text`, `image_url` or `file`"))),
            other => return Err(unsupported(at("type"), format!("parts of type `{other}` are not supported in this role; expected `text`"))),
        };
        self.draft.notes.unknown(&part, if allowed == Parts::TextAndRefusals { &SPREAD } else { &PART }, "messages.content")?;
        let mark = mark_of(&part, path)?;
        Ok(kind.map(|kind| Block { kind, mark }))
    }

    fn file(&mut self, node: &Node<'a>, path: Path<'_>) -> Result<String, Fault> {
        let file = object(node, path)?;
        let at = |key: &'static str| path.key(key);
        self.draft.notes.unknown(&file, &["filename", "file_data", "file_id"], "messages.content.file")?;
        let name = member(&file, "filename").map(|node| string(&node, at("filename"))).transpose()?;
        if let Some(node) = member(&file, "file_data") {
            return media::file(&string(&node, at("file_data"))?, name.as_deref(), at("file_data"));
        }
        let Some(node) = member(&file, "file_id") else { return Err(wrong(at("file_data"), "field required")) };
        let block = media::kept_file(&string(&node, at("file_id"))?, at("file_id"))?;
        if !self.betas.iter().any(|beta| beta == media::FILES_BETA) {
            self.betas.push(media::FILES_BETA.to_owned());
        }
        Ok(block)
    }
}

/// The members of a part.
const PART: [&str; 7] = ["type", "text", "refusal", "image_url", "file", "cache_control", "prompt_cache_breakpoint"];

/// The members of an assistant's part, with those of our own messages that clients spread over it.
const SPREAD: [&str; 14] = [
    "type",
    "text",
    "refusal",
    "image_url",
    "file",
    "cache_control",
    "prompt_cache_breakpoint",
    "role",
    "annotations",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "thinking_blocks",
    "thinking_model",
];

fn said<'a>(node: &Node<'a>, path: Path<'_>) -> Result<Option<Kind<'a>>, Fault> {
    let said = text(node, path)?;
    Ok((!said.is_blank()).then_some(Kind::Text(said)))
}

/// An image, by an object or by its URL alone.
fn image(node: &Node<'_>, path: Path<'_>, notes: &mut Notes) -> Result<String, Fault> {
    if node.is_string() {
        return media::image(&string(node, path)?, path);
    }
    let holder = object(node, path)?;
    let path = path.key("url");
    let url = member(&holder, "url").ok_or_else(|| wrong(path, "field required"))?;
    let said = member(&holder, "detail").is_some_and(|detail| detail.raw() != "\"auto\"");
    notes.unknown(&holder, if said { &["url"] } else { &["url", "detail"] }, "messages.content.image_url")?;
    media::image(&string(&url, path)?, path)
}
fn call_of<'a>(node: &Node<'a>, path: Path<'_>, at: usize, notes: &mut Notes) -> Result<Block<'a>, Fault> {
    let call = object(node, path)?;
    let kind = member(&call, "type").map(|node| string(&node, path.key("type"))).transpose()?;
    if let Some(other) = kind.filter(|kind| kind != "function") {
        return Err(unsupported(path.key("type"), format!("calls of type `{other}` are not supported; expected `function`")));
    }
    notes.unknown(&call, &["id", "type", "function", "index", "cache_control"], "messages.tool_calls")?;
    let mark = mark_of(&call, path)?;
    let required = |key: &str| member(&call, key).ok_or_else(|| wrong(path.key(key), "field required"));
    let id = string(&required("id")?, path.key("id"))?;
    let path = path.key("function");
    let call = function(&object(&required("function")?, path)?, names::call_id(id), path, at, notes)?;
    Ok(Block { kind: Kind::Call(call), mark })
}

fn function<'a>(function: &RawObject<'a>, id: Cow<'a, str>, path: Path<'_>, at: usize, notes: &mut Notes) -> Result<Call<'a>, Fault> {
    notes.unknown(function, &["name", "arguments"], "messages.tool_calls.function")?;
    let name = member(function, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
    let name = string(&name, path.key("name"))?;
    if name.is_empty() {
        return Err(wrong(path.key("name"), "a tool has to have a name"));
    }
    Ok(Call { id, name: names::tool(name), input: arguments(function, path.key("arguments"))?, at })
}

#[cfg(test)]
mod tests {
    use crate::model::Traits;
    use crate::openai::Terms;
    use crate::{Request, chat};

    const MODEL: &str = "claude-haiku-4-5";

    fn translated(messages: &str, strict: bool) -> Result<(String, String), String> {
        let body = format!("{{\"model\":\"x\",\"max_tokens\":9,\"messages\":{messages}}}");
        let request = Request::parse(body.as_bytes()).unwrap();
        let terms = Terms { model: MODEL, traits: Traits::of(MODEL), strict, max_tokens: None, marked: false, web_search: None };
        let translated = chat::to_messages(&request, &terms).map_err(|fault| fault.message.into_owned())?;
        let value: serde_json::Value = serde_json::from_str(&translated.body).unwrap();
        let notes: Vec<String> = translated.changes.iter().map(|change| format!("{} {}", change.name, change.path)).collect();
        Ok((format!("{}{}", value["system"], value["messages"]).replace("null", ""), notes.join(", ")))
    }

    #[track_caller]
    fn becomes(messages: &str, expect: &str) {
        assert_eq!(translated(messages, true).unwrap().0, expect);
    }

    #[track_caller]
    fn refused(messages: &str, expect: &str) {
        let came = translated(messages, true).unwrap_err();
        assert!(came.contains(expect), "{came}");
    }

    #[test]
    fn every_role() {
        becomes(
            r#"[{"role":"developer","content":"d"},{"role":"system","content":[{"type":"text","text":"s"},{"type":"text","text":" "}]},{"role":"user","content":"u"}]"#,
            r#"[{"type":"text","text":"d"},{"type":"text","text":"s"}][{"role":"user","content":[{"type":"text","text":"u"}]}]"#,
        );
        becomes(
            r#"[{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"a":1.0}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
        refused(r#"[{"role":"robot","content":"u"}]"#, "messages[0].role: `robot` is no role");
        refused(r#"[{"content":"u"}]"#, "messages[0].role: field required");
        refused(r#"["u"]"#, "messages[0]: expected an object");
        refused("[]", "messages: expected at least one message");
    }

    #[test]
    fn legacy_calls_are_paired_in_order() {
        becomes(
            r#"[{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"1"},{"role":"assistant","function_call":{"name":"g","arguments":"7"}},{"role":"function","name":"g","content":"2"}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"call_legacy_1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_legacy_1","content":"1"}]},{"role":"assistant","content":[{"type":"tool_use","id":"call_legacy_2","name":"g","input":{"value":7}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_legacy_2","content":"2"}]}]"#,
        );
        refused(r#"[{"role":"function","name":"f","content":"1"}]"#, "no `function_call` before it");
    }

    #[test]
    fn thinking_goes_first_and_untouched() {
        let thought = r#"{ "type":"thinking", "thinking":"","signature":"s" }"#;
        let message =
            |more: &str| format!(r#"[{{"role":"user","content":"u"}},{{"role":"assistant","content":"a","thinking_blocks":[{thought}]{more}}},{{"role":"user","content":"v"}}]"#);
        becomes(
            &message(""),
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"s"},{"type":"text","text":"a"}]},{"role":"user","content":[{"type":"text","text":"v"}]}]"#,
        );
        assert_eq!(translated(&message(r#","thinking_model":"claude-haiku-4-5-20251001","reasoning_content":"x""#), true).unwrap().1, "");
        assert_eq!(translated(&message(r#","thinking_model":"claude-opus-5-5""#), false).unwrap().1, "messages.thinking_blocks left out");
        refused(r#"[{"role":"assistant","thinking_blocks":[{"type":"text"}]}]"#, "messages[0].thinking_blocks[0]: expected a block of type");
    }

    #[test]
    fn a_message_of_ours_that_is_spread_over_a_part_keeps_its_thoughts() {
        becomes(
            r#"[{"role":"user","content":"u"},{"role":"assistant","content":[{"type":"text","text":"k","role":"assistant","annotations":[],"reasoning_content":"h","thinking_blocks":[{"type":"thinking","thinking":"h","signature":"s"}],"thinking_model":"claude-haiku-4-5"}]},{"role":"user","content":"v"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"text","text":"k"}]},{"role":"user","content":[{"type":"text","text":"v"}]}]"#,
        );
    }

    #[test]
    fn marks_stay_with_their_blocks() {
        becomes(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]},{"role":"tool","tool_call_id":"1","content":"r","name":"f"}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{},"cache_control":{"type":"ephemeral"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
        becomes(
            r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b","prompt_cache_breakpoint":{}}]},{"role":"user","content":"c","cache_control":{"type":"ephemeral"}}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}},{"type":"text","text":"c","cache_control":{"type":"ephemeral"}}]}]"#,
        );
    }

    #[test]
    fn there_are_never_more_than_four_marks() {
        let part = r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}"#;
        let parts = [part; 6].join(",");
        let (body, _) = translated(
            &format!(r#"[{{"role":"user","content":[{parts}]}},{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f"}}}}],"cache_control":{{}},"thinking_blocks":[{{"type":"thinking","signature":"s"}}]}},{{"role":"tool","tool_call_id":"1","content":[{parts}]}},{{"role":"assistant","thinking_blocks":[{{"type":"thinking","signature":"s"}}],"cache_control":{{}}}},{{"role":"user","content":"y"}}]"#),
            false,
        )
        .unwrap();
        assert_eq!(body.matches("cache_control").count(), 4, "{body}");
        assert!(!body.contains(r#""signature":"s","cache_control""#), "{body}");
    }

    #[test]
    fn what_says_nothing_vanishes_and_what_is_lost_is_noted() {
        let noted = |messages: &str| translated(messages, false).unwrap().1;
        assert_eq!(
            noted(
                r#"[{"role":"user","content":"u","name":"n"},{"role":"assistant","content":"","reasoning_content":"r","annotations":[]},{"role":"user","content":"v","name":"m"}]"#
            ),
            "messages.name ignored, messages.reasoning_content ignored"
        );
        assert_eq!(noted(r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x","detail":"low"}}]}]"#), "messages.content.image_url.detail ignored");
        assert_eq!(noted(r#"[{"role":"user","content":"u","tool_calls":[1],"audio":{"id":"x"}}]"#), "messages.tool_calls ignored, messages.audio ignored");
        assert_eq!(
            noted(r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","new":1,"function":{"name":"f","more":2}}]},{"role":"tool","tool_call_id":"1"}]"#),
            "messages.tool_calls.new ignored, messages.tool_calls.function.more ignored"
        );
        refused(r#"[{"role":"user","content":"u","name":"n"}]"#, "messages.name: would be ignored");
    }

    #[test]
    fn parts_that_cannot_be_are_refused() {
        refused(r#"[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]"#, "messages[0].content[0].type: Claude does not hear");
        refused(r#"[{"role":"user","content":[{"type":"video"}]}]"#, "parts of type `video` are not supported");
        refused(r#"[{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]"#, "not supported in this role");
        refused(r#"[{"role":"user","content":7}]"#, "messages[0].content: expected a string or a list of parts");
        refused(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}]}]"#,
            "messages[0].tool_calls[0].function.arguments: not valid JSON",
        );
        let deep = "[".repeat(1000);
        refused(
            &format!(r#"[{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":"{deep}"}}}}]}}]"#),
            "arguments: not valid JSON: nested too deeply",
        );
        refused(r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{}}]}]"#, "calls of type `custom`");
    }

    #[test]
    fn foreign_ids_are_rewritten_alike() {
        let (body, _) = translated(
            r#"[{"role":"assistant","tool_calls":[{"id":"call|1","type":"function","function":{"name":"fs.read"}}]},{"role":"tool","tool_call_id":"call|1","content":[{"type":"text","text":"r"}]}]"#,
            true,
        )
        .unwrap();
        assert!(body.contains(r#""id":"call_1_c26e9779d7""#) && body.contains(r#""tool_use_id":"call_1_c26e9779d7""#), "{body}");
    }
}
