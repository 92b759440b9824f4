//! Text that comes in pieces, as JSON.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::Text;

/// Joins a surrogate pair that is split between two pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// The first half, waiting for the second.
    half: Option<String>,
}

impl Pieces {
    /// Takes the next piece.
    pub(crate) fn next<'r>(&mut self, raw: &'r RawValue) -> serde_json::Result<Text<'r>> {
        let raw = raw.get();
        if !raw.starts_with('"') {
            return Err(foreign("a text that is no string"));
        }
        let raw = self
            .half
            .take()
            .map_or(Cow::Borrowed(raw), |half| Cow::Owned(format!("\"{half}{}", &raw[1..])));
        let raw = match half_at(&raw) {
            Some(at) => {
                self.half = Some(raw[at..raw.len() - 1].to_owned());
                Cow::Owned(format!("{}\"", &raw[..at]))
            }
            None => raw,
        };
        Text::of_cow(raw).ok_or_else(|| foreign("a text that is no string"))
    }
}

/// What a stream may not say.
pub(crate) fn foreign(why: &str) -> serde_json::Error {
    serde::de::Error::custom(why)
}

/// The text of a delta, which has to be there.
pub(crate) fn required(raw: Option<&RawValue>) -> serde_json::Result<&RawValue> {
    raw.ok_or_else(|| foreign("a delta without its text"))
}

/// JSON may hold line breaks between its tokens, and half a character; an event's data may not.
pub(crate) fn one_line(json: &str) -> String {
    crate::json::whole(json).replace(['\n', '\r'], " ")
}

/// Where a JSON string ends with the first half of a surrogate pair.
fn half_at(raw: &str) -> Option<usize> {
    let at = raw.len().checked_sub(7)?;
    let escape = raw.as_bytes().get(at..raw.len() - 1)?;
    let high = escape.starts_with(b"\\u")
        && escape[2].eq_ignore_ascii_case(&b'd')
        && matches!(escape[3].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    let backslashes = raw.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    (high && backslashes % 2 == 0).then_some(at)
}

/// The text that a custom tool is called with. A model that writes something else is taken at its word.
pub(crate) fn custom_input(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Input {
        input: String,
    }
    match serde_json::from_str::<Input>(arguments) {
        Ok(given) => given.input,
        Err(_) if arguments == "{}" => String::new(),
        Err(_) => arguments.to_owned(),
    }
}
