//! The lines that are written to the program.
//!
//! Each ends with a line break; none holds another one, since JSON escapes it.

use super::ask::{Ask, AskedRole, ThinkingMode};
use super::output::Question;
use super::tools::ClientTool;
use crate::json::{Text, quote};

/// The name under which a client's tools are served to the program.
pub const SERVER: &str = "client";

fn control(id: &str, request: &str) -> String {
    format!(
        "{{\"type\":\"control_request\",\"request_id\":{},\"request\":{}}}\n",
        quote(id),
        one_line(request)
    )
}

/// Gives a fresh child its system prompt and tools.
pub fn initialize(id: &str, ask: &Ask<'_>) -> String {
    let system: Vec<&str> = ask.system.iter().map(Text::raw).collect();
    let mut request =
        format!("{{\"subtype\":\"initialize\",\"systemPrompt\":[{}]", system.join(","));
    if !ask.tools.is_empty() {
        request.push_str(&format!(
            ",\"sdkMcpServers\":[\"{SERVER}\"],\"sdkMcpServerManifests\":{{\"{SERVER}\":{{\"initializeResult\":{},\"toolsListResult\":{}}}}}",
            server(),
            list(&ask.tools)
        ));
    }
    control(id, &(request + "}"))
}

/// The name under which the program asks us before it uses a tool.
const HOOK: &str = "seaway";

/// Tells a fresh child to ask before every use of a tool, those included that its own rules let pass.
pub fn ask_before_tools(id: &str) -> String {
    control(
        id,
        &format!(
            "{{\"subtype\":\"initialize\",\"hooks\":{{\"PreToolUse\":[{{\"matcher\":\"*\",\"hookCallbackIds\":[\"{HOOK}\"]}}]}}}}"
        ),
    )
}

/// Who serves the tools, as an answer to `initialize` of the Model Context Protocol.
fn server() -> String {
    format!(
        "{{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{{\"tools\":{{}}}},\"serverInfo\":{{\"name\":\"{SERVER}\",\"version\":\"1\"}}}}"
    )
}

fn list(tools: &[ClientTool]) -> String {
    let tools: Vec<&str> = tools.iter().map(|tool| tool.manifest.as_str()).collect();
    format!("{{\"tools\":[{}]}}", tools.join(","))
}

/// Says how the next answers are to be: every setting each time, so that none is left over from
/// an earlier turn.
pub fn settings(id: &str, ask: &Ask<'_>) -> String {
    let effort = ask
        .effort
        .map_or_else(String::new, |effort| format!(",\"effortLevel\":\"{}\"", effort.name()));
    let environment = format!(
        "{{\"CLAUDE_CODE_EXTRA_BODY\":{},\"CLAUDE_CODE_MAX_OUTPUT_TOKENS\":\"{}\"}}",
        quote(&ask.extra),
        ask.max_tokens
    );
    control(
        id,
        &format!(
            "{{\"subtype\":\"apply_flag_settings\",\"settings\":{{\"env\":{environment}{effort}}}}}"
        ),
    )
}

/// Says whether and how much the model is to think.
pub fn thinking(id: &str, thinking: ThinkingMode) -> String {
    let tokens = match thinking {
        ThinkingMode::Own => "null".to_owned(),
        ThinkingMode::Off => "0".to_owned(),
        ThinkingMode::Budget(tokens) => tokens.to_string(),
    };
    control(
        id,
        &format!("{{\"subtype\":\"set_max_thinking_tokens\",\"max_thinking_tokens\":{tokens}}}"),
    )
}

/// Asks which models there are.
pub fn list_models(id: &str) -> String {
    control(id, "{\"subtype\":\"list_models\"}")
}

/// Introduces us, as an older program wants it before it tells which models there are.
pub fn hello(id: &str) -> String {
    control(id, "{\"subtype\":\"initialize\"}")
}

