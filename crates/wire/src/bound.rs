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
        walk.value(Place { parent: "", depth: 0, blocks: true }).ok()?;
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

impl BoundWalk<'_> {
    /// Crosses a value that stands in a member of this name, or in a list in it.
    fn value(&mut self, at: Place<'_>) -> Result<Found, Malformed> {
        if at.depth > DEEPEST {
            return self.scanner.fail("nested deeper than anybody nests it");
        }
        match self.scanner.peek() {
            Some(b'{') => self.object(at),
            Some(b'[') => self.list(at),
            Some(b'"') => self.text(),
            byte => {
                self.scanner.value()?;
                Ok(if byte == Some(b'n') { Found::Nothing } else { Found::Other })
            }
        }
    }

    fn list(&mut self, at: Place<'_>) -> Result<Found, Malformed> {
        self.scanner.eat(b'[');
        let mut found = Found::Nothing;
        let mut more = self.scanner.peek() != Some(b']');
        while more {
            self.value(Place { depth: at.depth + 1, ..at })?;
            found = Found::Other;
            more = self.scanner.eat(b',');
        }
        self.end(b']', found)
    }

    fn object(&mut self, at: Place<'_>) -> Result<Found, Malformed> {
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
            let value = self.value(at.member(&key))?;
            own.member(&mut self.seen, &key, value, at);
            found = Found::Other;
            more = self.scanner.eat(b',');
        }
        if own.end(&mut self.seen, at) {
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
        if begins.starts_with("data:") && !begins.starts_with(PICTURE_URL) {
            self.seen.paper_bytes += length;
        }
        Ok(Found::Text { length, begins })
    }
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'k> {
    /// The member that it is in, or that a list is in which it is in.
    parent: &'k str,
    depth: u32,
    /// What a conversation is made of may stand here, pictures among it. What looks like one elsewhere, as in the input of a
    /// tool, is text to the model.
    blocks: bool,
}

impl<'k> Place<'k> {
    fn member(self, key: &'k str) -> Self {
        let leads = match key {
            "messages" | "content" | "output" | "source" | "image_url" => true,
            // Of Responses; deeper it is a tool's.
            "input" => self.depth == 0,
            _ => false,
        };
        Self { parent: key, depth: self.depth + 1, blocks: self.blocks && leads }
    }
}

