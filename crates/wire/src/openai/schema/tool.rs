//! A tool's parameters as Claude's API takes them.
//!
//! The API checks them against draft 2020-12 and wants one object at the top. What clients send
//! is older drafts, `null` for what is absent, and combinations at the top: each has a way to be
//! said. Below the top nothing else is touched.

use std::borrow::Cow;
use std::fmt::Display;

use super::document::Document;
use super::merge::{COMBINERS, Merged};
use super::{DEEPEST, Holds, holds, may_be_null, types};
use crate::Fault;
use crate::json::{Node, RawObject, quote};
use crate::read::{member, object, wrong};

const NONE: &str = r#"{"type":"object","properties":{}}"#;

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// Names that are none of JSON Schema's, and what is meant by them.
const PYTHONS: [(&str, &str); 6] = [
    ("str", "string"),
    ("int", "integer"),
    ("float", "number"),
    ("bool", "boolean"),
    ("list", "array"),
    ("dict", "object"),
];

/// A tool's parameters, rewritten where they had to be.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    pub text: Cow<'a, str>,
    /// What a single object could not say, as JSON; it is told in the tool's description instead.
    pub told: Option<String>,
    /// Keywords at the top that were made into one object.
    pub merged: bool,
}

/// Rewrites a schema; none at all is one of no parameters.
///
/// # Errors
///
/// If it is no schema of an object.
pub(crate) fn parameters<'a>(
    node: Option<&Node<'a>>,
    path: impl Display,
) -> Result<Parameters<'a>, Fault> {
    let plain = |text| Parameters { text, told: None, merged: false };
    let Some(node) = node else { return Ok(plain(Cow::Borrowed(NONE))) };
    let schema = object(node, &path)?;
    crate::json::check(node.raw()).map_err(|malformed| wrong(&path, malformed.to_string()))?;
    if schema.keys().next().is_none() {
        return Ok(plain(Cow::Borrowed(NONE)));
    }
    let tidied = tidy(node, 0);
    let text = match crate::json::whole(&tidied) {
        Cow::Borrowed(_) => tidied,
        Cow::Owned(whole) => Cow::Owned(whole),
    };
    let Some(top) = Node::whole(&text) else { return Ok(plain(text)) };
    let schema = object(&top, &path)?;
    if COMBINERS.iter().any(|key| member(&schema, key).is_some()) {
        let merged = Merged::of(&Document::new(&top), &schema);
        let lost: Vec<String> =
            merged.lost.iter().map(|(key, raw)| format!("{}: {raw}", quote(key))).collect();
        let told = (!lost.is_empty()).then(|| format!("{{{}}}", lost.join(", ")));
        return Ok(Parameters { text: Cow::Owned(merged.write(&schema)), told, merged: true });
    }
    match types(&schema).as_slice() {
        [kind]
            if kind == "object" && member(&schema, "type").is_some_and(|node| node.is_string()) =>
        {
            Ok(plain(text))
        }
        kinds if kinds.is_empty() || kinds.iter().any(|kind| kind == "object") => {
            let typed = Cow::Owned(of_object(&schema));
            Ok(plain(typed))
        }
        kinds => Err(wrong(
            format!("{path}.type"),
            format!("`{}` is no type for a tool's parameters; expected `object`", kinds.join(", ")),
        )),
    }
}

/// The same schema, of an object.
fn of_object(schema: &RawObject<'_>) -> String {
    let rest = schema
        .members()
        .filter(|(key, _)| *key != "type")
        .map(|(key, node)| format!(",{}:{}", quote(key), node.raw()));
    format!("{{\"type\":\"object\"{}}}", rest.collect::<String>())
}

/// True for a list in which there is nothing.
fn is_empty(node: &Node<'_>) -> bool {
    node.as_array().is_some_and(|list| list.iter().all(Node::is_null))
}

fn names_other_than_texts(node: &Node<'_>) -> bool {
    node.as_array().is_some_and(|list| list.iter().any(|name| !name.is_string()))
}

