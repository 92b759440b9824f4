//! The content of one message, as the program takes it.

use std::borrow::Cow;

use crate::Fault;
use crate::json::{Members, Node, RawObject};
use crate::notes::Notes;
use crate::read::{Path, array, member, object, string, text, unsupported, verbatim, wrong};

/// The longest text that the program hands on from a call as it is, with room to spare: what is
/// longer it puts into a file.
const LONGEST_RESULT: usize = 40_000;
/// The largest picture that it surely leaves alone, in base64.
const LARGEST_PICTURE: usize = 350_000;

/// The results of tool calls that a message holds, if it holds nothing else and each can be
/// given to a call that is held open.
pub type Results = Vec<AnsweredCall>;

/// One result, as the Model Context Protocol has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredCall {
    /// The id of the call that it answers.
    pub id: String,
    /// A `CallToolResult`, as JSON.
    pub result: String,
}

/// Reads a message's content: a list of blocks, as JSON, without marks for the prompt cache.
pub(super) fn content<'a>(
    node: &Node<'a>,
    path: Path<'_>,
    notes: &mut Notes,
) -> Result<Cow<'a, str>, Fault> {
    if node.is_string() {
        let said = text(node, path)?;
        return match said.inner() {
            "" => Ok(Cow::Borrowed("[]")),
            _ if said.is_blank() => {
                Err(wrong(path, "text content blocks must contain non-whitespace text"))
            }
            _ => Ok(Cow::Owned(format!("[{}]", text_block(said.raw())))),
        };
    }
    let mut marked = false;
    for (index, block) in array(node, path)?.iter().enumerate() {
        let place = path.at(index);
        let block = object(block, place)?;
        let kind =
            member(&block, "type").ok_or_else(|| wrong(place.key("type"), "field required"))?;
        let kind = string(&kind, place.key("type"))?;
        look(&block, place, notes)?;
        needs(&kind, &block, place)?;
        marked |= member(&block, "cache_control").is_some();
        if kind == "tool_result"
            && let Some(inner) = block.get("content").and_then(|inner| inner.as_array())
        {
            for (index, inner) in inner.iter().enumerate() {
                let place = place.key("content");
                let place = place.at(index);
                let inner = object(inner, place)?;
                look(&inner, place, notes)?;
                marked |= member(&inner, "cache_control").is_some();
            }
        }
        if kind == "tool_result" && says_nothing(&block) {
            notes.say("tool_result.content", "filled in where it is empty")?;
        }
    }
    let whole = verbatim(node, path)?;
    if !marked {
        return Ok(whole);
    }
    notes.say("cache_control", "left to the program")?;
    unmarked(&whole).map(Cow::Owned).ok_or_else(|| wrong(path, "expected a list of blocks"))
}

