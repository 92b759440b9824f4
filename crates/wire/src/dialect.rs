//! The wire languages a client may speak.

use std::fmt;

/// A wire language, named after the API that defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The Anthropic Messages API, the hub of every translation.
    Messages,
    /// OpenAI's Chat Completions API.
    Chat,
    /// OpenAI's Responses API.
    Responses,
}

impl Dialect {
    /// Returns the name used in logs, metrics and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Chat => "chat",
            Self::Responses => "responses",
        }
    }

    /// Tells the dialect of a path, so that even a 404 is said in the client's language; `None` for a path that says
    /// nothing of it.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        let vendor = segments.next_if(|segment| matches!(*segment, "openai" | "anthropic"));
        while segments.next_if_eq(&"v1").is_some() {}
        match segments.next() {
            Some("responses" | "conversations") => Some(Self::Responses),
            Some("chat" | "completions" | "embeddings" | "images" | "audio" | "moderations") => Some(Self::Chat),
            Some("messages" | "files" | "skills") => Some(Self::Messages),
            // `/v1/PRESET/chat/completions`
            Some(_) if matches!(segments.peek(), Some(&"chat")) => Some(Self::Chat),
            Some(_) if matches!(segments.peek(), Some(&"responses")) => Some(Self::Responses),
            Some(_) if matches!(segments.peek(), Some(&"messages")) => Some(Self::Messages),
            _ => vendor.map(|vendor| if vendor == "openai" { Self::Chat } else { Self::Messages }),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[track_caller]
    fn check(path: &str, expect: impl Into<Option<Dialect>>) {
        assert_eq!(Dialect::of_path(path), expect.into(), "{path}");
    }

    #[test]
    fn a_path_tells_its_dialect() {
        check("/v1/messages", Dialect::Messages);
        check("/anthropic/v1/messages", Dialect::Messages);
        check("/v1/messages/batches/x", Dialect::Messages);
        check("/nowhere", None);
        check("/", None);
        check("/v1/models", None);
        check("/v1/terse/messages", Dialect::Messages);
        check("/anthropic/v1/models", Dialect::Messages);
        check("/v1/v1/chat/completions", Dialect::Chat);
        check("/v1/chat/completions", Dialect::Chat);
        check("/openai/v1/models", Dialect::Chat);
        check("/v1/terse/chat/completions", Dialect::Chat);
        check("/v1/responses/resp_1", Dialect::Responses);
        check("/openai/v1/responses", Dialect::Responses);
    }
}
