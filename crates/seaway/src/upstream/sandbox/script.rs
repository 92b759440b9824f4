//! The script language: markers in double brackets in the last user text.
//!
//! | marker | effect |
//! | --- | --- |
//! | `[[say TEXT]]` | a text block, in place of the echo |
//! | `[[repeat N TEXT]]` | a text block of N times TEXT |
//! | `[[think TEXT]]` | a thinking block with a signature |
//! | `[[redacted]]` | a redacted thinking block |
//! | `[[tool NAME {JSON}]]` | a tool call; several are parallel calls |
//! | `[[cite TEXT]]` | a text block with a citation of it |
//! | `[[block {JSON}]]` | any content block, as it stands |
//! | `[[refuse]]` | stop with `refusal` |
//! | `[[stop REASON]]` | stop with any reason |
//! | `[[slow TIME]]` | wait before the status line; a time is `2s` or `200ms` |
//! | `[[stall TIME]]` | wait in the middle of the answer |
//! | `[[pace TIME]]` | wait before every event |
//! | `[[error STATUS TYPE MESSAGE]]` | fail; type and message may be left out |
//! | `[[header NAME: VALUE]]` | add a header to the answer |
//! | `[[error-event TYPE MESSAGE]]` | begin well, then send an error event |
//! | `[[error-first TYPE MESSAGE]]` | send an error event first |
//! | `[[cut N]]` | break the connection after N bytes of the body |
//! | `[[end N]]` | end the body cleanly after N bytes |
//! | `[[times N]]` | let failures and waits of this text apply to the first N requests only |

use std::time::Duration;

use serde_json::Value;

/// The longest text that `[[repeat]]` makes, in bytes.
const LONGEST_REPEAT: usize = 4 << 20;

/// A content block to answer with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Text(String),
    Thinking(String),
    Redacted,
    Tool { name: String, input: String },
    Cited(String),
    Raw(Value),
}

/// What the last user text asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Script {
    pub blocks: Vec<Block>,
    /// The text without its markers.
    pub prose: String,
    pub stop: Option<String>,
    pub headers: Vec<(String, String)>,
    pub error: Option<(u16, String, String)>,
    pub error_event: Option<(String, String)>,
    /// The error event comes before anything else.
    pub error_first: bool,
    pub cut: Option<usize>,
    pub end: Option<usize>,
    pub slow: Duration,
    pub stall: Duration,
    pub pace: Duration,
    pub times: Option<u32>,
}

impl Script {
    /// Reads the markers; what is none stays prose.
    pub(super) fn parse(text: &str) -> Self {
        let mut script = Self::default();
        let mut rest = text;
        while let Some(open) = rest.find("[[") {
            let inside = &rest[open + 2..];
            let Some(length) =
                marker_length(inside).filter(|length| script.take(inside[..*length].trim()))
            else {
                script.prose.push_str(&rest[..open + 2]);
                rest = inside;
                continue;
            };
            script.prose.push_str(&rest[..open]);
            rest = &inside[length + 2..];
        }
        script.prose.push_str(rest);
        script.prose = script.prose.trim().to_owned();
        script
    }

    /// Forgets what goes wrong: the request was repeated often enough.
    pub(super) fn recover(&mut self) {
        let Self { blocks, prose, stop, headers, .. } = std::mem::take(self);
        *self = Self {
            blocks,
            prose,
            stop,
            headers: headers.into_iter().filter(|(name, _)| name != "retry-after").collect(),
            ..Self::default()
        };
    }

    /// Takes one marker. False if it is none of ours.
    fn take(&mut self, marker: &str) -> bool {
        let (word, rest) = marker.split_once(char::is_whitespace).unwrap_or((marker, ""));
        let rest = rest.trim();
        match word {
            "say" => self.blocks.push(Block::Text(rest.to_owned())),
            "think" => self.blocks.push(Block::Thinking(rest.to_owned())),
            "cite" => self.blocks.push(Block::Cited(rest.to_owned())),
            "redacted" => self.blocks.push(Block::Redacted),
            "refuse" => self.stop = Some("refusal".into()),
            "stop" => self.stop = Some(rest.to_owned()),
            "repeat" => return self.repeat(rest).is_some(),
            "tool" => return self.tool(rest).is_some(),
            "block" => {
                return serde_json::from_str(rest)
                    .map(|raw| self.blocks.push(Block::Raw(raw)))
                    .is_ok();
            }
            "header" => {
                return rest
                    .split_once(':')
                    .map(|(name, value)| {
                        self.headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
                    })
                    .is_some();
            }
            "error" => return self.error(rest).is_some(),
            "error-event" => self.error_event = Some(named(rest)),
            "error-first" => (self.error_event, self.error_first) = (Some(named(rest)), true),
            "cut" => return set(&mut self.cut, rest.parse().ok()),
            "end" => return set(&mut self.end, rest.parse().ok()),
            "times" => return set(&mut self.times, rest.parse().ok()),
            "slow" => return time(&mut self.slow, rest),
            "stall" => return time(&mut self.stall, rest),
            "pace" => return time(&mut self.pace, rest),
            _ => return false,
        }
        true
    }

