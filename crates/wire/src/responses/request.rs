//! From a Responses request to a Messages request: everything but the input itself.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::items::{self, converse};
use super::{Echo, Memory, Shape};
use crate::json::{Node, RawObject, quote};
use crate::messages::Change;
use crate::model::Thinking;
use crate::notes::Notes;
use crate::openai::conversation::{Block, Kind};
use crate::openai::draft::Draft;
use crate::openai::format::{any_object, fitting};
use crate::openai::thinking::{ADAPTIVE, Number, Wanted, Wishes, settings};
use crate::openai::tools::choice;
use crate::openai::{Terms, names};
use crate::read::{Path, array, count, flag, member, number, object, string, text, unsupported, verbatim, wrong};
use crate::{Fault, Request};

/// A request on its way to a Messages upstream.
#[derive(Debug)]
pub struct Translated {
    pub body: String,
    pub shape: Shape,
    /// What could not be carried over as it was.
    pub changes: Vec<Change>,
}

/// What was kept of earlier responses, as far as this request speaks of it.
#[derive(Debug, Default)]
pub struct Before {
    /// What `previous_response_id` stands for.
    pub memory: Option<Memory>,
    /// Items that the input refers to, by their ids.
    pub items: HashMap<String, String>,
}

/// Members that are looked at, here or when the answer is written.
const KNOWN: [&str; 26] = [
    "model",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "include",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "truncation",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "service_tier",
    "metadata",
    "prompt_cache_key",
];

/// Members that Messages has nothing for, with the value that says nothing.
const DEFAULTS: [(&str, &str); 3] = [("top_logprobs", "0"), ("frequency_penalty", "0"), ("presence_penalty", "0")];

/// The ids that a request's input refers to.
#[must_use]
pub fn references(request: &Request<'_>) -> Vec<String> {
    request.object.get("input").map(|input| items::references(&input)).unwrap_or_default()
}

/// The response that a request goes on from.
///
/// # Errors
///
/// If it names none that could be.
pub fn previous(request: &Request<'_>) -> Result<Option<String>, Fault> {
    let named = member(&request.object, "previous_response_id").map(|node| string(&node, "previous_response_id")).transpose()?;
    Ok(named.map(Cow::into_owned))
}

/// Translates a request. The same request on the same terms, after the same, gives the same bytes every time.
///
/// # Errors
///
/// A [`Fault`] that names the member which is wrong, or cannot be carried over.
pub fn to_messages(request: &Request<'_>, before: &Before, terms: &Terms<'_>) -> Result<Translated, Fault> {
    let source = &request.object;
    let mut draft = Draft::new(terms.strict);
    if terms.model.is_empty() {
        return Err(wrong("model", "field required"));
    }
    refuse(source)?;
    if let Some(node) = member(source, "instructions") {
        let said = text(&node, "instructions")?;
        if !said.is_blank() {
            draft.conversation.system.push(Block::new(Kind::Text(said)));
        }
    }
    let instructed = draft.conversation.system.len();
    if let Some(memory) = &before.memory {
        memory.recall(&mut draft.conversation, terms.model)?;
    }
    let input = member(source, "input").ok_or_else(|| wrong("input", "field required"))?;
    converse(&mut draft, &input, &before.items, terms)?;
    draft.conversation.settle(&terms.traits, terms.model, "input")?;
    // Before anything of our own joins it.
    let memory = Memory { system: draft.system_from(instructed), turns: draft.turns(), model: String::new() };
    let custom = tools(&mut draft, source, terms)?;
    let parallel = member(source, "parallel_tool_calls").map(|node| flag(&node, "parallel_tool_calls")).transpose()?.unwrap_or(true);
    let wanted = member(source, "tool_choice").map(|node| choice(&node)).transpose()?;
    draft.chosen = draft.toolbox.choose(wanted, parallel, terms, &mut draft.notes)?;
    let asked = draft.chosen.request.take();
    draft.conversation.system.extend(asked);
    let mut wishes = wishes(source, request.stream, terms, &mut draft.notes)?;
    wishes.format = format(&mut draft, source, terms)?;
    wishes.default_limit = terms.max_tokens;
    draft.settings = settings(wishes, draft.demands(), &terms.traits, &mut draft.notes)?;
    draft.user_and_tier(source)?;
    let encrypted = include(&mut draft.notes, source)?;
    ignore(&mut draft.notes, source)?;
    draft.limit_marks(terms.marked)?;
    let (body, toolbox, notes) = draft.write(terms.model, request.stream, source.source().len() + memory.turns.len() + 512);
    let shape = Shape { names: toolbox.names, custom, encrypted, echo: Echo::of(source), memory };
    Ok(Translated { body, shape, changes: notes.into_changes() })
}

