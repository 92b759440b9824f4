//! Which headers pass, in both directions.
//!
//! Everything passes but what belongs to one connection, what we answer for
//! ourselves, and credentials that were meant for us.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::auth::{CARRIERS, Keyring};
use crate::record::Asker;

/// Said to upstreams, after the client's own name.
pub const USER_AGENT: &str = concat!("seaway/", env!("CARGO_PKG_VERSION"));

/// True for headers that belong to one connection (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Returns what of a client's headers goes upstream.
///
/// No local key does, whatever header it is in. With `passthrough` the client's own
/// credential stays where it was.
pub fn to_upstream(client: &HeaderMap, keyring: &Keyring, passthrough: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(client.len() + 4);
    let named = named_by_connection(client);
    for (name, value) in client {
        let text = name.as_str();
        let ours = matches!(
            text,
            "host"
                | "content-length"
                | "expect"
                | "accept-encoding"
                | "cookie"
                | "origin"
                | "referer"
        );
        let kept = !ours
            && !is_hop_by_hop(text)
            && !text.starts_with("seaway-")
            && !named.contains(name)
            && (passthrough || !CARRIERS.contains(name))
            && !keyring.holds(value);
        if kept {
            out.append(name, value.clone());
        }
    }
    out.insert(
        header::USER_AGENT,
        signed(client.get(header::USER_AGENT).filter(|name| !keyring.holds(name))),
    );
    out
}

/// Who asks and for what, by what Claude Code and Codex say of themselves in headers, and every program by its name.
pub fn asker(client: &HeaderMap) -> Asker {
    /// Characters that are kept of each.
    const LONGEST: usize = 128;
    let text = |value: &HeaderValue| {
        let text = value.to_str().ok()?.trim();
        (!text.is_empty()).then(|| text.chars().take(LONGEST).collect::<String>())
    };
    let (mut asker, mut session_id, mut thread_id) = (Asker::default(), None, None);
    // One look at what there is, in place of one for each that there could be.
    for (name, value) in client {
        let kept = match name.as_str() {
            "user-agent" => {
                let program = text(value);
                let program = program.as_deref().and_then(|name| name.split_whitespace().next());
                if let Some(program) = program {
                    let (name, version) = program.split_once('/').unwrap_or((program, ""));
                    asker.client.get_or_insert_with(|| name.to_owned());
                    asker.version = Some(version.to_owned()).filter(|version| !version.is_empty());
                }
                continue;
            }
            "originator" => {
                asker.client = text(value).or(asker.client);
                continue;
            }
            "x-claude-code-session-id" => &mut asker.session,
            "session-id" => &mut session_id,
            "thread-id" => &mut thread_id,
            "x-claude-code-agent-id" => &mut asker.agent,
            "x-claude-code-parent-agent-id" => &mut asker.parent_agent,
            "x-claude-code-prompt-id" => &mut asker.prompt,
            "x-claude-code-request-class" => &mut asker.class,
            _ => continue,
        };
        // Of one that is said twice, the first counts.
        if kept.is_none() {
            *kept = text(value);
        }
    }
    asker.session = asker.session.or(session_id).or(thread_id);
    asker
}

fn signed(client: Option<&HeaderValue>) -> HeaderValue {
    let mut text = client.map(HeaderValue::as_bytes).unwrap_or_default().to_vec();
    if !text.is_empty() {
        text.push(b' ');
    }
    text.extend_from_slice(USER_AGENT.as_bytes());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(USER_AGENT))
}

