//! Reading a request's members, with faults that name the place.

use std::borrow::Cow;
use std::fmt;

use crate::json::{Node, RawObject, Text, whole};
use crate::{Fault, FaultKind};

/// A place in a request. It is written out only where a fault names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'p> {
    before: Option<&'p Path<'p>>,
    step: PathStep<'p>,
}

#[derive(Debug, Clone, Copy)]
enum PathStep<'p> {
    Key(&'p str),
    At(usize),
}

impl<'p> Path<'p> {
    /// A member of the request itself.
    pub(crate) const fn of(key: &'p str) -> Self {
        Self { before: None, step: PathStep::Key(key) }
    }

    /// A member of what is here.
    pub(crate) const fn key<'q>(&'q self, key: &'q str) -> Path<'q> {
        Path { before: Some(self), step: PathStep::Key(key) }
    }

    /// An element of what is here.
    pub(crate) const fn at(&self, index: usize) -> Path<'_> {
        Path { before: Some(self), step: PathStep::At(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            before.fmt(f)?;
        }
        match self.step {
            PathStep::Key(key) if self.before.is_some() => write!(f, ".{key}"),
            PathStep::Key(key) => f.write_str(key),
            PathStep::At(index) => write!(f, "[{index}]"),
        }
    }
}

/// A mistake in a request, at a place.
pub(crate) fn wrong(path: impl fmt::Display, why: impl AsRef<str>) -> Fault {
    let path = path.to_string();
    let message = format!("{path}: {}", why.as_ref());
    Fault::new(FaultKind::InvalidRequest, message).param(path)
}

/// Something that cannot be carried over, at a place.
pub(crate) fn unsupported(path: impl fmt::Display, why: impl AsRef<str>) -> Fault {
    let mut fault = wrong(path, why);
    fault.kind = FaultKind::Unsupported;
    fault
}

/// A member that says something: `null` is the same as absent.
pub(crate) fn member<'a>(object: &RawObject<'a>, key: &str) -> Option<Node<'a>> {
    object.get(key).filter(|node| !node.is_null())
}

pub(crate) fn text<'a>(node: &Node<'a>, path: impl fmt::Display) -> Result<Text<'a>, Fault> {
    Text::of(node).ok_or_else(|| wrong(path, "expected a string"))
}

/// A string that is looked at, not only passed on.
pub(crate) fn string<'a>(node: &Node<'a>, path: impl fmt::Display) -> Result<Cow<'a, str>, Fault> {
    if let Some(text) = node.as_str() {
        return Ok(text);
    }
    Ok(Cow::Owned(text(node, path)?.decoded().into_owned()))
}

pub(crate) fn object<'a>(node: &Node<'a>, path: impl fmt::Display) -> Result<RawObject<'a>, Fault> {
    let why = if node.raw().starts_with('{') {
        "expected an object that names no member twice"
    } else {
        "expected an object"
    };
    node.as_object().ok_or_else(|| wrong(path, why))
}

pub(crate) fn array<'a>(node: &Node<'a>, path: impl fmt::Display) -> Result<Vec<Node<'a>>, Fault> {
    node.as_array().ok_or_else(|| wrong(path, "expected a list"))
}

pub(crate) fn flag(node: &Node<'_>, path: impl fmt::Display) -> Result<bool, Fault> {
    node.as_bool().ok_or_else(|| wrong(path, "expected true or false"))
}

/// A whole number from 1 up.
pub(crate) fn count(node: &Node<'_>, path: impl fmt::Display) -> Result<u64, Fault> {
    node.as_u64()
        .filter(|count| *count >= 1)
        .ok_or_else(|| wrong(path, "expected a whole number from 1 up"))
}

/// A number within a range.
pub(crate) fn number(node: &Node<'_>, path: impl fmt::Display, most: f64) -> Result<f64, Fault> {
    node.as_f64()
        .filter(|number| (0.0..=most).contains(number))
        .ok_or_else(|| wrong(path, format!("expected a number from 0 to {most}")))
}

/// A value that travels on as it stands.
pub(crate) fn verbatim<'a>(
    node: &Node<'a>,
    path: impl fmt::Display,
) -> Result<Cow<'a, str>, Fault> {
    let raw = node.raw();
    crate::json::check(raw).map_err(|malformed| wrong(path, malformed.to_string()))?;
    Ok(whole(raw))
}

/// The names in a list, for a message.
pub(crate) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