/// A turn of the user's; `blocks` is a list as JSON. With `asks` the model answers it.
pub fn user(blocks: &str, asks: bool) -> String {
    let quiet = if asks { "" } else { ",\"shouldQuery\":false" };
    let message = turn(AskedRole::User, blocks);
    // What the client composed is sent as written: no `@file`, no `/command` in it is looked at.
    format!(
        "{{\"type\":\"user\",\"message\":{message},\"parent_tool_use_id\":null,\"session_id\":\"\",\"client_composed\":true{quiet}}}\n"
    )
}

fn turn(role: AskedRole, blocks: &str) -> String {
    format!("{{\"role\":\"{}\",\"content\":{}}}", role.name(), one_line(blocks))
}

/// An earlier turn of the model's. Without id and model its thinking would be dropped.
pub fn assistant(blocks: &str, model: &str, id: &str) -> String {
    format!(
        "{{\"type\":\"assistant\",\"message\":{{\"id\":{},\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":{},\"stop_reason\":\"end_turn\",\
         \"stop_sequence\":null,\"usage\":{{\"input_tokens\":1,\"output_tokens\":1}}}},\"parent_tool_use_id\":null,\"session_id\":\"\"}}\n",
        quote(id),
        quote(model),
        one_line(blocks)
    )
}

/// A client may have written its JSON over several lines; the program ends at a line that is none.
fn one_line(json: &str) -> std::borrow::Cow<'_, str> {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ").into() } else { json.into() }
}

/// Answers a question of the program's.
pub fn answer(request_id: &str, response: &str) -> String {
    format!(
        "{{\"type\":\"control_response\",\"response\":{{\"subtype\":\"success\",\"request_id\":{},\"response\":{}}}}}\n",
        quote(request_id),
        one_line(response)
    )
}

/// Answers a message of the Model Context Protocol with a result; `id` is JSON.
pub fn result(request_id: &str, id: &str, result: &str) -> String {
    answer(
        request_id,
        &format!("{{\"mcp_response\":{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}}}"),
    )
}

/// Answers whatever else the program may ask of the server of a client's tools.
pub fn serve(question: &Question<'_>, tools: &[ClientTool]) -> String {
    let id = question.id.as_deref().unwrap_or("0");
    match &*question.method {
        "initialize" => result(&question.request_id, id, &server()),
        "tools/list" => result(&question.request_id, id, &list(tools)),
        method if question.id.is_none() || method == "ping" => {
            result(&question.request_id, id, "{}")
        }
        method => {
            let error = format!(
                "{{\"code\":-32601,\"message\":{}}}",
                quote(&format!("there is no method {method}"))
            );
            answer(
                &question.request_id,
                &format!(
                    "{{\"mcp_response\":{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}}}"
                ),
            )
        }
    }
}

/// Lets the program use a tool of its own, with the very arguments it named.
pub fn allow(request_id: &str, input: &str) -> String {
    answer(request_id, &format!("{{\"behavior\":\"allow\",\"updatedInput\":{input}}}"))
}

/// Keeps the program from using a tool of its own.
pub fn deny(request_id: &str, why: &str) -> String {
    answer(request_id, &format!("{{\"behavior\":\"deny\",\"message\":{}}}", quote(why)))
}

/// What a hook says of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    Allow,
    /// The use is refused, and the model is told why.
    Deny(&'a str),
    /// Somebody is to be asked, by a question of its own.
    Ask,
}

/// Answers a hook that is asked before a tool is used.
pub fn decide(request_id: &str, decision: Decision<'_>) -> String {
    let (word, reason) = match decision {
        Decision::Allow => ("allow", String::new()),
        Decision::Ask => ("ask", String::new()),
        Decision::Deny(why) => ("deny", format!(",\"permissionDecisionReason\":{}", quote(why))),
    };
    answer(
        request_id,
        &format!(
            "{{\"hookSpecificOutput\":{{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"{word}\"{reason}}}}}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_one_line() {
        let line = user("[\n{\"type\":\"text\",\"text\":\"a\\nb\"}\r\n]", false);
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&parsed["message"]["content"][0]["text"], &parsed["shouldQuery"]),
            (&"a\nb".into(), &false.into())
        );
    }
}
