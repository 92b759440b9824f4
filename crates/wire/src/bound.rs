//! The most that a request can come to, before it is sent.
//!
//! A token is a byte at the least, so that the prompt of a request has no more tokens than its JSON has bytes: but for what is not in it (files and pages
//! that it names, what the API's own tools find) and for pictures, whose bytes are no text.

use std::borrow::Cow;

use crate::json::{Malformed, Scanner};

/// What bounds the cost of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptBound {
    /// Tokens that it reads, all its turns together.
    pub input: u64,
    /// Tokens of its longest prompt.
    pub longest: u64,
    /// Tokens that it lets be written.
    pub output: u64,
    /// Web searches.
    pub searches: u64,
    /// It may write to the prompt cache, and for an hour.
    pub cached: bool,
    pub for_an_hour: bool,
    /// It may be served fast, and in the United States alone.
    pub fast: bool,
    pub in_us: bool,
}

/// Tokens of a picture, however large.
const PICTURE: u64 = 5_000;
/// Of a file or page that is only named.
const NAMED: u64 = 100_000;
/// What the API adds of its own to tools.
const TOOLS: u64 = 1_000;
/// What one search, or one page that is fetched, adds.
const FOUND: u64 = 10_000;
/// How often the API's own tools are reckoned to be used in one request.
const SEARCHES: u64 = 5;
/// The most that a prompt can have.
const WINDOW: u64 = 1_000_000;

impl PromptBound {
    /// Bounds a request in any dialect; `output` is for the caller to set.
    pub fn of(body: &[u8]) -> Self {
        let Some(seen) = BoundSoFar::of(body) else {
            // Deeper than anybody nests it, or no JSON.
            return Self {
                input: WINDOW * (SEARCHES + 1),
                longest: WINDOW,
                searches: SEARCHES,
                cached: true,
                for_an_hour: true,
                fast: true,
                in_us: true,
                output: 0,
            };
        };
        let text = (body.len() as u64).saturating_sub(seen.picture_bytes);
        let once = text
            .saturating_add(2 * seen.paper_bytes)
            .saturating_add(seen.named * NAMED + seen.pictures * PICTURE)
            .saturating_add(if seen.tools { TOOLS } else { 0 })
            .min(WINDOW);
        let searches = if seen.server_tools { SEARCHES } else { 0 };
        // Each turn of such a tool reads all that came before; so does a summary of the conversation.
        let turns = searches + 1 + u64::from(seen.compacts);
        let found = FOUND * searches * (searches + 1) / 2;
        Self {
            input: (once * turns + found).min(WINDOW * turns),
            longest: (once + FOUND * searches).min(WINDOW),
            output: 0,
            searches,
            cached: seen.cached,
            for_an_hour: seen.for_an_hour,
            fast: seen.fast,
            in_us: seen.in_us,
        }
    }
}

#[derive(Debug, Default)]
struct BoundSoFar {
    pictures: u64,
    /// Of pictures, which are no text.
    picture_bytes: u64,
    /// Of PDFs, which are packed.
    paper_bytes: u64,
    named: u64,
    tools: bool,
    server_tools: bool,
    compacts: bool,
    cached: bool,
    for_an_hour: bool,
    fast: bool,
    in_us: bool,
}

impl BoundSoFar {
    /// `None` for what cannot be read.
    fn of(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut walk = BoundWalk { scanner: Scanner::new(text, 0), seen: Self::default() };
        walk.value("", 0).ok()?;
        Some(walk.seen)
    }
}

/// What a value was, as far as its object has to know.
enum Found {
    /// A string, with how it begins.
    Text {
        length: u64,
        begins: Leading,
    },
    /// An object that names a file or page.
    Naming,
    Nothing,
    Other,
}

/// Bytes of a string that tell what it is.
const TELLING: usize = 32;

/// How a string begins.
#[derive(Clone, Copy, Default)]
struct Leading {
    bytes: [u8; TELLING],
    length: usize,
}

impl Leading {
    fn of(text: &str) -> Self {
        let (mut bytes, length) = ([0; TELLING], text.len().min(TELLING));
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { bytes, length }
    }

    fn is(&self, whole: &str) -> bool {
        &self.bytes[..self.length] == whole.as_bytes()
    }

    fn starts_with(&self, text: &str) -> bool {
        self.bytes[..self.length].starts_with(text.as_bytes())
    }
}

/// A text on its way through.
struct BoundWalk<'a> {
    scanner: Scanner<'a>,
    seen: BoundSoFar,
}

