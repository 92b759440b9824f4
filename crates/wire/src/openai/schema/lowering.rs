//! Schemas in the part of JSON Schema that answers can be held to.
//!
//! What cannot be enforced is told in the description instead, as Anthropic's own SDKs do. What
//! closing an object would narrow cannot be said at all: an object without declared members, a
//! map, members that a combination adds, a circle.

use std::fmt::Display;

use super::document::{Document, reference};
use super::merge::{COMBINERS, Merged, is_annotation};
use super::{DEEPEST, Holds, holds, is_object, required, said, types};
use crate::Fault;
use crate::json::{Node, RawObject, quote};
use crate::read::{member, verbatim, wrong};

/// Formats of strings that can be enforced.
const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "uuid"];

/// Keywords that are refused, and whose loss lets more fit.
const REFUSED: [&str; 26] = [
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
    "unevaluatedItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "not",
    "if",
    "then",
    "else",
];

/// Keywords by which an object's other keywords speak of more of its members.
const SPEAKS_OF_MEMBERS: [&str; 10] = [
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "$ref",
];

/// What became of a schema.
#[derive(Debug)]
pub(crate) enum Lowering {
    /// A schema that answers can be held to: all that fitted before fits.
    Said {
        text: String,
        /// The keywords that are told in a description and not enforced.
        told: Vec<String>,
        /// The schema did not say the same as it stood.
        changed: bool,
        /// An object that said nothing of further members has none now.
        closed: bool,
        /// A closed branch of an `allOf` has the members of the others now.
        opened: bool,
    },
    /// No such schema lets everything fit that fitted; why.
    Unsaid(&'static str),
}

/// Why there is no lowered schema.
enum LoweringStop {
    Unsaid(&'static str),
    Wrong(Fault),
}

impl From<Fault> for LoweringStop {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault)
    }
}

/// Lowers a schema.
///
/// # Errors
///
/// If it is no schema that anybody could mean.
pub(crate) fn lower(schema: &Node<'_>, path: impl Display) -> Result<Lowering, Fault> {
    let path = path.to_string();
    let tidied = super::tool::tidy(schema, 0);
    let Some(tidy) = Node::whole(&tidied) else { return Err(wrong(path, "it is no schema")) };
    let document = Document::new(&tidy);
    let mut writer = Writer {
        document: &document,
        path: &path,
        told: Vec::new(),
        changed: tidied != schema.raw(),
        closed: false,
        opened: false,
    };
    match writer.schema(&tidy, 0) {
        Ok(_) if document.has_circles() => Ok(Lowering::Unsaid("it refers to itself")),
        Ok(text) => Ok(Lowering::Said {
            text,
            told: writer.told,
            changed: writer.changed,
            closed: writer.closed,
            opened: writer.opened,
        }),
        Err(LoweringStop::Unsaid(why)) => Ok(Lowering::Unsaid(why)),
        Err(LoweringStop::Wrong(fault)) => Err(fault),
    }
}

struct Writer<'d, 's> {
    document: &'d Document<'s>,
    path: &'d str,
    told: Vec<String>,
    changed: bool,
    closed: bool,
    opened: bool,
}

/// An object's schema as it is being written.
#[derive(Default)]
struct SchemaParts {
    members: Vec<(String, String)>,
    /// What is told in the description.
    said: Vec<String>,
}

