//! Where clients send what they mean: base URLs with `/v1` and without, twice, or with a slash too many. Pure.

use seaway_wire::Dialect;

/// What an address may begin with, before `/v1`.
const PREFIXES: [&str; 5] = ["", "/anthropic", "/openai", "/argoapi", "/api"];

/// What stands below `/v1`, and may be asked without it.
const BELOW: [&str; 9] = [
    "messages",
    "chat",
    "responses",
    "models",
    "completions",
    "embeddings",
    "images",
    "audio",
    "moderations",
];

/// Returns the path that is meant, where it is another than what was sent.
pub(super) fn settled(path: &str) -> Option<String> {
    // What nearly all send.
    if path.starts_with("/v1/")
        && !path[3..].starts_with("/v1/")
        && !path.contains("//")
        && !path.ends_with('/')
    {
        return None;
    }
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let prefix =
        segments.first().is_some_and(|first| PREFIXES.contains(&format!("/{first}").as_str()));
    let at = usize::from(prefix);
    while segments.get(at) == Some(&"v1") && segments.get(at + 1) == Some(&"v1") {
        segments.remove(at);
    }
    if segments.get(at).is_some_and(|segment| BELOW.contains(segment)) {
        segments.insert(at, "v1");
    }
    // Our own addresses below `/api` have no version; with one it is another gateway's way to say `/v1`.
    if segments.first() == Some(&"api") && segments.get(1) == Some(&"v1") {
        segments.remove(0);
    }
    let settled = format!("/{}", segments.join("/"));
    (settled != path).then_some(settled)
}

/// What OpenAI's API has and Claude does not, as far as a path tells: how it is called, and what to do instead.
pub(super) fn without_counterpart(path: &str) -> Option<&'static str> {
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty() && !matches!(*segment, "openai" | "argoapi"));
    if segments.next() != Some("v1") {
        return None;
    }
    Some(match (segments.next()?, segments.next()) {
        ("embeddings", _) => {
            "Claude makes no embeddings; ask a provider of embedding models for them"
        }
        ("audio", _) => {
            "Claude neither hears nor speaks; ask a provider of speech models, and send transcripts"
        }
        ("images", _) => "Claude makes no images; it looks at those that stand in a conversation",
        ("videos", _) => "Claude makes no videos",
        ("moderations", _) => {
            "Claude has no endpoint for moderation; ask it in a conversation what you want judged"
        }
        ("completions", _) => {
            "Claude answers conversations; use `/v1/chat/completions`, with the prompt as a user message"
        }
        ("realtime", _) => {
            "Claude has no realtime sessions; use `/v1/chat/completions` or `/v1/responses` with `stream: true`"
        }
        ("responses", Some("compact")) => {
            "Claude compacts a conversation while it answers; send `context_management: [{\"type\": \"compaction\"}]` with `/v1/responses`"
        }
        (
            "fine_tuning" | "assistants" | "threads" | "vector_stores" | "evals" | "uploads"
            | "containers" | "conversations" | "batches",
            _,
        ) => {
            "that is kept by OpenAI, and Claude has nothing for it; batches are at `/v1/messages/batches`, files at `/v1/files`"
        }
        _ => return None,
    })
}

/// Tells the dialect of a path, so that even a 404 is said in the client's language; `None` for a path that says
/// nothing of it.
pub(super) fn dialect_of(path: &str) -> Option<Dialect> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    let vendor = segments.next_if(|segment| matches!(*segment, "openai" | "anthropic"));
    while segments.next_if_eq(&"v1").is_some() {}
    match segments.next() {
        Some("responses" | "conversations") => Some(Dialect::Responses),
        Some("chat" | "completions" | "embeddings" | "images" | "audio" | "moderations") => {
            Some(Dialect::Chat)
        }
        Some("messages" | "files" | "skills") => Some(Dialect::Messages),
        // `/v1/PRESET/chat/completions`
        Some(_) if matches!(segments.peek(), Some(&"chat")) => Some(Dialect::Chat),
        Some(_) if matches!(segments.peek(), Some(&"responses")) => Some(Dialect::Responses),
        Some(_) if matches!(segments.peek(), Some(&"messages")) => Some(Dialect::Messages),
        _ => {
            vendor.map(|vendor| if vendor == "openai" { Dialect::Chat } else { Dialect::Messages })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_settled() {
        let table = [
            ("/v1/messages", None),
            ("/v1/messages/count_tokens", None),
            ("/v1/terse/messages", None),
            ("/v1/models/a/b", None),
            ("/", None),
            ("/health/live", None),
            ("/api/run", None),
            ("/api/hello", None),
            ("/auth/status", None),
            ("/dashboard/live", None),
            ("/v1/v1/messages", Some("/v1/messages")),
            ("/v1/v1/v1/chat/completions", Some("/v1/chat/completions")),
            ("/anthropic/v1/v1/messages", Some("/anthropic/v1/messages")),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/responses", Some("/v1/responses")),
            ("/responses/resp_1", Some("/v1/responses/resp_1")),
            ("/models", Some("/v1/models")),
            ("/models/claude-x", Some("/v1/models/claude-x")),
            ("/messages/count_tokens", Some("/v1/messages/count_tokens")),
            ("/openai/chat/completions", Some("/openai/v1/chat/completions")),
            ("/argoapi/models", Some("/argoapi/v1/models")),
            ("/api/v1/chat/completions", Some("/v1/chat/completions")),
            ("//v1/messages", Some("/v1/messages")),
            ("/v1//chat/completions/", Some("/v1/chat/completions")),
            ("/v1/messages/", Some("/v1/messages")),
            ("/health/", Some("/health")),
        ];
        for (path, expect) in table {
            assert_eq!(settled(path).as_deref(), expect, "{path}");
            assert_eq!(settled(expect.unwrap_or(path)), None, "what is settled stays");
        }
    }

    #[test]
    fn what_claude_has_none_of_is_known() {
        for path in [
            "/v1/embeddings",
            "/openai/v1/audio/speech",
            "/v1/images/generations",
            "/v1/responses/compact",
            "/v1/batches",
        ] {
            assert!(without_counterpart(path).is_some(), "{path}");
        }
        for path in
            ["/v1/skills", "/v1/messages/batches", "/v1/responses/resp_1", "/embeddings", "/v1"]
        {
            assert!(without_counterpart(path).is_none(), "{path}");
        }
    }

    #[track_caller]
    fn dialect(path: &str, expect: impl Into<Option<Dialect>>) {
        assert_eq!(dialect_of(path), expect.into(), "{path}");
    }

    #[test]
    fn a_path_tells_its_dialect() {
        dialect("/v1/messages", Dialect::Messages);
        dialect("/anthropic/v1/messages", Dialect::Messages);
        dialect("/v1/messages/batches/x", Dialect::Messages);
        dialect("/nowhere", None);
        dialect("/", None);
        dialect("/v1/models", None);
        dialect("/v1/terse/messages", Dialect::Messages);
        dialect("/anthropic/v1/models", Dialect::Messages);
        dialect("/v1/v1/chat/completions", Dialect::Chat);
        dialect("/v1/chat/completions", Dialect::Chat);
        dialect("/openai/v1/models", Dialect::Chat);
        dialect("/v1/terse/chat/completions", Dialect::Chat);
        dialect("/v1/responses/resp_1", Dialect::Responses);
        dialect("/openai/v1/responses", Dialect::Responses);
    }
}
