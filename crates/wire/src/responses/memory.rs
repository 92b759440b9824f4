//! What a later request needs to go on from a response.

use crate::Fault;
use crate::json::{Members, Node, RawObject, Text, quote};
use crate::openai::conversation::{
    Content, ContentBlock, ContentKind, REMEMBERED, Role, ToolCall, ToolResult,
};
use crate::openai::draft::Draft;
use crate::openai::{COMPACTION_BETA, is_another_model, seal};
use crate::read::wrong;

/// What was said, as Messages had it: turns with their thinking and its signatures. Lists, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// System text that stood in the input before everything else. Instructions are not remembered.
    pub system: String,
    pub turns: String,
    /// Who answered; nobody yet, if empty.
    pub model: String,
}

impl Memory {
    /// Adds the answer. `content` is its blocks.
    pub fn answered(mut self, content: &[String], model: &str) -> Self {
        model.clone_into(&mut self.model);
        if !content.is_empty() {
            let turn = format!("{{\"role\":\"assistant\",\"content\":[{}]}}", content.join(","));
            let open = self.turns.trim_end().strip_suffix(']').unwrap_or("[");
            let comma = if open.trim_end().ends_with('[') { "" } else { "," };
            self.turns = format!("{open}{comma}{turn}]");
        }
        self
    }

    /// An item of the answer that was remembered last, with the thinking that it stands for. `object` is the response.
    pub fn with_thinking(&self, object: &str, item: &str) -> String {
        self.sealed(object, item).unwrap_or_else(|| item.to_owned())
    }

    fn sealed(&self, object: &str, item: &str) -> Option<String> {
        let mut members: Members = serde_json::from_str(item).ok()?;
        if members.get("type") != Some("\"reasoning\"")
            || members.get("encrypted_content").is_some()
        {
            return None;
        }
        let object = RawObject::parse(object.as_bytes()).ok()?;
        let output = object.get("output")?.as_array()?;
        let thoughts = output
            .iter()
            .filter_map(Node::as_object)
            .filter(|item| item.get("type").is_some_and(|kind| kind.raw() == "\"reasoning\""));
        let place = thoughts
            .map(|item| item.get("id").map(|id| id.raw().to_owned()))
            .position(|id| id.as_deref() == members.get("id"))?;
        let turns = list(&self.turns)?;
        let said = turns.last()?.as_object()?.get("content")?.as_array()?;
        let blocks: Vec<&Node<'_>> = said
            .iter()
            .filter(|node| {
                node.as_object()
                    .and_then(|block| block.get("type"))
                    .is_some_and(|kind| kind.raw().contains("thinking"))
            })
            .collect();
        let sealed = seal::seal(&self.model, blocks.get(place)?.raw());
        members.set("encrypted_content", quote(&sealed));
        Some(members.write())
    }

    /// Puts what is remembered at the beginning of a conversation with `model`.
    pub(super) fn recall<'a>(&'a self, draft: &mut Draft<'a>, model: &str) -> Result<(), Fault> {
        let damaged = || wrong("previous_response_id", "what was kept of it cannot be read");
        let foreign = is_another_model(&self.model, model);
        for node in list(&self.system).ok_or_else(damaged)? {
            draft.conversation.system.push(block(&node).ok_or_else(damaged)?);
        }
        for node in list(&self.turns).ok_or_else(damaged)? {
            let turn = node.as_object().ok_or_else(damaged)?;
            let role = match turn.get("role").and_then(|role| role.as_str()).as_deref() {
                Some("assistant") => Role::Assistant,
                Some("system") => Role::System,
                _ => Role::User,
            };
            for node in
                turn.get("content").and_then(|content| content.as_array()).ok_or_else(damaged)?
            {
                let block = block(&node).ok_or_else(damaged)?;
                if matches!(&block.kind, ContentKind::Media(raw) if raw.starts_with("{\"type\":\"compaction\""))
                {
                    draft.announce(COMPACTION_BETA);
                }
                if foreign && matches!(block.kind, ContentKind::Thought(_)) {
                    draft.notes.left_out("previous_response_id.reasoning")?;
                } else {
                    draft.conversation.push(role, block);
                }
            }
        }
        Ok(())
    }
}

/// The elements of a list that is a whole text.
fn list(text: &str) -> Option<Vec<Node<'_>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    // Only objects are parsed from text, and a list is a member of one in its place.
    Node::whole(text)?.as_array()
}

fn block<'a>(node: &Node<'a>) -> Option<ContentBlock<'a>> {
    let object = node.as_object()?;
    let kind = object.get("type")?.as_str()?;
    let plain = |members: usize| object.members().count() == members;
    let kind = match &*kind {
        "text" if plain(2) => ContentKind::Text(Text::of(&object.get("text")?)?),
        "thinking" | "redacted_thinking" => ContentKind::Thought(node.raw().into()),
        "tool_use" => ContentKind::Call(ToolCall {
            id: object.get("id")?.as_str()?,
            name: object.get("name")?.as_str()?,
            input: object.get("input")?.raw().into(),
            at: REMEMBERED,
        }),
        "tool_result" => ContentKind::Result(ToolResult {
            id: object.get("tool_use_id")?.as_str()?,
            content: content(&object)?,
            failed: object.get("is_error").is_some_and(|node| node.as_bool() == Some(true)),
            at: REMEMBERED,
        }),
        // Other content stays as it is.
        _ => ContentKind::Media(node.raw().to_owned()),
    };
    Some(ContentBlock::new(kind))
}

fn content<'a>(result: &RawObject<'a>) -> Option<Content<'a>> {
    let node = result.get("content")?;
    match Text::of(&node) {
        Some(text) => Some(Content::Text(text)),
        None => node.as_array()?.iter().map(block).collect::<Option<_>>().map(Content::Blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_turn_more() {
        let memory = Memory { turns: "[]".into(), ..Memory::default() }
            .answered(&["1".into(), "2".into()], "m");
        assert_eq!(
            (memory.turns.as_str(), memory.model.as_str()),
            (r#"[{"role":"assistant","content":[1,2]}]"#, "m")
        );
        let memory = memory.answered(&["3".into()], "m").answered(&[], "m");
        assert_eq!(
            memory.turns,
            r#"[{"role":"assistant","content":[1,2]},{"role":"assistant","content":[3]}]"#
        );
    }

    #[test]
    fn what_was_said_comes_back_as_it_was() {
        let turns = r#"[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a","citations":[]},{"type":"tool_use","id":"c","name":"n","input":{"a":1.0}}]}]"#;
        let memory = Memory {
            system: r#"[{"type":"text","text":"s"}]"#.into(),
            turns: turns.into(),
            model: "claude-opus-4-8".into(),
        };
        let said = |model: &str| {
            let mut draft = Draft::new(false, true);
            memory.recall(&mut draft, model).unwrap();
            draft.turns()
        };
        assert_eq!(said("claude-opus-4-8"), turns);
        assert!(
            !said("claude-haiku-4-5").contains("thinking"),
            "another model's thinking is left out"
        );
        assert!(
            Memory { turns: "[7]".into(), ..Memory::default() }
                .recall(&mut Draft::new(false, true), "m")
                .is_err()
        );
    }
}