/// What a block of a known kind cannot be without: the program would wait for ever, or fall silent.
fn needs(kind: &str, block: &RawObject<'_>, place: Path<'_>) -> Result<(), Fault> {
    let texts: &[&str] = match kind {
        "text" => &["text"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        "tool_use" => &["id", "name"],
        "tool_result" => &["tool_use_id"],
        _ => &[],
    };
    for key in texts {
        let node = member(block, key).ok_or_else(|| wrong(place.key(key), "field required"))?;
        let said = text(&node, place.key(key))?;
        if kind == "text" && said.is_blank() {
            return Err(wrong(
                place.key(key),
                "text content blocks must contain non-whitespace text",
            ));
        }
    }
    let objects: &[&str] = match kind {
        "tool_use" => &["input"],
        "image" | "document" => &["source"],
        _ => &[],
    };
    for key in objects {
        let node = member(block, key).ok_or_else(|| wrong(place.key(key), "field required"))?;
        object(&node, place.key(key))?;
    }
    Ok(())
}

/// What is kept at the API cannot be pointed to from here; large pictures are not left as they are.
fn look(block: &RawObject<'_>, place: Path<'_>, notes: &mut Notes) -> Result<(), Fault> {
    let Some(source) = block.get("source").and_then(|source| source.as_object()) else {
        return Ok(());
    };
    let data = source.get("data").map_or(0, |data| data.raw().len());
    if data > LARGEST_PICTURE && block.get("type").is_some_and(|kind| kind.raw() == "\"image\"") {
        notes.say("images", "may be made smaller")?;
    }
    if source.get("type").is_some_and(|kind| kind.raw() == "\"file\"") {
        return Err(unsupported(
            place.key("source"),
            "Claude Code cannot reach the Files API; send the content itself, as `base64` or `text`",
        ));
    }
    Ok(())
}

/// A result without a word, for which the program has words of its own.
fn says_nothing(result: &RawObject<'_>) -> bool {
    member(result, "content").is_none_or(|content| {
        let blank = |node: &Node<'_>| text(node, "").is_ok_and(|text| text.is_blank());
        let parts = content.as_array();
        let no_part = |parts: Vec<Node<'_>>| {
            parts.iter().all(|part| {
                part.as_object().and_then(|part| part.get("text")).is_some_and(|text| blank(&text))
            })
        };
        blank(&content) || parts.is_some_and(no_part)
    })
}

/// Writes blocks without their marks, those inside of tool results too.
fn unmarked(blocks: &str) -> Option<String> {
    let blocks: Vec<Members> = serde_json::from_str(blocks).ok()?;
    let mut out = Vec::new();
    for block in blocks {
        let mut kept = Members::default();
        for (key, raw) in block.iter().filter(|(key, _)| *key != "cache_control") {
            let inner = (key == "content" && raw.starts_with('[')).then(|| unmarked(raw)).flatten();
            kept.set(key, inner.unwrap_or_else(|| raw.to_owned()));
        }
        out.push(kept.write());
    }
    Some(format!("[{}]", out.join(",")))
}

/// The last text of a list of blocks.
pub(super) fn last_text(blocks: &str) -> Option<String> {
    let blocks: Vec<Members> = serde_json::from_str(blocks).ok()?;
    let text =
        blocks.iter().rev().find(|block| block.get("type") == Some("\"text\""))?.get("text")?;
    serde_json::from_str(text).ok()
}

pub(super) fn text_block(raw: &str) -> String {
    format!("{{\"type\":\"text\",\"text\":{raw}}}")
}

/// Joins two lists of blocks.
pub(super) fn joined(first: &str, second: &str) -> String {
    let inner =
        |list: &str| list.trim().trim_start_matches('[').trim_end_matches(']').trim().to_owned();
    let (first, second) = (inner(first), inner(second));
    let comma = if first.is_empty() || second.is_empty() { "" } else { "," };
    format!("[{first}{comma}{second}]")
}

/// The ids of the tool calls and of the results in a list of blocks.
pub(super) fn ids(blocks: &str) -> (Vec<String>, Vec<String>) {
    let blocks: Vec<Members> = serde_json::from_str(blocks).unwrap_or_default();
    let of = |kind: &str, key: &str| {
        let found = blocks.iter().filter(|block| block.get("type") == Some(kind));
        found.filter_map(|block| serde_json::from_str(block.get(key)?).ok()).collect()
    };
    (of("\"tool_use\"", "id"), of("\"tool_result\"", "tool_use_id"))
}

/// Reads the results in a list of blocks; `None` if there is anything else, or a result that
/// the program would not hand on as it is.
pub(super) fn results(blocks: &str) -> Option<Results> {
    let blocks: Vec<Members> = serde_json::from_str(blocks).ok()?;
    let results: Option<Results> = blocks.iter().map(result).collect();
    results.filter(|results| !results.is_empty())
}

