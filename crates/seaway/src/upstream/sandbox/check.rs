//! What the API refuses, the simulated upstream refuses too, in its words as far as they are known.
//!
//! The words were gathered from public reports that quote them; where only the fact is known, they are ours. What
//! nobody can know for sure is let through.

mod marks;
mod model;
mod schema;
mod tools;
mod turns;

use serde_json::Value;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckRefusal {
    pub status: u16,
    pub kind: &'static str,
    pub message: String,
}

impl<T: Into<String>> From<T> for CheckRefusal {
    fn from(message: T) -> Self {
        Self { status: 400, kind: "invalid_request_error", message: message.into() }
    }
}

type Checked = Result<(), CheckRefusal>;

/// The members of a request: those that the newest SDK has types for (anthropic 2.14.0, `beta.messages.create`).
const MEMBERS: [&str; 31] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "service_tier",
    "container",
    "context_management",
    "mcp_servers",
    "cache_control",
    "speed",
    "inference_geo",
    "betas",
    "diagnostics",
    "fallbacks",
    "user_profile_id",
    "billing_policy",
    "compaction",
    "fallback_credit_token",
    "thread",
    "workspace_id",
];

/// Checks a request to create a message. `betas`: what the client announced, which may allow more.
pub(super) fn message(request: &Value, betas: &str) -> Checked {
    conversation(request)?;
    match &request["max_tokens"] {
        Value::Null => return Err("max_tokens: Field required".into()),
        value if value.as_u64().is_some_and(|tokens| tokens >= 1) => {}
        _ => {
            return Err(
                "max_tokens: Input should be a valid integer greater than or equal to 1".into()
            );
        }
    }
    model::limits(request, betas)
}

/// Checks what a token count needs as well.
pub(super) fn conversation(request: &Value) -> Checked {
    if let Some(unknown) = request
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .find(|key| !MEMBERS.contains(&key.as_str()))
    {
        return Err(format!("{unknown}: Extra inputs are not permitted").into());
    }
    match &request["model"] {
        Value::Null => return Err("model: Field required".into()),
        Value::String(model) if !model.is_empty() => {}
        _ => return Err("model: Input should be a valid string".into()),
    }
    turns::check(request)?;
    model::known(request["model"].as_str().unwrap_or_default())?;
    user(&request["metadata"]["user_id"])?;
    tools::check(request)?;
    schema::format(&request["output_config"]["format"], "output_config.format.schema")?;
    schema::format(&request["output_format"], "output_format.schema")?;
    marks::check(request)?;
    model::takes(request)
}

/// Somebody's address or number is no opaque id.
fn user(id: &Value) -> Checked {
    let Some(id) = id.as_str() else { return Ok(()) };
    let digits = id.chars().filter(char::is_ascii_digit).count();
    if id.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.')) {
        return Err("metadata.user_id: user_id appears to contain an email address".into());
    }
    let dialled = id.starts_with('+')
        && (7..=15).contains(&digits)
        && id.chars().all(|c| c.is_ascii_digit() || "+-. ()".contains(c));
    if dialled {
        return Err("metadata.user_id: user_id appears to contain a phone number".into());
    }
    if id.chars().count() > 256 {
        return Err("metadata.user_id: String should have at most 256 characters".into());
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A request that is good, with these members changed.
    pub(super) fn with(members: &Value) -> Value {
        let mut request = json!({"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]});
        for (key, value) in members.as_object().unwrap() {
            request[key] = value.clone();
        }
        request
    }

    /// What such a request is refused with; nothing where it is taken. `source` says where the words come from.
    #[track_caller]
    pub(super) fn refused(members: &Value, expect: &str, source: &str) {
        assert!(!source.is_empty());
        let came = message(&with(members), "").map_err(|refusal| refusal.message);
        match came {
            Ok(()) => assert_eq!(expect, "", "{members} was taken"),
            Err(message) => {
                assert!(!expect.is_empty() && message.contains(expect), "{members}: {message}");
            }
        }
    }

    #[track_caller]
    fn check(request: &str, expect: Result<(), &str>) {
        let request = serde_json::from_str(request).unwrap();
        assert_eq!(
            message(&request, "").map_err(|refusal| refusal.message),
            expect.map_err(str::to_owned),
            "{request}"
        );
    }

    #[test]
    fn what_the_api_refuses_is_refused() {
        check(
            r#"{"model":"sandbox-opus-1","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#,
            Ok(()),
        );
        check(
            r#"{"model":"sandbox-opus-1","max_tokens":1,"messages":[{"role":"system","content":[]},{"role":"user","content":[{"type":"new"}]}]}"#,
            Ok(()),
        );
        check("{}", Err("model: Field required"));
        check(r#"{"model":7}"#, Err("model: Input should be a valid string"));
        check(r#"{"model":"m"}"#, Err("messages: Field required"));
        check(r#"{"model":"m","messages":{}}"#, Err("messages: Input should be a valid list"));
        check(
            r#"{"model":"m","messages":["x"]}"#,
            Err("messages.0: Input should be a valid dictionary"),
        );
        check(
            r#"{"model":"m","messages":[{"role":"user","content":["x"]}]}"#,
            Err("messages.0.content.0: Input should be a valid dictionary"),
        );
        check(
            r#"{"model":"sandbox-opus-1","messages":[{"role":"user","content":"x"}]}"#,
            Err("max_tokens: Field required"),
        );
    }

    #[test]
    fn who_asks_is_told_by_an_opaque_id() {
        const SOURCE: &str = "public reports of clients that sent their users' addresses";
        refused(
            &json!({"metadata": {"user_id": "ada@example.org"}}),
            "user_id appears to contain an email address",
            SOURCE,
        );
        refused(
            &json!({"metadata": {"user_id": "+1 555 123 4567"}}),
            "user_id appears to contain a phone number",
            SOURCE,
        );
        refused(
            &json!({"metadata": {"user_id": "u".repeat(257)}}),
            "at most 256 characters",
            "https://platform.claude.com/docs/en/api/messages",
        );
        refused(&json!({"metadata": {"user_id": "user-17"}}), "", "the same page");
    }

    #[test]
    fn members_that_nobody_knows_are_refused() {
        refused(
            &json!({"seed": 1}),
            "seed: Extra inputs are not permitted",
            "the API's validation, quoted in many reports",
        );
    }
}