/// What changes the answer so much that ignoring it would be a lie.
fn refuse(source: &RawObject<'_>) -> Result<(), Fault> {
    if member(source, "background").map(|node| flag(&node, "background")).transpose()? == Some(true) {
        return Err(unsupported("background", "responses are not made in the background here; stream them"));
    }
    for key in ["conversation", "prompt"] {
        if member(source, key).is_some() {
            return Err(unsupported(key, "what OpenAI keeps cannot be reached from here; send `input`, or go on with `previous_response_id`"));
        }
    }
    if let Some(node) = member(source, "truncation") {
        let name = string(&node, "truncation")?;
        if !matches!(&*name, "auto" | "disabled") {
            return Err(wrong("truncation", format!("`{name}` is no truncation; expected `auto` or `disabled`")));
        }
    }
    Ok(())
}

/// Collects the tools; returns the names of those whose calls have text in place of arguments.
fn tools<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<HashSet<String>, Fault> {
    let mut custom = HashSet::new();
    let Some(node) = member(source, "tools") else { return Ok(custom) };
    let list = Path::of("tools");
    for (index, node) in array(&node, list)?.iter().enumerate() {
        let path = list.at(index);
        let tool = object(node, path)?;
        let kind = member(&tool, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        match kind.as_deref() {
            None | Some("function") => draft.toolbox.function(&tool, &tool, path, terms, &mut draft.notes)?,
            Some("custom") => {
                let name = custom_tool(draft, &tool, path)?;
                custom.insert(name);
            }
            Some("web_search" | "web_search_2025_08_26" | "web_search_preview" | "web_search_preview_2025_03_11") => web_search(draft, &tool, path, source, terms)?,
            Some(other) => return Err(unsupported(path.key("type"), format!("tools of type `{other}` are not supported; describe it as a `function`"))),
        }
    }
    Ok(custom)
}

/// A tool that takes text becomes one with a single text for its argument.
fn custom_tool<'a>(draft: &mut Draft<'a>, tool: &RawObject<'a>, path: Path<'_>) -> Result<String, Fault> {
    let name = member(tool, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
    let name = string(&name, path.key("name"))?;
    if name.is_empty() {
        return Err(wrong(path.key("name"), "a tool has to have a name"));
    }
    let mut description = member(tool, "description").map(|node| string(&node, path.key("description"))).transpose()?.unwrap_or_default().into_owned();
    if let Some(format) = member(tool, "format") {
        let format = object(&format, path.key("format"))?;
        if let Some(definition) = member(&format, "definition") {
            // A grammar cannot be enforced, so it is told.
            let syntax = member(&format, "syntax").and_then(|node| node.as_str()).unwrap_or_default();
            description.push_str(&format!("\n\nThe input has to follow this grammar ({syntax}):\n{}", string(&definition, path.key("format"))?));
            draft.notes.say("tools.format", "put into the description")?;
        }
    }
    let upstream = names::tool(name.clone()).into_owned();
    let schema = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as plain text"}},"required":["input"]}"#;
    let text = format!("{{\"name\":{},\"description\":{},\"input_schema\":{schema}}}", quote(&upstream), quote(&description));
    draft.toolbox.renamed(&upstream, &name, text, path)?;
    Ok(name.into_owned())
}

fn web_search<'a>(draft: &mut Draft<'a>, tool: &RawObject<'a>, path: Path<'_>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<(), Fault> {
    let Some(kind) = terms.web_search else {
        let why = "web searches are not configured here; whoever runs this gateway can set `web_search` for the upstream";
        return Err(unsupported(path.key("type"), format!("tools of type `web_search` are not supported: {why}")));
    };
    let mut text = format!("{{\"type\":{},\"name\":\"web_search\"", quote(kind));
    if let Some(most) = member(source, "max_tool_calls") {
        text.push_str(&format!(",\"max_uses\":{}", count(&most, "max_tool_calls")?));
    }
    if let Some(location) = member(tool, "user_location") {
        let location = object(&location, path.key("user_location"))?;
        text.push_str(",\"user_location\":{\"type\":\"approximate\"");
        for key in ["city", "region", "country", "timezone"] {
            if let Some(node) = member(&location, key) {
                text.push_str(&format!(",\"{key}\":{}", verbatim(&node, path.key("user_location"))?));
            }
        }
        text.push('}');
    }
    if let Some(domains) = member(tool, "filters").and_then(|filters| member(&filters.as_object()?, "allowed_domains")) {
        text.push_str(&format!(",\"allowed_domains\":{}", verbatim(&domains, path.key("filters"))?));
    }
    text.push('}');
    draft.notes.unknown(tool, &["type", "user_location", "filters", "search_context_size", "external_web_access"], "tools")?;
    draft.toolbox.server("web_search", text, path)
}

fn wishes<'a>(source: &RawObject<'a>, stream: bool, terms: &Terms<'_>, notes: &mut Notes) -> Result<Wishes<'a>, Fault> {
    let number_at = |key: &str, most: f64| -> Result<Option<Number<'a>>, Fault> {
        let Some(node) = member(source, key) else { return Ok(None) };
        Ok(Some(Number { raw: node.raw(), value: number(&node, key, most)? }))
    };
    let reasoning = member(source, "reasoning").map(|node| object(&node, "reasoning")).transpose()?;
    let part = |key: &str| reasoning.as_ref().and_then(|reasoning| member(reasoning, key));
    if let Some(reasoning) = &reasoning {
        notes.unknown(reasoning, &["effort", "summary", "generate_summary", "encrypted_content"], "reasoning")?;
    }
    let effort = part("effort").map(|node| Wanted::parse(&string(&node, "reasoning.effort")?, "reasoning.effort")).transpose()?;
    let summary = part("summary").or_else(|| part("generate_summary")).map(|node| string(&node, "reasoning.summary")).transpose()?;
    if let Some(other) = summary.as_deref().filter(|summary| !matches!(*summary, "auto" | "concise" | "detailed" | "none")) {
        return Err(wrong("reasoning.summary", format!("`{other}` is no summary; expected `auto`, `concise` or `detailed`")));
    }
    // Who wants to see the thinking wants it thought; without an effort the model's own counts.
    let shown = effort.is_none() && summary.is_some_and(|summary| summary != "none") && terms.traits.thinking == Thinking::Adaptive;
    Ok(Wishes {
        stream,
        max_tokens: member(source, "max_output_tokens").map(|node| count(&node, "max_output_tokens")).transpose()?,
        temperature: number_at("temperature", 2.0)?,
        top_p: number_at("top_p", 1.0)?,
        effort,
        thinking: shown.then_some(Cow::Borrowed(ADAPTIVE)),
        called: Some("reasoning.effort"),
        ..Wishes::default()
    })
}

