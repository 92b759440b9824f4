//! Members of a request that both of OpenAI's dialects have, or take over from Messages.
//!
//! Each dialect calls some of them otherwise. A member is read by whichever of its names it
//! comes, its own dialect's first.

use std::borrow::Cow;

use super::Terms;
use super::conversation::{ContentBlock, ContentKind, Role};
use super::declared::{Again, Collector, searches};
use super::draft::Draft;
use super::entries::{List, converse};
use super::format::{Format, any_object, fitting};
use super::parts::{Parts, Speaker};
use super::thinking::{ADAPTIVE, Number, Wanted, Wishes, settings};
use super::{COMPACTION_BETA, LEAST_COMPACTION};
use crate::Fault;
use crate::json::{Node, RawObject, quote};
use crate::model::Thinking;
use crate::notes::Notes;
use crate::read::{
    Path, array, count, flag, member, number, object, string, text, unsupported, verbatim, wrong,
};

/// Members of the Messages API that travel on as they are.
const EXTENSIONS: [&str; 5] =
    ["cache_control", "speed", "mcp_servers", "container", "inference_geo"];

/// Members that are read here.
const KNOWN: [&str; 32] = [
    "model",
    "messages",
    "input",
    "system",
    "instructions",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "stop_sequences",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "output_format",
    "text",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "output_config",
    "betas",
    "context_management",
    "user",
    "safety_identifier",
    "service_tier",
    "web_search_options",
    "max_tool_calls",
];

/// Members that Messages has nothing for, with the value that says nothing.
const DEFAULTS: [(&str, &str); 9] = [
    ("frequency_penalty", "0"),
    ("presence_penalty", "0"),
    ("logit_bias", "{}"),
    ("logprobs", "false"),
    ("top_logprobs", "0"),
    ("verbosity", "\"medium\""),
    ("moderation", "\"auto\""),
    ("truncation", "\"disabled\""),
    ("prompt_cache_key", "\"\""),
];

/// The member of a request that is there, of several that mean the same.
fn first<'a, 'k>(source: &RawObject<'a>, keys: &[&'k str]) -> Option<(&'k str, Node<'a>)> {
    keys.iter().find_map(|key| Some((*key, member(source, key)?)))
}

// ------------------------------------------------------------ what is said

/// System text that has a member of its own: in Responses' words, and in Messages'.
pub(crate) fn instructions<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    terms: &Terms<'_>,
) -> Result<(), Fault> {
    if let Some(node) = member(source, "instructions") {
        let said = text(&node, "instructions")?;
        if !said.is_blank() {
            draft.conversation.system.push(ContentBlock::new(ContentKind::Text(said)));
        }
    }
    if let Some(node) = member(source, "system") {
        let mut parts =
            Parts { draft, list: "system", at: 0, speaker: Speaker::System, strict: terms.strict };
        for block in parts.content(&node, Path::of("system"))?.sensible()? {
            draft.conversation.push(Role::System, block);
        }
    }
    Ok(())
}

/// The conversation, by the first of these names.
pub(crate) fn conversation<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    lists: [List<'a>; 2],
    terms: &Terms<'_>,
) -> Result<(), Fault> {
    let found = lists.iter().find_map(|list| Some((*list, member(source, list.name)?)));
    let (list, node) = found.ok_or_else(|| wrong(lists[0].name, "field required"))?;
    converse(draft, &node, list, terms)?;
    draft.conversation.settle(&terms.traits, terms.model, list.name, &mut draft.notes)
}

// ------------------------------------------------------------ tools

/// Reads the tools; returns what is said of their namespaces.
pub(crate) fn tools<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    terms: &Terms<'_>,
) -> Result<Vec<String>, Fault> {
    let Some(node) = member(source, "tools") else { return Ok(Vec::new()) };
    let mut collector =
        Collector::new(draft, terms, Again::Refused, "tools").with_searches(searches(source)?);
    collector.list(&node, Path::of("tools"))?;
    Ok(collector.about)
}

