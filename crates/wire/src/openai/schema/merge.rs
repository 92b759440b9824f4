//! Several schemas of one object made into one.

use super::document::{Document, reference};
use super::{is_object, required, said, types};
use crate::json::{Node, RawObject, quote};
use crate::read::member;

/// How far references and combinations are followed.
const FARTHEST: usize = 16;

/// The keywords that combine schemas.
pub(super) const COMBINERS: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// What is said of a schema, and holds nobody to anything.
pub(super) fn is_annotation(key: &str) -> bool {
    matches!(
        key,
        "title"
            | "description"
            | "default"
            | "example"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "$comment"
            | "$schema"
            | "$id"
            | "$anchor"
            | "discriminator"
    )
}

/// What several schemas say of one object: every object that fits them fits this.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Each name with its schema, as JSON.
    properties: Vec<(String, String)>,
    required: Vec<String>,
    /// Other names may not be there.
    closed: bool,
    /// What one object cannot say: keyword and JSON text.
    pub(super) lost: Vec<(String, String)>,
}

impl Merged {
    /// Gathers what a schema and all that it combines say.
    pub(super) fn of(document: &Document<'_>, schema: &RawObject<'_>) -> Self {
        let mut merged = Self::default();
        merged.gather(document, schema, 0);
        merged
    }

    /// Adds what also has to hold. At the top (`depth` 0) what stands beside the combination is its owner's to keep.
    fn gather(&mut self, document: &Document<'_>, schema: &RawObject<'_>, depth: usize) {
        if depth > FARTHEST {
            return self.lose("$ref", "\"…\"");
        }
        for (key, value) in said(schema) {
            match key {
                "properties" => value
                    .as_object()
                    .iter()
                    .flat_map(RawObject::members)
                    .for_each(|(name, schema)| self.property(name, schema.raw(), "allOf")),
                "required" => required(schema).into_iter().for_each(|name| self.require(name)),
                "additionalProperties" if value.as_bool() == Some(false) => self.closed = true,
                "additionalProperties" if value.as_bool() == Some(true) => {}
                "$ref" => match reference(schema)
                    .and_then(|reference| document.resolve(&reference))
                    .and_then(|target| target.as_object())
                {
                    Some(target) => self.gather(document, &target, depth + 1),
                    None => self.lose(key, value.raw()),
                },
                "allOf" => self.all(document, key, &value, depth),
                "anyOf" | "oneOf" => self.any(document, key, &value, depth),
                "type" | "$defs" | "definitions" => {}
                _ if depth == 0 || is_annotation(key) => {}
                _ => self.lose(key, value.raw()),
            }
        }
    }

    fn all(&mut self, document: &Document<'_>, key: &str, value: &Node<'_>, depth: usize) {
        for branch in value.as_array().unwrap_or_default() {
            match branch.as_object() {
                Some(branch) => self.gather(document, &branch, depth + 1),
                None if branch.as_bool() == Some(true) => {}
                None => self.lose(key, value.raw()),
            }
        }
    }

    /// Adds alternatives: whatever one of them has may be there, what all of them want has to be.
    fn any(&mut self, document: &Document<'_>, key: &str, value: &Node<'_>, depth: usize) {
        let branches: Vec<RawObject<'_>> =
            value.as_array().unwrap_or_default().iter().filter_map(Node::as_object).collect();
        let objects: Vec<&RawObject<'_>> =
            branches.iter().filter(|branch| may_be_object(document, branch, depth)).collect();
        let mut either: Option<Self> = None;
        for branch in &objects {
            let mut one = Self::default();
            one.gather(document, branch, depth + 1);
            either = Some(match either {
                Some(others) => others.or(one),
                None => one,
            });
        }
        let Some(either) = either else { return self.lose(key, value.raw()) };
        if objects.len() > 1 || !either.lost.is_empty() {
            self.lose(key, value.raw());
        }
        either.properties.iter().for_each(|(name, schema)| self.property(name, schema, "allOf"));
        either.required.into_iter().for_each(|name| self.require(name));
        self.closed |= either.closed;
    }

    fn or(mut self, other: Self) -> Self {
        other.properties.iter().for_each(|(name, schema)| self.property(name, schema, "anyOf"));
        self.required.retain(|name| other.required.contains(name));
        self.closed &= other.closed;
        self.lost.extend(other.lost);
        self
    }

