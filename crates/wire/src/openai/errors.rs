//! An upstream's error as OpenAI's dialects have it: the upstream's own words, with the type
//! and code that their clients sort errors by.

use std::borrow::Cow;

use crate::fault::{openai_body, status_of_type};
use crate::messages::UpstreamError;
use crate::{Dialect, Faced, Fault, FaultKind};

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFault {
    pub status: u16,
    /// The whole body.
    pub body: String,
}

impl UpstreamFault {
    /// A failure that is told in our own words.
    pub fn of<K: Faced>(fault: &Fault<K>) -> Self {
        Self { status: fault.status(Dialect::Chat), body: fault.body(Dialect::Chat, "") }
    }

    /// A stream that is none of Messages.
    pub(crate) fn no_messages(error: &serde_json::Error) -> Self {
        Self::of(&bad_reply(format!("the upstream's stream is not a Messages stream: {error}")))
    }

    /// A stream that is none of events.
    pub(crate) fn unreadable(why: &str) -> Self {
        Self::of(&bad_reply(format!("the upstream's stream cannot be read: {why}")))
    }
}

/// A stream that ended without an answer.
pub(crate) fn unbegun() -> Fault {
    bad_reply("the upstream's stream ended before its answer began")
}

/// A stream that ended in the middle of its answer.
pub(crate) fn unfinished() -> Fault {
    bad_reply("the upstream's stream ended before its answer did")
}

fn bad_reply(why: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::BadReply, why)
}

/// How an error looks: status, type, code.
type Look = (u16, &'static str, Option<&'static str>);

/// Translates an error that the upstream answered with a status.
///
/// `waits`: it said how long to wait. `own_key`: the client's own credential was sent on.
pub fn translate_error(status: u16, body: &[u8], waits: bool, own_key: bool) -> UpstreamFault {
    let Some(said) = UpstreamError::parse(body) else {
        let message = format!(
            "the upstream answered with status {status} and a body that is no error of the Messages API"
        );
        return written(
            &message,
            (if status < 400 { 502 } else { status }, "upstream_error", None),
        );
    };
    written(&said.message, look(status, &said, waits, own_key))
}

/// Translates an error event, whose type stands in for the status that it came too late for.
pub(crate) fn translate_event(said: &UpstreamError) -> UpstreamFault {
    written(&said.message, look(status_of_type(&said.kind), said, true, false))
}

fn look(status: u16, said: &UpstreamError, waits: bool, own_key: bool) -> Look {
    match status {
        400 if is_too_long(&said.message) => {
            (400, "invalid_request_error", Some("context_length_exceeded"))
        }
        400 => (400, "invalid_request_error", None),
        401 if own_key => (401, "authentication_error", Some("invalid_api_key")),
        // The gateway's credential failed: nothing that the client could mend.
        401 => (500, "server_error", Some("upstream_authentication")),
        402 => (402, "insufficient_quota", Some("insufficient_quota")),
        403 => (403, "permission_error", None),
        404 => (404, "invalid_request_error", Some("model_not_found")),
        409 => (409, "conflict_error", None),
        413 => (413, "invalid_request_error", Some("request_too_large")),
        429 if waits => (429, "rate_limit_error", Some("rate_limit_exceeded")),
        429 => (429, "rate_limit_error", Some("insufficient_quota")),
        500 => (500, "server_error", None),
        504 => (504, "server_error", Some("timeout")),
        // Only Anthropic's own clients know 529.
        529 => (503, "server_error", Some("overloaded")),
        status if status >= 400 => (status, "upstream_error", None),
        _ => (502, "upstream_error", None),
    }
}

fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("prompt is too long")
        || (message.contains("exceed") && message.contains("context"))
}

fn written(message: &str, (status, kind, code): Look) -> UpstreamFault {
    let message =
        if message.is_empty() { "the upstream failed without saying why" } else { message };
    UpstreamFault { status, body: openai_body(message, kind, None, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, kind: &str, message: &str, waits: bool, own_key: bool, expect: &str) {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"r"}}"#
        );
        let fault = translate_error(status, body.as_bytes(), waits, own_key);
        let error: serde_json::Value = serde_json::from_str(&fault.body).unwrap();
        let error = &error["error"];
        assert_eq!(error["message"], message);
        assert_eq!(
            format!(
                "{} {} {}",
                fault.status,
                error["type"].as_str().unwrap(),
                error["code"].as_str().unwrap_or("null")
            ),
            expect
        );
    }

    #[test]
    #[rustfmt::skip]
    fn every_row_of_the_table() {
        let rows = [
            (400, "invalid_request_error", "max_tokens: x", false, false, "400 invalid_request_error null"),
            (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", false, false, "400 invalid_request_error context_length_exceeded"),
            (401, "authentication_error", "bad", false, false, "500 server_error upstream_authentication"),
            (401, "authentication_error", "bad", false, true, "401 authentication_error invalid_api_key"),
            (402, "billing_error", "x", false, false, "402 insufficient_quota insufficient_quota"),
            (403, "permission_error", "x", false, false, "403 permission_error null"),
            (404, "not_found_error", "model: x", false, false, "404 invalid_request_error model_not_found"),
            (409, "conflict_error", "x", false, false, "409 conflict_error null"),
            (413, "request_too_large", "x", false, false, "413 invalid_request_error request_too_large"),
            (429, "rate_limit_error", "x", true, false, "429 rate_limit_error rate_limit_exceeded"),
            (429, "rate_limit_error", "x", false, false, "429 rate_limit_error insufficient_quota"),
            (500, "api_error", "x", false, false, "500 server_error null"),
            (503, "api_error", "x", false, false, "503 upstream_error null"),
            (504, "timeout_error", "x", false, false, "504 server_error timeout"),
            (529, "overloaded_error", "Overloaded", false, false, "503 server_error overloaded"),
        ];
        for (status, kind, message, waits, own_key, expect) in rows {
            check(status, kind, message, waits, own_key, expect);
        }
    }

    #[test]
    fn what_is_no_error_of_messages_keeps_its_status() {
        let fault = translate_error(502, b"<html>", false, false);
        assert_eq!(fault.status, 502);
        assert!(
            fault.body.contains(r#""type":"upstream_error","param":null,"code":null"#),
            "{}",
            fault.body
        );
    }

    #[test]
    fn an_event_has_the_status_of_its_type() {
        let said = UpstreamError { kind: "overloaded_error".into(), message: "Overloaded".into() };
        assert_eq!(
            translate_event(&said).body,
            r#"{"error":{"message":"Overloaded","type":"server_error","param":null,"code":"overloaded"}}"#
        );
        assert_eq!(
            translate_event(&UpstreamError { kind: "new".into(), message: String::new() }).status,
            500
        );
    }
}
