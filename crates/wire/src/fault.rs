//! A failure we can show in any dialect.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use crate::Dialect;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a kind of failure looks in each dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// The HTTP status, as Messages has it.
    pub status: u16,
    /// `error.type` in Messages.
    pub messages_type: &'static str,
    /// `error.type` in OpenAI's dialects.
    pub openai_type: &'static str,
    /// `error.code` in OpenAI's dialects.
    pub openai_code: Option<&'static str>,
}

impl Face {
    /// Returns the HTTP status.
    pub const fn status(&self, dialect: Dialect) -> u16 {
        match (self.status, dialect) {
            // It is Anthropic's own; other dialects' clients do not know it.
            (529, Dialect::Chat | Dialect::Responses) => 503,
            (status, _) => status,
        }
    }
}

/// A kind of failure: whoever has failures of its own gives them a face.
pub trait Faced: Copy {
    fn face(self) -> Face;
}

/// What can be wrong with a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The client's request is not what its dialect allows.
    InvalidRequest,
    /// What it asks for has no place in Messages.
    Unsupported,
    NotFound,
    /// The upstream's answer is not what Messages allows.
    BadReply,
}

impl Faced for FaultKind {
    fn face(self) -> Face {
        const INVALID: &str = "invalid_request_error";
        let (status, messages_type, openai_type, openai_code) = match self {
            Self::InvalidRequest => (400, INVALID, INVALID, None),
            Self::Unsupported => (400, INVALID, INVALID, Some("unsupported_parameter")),
            Self::NotFound => (404, "not_found_error", INVALID, None),
            Self::BadReply => (502, "api_error", "upstream_error", None),
        };
        Face { status, messages_type, openai_type, openai_code }
    }
}

/// A failure we can show to a client, whatever dialect it speaks.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault<K = FaultKind> {
    pub kind: K,
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

impl<K: Faced> Fault<K> {
    pub fn new(kind: K, message: impl Into<Cow<'static, str>>) -> Self {
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

    /// Returns the HTTP status.
    pub fn status(&self, dialect: Dialect) -> u16 {
        self.kind.face().status(dialect)
    }

    /// The same failure, of a kind that somebody else has a name for.
    pub fn into_kind<L: From<K>>(self) -> Fault<L> {
        let Self { kind, message, param, code, retry_after, layer, cause } = self;
        Fault { kind: kind.into(), message, param, code, retry_after, layer, cause }
    }

    /// Writes the error body in the client's dialect.
    ///
    /// Messages: <https://platform.claude.com/docs/en/api/errors>.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> String {
        let face = self.kind.face();
        let body = match dialect {
            Dialect::Messages => {
                let error =
                    MessagesError { kind: face.messages_type, message: &self.message, both: None };
                serde_json::to_string(&MessagesBody { kind: "error", error, request_id })
            }
            Dialect::Chat | Dialect::Responses => {
                return openai_body(
                    &self.message,
                    face.openai_type,
                    self.param.as_deref(),
                    self.code.or(face.openai_code),
                );
            }
        };
        body.expect("strings always serialize")
    }

    /// Writes an error body that both vendors' SDKs read, for paths that they share.
    pub fn shared_body(&self, request_id: &str) -> String {
        let face = self.kind.face();
        let both = Some(OpenAiMembers {
            param: self.param.as_deref(),
            code: self.code.or(face.openai_code),
        });
        let error = MessagesError { kind: face.messages_type, message: &self.message, both };
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
        let fault = Fault::new(FaultKind::Unsupported, "no \"x\"").param("n");
        assert_eq!(
            fault.body(Dialect::Messages, "req_1"),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no \"x\""},"request_id":"req_1"}"#
        );
        assert_eq!(
            fault.body(Dialect::Chat, "req_1"),
            r#"{"error":{"message":"no \"x\"","type":"invalid_request_error","param":"n","code":"unsupported_parameter"}}"#
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
        let face = Face { status: 529, ..FaultKind::BadReply.face() };
        assert_eq!((face.status(Dialect::Messages), face.status(Dialect::Chat)), (529, 503));
    }
}
