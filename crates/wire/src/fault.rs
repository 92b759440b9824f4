//! A failure we can show in any dialect.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use crate::Dialect;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, and by that whose fault it is and which status it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    InvalidRequest,
    Unsupported,
    Unauthenticated,
    Forbidden,
    NotFound,
    /// The path is ours, the method is not.
    WrongMethod,
    TooLarge,
    RateLimited,
    Overloaded,
    Unreachable,
    BadReply,
    TimedOut,
    /// There is no usable upstream yet.
    NotReady,
    Draining,
    /// What was promised cannot be kept, or not be found again, at the moment.
    StoreDown,
    Internal,
}

impl FaultKind {
    /// The name used in logs, metrics and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::WrongMethod => "wrong_method",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::BadReply => "bad_reply",
            Self::TimedOut => "timed_out",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::StoreDown => "store_down",
            Self::Internal => "internal",
        }
    }

    /// Returns the HTTP status.
    pub const fn status(self, dialect: Dialect) -> u16 {
        match self {
            Self::InvalidRequest | Self::Unsupported => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::WrongMethod => 405,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            // 529 is Anthropic's own; other dialects' clients do not know it.
            Self::Overloaded => match dialect {
                Dialect::Messages => 529,
                Dialect::Chat | Dialect::Responses => 503,
            },
            Self::Unreachable | Self::BadReply => 502,
            Self::TimedOut => 504,
            Self::NotReady | Self::Draining | Self::StoreDown => 503,
            Self::Internal => 500,
        }
    }

    const fn messages_type(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::Unsupported | Self::WrongMethod => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimited => "rate_limit_error",
            Self::Overloaded => "overloaded_error",
            Self::TimedOut => "timeout_error",
            Self::Unreachable
            | Self::BadReply
            | Self::NotReady
            | Self::Draining
            | Self::StoreDown
            | Self::Internal => "api_error",
        }
    }

    const fn openai_type(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limit_error",
            Self::Overloaded
            | Self::NotReady
            | Self::Draining
            | Self::StoreDown
            | Self::Internal => "server_error",
            Self::Unreachable | Self::BadReply | Self::TimedOut => "upstream_error",
            Self::InvalidRequest
            | Self::Unsupported
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::WrongMethod
            | Self::TooLarge => "invalid_request_error",
        }
    }

    const fn openai_code(self) -> Option<&'static str> {
        match self {
            Self::Unsupported => Some("unsupported_parameter"),
            Self::Unauthenticated => Some("invalid_api_key"),
            Self::TooLarge => Some("request_too_large"),
            Self::RateLimited => Some("rate_limit_exceeded"),
            Self::Overloaded => Some("overloaded"),
            Self::TimedOut => Some("timeout"),
            Self::InvalidRequest
            | Self::Forbidden
            | Self::NotFound
            | Self::WrongMethod
            | Self::Unreachable
            | Self::BadReply
            | Self::NotReady
            | Self::Draining
            | Self::StoreDown
            | Self::Internal => None,
        }
    }
}

/// A failure we can show to a client, whatever dialect it speaks.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: FaultKind,
    /// Shown to the client. Speaks of what it sent, never of what we hold.
    pub message: Cow<'static, str>,
    /// The member of the request that is to blame, as a JSON path.
    pub param: Option<String>,
    /// A word for programs, where OpenAI has one that is narrower than the kind's own.
    pub code: Option<&'static str>,
    /// How long to wait before asking again, when we know.
    pub retry_after: Option<Duration>,
    /// Where the trouble is, if its kind does not say.
    pub layer: Option<&'static str>,
    /// For the log alone.
    #[source]
    cause: Option<BoxError>,
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
            layer: None,
            cause: None,
        }
    }

    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Writes the error body in the client's dialect.
    ///
    /// Messages: <https://platform.claude.com/docs/en/api/errors>.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> String {
        let body = match dialect {
            Dialect::Messages => {
                let error = MessagesError {
                    kind: self.kind.messages_type(),
                    message: &self.message,
                    both: None,
                };
                serde_json::to_string(&MessagesBody { kind: "error", error, request_id })
            }
            Dialect::Chat | Dialect::Responses => {
                return openai_body(
                    &self.message,
                    self.kind.openai_type(),
                    self.param.as_deref(),
                    self.code.or(self.kind.openai_code()),
                );
            }
        };
        body.expect("strings always serialize")
    }

    /// Writes an error body that both vendors' SDKs read, for paths that they share.
    pub fn shared_body(&self, request_id: &str) -> String {
        let both = Some(OpenAiMembers {
            param: self.param.as_deref(),
            code: self.code.or(self.kind.openai_code()),
        });
        let error = MessagesError { kind: self.kind.messages_type(), message: &self.message, both };
        serde_json::to_string(&MessagesBody { kind: "error", error, request_id })
            .expect("strings always serialize")
    }
}

#[derive(Serialize)]
struct MessagesBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: MessagesError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct MessagesError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    #[serde(flatten)]
    both: Option<OpenAiMembers<'a>>,
}

#[derive(Serialize)]
struct OpenAiMembers<'a> {
    param: Option<&'a str>,
    code: Option<&'static str>,
}

/// Writes an error body as OpenAI's dialects have it.
pub(crate) fn openai_body(
    message: &str,
    kind: &'static str,
    param: Option<&str>,
    code: Option<&'static str>,
) -> String {
    serde_json::to_string(&OpenAiBody { error: OpenAiError { message, kind, param, code } })
        .expect("strings always serialize")
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

/// Returns the HTTP status that belongs to a Messages `error.type` found inside a stream.
///
/// A type newer than this gateway is a failure of the upstream's.
pub fn status_of_type(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" | "policy_blocked" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_a_face_in_each_dialect() {
        let fault = Fault::new(FaultKind::Unauthenticated, "no key \"x\"").param("key");
        assert_eq!(
            fault.body(Dialect::Messages, "req_1"),
            r#"{"type":"error","error":{"type":"authentication_error","message":"no key \"x\""},"request_id":"req_1"}"#
        );
        assert_eq!(
            fault.body(Dialect::Chat, "req_1"),
            r#"{"error":{"message":"no key \"x\"","type":"invalid_request_error","param":"key","code":"invalid_api_key"}}"#
        );
    }

    #[test]
    fn a_shared_face_has_the_members_of_both() {
        let fault = Fault::new(FaultKind::NotFound, "model: x").code("model_not_found");
        assert_eq!(
            fault.shared_body("req_1"),
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: x","param":null,"code":"model_not_found"},"request_id":"req_1"}"#
        );
    }

    #[test]
    fn only_messages_clients_see_529() {
        assert_eq!(FaultKind::Overloaded.status(Dialect::Messages), 529);
        assert_eq!(FaultKind::Overloaded.status(Dialect::Chat), 503);
    }
}