/// System text of our own, behind all that the client says.
pub(crate) fn tell(draft: &mut Draft<'_>, texts: Vec<String>) {
    draft.conversation.system.extend(
        texts
            .iter()
            .map(|said| ContentBlock::new(ContentKind::Text(crate::json::Text::quoted(said)))),
    );
}

/// True where calls may come several at once.
pub(crate) fn parallel(source: &RawObject<'_>) -> Result<bool, Fault> {
    let single = member(source, "tool_choice")
        .map(|node| super::choice::is_single(&node))
        .transpose()?
        .unwrap_or(false);
    Ok(!single
        && member(source, "parallel_tool_calls")
            .map(|node| flag(&node, "parallel_tool_calls"))
            .transpose()?
            .unwrap_or(true))
}

// ------------------------------------------------------------ how to answer

/// What the client asks for, of how much and how thoughtfully is answered. `limits`: the names of the limit.
fn wishes<'a>(
    source: &RawObject<'a>,
    limits: &[&'static str],
    stream: bool,
    terms: &Terms<'_>,
    notes: &mut Notes,
) -> Result<Wishes<'a>, Fault> {
    let number_at = |key: &str, most: f64| -> Result<Option<Number<'a>>, Fault> {
        let Some(node) = member(source, key) else { return Ok(None) };
        Ok(Some(Number { raw: node.raw(), value: number(&node, key, most)? }))
    };
    let raw = |key: &str| member(source, key).map(|node| verbatim(&node, key)).transpose();
    let mut limit = None;
    for key in limits {
        let Some(given) = member(source, key).map(|node| count(&node, key)).transpose()? else {
            continue;
        };
        match limit {
            None => limit = Some((*key, given)),
            Some((_, first)) if first != given => notes.ignored(*key)?,
            Some(_) => {}
        }
    }
    let reasoning = reasoning(source, terms, notes)?;
    let own = raw("thinking")?.map(|thinking| ("thinking", thinking));
    Ok(Wishes {
        stream,
        called: reasoning.called,
        max_tokens: limit.map(|(_, limit)| limit),
        limit_called: limit.map(|(key, _)| key),
        temperature: number_at("temperature", 2.0)?,
        top_p: number_at("top_p", 1.0)?,
        top_k: raw("top_k")?,
        effort: reasoning.effort,
        thinking: own.or(reasoning.thinking),
        output_config: member(source, "output_config")
            .map(|node| object(&node, "output_config"))
            .transpose()?,
        has_betas: member(source, "betas").is_some(),
        format: None,
        default_limit: terms.max_tokens,
    })
}

/// How thoughtfully, by OpenAI's words and OpenRouter's.
#[derive(Default)]
struct ReasoningSettings<'a> {
    effort: Option<Wanted>,
    called: Option<&'static str>,
    thinking: Option<(&'static str, Cow<'a, str>)>,
}

fn reasoning<'a>(
    source: &RawObject<'a>,
    terms: &Terms<'_>,
    notes: &mut Notes,
) -> Result<ReasoningSettings<'a>, Fault> {
    let mut said = ReasoningSettings::default();
    let holder = member(source, "reasoning").map(|node| object(&node, "reasoning")).transpose()?;
    let part = |key: &str| holder.as_ref().and_then(|holder| member(holder, key));
    let effort = |node: Node<'_>, path: &'static str| Wanted::parse(&string(&node, path)?, path);
    if let Some(node) = member(source, "reasoning_effort") {
        said.effort = Some(effort(node, "reasoning_effort")?);
    } else if let Some(node) = part("effort") {
        (said.effort, said.called) =
            (Some(effort(node, "reasoning.effort")?), Some("reasoning.effort"));
    } else if let Some(node) = part("max_tokens") {
        let budget = count(&node, "reasoning.max_tokens")?.max(super::thinking::LEAST_BUDGET);
        said.thinking = Some((
            "reasoning.max_tokens",
            format!("{{\"type\":\"enabled\",\"budget_tokens\":{budget}}}").into(),
        ));
    } else if let Some(node) = part("enabled") {
        if flag(&node, "reasoning.enabled")? {
            said.thinking = Some(("reasoning.enabled", ADAPTIVE.into()));
        } else {
            (said.effort, said.called) = (Some(Wanted::None), Some("reasoning.enabled"));
        }
    }
    let Some(holder) = &holder else { return Ok(said) };
    for (key, node) in holder.members() {
        let silent = matches!(
            (key, node.raw()),
            ("exclude", "false") | ("context", "\"auto\"") | ("mode", "\"standard\"")
        );
        let known = matches!(
            key,
            "effort"
                | "summary"
                | "generate_summary"
                | "encrypted_content"
                | "max_tokens"
                | "enabled"
        );
        if !known && !silent && !node.is_null() {
            notes.ignored(format!("reasoning.{key}"))?;
        }
    }
    summary(&mut said, part("summary").or_else(|| part("generate_summary")), terms, notes)?;
    Ok(said)
}

