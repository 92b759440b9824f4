//! What a response says of the request that it answers.

use crate::json::{Members, RawObject};
use crate::read::member;

/// The settings of a request, as the response repeats them: key and JSON text, in the order of the API's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echo(Vec<(&'static str, String)>);

/// Settings that are repeated as they came, with what stands there where they did not.
const PLAIN: [(&str, &str); 18] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("safety_identifier", "null"),
    ("store", "true"),
    ("temperature", "1"),
    ("tool_choice", "\"auto\""),
    ("top_logprobs", "0"),
    ("top_p", "1"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
    ("metadata", "{}"),
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
    ("service_tier", "\"auto\""),
];

impl Echo {
    pub(super) fn of(source: &RawObject<'_>) -> Self {
        let plain = PLAIN.iter().map(|(key, default)| {
            (
                *key,
                member(source, key)
                    .map_or_else(|| (*default).to_owned(), |node| compact(node.raw())),
            )
        });
        let mut all: Vec<(&'static str, String)> = plain.collect();
        let inside = |holder: &str, key: &str, default: &str| {
            let holder = member(source, holder).and_then(|node| node.as_object());
            holder
                .and_then(|holder| member(&holder, key))
                .map_or_else(|| default.to_owned(), |node| compact(node.raw()))
        };
        all.push((
            "reasoning",
            format!(
                "{{\"effort\":{},\"summary\":{}}}",
                inside("reasoning", "effort", "null"),
                inside("reasoning", "summary", "null")
            ),
        ));
        all.push((
            "text",
            format!(
                "{{\"format\":{},\"verbosity\":{}}}",
                format_of(source),
                inside("text", "verbosity", "\"medium\"")
            ),
        ));
        all.push(("tools", tools(source)));
        Self(all)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, raw)| (*key, raw.as_str()))
    }

    /// True if the client wants the response kept.
    pub fn is_kept(&self) -> bool {
        self.0.iter().all(|(key, raw)| *key != "store" || raw != "false")
    }
}

/// On one line: it becomes part of an event.
fn compact(raw: &str) -> String {
    crate::openai::pieces::one_line(raw)
}

/// The format, with the members that clients read.
fn format_of(source: &RawObject<'_>) -> String {
    let node = member(source, "text").and_then(|text| member(&text.as_object()?, "format"));
    let Some((node, format)) = node.and_then(|node| Some((node.clone(), node.as_object()?))) else {
        return "{\"type\":\"text\"}".into();
    };
    let raw = compact(node.raw());
    let schema = member(&format, "type").is_some_and(|kind| kind.raw() == "\"json_schema\"");
    let missing = [("strict", "false"), ("description", "null")]
        .into_iter()
        .filter(|(key, _)| schema && format.get(key).is_none());
    with(&raw, missing)
}

/// The tools; a function has its parameters and its strictness, said or not.
fn tools(source: &RawObject<'_>) -> String {
    let given = member(source, "tools").and_then(|node| node.as_array()).unwrap_or_default();
    let written = given.iter().filter_map(|node| {
        let tool = node.as_object()?;
        let function = tool.get("type").is_none_or(|kind| kind.raw() == "\"function\"");
        let missing = [
            ("type", "\"function\""),
            ("parameters", "null"),
            ("strict", "false"),
            ("description", "null"),
        ]
        .into_iter();
        Some(with(
            &compact(node.raw()),
            missing.filter(|(key, _)| {
                function && tool.get(key).is_none_or(|node| node.is_null() && *key == "strict")
            }),
        ))
    });
    format!("[{}]", written.collect::<Vec<_>>().join(","))
}

/// Adds members to an object's text.
fn with<'m>(object: &str, missing: impl Iterator<Item = (&'m str, &'m str)>) -> String {
    let Ok(mut members) = serde_json::from_str::<Members>(object) else { return object.to_owned() };
    for (key, raw) in missing {
        members.set(key, raw);
    }
    members.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_repeated_and_defaults_filled_in() {
        let body = r#"{"temperature":0.50,"reasoning":{"effort":"low"},"tools":[{"type":"function","name":"n"}, {"type":"custom","name":"c"}],"text":{"format":{"type":"json_schema","name":"x","schema":{}}},"store":false}"#;
        let echo = Echo::of(&RawObject::parse(body.as_bytes()).unwrap());
        let get = |key: &str| echo.iter().find(|(name, _)| *name == key).unwrap().1.to_owned();
        assert_eq!(get("temperature"), "0.50");
        assert_eq!(get("reasoning"), r#"{"effort":"low","summary":null}"#);
        assert_eq!(
            get("tools"),
            r#"[{"type":"function","name":"n","parameters":null,"strict":false,"description":null},{"type":"custom","name":"c"}]"#
        );
        assert_eq!(
            get("text"),
            r#"{"format":{"type":"json_schema","name":"x","schema":{},"strict":false,"description":null},"verbosity":"medium"}"#
        );
        assert_eq!(
            (get("tool_choice").as_str(), get("metadata").as_str(), echo.is_kept()),
            ("\"auto\"", "{}", false)
        );
    }
}
