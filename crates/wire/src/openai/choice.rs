//! Who may be called, as a request says it: Chat wraps what Responses has flat, and Messages has words of its own.

use std::borrow::Cow;

use super::names;
use crate::Fault;
use crate::json::{Node, RawObject};
use crate::read::{Path, array, flag, member, object, string, wrong};

/// Who may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    None,
    Required,
    Named(String),
    /// Of these only; one of them must be if `required`.
    Allowed {
        names: Vec<String>,
        required: bool,
    },
}

const PATH: &str = "tool_choice";

/// Reads a `tool_choice`.
pub(crate) fn choice(node: &Node<'_>) -> Result<Choice, Fault> {
    const FORMS: &str = "expected `auto`, `none`, `required`, a function, or allowed tools";
    if node.is_string() {
        return match &*string(node, PATH)? {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" | "any" => Ok(Choice::Required),
            other => Err(wrong(PATH, format!("`{other}` is no choice; {FORMS}"))),
        };
    }
    let chosen = node.as_object().ok_or_else(|| wrong(PATH, FORMS))?;
    let kind = member(&chosen, "type").map(|node| string(&node, "tool_choice.type")).transpose()?;
    match kind.as_deref() {
        Some("function" | "tool" | "custom") => Ok(Choice::Named(named(&chosen, Path::of(PATH))?)),
        Some("auto") => Ok(Choice::Auto),
        Some("none") => Ok(Choice::None),
        Some("any" | "required") => Ok(Choice::Required),
        Some("allowed_tools") => match member(&chosen, "allowed_tools") {
            Some(node) => allowed(
                &object(&node, "tool_choice.allowed_tools")?,
                Path::of(PATH).key("allowed_tools"),
            ),
            None => allowed(&chosen, Path::of(PATH)),
        },
        // A tool that has no other name than its kind.
        Some(other) => Ok(Choice::Named(called(other).to_owned())),
        None if member(&chosen, "name").is_some() || member(&chosen, "function").is_some() => {
            Ok(Choice::Named(named(&chosen, Path::of(PATH))?))
        }
        None => Err(wrong("tool_choice.type", format!("field required; {FORMS}"))),
    }
}

/// True where a choice of Messages' own asks for one call at a time.
pub(crate) fn is_single(node: &Node<'_>) -> Result<bool, Fault> {
    const SINGLE: &str = "disable_parallel_tool_use";
    let asked = node.as_object().and_then(|chosen| member(&chosen, SINGLE));
    Ok(asked.map(|node| flag(&node, Path::of(PATH).key(SINGLE))).transpose()?.unwrap_or(false))
}

/// The server tool that searches the web.
pub(crate) const SEARCH: &str = "web_search";

/// True for the kinds by which OpenAI calls its web search.
pub(crate) fn is_search(kind: &str) -> bool {
    matches!(
        kind,
        "web_search"
            | "web_search_2025_08_26"
            | "web_search_preview"
            | "web_search_preview_2025_03_11"
    )
}

/// What a tool is called that has a kind and no name.
pub(crate) fn called(kind: &str) -> &str {
    if is_search(kind) { SEARCH } else { kind }
}

fn allowed(holder: &RawObject<'_>, path: Path<'_>) -> Result<Choice, Fault> {
    let list = path.key("tools");
    let tools = member(holder, "tools").ok_or_else(|| wrong(list, "field required"))?;
    let mut names = Vec::new();
    for (index, tool) in array(&tools, list)?.iter().enumerate() {
        let path = list.at(index);
        let tool = object(tool, path)?;
        let kind = member(&tool, "type").and_then(|kind| kind.as_str());
        let nameless = kind.filter(|kind| !matches!(&**kind, "function" | "tool" | "custom"));
        names.push(match nameless {
            Some(kind) => called(&kind).to_owned(),
            None => named(&tool, path)?,
        });
    }
    if names.is_empty() {
        return Err(wrong(list, "expected at least one tool; `none` forbids them all"));
    }
    let mode = path.key("mode");
    match member(holder, "mode").map(|node| string(&node, mode)).transpose()?.as_deref() {
        None | Some("auto") => Ok(Choice::Allowed { names, required: false }),
        Some("required") => Ok(Choice::Allowed { names, required: true }),
        Some(other) => {
            Err(wrong(mode, format!("`{other}` is no mode; expected `auto` or `required`")))
        }
    }
}

/// A tool's name, in Chat's place for it or in Responses'.
fn named(holder: &RawObject<'_>, path: Path<'_>) -> Result<String, Fault> {
    let wrapped =
        ["function", "custom"].into_iter().find_map(|key| Some((key, member(holder, key)?)));
    let name = match wrapped {
        Some((key, node)) => {
            required(&object(&node, path.key(key))?, path.key(key).key("name"))?.into_owned()
        }
        None => required(holder, path.key("name"))?.into_owned(),
    };
    let space =
        member(holder, "namespace").map(|node| string(&node, path.key("namespace"))).transpose()?;
    Ok(space.map_or_else(|| name.clone(), |space| names::within(&space, &name)))
}

fn required<'a>(holder: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    string(&member(holder, "name").ok_or_else(|| wrong(path, "field required"))?, path)
}