impl Writer<'_, '_> {
    fn schema(&mut self, node: &Node<'_>, depth: usize) -> Result<String, LoweringStop> {
        if depth > DEEPEST {
            return Err(wrong(self.path, "the schema is nested too deeply").into());
        }
        let Some(source) = node.as_object() else {
            return Ok(verbatim(node, self.path)?.into_owned());
        };
        self.changed |=
            source.members().any(|(key, node)| node.is_null() && !super::may_be_null(key));
        if ["$dynamicRef", "$recursiveRef"].iter().any(|key| member(&source, key).is_some()) {
            return Err(LoweringStop::Unsaid(
                "a reference that is found only when an answer is checked",
            ));
        }
        if member(&source, "allOf").is_some() {
            let text = self.conjunction(&source)?;
            self.changed = true;
            let branches =
                member(&source, "allOf").and_then(|node| node.as_array()).unwrap_or_default();
            self.opened |=
                branches.len() > 1 && branches.iter().any(|branch| self.is_closed(branch));
            let node = Node::whole(&text).ok_or(LoweringStop::Unsaid("`allOf`"))?;
            return self.schema(&node, depth + 1);
        }
        let mut parts = SchemaParts::default();
        if reference(&source).is_some() {
            self.reference(&source, &mut parts)?;
        } else if is_object(&source) && !self.is_only_alternatives(&source) {
            self.object(&source, &mut parts, depth)?;
        } else {
            self.other(&source, &mut parts, depth)?;
        }
        if let Some(description) = described(&source, &parts.said) {
            parts.members.push(("description".into(), description));
        }
        let members: Vec<String> =
            parts.members.iter().map(|(key, raw)| format!("{}:{raw}", quote(key))).collect();
        Ok(format!("{{{}}}", members.join(",")))
    }

    /// Something that is told in the description and not enforced.
    fn tell(
        &mut self,
        key: &str,
        value: &Node<'_>,
        parts: &mut SchemaParts,
    ) -> Result<(), LoweringStop> {
        parts.said.push(format!("{key}: {}", verbatim(value, self.path)?));
        self.changed = true;
        if !self.told.iter().any(|told| told == key) {
            self.told.push(key.to_owned());
        }
        Ok(())
    }

    /// What `allOf` says, without it.
    fn conjunction(&self, source: &RawObject<'_>) -> Result<String, LoweringStop> {
        const UNSAID: LoweringStop = LoweringStop::Unsaid("`allOf`");
        let branches = member(source, "allOf").and_then(|node| node.as_array()).unwrap_or_default();
        let own: Vec<(&str, Node<'_>)> = said(source).filter(|(key, _)| *key != "allOf").collect();
        if let [branch] = branches.as_slice() {
            let branch = branch.as_object().ok_or(UNSAID)?;
            // One schema, with more said of it: as Pydantic writes a reference with a description.
            let apart = own.iter().all(|(key, _)| {
                is_annotation(key)
                    || matches!(*key, "$defs" | "definitions")
                    || COMBINERS.iter().all(|combiner| member(&branch, combiner).is_none())
            });
            let apart = apart
                && own.iter().all(|(key, node)| {
                    member(&branch, key)
                        .is_none_or(|other| is_annotation(key) || other.raw() == node.raw())
                });
            if apart
                && (!is_object(&branch)
                    || own.iter().all(|(key, _)| {
                        is_annotation(key) || matches!(*key, "$defs" | "definitions" | "type")
                    }))
            {
                let more =
                    said(&branch).filter(|(key, _)| own.iter().all(|(known, _)| known != key));
                let members: Vec<String> = own
                    .iter()
                    .cloned()
                    .chain(more)
                    .map(|(key, node)| format!("{}:{}", quote(key), node.raw()))
                    .collect();
                return Ok(format!("{{{}}}", members.join(",")));
            }
        }
        let objects = branches.iter().all(|branch| {
            branch
                .as_object()
                .is_some_and(|branch| is_object(&branch) || self.refers_to_object(&branch))
        });
        let merged = Merged::of(self.document, source);
        let open = said(source).any(|(key, node)| {
            key == "patternProperties"
                || (key == "additionalProperties" && node.as_bool() != Some(false))
        });
        if objects && !open && merged.lost.is_empty() {
            Ok(merged.write(source))
        } else {
            Err(UNSAID)
        }
    }

    fn is_closed(&self, branch: &Node<'_>) -> bool {
        let shut = |schema: &RawObject<'_>| {
            member(schema, "additionalProperties").is_some_and(|node| node.as_bool() == Some(false))
        };
        let Some(branch) = branch.as_object() else { return false };
        let target = reference(&branch)
            .and_then(|reference| self.document.resolve(&reference))
            .and_then(|target| target.as_object());
        shut(&branch) || target.is_some_and(|target| shut(&target))
    }

