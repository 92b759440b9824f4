//! The part of JSON Schema that Claude can be held to.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>: every object is
//! closed, numbers and strings have no bounds, lists have at least 0 or 1 elements, references
//! stay inside the schema, and a request has only so many strict tools, optional parameters
//! and unions.

use crate::Fault;
use crate::json::{Node, RawObject, quote};
use crate::read::{array, object, verbatim, wrong};

/// How deep a schema may nest.
const DEEPEST: usize = 64;
const STRICT_TOOLS: usize = 20;
const OPTIONAL: usize = 24;
const UNIONS: usize = 16;

/// Formats of strings that can be enforced.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "uuid"];
/// Keywords that are refused.
const REFUSED: [&str; 25] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "dependentRequired",
    "dependentSchemas",
    "not",
    "if",
    "then",
    "else",
    "prefixItems",
];

/// What a keyword holds.
enum Holds {
    /// A schema for each of several names.
    Named,
    /// One schema, or a list of them.
    Schemas,
    Other,
}

fn holds(key: &str) -> Holds {
    match key {
        "properties" | "$defs" | "definitions" => Holds::Named,
        "items" | "anyOf" | "allOf" | "oneOf" => Holds::Schemas,
        _ => Holds::Other,
    }
}

/// What of a request's allowance for strict schemas is used up.
#[derive(Debug, Default, Clone, Copy)]
pub struct Allowance {
    tools: usize,
    optional: usize,
    unions: usize,
}

impl Allowance {
    /// True if a tool with this schema can be strict besides those before it; counts it if so.
    pub fn admits(&mut self, schema: &Node<'_>) -> bool {
        let mut next = Self { tools: self.tools + 1, ..*self };
        let fits = next.count(schema, 0) && next.tools <= STRICT_TOOLS && next.optional <= OPTIONAL && next.unions <= UNIONS;
        if fits {
            *self = next;
        }
        fits
    }

    fn count(&mut self, schema: &Node<'_>, depth: usize) -> bool {
        let Some(object) = schema.as_object() else { return schema.as_bool().is_some() };
        if depth > DEEPEST || (is_object(&object) && object.get("additionalProperties").is_none_or(|node| node.as_bool() != Some(false))) {
            return false;
        }
        self.optional += optional(&object);
        self.unions += usize::from(object.get("anyOf").is_some() || object.get("type").is_some_and(|kind| kind.as_array().is_some()));
        object.members().all(|(key, value)| match holds(key) {
            _ if !enforceable(key, &value) || key == "oneOf" => false,
            Holds::Named => value.as_object().is_some_and(|named| named.members().all(|(_, schema)| self.count(&schema, depth + 1))),
            Holds::Schemas => match value.as_array() {
                Some(list) => list.iter().all(|schema| self.count(schema, depth + 1)),
                None => self.count(&value, depth + 1),
            },
            Holds::Other => true,
        })
    }
}

/// True if a keyword with this value can be enforced.
fn enforceable(key: &str, value: &Node<'_>) -> bool {
    match key {
        "minItems" => value.as_u64().is_some_and(|least| least <= 1),
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&&*format)),
        "$ref" => value.as_str().is_some_and(|target| target.starts_with('#')),
        _ => !REFUSED.contains(&key),
    }
}

fn is_object(schema: &RawObject<'_>) -> bool {
    let says = |node: &Node<'_>| node.as_str().as_deref() == Some("object");
    let kind = schema.get("type");
    schema.get("properties").is_some() || kind.is_some_and(|kind| says(&kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(says)))
}

/// How many of an object's properties need not be there.
fn optional(schema: &RawObject<'_>) -> usize {
    let properties = schema.get("properties").and_then(|node| node.as_object()).map_or(0, |properties| properties.keys().count());
    let required = schema.get("required").and_then(|node| node.as_array()).map_or(0, |required| required.len());
    properties.saturating_sub(required)
}

