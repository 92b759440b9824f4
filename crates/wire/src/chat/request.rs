//! From a Chat request to a Messages request: what Chat has of its own.

use super::ChatShape;
use crate::json::RawObject;
use crate::messages::Change;
use crate::openai::Terms;
use crate::openai::choice::{Choice, choice};
use crate::openai::declared::{Again, Collector};
use crate::openai::draft::Draft;
use crate::openai::entries::List;
use crate::openai::members;
use crate::read::{Path, array, count, member, string, unsupported, wrong};
use crate::{Fault, Request};

/// A request on its way to a Messages upstream.
#[derive(Debug)]
pub struct ChatRequest {
    pub body: String,
    pub shape: ChatShape,
    /// What could not be carried over as it was.
    pub changes: Vec<Change>,
    /// What `anthropic-beta` has to announce.
    pub betas: Vec<String>,
}

/// Members that are looked at here.
const KNOWN: [&str; 5] = ["n", "functions", "function_call", "modalities", "audio"];

/// Members that Messages has nothing for, with the value that says nothing here and something elsewhere.
const DEFAULTS: [(&str, &str); 2] = [("store", "false"), ("metadata", "{}")];

/// Translates a request. The same request on the same terms gives the same bytes every time.
///
/// # Errors
///
/// A [`Fault`] that names the member which is wrong, or cannot be carried over.
pub fn to_messages(request: &Request<'_>, terms: &Terms<'_>) -> Result<ChatRequest, Fault> {
    const LISTS: [List<'_>; 2] =
        [List { name: "messages", kept: None }, List { name: "input", kept: None }];
    let source = &request.object;
    let mut draft = Draft::new(terms.strict, false);
    if terms.model.is_empty() {
        return Err(wrong("model", "field required"));
    }
    refuse(source)?;
    draft.breakpoints(source)?;
    let format = members::format(&mut draft, source, terms)?;
    let (legacy, about) = tools(&mut draft, source, terms)?;
    members::instructions(&mut draft, source, terms)?;
    members::conversation(&mut draft, source, LISTS, terms)?;
    members::tell(&mut draft, about);
    draft.toolbox.settle(&mut draft.notes)?;
    let parallel = !legacy && members::parallel(source)?;
    let wanted = if legacy {
        legacy_choice(source)?
    } else {
        member(source, "tool_choice").map(|node| choice(&node)).transpose()?
    };
    draft.chosen = draft.toolbox.choose(wanted, parallel, terms, &mut draft.notes)?;
    let asked = draft.chosen.request.take();
    draft.conversation.system.extend(asked);
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    members::answer(&mut draft, source, &limits, request.stream, format, terms)?;
    let known: Vec<&str> = KNOWN
        .into_iter()
        .chain(
            DEFAULTS
                .iter()
                .filter(|(key, default)| source.get(key).is_some_and(|node| node.raw() == *default))
                .map(|(key, _)| *key),
        )
        .collect();
    members::ignore(&mut draft, source, &known)?;
    let include_usage = members::includes_usage(&mut draft, source)? && request.stream;
    draft.limit_marks(terms.marked)?;
    let written = draft.write(terms.model, request.stream, source.source().len() + 512);
    let shape =
        ChatShape { names: written.names, custom: written.calls.custom, legacy, include_usage };
    Ok(ChatRequest {
        body: written.body,
        shape,
        changes: written.notes.into_changes(),
        betas: written.betas,
    })
}

/// What changes the answer so much that ignoring it would be a lie.
fn refuse(source: &RawObject<'_>) -> Result<(), Fault> {
    if let Some(node) = member(source, "n")
        && count(&node, "n")? > 1
    {
        return Err(unsupported("n", "Claude gives one answer to a request; ask several times"));
    }
    if let Some(node) = member(source, "modalities") {
        for modality in array(&node, "modalities")? {
            let name = string(&modality, "modalities")?;
            if name != "text" {
                return Err(unsupported(
                    "modalities",
                    format!("`{name}` is not supported; Claude answers in text"),
                ));
            }
        }
    }
    match member(source, "audio") {
        Some(_) => Err(unsupported("audio", "Claude answers in text")),
        None => Ok(()),
    }
}

/// Collects the tools. True if only `functions` were sent, so that the answer has to speak of them.
fn tools<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    terms: &Terms<'_>,
) -> Result<(bool, Vec<String>), Fault> {
    let about = members::tools(draft, source, terms)?;
    let given = member(source, "tools")
        .and_then(|node| node.as_array())
        .is_some_and(|tools| !tools.is_empty());
    let functions = member(source, "functions")
        .map(|node| Ok((array(&node, "functions")?.len(), node)))
        .transpose()?
        .filter(|(length, _)| *length > 0);
    let legacy = !given && functions.is_some();
    match functions {
        Some((_, node)) if legacy => Collector::new(draft, terms, Again::Refused, "functions")
            .list(&node, Path::of("functions"))?,
        Some(_) => draft.notes.ignored("functions")?,
        None => {}
    }
    members::web_search_options(draft, source, terms)?;
    Ok((legacy, about))
}

/// The choice among legacy functions.
fn legacy_choice(source: &RawObject<'_>) -> Result<Option<Choice>, Fault> {
    const PATH: &str = "function_call";
    let Some(node) = member(source, PATH) else { return Ok(None) };
    if let Some(holder) = node.as_object() {
        let name =
            member(&holder, "name").ok_or_else(|| wrong("function_call.name", "field required"))?;
        return Ok(Some(Choice::Named(string(&name, "function_call.name")?.into_owned())));
    }
    match &*string(&node, PATH)? {
        "auto" => Ok(Some(Choice::Auto)),
        "none" => Ok(Some(Choice::None)),
        other => Err(wrong(
            PATH,
            format!("`{other}` is no choice; expected `auto`, `none`, or a function's name"),
        )),
    }
}
