//! From a Chat request to a Messages request: everything but the conversation itself.

use std::borrow::Cow;

use super::Shape;
use super::content::converse;
use crate::json::{Node, RawObject, quote};
use crate::messages::Change;
use crate::notes::Notes;
use crate::openai::Terms;
use crate::openai::draft::Draft;
use crate::openai::format::{any_object, fitting};
use crate::openai::thinking::{Number, Wanted, Wishes, settings};
use crate::openai::tools::{Choice, choice};
use crate::read::{Path, array, count, flag, member, number, object, string, unsupported, verbatim, wrong};
use crate::{Fault, Request};

/// A request on its way to a Messages upstream.
#[derive(Debug)]
pub struct Translated {
    pub body: String,
    pub shape: Shape,
    /// What could not be carried over as it was.
    pub changes: Vec<Change>,
    /// What `anthropic-beta` has to announce.
    pub betas: Vec<String>,
}

/// Members of the Messages API that clients may send as they are.
const EXTENSIONS: [&str; 6] = ["cache_control", "context_management", "speed", "mcp_servers", "container", "inference_geo"];

/// Members that are looked at somewhere below.
const KNOWN: [&str; 27] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "n",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "thinking",
    "output_config",
    "betas",
    "user",
    "safety_identifier",
    "service_tier",
    "modalities",
    "audio",
    "web_search_options",
];

/// Members that Messages has nothing for, with the value that says nothing.
const DEFAULTS: [(&str, &str); 9] = [
    ("frequency_penalty", "0"),
    ("presence_penalty", "0"),
    ("logit_bias", "{}"),
    ("logprobs", "false"),
    ("top_logprobs", "0"),
    ("store", "false"),
    ("metadata", "{}"),
    ("verbosity", "\"medium\""),
    ("moderation", "\"auto\""),
];

/// Translates a request. The same request on the same terms gives the same bytes every time.
///
/// # Errors
///
/// A [`Fault`] that names the member which is wrong, or cannot be carried over.
pub fn to_messages(request: &Request<'_>, terms: &Terms<'_>) -> Result<Translated, Fault> {
    let source = &request.object;
    let mut draft = Draft::new(terms.strict);
    let mut betas = Vec::new();
    if terms.model.is_empty() {
        return Err(wrong("model", "field required"));
    }
    refuse(source)?;
    let list = member(source, "messages").ok_or_else(|| wrong("messages", "field required"))?;
    converse(&mut draft, &mut betas, &list, terms)?;
    let legacy = tools(&mut draft, source, terms)?;
    let parallel = !legacy && member(source, "parallel_tool_calls").map(|node| flag(&node, "parallel_tool_calls")).transpose()?.unwrap_or(true);
    let wanted = if legacy { legacy_choice(source)? } else { member(source, "tool_choice").map(|node| choice(&node)).transpose()? };
    draft.chosen = draft.toolbox.choose(wanted, parallel, terms, &mut draft.notes)?;
    let asked = draft.chosen.request.take();
    draft.conversation.system.extend(asked);
    let mut wishes = wishes(source, request.stream, &mut draft.notes)?;
    wishes.format = format(&mut draft, source, terms)?;
    wishes.default_limit = terms.max_tokens;
    draft.conversation.settle(&terms.traits, terms.model, "messages")?;
    draft.settings = settings(wishes, draft.demands(), &terms.traits, &mut draft.notes)?;
    plain_members(&mut draft, source)?;
    extensions(&mut draft, &mut betas, source)?;
    ignore(&mut draft, source)?;
    let include_usage = includes_usage(&mut draft, source)? && request.stream;
    draft.limit_marks(terms.marked)?;
    let (body, toolbox, notes) = draft.write(terms.model, request.stream, source.source().len() + 512);
    Ok(Translated { body, shape: Shape { names: toolbox.names, legacy, include_usage }, changes: notes.into_changes(), betas })
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
                return Err(unsupported("modalities", format!("`{name}` is not supported; Claude answers in text")));
            }
        }
    }
    match member(source, "audio") {
        Some(_) => Err(unsupported("audio", "Claude answers in text")),
        None => Ok(()),
    }
}

