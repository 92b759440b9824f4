//! Blocks of an answer that began and did not end, and the text that comes in pieces.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::Text;
use crate::messages::Block;

#[derive(Debug)]
pub(super) struct Open {
    pub index: u64,
    pub kind: OpenKind,
    /// The first half of a surrogate pair, waiting for the second.
    half: Option<String>,
}

#[derive(Debug)]
pub(super) enum OpenKind {
    Text {
        /// Where it begins in the whole text.
        start: usize,
        citations: Vec<String>,
    },
    Call {
        index: usize,
        /// What its arguments are if none are streamed.
        input: Option<String>,
    },
    Thought(Block),
    /// What the upstream runs itself, and what is newer than this gateway.
    Other,
}

impl Open {
    pub fn new(index: u64, kind: OpenKind) -> Self {
        Self { index, kind, half: None }
    }

    /// Takes a piece of text. A surrogate pair that is split between two pieces is joined.
    pub fn joined<'r>(&mut self, raw: &'r RawValue) -> serde_json::Result<Text<'r>> {
        let raw = raw.get();
        if !raw.starts_with('"') {
            return Err(foreign("a text that is no string"));
        }
        let raw = self.half.take().map_or(Cow::Borrowed(raw), |half| Cow::Owned(format!("\"{half}{}", &raw[1..])));
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

pub(super) fn foreign(why: &str) -> serde_json::Error {
    serde::de::Error::custom(why)
}

/// Where a JSON string ends with the first half of a surrogate pair.
fn half_at(raw: &str) -> Option<usize> {
    let at = raw.len().checked_sub(7)?;
    let escape = raw.as_bytes().get(at..raw.len() - 1)?;
    let high = escape.starts_with(b"\\u") && escape[2].eq_ignore_ascii_case(&b'd') && matches!(escape[3].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    let backslashes = raw.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    (high && backslashes % 2 == 0).then_some(at)
}
