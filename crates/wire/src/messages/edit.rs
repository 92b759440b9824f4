//! Edits to a request that its owner configured, as pure functions of the original body.
//!
//! Each is named in a [`Change`] with the place it touched; that list is the
//! receipt. Nothing else is ever changed, and a request that none of them applies
//! to keeps its very bytes.

use std::borrow::Cow;

use crate::Request;
use crate::json::{Node, Patch, RawObject, quote};

/// One thing that was changed: an edit's name and the JSON path it touched, or, where a dialect was
/// translated, the member and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: Cow<'static, str>,
    pub path: String,
}

/// Text to add to the last user turn; another one where the request thinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix {
    /// The name on the receipt.
    pub name: String,
    pub plain: Option<String>,
    pub thinking: Option<String>,
}

/// What may be edited. The default edits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// The model to ask for instead, with the name on the receipt.
    pub model: Option<(Cow<'static, str>, String)>,
    /// Members to take out.
    pub drop: Vec<String>,
    /// Members to add where absent: name on the receipt, key, JSON text.
    pub set: Vec<(String, String, String)>,
    /// Texts to put before the system prompt, in this order: name on the receipt, text.
    pub system: Vec<(String, String)>,
    pub suffix: Option<Suffix>,
    /// Takes `ttl` out of every `cache_control`.
    pub strip_cache_ttl: bool,
    /// Leaves one of `temperature` and `top_p`.
    pub one_sampling_param: bool,
    /// Takes `strict` out of every tool.
    pub drop_strict_tools: bool,
    /// Asks for a stream although the client did not.
    pub force_stream: bool,
}

/// A body after its edits.
#[derive(Debug)]
pub struct Edited {
    /// `None`: send the original bytes.
    pub body: Option<String>,
    pub changes: Vec<Change>,
}

impl Edits {
    /// Edits `request`; the same request gives the same bytes every time.
    pub fn apply(&self, request: &Request<'_>) -> Edited {
        let mut work = Work {
            object: &request.object,
            patch: Patch::new(request.object.source()),
            gone: Vec::new(),
            new: Vec::new(),
            changes: Vec::new(),
        };
        self.drop_members(&mut work);
        self.replace_model(&mut work);
        self.set_members(&mut work);
        self.prefix_system(&mut work);
        self.add_suffix(&mut work);
        self.strip_ttl(&mut work);
        self.strip_strict(&mut work);
        self.stream(&mut work);
        work.finish()
    }

    fn drop_members(&self, work: &mut Work<'_>) {
        for key in self.drop.iter().filter(|key| work.object.get(key).is_some()) {
            work.gone.push(key.clone());
            work.note("drop", key);
        }
        if self.one_sampling_param {
            for key in superfluous_sampling(work) {
                work.gone.push(key.to_owned());
                work.note("one_sampling_param", key);
            }
        }
    }

    fn replace_model(&self, work: &mut Work<'_>) {
        let Some((name, model)) = &self.model else { return };
        match work.get("model") {
            Some(node) if node.as_str().as_deref() == Some(model) => return,
            Some(node) => work.patch.replace(node.range(), quote(model)),
            None => work.new.push(("model".into(), quote(model))),
        }
        work.note(name.clone(), "model");
    }

    fn set_members(&self, work: &mut Work<'_>) {
        for (name, key, raw) in &self.set {
            // A second sampling parameter would undo what `one_sampling_param` is for.
            let rival = match key.as_str() {
                "temperature" => "top_p",
                "top_p" => "temperature",
                _ => "",
            };
            if self.one_sampling_param && (work.get(rival).is_some() || work.added(rival).is_some())
            {
                continue;
            }
            if work.object.get(key).is_none() && work.added(key).is_none() {
                work.new.push((key.clone(), raw.clone()));
                work.note(name.clone(), key);
            }
        }
    }

    fn prefix_system(&self, work: &mut Work<'_>) {
        if self.system.is_empty() {
            return;
        }
        let blocks: Vec<String> = self.system.iter().map(|(_, text)| text_block(text)).collect();
        let blocks = blocks.join(",");
        match work.get("system") {
            None => match work.added("system") {
                Some(system) => *system = joined(&blocks, system),
                None => work.new.push(("system".into(), format!("[{blocks}]"))),
            },
            Some(node) if node.is_null() || node.raw() == "\"\"" => {
                work.patch.replace(node.range(), format!("[{blocks}]"));
            }
            Some(node) if node.is_string() => {
                work.patch
                    .insert(node.range().start, format!("[{blocks},{{\"type\":\"text\",\"text\":"));
                work.patch.insert(node.range().end, "}]");
            }
            Some(node) => {
                let Some(items) = node.as_array() else { return };
                insert_into_array(
                    &mut work.patch,
                    &node,
                    &items,
                    usize::from(attributed(&items)),
                    &blocks,
                );
            }
        }
        for (name, _) in &self.system {
            work.note(name.clone(), "system");
        }
    }

