//! The items of a request's input as they are listed afterwards.

use std::collections::HashSet;

use super::Before;
use crate::Request;
use crate::json::{Members, Node, quote};
use crate::openai::entries::is_reference;
use crate::openai::pieces::one_line;
use crate::read::member;

/// The ids that items of the input refer to.
pub(super) fn references(input: &Node<'_>) -> Vec<String> {
    let items = input.as_array().unwrap_or_default();
    let refers = items.iter().filter_map(Node::as_object).filter(is_reference);
    refers.filter_map(|item| Some(item.get("id")?.as_str()?.into_owned())).collect()
}

/// The items of a request's input as they are listed afterwards, each with an id of its own; those of ours begin with
/// `id`.
pub fn listed(request: &Request<'_>, id: &str, before: &Before) -> Vec<String> {
    let Some(input) = member(&request.object, "input") else { return Vec::new() };
    if input.is_string() {
        let content = format!("[{{\"type\":\"input_text\",\"text\":{}}}]", input.raw());
        return vec![one_line(&format!(
            "{{\"id\":\"msg_{id}_in_0\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"user\",\"content\":{content}}}"
        ))];
    }
    let mut taken = HashSet::new();
    let items = input.as_array().unwrap_or_default();
    let named = items.iter().enumerate().filter_map(|(at, node)| {
        let item = node.as_object()?;
        let referred = is_reference(&item)
            .then(|| item.get("id")?.as_str().and_then(|id| before.items.get(&*id)))
            .flatten();
        let mut members: Members =
            serde_json::from_str(referred.map_or(node.raw(), String::as_str)).ok()?;
        if members.get("type").is_none_or(|kind| kind == "null") {
            members.set("type", quote("message"));
        }
        let kind = members.get("type").unwrap_or_default().trim_matches('"').to_owned();
        complete(&mut members, &kind);
        let given = members
            .get("id")
            .and_then(|id| serde_json::from_str::<String>(id).ok())
            .filter(|id| !id.is_empty() && taken.insert(id.clone()));
        if given.is_none() {
            let own = format!("{}_{id}_in_{at}", prefix(&kind));
            members.set("id", quote(&own));
            taken.insert(own);
        }
        Some(one_line(&members.write()))
    });
    named.collect()
}

/// Adds what clients may leave out and readers want to see.
fn complete(members: &mut Members, kind: &str) {
    if matches!(
        kind,
        "message"
            | "function_call"
            | "function_call_output"
            | "custom_tool_call"
            | "custom_tool_call_output"
    ) && members.get("status").is_none()
    {
        members.set("status", quote("completed"));
    }
    let answers = members.get("role") == Some("\"assistant\"");
    let said = if answers { "output_text" } else { "input_text" };
    let extras = if answers { ",\"annotations\":[]" } else { "" };
    if let Some(text) = members.get("content").filter(|raw| raw.starts_with('"')) {
        let content = format!("[{{\"type\":\"{said}\",\"text\":{text}{extras}}}]");
        members.set("content", content);
    }
}

fn prefix(kind: &str) -> &'static str {
    match kind {
        "message" => "msg",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "custom_tool_call" => "ctc",
        "custom_tool_call_output" => "ctco",
        "reasoning" => "rs",
        _ => "item",
    }
}