/// Collects the tools. True if only `functions` were sent, so that the answer has to speak of them.
fn tools<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<bool, Fault> {
    let given = member(source, "tools").map(|node| array(&node, "tools")).transpose()?.unwrap_or_default();
    let functions = member(source, "functions").map(|node| array(&node, "functions")).transpose()?.unwrap_or_default();
    let legacy = given.is_empty() && !functions.is_empty();
    for (index, node) in given.iter().enumerate() {
        tool(draft, node, Path::of("tools").at(index), terms)?;
    }
    for (index, node) in functions.iter().enumerate().filter(|_| legacy) {
        let list = Path::of("functions");
        let path = list.at(index);
        let spec = object(node, path)?;
        draft.toolbox.function(&spec, &spec, path, terms, &mut draft.notes)?;
    }
    if !legacy && !functions.is_empty() {
        draft.notes.ignored("functions")?;
    }
    if let Some(node) = member(source, "web_search_options") {
        web_search(draft, &node, terms)?;
    }
    Ok(legacy)
}

fn tool<'a>(draft: &mut Draft<'a>, node: &Node<'a>, path: Path<'_>, terms: &Terms<'_>) -> Result<(), Fault> {
    let holder = object(node, path)?;
    let kind = member(&holder, "type").map(|node| string(&node, path.key("type"))).transpose()?;
    // Some clients send tools as Messages has them.
    let native = member(&holder, "input_schema").is_some() || kind.as_deref().is_some_and(is_server_tool);
    match kind.as_deref() {
        _ if native => draft.toolbox.native(node, &holder, path),
        None | Some("function") => match member(&holder, "function") {
            Some(function) => {
                let path = path.key("function");
                draft.toolbox.function(&object(&function, path)?, &holder, path, terms, &mut draft.notes)
            }
            None if member(&holder, "name").is_some() => draft.toolbox.function(&holder, &holder, path, terms, &mut draft.notes),
            None => Err(wrong(path.key("function"), "field required")),
        },
        Some(other) => Err(unsupported(path.key("type"), format!("tools of type `{other}` are not supported; describe it as a `function`"))),
    }
}

/// The types of Anthropic's own tools end with a date.
fn is_server_tool(kind: &str) -> bool {
    kind.rsplit_once('_').is_some_and(|(name, date)| !name.is_empty() && date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
}

fn web_search<'a>(draft: &mut Draft<'a>, node: &Node<'a>, terms: &Terms<'_>) -> Result<(), Fault> {
    const PATH: &str = "web_search_options";
    let Some(kind) = terms.web_search else {
        return Err(unsupported(PATH, "web searches are not configured here; whoever runs this gateway can set `web_search` for the upstream"));
    };
    let options = object(node, PATH)?;
    let mut text = format!("{{\"type\":{},\"name\":\"web_search\"", quote(kind));
    if let Some(location) = member(&options, "user_location") {
        let location = object(&location, "web_search_options.user_location")?;
        let place = member(&location, "approximate").map(|node| object(&node, "web_search_options.user_location.approximate")).transpose()?;
        text.push_str(",\"user_location\":{\"type\":\"approximate\"");
        for key in ["city", "region", "country", "timezone"] {
            if let Some(node) = member(place.as_ref().unwrap_or(&location), key) {
                text.push_str(&format!(",\"{key}\":{}", verbatim(&node, PATH)?));
            }
        }
        text.push('}');
    }
    text.push('}');
    if member(&options, "search_context_size").is_some_and(|node| node.raw() != "\"medium\"") {
        draft.notes.ignored("web_search_options.search_context_size")?;
    }
    draft.toolbox.server("web_search", text, Path::of(PATH))
}

/// The choice among legacy functions.
fn legacy_choice(source: &RawObject<'_>) -> Result<Option<Choice>, Fault> {
    const PATH: &str = "function_call";
    let Some(node) = member(source, PATH) else { return Ok(None) };
    if let Some(holder) = node.as_object() {
        let name = member(&holder, "name").ok_or_else(|| wrong("function_call.name", "field required"))?;
        return Ok(Some(Choice::Named(string(&name, "function_call.name")?.into_owned())));
    }
    match &*string(&node, PATH)? {
        "auto" => Ok(Some(Choice::Auto)),
        "none" => Ok(Some(Choice::None)),
        other => Err(wrong(PATH, format!("`{other}` is no choice; expected `auto`, `none`, or a function's name"))),
    }
}