    fn add_suffix(&self, work: &mut Work<'_>) {
        let Some(suffix) = &self.suffix else { return };
        let Some(text) =
            (if thinks(work) { suffix.thinking.as_ref() } else { suffix.plain.as_ref() })
        else {
            return;
        };
        let messages = work.get("messages").and_then(|node| node.as_array()).unwrap_or_default();
        let last = messages.iter().enumerate().rev().find_map(|(index, message)| {
            let message = message.as_object()?;
            let user = message.get("role")?.as_str()? == "user";
            user.then(|| message.get("content").map(|content| (index, content)))?
        });
        let Some((index, content)) = last else { return };
        if content.is_string() {
            let quoted = quote(&format!("\n\n{text}"));
            work.patch.insert(content.range().end - 1, &quoted[1..quoted.len() - 1]);
        } else if let Some(items) = content.as_array() {
            insert_into_array(&mut work.patch, &content, &items, items.len(), &text_block(text));
        } else {
            return;
        }
        work.note(suffix.name.clone(), &format!("messages[{index}].content"));
    }

    fn strip_ttl(&self, work: &mut Work<'_>) {
        if !self.strip_cache_ttl
            || memchr::memmem::find(work.object.source().as_bytes(), b"\"ttl\"").is_none()
        {
            return;
        }
        if let Some(control) = work.get("cache_control") {
            work.strip_member(&control, "ttl", "strip_cache_ttl", "cache_control");
        }
        for key in ["system", "tools"] {
            work.blocks(work.get(key).as_ref(), key, &mut Work::strip_block_ttl);
        }
        for (index, message) in work.elements("messages") {
            let content = message.get("content");
            work.blocks(
                content.as_ref(),
                &format!("messages[{index}].content"),
                &mut Work::strip_block_ttl,
            );
        }
    }

    fn strip_strict(&self, work: &mut Work<'_>) {
        if !self.drop_strict_tools {
            return;
        }
        for (index, tool) in work.elements("tools") {
            if tool.get("strict").is_some() {
                work.patch.members(&tool, &["strict"], &[]);
                work.note("strict_tools", &format!("tools[{index}].strict"));
            }
            // As Chat has it.
            if let Some(function) = tool.get("function") {
                work.strip_member(
                    &function,
                    "strict",
                    "strict_tools",
                    &format!("tools[{index}].function"),
                );
            }
        }
    }

    fn stream(&self, work: &mut Work<'_>) {
        if !self.force_stream {
            return;
        }
        match work.get("stream") {
            Some(node) if node.as_bool() == Some(true) => return,
            Some(node) => work.patch.replace(node.range(), "true"),
            None => match work.added("stream") {
                Some(stream) => *stream = "true".into(),
                None => work.new.push(("stream".into(), "true".into())),
            },
        }
        work.note("stream", "stream");
    }
}

/// The edits of one request in the making.
struct Work<'a> {
    object: &'a RawObject<'a>,
    patch: Patch<'a>,
    gone: Vec<String>,
    new: Vec<(String, String)>,
    changes: Vec<Change>,
}