fn result(block: &Members) -> Option<AnsweredCall> {
    let known =
        |(key, _): (&str, &str)| ["type", "tool_use_id", "content", "is_error"].contains(&key);
    if block.get("type") != Some("\"tool_result\"") || !block.iter().all(known) {
        return None;
    }
    let id = serde_json::from_str(block.get("tool_use_id")?).ok()?;
    let failed = block.get("is_error") == Some("true");
    let content = block.get("content")?;
    let content = if content.starts_with('"') {
        // Nothing said is said otherwise by the program.
        (content != "\"\"" && content.len() < LONGEST_RESULT).then(|| text_block(content))?
    } else {
        let items: Vec<Members> = serde_json::from_str(content).ok()?;
        // The program makes one text of a failure, and words of its own of nothing.
        let plain =
            !items.is_empty() && (!failed || items.len() == 1) && content.len() < LONGEST_RESULT;
        let texts: Option<Vec<String>> = items.iter().map(plain_text).collect();
        texts.filter(|_| plain)?.join(",")
    };
    Some(AnsweredCall { id, result: format!("{{\"content\":[{content}],\"isError\":{failed}}}") })
}

/// A text; everything else takes the other way.
fn plain_text(part: &Members) -> Option<String> {
    let text = part.get("text").filter(|text| *text != "\"\"")?;
    (part.get("type") == Some("\"text\"") && part.iter().count() == 2).then(|| text_block(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expect: &str, changes: usize) {
        let body = format!("{{\"c\":{source}}}");
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let mut notes = Notes::new(false);
        assert_eq!(content(&object.get("c").unwrap(), Path::of("c"), &mut notes).unwrap(), expect);
        assert_eq!(notes.into_changes().len(), changes);
    }

    #[test]
    fn blocks_go_on_as_they_are_but_for_cache_marks() {
        check(r#""a\u00fc""#, r#"[{"type":"text","text":"a\u00fc"}]"#, 0);
        check(r#"[ {"type":"new","x":1.0} ]"#, r#"[ {"type":"new","x":1.0} ]"#, 0);
        check(
            r#"[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x","cache_control":{}}],"cache_control":{"type":"ephemeral"}},{"type":"text","text":"\"cache_control\""}]"#,
            r#"[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}]},{"type":"text","text":"\"cache_control\""}]"#,
            1,
        );
    }

    #[test]
    fn files_that_the_api_keeps_are_refused_by_name() {
        let body = r#"{"c":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]}"#;
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let fault =
            content(&object.get("c").unwrap(), Path::of("c"), &mut Notes::new(false)).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("c[0].content[0].source"));
    }

    #[test]
    fn only_results_that_arrive_as_they_are_go_to_held_calls() {
        let table = [
            (
                r#"[{"type":"tool_result","tool_use_id":"a","content":"x"}]"#,
                Some(r#"{"content":[{"type":"text","text":"x"}],"isError":false}"#),
            ),
            (
                r#"[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":[{"type":"text","text":"x"}]}]"#,
                Some(r#"{"content":[{"type":"text","text":"x"}],"isError":true}"#),
            ),
            (
                r#"[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}]"#,
                None,
            ),
            (
                r#"[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image","source":{}}]}]"#,
                None,
            ),
            (r#"[{"type":"tool_result","tool_use_id":"a","content":[]}]"#, None),
            (r#"[{"type":"tool_result","tool_use_id":"a"}]"#, None),
            (
                r#"[{"type":"tool_result","tool_use_id":"a","content":"x"},{"type":"text","text":"and"}]"#,
                None,
            ),
            ("[]", None),
            (
                &format!(
                    r#"[{{"type":"tool_result","tool_use_id":"a","content":"{}"}}]"#,
                    "x".repeat(50_000)
                ),
                None,
            ),
        ];
        for (blocks, expect) in table {
            assert_eq!(
                results(blocks).map(|results| results[0].result.clone()).as_deref(),
                expect,
                "{blocks}"
            );
        }
    }

    #[test]
    fn lists_are_joined() {
        assert_eq!(joined("[1, 2]", " [3] "), "[1, 2,3]");
        assert_eq!(joined("[]", "[3]"), "[3]");
    }
}
