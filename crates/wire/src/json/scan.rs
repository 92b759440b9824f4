//! One pass over JSON text: is it well formed, and where does each value end.
//!
//! The scanner keeps its own stack, so nesting costs memory that we bound and
//! never call stack. Strings are crossed by looking for their end alone, which is
//! what makes a 200 KB request cheap to look at.

/// How deep arrays and objects may nest before a document is refused.
pub const MAX_DEPTH: usize = 512;

/// Why a text is not the JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    pub what: &'static str,
    /// Offset from the start of the text, in bytes.
    pub at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenContainer {
    Object,
    Array,
}

/// A cursor over a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    open: Vec<OpenContainer>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, at: usize) -> Self {
        Self { text, bytes: text.as_bytes(), at, open: Vec::new() }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at })
    }

    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Crosses one value of any kind; the cursor ends right behind it.
    pub(crate) fn value(&mut self) -> Result<(), Malformed> {
        let floor = self.open.len();
        loop {
            self.open_or_scalar()?;
            if self.close_down_to(floor)? {
                return Ok(());
            }
        }
    }

    /// Crosses opening brackets and the scalar, or the empty container, behind them.
    fn open_or_scalar(&mut self) -> Result<(), Malformed> {
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.push(OpenContainer::Object)?;
                    if self.peek() == Some(b'}') {
                        return Ok(());
                    }
                    self.key()?;
                }
                Some(b'[') => {
                    self.push(OpenContainer::Array)?;
                    if self.peek() == Some(b']') {
                        return Ok(());
                    }
                }
                Some(b'"') => return self.string(),
                Some(b'-' | b'0'..=b'9') => return self.number(),
                Some(b't') => return self.literal(b"true"),
                Some(b'f') => return self.literal(b"false"),
                Some(b'n') => return self.literal(b"null"),
                Some(_) => return self.fail("expected a value"),
                None => return self.fail("the text ends where a value should begin"),
            }
        }
    }

    /// Closes what ends here. True when the value that began at `floor` is whole.
    fn close_down_to(&mut self, floor: usize) -> Result<bool, Malformed> {
        loop {
            if self.open.len() == floor {
                return Ok(true);
            }
            let inside = self.open.last().copied();
            match (inside, self.peek()) {
                (Some(OpenContainer::Object), Some(b'}'))
                | (Some(OpenContainer::Array), Some(b']')) => {
                    self.at += 1;
                    self.open.pop();
                }
                (Some(OpenContainer::Object), Some(b',')) => {
                    self.at += 1;
                    self.key()?;
                    return Ok(false);
                }
                (Some(OpenContainer::Array), Some(b',')) => {
                    self.at += 1;
                    return Ok(false);
                }
                (_, None) => return self.fail("the text ends inside an object or array"),
                (Some(OpenContainer::Object), _) => return self.fail("expected `,` or `}`"),
                (_, _) => return self.fail("expected `,` or `]`"),
            }
        }
    }

    fn push(&mut self, open: OpenContainer) -> Result<(), Malformed> {
        if self.open.len() >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.at += 1;
        self.open.push(open);
        Ok(())
    }

    /// Crosses a key and its colon, and returns what stands between its quotes.
    pub(crate) fn key(&mut self) -> Result<&'a str, Malformed> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a member name in double quotes");
        }
        let name = self.inner()?;
        if self.eat(b':') { Ok(name) } else { self.fail("expected `:`") }
    }

    /// Crosses a string. What is in it is not looked at: escapes and control characters
    /// are for who decodes it to judge.
    pub(crate) fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        let text = self.bytes.get(self.at..).unwrap_or_default();
        let mut from = 0;
        while let Some(found) = memchr::memchr(b'"', &text[from..]) {
            let quote = from + found;
            from = quote + 1;
            if !is_escaped(text, quote) {
                self.at += from;
                return Ok(());
            }
        }
        self.fail("the text ends inside a string")
    }

    /// Crosses a string, and returns what stands between its quotes.
    pub(crate) fn inner(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at + 1;
        self.string()?;
        Ok(&self.text[start..self.at - 1])
    }

    /// Crosses a member, and returns its name and its value as they are written.
    pub(crate) fn member(&mut self) -> Result<(&'a str, &'a str), Malformed> {
        let name = self.key()?;
        self.peek();
        let start = self.at;
        self.value()?;
        Ok((name, &self.text[start..self.at]))
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.skip_if(b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.skip_if(b'.') {
            self.digits()?;
        }
        if self.skip_if(b'e') || self.skip_if(b'E') {
            let _sign = self.skip_if(b'+') || self.skip_if(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn skip_if(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { self.fail("expected a digit") } else { Ok(()) }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }
}

/// Checks that a text is one JSON value that nests no deeper than [`MAX_DEPTH`].
///
/// # Errors
///
/// What is wrong, and where.
pub fn check(text: &str) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(text, 0);
    scanner.value()?;
    if scanner.peek().is_some() {
        return scanner.fail("more text after the value");
    }
    // The scanner does not look into strings.
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(drop)
        .map_err(|error| Malformed { what: "not valid JSON", at: error.column().saturating_sub(1) })
}

/// True if an odd number of backslashes stands before `at`.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    backslashes % 2 == 1
}

#[cfg(test)]
mod tests {
    use crate::json::RawObject;

    proptest::proptest! {
        #[test]
        fn what_serde_writes_is_read_back(texts in proptest::collection::vec("(\\PC|\"|\\\\){0,12}", 0..6)) {
            let members: std::collections::BTreeMap<String, &String> = texts.iter().enumerate().map(|(index, text)| (format!("{index}{text}"), text)).collect();
            let document = serde_json::to_string(&members).unwrap();
            let object = RawObject::parse(document.as_bytes()).unwrap();
            for (key, text) in &members {
                proptest::prop_assert_eq!(object.get(key).unwrap().as_str().unwrap(), text.as_str());
            }
        }
    }
}