impl<'a> BoundWalk<'a> {
    /// Crosses a value that stands in a member of this name, or in a list in it.
    fn value(&mut self, parent: &str, depth: u32) -> Result<Found, Malformed> {
        if depth > DEEPEST {
            return self.scanner.fail("nested deeper than anybody nests it");
        }
        match self.scanner.peek() {
            Some(b'{') => self.object(parent, depth),
            Some(b'[') => self.list(parent, depth),
            Some(b'"') => self.text(),
            byte => {
                self.scanner.value()?;
                Ok(if byte == Some(b'n') { Found::Nothing } else { Found::Other })
            }
        }
    }

    fn list(&mut self, parent: &str, depth: u32) -> Result<Found, Malformed> {
        self.scanner.eat(b'[');
        let mut found = Found::Nothing;
        let mut more = self.scanner.peek() != Some(b']');
        while more {
            self.value(parent, depth + 1)?;
            found = Found::Other;
            more = self.scanner.eat(b',');
        }
        self.end(b']', found)
    }

    fn object(&mut self, parent: &str, depth: u32) -> Result<Found, Malformed> {
        self.scanner.eat(b'{');
        let (mut own, mut found) = (Own::default(), Found::Nothing);
        let mut more = self.scanner.peek() != Some(b'}');
        while more {
            if self.scanner.peek() != Some(b'"') {
                return self.scanner.fail("expected a member name in double quotes");
            }
            let key = self.scanner.inner()?;
            let key = decoded(key, key.len()).ok_or(UNREADABLE)?;
            if !self.scanner.eat(b':') {
                return self.scanner.fail("expected `:`");
            }
            let value = self.value(&key, depth + 1)?;
            own.member(&mut self.seen, &key, value, depth);
            found = Found::Other;
            more = self.scanner.eat(b',');
        }
        if own.end(&mut self.seen, parent) {
            found = Found::Naming;
        }
        self.end(b'}', found)
    }

    fn end(&mut self, bracket: u8, found: Found) -> Result<Found, Malformed> {
        if self.scanner.eat(bracket) {
            return Ok(found);
        }
        self.scanner.fail("a list or an object does not end")
    }

    fn text(&mut self) -> Result<Found, Malformed> {
        let inner = self.scanner.inner()?;
        // Escapes count with what they say: they are bytes of the same body.
        let length = inner.len() as u64;
        let begins = Leading::of(&decoded(inner, TELLING * ESCAPED).ok_or(UNREADABLE)?);
        if begins.starts_with("data:image/") {
            self.seen.pictures += 1;
            self.seen.picture_bytes += length;
        } else if begins.starts_with("data:") {
            self.seen.paper_bytes += length;
        }
        Ok(Found::Text { length, begins })
    }
}

/// So deep anybody nests it.
const DEEPEST: u32 = 128;
/// The most bytes that one byte takes that is escaped.
const ESCAPED: usize = 6;
const UNREADABLE: Malformed = Malformed { what: "a text that cannot be decoded", at: 0 };

/// What a string says that begins so, without its escapes, of which only those within so many bytes matter.
fn decoded(inner: &str, matters: usize) -> Option<Cow<'_, str>> {
    let front = &inner.as_bytes()[..inner.len().min(matters)];
    if memchr::memchr(b'\\', front).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(&format!("\"{inner}\"")).ok().map(Cow::Owned)
}

/// What one object says of itself.
#[derive(Default)]
struct Own {
    is_picture: bool,
    media: Leading,
    data: u64,
    names: bool,
}

impl Own {
    fn member(&mut self, seen: &mut BoundSoFar, key: &str, found: Found, depth: u32) {
        match (key, found) {
            (_, Found::Nothing) => {}
            ("cache_control", _) => seen.cached = true,
            ("tools" | "functions", _) if depth == 0 => seen.tools = true,
            ("mcp_servers" | "web_search_options", _) if depth == 0 => seen.server_tools = true,
            ("context_management", _) if depth == 0 => seen.compacts = true,
            ("file_id", Found::Text { .. }) => self.names = true,
            ("url" | "file_url" | "image_url", Found::Text { begins, .. }) => {
                self.names |= !begins.starts_with("data:");
                self.is_picture |= key == "image_url";
            }
            ("ttl", Found::Text { begins, .. }) => seen.for_an_hour |= begins.is("1h"),
            ("speed", Found::Text { begins, .. }) => seen.fast |= begins.is("fast"),
            ("inference_geo", Found::Text { begins, .. }) => seen.in_us |= begins.is("us"),
            ("media_type", Found::Text { begins, .. }) => self.media = begins,
            ("data", Found::Text { length, .. }) => self.data += length,
            ("type", Found::Text { begins, .. }) => {
                let of_the_api = ["web_search", "web_fetch", "code_execution"];
                seen.server_tools |= of_the_api.iter().any(|tool| begins.starts_with(tool));
                let pictures = ["image", "image_url", "input_image"];
                self.is_picture |= pictures.iter().any(|kind| begins.is(kind));
            }
            ("source" | "image_url", Found::Naming) => self.names = true,
            (_, Found::Naming) => seen.named += 1,
            _ => {}
        }
    }

