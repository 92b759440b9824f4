//! Tools: their kinds, names and schemas, and who may be called.

use serde_json::Value;

use super::{Checked, schema};

pub(super) fn check(request: &Value) -> Checked {
    let tools: &[Value] = match &request["tools"] {
        Value::Null => &[],
        Value::Array(tools) => tools,
        _ => return Err("tools: Input should be a valid list".into()),
    };
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        one(tool, index)?;
        names.extend(tool["name"].as_str());
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(format!("tools: Tool names must be unique. ({})", twice.1).into());
    }
    deferred(tools)?;
    choice(&request["tool_choice"], tools, &names)
}

fn one(tool: &Value, index: usize) -> Checked {
    if !tool.is_object() {
        return Err(format!("tools.{index}: Input should be a valid dictionary").into());
    }
    match tool["type"].as_str() {
        None | Some("custom") => {}
        Some(kind) if is_server(kind) => return Ok(()),
        Some(kind) => return Err(format!("tools.{index}: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'custom', 'bash_20250124', …").into()),
    }
    let path = format!("tools.{index}.custom");
    let Some(name) = tool["name"].as_str() else {
        return Err(format!("{path}.name: Field required").into());
    };
    let plain =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !plain || name.is_empty() || name.len() > 128 {
        return Err(
            format!("{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'").into()
        );
    }
    if tool["input_schema"].is_null() {
        return Err(format!("{path}.input_schema: Field required").into());
    }
    schema::input(&tool["input_schema"], &format!("{path}.input_schema"))?;
    if tool["strict"] == true {
        schema::enforceable(&tool["input_schema"], &format!("{path}.input_schema"))?;
    }
    if tool["defer_loading"] == true && !tool["cache_control"].is_null() {
        return Err(format!(
            "tools.{index}: cache_control cannot be set on a tool with defer_loading"
        )
        .into());
    }
    Ok(())
}

/// The types of Anthropic's own tools end with a date.
fn is_server(kind: &str) -> bool {
    kind == "mcp_toolset"
        || kind.rsplit_once('_').is_some_and(|(_, date)| {
            date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn deferred(tools: &[Value]) -> Checked {
    let is_deferred = |tool: &&Value| tool["defer_loading"] == true;
    let count = tools.iter().filter(is_deferred).count();
    if count > 0 && count == tools.len() {
        return Err(
            "At least one tool must have defer_loading=false. All tools cannot be deferred.".into(),
        );
    }
    // Whether one of the others searches is not to be seen: a client's own tool may, as Claude Code's does.
    Ok(())
}

fn choice(choice: &Value, tools: &[Value], names: &[&str]) -> Checked {
    if choice.is_null() {
        return Ok(());
    }
    if tools.is_empty() {
        return Err("tool_choice may only be specified while providing tools.".into());
    }
    match choice["type"].as_str() {
        Some("tool") => match choice["name"].as_str() {
            Some(name) if names.contains(&name) => Ok(()),
            Some(name) => Err(format!("Tool '{name}' not found in provided tools").into()),
            None => Err("tool_choice.tool.name: Field required".into()),
        },
        Some("auto" | "any" | "none") => Ok(()),
        Some(kind) => Err(format!("tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'").into()),
        None => Err("tool_choice: Input should be a valid dictionary".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::refused;

    fn tool(members: Value) -> Value {
        let mut tool = json!({"name": "f", "input_schema": {"type": "object", "properties": {}}});
        tool.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "tools": [tool] })
    }

    #[test]
    fn kinds_and_names_are_known() {
        const SOURCE: &str =
            "the API's validation, quoted in reports of Cursor and others behind gateways";
        refused(&tool(json!({})), "", SOURCE);
        refused(&tool(json!({"type": "custom"})), "", SOURCE);
        refused(
            &tool(json!({"type": "function"})),
            "tools.0: Input tag 'function' found using 'type' does not match any of the expected tags",
            SOURCE,
        );
        refused(
            &json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "",
            SOURCE,
        );
        refused(
            &tool(json!({"name": "fs.read"})),
            "tools.0.custom.name: String should match pattern",
            SOURCE,
        );
        refused(
            &json!({"tools": [tool(json!({}))["tools"][0], tool(json!({}))["tools"][0]]}),
            "Tool names must be unique",
            SOURCE,
        );
        refused(
            &json!({"tools": [{"name": "f"}]}),
            "tools.0.custom.input_schema: Field required",
            SOURCE,
        );
    }

    #[test]
    fn what_is_deferred_can_be_found() {
        const SOURCE: &str =
            "https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool";
        refused(
            &tool(json!({"defer_loading": true})),
            "At least one tool must have defer_loading=false",
            SOURCE,
        );
        let mut both = tool(json!({"defer_loading": true}));
        both["tools"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "g", "input_schema": {"type": "object"}}));
        refused(&both, "", SOURCE);
        both["tools"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "tool_search_tool_regex_20251119", "name": "search"}));
        refused(&both, "", SOURCE);
        both["tools"][0]["cache_control"] = json!({"type": "ephemeral"});
        refused(&both, "cache_control cannot be set on a tool with defer_loading", SOURCE);
    }

    #[test]
    fn a_choice_has_tools_to_choose_from() {
        const SOURCE: &str = "the API's words, quoted in reports";
        refused(
            &json!({"tool_choice": {"type": "auto"}}),
            "tool_choice may only be specified while providing tools",
            SOURCE,
        );
        let mut chosen = tool(json!({}));
        chosen["tool_choice"] = json!({"type": "tool", "name": "g"});
        refused(&chosen, "Tool 'g' not found in provided tools", SOURCE);
        chosen["tool_choice"] = json!({"type": "function"});
        refused(&chosen, "Input tag 'function'", SOURCE);
    }
}