/// Writes a schema as draft 2020-12 has it; what does so already is not touched.
pub(super) fn tidy<'a>(node: &Node<'a>, depth: usize) -> Cow<'a, str> {
    let raw = Cow::Borrowed(node.raw());
    // What is absent says nothing.
    if node.is_null() {
        return Cow::Borrowed("{}");
    }
    let Some(schema) = node.as_object().filter(|_| depth <= DEEPEST) else { return raw };
    let mut changed = false;
    let mut members: Vec<(&str, Cow<'a, str>)> = Vec::with_capacity(8);
    for (key, value) in schema.members() {
        match key {
            _ if value.is_null() && !may_be_null(key) => changed = true,
            // Draft 4 has a flag beside the bound.
            "exclusiveMinimum" | "exclusiveMaximum" if value.as_bool().is_some() => {
                changed = true;
                let bound = flagged_bound(&schema, key).filter(|_| value.as_bool() == Some(true));
                members.extend(bound.map(|bound| (key, Cow::Borrowed(bound.raw()))));
            }
            "minimum" if is_flagged(&schema, "exclusiveMinimum") => {}
            "maximum" if is_flagged(&schema, "exclusiveMaximum") => {}
            // Lists of nothing are not in the newest draft.
            "items" | "anyOf" | "oneOf" | "allOf" | "prefixItems" if is_empty(&value) => {
                changed = true;
            }
            "required" if names_other_than_texts(&value) => {
                changed = true;
                members.push((key, Cow::Owned(texts(&value))));
            }
            // Draft 7 has tuples in `items`.
            "items" if value.as_array().is_some() => {
                changed = true;
                members.push(("prefixItems", below(key, &value, depth).0));
            }
            "additionalItems" => {
                changed = true;
                if member(&schema, "items").is_some_and(|items| items.as_array().is_some()) {
                    members.push(("items", below(key, &value, depth).0));
                }
            }
            // Draft 3 has a flag in each property.
            "required" | "enum" if value.as_array().is_none() => changed = true,
            "type" => match kind(&value) {
                Some(Cow::Borrowed(same)) => members.push((key, Cow::Borrowed(same))),
                other => {
                    changed = true;
                    members.extend(other.map(|raw| (key, raw)));
                }
            },
            _ => {
                let (text, rewritten) = below(key, &value, depth);
                changed |= rewritten;
                members.push((key, text));
            }
        }
    }
    if !changed {
        return raw;
    }
    Cow::Owned(object_of(&members))
}

fn object_of(members: &[(&str, Cow<'_, str>)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(key, raw)| format!("{}:{raw}", quote(key))).collect();
    format!("{{{}}}", members.join(","))
}

/// The bound that a flag of draft 4 stands beside.
fn flagged_bound<'a>(schema: &RawObject<'a>, flag: &str) -> Option<Node<'a>> {
    member(schema, if flag == "exclusiveMinimum" { "minimum" } else { "maximum" })
}

fn is_flagged(schema: &RawObject<'_>, flag: &str) -> bool {
    member(schema, flag).and_then(|node| node.as_bool()) == Some(true)
}

/// A list without what is no text.
fn texts(list: &Node<'_>) -> String {
    let texts: Vec<String> = list
        .as_array()
        .unwrap_or_default()
        .iter()
        .filter(|node| node.is_string())
        .map(|node| node.raw().to_owned())
        .collect();
    format!("[{}]", texts.join(","))
}