    fn refers_to_object(&self, schema: &RawObject<'_>) -> bool {
        reference(schema)
            .and_then(|reference| self.document.resolve(&reference))
            .and_then(|target| target.as_object())
            .is_some_and(|target| is_object(&target))
    }

    /// A reference, with nothing but annotations beside it.
    fn reference(
        &mut self,
        source: &RawObject<'_>,
        parts: &mut SchemaParts,
    ) -> Result<(), LoweringStop> {
        for (key, value) in said(source) {
            match key {
                "$ref" => {
                    let target = value.as_str().unwrap_or_default();
                    let inside =
                        target.starts_with("#/$defs/") || target.starts_with("#/definitions/");
                    if inside && self.document.resolve(&target).is_some() {
                        parts.members.push((key.into(), value.raw().to_owned()));
                    } else if target.starts_with('#') {
                        return Err(LoweringStop::Unsaid("a `$ref` to what is not in its `$defs`"));
                    } else {
                        self.tell(key, &value, parts)?;
                    }
                }
                "description" => {}
                "$defs" | "definitions" => parts.members.push((key.into(), self.named(&value, 0)?)),
                "type" => self.changed = true,
                // Without it null would not fit any more.
                "nullable" if value.as_bool() == Some(true) => {
                    return Err(LoweringStop::Unsaid("a `$ref` that is nullable"));
                }
                _ if is_annotation(key) => {
                    parts.members.push((key.into(), verbatim(&value, self.path)?.into_owned()));
                }
                _ if holds(key) != Holds::Other || key == "required" => {
                    return Err(LoweringStop::Unsaid("a `$ref` with more beside it"));
                }
                _ => self.tell(key, &value, parts)?,
            }
        }
        Ok(())
    }

