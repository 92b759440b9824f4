//! Reading a request's members, with faults that name the place.

use std::borrow::Cow;

use crate::json::{Node, RawObject, Text, without_lone_surrogates};
use crate::{Fault, FaultKind};

/// A mistake in a request, at a place.
pub fn wrong(path: impl Into<String>, why: impl AsRef<str>) -> Fault {
    let path = path.into();
    let message = format!("{path}: {}", why.as_ref());
    Fault::new(FaultKind::InvalidRequest, message).param(path)
}

/// Something that cannot be carried over, at a place.
pub fn unsupported(path: impl Into<String>, why: impl AsRef<str>) -> Fault {
    let mut fault = wrong(path, why);
    fault.kind = FaultKind::Unsupported;
    fault
}

/// A member that says something: `null` is the same as absent.
pub fn member<'a>(object: &RawObject<'a>, key: &str) -> Option<Node<'a>> {
    object.get(key).filter(|node| !node.is_null())
}

pub fn text<'a>(node: &Node<'a>, path: &str) -> Result<Text<'a>, Fault> {
    Text::of(node).ok_or_else(|| wrong(path, "expected a string"))
}

/// A string that is looked at, not only passed on.
pub fn string<'a>(node: &Node<'a>, path: &str) -> Result<Cow<'a, str>, Fault> {
    if let Some(text) = node.as_str() {
        return Ok(text);
    }
    Ok(Cow::Owned(text(node, path)?.decoded().into_owned()))
}

pub fn object<'a>(node: &Node<'a>, path: &str) -> Result<RawObject<'a>, Fault> {
    node.as_object().ok_or_else(|| wrong(path, "expected an object that names no member twice"))
}

pub fn array<'a>(node: &Node<'a>, path: &str) -> Result<Vec<Node<'a>>, Fault> {
    node.as_array().ok_or_else(|| wrong(path, "expected a list"))
}

pub fn flag(node: &Node<'_>, path: &str) -> Result<bool, Fault> {
    node.as_bool().ok_or_else(|| wrong(path, "expected true or false"))
}

/// A whole number from 1 up.
pub fn count(node: &Node<'_>, path: &str) -> Result<u64, Fault> {
    node.as_u64().filter(|count| *count >= 1).ok_or_else(|| wrong(path, "expected a whole number from 1 up"))
}

/// A number within a range.
pub fn number(node: &Node<'_>, path: &str, most: f64) -> Result<f64, Fault> {
    node.as_f64().filter(|number| (0.0..=most).contains(number)).ok_or_else(|| wrong(path, format!("expected a number from 0 to {most}")))
}

/// A value that travels on as it stands.
pub fn verbatim<'a>(node: &Node<'a>, path: &str) -> Result<Cow<'a, str>, Fault> {
    let raw = node.raw();
    crate::json::check(raw).map_err(|malformed| wrong(path, malformed.to_string()))?;
    let surrogates = ["\\ud", "\\uD"].iter().any(|escape| memchr::memmem::find(raw.as_bytes(), escape.as_bytes()).is_some());
    Ok(if surrogates { Cow::Owned(without_lone_surrogates(raw)) } else { Cow::Borrowed(raw) })
}

/// The names in a list, for a message.
pub fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