impl<'a> Work<'a> {
    /// A member that is there and stays.
    fn get(&self, key: &str) -> Option<Node<'a>> {
        self.object.get(key).filter(|_| !self.gone.iter().any(|gone| gone == key))
    }

    /// A member that was added already.
    fn added(&mut self, key: &str) -> Option<&mut String> {
        self.new.iter_mut().find(|(new, _)| new == key).map(|(_, raw)| raw)
    }

    /// The objects in an array member, with their places.
    fn elements(&self, key: &str) -> Vec<(usize, RawObject<'a>)> {
        let items = self.get(key).and_then(|node| node.as_array()).unwrap_or_default();
        items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some((index, item.as_object()?)))
            .collect()
    }

    fn note(&mut self, name: impl Into<Cow<'static, str>>, path: &str) {
        self.changes.push(Change { name: name.into(), path: path.to_owned() });
    }

    fn strip_member(&mut self, node: &Node<'a>, key: &str, name: &'static str, path: &str) {
        let Some(object) = node.as_object().filter(|object| object.get(key).is_some()) else {
            return;
        };
        self.patch.members(&object, &[key], &[]);
        self.note(name, &format!("{path}.{key}"));
    }

    /// Visits the blocks of a `content`-like array, and those nested in tool results.
    fn blocks(
        &mut self,
        array: Option<&Node<'a>>,
        path: &str,
        visit: &mut impl FnMut(&mut Self, &RawObject<'a>, &str),
    ) {
        let items = array.and_then(Node::as_array).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let Some(block) = item.as_object() else { continue };
            let path = format!("{path}[{index}]");
            visit(self, &block, &path);
            if let Some(nested) = block.get("content") {
                self.blocks(Some(&nested), &format!("{path}.content"), visit);
            }
            if let Some(nested) =
                block.get("source").and_then(|source| source.as_object()?.get("content"))
            {
                self.blocks(Some(&nested), &format!("{path}.source.content"), visit);
            }
        }
    }

    fn strip_block_ttl(&mut self, block: &RawObject<'a>, path: &str) {
        if let Some(control) = block.get("cache_control") {
            self.strip_member(&control, "ttl", "strip_cache_ttl", &format!("{path}.cache_control"));
        }
    }

    fn finish(mut self) -> Edited {
        let gone: Vec<&str> = self.gone.iter().map(String::as_str).collect();
        let new: Vec<(&str, &str)> =
            self.new.iter().map(|(key, raw)| (key.as_str(), raw.as_str())).collect();
        self.patch.members(self.object, &gone, &new);
        let body = (!self.patch.is_empty()).then(|| self.patch.apply());
        Edited { body, changes: self.changes }
    }
}