    /// True for an object that is one of several, and nothing besides: each of them is closed by itself.
    fn is_only_alternatives(&self, source: &RawObject<'_>) -> bool {
        let bare = ["properties", "additionalProperties", "patternProperties", "required"]
            .iter()
            .all(|key| member(source, key).is_none());
        let branches = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| member(source, key)?.as_array())
            .unwrap_or_default();
        let speaks = |branch: &Node<'_>| {
            branch
                .as_object()
                .is_some_and(|branch| is_object(&branch) || self.refers_to_object(&branch))
        };
        bare && !branches.is_empty() && branches.iter().all(speaks)
    }

    fn object(
        &mut self,
        source: &RawObject<'_>,
        parts: &mut SchemaParts,
        depth: usize,
    ) -> Result<(), LoweringStop> {
        let properties = member(source, "properties").and_then(|node| node.as_object());
        let declared: Vec<String> =
            properties.iter().flat_map(RawObject::keys).map(str::to_owned).collect();
        let closed = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|key| member(source, key).is_some_and(|node| node.as_bool() == Some(false)));
        if member(source, "additionalProperties").is_some_and(|node| node.as_bool() != Some(false))
        {
            return Err(LoweringStop::Unsaid("a map, or an object with additional properties"));
        }
        let open = member(source, "unevaluatedProperties")
            .is_some_and(|node| node.as_bool() != Some(false));
        if open && member(source, "additionalProperties").is_none() {
            return Err(LoweringStop::Unsaid("a map, or an object with additional properties"));
        }
        if member(source, "patternProperties")
            .and_then(|node| node.as_object())
            .is_some_and(|named| named.keys().next().is_some())
        {
            return Err(LoweringStop::Unsaid("`patternProperties`"));
        }
        if declared.is_empty() && !closed {
            return Err(LoweringStop::Unsaid("an object without declared properties"));
        }
        let mut spoken = required(source);
        for key in SPEAKS_OF_MEMBERS {
            if let Some(node) = member(source, key) {
                names_in(key, &node, 0, &mut spoken);
            }
        }
        if spoken.iter().any(|name| !declared.contains(name)) {
            return Err(LoweringStop::Unsaid(
                "properties that are not declared where they are spoken of",
            ));
        }
        for (key, value) in said(source) {
            match key {
                "description" => {}
                "additionalProperties" => self.changed |= value.as_bool() != Some(false),
                "unevaluatedProperties" if value.as_bool() == Some(false) => self.changed = true,
                // Beside an object's own members each alternative would be closed against them.
                "anyOf" | "oneOf" => self.tell(key, &value, parts)?,
                _ => self.keyword(source, key, &value, parts, depth)?,
            }
        }
        self.changed |= member(source, "additionalProperties").is_none();
        self.closed |= !closed;
        parts.members.push(("additionalProperties".into(), "false".into()));
        Ok(())
    }

    fn other(
        &mut self,
        source: &RawObject<'_>,
        parts: &mut SchemaParts,
        depth: usize,
    ) -> Result<(), LoweringStop> {
        let alternatives = self.is_only_alternatives(source);
        for (key, value) in said(source) {
            match key {
                "description" => {}
                "type" if alternatives => self.changed = true,
                _ => self.keyword(source, key, &value, parts, depth)?,
            }
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        source: &RawObject<'_>,
        key: &str,
        value: &Node<'_>,
        parts: &mut SchemaParts,
        depth: usize,
    ) -> Result<(), LoweringStop> {
        let mut push = |key: &str, raw: String| parts.members.push((key.to_owned(), raw));
        match key {
            "$defs" | "definitions" | "properties" => push(key, self.named(value, depth)?),
            "prefixItems" | "additionalItems" => self.tuple(source, key, value, parts, depth)?,
            "items" if value.as_array().is_some() => {
                self.tuple(source, key, value, parts, depth)?;
            }
            "items" if member(source, "prefixItems").is_some() => {}
            "items" => push(key, self.schema(value, depth + 1)?),
            "anyOf" => push(key, self.list(value, depth)?),
            // Only one of the two can be said as a keyword.
            "oneOf" if member(source, "anyOf").is_some() => self.tell(key, value, parts)?,
            "oneOf" => {
                push("anyOf", self.list(value, depth)?);
                self.changed = true;
                // That no two fit at once cannot be said; of alternatives that never do, nobody has to be told.
                if !self.exclude_each_other(value) && !self.told.iter().any(|told| told == key) {
                    self.told.push(key.to_owned());
                }
            }
            "required" if value.as_array().is_none() => self.changed = true,
            _ if !enforceable(key, value) => self.tell(key, value, parts)?,
            _ => push(key, verbatim(value, self.path)?.into_owned()),
        }
        Ok(())
    }

    /// A tuple: each place's schema may stand at any place, since places cannot be told apart.
    fn tuple(
        &mut self,
        source: &RawObject<'_>,
        key: &str,
        value: &Node<'_>,
        parts: &mut SchemaParts,
        depth: usize,
    ) -> Result<(), LoweringStop> {
        self.tell(key, value, parts)?;
        if key == "additionalItems" {
            return Ok(());
        }
        let rest = if key == "items" { "additionalItems" } else { "items" };
        let rest = member(source, rest);
        if key == "prefixItems"
            && let Some(rest) = &rest
        {
            self.tell("items", rest, parts)?;
        }
        // What comes after the last place may be anything, unless something is said of it.
        let Some(rest) = rest.filter(|rest| rest.as_bool() != Some(true)) else { return Ok(()) };
        let mut any: Vec<String> = Vec::new();
        let places = value.as_array().unwrap_or_default();
        for place in places.iter().chain((rest.as_bool() != Some(false)).then_some(&rest)) {
            let text = self.schema(place, depth + 1)?;
            if !any.contains(&text) {
                any.push(text);
            }
        }
        if !any.is_empty() {
            parts.members.push((
                "items".into(),
                if any.len() == 1 {
                    any.remove(0)
                } else {
                    format!("{{\"anyOf\":[{}]}}", any.join(","))
                },
            ));
        }
        Ok(())
    }

    fn named(&mut self, value: &Node<'_>, depth: usize) -> Result<String, LoweringStop> {
        let named = crate::read::object(value, self.path)?;
        let mut written = Vec::new();
        for (name, schema) in named.members() {
            written.push(format!("{}:{}", quote(name), self.schema(&schema, depth + 1)?));
        }
        Ok(format!("{{{}}}", written.join(",")))
    }

    fn list(&mut self, value: &Node<'_>, depth: usize) -> Result<String, LoweringStop> {
        let mut written = Vec::new();
        for schema in crate::read::array(value, self.path)? {
            written.push(self.schema(&schema, depth + 1)?);
        }
        Ok(format!("[{}]", written.join(",")))
    }

    /// True if no value fits two of the alternatives: they differ in type, or in a member that each fixes.
    fn exclude_each_other(&self, value: &Node<'_>) -> bool {
        let branches: Vec<RawObject<'_>> = value
            .as_array()
            .unwrap_or_default()
            .iter()
            .filter_map(|node| self.target(node))
            .collect();
        let all = branches.len() == value.as_array().map_or(0, |list| list.len());
        let differ = |told: &dyn Fn(&RawObject<'_>) -> Vec<String>| {
            let mut seen: Vec<String> = Vec::new();
            branches.iter().all(|branch| {
                let values = told(branch);
                let new = !values.is_empty() && values.iter().all(|value| !seen.contains(value));
                seen.extend(values);
                new
            })
        };
        let kinds = |branch: &RawObject<'_>| {
            types(branch)
                .into_iter()
                .map(|kind| if kind == "integer" { "number".to_owned() } else { kind })
                .collect()
        };
        let names: Vec<String> = branches
            .first()
            .and_then(|first| member(first, "properties")?.as_object())
            .iter()
            .flat_map(RawObject::keys)
            .map(str::to_owned)
            .collect();
        let tagged = |name: &str| {
            let tags = |branch: &RawObject<'_>| {
                let property = member(branch, "properties")
                    .and_then(|node| node.as_object()?.get(name)?.as_object());
                if required(branch).iter().any(|known| known == name) {
                    property.map(|property| fixed(&property)).unwrap_or_default()
                } else {
                    Vec::new()
                }
            };
            differ(&tags)
        };
        all && (differ(&kinds)
            || differ(&|branch| fixed(branch))
            || names.iter().any(|name| tagged(name)))
    }

    fn target<'n>(&'n self, node: &Node<'n>) -> Option<RawObject<'n>> {
        let object = node.as_object()?;
        match reference(&object) {
            Some(reference) => self.document.resolve(&reference)?.as_object(),
            None => Some(object),
        }
    }
}

