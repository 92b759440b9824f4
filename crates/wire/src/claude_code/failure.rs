//! Why there is no answer, in the program's own terms.

use std::borrow::Cow;

use serde::Deserialize;

use super::login::Limit;
use crate::event::EventFrame;
use crate::fault::status_of_type;
use crate::json::quote;

/// Why there is no whole answer, in the program's own terms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failure {
    /// Of the API's answer, where it was one.
    pub status: Option<u16>,
    /// `error.type` of the API.
    pub kind: Option<String>,
    /// The program's own word, such as `usage_limit_reached` or `connection_failed`.
    pub reason: Option<String>,
    /// The program's class of error, such as `authentication_failed`.
    pub class: Option<String>,
    /// The limit of a plan that was reached, if one was.
    pub limit: Option<Limit>,
    pub message: String,
    pub request_id: Option<String>,
    /// Asking again would come to the same.
    pub is_final: bool,
}

impl Failure {
    /// Reads an `assistant` line that stands for an error.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: FailedLine<'_> = serde_json::from_slice(line).ok()?;
        let texts: Vec<&str> =
            line.message.content.iter().filter_map(|block| block.text.as_deref()).collect();
        Some(Self {
            status: line.api_error_status,
            kind: line.api_error_type,
            reason: line.api_error,
            class: line.error.map(Cow::into_owned),
            limit: line.api_error_params.and_then(|params| params.rate_limit_info),
            message: texts.join("\n"),
            request_id: line.request_id,
            is_final: false,
        })
    }

    /// The type by which the Messages API would call it.
    pub fn messages_type(&self) -> &str {
        self.kind.as_deref().unwrap_or("api_error")
    }

    /// The status by which the API would answer with it.
    pub fn status_or_typical(&self) -> u16 {
        self.status.unwrap_or_else(|| self.kind.as_deref().map_or(502, status_of_type))
    }

    /// The error as an envelope of the Messages API.
    pub fn body(&self) -> String {
        let id = self.request_id.as_deref().map_or_else(|| "null".to_owned(), quote);
        format!(
            "{{\"type\":\"error\",\"error\":{{\"type\":{},\"message\":{}}},\"request_id\":{id}}}",
            quote(self.messages_type()),
            quote(&self.message)
        )
    }

    /// The error as an event, for an answer that has begun.
    pub fn event(&self) -> EventFrame {
        EventFrame::new(self.body())
    }
}

#[derive(Deserialize)]
struct FailedLine<'a> {
    #[serde(borrow)]
    message: FailedMessage<'a>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(default)]
    api_error_status: Option<u16>,
    #[serde(default)]
    api_error_type: Option<String>,
    #[serde(default)]
    api_error: Option<String>,
    #[serde(default)]
    api_error_params: Option<Params>,
    #[serde(default)]
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct FailedMessage<'a> {
    #[serde(borrow, default)]
    content: Vec<SaidText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    rate_limit_info: Option<Limit>,
}

/// A block, as far as it says something.
#[derive(Deserialize)]
struct SaidText<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}
