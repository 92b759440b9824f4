//! Edits as ranges of the source and what stands there instead.

use std::ops::Range;

use super::object::RawObject;

/// A set of edits to one source text, applied all at once.
///
/// Each edit is given in places of the *original*, so the order in which they are
/// made does not matter, but for insertions at the same place, which keep it.
#[derive(Debug)]
pub struct Patch<'a> {
    source: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Patch<'a> {
    pub fn new(source: &'a str) -> Self {
        Self { source, edits: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Puts `text` where `range` was. Ranges must not overlap.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.edits.push((range, text.into()));
    }

    /// Puts `text` before the byte at `at`.
    pub fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    /// Takes out the members that `gone` names and writes `new` members at the end.
    ///
    /// Call it once per object: the comma before the first new member depends on
    /// what is left.
    pub fn members(&mut self, object: &RawObject<'_>, gone: &[&str], new: &[(&str, &str)]) {
        let cuts = object.cuts(|key| gone.contains(&key));
        let mut needs_comma = object.len() > cuts.len();
        for cut in cuts {
            self.replace(cut, "");
        }
        let mut tail = String::new();
        for (key, value) in new {
            if std::mem::replace(&mut needs_comma, true) {
                tail.push(',');
            }
            tail.push_str(&quote(key));
            tail.push(':');
            tail.push_str(value);
        }
        if !tail.is_empty() {
            self.insert(object.tail(), tail);
        }
    }

    /// Writes the edited text.
    pub fn apply(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.edits.iter().map(|(_, text)| text.len()).sum();
        let mut out = String::with_capacity(self.source.len() + grown);
        let mut from = 0;
        for (range, text) in &self.edits {
            debug_assert!(range.start >= from, "edits overlap at byte {}", range.start);
            out.push_str(&self.source[from..range.start]);
            out.push_str(text);
            from = range.end;
        }
        out.push_str(&self.source[from..]);
        out
    }
}

/// Writes `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serializes")
}

/// Writes `text` as a JSON string at the end of `out`; without a detour where it needs no escapes.
pub fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.push_str(&quote(text));
        return;
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, gone: &[&str], new: &[(&str, &str)], expect: &str) {
        let object = RawObject::parse(source.as_bytes()).unwrap();
        let mut patch = Patch::new(source);
        patch.members(&object, gone, new);
        assert_eq!(patch.apply(), expect);
    }

    #[test]
    fn members_go_with_exactly_one_comma() {
        let source = r#"{ "a": 1, "b":2 ,"c":3 }"#;
        check(source, &[], &[], source);
        check(source, &["a"], &[], r#"{ "b":2 ,"c":3 }"#);
        check(source, &["b"], &[], r#"{ "a": 1 ,"c":3 }"#);
        check(source, &["c"], &[], r#"{ "a": 1, "b":2 }"#);
        check(source, &["a", "b"], &[], r#"{ "c":3 }"#);
        check(source, &["b", "c"], &[], r#"{ "a": 1 }"#);
        check(source, &["a", "c"], &[], r#"{ "b":2 }"#);
        check(source, &["a", "b", "c"], &[], r"{  }");
        check(source, &["z"], &[], source);
    }

    #[test]
    fn members_are_written_at_the_end() {
        check("{}", &[], &[("a", "1")], r#"{"a":1}"#);
        check(r#"{"a":1}"#, &[], &[("b", "2"), ("c", "\"x\"")], r#"{"a":1,"b":2,"c":"x"}"#);
        check(r#"{"a":1}"#, &["a"], &[("b", "2"), ("c", "3")], r#"{"b":2,"c":3}"#);
        check(r#"{"a":1,"b":2}"#, &["b"], &[("c", "3")], r#"{"a":1,"c":3}"#);
    }

    #[test]
    fn edits_are_in_places_of_the_original() {
        let mut patch = Patch::new("0123456789");
        patch.replace(7..9, "B");
        patch.insert(3, "x");
        patch.insert(3, "y");
        patch.replace(3..4, "A");
        assert_eq!(patch.apply(), "012xyA456B9");
    }
}