/// The values that a schema allows, where it names them.
fn fixed(schema: &RawObject<'_>) -> Vec<String> {
    match (schema.get("const"), member(schema, "enum")) {
        (Some(value), _) => vec![value.raw().to_owned()],
        (None, Some(list)) => {
            list.as_array().unwrap_or_default().iter().map(|node| node.raw().to_owned()).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// The members of an object that a keyword speaks of.
fn names_in(key: &str, value: &Node<'_>, depth: usize, names: &mut Vec<String>) {
    if depth > DEEPEST {
        return;
    }
    if matches!(key, "dependentRequired" | "dependentSchemas" | "dependencies") {
        for (name, what) in value.as_object().iter().flat_map(RawObject::members) {
            names.push(name.to_owned());
            names.extend(
                what.as_array()
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|node| node.as_str().map(std::borrow::Cow::into_owned)),
            );
            names_in("allOf", &what, depth + 1, names);
        }
        return;
    }
    let schemas = value.as_array().unwrap_or_else(|| vec![value.clone()]);
    for schema in schemas.iter().filter_map(Node::as_object) {
        names.extend(
            member(&schema, "properties")
                .and_then(|node| node.as_object())
                .iter()
                .flat_map(RawObject::keys)
                .map(str::to_owned),
        );
        names.extend(required(&schema));
        if reference(&schema).is_some() {
            // What stands there speaks of members as well; it is not worth finding out of which.
            names.push("$ref".to_owned());
        }
        for key in SPEAKS_OF_MEMBERS.into_iter().filter(|key| *key != "$ref") {
            if let Some(node) = member(&schema, key) {
                names_in(key, &node, depth + 1, names);
            }
        }
    }
}

/// True if a keyword with this value can be enforced.
fn enforceable(key: &str, value: &Node<'_>) -> bool {
    let plain = |node: &Node<'_>| !node.raw().starts_with(['{', '[']);
    match key {
        "minItems" => value.as_u64().is_some_and(|least| least <= 1),
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&&*format)),
        "const" => plain(value),
        "enum" => value.as_array().is_some_and(|values| values.iter().all(plain)),
        _ => !REFUSED.contains(&key),
    }
}

/// The description, and what could not be enforced.
fn described(source: &RawObject<'_>, said: &[String]) -> Option<String> {
    let own = member(source, "description").and_then(|node| Some(node.as_str()?.into_owned()));
    if said.is_empty() {
        return own.map(|own| quote(&own));
    }
    let said = format!("{{{}}}", said.join(", "));
    Some(quote(&own.map_or_else(|| said.clone(), |own| format!("{own}\n\n{said}"))))
}

#[cfg(test)]
mod tests {
    use super::super::tests::with;
    use super::*;

    /// What a schema becomes; what is told behind it, in parentheses.
    fn lowered(schema: &str) -> String {
        with(schema, |node| match lower(node, "p") {
            Ok(Lowering::Said { text, told, .. }) if told.is_empty() => text,
            Ok(Lowering::Said { text, told, .. }) => format!("{text} ({})", told.join(" ")),
            Ok(Lowering::Unsaid(why)) => format!("unsaid: {why}"),
            Err(fault) => fault.message.into_owned(),
        })
    }

    #[track_caller]
    fn check(schema: &str, expect: &str) {
        assert_eq!(lowered(schema), expect, "{schema}");
    }

    #[track_caller]
    fn cannot_be_said(schema: &str) {
        let came = lowered(schema);
        assert!(came.starts_with("unsaid: "), "{schema} became {came}");
        // Wherever it stands.
        let inside = lowered(&format!(
            r#"{{"type":"object","properties":{{"x":{{"type":"array","items":{schema}}}}}}}"#
        ));
        assert!(inside.starts_with("unsaid: "), "{schema} inside became {inside}");
    }

    #[test]
    fn objects_are_closed() {
        check(
            r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#,
        );
        check(
            r#"{"type":"object","additionalProperties":false}"#,
            r#"{"type":"object","additionalProperties":false}"#,
        );
        check(
            r##"{"$defs":{"X":{"properties":{"a":true}}},"anyOf":[{"$ref":"#/$defs/X"},{"type":["object","null"],"properties":{"b":{}}}]}"##,
            r##"{"$defs":{"X":{"properties":{"a":true},"additionalProperties":false}},"anyOf":[{"$ref":"#/$defs/X"},{"type":["object","null"],"properties":{"b":{}},"additionalProperties":false}]}"##,
        );
        check(
            r#"{"type":"object","oneOf":[{"properties":{"k":{"const":"a"}},"required":["k"]},{"properties":{"k":{"const":"b"}},"required":["k"]}]}"#,
            r#"{"anyOf":[{"properties":{"k":{"const":"a"}},"required":["k"],"additionalProperties":false},{"properties":{"k":{"const":"b"}},"required":["k"],"additionalProperties":false}]}"#,
        );
        check("true", "true");
    }

    #[test]
    fn what_closing_would_narrow_cannot_be_said() {
        cannot_be_said(r#"{"type":"object"}"#);
        cannot_be_said(r#"{"type":["object","null"],"properties":{}}"#);
        cannot_be_said(r#"{"type":"object","additionalProperties":{"type":"integer"}}"#);
        cannot_be_said(r#"{"additionalProperties":{"type":"integer"}}"#);
        cannot_be_said(r#"{"type":"object","properties":{"a":{}},"additionalProperties":true}"#);
        cannot_be_said(
            r#"{"type":"object","properties":{"a":{}},"patternProperties":{"^x":{}},"additionalProperties":false}"#,
        );
        cannot_be_said(r#"{"type":"object","properties":{"a":{}},"required":["b"]}"#);
        cannot_be_said(
            r#"{"type":"object","properties":{"a":{}},"anyOf":[{"properties":{"b":{}}},{"required":["c"]}]}"#,
        );
        cannot_be_said(
            r#"{"type":"object","properties":{"a":{}},"if":{"required":["a"]},"then":{"properties":{"b":{}}}}"#,
        );
        cannot_be_said(
            r#"{"type":"object","properties":{"a":{}},"dependentSchemas":{"a":{"properties":{"b":{}}}}}"#,
        );
        cannot_be_said(
            r#"{"properties":{"a":{}},"allOf":[{"properties":{"b":{}},"minProperties":1}]}"#,
        );
        cannot_be_said(r##"{"$ref":"#/$defs/none"}"##);
        cannot_be_said(
            r##"{"$ref":"#/$defs/X","properties":{"b":{}},"$defs":{"X":{"properties":{"a":{}}}}}"##,
        );
        check(
            r##"{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}}}"##,
            "unsaid: a `$ref` to what is not in its `$defs`",
        );
        check(
            r##"{"$defs":{"N":{"type":"object","properties":{"next":{"$ref":"#/$defs/N"}}}},"$ref":"#/$defs/N"}"##,
            "unsaid: it refers to itself",
        );
    }

    #[test]
    fn what_holds_together_is_one() {
        check(
            r##"{"properties":{"a":{"allOf":[{"$ref":"#/$defs/X"}],"description":"d","default":null}},"$defs":{"X":{"type":"string"}}}"##,
            r##"{"properties":{"a":{"default":null,"$ref":"#/$defs/X","description":"d"}},"$defs":{"X":{"type":"string"}},"additionalProperties":false}"##,
        );
        check(
            r##"{"$defs":{"B":{"type":"object","properties":{"b":{"type":"string"}},"required":["b"]}},"allOf":[{"$ref":"#/$defs/B"},{"type":"object","properties":{"a":{"type":"string"}}}]}"##,
            r#"{"type":"object","$defs":{"B":{"type":"object","properties":{"b":{"type":"string"}},"required":["b"],"additionalProperties":false}},"properties":{"b":{"type":"string"},"a":{"type":"string"}},"required":["b"],"additionalProperties":false}"#,
        );
        check(
            r#"{"allOf":[{"type":"string"}],"minLength":3}"#,
            r#"{"type":"string","description":"{minLength: 3}"} (minLength)"#,
        );
    }

    #[test]
    fn what_cannot_be_enforced_is_told() {
        check(
            r#"{"type":"integer","minimum":1,"maximum":5,"description":"stars"}"#,
            r#"{"type":"integer","description":"stars\n\n{minimum: 1, maximum: 5}"} (minimum maximum)"#,
        );
        check(
            r#"{"type":"array","items":{"type":"string","maxLength":3},"minItems":2}"#,
            r#"{"type":"array","items":{"type":"string","description":"{maxLength: 3}"},"description":"{minItems: 2}"} (maxLength minItems)"#,
        );
        check(r#"{"type":"array","minItems":1}"#, r#"{"type":"array","minItems":1}"#);
        check(r#"{"type":"string","format":"email"}"#, r#"{"type":"string","format":"email"}"#);
        check(
            r#"{"type":"string","format":"colour"}"#,
            r#"{"type":"string","description":"{format: \"colour\"}"} (format)"#,
        );
        check(r#"{"$ref":"https://x/y"}"#, r#"{"description":"{$ref: \"https://x/y\"}"} ($ref)"#);
        check(r#"{"oneOf":[{"const":1},{"const":2}]}"#, r#"{"anyOf":[{"const":1},{"const":2}]}"#);
        check(
            r#"{"oneOf":[{"type":"string"},{"type":["integer","null"]}]}"#,
            r#"{"anyOf":[{"type":"string"},{"type":["integer","null"]}]}"#,
        );
        check(
            r#"{"oneOf":[{"type":"string"},{"const":"x"}]}"#,
            r#"{"anyOf":[{"type":"string"},{"const":"x"}]} (oneOf)"#,
        );
        check(
            r#"{"oneOf":[{"const":1}],"anyOf":[{"const":2}]}"#,
            r#"{"anyOf":[{"const":2}],"description":"{oneOf: [{\"const\":1}]}"} (oneOf)"#,
        );
        check(r#"{"enum":[{"a":1},2]}"#, r#"{"description":"{enum: [{\"a\":1},2]}"} (enum)"#);
        check(
            r#"{"type":"object","properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
            r#"{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,"description":"{anyOf: [{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}"} (anyOf)"#,
        );
        // A property may be called like a keyword.
        check(
            r#"{"properties":{"minimum":{"type":"string"}}}"#,
            r#"{"properties":{"minimum":{"type":"string"}},"additionalProperties":false}"#,
        );
    }

    #[test]
    fn a_tuple_is_a_list_of_any_of_its_places() {
        check(
            r#"{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":false}"#,
            r#"{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"integer"}]},"description":"{prefixItems: [{\"type\":\"string\"},{\"type\":\"integer\"}], items: false}"} (prefixItems items)"#,
        );
        check(
            r#"{"type":"array","prefixItems":[{"type":"string"}]}"#,
            r#"{"type":"array","description":"{prefixItems: [{\"type\":\"string\"}]}"} (prefixItems)"#,
        );
        check(
            r#"{"items":[{"type":"string"}],"additionalItems":{"type":"null"}}"#,
            r#"{"items":{"anyOf":[{"type":"string"},{"type":"null"}]},"description":"{prefixItems: [{\"type\":\"string\"}], items: {\"type\":\"null\"}}"} (prefixItems items)"#,
        );
    }

    #[test]
    fn a_closed_branch_that_is_merged_is_told() {
        let opened = |schema: &str| {
            with(schema, |node| matches!(lower(node, "p"), Ok(Lowering::Said { opened: true, .. })))
        };
        let branch = |more: &str| format!(r#"{{"type":"object","properties":{{"n":{{}}}}{more}}}"#);
        assert!(opened(&format!(
            r#"{{"allOf":[{},{}]}}"#,
            branch(r#","additionalProperties":false"#),
            branch("")
        )));
        assert!(opened(&format!(
            r##"{{"$defs":{{"B":{}}},"allOf":[{{"$ref":"#/$defs/B"}},{}]}}"##,
            branch(r#","additionalProperties":false"#),
            branch("")
        )));
        assert!(!opened(&format!(r#"{{"allOf":[{0},{0}]}}"#, branch(""))));
    }

    #[test]
    fn what_only_loosens_is_not_lost() {
        cannot_be_said(
            r#"{"type":"object","properties":{"a":{}},"unevaluatedProperties":{"type":"string"}}"#,
        );
        cannot_be_said(r#"{"type":"object","properties":{"a":{}},"unevaluatedProperties":true}"#);
        cannot_be_said(r##"{"type":"object","properties":{"a":{"$dynamicRef":"#n"}}}"##);
        assert!(lowered(r##"{"$defs":{"Q":{"type":"string"}},"properties":{"a":{"$ref":"#/$defs/Q","nullable":true}}}"##).starts_with("unsaid: "));
    }

    #[test]
    fn what_is_no_schema_of_this_draft_is_made_one_first() {
        check(
            r#"{"type":"OBJECT","properties":{"a":{"type":"STRING"},"b":null,"c":{"anyOf":[{"type":"int"},null]}},"required":["a",null,1]}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"},"b":{},"c":{"anyOf":[{"type":"integer"}]}},"required":["a"],"additionalProperties":false}"#,
        );
    }

    #[test]
    fn null_is_absent() {
        check(
            r#"{"type":"object","properties":{"a":{"enum":null,"const":null}},"required":null}"#,
            r#"{"type":"object","properties":{"a":{"const":null}},"additionalProperties":false}"#,
        );
        check(
            r#"{"type":"object","properties":null}"#,
            "unsaid: an object without declared properties",
        );
    }

    #[test]
    fn deep_schemas_are_refused() {
        check(
            &format!("{}{{}}{}", r#"{"items":"#.repeat(99), "}".repeat(99)),
            "p: the schema is nested too deeply",
        );
    }
}