/// Who wants to see the thinking wants it thought; without an effort the model's own counts.
fn summary<'a>(
    said: &mut ReasoningSettings<'a>,
    node: Option<Node<'a>>,
    terms: &Terms<'_>,
    notes: &mut Notes,
) -> Result<(), Fault> {
    const PATH: &str = "reasoning.summary";
    let Some(summary) = node.map(|node| string(&node, PATH)).transpose()? else { return Ok(()) };
    match &*summary {
        "none" => Ok(()),
        "auto" | "concise" | "detailed" => {
            let undecided = said.effort.is_none() && said.thinking.is_none();
            if undecided && terms.traits.thinking == Thinking::Adaptive {
                said.thinking = Some((PATH, ADAPTIVE.into()));
            } else if undecided {
                notes.ignored(PATH)?;
            }
            Ok(())
        }
        other => Err(wrong(
            PATH,
            format!("`{other}` is no summary; expected `auto`, `concise` or `detailed`"),
        )),
    }
}

/// The answer's format.
pub(crate) fn format<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    terms: &Terms<'_>,
) -> Result<Format, Fault> {
    if let Some(node) = member(source, "text") {
        let holder = object(&node, "text")?;
        draft.notes.unknown(&holder, &["format", "verbosity"], "text")?;
        verbosity(&holder, &mut draft.notes)?;
        if let Some(node) = member(&holder, "format") {
            return format_at(draft, &node, "text.format", terms);
        }
    }
    match first(source, &["response_format", "output_format"]) {
        Some((path, node)) => format_at(draft, &node, path, terms),
        None => Ok(Format::Free),
    }
}

fn verbosity(holder: &RawObject<'_>, notes: &mut Notes) -> Result<(), Fault> {
    let Some(node) = member(holder, "verbosity") else { return Ok(()) };
    match &*string(&node, "text.verbosity")? {
        "medium" => Ok(()),
        "low" | "high" => notes.ignored("text.verbosity"),
        other => Err(wrong(
            "text.verbosity",
            format!("`{other}` is no verbosity; expected `low`, `medium` or `high`"),
        )),
    }
}

fn format_at<'a>(
    draft: &mut Draft<'a>,
    node: &Node<'a>,
    path: &'static str,
    terms: &Terms<'_>,
) -> Result<Format, Fault> {
    let whole = Path::of(path);
    let format = object(node, path)?;
    let kind = member(&format, "type").ok_or_else(|| wrong(whole.key("type"), "field required"))?;
    match &*string(&kind, whole.key("type"))? {
        "text" => Ok(Format::Free),
        "json_object" => Ok(any_object()),
        "json_schema" => {
            // Chat has the schema wrapped, Responses and Messages flat.
            let wrapped = member(&format, "json_schema")
                .map(|node| object(&node, whole.key("json_schema")))
                .transpose()?;
            draft.notes.unknown(
                &format,
                &["type", "json_schema", "name", "schema", "strict", "description"],
                path,
            )?;
            match &wrapped {
                Some(named) => {
                    let place = whole.key("json_schema");
                    draft.notes.unknown(
                        named,
                        &["name", "schema", "strict", "description"],
                        &place.to_string(),
                    )?;
                    fitting(draft, named, place, path, terms)
                }
                None if path == "response_format" && member(&format, "schema").is_none() => {
                    Err(wrong(whole.key("json_schema"), "field required"))
                }
                None => fitting(draft, &format, whole, path, terms),
            }
        }
        other => Err(unsupported(
            whole.key("type"),
            format!("`{other}` is no format; expected `text`, `json_object` or `json_schema`"),
        )),
    }
}

