//! JSON strings kept as they were written: looked at, never decoded and written anew.

use std::borrow::Cow;

use super::object::Node;

/// The source text of a JSON string, quotes included, known to be well formed.
///
/// A half of a surrogate pair whose other half never came stands as U+FFFD: no reader of
/// UTF-8 could have said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// Takes a value that is a string; `None` if it is something else, or holds a control
    /// character or a broken escape.
    pub fn of(node: &Node<'a>) -> Option<Self> {
        Self::of_raw(node.raw())
    }

    /// Takes a value's source text.
    pub fn of_raw(raw: &'a str) -> Option<Self> {
        Self::of_cow(Cow::Borrowed(raw))
    }

    /// Takes a value's source text, borrowed or not.
    pub fn of_cow(raw: Cow<'a, str>) -> Option<Self> {
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        // Folded without a way out in between, so that it is one pass of wide instructions.
        if inner.bytes().fold(0, |found, byte| found | u8::from(byte < 0x20)) != 0 {
            return None;
        }
        match escapes(inner)? {
            Pairs::Whole => Some(Self(raw)),
            Pairs::Broken => Some(Self(Cow::Owned(without_lone_surrogates(&raw)))),
        }
    }

    /// Writes a text as a JSON string.
    pub fn quoted(text: &str) -> Self {
        Self(Cow::Owned(super::quote(text)))
    }

    /// Returns the source text, quotes included.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Returns what the string says.
    pub fn decoded(&self) -> Cow<'_, str> {
        let inner = self.inner();
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Cow::Borrowed(inner);
        }
        Cow::Owned(serde_json::from_str(&self.0).expect("a checked string decodes"))
    }

    /// Returns the source text without its quotes.
    pub fn inner(&self) -> &str {
        &self.0[1..self.0.len() - 1]
    }

    /// Counts the characters that the string says.
    pub fn count(&self) -> usize {
        self.decoded().chars().count()
    }

    /// True if nothing is said: empty, or white space alone.
    pub fn is_blank(&self) -> bool {
        match self.0.as_bytes()[1] {
            b'"' => true,
            b'!'..=b'[' | b']'..=b'~' => false,
            _ => self.decoded().trim().is_empty(),
        }
    }
}

enum Pairs {
    Whole,
    Broken,
}

/// Crosses every escape of a string; `None` where one is none.
fn escapes(inner: &str) -> Option<Pairs> {
    let bytes = inner.as_bytes();
    let (mut at, mut pairs) = (0, Pairs::Whole);
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        at += found;
        match bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
            b'u' => {
                let high = unit(bytes, at)?;
                let low = unit(bytes, at + 6).filter(|low| (0xdc00..=0xdfff).contains(low));
                match (high, low) {
                    (0xd800..=0xdbff, Some(_)) => at += 12,
                    (0xd800..=0xdfff, _) => {
                        pairs = Pairs::Broken;
                        at += 6;
                    }
                    _ => at += 6,
                }
            }
            _ => return None,
        }
    }
    Some(pairs)
}

/// The UTF-16 unit that a `\uXXXX` at `at` stands for.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// A JSON text as every reader takes it: a half of a surrogate pair without the other is replaced.
pub fn whole(source: &str) -> Cow<'_, str> {
    let surrogates = ["\\ud", "\\uD"]
        .iter()
        .any(|escape| memchr::memmem::find(source.as_bytes(), escape.as_bytes()).is_some());
    if surrogates { Cow::Owned(without_lone_surrogates(source)) } else { Cow::Borrowed(source) }
}

/// Puts U+FFFD in the place of every half of a pair whose other half never came.
pub fn without_lone_surrogates(quoted: &str) -> String {
    let bytes = quoted.as_bytes();
    let (mut out, mut at) = (String::with_capacity(quoted.len()), 0);
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        out.push_str(&quoted[at..at + found]);
        at += found;
        let low = unit(bytes, at + 6).filter(|low| (0xdc00..=0xdfff).contains(low));
        let step = match (unit(bytes, at), low) {
            (Some(0xd800..=0xdbff), Some(_)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            // The byte behind a backslash may begin a longer character, where the text is no JSON.
            (None, _) => 1 + quoted[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&quoted[at..at + step]);
        at += step;
    }
    out.push_str(&quoted[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::RawObject;

    #[track_caller]
    fn check(raw: &str, expect: Option<&str>) {
        let source = format!("{{\"a\":{raw}}}");
        let object = RawObject::parse(source.as_bytes()).unwrap();
        let text = Text::of(&object.get("a").unwrap());
        assert_eq!(text.as_ref().map(Text::raw), expect, "{raw}");
        if let Some(text) = text {
            assert_eq!(serde_json::from_str::<String>(text.raw()).unwrap(), text.decoded());
        }
    }

    #[test]
    fn a_string_keeps_its_spelling() {
        check(r#""""#, Some(r#""""#));
        check(r#""a\/\u00fc\ud83d\ude00ü""#, Some(r#""a\/\u00fc\ud83d\ude00ü""#));
        check("7", None);
        check("null", None);
    }

    #[test]
    fn what_is_no_string_of_json_is_refused() {
        check("\"a\nb\"", None);
        check(r#""\x""#, None);
        check(r#""\u12""#, None);
        check(r#""\u+123""#, None);
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        check(r#""\ud83d""#, Some(r#""\ufffd""#));
        check(r#""\\ud83d""#, Some(r#""\\ud83d""#));
        check(r#""\ude00\ud83d\ud83d\ude00x""#, Some(r#""\ufffd\ufffd\ud83d\ude00x""#));
        check(r#""\ud83d\u0041""#, Some(r#""\ufffd\u0041""#));
    }

    #[test]
    fn white_space_says_nothing() {
        let blank = |text: &str| Text::quoted(text).is_blank();
        assert!(blank("") && blank(" \n\t") && blank("\u{a0}\u{3000}"));
        assert!(!blank("a") && !blank(" \"") && !blank("\\") && !blank("ü"));
    }
}
