//! From a Responses request to a Messages request: what Responses has of its own.

use std::borrow::Cow;
use std::collections::HashMap;

use super::items;
use super::{Echo, Memory, ResponsesShape};
use crate::json::RawObject;
use crate::messages::Change;
use crate::notes::Notes;
use crate::openai::Terms;
use crate::openai::choice::choice;
use crate::openai::draft::Draft;
use crate::openai::entries::List;
use crate::openai::members;
use crate::read::{array, flag, member, number, object, string, unsupported, wrong};
use crate::{Fault, Request};

/// A request on its way to a Messages upstream.
#[derive(Debug)]
pub struct ResponsesRequest {
    pub body: String,
    pub shape: ResponsesShape,
    /// What could not be carried over as it was.
    pub changes: Vec<Change>,
    /// What `anthropic-beta` has to announce.
    pub betas: Vec<String>,
}

/// What was kept of earlier responses, as far as this request speaks of it.
#[derive(Debug, Default)]
pub struct Before {
    /// What `previous_response_id` stands for.
    pub memory: Option<Memory>,
    /// Items that the input refers to, by their ids.
    pub items: HashMap<String, String>,
}

/// Members that are looked at here, or when the answer is written.
const KNOWN: [&str; 7] = [
    "include",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "store",
    "metadata",
];

/// How much may be noted of a response, and how long each note may be.
const METADATA: usize = 16;
const METADATA_LENGTH: usize = 512;

/// The ids that a request's input refers to.
pub fn references(request: &Request<'_>) -> Vec<String> {
    request.object.get("input").map(|input| items::references(&input)).unwrap_or_default()
}

/// The response that a request goes on from.
///
/// # Errors
///
/// If it names none that could be.
pub fn previous(request: &Request<'_>) -> Result<Option<String>, Fault> {
    let named = member(&request.object, "previous_response_id")
        .map(|node| string(&node, "previous_response_id"))
        .transpose()?;
    Ok(named.map(Cow::into_owned))
}

/// Translates a request. The same request on the same terms, after the same, gives the same bytes every time.
///
/// # Errors
///
/// A [`Fault`] that names the member which is wrong, or cannot be carried over.
pub fn to_messages(
    request: &Request<'_>,
    before: &Before,
    terms: &Terms<'_>,
) -> Result<ResponsesRequest, Fault> {
    let source = &request.object;
    let mut draft = Draft::new(terms.strict, true);
    if terms.model.is_empty() {
        return Err(wrong("model", "field required"));
    }
    refuse(source)?;
    draft.breakpoints(source)?;
    let format = members::format(&mut draft, source, terms)?;
    let about = members::tools(&mut draft, source, terms)?;
    members::web_search_options(&mut draft, source, terms)?;
    members::instructions(&mut draft, source, terms)?;
    let instructed = draft.conversation.system.len();
    if let Some(memory) = &before.memory {
        memory.recall(&mut draft, terms.model)?;
    }
    let lists = ["input", "messages"].map(|name| List { name, kept: Some(&before.items) });
    members::conversation(&mut draft, source, lists, terms)?;
    // Before anything of our own joins it.
    let memory = Memory {
        system: draft.system_from(instructed),
        turns: draft.turns(),
        model: String::new(),
    };
    members::tell(&mut draft, about);
    draft.toolbox.settle(&mut draft.notes)?;
    let wanted = member(source, "tool_choice").map(|node| choice(&node)).transpose()?;
    draft.chosen =
        draft.toolbox.choose(wanted, members::parallel(source)?, terms, &mut draft.notes)?;
    let asked = draft.chosen.request.take();
    draft.conversation.system.extend(asked);
    let limits = ["max_output_tokens", "max_tokens", "max_completion_tokens"];
    members::answer(&mut draft, source, &limits, request.stream, format, terms)?;
    let encrypted = include(&mut draft.notes, source)?;
    members::ignore(&mut draft, source, &KNOWN)?;
    members::includes_usage(&mut draft, source)?;
    checked(source)?;
    draft.limit_marks(terms.marked)?;
    let written =
        draft.write(terms.model, request.stream, source.source().len() + memory.turns.len() + 512);
    let shape = ResponsesShape {
        names: written.names,
        calls: written.calls,
        encrypted,
        echo: Echo::of(source),
        memory,
    };
    Ok(ResponsesRequest {
        body: written.body,
        shape,
        changes: written.notes.into_changes(),
        betas: written.betas,
    })
}

/// What changes the answer so much that ignoring it would be a lie.
fn refuse(source: &RawObject<'_>) -> Result<(), Fault> {
    if member(source, "background").map(|node| flag(&node, "background")).transpose()? == Some(true)
    {
        return Err(unsupported(
            "background",
            "responses are not made in the background here; stream them",
        ));
    }
    for key in ["conversation", "prompt"] {
        if member(source, key).is_some() {
            return Err(unsupported(
                key,
                "what OpenAI keeps cannot be reached from here; send `input`, or go on with `previous_response_id`",
            ));
        }
    }
    if let Some(node) = member(source, "truncation") {
        let name = string(&node, "truncation")?;
        if !matches!(&*name, "auto" | "disabled") {
            return Err(wrong(
                "truncation",
                format!("`{name}` is no truncation; expected `auto` or `disabled`"),
            ));
        }
    }
    Ok(())
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
            return Err(wrong(
                format!("metadata.{key}"),
                format!("expected a string of at most {METADATA_LENGTH} characters"),
            ));
        }
    }
    Ok(())
}