/// Reads what is said of the answer: how long, how thoughtful and in which form, where it stops, for whom it is.
pub(crate) fn answer<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    limits: &[&'static str],
    stream: bool,
    format: Format,
    terms: &Terms<'_>,
) -> Result<(), Fault> {
    let mut wishes = wishes(source, limits, stream, terms, &mut draft.notes)?;
    wishes.effort = draft.effort.or(wishes.effort);
    match format {
        Format::Free => {}
        Format::Enforced(format) => wishes.format = Some(format),
        Format::Asked(text) => tell(draft, vec![text]),
    }
    draft.settings = settings(wishes, draft.demands(), &terms.traits, &mut draft.notes)?;
    stops(draft, source)?;
    draft.user_and_tier(source)?;
    extensions(draft, source)
}

/// Where an answer is to stop.
fn stops(draft: &mut Draft<'_>, source: &RawObject<'_>) -> Result<(), Fault> {
    let Some((key, node)) = first(source, &["stop", "stop_sequences"]) else { return Ok(()) };
    let given = if node.is_string() {
        vec![node]
    } else {
        node.as_array().ok_or_else(|| wrong(key, "expected a string or a list of strings"))?
    };
    let said: Result<Vec<_>, _> = given.iter().map(|node| text(node, key)).collect();
    let said: Vec<String> =
        said?.iter().filter(|text| !text.is_blank()).map(|text| text.raw().to_owned()).collect();
    if said.len() < given.len() {
        draft.notes.say(key.to_owned(), "without its blank entries")?;
    }
    if !said.is_empty() {
        draft.members.push(("stop_sequences".into(), format!("[{}]", said.join(",")).into()));
    }
    Ok(())
}

// ------------------------------------------------------------ Messages' own

/// Members of the Messages API, which travel on as they are and win over what was made of others.
fn extensions<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>) -> Result<(), Fault> {
    for key in EXTENSIONS {
        if let Some(node) = member(source, key) {
            draft.members.push((key.into(), verbatim(&node, key)?));
        }
    }
    context_management(draft, source)?;
    let Some(node) = member(source, "betas") else { return Ok(()) };
    for beta in array(&node, "betas")? {
        let beta = string(&beta, "betas")?;
        let plain = beta.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if beta.is_empty() || !plain {
            return Err(wrong("betas", format!("`{beta}` is no name of a beta")));
        }
        draft.announce(&beta);
    }
    Ok(())
}

/// Messages has an object of edits, Responses a list of which one is compaction.
fn context_management<'a>(draft: &mut Draft<'a>, source: &RawObject<'a>) -> Result<(), Fault> {
    const PATH: Path<'_> = Path::of("context_management");
    let Some(node) = member(source, "context_management") else { return Ok(()) };
    let Some(list) = node.as_array() else {
        draft.members.push(("context_management".into(), verbatim(&node, PATH)?));
        return Ok(());
    };
    let mut edits = Vec::new();
    for (index, node) in list.iter().enumerate() {
        let path = PATH.at(index);
        let entry = object(node, path)?;
        let kind =
            member(&entry, "type").ok_or_else(|| wrong(path.key("type"), "field required"))?;
        let kind = string(&kind, path.key("type"))?;
        if kind != "compaction" {
            draft.notes.ignored(format!("context_management.{}", super::parts::label(&kind)))?;
            continue;
        }
        draft.notes.unknown(&entry, &["type", "compact_threshold"], "context_management")?;
        let trigger = match member(&entry, "compact_threshold")
            .map(|node| count(&node, path.key("compact_threshold")))
            .transpose()?
        {
            None => String::new(),
            Some(tokens) => {
                if tokens < LEAST_COMPACTION {
                    draft.notes.say(
                        "context_management.compact_threshold",
                        "raised to the least that Claude takes",
                    )?;
                }
                format!(
                    ",\"trigger\":{{\"type\":\"input_tokens\",\"value\":{}}}",
                    tokens.max(LEAST_COMPACTION)
                )
            }
        };
        edits.push(format!("{{\"type\":\"compact_20260112\"{trigger}}}"));
    }
    if !edits.is_empty() {
        draft.announce(COMPACTION_BETA);
        draft.members.push((
            "context_management".into(),
            format!("{{\"edits\":[{}]}}", edits.join(",")).into(),
        ));
    }
    Ok(())
}

