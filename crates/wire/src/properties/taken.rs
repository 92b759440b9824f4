//! What must hold for any request that was translated into one of Messages.

use serde_json::Value;

use crate::messages::Change;
use crate::model::ModelTraits;
use crate::openai::Terms;
use crate::{Fault, Request};

/// A model of every kind: with prefill and sampling, with neither, with `system` turns, and unknown.
pub(super) const MODELS: [&str; 4] =
    ["claude-haiku-4-5", "claude-sonnet-5", "claude-opus-5-5", "somebody-elses"];

pub(super) fn terms(model: &str, strict: bool) -> Terms<'_> {
    Terms {
        model,
        traits: ModelTraits::of(model),
        strict,
        max_tokens: None,
        marked: false,
        web_search: Some("web_search_20250305"),
    }
}

/// A request is refused by name, or becomes one that Messages takes, the same every time. `translate` is told whether to be strict.
pub(super) fn translated(
    translate: impl Fn(bool) -> Result<(String, Vec<Change>), Fault>,
    model: &str,
) {
    match translate(false) {
        Ok((body, changes)) => {
            taken(&body, model);
            let (again, _) = translate(false).expect("it was translated a moment ago");
            assert_eq!(body, again, "a retry must send the same bytes");
            if let Ok((_, strict)) = translate(true) {
                // But for what changes nothing of what is meant.
                assert_eq!(strict, changes, "strict mode notes no more than another");
                let mentioned = [
                    "name",
                    "namespace",
                    "description",
                    "annotations",
                    "logprobs",
                    "execution",
                    "defer_loading",
                    "additionalProperties",
                    "allOf",
                ];
                assert!(
                    changes.iter().all(|change| change
                        .name
                        .rsplit('.')
                        .next()
                        .is_some_and(|last| mentioned.contains(&last))),
                    "strict mode notes nothing: {changes:?}"
                );
            }
        }
        Err(fault) => {
            let param = fault.param.as_deref().unwrap_or_default();
            assert!(
                !param.is_empty() && fault.message.starts_with(param),
                "a refusal names the member: {}",
                fault.message
            );
        }
    }
}

/// Holds a translated request against the rules of the Messages API.
fn taken(body: &str, model: &str) {
    crate::json::check(body).unwrap_or_else(|malformed| panic!("{malformed}: {body}"));
    // A number may be JSON and yet larger than any reader's.
    let Ok(request) = serde_json::from_str::<Value>(body) else { return };
    Request::parse(body.as_bytes()).expect("the Messages parser takes it");
    let traits = ModelTraits::of(model);
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
            assert!(
                traits.system_turns && before == Some(&"user".into()),
                "a system turn where none may be: {request}"
            );
        }
    }
    if turns.last().is_some_and(|turn| turn["role"] == "assistant") {
        assert!(traits.prefill, "{request}");
    }
    choice_is_taken(&request, &traits);
    let blocks = ["system", "tools"]
        .iter()
        .filter_map(|key| request[*key].as_array())
        .chain(turns.iter().filter_map(|turn| turn["content"].as_array()))
        .flatten();
    let marks = blocks.filter(|block| block.get("cache_control").is_some()).count()
        + usize::from(request.get("cache_control").is_some());
    assert!(marks <= 4, "{marks} cache marks: {request}");
}

fn block_is_taken(block: &Value, role: &str) {
    match block["type"].as_str() {
        Some("text") => assert!(
            block["text"].as_str().is_some_and(|text| !text.trim().is_empty()),
            "blank text: {block}"
        ),
        Some("tool_use") => assert!(
            role == "assistant"
                && block["input"].is_object()
                && is_plain(&block["id"])
                && is_plain(&block["name"]),
            "{block}"
        ),
        Some("tool_result") => {
            assert!(role == "user" && is_plain(&block["tool_use_id"]), "{block}");
        }
        Some("image" | "document") => {
            assert!(role == "user" && block["source"].is_object(), "{block}");
        }
        Some("thinking" | "redacted_thinking") => assert_eq!(role, "assistant", "{block}"),
        _ => panic!("not a block of Messages: {block}"),
    }
}

fn is_plain(id: &Value) -> bool {
    id.as_str().is_some_and(|id| {
        !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    })
}

fn results_pair(turns: &[Value], index: usize, request: &Value) {
    let ids = |turn: Option<&Value>, kind: &str, key: &str| -> Vec<String> {
        let blocks = turn.and_then(|turn| turn["content"].as_array());
        let mut ids: Vec<String> = blocks
            .into_iter()
            .flatten()
            .filter(|block| block["type"] == kind)
            .map(|block| block[key].to_string())
            .collect();
        ids.sort();
        ids
    };
    let turn = &turns[index];
    if turn["role"] == "assistant" {
        assert_eq!(
            ids(Some(turn), "tool_use", "id"),
            ids(turns.get(index + 1), "tool_result", "tool_use_id"),
            "{request}"
        );
    }
    if turn["role"] == "user" {
        let kinds: Vec<bool> = turn["content"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|block| block["type"] == "tool_result")
            .collect();
        assert!(kinds.is_sorted_by(|a, b| a >= b), "results come first: {request}");
    }
}

fn choice_is_taken(request: &Value, traits: &ModelTraits) {
    let kind = request["tool_choice"]["type"].as_str();
    assert!(
        kind.is_none() || request["tools"].as_array().is_some_and(|tools| !tools.is_empty()),
        "a choice without tools: {request}"
    );
    assert!(traits.forced_tool || !matches!(kind, Some("any" | "tool")), "forced: {request}");
}