/// Returns what of an OpenAI client's headers goes to an upstream that is asked in Messages.
///
/// What speaks of OpenAI's API stays behind; `betas` are announced beside the client's own.
pub fn translated_to_upstream(
    client: &HeaderMap,
    keyring: &Keyring,
    passthrough: bool,
    betas: &[String],
) -> HeaderMap {
    let mut out = to_upstream(client, keyring, passthrough);
    let foreign: Vec<HeaderName> = out
        .keys()
        .filter(|name| {
            ["openai-", "x-stainless-"].iter().any(|start| name.as_str().starts_with(start))
        })
        .cloned()
        .collect();
    for name in foreign {
        out.remove(name);
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The later one refuses what the translation has to send to older models.
    out.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    if let Ok(value) = HeaderValue::from_str(&betas.join(","))
        && !betas.is_empty()
    {
        out.append("anthropic-beta", value);
    }
    out
}

/// What OpenAI's SDKs call Anthropic's rate limits.
const RATE_LIMITS: [(&str, &str); 6] = [
    ("anthropic-ratelimit-requests-limit", "x-ratelimit-limit-requests"),
    ("anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining-requests"),
    ("anthropic-ratelimit-requests-reset", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-tokens-limit", "x-ratelimit-limit-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "x-ratelimit-remaining-tokens"),
    ("anthropic-ratelimit-tokens-reset", "x-ratelimit-reset-tokens"),
];

/// Adds rate limits under the names that OpenAI's clients read.
pub fn add_openai_limits(headers: &mut HeaderMap, now: jiff::Timestamp) {
    for (anthropic, openai) in RATE_LIMITS {
        let Some(value) = headers.get(anthropic).cloned() else { continue };
        let value = if openai.contains("reset") {
            value.to_str().ok().and_then(|at| until(at, now))
        } else {
            Some(value)
        };
        if let Some(value) = value {
            headers.insert(openai, value);
        }
    }
}

/// A point in time as the time that is left, the way OpenAI writes it: `6m0s`, `20ms`.
fn until(at: &str, now: jiff::Timestamp) -> Option<HeaderValue> {
    let at: jiff::Timestamp = at.parse().ok()?;
    let left = at.as_millisecond().saturating_sub(now.as_millisecond()).max(0);
    let (hours, minutes, seconds) = (left / 3_600_000, left / 60_000 % 60, left / 1000 % 60);
    let text = match (hours, minutes) {
        (0, 0) if left < 1000 => format!("{left}ms"),
        (0, 0) => format!("{}s", f64::from(i32::try_from(left).unwrap_or(i32::MAX)) / 1000.0),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    };
    HeaderValue::from_str(&text).ok()
}

/// Returns what of an upstream's headers goes to the client. `simulated`: it is our own.
pub fn to_client(upstream: &HeaderMap, simulated: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(upstream.len() + 4);
    let named = named_by_connection(upstream);
    for (name, value) in upstream {
        let text = name.as_str();
        // The last one speaks of its own address to browsers, and we of ours.
        let ours = matches!(
            text,
            "content-length"
                | "server"
                | "date"
                | "set-cookie"
                | "alt-svc"
                | "strict-transport-security"
        ) || text.starts_with("access-control-")
            || CARRIERS.contains(name);
        // Nobody but us speaks in our name.
        let posing = !simulated && text.starts_with("seaway-");
        if !ours && !posing && !is_hop_by_hop(text) && !named.contains(name) {
            out.append(name, value.clone());
        }
    }
    out
}

/// Headers that `Connection` declares to be of this connection only.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn what_is_the_clients_goes_upstream() {
        let keyring = Keyring::of([("default", "TOK")]);
        let client = map(&[
            ("anthropic-beta", "a,b"),
            ("Anthropic-Version", "1"),
            ("x-new", "y"),
            ("user-agent", "c/1"),
            ("accept", "*/*"),
            ("X-Api-Key", "TOK"),
            ("authorization", "bearer TOK"),
            ("api-key", "other"),
            ("x-sneaky", "Bearer TOK"),
            ("x-list", "a, TOK"),
            ("x-basic", "Basic\tTOK"),
            ("seaway-preset", "p"),
            ("host", "h"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("cookie", "c"),
            ("te", "trailers"),
            ("expect", "100-continue"),
        ]);
        let out = to_upstream(&client, &keyring, false);
        let mut kept = names(&out);
        kept.sort_unstable();
        assert_eq!(kept, ["accept", "anthropic-beta", "anthropic-version", "user-agent", "x-new"]);
        assert_eq!(out["user-agent"], format!("c/1 {USER_AGENT}"));
    }

    #[test]
    fn what_speaks_of_openai_stays_behind() {
        let client = map(&[
            ("authorization", "Bearer TOK"),
            ("openai-organization", "o"),
            ("x-stainless-os", "Linux"),
            ("anthropic-version", "2026-10-21"),
            ("anthropic-beta", "a"),
            ("x-new", "y"),
        ]);
        let out = translated_to_upstream(
            &client,
            &Keyring::of([("default", "TOK")]),
            false,
            &["b".into(), "c".into()],
        );
        let mut kept = names(&out);
        kept.sort_unstable();
        assert_eq!(
            kept,
            ["anthropic-beta", "anthropic-version", "content-type", "user-agent", "x-new"]
        );
        assert_eq!(out["anthropic-version"], "2023-06-01");
        assert_eq!(out.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a", "b,c"]);
    }

    #[test]
    fn limits_have_openais_names_and_times() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let reset = |at: &str| {
            let mut headers = map(&[
                ("anthropic-ratelimit-tokens-reset", at),
                ("anthropic-ratelimit-requests-limit", "50"),
            ]);
            add_openai_limits(&mut headers, now);
            assert_eq!(headers["x-ratelimit-limit-requests"], "50");
            headers.get("x-ratelimit-reset-tokens").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(reset("2026-01-01T00:06:00Z").as_deref(), Some("6m0s"));
        assert_eq!(reset("2026-01-01T00:00:00.02Z").as_deref(), Some("20ms"));
        assert_eq!(reset("2026-01-01T00:00:01.5Z").as_deref(), Some("1.5s"));
        assert_eq!(reset("2026-01-01T02:03:04Z").as_deref(), Some("2h3m4s"));
        assert_eq!(reset("2025-01-01T00:00:00Z").as_deref(), Some("0ms"));
        assert_eq!(reset("soon"), None);
    }

    #[test]
    fn a_passed_credential_is_the_clients_own_never_ours() {
        let keyring = Keyring::of([("default", "TOK")]);
        let out = to_upstream(
            &map(&[("x-api-key", "TOK"), ("authorization", "Bearer THEIRS")]),
            &keyring,
            true,
        );
        assert_eq!(out["authorization"], "Bearer THEIRS");
        assert!(!out.contains_key("x-api-key"));
    }

    #[test]
    fn what_is_the_connections_stays_behind() {
        let out = to_client(
            &map(&[
                ("request-id", "r"),
                ("anthropic-ratelimit-requests-limit", "1"),
                ("retry-after", "7"),
                ("content-type", "t"),
                ("x-should-retry", "true"),
                ("content-length", "1"),
                ("transfer-encoding", "chunked"),
                ("server", "s"),
                ("date", "d"),
                ("set-cookie", "c"),
                ("strict-transport-security", "max-age=1"),
                ("access-control-allow-origin", "*"),
                ("access-control-expose-headers", "x"),
                ("x-api-key", "echoed"),
                ("authorization", "Bearer echoed"),
                ("connection", "x-a"),
                ("x-a", "1"),
                ("seaway-note", "n"),
            ]),
            false,
        );
        assert_eq!(
            names(&out),
            [
                "request-id",
                "anthropic-ratelimit-requests-limit",
                "retry-after",
                "content-type",
                "x-should-retry"
            ]
        );
    }
}