/// The answer's format, as a member of `output_config` or as a sentence in the system prompt.
fn format<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<Option<String>, Fault> {
    let Some(node) = member(source, "text") else { return Ok(None) };
    let holder = object(&node, "text")?;
    draft.notes.unknown(&holder, &["format", "verbosity"], "text")?;
    if member(&holder, "verbosity").is_some_and(|node| node.raw() != "\"medium\"") {
        draft.notes.ignored("text.verbosity")?;
    }
    let Some(node) = member(&holder, "format") else { return Ok(None) };
    let format = object(&node, "text.format")?;
    let kind = member(&format, "type").ok_or_else(|| wrong("text.format.type", "field required"))?;
    match &*string(&kind, "text.format.type")? {
        "text" => Ok(None),
        "json_object" => {
            any_object(draft);
            Ok(None)
        }
        "json_schema" => {
            draft.notes.unknown(&format, &["type", "name", "schema", "strict", "description"], "text.format")?;
            fitting(draft, &format, "text.format.schema", "text.format", terms)
        }
        other => Err(unsupported("text.format.type", format!("`{other}` is no format; expected `text`, `json_object` or `json_schema`"))),
    }
}

/// What the client wants beside the answer. True if that is its thinking in a form that can be returned.
fn include(notes: &mut Notes, source: &RawObject<'_>) -> Result<bool, Fault> {
    let mut encrypted = false;
    let Some(node) = member(source, "include") else { return Ok(false) };
    for node in array(&node, "include")? {
        match &*string(&node, "include")? {
            "reasoning.encrypted_content" => encrypted = true,
            other => notes.ignored(format!("include.{other}"))?,
        }
    }
    Ok(encrypted)
}

/// Names what is not carried over.
fn ignore(notes: &mut Notes, source: &RawObject<'_>) -> Result<(), Fault> {
    for (key, node) in source.members() {
        if KNOWN.contains(&key) || node.is_null() {
            continue;
        }
        let default = DEFAULTS.iter().find(|(name, _)| *name == key);
        if !default.is_some_and(|_| node.as_f64() == Some(0.0)) {
            notes.ignored(Cow::Owned(key.to_owned()))?;
        }
    }
    if member(source, "max_tool_calls").is_some() && !searches(source) {
        notes.ignored("max_tool_calls")?;
    }
    if let Some(node) = member(source, "stream_options") {
        let options = object(&node, "stream_options")?;
        let silent = ["include_obfuscation"].into_iter().filter(|key| options.get(key).is_some_and(|node| node.as_bool() == Some(false)));
        notes.unknown(&options, &silent.collect::<Vec<_>>(), "stream_options")?;
    }
    Ok(())
}

fn searches(source: &RawObject<'_>) -> bool {
    let tools = member(source, "tools").and_then(|node| node.as_array()).unwrap_or_default();
    tools.iter().filter_map(Node::as_object).any(|tool| tool.get("type").and_then(|kind| kind.as_str()).is_some_and(|kind| kind.starts_with("web_search")))
}