/// The value of a keyword with every schema in it tidied, and whether any had to be.
fn below<'a>(key: &str, value: &Node<'a>, depth: usize) -> (Cow<'a, str>, bool) {
    let raw = || (Cow::Borrowed(value.raw()), false);
    let joined = |open: char, parts: Vec<String>, close: char| {
        (Cow::Owned(format!("{open}{}{close}", parts.join(","))), true)
    };
    match holds(key) {
        Holds::Other => raw(),
        Holds::Named => {
            let Some(named) = value.as_object() else { return raw() };
            let tidied: Vec<(&str, Cow<'a, str>)> =
                named.members().map(|(name, schema)| (name, tidy(&schema, depth + 1))).collect();
            if named.members().all(|(_, schema)| !schema.is_null())
                && tidied.iter().all(|(_, text)| matches!(text, Cow::Borrowed(_)))
            {
                return raw();
            }
            joined(
                '{',
                tidied.iter().map(|(name, text)| format!("{}:{text}", quote(name))).collect(),
                '}',
            )
        }
        Holds::Schemas => {
            let Some(list) = value.as_array() else {
                let text = tidy(value, depth + 1);
                let rewritten = matches!(text, Cow::Owned(_));
                return (text, rewritten);
            };
            let tidied: Vec<Cow<'a, str>> = list
                .iter()
                .filter(|schema| !schema.is_null())
                .map(|schema| tidy(schema, depth + 1))
                .collect();
            if tidied.len() == list.len()
                && tidied.iter().all(|text| matches!(text, Cow::Borrowed(_)))
            {
                return raw();
            }
            joined('[', tidied.into_iter().map(Cow::into_owned).collect(), ']')
        }
    }
}

/// A `type` of JSON Schema: borrowed if it is one, spelled right if it can be, `None` if it cannot.
fn kind<'a>(value: &Node<'a>) -> Option<Cow<'a, str>> {
    let known = |node: &Node<'_>| {
        let name = node.as_str()?;
        // As Python's own types are called.
        let python =
            PYTHONS.iter().find(|(python, _)| *python == name).map(|(_, kind)| (*kind, false));
        if python.is_some() {
            return python;
        }
        TYPES
            .into_iter()
            .find(|kind| kind.eq_ignore_ascii_case(&name))
            .map(|kind| (kind, *kind == *name))
    };
    let Some(list) = value.as_array() else {
        return known(value).map(|(kind, same)| {
            if same { Cow::Borrowed(value.raw()) } else { Cow::Owned(quote(kind)) }
        });
    };
    let kinds: Option<Vec<_>> = list.iter().map(known).collect();
    // A name that nobody knows may stand for anything, and so may all of them then.
    let kinds = kinds.filter(|kinds| !kinds.is_empty())?;
    if kinds.iter().all(|(_, same)| *same) {
        return Some(Cow::Borrowed(value.raw()));
    }
    Some(Cow::Owned(format!(
        "[{}]",
        kinds.iter().map(|(kind, _)| quote(kind)).collect::<Vec<_>>().join(",")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expect: &str) {
        let node = Node::whole(schema).expect("JSON");
        let came = parameters(Some(&node), "p").map_or_else(
            |fault| fault.message.into_owned(),
            |parameters| format!("{}{}", parameters.text, parameters.told.unwrap_or_default()),
        );
        assert_eq!(came, expect);
    }

    #[test]
    fn what_is_right_is_not_touched() {
        for schema in [
            r#"{ "type":"object", "properties":{"n":{"type":"integer","minimum":1.0,"default":null},"x":{"anyOf":[{"type":"null"},{"$ref":"x"}]}},"required":[] }"#,
            r#"{"type":"object","additionalProperties":{"type":"string"},"$schema":"http://json-schema.org/draft-07/schema#","x-own":null0}"#.replace("null0", "0").as_str(),
        ] {
            check(schema, schema);
        }
    }

    #[test]
    fn a_schema_is_of_an_object() {
        check("{}", NONE);
        check(r#"{"properties":{"a":{}}}"#, r#"{"type":"object","properties":{"a":{}}}"#);
        check(r#"{"type":null}"#, r#"{"type":"object"}"#);
        check(
            r#"{"properties":{},"type":["object","null"]}"#,
            r#"{"type":"object","properties":{}}"#,
        );
        check(r#"{"type":"OBJECT"}"#, r#"{"type":"object"}"#);
        check(
            r#"{"type":"array"}"#,
            "p.type: `array` is no type for a tool's parameters; expected `object`",
        );
    }

    #[test]
    fn null_is_absent_at_every_depth() {
        check(
            r#"{"type":"object","required":null,"properties":{"a":{"type":"string","enum":null,"description":null,"default":null},"b":null}}"#,
            r#"{"type":"object","properties":{"a":{"type":"string","default":null},"b":{}}}"#,
        );
        check(
            r#"{"type":"object","properties":{"a":{"anyOf":[{"type":"string"},null]},"b":{"items":[],"anyOf":[null]}},"required":["a",null,1],"$defs":{"A":null}}"#,
            r#"{"type":"object","properties":{"a":{"anyOf":[{"type":"string"}]},"b":{}},"required":["a"],"$defs":{"A":{}}}"#,
        );
        check(r#"{"type":"object","properties":null}"#, r#"{"type":"object"}"#);
    }

    #[test]
    fn older_drafts_are_said_in_the_newest() {
        check(
            r#"{"type":"object","properties":{"n":{"minimum":0,"exclusiveMinimum":true,"maximum":9,"exclusiveMaximum":false}}}"#,
            r#"{"type":"object","properties":{"n":{"exclusiveMinimum":0,"maximum":9}}}"#,
        );
        check(
            r#"{"type":"object","properties":{"t":{"type":"array","items":[{"type":"string"},{"enum":null}],"additionalItems":false},"u":{"items":{},"additionalItems":false}}}"#,
            r#"{"type":"object","properties":{"t":{"type":"array","prefixItems":[{"type":"string"},{}],"items":false},"u":{"items":{}}}}"#,
        );
        check(
            r#"{"type":"object","properties":{"a":{"type":"String","required":true},"b":{"type":"any"},"d":{"type":"int"},"c":{"type":["STRING","null"]}}}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"},"b":{},"d":{"type":"integer"},"c":{"type":["string","null"]}}}"#,
        );
    }

    #[test]
    fn combinations_at_the_top_are_one_object() {
        check(
            r#"{"allOf":[{"properties":{"a":{}},"required":["a"]},{"properties":{"b":{}}}]}"#,
            r#"{"type":"object","properties":{"a":{},"b":{}},"required":["a"]}"#,
        );
        check(
            r#"{"type":"object","anyOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}"#,
            r#"{"type":"object","properties":{"a":{},"b":{}}}{"anyOf": [{"properties":{"a":{}}},{"properties":{"b":{}}}]}"#,
        );
        check(
            r#"{"type":"object","properties":{"a":{}},"anyOf":null}"#,
            r#"{"type":"object","properties":{"a":{}}}"#,
        );
    }
}