/// How the address of a picture begins that is in the address.
const PICTURE_URL: &str = "data:image/";
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
    fn member(&mut self, seen: &mut BoundSoFar, key: &str, found: Found, at: Place<'_>) {
        let Place { parent, depth, blocks } = at;
        match (key, found) {
            (_, Found::Nothing) => {}
            ("cache_control", _) => seen.cached = true,
            ("tools" | "functions", _) if depth == 0 => seen.tools = true,
            ("mcp_servers" | "web_search_options", _) if depth == 0 => seen.server_tools = true,
            ("context_management", _) if depth == 0 => seen.compacts = true,
            ("file_id", Found::Text { .. }) => self.names = true,
            ("url" | "file_url" | "image_url", Found::Text { begins, length }) => {
                let is_shown = key == "image_url" || (key == "url" && parent == "image_url");
                if blocks && is_shown && begins.starts_with(PICTURE_URL) {
                    seen.pictures += 1;
                    seen.picture_bytes += length;
                }
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
    fn end(&self, seen: &mut BoundSoFar, at: Place<'_>) -> bool {
        if at.blocks && at.parent == "source" && self.media.starts_with("image/") {
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
        if self.names && !matches!(at.parent, "source" | "image_url") {
            seen.named += 1;
            return false;
        }
        self.names
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy;
    use serde_json::Value;

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
            check(&body, least, most);
        }
    }

    #[test]
    fn text_that_looks_like_a_picture_is_text() {
        let long = "A".repeat(60_000);
        let body =
            |content: &str| format!(r#"{{"messages":[{{"role":"user","content":[{content}]}}]}}"#);
        let tool = |input: &str| body(&format!(r#"{{"type":"tool_use","input":{input}}}"#));
        for (body, least, most) in [
            (body(&format!(r#"{{"type":"text","text":"data:image/{long}"}}"#)), 60_000, 60_200),
            (format!(r#"{{"messages":[{{"content":"data:image/{long}"}}]}}"#), 60_000, 60_200),
            (tool(&format!(r#"{{"media_type":"image/png","data":"{long}"}}"#)), 60_000, 200_000),
            (
                tool(&format!(r#"{{"source":{{"media_type":"image/png","data":"{long}"}}}}"#)),
                60_000,
                200_000,
            ),
            (
                tool(&format!(
                    r#"{{"media_type":"image/png","data":"data:image/{long}","x":"{long}"}}"#
                )),
                120_000,
                260_000,
            ),
            (tool(&format!(r#"{{"image_url":{{"url":"data:image/{long}"}}}}"#)), 60_000, 70_000),
            (
                tool(&format!(r#"{{"content":[{{"image_url":"data:image/{long}"}}]}}"#)),
                60_000,
                70_000,
            ),
            (
                format!(
                    r#"{{"tools":[{{"input_schema":{{"source":{{"media_type":"image/png","data":"{long}"}}}}}}]}}"#
                ),
                60_000,
                200_000,
            ),
            // Of Responses.
            (
                format!(
                    r#"{{"input":[{{"content":[{{"type":"input_image","image_url":"data:image/{long}"}}]}}]}}"#
                ),
                5_000,
                5_300,
            ),
            (
                format!(
                    r#"{{"input":[{{"output":[{{"type":"input_image","image_url":"data:image/{long}"}}]}}]}}"#
                ),
                5_000,
                5_300,
            ),
        ] {
            check(&body, least, most);
        }
    }

    #[track_caller]
    fn check(body: &str, least: u64, most: u64) {
        let bound = PromptBound::of(body.as_bytes()).input;
        assert!((least..=most).contains(&bound), "{}: {bound}", &body[..body.len().min(200)]);
    }

    /// Bytes of pictures that stand where pictures may, by another way: `path` is the members that lead there.
    fn pictures(value: &Value, path: &mut Vec<String>) -> u64 {
        let shows = |path: &[String]| {
            let known = ["messages", "content", "output", "source", "image_url"];
            path.iter()
                .enumerate()
                .all(|(index, key)| known.contains(&key.as_str()) || (index == 0 && key == "input"))
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        match value {
            Value::Array(items) => items.iter().map(|item| pictures(item, path)).sum(),
            Value::Object(members) => {
                let mut all = 0;
                let of = |name: &str| members.get(name).map(text).unwrap_or_default();
                let within = path.last().map(String::as_str).unwrap_or_default().to_owned();
                if shows(path) && within == "source" && of("media_type").starts_with("image/") {
                    all += of("data").len() as u64;
                }
                for (key, value) in members {
                    let is_url = key == "image_url" || (key == "url" && within == "image_url");
                    if shows(path) && is_url && text(value).starts_with("data:image/") {
                        all += text(value).len() as u64;
                    }
                    path.push(key.clone());
                    all += pictures(value, path);
                    path.pop();
                }
                all
            }
            _ => 0,
        }
    }

    fn body() -> impl Strategy<Value = Value> {
        let words = [
            "data:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "data:text/plain,hi",
            "image/png",
            "image",
            "hello",
            "1h",
        ];
        let text = proptest::sample::select(words.to_vec()).prop_map(Value::from);
        let leaf = proptest::prop_oneof![
            text,
            proptest::bool::ANY.prop_map(Value::from),
            proptest::strategy::Just(Value::Null)
        ];
        let keys = [
            "messages",
            "input",
            "content",
            "output",
            "source",
            "image_url",
            "url",
            "data",
            "media_type",
            "type",
            "arguments",
            "tools",
            "text",
            "file_id",
        ];
        leaf.prop_recursive(6, 48, 5, move |inner| {
            let members = proptest::collection::vec(
                (proptest::sample::select(keys.to_vec()), inner.clone()),
                0..5,
            );
            proptest::prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_a_picture_in_its_place_is_less_than_its_bytes(body in body()) {
            let text = body.to_string();
            let pictures = pictures(&body, &mut Vec::new());
            let bound = PromptBound::of(text.as_bytes());
            proptest::prop_assert!(bound.input + pictures >= text.len() as u64, "{text}: {bound:?}, {pictures}");
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
