//! What a conversation is known by: a hash of what was said in it, whoever sends it back.
//!
//! Clients spell the same turn in different ways: a text or a list with one text, numbers and
//! member order of tool arguments, thinking that they keep or leave out. What is said the
//! same has the same print, so that the program that has heard it can go on.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ask::{Ask, AskedRole};

/// The print of a conversation so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Print([u8; 32]);

impl Print {
    /// The print of what stands before any turn: model, system prompt and tools.
    fn begin(ask: &Ask<'_>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(ask.model.as_bytes());
        for text in &ask.system {
            hasher.update(b"\0s");
            hasher.update(text.decoded().as_bytes());
        }
        let mut tools: Vec<&str> = ask.tools.iter().map(|tool| tool.manifest.as_str()).collect();
        tools.sort_unstable();
        for tool in tools {
            hasher.update(b"\0t");
            hasher.update(tool.as_bytes());
        }
        Self(hasher.finalize().into())
    }

    /// The print after one more turn; `blocks` is a list as JSON.
    pub fn then(self, role: AskedRole, blocks: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(role.name().as_bytes());
        hasher.update(said(role, blocks).as_bytes());
        Self(hasher.finalize().into())
    }

    /// As text, for the store.
    pub fn text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Print::text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        (text.len() == 64).then_some(Self(bytes))
    }
}

/// The prints of a conversation: before its first message, and after each.
pub fn fingerprints(ask: &Ask<'_>) -> Vec<Print> {
    let mut prints = vec![Print::begin(ask)];
    for message in &ask.messages {
        let last = prints[prints.len() - 1];
        prints.push(last.then(message.role, &message.blocks));
    }
    prints
}

/// What a turn says, in one spelling.
fn said(role: AskedRole, blocks: &str) -> String {
    let Ok(Value::Array(blocks)) = serde_json::from_str(blocks) else { return blocks.to_owned() };
    let (mut out, mut text) = (String::new(), String::new());
    for block in &blocks {
        match block["type"].as_str() {
            Some("text") if block["citations"].as_array().is_none_or(Vec::is_empty) => {
                text.push_str(block["text"].as_str().unwrap_or_default());
            }
            // Some clients send it back, some do not; it was heard either way.
            Some("thinking" | "redacted_thinking") if role == AskedRole::Assistant => {}
            _ => {
                flush(&mut out, &mut text, role);
                out.push('\u{1}');
                write(&mut out, block);
            }
        }
    }
    flush(&mut out, &mut text, role);
    out
}

fn flush(out: &mut String, text: &mut String, role: AskedRole) {
    // Clients trim what the model said before they keep it.
    let text = std::mem::take(text);
    let kept = if role == AskedRole::Assistant { text.trim() } else { &text };
    if !kept.is_empty() {
        out.push('\u{2}');
        out.push_str(kept);
    }
}

/// Writes JSON with its members in order and without those that say nothing.
fn write(out: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            let silent = |key: &str, value: &Value| {
                key == "cache_control"
                    || value.is_null()
                    || (key == "is_error" && value == &Value::Bool(false))
                    || (key == "caller" && value["type"] == "direct")
            };
            let sorted: BTreeMap<&String, &Value> =
                members.iter().filter(|(key, value)| !silent(key, value)).collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&Value::String(key.clone()).to_string());
                match value {
                    // A text is a list with one text.
                    Value::String(text) if key == "content" => {
                        write(out, &serde_json::json!([{"type": "text", "text": text}]));
                    }
                    value => write(out, value),
                }
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write(out, item);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(role: AskedRole, blocks: &str) -> Print {
        Print([7; 32]).then(role, blocks)
    }

    #[test]
    fn the_same_said_otherwise_is_the_same() {
        let same = [
            (
                AskedRole::User,
                r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#,
                r#"[{"text":"ab","type":"text","cache_control":{}}]"#,
            ),
            (
                AskedRole::Assistant,
                r#"[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a "}]"#,
                r#"[{"type":"text","text":"a"}]"#,
            ),
            (
                AskedRole::Assistant,
                r#"[{"type":"tool_use","id":"i","name":"n","input":{"a":1,"b":"x"}}]"#,
                r#"[{"type":"tool_use","name":"n","id":"i","input":{"b":"x", "a":1},"caller":{"type":"direct"}}]"#,
            ),
            (
                AskedRole::User,
                r#"[{"type":"tool_result","tool_use_id":"i","content":"x"}]"#,
                r#"[{"type":"tool_result","tool_use_id":"i","is_error":false,"content":[{"type":"text","text":"x"}]}]"#,
            ),
        ];
        for (role, one, other) in same {
            assert_eq!(print(role, one), print(role, other), "{one}");
        }
    }

    #[test]
    fn what_is_said_differently_is_not() {
        let different = [
            (r#"[{"type":"text","text":"a"}]"#, r#"[{"type":"text","text":"b"}]"#),
            (r#"[{"type":"text","text":"a"}]"#, r#"[{"type":"image","source":{"data":"a"}}]"#),
            (
                r#"[{"type":"tool_use","id":"i","name":"n","input":{"a":1}}]"#,
                r#"[{"type":"tool_use","id":"i","name":"n","input":{"a":2}}]"#,
            ),
            (
                r#"[{"type":"tool_result","tool_use_id":"i","content":"x"}]"#,
                r#"[{"type":"tool_result","tool_use_id":"i","is_error":true,"content":"x"}]"#,
            ),
        ];
        for (one, other) in different {
            assert_ne!(
                print(AskedRole::Assistant, one),
                print(AskedRole::Assistant, other),
                "{one}"
            );
        }
        assert_ne!(print(AskedRole::User, "[]"), print(AskedRole::Assistant, "[]"));
    }

    #[test]
    fn a_print_survives_the_store() {
        let print = print(AskedRole::User, "[]");
        assert_eq!(Print::parse(&print.text()), Some(print));
        assert_eq!(Print::parse("00"), None);
    }
}
