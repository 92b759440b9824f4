//! JSON Schemas as clients write them, and what of them Claude's API takes.
//!
//! A tool's schema is taken as it stands but for what is no JSON Schema of draft 2020-12 or is
//! refused at the top ([`tool`]). An answer's schema, and that of a strict tool, has to stay in
//! the part that answers can be held to ([`lowering`]). A rewriting may loosen a schema, never
//! narrow it: whatever fitted before has to fit afterwards.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>: every object is
//! closed, numbers and strings have no bounds, lists have at least 0 or 1 elements, references
//! stay inside the schema and never form a circle, and a request has only so many strict tools,
//! optional parameters and unions.

mod document;
mod lowering;
mod merge;
mod tool;

pub(crate) use lowering::{Lowering, lower};
pub(crate) use tool::parameters;

use crate::json::{Node, RawObject};
use crate::read::member;

/// How deep a schema may nest.
const DEEPEST: usize = 64;
const STRICT_TOOLS: usize = 20;
const OPTIONAL: usize = 24;
const UNIONS: usize = 16;

/// What a keyword holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A schema for each of several names.
    Named,
    /// One schema, or a list of them.
    Schemas,
    Other,
}

fn holds(key: &str) -> Holds {
    match key {
        "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => {
            Holds::Named
        }
        "items"
        | "prefixItems"
        | "additionalItems"
        | "contains"
        | "additionalProperties"
        | "unevaluatedProperties"
        | "unevaluatedItems"
        | "propertyNames"
        | "anyOf"
        | "allOf"
        | "oneOf"
        | "not"
        | "if"
        | "then"
        | "else" => Holds::Schemas,
        _ => Holds::Other,
    }
}

/// True for a keyword whose value may be `null`; for any other, `null` is the same as absent.
fn may_be_null(key: &str) -> bool {
    matches!(key, "const" | "default" | "example")
}

/// The members that say something.
fn said<'s, 'a>(schema: &'s RawObject<'a>) -> impl Iterator<Item = (&'s str, Node<'a>)> {
    schema.members().filter(|(key, node)| !node.is_null() || may_be_null(key))
}

/// Calls `visit` with each schema right below one.
fn each_below<'a, E>(
    schema: &RawObject<'a>,
    mut visit: impl FnMut(&str, &Node<'a>) -> Result<(), E>,
) -> Result<(), E> {
    for (key, value) in said(schema) {
        match holds(key) {
            Holds::Named => value
                .as_object()
                .iter()
                .flat_map(RawObject::members)
                .try_for_each(|(_, schema)| visit(key, &schema))?,
            Holds::Schemas => match value.as_array() {
                Some(list) => list.iter().try_for_each(|schema| visit(key, schema))?,
                None => visit(key, &value)?,
            },
            Holds::Other => {}
        }
    }
    Ok(())
}

/// True if a schema speaks of objects.
fn is_object(schema: &RawObject<'_>) -> bool {
    let types = types(schema);
    let untyped = types.is_empty()
        && ["properties", "additionalProperties", "patternProperties"]
            .iter()
            .any(|key| member(schema, key).is_some());
    untyped || types.iter().any(|kind| kind == "object")
}

/// The types that a schema names.
fn types(schema: &RawObject<'_>) -> Vec<String> {
    let text = |node: &Node<'_>| node.as_str().map(std::borrow::Cow::into_owned);
    match member(schema, "type") {
        Some(node) => node.as_array().map_or_else(
            || text(&node).into_iter().collect(),
            |list| list.iter().filter_map(text).collect(),
        ),
        None => Vec::new(),
    }
}

/// The names that an object has to have.
fn required(schema: &RawObject<'_>) -> Vec<String> {
    let list = member(schema, "required").and_then(|node| node.as_array()).unwrap_or_default();
    list.iter().filter_map(|node| node.as_str().map(std::borrow::Cow::into_owned)).collect()
}

/// What of a request's allowance for strict schemas is used up: that of its answer's format, and those of its strict tools.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Allowance {
    tools: usize,
    optional: usize,
    unions: usize,
}

impl Allowance {
    /// True if a strict tool with this schema, as it stands, can be taken besides what was; counts it if so.
    pub(crate) fn admits_tool(&mut self, schema: &Node<'_>) -> bool {
        let stands =
            matches!(lower(schema, "parameters"), Ok(Lowering::Said { changed: false, .. }));
        stands && self.admits(schema, 1)
    }

    /// True if an answer's format can be taken, with a schema that was lowered; counts it if so.
    pub(crate) fn admits_format(&mut self, schema: &Node<'_>) -> bool {
        self.admits(schema, 0)
    }

    fn admits(&mut self, schema: &Node<'_>, tools: usize) -> bool {
        let mut next = Self { tools: self.tools + tools, ..*self };
        next.count(schema);
        let fits = next.tools <= STRICT_TOOLS && next.optional <= OPTIONAL && next.unions <= UNIONS;
        if fits {
            *self = next;
        }
        fits
    }

    /// Counts what was found to be no deeper than a schema may be.
    fn count(&mut self, schema: &Node<'_>) {
        let Some(object) = schema.as_object() else { return };
        let properties = member(&object, "properties")
            .and_then(|node| node.as_object())
            .map_or(0, |properties| properties.keys().count());
        self.optional += properties.saturating_sub(required(&object).len());
        self.unions += usize::from(member(&object, "anyOf").is_some() || types(&object).len() > 1);
        let counted: Result<(), std::convert::Infallible> = each_below(&object, |_, schema| {
            self.count(schema);
            Ok(())
        });
        counted.unwrap_or_else(|never| match never {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn with<T>(schema: &str, check: impl FnOnce(&Node<'_>) -> T) -> T {
        check(&Node::whole(schema).expect("the test's schema is JSON"))
    }

    #[test]
    fn a_strict_tool_stays_within_the_subset() {
        let admits = |schema: &str| with(schema, |node| Allowance::default().admits_tool(node));
        assert!(admits(
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#
        ));
        assert!(!admits(r#"{"type":"object","properties":{}}"#));
        assert!(!admits(
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"integer","minimum":1}}}"#
        ));
        assert!(!admits(
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"array","minItems":2}}}"#
        ));
        assert!(!admits(
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"$ref":"https://x/y"}}}"#
        ));
        assert!(!admits(
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object"}}}"#
        ));
        assert!(!admits(
            r##"{"type":"object","additionalProperties":false,"properties":{"a":{"$ref":"#"}}}"##
        ));
        assert!(!admits(
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"enum":null}},"required":null}"#
        ));
        assert!(!admits(&format!("{}{{}}{}", r#"{"items":"#.repeat(99), "}".repeat(99))));
        let many: Vec<String> = (0..25).map(|n| format!("\"p{n}\":{{}}")).collect();
        assert!(!admits(&format!(
            "{{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{{{}}}}}",
            many.join(",")
        )));
    }

    #[test]
    fn a_request_has_only_so_many() {
        let schema = r#"{"type":"object","properties":{"a":{"type":["string","null"]}},"additionalProperties":false}"#;
        let mut allowance = Allowance::default();
        let admitted = (0..STRICT_TOOLS + 5)
            .filter(|_| with(schema, |node| allowance.admits_tool(node)))
            .count();
        assert_eq!(admitted, UNIONS);
    }
}