    /// Whether it names something that it does not hold.
    fn end(&self, seen: &mut BoundSoFar, parent: &str) -> bool {
        if self.media.starts_with("image/") {
            seen.pictures += 1;
            seen.picture_bytes += self.data;
        } else if self.data > 0 {
            seen.paper_bytes += self.data;
        }
        if self.names && self.is_picture {
            seen.pictures += 1;
            return false;
        }
        // Who holds it knows better what it is.
        if self.names && !matches!(parent, "source" | "image_url") {
            seen.named += 1;
            return false;
        }
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_bounded_from_above() {
        let long = "A".repeat(60_000);
        let body =
            |content: &str| format!(r#"{{"messages":[{{"role":"user","content":[{content}]}}]}}"#);
        let picture = format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{long}"}}}}"#
        );
        let chat = format!(
            r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{long}"}}}}"#
        );
        let paper = format!(
            r#"{{"type":"document","source":{{"type":"base64","media_type":"application/pdf","data":"{long}"}}}}"#
        );
        let text = format!(r#"{{"type":"text","text":"{long}"}}"#);
        for (body, least, most) in [
            (body(r#"{"type":"text","text":"hello"}"#), 50, 100),
            (
                body(
                    "ä".repeat(100)
                        .replace('ä', r#"{"type":"text","text":"ä"},"#)
                        .trim_end_matches(','),
                ),
                2_000,
                3_500,
            ),
            // A blob that is text is text.
            (body(&text), 60_000, 60_200),
            (body(&picture), 5_000, 5_300),
            (body(&chat), 5_000, 5_300),
            (body(&paper), 180_000, 180_400),
            (body(r#"{"type":"image","source":{"type":"url","url":"https://a/b"}}"#), 5_000, 5_300),
            (body(r#"{"type":"image_url","image_url":{"url":"https://a/b"}}"#), 5_000, 5_300),
            (
                body(r#"{"type":"document","source":{"type":"url","url":"https://a/b"}}"#),
                100_000,
                100_300,
            ),
            (
                body(r#"{"type":"document","source":{"type":"file","\u0066ile_id":"f"}}"#),
                100_000,
                100_300,
            ),
            (body(r#"{"type":"input_file","file_url":"https://a/b"}"#), 100_000, 100_300),
            (r#"{"tools":[{"name":"f"}]}"#.to_owned(), 1_020, 1_030),
            (r#"{"tools":[]}"#.to_owned(), 12, 12),
            (r#"{"tools":[{"type":"web\u005fsearch_20250305"}]}"#.to_owned(), 150_000, 160_000),
            ("{\"a\":".repeat(300) + "1" + &"}".repeat(300), 1_000_000, 6_000_000),
        ] {
            let bound = PromptBound::of(body.as_bytes());
            assert!(
                (least..=most).contains(&bound.input),
                "{}: {}",
                &body[..body.len().min(200)],
                bound.input
            );
        }
    }

    #[test]
    fn what_makes_it_dearer_is_seen_however_it_is_written() {
        for (body, expect) in [
            (r#"{"speed":"fast","inference_geo":"us"}"#, [false, false, true, true]),
            (r#"{"\u0073peed":"\u0066ast"}"#, [false, false, true, false]),
            (r#"{"speed":"standard","inference_geo":"global"}"#, [false; 4]),
            (r#"{"system":[{"cache_control":{"type":"ephemeral"}}]}"#, [true, false, false, false]),
            (r#"{"cache\u005fcontrol":{"ttl":"\u0031h"}}"#, [true, true, false, false]),
            (r#"{"cache_control":null}"#, [false; 4]),
            (r#"{"text":"cache_control 1h speed fast"}"#, [false; 4]),
        ] {
            let PromptBound { cached, for_an_hour, fast, in_us, .. } =
                PromptBound::of(body.as_bytes());
            assert_eq!([cached, for_an_hour, fast, in_us], expect, "{body}");
        }
    }
}