fn wishes<'a>(source: &RawObject<'a>, stream: bool, notes: &mut Notes) -> Result<Wishes<'a>, Fault> {
    let number_at = |key: &str, most: f64| -> Result<Option<Number<'a>>, Fault> {
        let Some(node) = member(source, key) else { return Ok(None) };
        Ok(Some(Number { raw: node.raw(), value: number(&node, key, most)? }))
    };
    let limit = |key: &str| member(source, key).map(|node| count(&node, key)).transpose();
    let (completion, legacy) = (limit("max_completion_tokens")?, limit("max_tokens")?);
    if completion.is_some() && legacy.is_some() && completion != legacy {
        notes.ignored("max_tokens")?;
    }
    let effort = member(source, "reasoning_effort").map(|node| Wanted::parse(&string(&node, "reasoning_effort")?, "reasoning_effort")).transpose()?;
    let raw = |key: &str| member(source, key).map(|node| verbatim(&node, key)).transpose();
    Ok(Wishes {
        stream,
        called: None,
        max_tokens: completion.or(legacy),
        temperature: number_at("temperature", 2.0)?,
        top_p: number_at("top_p", 1.0)?,
        top_k: raw("top_k")?,
        effort,
        thinking: raw("thinking")?,
        output_config: member(source, "output_config").map(|node| object(&node, "output_config")).transpose()?,
        has_betas: member(source, "betas").is_some(),
        format: None,
        default_limit: None,
    })
}

/// The answer's format, as a member of `output_config` or as a sentence in the system prompt.
fn format<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>, terms: &Terms<'_>) -> Result<Option<String>, Fault> {
    const PATH: &str = "response_format";
    let Some(node) = member(source, PATH) else { return Ok(None) };
    let holder = object(&node, PATH)?;
    draft.notes.unknown(&holder, &["type", "json_schema"], PATH)?;
    let kind = member(&holder, "type").ok_or_else(|| wrong("response_format.type", "field required"))?;
    match &*string(&kind, "response_format.type")? {
        "text" => Ok(None),
        "json_object" => {
            any_object(draft);
            Ok(None)
        }
        "json_schema" => {
            let named = member(&holder, "json_schema").ok_or_else(|| wrong("response_format.json_schema", "field required"))?;
            let named = object(&named, "response_format.json_schema")?;
            draft.notes.unknown(&named, &["name", "schema", "strict"], "response_format.json_schema")?;
            fitting(draft, &named, "response_format.json_schema.schema", PATH, terms)
        }
        other => Err(unsupported("response_format.type", format!("`{other}` is no format; expected `text`, `json_object` or `json_schema`"))),
    }
}

/// Members with a plain counterpart.
fn plain_members<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>) -> Result<(), Fault> {
    if let Some(node) = member(source, "stop") {
        let given = if node.is_string() { vec![node] } else { node.as_array().ok_or_else(|| wrong("stop", "expected a string or a list of strings"))? };
        let said: Result<Vec<_>, _> = given.iter().map(|node| crate::read::text(node, "stop")).collect();
        let said: Vec<String> = said?.iter().filter(|text| !text.is_blank()).map(|text| text.raw().to_owned()).collect();
        if said.len() < given.len() {
            draft.notes.say("stop", "without its blank entries")?;
        }
        if !said.is_empty() {
            draft.members.push(("stop_sequences".into(), format!("[{}]", said.join(",")).into()));
        }
    }
    draft.user_and_tier(source)
}

/// Members of the Messages API, which travel on as they are and win over what was made of others.
fn extensions<'a>(draft: &mut Draft<'a>, betas: &mut Vec<String>, source: &RawObject<'a>) -> Result<(), Fault> {
    for key in EXTENSIONS {
        if let Some(node) = member(source, key) {
            draft.members.push((key.into(), verbatim(&node, key)?));
        }
    }
    if let Some(node) = member(source, "betas") {
        for beta in array(&node, "betas")? {
            let beta = string(&beta, "betas")?;
            let plain = beta.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            if beta.is_empty() || !plain {
                return Err(wrong("betas", format!("`{beta}` is no name of a beta")));
            }
            betas.push(beta.into_owned());
        }
    }
    Ok(())
}

/// Names what is not carried over.
fn ignore(draft: &mut Draft<'_>, source: &RawObject<'_>) -> Result<(), Fault> {
    for (key, node) in source.members() {
        if KNOWN.contains(&key) || EXTENSIONS.contains(&key) || node.is_null() {
            continue;
        }
        let default = DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let says_nothing = default.is_some_and(|default| node.raw() == default || (default == "0" && node.as_f64() == Some(0.0)));
        if !says_nothing {
            draft.notes.ignored(Cow::Owned(key.to_owned()))?;
        }
    }
    Ok(())
}

fn includes_usage(draft: &mut Draft<'_>, source: &RawObject<'_>) -> Result<bool, Fault> {
    let Some(node) = member(source, "stream_options") else { return Ok(false) };
    let options = object(&node, "stream_options")?;
    for (key, node) in options.members() {
        if key != "include_usage" && !node.is_null() && node.as_bool() != Some(false) {
            draft.notes.ignored(format!("stream_options.{key}"))?;
        }
    }
    let included = member(&options, "include_usage").map(|node| flag(&node, "stream_options.include_usage")).transpose()?;
    Ok(included.unwrap_or(false))
}