    fn repeat(&mut self, rest: &str) -> Option<()> {
        let (count, text) = rest.split_once(char::is_whitespace)?;
        let count: usize = count.parse().ok()?;
        count.checked_mul(text.len()).filter(|length| *length <= LONGEST_REPEAT)?;
        self.blocks.push(Block::Text(text.repeat(count)));
        Some(())
    }

    fn tool(&mut self, rest: &str) -> Option<()> {
        let (name, input) = rest.split_once(char::is_whitespace).unwrap_or((rest, "{}"));
        let input = if input.trim().is_empty() { "{}" } else { input.trim() };
        let object = serde_json::from_str::<serde_json::Map<String, Value>>(input).is_ok();
        (object && !name.is_empty()).then(|| {
            self.blocks.push(Block::Tool { name: name.to_owned(), input: input.to_owned() });
        })
    }

    fn error(&mut self, rest: &str) -> Option<()> {
        let (status, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let status: u16 = status.parse().ok().filter(|status| (400..600).contains(status))?;
        let (kind, message) = named(rest);
        let kind = if rest.trim().is_empty() { kind_of_status(status).to_owned() } else { kind };
        self.error = Some((status, kind, message));
        Some(())
    }
}

/// Where the marker that opened ends: at `]]`, or behind its JSON, which may hold brackets itself.
fn marker_length(inside: &str) -> Option<usize> {
    let plain = inside.find("]]")?;
    let takes_json = ["tool ", "block "].iter().any(|word| inside.starts_with(word));
    let Some(json) = inside[..plain].find('{').filter(|_| takes_json) else { return Some(plain) };
    let mut values =
        serde_json::Deserializer::from_str(&inside[json..]).into_iter::<serde::de::IgnoredAny>();
    if !matches!(values.next(), Some(Ok(_))) {
        return Some(plain);
    }
    let end = json + values.byte_offset();
    inside[end..].find("]]").map(|gap| end + gap)
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    *slot = value;
    slot.is_some()
}

fn time(slot: &mut Duration, text: &str) -> bool {
    let value = crate::config::parse_span(text);
    *slot = value.unwrap_or_default();
    value.is_some()
}

/// An error's type and message, each with a default.
fn named(text: &str) -> (String, String) {
    let (kind, message) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let or = |text: &str, default: &str| {
        if text.trim().is_empty() { default.to_owned() } else { text.trim().to_owned() }
    };
    (or(kind, "api_error"), or(message, "The script asked for this error"))
}

fn kind_of_status(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The texts of the last user turn. What Claude Code adds on its own is left out.
pub(super) fn last_user_text(request: &Value) -> String {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(last) = messages.iter().rev().find(|message| message["role"] == "user") else {
        return String::new();
    };
    if let Some(text) = last["content"].as_str() {
        return text.to_owned();
    }
    let blocks = last["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    texts
        .filter(|text| !text.trim_start().starts_with("<system-reminder>"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_and_prose_stays() {
        let script =
            Script::parse(r#"a [[think hm]] b [[tool f {"x":[[1]]}]][[tool g]] [[nonsense]] [[ok"#);
        assert_eq!(script.prose, "a  b  [[nonsense]] [[ok");
        let tool = |name: &str, input: &str| Block::Tool { name: name.into(), input: input.into() };
        assert_eq!(
            script.blocks,
            [Block::Thinking("hm".into()), tool("f", r#"{"x":[[1]]}"#), tool("g", "{}")]
        );
    }

    #[test]
    fn failures_have_defaults() {
        assert_eq!(Script::parse("[[error 529]]").error.unwrap().1, "overloaded_error");
        assert_eq!(
            Script::parse("[[error 400 x y z]]").error.unwrap(),
            (400, "x".into(), "y z".into())
        );
        assert_eq!(Script::parse("[[error 200]]").error, None);
        assert_eq!(Script::parse("[[cut 7]] [[slow 20ms]]").cut, Some(7));
        assert_eq!(Script::parse("[[slow 20ms]]").slow, Duration::from_millis(20));
    }

    #[test]
    fn a_recovered_script_only_answers() {
        let mut script =
            Script::parse("hi [[error 429]] [[header retry-after: 1]] [[header x: y]] [[times 1]]");
        script.recover();
        assert_eq!((script.error, script.prose.as_str()), (None, "hi"));
        assert_eq!(script.headers, [("x".to_owned(), "y".to_owned())]);
    }

    #[test]
    fn every_marker_of_the_docs_is_understood() {
        let docs = include_str!("../../../../../docs/sandbox.md");
        let markers: Vec<&str> = docs
            .lines()
            .filter_map(|line| line.strip_prefix("| `[[")?.split("]]`").next())
            .collect();
        assert!(markers.len() >= 18, "the docs list {} markers", markers.len());
        for marker in markers {
            let example = marker
                .replace("STATUS", "429")
                .replace("{JSON}", r#"{"a":1}"#)
                .replace("TIME", "1ms")
                .replace(" N", " 3")
                .replace("NAME: VALUE", "a: b");
            let script = Script::parse(&format!("[[{example}]]"));
            assert_eq!(script.prose, "", "`[[{example}]]` is not understood");
        }
    }
}
