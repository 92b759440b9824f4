//! A JSON object as its source text and where each member lies in it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::scan::{Malformed, Scanner};

/// An object whose members are known by place, not by content.
///
/// Values are checked for form but not decoded, and strings not looked into. The same member twice is refused:
/// two readers of such a text may see two different requests.
#[derive(Debug)]
pub struct RawObject<'a> {
    source: &'a str,
    members: Vec<Member<'a>>,
    /// Where the closing brace stands.
    close: usize,
}

#[derive(Debug)]
struct Member<'a> {
    key: Cow<'a, str>,
    key_start: usize,
    value: Range<usize>,
}

impl<'a> RawObject<'a> {
    /// Reads a whole document that must be one object.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for text that is not UTF-8, not JSON, not an object, nested
    /// deeper than [`super::MAX_DEPTH`], or that names a member twice.
    pub fn parse(source: &'a [u8]) -> Result<Self, Malformed> {
        let source = simdutf8::compat::from_utf8(source)
            .map_err(|error| Malformed { what: "not UTF-8", at: error.valid_up_to() })?;
        let mut scanner = Scanner::new(source, 0);
        match scanner.peek() {
            Some(b'{') => {}
            Some(_) => return scanner.fail("expected a JSON object"),
            None => return scanner.fail("the body is empty; expected a JSON object"),
        }
        let object = Self::scan(source, &mut scanner)?;
        match scanner.peek() {
            None => Ok(object),
            Some(_) => scanner.fail("more text after the JSON object"),
        }
    }

    fn scan(source: &'a str, scanner: &mut Scanner<'a>) -> Result<Self, Malformed> {
        let mut object = Self { source, members: Vec::new(), close: 0 };
        let mut seen = SeenKeys::default();
        scanner.eat(b'{');
        let mut more = scanner.peek() != Some(b'}');
        while more {
            object.member(scanner, &mut seen)?;
            more = scanner.eat(b',');
        }
        object.close = scanner.position();
        if scanner.eat(b'}') {
            object.close = scanner.position() - 1;
            return Ok(object);
        }
        scanner.fail("expected `,` or `}`")
    }

    fn member(&mut self, scanner: &mut Scanner<'a>, seen: &mut SeenKeys) -> Result<(), Malformed> {
        scanner.peek();
        let key_start = scanner.position();
        let key = scanner.key()?;
        let quoted = &self.source[key_start..key_start + key.len() + 2];
        let what = "a member name that cannot be decoded";
        let key = decoded(quoted).ok_or(Malformed { what, at: key_start })?;
        if seen.twice(&self.members, &key) {
            return Err(Malformed { what: "the same member twice", at: key_start });
        }
        scanner.peek();
        let start = scanner.position();
        scanner.value()?;
        self.members.push(Member { key, key_start, value: start..scanner.position() });
        Ok(())
    }

    /// Returns the value of a member.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let member = self.members.iter().find(|member| member.key == key)?;
        Some(Node { source: self.source, at: member.value.clone() })
    }

    /// Returns the members in the order they were written.
    pub fn members(&self) -> impl Iterator<Item = (&str, Node<'a>)> {
        self.members
            .iter()
            .map(|member| (&*member.key, Node { source: self.source, at: member.value.clone() }))
    }

    /// Names the members in the order they were written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.key)
    }

    /// Returns the whole source this object was read from.
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// Where a new member can be written, and whether it needs a comma before it.
    pub(super) fn tail(&self) -> usize {
        self.close
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns the ranges to cut so that exactly the members that `gone` picks disappear,
    /// each with one comma.
    pub(super) fn cuts(&self, gone: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
        let mut kept_before = false;
        let mut cuts = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            if !gone(&member.key) {
                kept_before = true;
            } else if kept_before {
                cuts.push(self.members[index - 1].value.end..member.value.end);
            } else {
                let next =
                    self.members.get(index + 1).map_or(member.value.end, |next| next.key_start);
                cuts.push(member.key_start..next);
            }
        }
        cuts
    }
}

/// The names that came already. Few are compared one by one, many are looked up: a body of
/// a million members must not cost a million million comparisons.
#[derive(Default)]
struct SeenKeys(HashSet<String>);

impl SeenKeys {
    const FEW: usize = 32;

    fn twice(&mut self, members: &[Member<'_>], key: &str) -> bool {
        if members.len() < Self::FEW {
            return members.iter().any(|member| member.key == key);
        }
        if self.0.is_empty() {
            self.0.extend(members.iter().map(|member| member.key.to_string()));
        }
        !self.0.insert(key.to_owned())
    }
}

/// The text that a string says; `None` for what is no string, or has a lone surrogate.
pub(crate) fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// A value inside a text that was already found well formed.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    source: &'a str,
    at: Range<usize>,
}