/// Writes a schema so that answers can be held to it: objects are closed, and what cannot
/// be enforced is said in the description instead, as Anthropic's own SDKs do.
pub fn adapted(schema: &Node<'_>, path: &str) -> Result<Adapted, Fault> {
    let mut closed = false;
    let text = write(schema, path, 0, &mut closed)?;
    Ok(Adapted { text, closed })
}

/// A schema that answers can be held to.
#[derive(Debug)]
pub struct Adapted {
    pub text: String,
    /// An object that was open is not any more: an answer can have fewer members than was asked for.
    pub closed: bool,
}

fn write(schema: &Node<'_>, path: &str, depth: usize, closed: &mut bool) -> Result<String, Fault> {
    if depth > DEEPEST {
        return Err(wrong(path, "the schema is nested too deeply"));
    }
    let Some(source) = schema.as_object() else { return Ok(verbatim(schema, path)?.into_owned()) };
    let mut members: Vec<(&str, String)> = Vec::new();
    let mut said = Vec::new();
    // Only one of the two can be said as a keyword.
    let both = source.get("oneOf").is_some() && source.get("anyOf").is_some();
    for (key, value) in source.members() {
        match key {
            "description" => {}
            "additionalProperties" if is_object(&source) => {
                *closed |= value.as_bool() != Some(false);
                if value.as_object().is_some() {
                    said.push(format!("{key}: {}", verbatim(&value, path)?));
                }
            }
            _ if !enforceable(key, &value) || (both && key == "oneOf") => said.push(format!("{key}: {}", verbatim(&value, path)?)),
            _ => members.push((if key == "oneOf" { "anyOf" } else { key }, inner(key, &value, path, depth, closed)?)),
        }
    }
    if is_object(&source) {
        members.push(("additionalProperties", "false".into()));
    }
    if let Some(description) = described(&source, &said) {
        members.push(("description", description));
    }
    let members: Vec<String> = members.iter().map(|(key, raw)| format!("{}:{raw}", quote(key))).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

fn inner(key: &str, value: &Node<'_>, path: &str, depth: usize, closed: &mut bool) -> Result<String, Fault> {
    match holds(key) {
        Holds::Named => {
            let named = object(value, path)?;
            let written: Result<Vec<_>, _> = named.members().map(|(name, schema)| Ok(format!("{}:{}", quote(name), write(&schema, path, depth + 1, closed)?))).collect();
            Ok(format!("{{{}}}", written?.join(",")))
        }
        Holds::Schemas if value.raw().starts_with('[') => {
            let written: Result<Vec<_>, _> = array(value, path)?.iter().map(|schema| write(schema, path, depth + 1, closed)).collect();
            Ok(format!("[{}]", written?.join(",")))
        }
        Holds::Schemas => write(value, path, depth + 1, closed),
        Holds::Other => Ok(verbatim(value, path)?.into_owned()),
    }
}

/// The description, and what could not be enforced.
fn described(source: &RawObject<'_>, said: &[String]) -> Option<String> {
    let own = source.get("description").and_then(|node| Some(node.as_str()?.into_owned()));
    if said.is_empty() {
        return own.map(|own| quote(&own));
    }
    let said = format!("{{{}}}", said.join(", "));
    Some(quote(&own.map_or_else(|| said.clone(), |own| format!("{own}\n\n{said}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(schema: &str, check: impl FnOnce(&Node<'_>) -> T) -> T {
        let source = format!("{{\"s\":{schema}}}");
        let object = RawObject::parse(source.as_bytes()).unwrap();
        check(&object.get("s").unwrap())
    }

    #[track_caller]
    fn check(schema: &str, expect: &str) {
        with(schema, |node| assert_eq!(adapted(node, "p").map_or_else(|fault| fault.message.into_owned(), |adapted| adapted.text), expect));
    }

    #[test]
    fn objects_are_closed() {
        check(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#, r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#);
        check(r#"{"type":"object","additionalProperties":true}"#, r#"{"type":"object","additionalProperties":false}"#);
        check(
            r##"{"$defs":{"X":{"properties":{}}},"anyOf":[{"$ref":"#/$defs/X"},{"type":["object","null"]}]}"##,
            r##"{"$defs":{"X":{"properties":{},"additionalProperties":false}},"anyOf":[{"$ref":"#/$defs/X"},{"type":["object","null"],"additionalProperties":false}]}"##,
        );
        check("true", "true");
    }

    #[test]
    fn what_cannot_be_enforced_is_said() {
        check(r#"{"type":"integer","minimum":1,"maximum":5,"description":"stars"}"#, r#"{"type":"integer","description":"stars\n\n{minimum: 1, maximum: 5}"}"#);
        check(
            r#"{"type":"array","items":{"type":"string","maxLength":3},"minItems":2}"#,
            r#"{"type":"array","items":{"type":"string","description":"{maxLength: 3}"},"description":"{minItems: 2}"}"#,
        );
        check(r#"{"type":"array","minItems":1}"#, r#"{"type":"array","minItems":1}"#);
        check(r#"{"type":"string","format":"email"}"#, r#"{"type":"string","format":"email"}"#);
        check(r#"{"type":"string","format":"colour"}"#, r#"{"type":"string","description":"{format: \"colour\"}"}"#);
        check(r#"{"$ref":"https://x/y"}"#, r#"{"description":"{$ref: \"https://x/y\"}"}"#);
        check(r#"{"oneOf":[{"const":1}]}"#, r#"{"anyOf":[{"const":1}]}"#);
        check(r#"{"oneOf":[{"const":1}],"anyOf":[{"const":2}]}"#, r#"{"anyOf":[{"const":2}],"description":"{oneOf: [{\"const\":1}]}"}"#);
        // A property may be called like a keyword.
        check(r#"{"properties":{"minimum":{"type":"string"}}}"#, r#"{"properties":{"minimum":{"type":"string"}},"additionalProperties":false}"#);
    }

    #[test]
    fn it_is_told_when_an_open_object_is_closed() {
        let closed = |schema: &str| with(schema, |node| adapted(node, "p").unwrap().closed);
        assert!(closed(r#"{"properties":{"a":{"type":"object","additionalProperties":{"type":"string"}}}}"#));
        assert!(closed(r#"{"type":"object","additionalProperties":true}"#));
        assert!(!closed(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object"}}}"#));
    }

    #[test]
    fn deep_schemas_are_refused() {
        let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(99), "}".repeat(99));
        check(&deep, "p: the schema is nested too deeply");
        assert!(!with(&deep, |node| Allowance::default().admits(node)));
    }

    #[test]
    fn a_strict_tool_stays_within_the_subset() {
        let admits = |schema: &str| with(schema, |node| Allowance::default().admits(node));
        assert!(admits(r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#));
        assert!(!admits(r#"{"type":"object","properties":{}}"#));
        assert!(!admits(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"integer","minimum":1}}}"#));
        assert!(!admits(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"array","minItems":2}}}"#));
        assert!(!admits(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"$ref":"https://x/y"}}}"#));
        assert!(!admits(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object"}}}"#));
        let many: Vec<String> = (0..25).map(|n| format!("\"p{n}\":{{}}")).collect();
        assert!(!admits(&format!(r#"{{"type":"object","additionalProperties":false,"properties":{{{}}}}}"#, many.join(","))));
    }

    #[test]
    fn a_request_has_only_so_many_strict_tools() {
        let mut allowance = Allowance::default();
        let admitted = (0..30).filter(|_| with(r#"{"type":"object","additionalProperties":false,"properties":{}}"#, |node| allowance.admits(node))).count();
        assert_eq!(admitted, 20);
        let mut allowance = Allowance::default();
        let union = r#"{"type":"object","additionalProperties":false,"properties":{"a":{"anyOf":[{"type":"string"}]}},"required":["a"]}"#;
        assert_eq!((0..30).filter(|_| with(union, |node| allowance.admits(node))).count(), 16);
    }
}