// ------------------------------------------------------------ the rest

/// Names what is not carried over. `known`: the members that the dialect reads besides.
pub(crate) fn ignore(
    draft: &mut Draft<'_>,
    source: &RawObject<'_>,
    known: &[&str],
) -> Result<(), Fault> {
    for (key, node) in source.members() {
        if KNOWN.contains(&key)
            || EXTENSIONS.contains(&key)
            || known.contains(&key)
            || node.is_null()
        {
            continue;
        }
        let default = DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let says_nothing = default.is_some_and(|default| {
            node.raw() == default || (default == "0" && node.as_f64() == Some(0.0))
        });
        if !says_nothing {
            draft.notes.ignored(Cow::Owned(key.to_owned()))?;
        }
    }
    if let Some(most) = member(source, "max_tool_calls") {
        count(&most, "max_tool_calls")?;
        if !draft.toolbox.searches() {
            draft.notes.ignored("max_tool_calls")?;
        }
    }
    Ok(())
}

/// Reads how a stream is to be told; true if it is to end with its usage.
pub(crate) fn includes_usage(draft: &mut Draft<'_>, source: &RawObject<'_>) -> Result<bool, Fault> {
    let Some(node) = member(source, "stream_options") else { return Ok(false) };
    let options = object(&node, "stream_options")?;
    for (key, node) in options.members() {
        if key != "include_usage" && !node.is_null() && node.as_bool() != Some(false) {
            draft.notes.ignored(format!("stream_options.{key}"))?;
        }
    }
    let included = member(&options, "include_usage")
        .map(|node| flag(&node, "stream_options.include_usage"))
        .transpose()?;
    Ok(included.unwrap_or(false))
}

/// Who a search is for and where, as Chat asks for one.
pub(crate) fn web_search_options<'a>(
    draft: &mut Draft<'a>,
    source: &RawObject<'a>,
    terms: &Terms<'_>,
) -> Result<(), Fault> {
    const PATH: Path<'_> = Path::of("web_search_options");
    let Some(node) = member(source, "web_search_options") else { return Ok(()) };
    let Some(kind) = terms.web_search else {
        return Err(unsupported(
            PATH,
            "web searches are not configured here; whoever runs this gateway can set `web_search` for the upstream",
        ));
    };
    let options = object(&node, PATH)?;
    draft.notes.unknown(
        &options,
        &["user_location", "search_context_size"],
        "web_search_options",
    )?;
    let mut text = format!("{{\"type\":{},\"name\":\"web_search\"", quote(kind));
    if let Some(location) = member(&options, "user_location") {
        let location = object(&location, PATH.key("user_location"))?;
        let place = member(&location, "approximate")
            .map(|node| object(&node, PATH.key("user_location").key("approximate")))
            .transpose()?;
        text.push_str(",\"user_location\":");
        text.push_str(&super::declared::place(place.as_ref().unwrap_or(&location), PATH)?);
    }
    text.push('}');
    if member(&options, "search_context_size").is_some_and(|node| node.raw() != "\"medium\"") {
        draft.notes.ignored("web_search_options.search_context_size")?;
    }
    let tool = super::tools::Tool {
        name: super::choice::SEARCH.to_owned(),
        text,
        mark: None,
        deferred: false,
    };
    draft.toolbox.add(tool, PATH)
}
