//! A content block that is built from its deltas.

use serde_json::value::RawValue;

use super::partial;
use crate::event::Delta;
use crate::json::{Members, without_lone_surrogates};

/// One content block on its way to being whole.
///
/// Texts are kept as JSON wrote them, without their quotes: a surrogate pair may be split
/// between two deltas, and only together do its halves decode.
#[derive(Debug)]
pub(crate) struct Block {
    pub index: u64,
    members: Members,
    /// Members that grow by text; written back once, at the end.
    growing: Vec<(String, String)>,
    /// The tool arguments as the model writes them.
    input: String,
    citations: Vec<String>,
}

impl Block {
    pub(crate) fn new(index: u64, members: Members) -> Self {
        Self { index, members, growing: Vec::new(), input: String::new(), citations: Vec::new() }
    }

    /// Takes a delta; `source` is all of it.
    pub(crate) fn delta(&mut self, delta: &Delta<'_>, source: &RawValue) -> serde_json::Result<()> {
        match &*delta.kind {
            "text_delta" => self.grow("text", inner(delta.text.map(RawValue::get))),
            "thinking_delta" => self.grow("thinking", inner(delta.thinking.map(RawValue::get))),
            "input_json_delta" => self.input.push_str(inner(delta.partial_json.map(RawValue::get))),
            // It comes whole; a second one would be a correction.
            "signature_delta" => {
                self.members.set("signature", delta.signature.map_or("\"\"", RawValue::get));
            }
            "citations_delta" => {
                self.citations.extend(delta.citation.map(|raw| raw.get().to_owned()));
            }
            _ => self.unknown(&serde_json::from_str(source.get())?),
        }
        Ok(())
    }

    /// A delta newer than this gateway: texts are appended, anything else replaces.
    fn unknown(&mut self, delta: &Members) {
        for (key, raw) in delta.iter().filter(|(key, _)| *key != "type") {
            if raw.starts_with('"') {
                self.grow(key, inner(Some(raw)));
            } else if raw != "null" || self.members.get(key).is_none() {
                self.members.set(key, raw);
            }
        }
    }

    fn grow(&mut self, key: &str, more: &str) {
        if let Some((_, grown)) = self.growing.iter_mut().find(|(name, _)| name == key) {
            grown.push_str(more);
            return;
        }
        let grown = format!("{}{more}", inner(self.members.get(key)));
        self.growing.push((key.to_owned(), grown));
    }

    pub(crate) fn write(mut self) -> String {
        for (key, grown) in &self.growing {
            self.members.set(key, format!("\"{grown}\""));
        }
        if !self.input.is_empty() {
            self.members.set("input", arguments(&self.input));
        }
        if !self.citations.is_empty() {
            let before: Vec<&RawValue> = self
                .members
                .get("citations")
                .and_then(|raw| serde_json::from_str(raw).ok())
                .unwrap_or_default();
            let all: Vec<&str> = before
                .iter()
                .map(|raw| raw.get())
                .chain(self.citations.iter().map(String::as_str))
                .collect();
            self.members.set("citations", format!("[{}]", all.join(",")));
        }
        self.members.write()
    }
}

/// A JSON string without its quotes; anything else is no text.
fn inner(raw: Option<&str>) -> &str {
    raw.and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"')).unwrap_or_default()
}

/// The arguments of a tool call, from the JSON text of all its deltas.
fn arguments(written: &str) -> String {
    let quoted = format!("\"{written}\"");
    let text = serde_json::from_str::<String>(&quoted)
        .or_else(|_| serde_json::from_str(&without_lone_surrogates(&quoted)));
    let text = text.unwrap_or_default();
    let whole = serde_json::from_str::<&RawValue>(&text).map(|raw| raw.get().to_owned());
    whole.ok().or_else(|| partial::complete(&text)).unwrap_or_else(|| "{}".into())
}
