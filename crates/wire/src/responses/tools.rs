//! The tools of a Responses request.

use std::collections::HashSet;

use crate::Fault;
use crate::json::{Node, RawObject, Text, quote};
use crate::openai::Terms;
use crate::openai::conversation::{Block, Kind};
use crate::openai::draft::Draft;
use crate::openai::names;
use crate::openai::tools::{SEARCH, is_search};
use crate::read::{Path, array, count, flag, member, object, string, unsupported, verbatim, wrong};

const LIST: Path<'_> = Path::of("tools");

/// Collects the tools; returns those whose calls have text in place of arguments, as the upstream calls them.
pub(super) fn tools<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<HashSet<String>, Fault> {
    let Some(node) = member(source, "tools") else { return Ok(HashSet::new()) };
    let mut collector = Collector { draft, source, terms, custom: HashSet::new() };
    for (index, node) in array(&node, LIST)?.iter().enumerate() {
        let path = LIST.at(index);
        collector.tool(&object(node, path)?, path)?;
    }
    Ok(collector.custom)
}

struct Collector<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    source: &'d RawObject<'a>,
    terms: &'d Terms<'t>,
    custom: HashSet<String>,
}

impl<'a> Collector<'_, 'a, '_> {
    fn tool(&mut self, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let kind = member(tool, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        match kind.as_deref() {
            Some("namespace") => self.namespace(tool, path),
            Some(kind) if is_search(kind) => self.web_search(tool, path),
            _ => self.own(kind.as_deref(), tool, path),
        }
    }

    /// A tool that the client runs itself.
    fn own(&mut self, kind: Option<&str>, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        match kind {
            None | Some("function") => self.draft.toolbox.function(tool, tool, path, self.terms, &mut self.draft.notes),
            Some("custom") => self.custom(tool, path),
            Some(other) => Err(unsupported(path.key("type"), format!("tools of type `{other}` are not supported; describe it as a `function`"))),
        }
    }

    /// Messages knows no namespaces, so their tools are called after them; what is said of all of them is system text.
    fn namespace(&mut self, space: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let name = member(space, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
        let name = string(&name, path.key("name"))?.into_owned();
        if name.is_empty() {
            return Err(wrong(path.key("name"), "a namespace has to have a name"));
        }
        let list = member(space, "tools").ok_or_else(|| wrong(path.key("tools"), "field required"))?;
        self.draft.notes.unknown(space, &["type", "name", "description", "tools"], "tools")?;
        if let Some(node) = member(space, "description") {
            let said = string(&node, path.key("description"))?;
            if !said.trim().is_empty() {
                let said = format!("About the tools whose names begin with `{}`: {said}", names::within(&name, ""));
                self.draft.conversation.system.push(Block::new(Kind::Text(Text::quoted(&said))));
            }
        }
        let path = path.key("tools");
        self.draft.toolbox.space = Some(name);
        for (index, node) in array(&list, path)?.iter().enumerate() {
            let path = path.at(index);
            let tool = object(node, path)?;
            let kind = member(&tool, "type").map(|node| string(&node, path.key("type"))).transpose()?;
            self.own(kind.as_deref(), &tool, path)?;
        }
        self.draft.toolbox.space = None;
        Ok(())
    }

    /// A tool that takes text becomes one with a single text for its argument.
    fn custom(&mut self, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let name = member(tool, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
        let name = string(&name, path.key("name"))?;
        if name.is_empty() {
            return Err(wrong(path.key("name"), "a tool has to have a name"));
        }
        self.draft.notes.unknown(tool, &["type", "name", "description", "format", "cache_control"], "tools")?;
        let mut description = member(tool, "description").map(|node| string(&node, path.key("description"))).transpose()?.unwrap_or_default().into_owned();
        if let Some(node) = member(tool, "format") {
            self.told(&mut description, &object(&node, path.key("format"))?, path.key("format"))?;
        }
        let schema = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as plain text"}},"required":["input"]}"#;
        let about = if description.is_empty() { String::new() } else { format!("\"description\":{},", quote(&description)) };
        let mark = member(tool, "cache_control").map(|node| verbatim(&node, path.key("cache_control"))).transpose()?;
        let upstream = self.draft.toolbox.written(name, &format!("{about}\"input_schema\":{schema}}}"), mark, path)?;
        self.custom.insert(upstream);
        Ok(())
    }

    /// A grammar cannot be enforced, so it is told.
    fn told(&mut self, description: &mut String, format: &RawObject<'_>, path: Path<'_>) -> Result<(), Fault> {
        let kind = member(format, "type").ok_or_else(|| wrong(path.key("type"), "field required"))?;
        match &*string(&kind, path.key("type"))? {
            "text" => return Ok(()),
            "grammar" => {}
            other => return Err(wrong(path.key("type"), format!("`{other}` is no format; expected `text` or `grammar`"))),
        }
        let definition = member(format, "definition").ok_or_else(|| wrong(path.key("definition"), "field required"))?;
        let syntax = member(format, "syntax").map(|node| string(&node, path.key("syntax"))).transpose()?.unwrap_or_default();
        let gap = if description.is_empty() { "" } else { "\n\n" };
        description.push_str(&format!("{gap}The input has to follow this grammar ({syntax}):\n{}", string(&definition, path.key("definition"))?));
        self.draft.notes.say("tools.format", "put into the description")
    }

    fn web_search(&mut self, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        // Claude's searches go out; a client that wants none of that wants none of them.
        if member(tool, "external_web_access").map(|node| flag(&node, path.key("external_web_access"))).transpose()? == Some(false) {
            self.draft.toolbox.without_search = true;
            return self.draft.notes.left_out("tools.web_search");
        }
        let Some(kind) = self.terms.web_search else {
            let why = "web searches are not configured here; whoever runs this gateway can set `web_search` for the upstream";
            return Err(unsupported(path.key("type"), format!("tools of type `web_search` are not supported: {why}")));
        };
        let mut text = format!("{{\"type\":{},\"name\":\"web_search\"", quote(kind));
        if let Some(most) = member(self.source, "max_tool_calls") {
            text.push_str(&format!(",\"max_uses\":{}", count(&most, "max_tool_calls")?));
        }
        if let Some(location) = member(tool, "user_location") {
            let location = object(&location, path.key("user_location"))?;
            self.draft.notes.unknown(&location, &["type", "city", "region", "country", "timezone"], "tools.user_location")?;
            text.push_str(",\"user_location\":{\"type\":\"approximate\"");
            for key in ["city", "region", "country", "timezone"] {
                if let Some(node) = member(&location, key) {
                    text.push_str(&format!(",\"{key}\":{}", verbatim(&node, path.key("user_location"))?));
                }
            }
            text.push('}');
        }
        if let Some(node) = member(tool, "filters") {
            let filters = object(&node, path.key("filters"))?;
            for key in ["allowed_domains", "blocked_domains"] {
                if let Some(domains) = member(&filters, key) {
                    text.push_str(&format!(",\"{key}\":{}", verbatim(&domains, path.key("filters"))?));
                }
            }
            self.draft.notes.unknown(&filters, &["allowed_domains", "blocked_domains"], "tools.filters")?;
        }
        if member(tool, "search_context_size").is_some_and(|size| size.raw() != "\"medium\"") {
            self.draft.notes.ignored("tools.search_context_size")?;
        }
        text.push('}');
        self.draft.notes.unknown(tool, &["type", "user_location", "filters", "search_context_size", "external_web_access"], "tools")?;
        self.draft.toolbox.server(SEARCH, text, path)
    }
}

/// The namespaces that a request declares.
pub(super) fn declared(source: &RawObject<'_>) -> HashSet<String> {
    let spaces = listed(source).into_iter().filter(|tool| kind(tool).as_deref() == Some("namespace"));
    spaces.filter_map(|space| Some(space.get("name")?.as_str()?.into_owned())).collect()
}

fn listed<'a>(source: &RawObject<'a>) -> Vec<RawObject<'a>> {
    let tools = member(source, "tools").and_then(|node| node.as_array()).unwrap_or_default();
    tools.iter().filter_map(Node::as_object).collect()
}

fn kind(tool: &RawObject<'_>) -> Option<String> {
    Some(tool.get("type")?.as_str()?.into_owned())
}