impl<'a> Node<'a> {
    /// Takes a text that is one value, if it is well formed.
    pub fn whole(text: &'a str) -> Option<Self> {
        let text = text.trim();
        super::check(text).ok()?;
        Some(Self { source: text, at: 0..text.len() })
    }

    /// Returns the value's source text.
    pub fn raw(&self) -> &'a str {
        &self.source[self.at.clone()]
    }

    /// Returns where the value lies in the whole source.
    pub fn range(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Returns the decoded text, if this is a string without a lone surrogate.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        decoded(self.raw())
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.raw() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        serde_json::from_str(self.raw()).ok()
    }

    pub fn as_u64(&self) -> Option<u64> {
        serde_json::from_str(self.raw()).ok()
    }

    pub fn is_null(&self) -> bool {
        self.raw() == "null"
    }

    pub fn is_string(&self) -> bool {
        self.raw().starts_with('"')
    }

    /// Returns the object, unless this is something else or an object that names a member twice.
    pub fn as_object(&self) -> Option<RawObject<'a>> {
        let mut scanner = Scanner::new(self.source, self.at.start);
        if scanner.peek() != Some(b'{') {
            return None;
        }
        RawObject::scan(self.source, &mut scanner).ok()
    }

    /// Returns the elements, if this is an array.
    pub fn as_array(&self) -> Option<Vec<Node<'a>>> {
        let mut scanner = Scanner::new(self.source, self.at.start);
        if !scanner.eat(b'[') {
            return None;
        }
        let mut items = Vec::new();
        let mut more = scanner.peek() != Some(b']');
        while more {
            scanner.peek();
            let start = scanner.position();
            scanner.value().ok()?;
            items.push(Node { source: self.source, at: start..scanner.position() });
            more = scanner.eat(b',');
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(source: &str, what: &str) {
        let error = RawObject::parse(source.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(what), "{source}: {error}");
    }

    #[test]
    fn members_are_found_as_they_were_written() {
        let source = r#" { "a" : 1.0 , "b\u0063":[{"x":"}"},{}], "d":"\"]" ,"e":null,"f":-1e+9} "#;
        let object = RawObject::parse(source.as_bytes()).unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["a", "bc", "d", "e", "f"]);
        assert_eq!(object.get("a").unwrap().raw(), "1.0");
        assert_eq!(object.get("bc").unwrap().as_array().unwrap()[0].raw(), r#"{"x":"}"}"#);
        assert_eq!(object.get("d").unwrap().as_str().unwrap(), "\"]");
        assert!(object.get("e").unwrap().is_null());
        assert!(object.get("z").is_none());
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_a_place() {
        refused("", "empty");
        refused("[]", "expected a JSON object at byte 0");
        refused("\"x\"", "expected a JSON object");
        refused("{", "expected a member name");
        refused(r#"{"a"}"#, "expected `:`");
        refused(r#"{"a":}"#, "expected a value at byte 5");
        refused(r#"{"a":1,}"#, "expected a member name");
        refused(r#"{"a":[1,]}"#, "expected a value");
        refused(r#"{"a":[1}}"#, "expected `,` or `]`");
        refused(r#"{"a":{"b":1]}"#, "expected `,` or `}`");
        refused(r#"{"a":01}"#, "expected `,` or `}`");
        refused(r#"{"a":1.}"#, "expected a digit");
        refused(r#"{"a":tru}"#, "expected a value");
        refused(r#"{"a":"b"#, "ends inside a string");
        refused(r#"{"a":"b\"}"#, "ends inside a string");
        refused(r#"{"\x":1}"#, "a member name that cannot be decoded");
        refused(r#"{"a":1} x"#, "more text");
        refused(r#"{"a":1,"\u0061":2}"#, "the same member twice");
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        refused(&deep, "nested too deeply");
        let fine = format!("{{\"a\":{}{}}}", "[".repeat(400), "]".repeat(400));
        assert!(RawObject::parse(fine.as_bytes()).is_ok());
    }

    #[test]
    fn a_great_many_members_are_read_at_once() {
        let members: Vec<String> = (0..200_000).map(|index| format!("\"{index}\":0")).collect();
        let good = format!("{{{}}}", members.join(","));
        assert_eq!(RawObject::parse(good.as_bytes()).unwrap().len(), 200_000);
        refused(&format!("{{{},\"77\":1}}", members.join(",")), "the same member twice");
    }

    #[test]
    fn invalid_utf8_is_refused() {
        let error = RawObject::parse(b"{\"a\":\"\xff\"}").unwrap_err();
        assert_eq!(error, Malformed { what: "not UTF-8", at: 6 });
    }
}
