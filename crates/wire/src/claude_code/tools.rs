//! A client's own tools, as the program takes them: in the manifest of a server that is us.

use std::collections::HashSet;

use crate::Fault;
use crate::json::{Node, RawObject, quote};
use crate::notes::Notes;
use crate::read::{Path, array, flag, member, object, string, text, unsupported, verbatim, wrong};

/// One tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTool {
    pub name: String,
    /// As `tools/list` of the Model Context Protocol has it.
    pub manifest: String,
}

/// Members of a tool that the program has nothing for, and without which it works all the same.
const IGNORED: [&str; 6] = [
    "strict",
    "defer_loading",
    "input_examples",
    "allowed_callers",
    "eager_input_streaming",
    "response_inclusion",
];

/// A name that the program takes for a tool of its own, and offers no other under it.
const KEPT_BACK: &str = "ToolSearch";

pub(super) fn tools(node: &Node<'_>, notes: &mut Notes) -> Result<Vec<ClientTool>, Fault> {
    let path = Path::of("tools");
    let (mut tools, mut names) = (Vec::new(), HashSet::new());
    for (index, node) in array(node, path)?.iter().enumerate() {
        let place = path.at(index);
        let tool = tool(&object(node, place)?, place, notes)?;
        if !names.insert(tool.name.clone()) {
            return Err(wrong(
                place.key("name"),
                format!("there is another tool `{}`; names must be unique", tool.name),
            ));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn tool(tool: &RawObject<'_>, place: Path<'_>, notes: &mut Notes) -> Result<ClientTool, Fault> {
    if let Some(kind) = member(tool, "type") {
        let kind = string(&kind, place.key("type"))?;
        if kind != "custom" {
            return Err(unsupported(
                place,
                format!(
                    "`{kind}` is a tool that the API runs; Claude Code can be given the client's own tools only"
                ),
            ));
        }
    }
    let name = member(tool, "name").ok_or_else(|| wrong(place.key("name"), "field required"))?;
    let name = string(&name, place.key("name"))?.into_owned();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        return Err(wrong(place.key("name"), "expected 1 to 128 letters, digits, `_` or `-`"));
    }
    let schema = member(tool, "input_schema")
        .ok_or_else(|| wrong(place.key("input_schema"), "field required"))?;
    let kind = object(&schema, place.key("input_schema"))?
        .get("type")
        .and_then(|kind| kind.as_str().map(std::borrow::Cow::into_owned));
    if kind.as_deref() != Some("object") {
        return Err(wrong(place.key("input_schema").key("type"), "expected `object`"));
    }
    let description = match member(tool, "description") {
        Some(node) => format!("\"description\":{},", text(&node, place.key("description"))?.raw()),
        None => String::new(),
    };
    if member(tool, "cache_control").is_some() {
        notes.say("cache_control", "left to the program")?;
    }
    for ignored in IGNORED {
        if member(tool, ignored).is_some_and(|node| !matches!(node.raw(), "false" | "[]")) {
            notes.say(format!("tools.{ignored}"), "not passed on")?;
        }
    }
    if name == KEPT_BACK {
        notes.say(
            format!("tools.{KEPT_BACK}"),
            "kept from the model by Claude Code, which has one of that name",
        )?;
    }
    let known: Vec<&str> = ["type", "name", "description", "input_schema", "cache_control"]
        .into_iter()
        .chain(IGNORED)
        .collect();
    notes.unknown(tool, &known, "tools")?;
    // Only tools that are said to be harmless are called several at a time.
    let manifest = format!(
        "{{\"name\":{},{description}\"inputSchema\":{},\"annotations\":{{\"readOnlyHint\":true}}}}",
        quote(&name),
        verbatim(&schema, place.key("input_schema"))?
    );
    Ok(ClientTool { name, manifest })
}

/// Reads `tool_choice` and writes it anew, so that nothing else comes along.
pub(super) fn choice(
    node: &Node<'_>,
    tools: &[ClientTool],
    notes: &mut Notes,
) -> Result<String, Fault> {
    let path = Path::of("tool_choice");
    let choice = object(node, path)?;
    let kind = member(&choice, "type").ok_or_else(|| wrong(path.key("type"), "field required"))?;
    let kind = string(&kind, path.key("type"))?;
    let mut out = format!("{{\"type\":{}", quote(&kind));
    match &*kind {
        "auto" | "any" | "none" => {}
        "tool" => {
            let name =
                member(&choice, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
            let name = string(&name, path.key("name"))?;
            if !tools.iter().any(|tool| tool.name == *name) {
                return Err(wrong(
                    path.key("name"),
                    format!("there is no tool `{name}` in `tools`"),
                ));
            }
            out.push_str(&format!(",\"name\":{}", quote(&name)));
        }
        _ => return Err(wrong(path.key("type"), "expected `auto`, `any`, `tool` or `none`")),
    }
    if let Some(alone) = member(&choice, "disable_parallel_tool_use") {
        out.push_str(&format!(
            ",\"disable_parallel_tool_use\":{}",
            flag(&alone, path.key("disable_parallel_tool_use"))?
        ));
    }
    notes.unknown(&choice, &["type", "name", "disable_parallel_tool_use"], "tool_choice")?;
    out.push('}');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<(Vec<ClientTool>, usize), Fault> {
        let body = format!("{{\"tools\":{source}}}");
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let mut notes = Notes::new(false);
        let tools = tools(&object.get("tools").unwrap(), &mut notes)?;
        Ok((tools, notes.into_changes().len()))
    }

    #[test]
    fn a_tool_keeps_its_name_and_the_spelling_of_its_schema() {
        let (tools, noted) = read(
            r#"[{"name":"Read","description":"d\n","input_schema":{ "type":"object", "x":1.0 }}]"#,
        )
        .unwrap();
        assert_eq!(
            tools[0].manifest,
            r#"{"name":"Read","description":"d\n","inputSchema":{ "type":"object", "x":1.0 },"annotations":{"readOnlyHint":true}}"#
        );
        assert_eq!(noted, 0);
    }

    #[test]
    fn a_tool_that_the_program_keeps_back_is_noted() {
        assert_eq!(
            read(r#"[{"name":"ToolSearch","input_schema":{"type":"object"}}]"#).unwrap().1,
            1
        );
    }

    #[test]
    fn what_cannot_be_said_of_a_tool_is_noted_or_refused() {
        assert_eq!(read(r#"[{"type":"custom","name":"a","strict":true,"cache_control":{},"new":1,"defer_loading":false,"input_schema":{"type":"object"}}]"#).unwrap().1, 3);
        let table = [
            (
                r#"[{"type":"web_search_20250305","name":"web_search"}]"#,
                "is a tool that the API runs",
            ),
            (
                r#"[{"name":"a b","input_schema":{"type":"object"}}]"#,
                "tools[0].name: expected 1 to 128 letters",
            ),
            (r#"[{"name":"a"}]"#, "tools[0].input_schema: field required"),
            (
                r#"[{"name":"a","input_schema":{}}]"#,
                "tools[0].input_schema.type: expected `object`",
            ),
            (
                r#"[{"name":"a","input_schema":{"type":"object"}},{"name":"a","input_schema":{"type":"object"}}]"#,
                "tools[1].name: there is another",
            ),
        ];
        for (source, expect) in table {
            let message = read(source).unwrap_err().message;
            assert!(message.contains(expect), "{message}");
        }
    }
}
