//! A whole schema, inside which references point.

use std::collections::HashMap;

use super::{DEEPEST, each_below};
use crate::json::{Node, RawObject};
use crate::read::member;

/// A schema with what its references stand for.
#[derive(Debug)]
pub(super) struct Document<'a>(Node<'a>);

/// Where a search for circles stands at a reference's target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Open,
    Done,
}

impl<'a> Document<'a> {
    pub(super) fn new(root: &Node<'a>) -> Self {
        Self(root.clone())
    }

    /// Finds what a reference points at: a JSON pointer in a fragment, <https://www.rfc-editor.org/rfc/rfc6901>.
    pub(super) fn resolve(&self, reference: &str) -> Option<Node<'a>> {
        let pointer = reference.strip_prefix('#')?;
        let steps = if pointer.is_empty() { "" } else { pointer.strip_prefix('/')? };
        let mut at = self.0.clone();
        for step in steps.split('/').filter(|_| !pointer.is_empty()) {
            let step = percent_decoded(step)?.replace("~1", "/").replace("~0", "~");
            at = match at.as_object() {
                Some(object) => object.get(&step)?,
                None => at.as_array()?.get(step.parse::<usize>().ok()?)?.clone(),
            };
        }
        Some(at)
    }

    /// True if some reference leads back to where it stands.
    pub(super) fn has_circles(&self) -> bool {
        let mut seen = HashMap::from([("#".to_owned(), Seen::Open)]);
        self.leads_back(&self.0, &mut seen, 0)
            || self.definitions().into_iter().any(|pointer| self.follows(&pointer, &mut seen, 0))
    }

    fn definitions(&self) -> Vec<String> {
        let root = self.0.as_object();
        let named = |key: &'static str| {
            let names =
                root.as_ref().and_then(|root| member(root, key)).and_then(|node| node.as_object());
            names
                .map(|names| {
                    names
                        .keys()
                        .map(|name| {
                            format!("#/{key}/{}", name.replace('~', "~0").replace('/', "~1"))
                        })
                        .collect::<Vec<_>>()
                })
                .unwrap_or_default()
        };
        named("$defs").into_iter().chain(named("definitions")).collect()
    }

    fn leads_back(
        &self,
        schema: &Node<'a>,
        seen: &mut HashMap<String, Seen>,
        depth: usize,
    ) -> bool {
        let Some(object) = schema.as_object() else { return false };
        if depth > DEEPEST {
            // The rest of the schema is not needed.
            return true;
        }
        if let Some(reference) = reference(&object)
            && self.follows(&reference, seen, depth)
        {
            return true;
        }
        // What is only defined is looked at where it is used.
        each_below(&object, |key, below| {
            if matches!(key, "$defs" | "definitions") || !self.leads_back(below, seen, depth + 1) {
                Ok(())
            } else {
                Err(())
            }
        })
        .is_err()
    }

    fn follows(&self, reference: &str, seen: &mut HashMap<String, Seen>, depth: usize) -> bool {
        match seen.get(reference) {
            Some(Seen::Open) => return true,
            Some(Seen::Done) => return false,
            None => {}
        }
        let Some(target) = self.resolve(reference) else { return false };
        seen.insert(reference.to_owned(), Seen::Open);
        let back = self.leads_back(&target, seen, depth + 1);
        seen.insert(reference.to_owned(), Seen::Done);
        back
    }
}

/// What a schema refers to.
pub(super) fn reference(schema: &RawObject<'_>) -> Option<String> {
    Some(member(schema, "$ref")?.as_str()?.into_owned())
}

/// A fragment may escape what a URI cannot hold.
fn percent_decoded(step: &str) -> Option<String> {
    if !step.contains('%') {
        return Some(step.to_owned());
    }
    let mut out = Vec::with_capacity(step.len());
    let mut bytes = step.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_circles(schema: &str) -> bool {
        Document::new(&Node::whole(schema).expect("JSON")).has_circles()
    }

    #[test]
    fn circles_are_found_wherever_they_begin() {
        assert!(has_circles(r##"{"properties":{"next":{"$ref":"#"}}}"##));
        assert!(has_circles(
            r##"{"$defs":{"A":{"items":{"$ref":"#/$defs/A"}}},"properties":{"a":{"$ref":"#/$defs/A"}}}"##
        ));
        assert!(has_circles(
            r##"{"$defs":{"A":{"anyOf":[{"$ref":"#/$defs/B"}]},"B":{"properties":{"a":{"$ref":"#/$defs/A"}}}},"type":"string"}"##
        ));
        assert!(has_circles(
            r##"{"definitions":{"A":{"additionalProperties":{"$ref":"#/definitions/A"}}},"$ref":"#/definitions/A"}"##
        ));
        assert!(!has_circles(
            r##"{"$defs":{"A":{"type":"string"},"B":{"items":{"$ref":"#/$defs/A"}}},"properties":{"a":{"$ref":"#/$defs/A"},"b":{"$ref":"#/$defs/B"},"c":{"$ref":"#/$defs/B"}}}"##
        ));
        // A property may be called like a keyword.
        assert!(!has_circles(
            r##"{"properties":{"$ref":{"type":"string"},"x":{"const":{"$ref":"#"}}}}"##
        ));
    }

    #[test]
    fn pointers_are_followed() {
        let source = r#"{"$defs":{"a/b~c d":{"type":"string"},"l":[1,{"x":2}]}}"#;
        let document = Document::new(&Node::whole(source).expect("JSON"));
        let at = |reference: &str| document.resolve(reference).map(|node| node.raw());
        assert_eq!(at("#"), Some(source));
        assert_eq!(at("#/$defs/a~1b~0c%20d"), Some(r#"{"type":"string"}"#));
        assert_eq!(at("#/$defs/l/1/x"), Some("2"));
        assert_eq!(
            (at("#/$defs/none"), at("#named"), at("https://x/y"), at("#/$defs/%zz")),
            (None, None, None, None)
        );
    }
}