/// Which sampling parameters go, so that at most one stays. 1 is the default, so it says nothing.
fn superfluous_sampling(work: &Work<'_>) -> Vec<&'static str> {
    let temperature =
        work.get("temperature").filter(|node| !node.is_null()).map(|node| node.as_f64());
    let top_p = work.get("top_p").filter(|node| !node.is_null()).map(|node| node.as_f64());
    match (temperature, top_p) {
        (Some(Some(1.0)), Some(top_p)) if top_p != Some(1.0) => vec!["temperature"],
        (Some(_), Some(_)) | (None, Some(Some(1.0))) => vec!["top_p"],
        (Some(Some(1.0)), None) => vec!["temperature"],
        _ => vec![],
    }
}

fn thinks(work: &Work<'_>) -> bool {
    let kind = work
        .get("thinking")
        .and_then(|node| node.as_object())
        .and_then(|thinking| thinking.get("type")?.as_str());
    kind.is_some_and(|kind| kind != "disabled")
}

/// Claude Code opens `system` with a block that the API only understands in the very first place.
fn attributed(items: &[Node<'_>]) -> bool {
    let text =
        items.first().and_then(Node::as_object).and_then(|block| block.get("text")?.as_str());
    text.is_some_and(|text| text.starts_with("x-anthropic-billing-header:"))
}

fn insert_into_array(
    patch: &mut Patch<'_>,
    array: &Node<'_>,
    items: &[Node<'_>],
    at: usize,
    text: &str,
) {
    match (items.get(at), items.last()) {
        (Some(next), _) => patch.insert(next.range().start, format!("{text},")),
        (None, Some(last)) => patch.insert(last.range().end, format!(",{text}")),
        (None, None) => patch.insert(array.range().start + 1, text),
    }
}

/// Puts blocks before a system prompt that is a string or an array.
fn joined(blocks: &str, system: &str) -> String {
    match system.trim().strip_prefix('[') {
        Some(rest) if rest.trim_start().starts_with(']') => format!("[{blocks}]"),
        Some(rest) => format!("[{blocks},{rest}"),
        None => format!("[{blocks},{{\"type\":\"text\",\"text\":{system}}}]"),
    }
}

fn text_block(text: &str) -> String {
    format!("{{\"type\":\"text\",\"text\":{}}}", quote(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(edits: &Edits, body: &str, expect: &str, receipts: &[&str]) {
        let request = Request::parse(body.as_bytes()).unwrap();
        let edited = edits.apply(&request);
        let again = edits.apply(&request);
        assert_eq!(edited.body.as_deref().unwrap_or(body), expect);
        assert_eq!(edited.body, again.body, "a retry must send the same bytes");
        let notes: Vec<_> = edited
            .changes
            .iter()
            .map(|change| format!("{} {}", change.name, change.path))
            .collect();
        assert_eq!(notes, receipts);
        assert_eq!(edited.body.is_none(), receipts.is_empty());
    }

    #[test]
    fn no_edits_leave_the_very_bytes() {
        check(
            &Edits::default(),
            r#"{ "model" : "m", "x":1.0 }"#,
            r#"{ "model" : "m", "x":1.0 }"#,
            &[],
        );
    }

    #[test]
    fn an_alias_touches_the_model_alone() {
        let edits = Edits { model: Some(("alias".into(), "real".into())), ..Edits::default() };
        check(
            &edits,
            r#"{"a":{"model":"x"}, "model": "m" }"#,
            r#"{"a":{"model":"x"}, "model": "real" }"#,
            &["alias model"],
        );
        check(&edits, r#"{"model":"re\u0061l"}"#, r#"{"model":"re\u0061l"}"#, &[]);
        check(&edits, r#"{"a":1}"#, r#"{"a":1,"model":"real"}"#, &["alias model"]);
    }

    #[test]
    fn sampling_keeps_at_most_one() {
        let edits = Edits { one_sampling_param: true, ..Edits::default() };
        let table = [
            (
                r#"{"temperature":1,"top_p":1}"#,
                r#"{"temperature":1}"#,
                vec!["one_sampling_param top_p"],
            ),
            (
                r#"{"temperature":0.7,"top_p":1}"#,
                r#"{"temperature":0.7}"#,
                vec!["one_sampling_param top_p"],
            ),
            (
                r#"{"temperature":1,"top_p":0.5}"#,
                r#"{"top_p":0.5}"#,
                vec!["one_sampling_param temperature"],
            ),
            (
                r#"{"temperature":0.7,"top_p":0.5}"#,
                r#"{"temperature":0.7}"#,
                vec!["one_sampling_param top_p"],
            ),
            (r#"{"temperature":1}"#, r"{}", vec!["one_sampling_param temperature"]),
            (r#"{"top_p":1}"#, r"{}", vec!["one_sampling_param top_p"]),
            (r#"{"temperature":0.7}"#, r#"{"temperature":0.7}"#, vec![]),
        ];
        for (body, expect, receipts) in table {
            check(&edits, body, expect, &receipts);
        }
    }

    #[test]
    fn ttl_goes_everywhere_and_nowhere_else() {
        let edits = Edits { strip_cache_ttl: true, ..Edits::default() };
        let with = r#"{"cache_control":{"ttl":"1h","type":"e"},"system":[{"cache_control":{"type":"e","ttl":"1h"}}],"tools":[{"input_schema":{"cache_control":{"ttl":1}},"cache_control":{"ttl":"5m"}}],"messages":[{"content":"ttl"},{"content":[{"type":"tool_result","content":[{"cache_control":{"type":"e" , "ttl":"1h"}}]},{"type":"tool_use","input":{"cache_control":{"ttl":1}}}]}]}"#;
        let without = r#"{"cache_control":{"type":"e"},"system":[{"cache_control":{"type":"e"}}],"tools":[{"input_schema":{"cache_control":{"ttl":1}},"cache_control":{}}],"messages":[{"content":"ttl"},{"content":[{"type":"tool_result","content":[{"cache_control":{"type":"e"}}]},{"type":"tool_use","input":{"cache_control":{"ttl":1}}}]}]}"#;
        let receipts = [
            "strip_cache_ttl cache_control.ttl",
            "strip_cache_ttl system[0].cache_control.ttl",
            "strip_cache_ttl tools[0].cache_control.ttl",
            "strip_cache_ttl messages[1].content[0].content[0].cache_control.ttl",
        ];
        check(&edits, with, without, &receipts);
        check(&edits, without, without, &[]);
    }

    #[test]
    fn ttl_goes_inside_documents_too() {
        let edits = Edits { strip_cache_ttl: true, ..Edits::default() };
        check(
            &edits,
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"content","content":[{"cache_control":{"ttl":"1h"}}]}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"content","content":[{"cache_control":{}}]}}]}]}"#,
            &["strip_cache_ttl messages[0].content[0].source.content[0].cache_control.ttl"],
        );
    }

    #[test]
    fn a_system_prefix_makes_blocks_of_any_system() {
        let edits = Edits {
            system: vec![("system_prefix".into(), "P".into()), ("preset:x".into(), "Q".into())],
            ..Edits::default()
        };
        let both = r#"{"type":"text","text":"P"},{"type":"text","text":"Q"}"#;
        let receipts = ["system_prefix system", "preset:x system"];
        let table = [
            (r"{}".to_owned(), format!(r#"{{"system":[{both}]}}"#)),
            (r#"{"system":null}"#.to_owned(), format!(r#"{{"system":[{both}]}}"#)),
            (r#"{"system":""}"#.to_owned(), format!(r#"{{"system":[{both}]}}"#)),
            (
                r#"{"system": "a\"" }"#.to_owned(),
                format!(r#"{{"system": [{both},{{"type":"text","text":"a\""}}] }}"#),
            ),
            (r#"{"system":[]}"#.to_owned(), format!(r#"{{"system":[{both}]}}"#)),
            (
                r#"{"system":[{"text":"a"}]}"#.to_owned(),
                format!(r#"{{"system":[{both},{{"text":"a"}}]}}"#),
            ),
            (
                r#"{"system":[{"text":"x-anthropic-billing-header: a"},{"text":"b"}]}"#.to_owned(),
                format!(
                    r#"{{"system":[{{"text":"x-anthropic-billing-header: a"}},{both},{{"text":"b"}}]}}"#
                ),
            ),
            (
                r#"{"system":[{"text":"x-anthropic-billing-header: a"}]}"#.to_owned(),
                format!(r#"{{"system":[{{"text":"x-anthropic-billing-header: a"}},{both}]}}"#),
            ),
        ];
        for (body, expect) in table {
            check(&edits, &body, &expect, &receipts);
        }
    }

    #[test]
    fn a_suffix_joins_the_last_user_turn() {
        let suffix = Suffix {
            name: "preset:x".into(),
            plain: Some("S".into()),
            thinking: Some("T\n".into()),
        };
        let edits = Edits { suffix: Some(suffix), ..Edits::default() };
        check(
            &edits,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            r#"{"messages":[{"role":"user","content":"a\n\nS"},{"role":"assistant","content":"b"}]}"#,
            &["preset:x messages[0].content"],
        );
        check(
            &edits,
            r#"{"thinking":{"type":"adaptive"},"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}"#,
            r#"{"thinking":{"type":"adaptive"},"messages":[{"role":"user","content":[{"type":"tool_result"},{"type":"text","text":"T\n"}]}]}"#,
            &["preset:x messages[0].content"],
        );
        check(&edits, r#"{"messages":[]}"#, r#"{"messages":[]}"#, &[]);
    }

    #[test]
    fn edits_know_of_each_other() {
        let set = |key: &str, raw: &str| ("set".to_owned(), key.to_owned(), raw.to_owned());
        let edits = Edits {
            set: vec![
                set("system", r#""S""#),
                set("stream", "false"),
                set("temperature", "0.5"),
                set("top_p", "0.5"),
            ],
            system: vec![("system_prefix".into(), "P".into())],
            one_sampling_param: true,
            force_stream: true,
            ..Edits::default()
        };
        check(
            &edits,
            r#"{"model":"m"}"#,
            r#"{"model":"m","system":[{"type":"text","text":"P"},{"type":"text","text":"S"}],"stream":true,"temperature":0.5}"#,
            &[
                "set system",
                "set stream",
                "set temperature",
                "system_prefix system",
                "stream stream",
            ],
        );
        check(
            &edits,
            r#"{"top_p":0.9,"stream":true}"#,
            r#"{"top_p":0.9,"stream":true,"system":[{"type":"text","text":"P"},{"type":"text","text":"S"}]}"#,
            &["set system", "system_prefix system"],
        );
    }

    #[test]
    fn strict_goes_from_tools_in_either_dialect() {
        check(
            &Edits { drop_strict_tools: true, ..Edits::default() },
            r#"{"tools":[{"type":"function","function":{"name":"n","strict":true}},{"name":"o","strict":false},{"function":7}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"n"}},{"name":"o"},{"function":7}]}"#,
            &["strict_tools tools[0].function.strict", "strict_tools tools[1].strict"],
        );
    }

    #[test]
    fn edits_of_one_request_do_not_meet() {
        let edits = Edits {
            model: Some(("alias".into(), "real".into())),
            drop: vec!["system".into(), "metadata".into(), "absent".into()],
            set: vec![
                ("set".into(), "max_tokens".into(), "9".into()),
                ("set".into(), "a".into(), "0".into()),
            ],
            system: vec![("system_prefix".into(), "P".into())],
            drop_strict_tools: true,
            force_stream: true,
            ..Edits::default()
        };
        check(
            &edits,
            r#"{"system":"gone","model":"m","tools":[{"strict":true,"name":"n"},{"name":"o"}],"stream":false,"a":1,"metadata":{}}"#,
            r#"{"model":"real","tools":[{"name":"n"},{"name":"o"}],"stream":true,"a":1,"max_tokens":9,"system":[{"type":"text","text":"P"}]}"#,
            &[
                "drop system",
                "drop metadata",
                "alias model",
                "set max_tokens",
                "system_prefix system",
                "strict_tools tools[0].strict",
                "stream stream",
            ],
        );
    }
}