    fn property(&mut self, name: &str, schema: &str, combiner: &str) {
        match self.properties.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known == schema => {}
            Some((_, known)) => *known = format!("{{\"{combiner}\":[{known},{schema}]}}"),
            None => self.properties.push((name.to_owned(), schema.to_owned())),
        }
    }

    fn require(&mut self, name: String) {
        if !self.required.contains(&name) {
            self.required.push(name);
        }
    }

    fn lose(&mut self, key: &str, raw: &str) {
        let lost = (key.to_owned(), raw.to_owned());
        if !self.lost.contains(&lost) {
            self.lost.push(lost);
        }
    }

    /// Writes one object with what `schema` says beside what it combines.
    pub(super) fn write(&self, schema: &RawObject<'_>) -> String {
        const WRITTEN: [&str; 3] = ["type", "properties", "required"];
        let mut members = vec!["\"type\":\"object\"".to_owned()];
        let own = said(schema).filter(|(key, _)| {
            !(COMBINERS.contains(key)
                || WRITTEN.contains(key)
                || (self.closed && *key == "additionalProperties"))
        });
        members.extend(own.map(|(key, value)| format!("{}:{}", quote(key), value.raw())));
        let properties: Vec<String> = self
            .properties
            .iter()
            .map(|(name, schema)| format!("{}:{schema}", quote(name)))
            .collect();
        members.push(format!("\"properties\":{{{}}}", properties.join(",")));
        if !self.required.is_empty() {
            let names: Vec<String> = self.required.iter().map(|name| quote(name)).collect();
            members.push(format!("\"required\":[{}]", names.join(",")));
        }
        if self.closed {
            members.push("\"additionalProperties\":false".to_owned());
        }
        format!("{{{}}}", members.join(","))
    }
}

/// True unless a schema is of something else for sure.
fn may_be_object(document: &Document<'_>, schema: &RawObject<'_>, depth: usize) -> bool {
    if let Some(target) = reference(schema)
        .filter(|_| depth <= FARTHEST)
        .and_then(|reference| document.resolve(&reference))
        .and_then(|target| target.as_object())
    {
        return may_be_object(document, &target, depth + 1);
    }
    let plain = ["const", "enum"].iter().all(|key| member(schema, key).is_none());
    is_object(schema) || (types(schema).is_empty() && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expect: &str, lost: &[&str]) {
        let node = Node::whole(schema).expect("JSON");
        let object = node.as_object().expect("an object");
        let merged = Merged::of(&Document::new(&node), &object);
        assert_eq!(merged.write(&object), expect);
        assert_eq!(merged.lost.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), lost);
    }

    #[test]
    fn what_has_to_hold_together_is_one_object() {
        check(
            r##"{"title":"T","$defs":{"B":{"properties":{"b":{"type":"string"}},"required":["b"]}},"allOf":[{"$ref":"#/$defs/B"},{"type":"object","properties":{"a":{}},"required":["a"]}]}"##,
            r#"{"type":"object","title":"T","$defs":{"B":{"properties":{"b":{"type":"string"}},"required":["b"]}},"properties":{"b":{"type":"string"},"a":{}},"required":["b","a"]}"#,
            &[],
        );
        check(
            r##"{"$ref":"#/$defs/B","$defs":{"B":{"properties":{"b":{}},"additionalProperties":false}}}"##,
            r#"{"type":"object","$defs":{"B":{"properties":{"b":{}},"additionalProperties":false}},"properties":{"b":{}},"additionalProperties":false}"#,
            &[],
        );
        check(
            r#"{"properties":{"a":{"type":"string"}},"allOf":[{"properties":{"a":{"minLength":1}},"minProperties":1}]}"#,
            r#"{"type":"object","properties":{"a":{"allOf":[{"type":"string"},{"minLength":1}]}}}"#,
            &["minProperties"],
        );
    }

    #[test]
    fn alternatives_lose_what_tells_them_apart() {
        check(
            r#"{"description":"d","oneOf":[{"properties":{"k":{"const":"a"},"x":{}},"required":["k","x"],"additionalProperties":false},{"properties":{"k":{"const":"b"}},"required":["k"],"additionalProperties":false},{"type":"null"}]}"#,
            r#"{"type":"object","description":"d","properties":{"k":{"anyOf":[{"const":"a"},{"const":"b"}]},"x":{}},"required":["k"],"additionalProperties":false}"#,
            &["oneOf"],
        );
        check(
            r#"{"properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}"#,
            r#"{"type":"object","properties":{"a":{},"b":{}}}"#,
            &["anyOf"],
        );
        check(
            r#"{"anyOf":[{"properties":{"a":{}},"required":["a"]}]}"#,
            r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#,
            &[],
        );
        check(
            r#"{"anyOf":[{"type":"string"}]}"#,
            r#"{"type":"object","properties":{}}"#,
            &["anyOf"],
        );
        check(r##"{"$ref":"#"}"##, r#"{"type":"object","properties":{}}"#, &["$ref"]);
        check(r##"{"$ref":"#/$defs/none"}"##, r#"{"type":"object","properties":{}}"#, &["$ref"]);
    }
}
