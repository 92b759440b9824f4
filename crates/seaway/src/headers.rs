//! Which headers pass, in both directions.
//!
//! Everything passes but what belongs to one connection, what we answer for
//! ourselves, and credentials that were meant for us.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::auth::Keyring;

/// Said to upstreams, after the client's own name.
pub const USER_AGENT: &str = concat!("seaway/", env!("CARGO_PKG_VERSION"));

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that may carry a credential of the client's.
pub static CARRIERS: [HeaderName; 3] = [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// Returns what of a client's headers goes upstream.
///
/// No local key does, whatever header it is in. With `passthrough` the client's own
/// credential stays where it was.
#[must_use]
pub fn to_upstream(client: &HeaderMap, keyring: &Keyring, passthrough: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(client.len() + 4);
    let named = named_by_connection(client);
    for (name, value) in client {
        let ours = [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::ACCEPT_ENCODING, header::COOKIE, header::ORIGIN, header::REFERER].contains(name);
        let carrier = CARRIERS.contains(name);
        let local = name.as_str().starts_with("seaway-") || keyring.holds(value);
        let kept = !ours && !HOP_BY_HOP.contains(name) && !named.contains(name) && !local && (!carrier || passthrough);
        if kept {
            out.append(name, value.clone());
        }
    }
    out.insert(header::USER_AGENT, signed(client.get(header::USER_AGENT).filter(|name| !keyring.holds(name))));
    out
}

fn signed(client: Option<&HeaderValue>) -> HeaderValue {
    let mut text = client.map(HeaderValue::as_bytes).unwrap_or_default().to_vec();
    if !text.is_empty() {
        text.push(b' ');
    }
    text.extend_from_slice(USER_AGENT.as_bytes());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(USER_AGENT))
}

/// Returns what of an upstream's headers goes to the client. `simulated`: it is our own.
#[must_use]
pub fn to_client(upstream: &HeaderMap, simulated: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(upstream.len() + 4);
    let named = named_by_connection(upstream);
    for (name, value) in upstream {
        let ours = [header::CONTENT_LENGTH, header::SERVER, header::DATE, header::SET_COOKIE, header::ALT_SVC].contains(name);
        // Nobody but us speaks in our name.
        let posing = !simulated && name.as_str().starts_with("seaway-");
        if !ours && !posing && !HOP_BY_HOP.contains(name) && !named.contains(name) {
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
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
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
    fn a_passed_credential_is_the_clients_own_never_ours() {
        let keyring = Keyring::of([("default", "TOK")]);
        let out = to_upstream(&map(&[("x-api-key", "TOK"), ("authorization", "Bearer THEIRS")]), &keyring, true);
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
                ("connection", "x-a"),
                ("x-a", "1"),
                ("seaway-note", "n"),
            ]),
            false,
        );
        assert_eq!(names(&out), ["request-id", "anthropic-ratelimit-requests-limit", "retry-after", "content-type", "x-should-retry"]);
    }
}
