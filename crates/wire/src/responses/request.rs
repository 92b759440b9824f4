//! From a Responses request to a Messages request: everything but the input itself.

use std::borrow::Cow;
use std::collections::HashMap;

use super::items::{self, Known, converse};
use super::tools::{declared, tools};
use super::{Echo, Memory, Shape};
use crate::json::RawObject;
use crate::messages::Change;
use crate::model::Thinking;
use crate::notes::Notes;
use crate::openai::Terms;
use crate::openai::conversation::{Block, Kind};
use crate::openai::draft::Draft;
use crate::openai::format::{any_object, fitting};
use crate::openai::thinking::{ADAPTIVE, Number, Wanted, Wishes, settings};
use crate::openai::tools::{SEARCH, choice};
use crate::read::{array, count, flag, member, number, object, string, text, unsupported, wrong};
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

/// How much may be noted of a response, and how long each note may be.
const METADATA: usize = 16;
const METADATA_LENGTH: usize = 512;

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
        memory.recall(&mut draft, terms.model)?;
    }
    let input = member(source, "input").ok_or_else(|| wrong("input", "field required"))?;
    let spaces = declared(source);
    converse(&mut draft, &input, &Known { items: &before.items, spaces: &spaces }, terms)?;
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
    ignore(&mut draft, source)?;
    checked(source)?;
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
    if summary.as_deref().is_some_and(|summary| summary != "none") && effort.is_none() && terms.traits.thinking != Thinking::Adaptive {
        notes.ignored("reasoning.summary")?;
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
    if let Some(node) = member(&holder, "verbosity") {
        match &*string(&node, "text.verbosity")? {
            "medium" => {}
            "low" | "high" => draft.notes.ignored("text.verbosity")?,
            other => return Err(wrong("text.verbosity", format!("`{other}` is no verbosity; expected `low`, `medium` or `high`"))),
        }
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
fn ignore(draft: &mut Draft<'_>, source: &RawObject<'_>) -> Result<(), Fault> {
    let searches = draft.toolbox.tools.iter().any(|tool| tool.is_called(SEARCH));
    let notes = &mut draft.notes;
    for (key, node) in source.members() {
        if KNOWN.contains(&key) || node.is_null() {
            continue;
        }
        let default = DEFAULTS.iter().find(|(name, _)| *name == key);
        if !default.is_some_and(|_| node.as_f64() == Some(0.0)) {
            notes.ignored(Cow::Owned(key.to_owned()))?;
        }
    }
    if let Some(node) = member(source, "max_tool_calls") {
        count(&node, "max_tool_calls")?;
        if !searches {
            notes.ignored("max_tool_calls")?;
        }
    }
    if let Some(node) = member(source, "stream_options") {
        let options = object(&node, "stream_options")?;
        let silent = ["include_obfuscation"].into_iter().filter(|key| options.get(key).is_some_and(|node| node.as_bool() == Some(false)));
        notes.unknown(&options, &silent.collect::<Vec<_>>(), "stream_options")?;
    }
    Ok(())
}

/// What the response repeats has to be what clients can read.
fn checked(source: &RawObject<'_>) -> Result<(), Fault> {
    for key in ["store", "stream"] {
        member(source, key).map(|node| flag(&node, key)).transpose()?;
    }
    for key in ["prompt_cache_key", "safety_identifier", "user"] {
        member(source, key).map(|node| string(&node, key)).transpose()?;
    }
    if let Some(node) = member(source, "top_logprobs") {
        number(&node, "top_logprobs", 20.0)?;
    }
    let Some(node) = member(source, "metadata") else { return Ok(()) };
    let metadata = object(&node, "metadata")?;
    if metadata.members().count() > METADATA {
        return Err(wrong("metadata", format!("expected at most {METADATA} members")));
    }
    for (key, node) in metadata.members() {
        if node.as_str().is_none_or(|text| text.chars().count() > METADATA_LENGTH) {
            return Err(wrong(format!("metadata.{key}"), format!("expected a string of at most {METADATA_LENGTH} characters")));
        }
    }
    Ok(())
}
