//! What differs between HTTP upstreams: the address of a request, what is changed of it, what is signed last, and how
//! the answer is framed.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Uri};
use seaway_wire::Endpoint;

use super::{Call, HttpBody, ReplyBody, Target};
use crate::config::Vendor;

impl Vendor {
    /// Writes where a request goes, below the address that the configuration gives.
    pub(super) fn address(self, base: &Uri, target: &Target, query: Option<&str>) -> Uri {
        let below = match self {
            Self::Anthropic | Self::Messages | Self::Argo => target,
        };
        let prefix = base.path().trim_end_matches('/');
        let path = match query {
            Some(query) => format!("{prefix}{below}?{query}"),
            None => format!("{prefix}{below}"),
        };
        let path = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
        // HTTP/1.1 wants the path alone, HTTP/2 the whole address; hyper writes either from the latter.
        if base.scheme_str() != Some("https") {
            return path;
        }
        let mut parts = base.clone().into_parts();
        parts.path_and_query = path.path_and_query().cloned();
        Uri::from_parts(parts).unwrap_or(path)
    }

    /// Makes of a request what this vendor takes. What is changed for a model or a client is changed before.
    pub(super) fn adapt(self, call: Call) -> Call {
        match self {
            Self::Anthropic | Self::Messages | Self::Argo => call,
        }
    }

    /// Gives an answer the frame in which it goes on: a stream of server-sent events, and all that is none, as it comes.
    pub(super) fn frame(self, body: HttpBody) -> ReplyBody {
        match self {
            Self::Anthropic | Self::Messages | Self::Argo => ReplyBody::Http(body),
        }
    }

    /// Completes the credential of a request, which the headers hold.
    pub(super) fn sign(self, endpoint: Option<Endpoint>, headers: &mut HeaderMap) {
        match self {
            Self::Anthropic | Self::Messages => {}
            // On Responses it wants the key as a bearer token too.
            Self::Argo if endpoint == Some(Endpoint::Responses) => bear(headers),
            Self::Argo => {}
        }
    }
}

/// Says the key as a bearer token too.
fn bear(headers: &mut HeaderMap) {
    let token = headers
        .get("x-api-key")
        .and_then(|key| HeaderValue::from_bytes(&[b"Bearer ", key.as_bytes()].concat()).ok());
    if let Some(mut token) = token {
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_base_with_the_path_below_it() {
        let file = Target::of_path("/v1/files/a%2Fb/content");
        let newer = Target::of_path("/v1/skills/x");
        let cases = [
            ("http://h:1", &file, None, "/v1/files/a%2Fb/content"),
            (
                "http://h:1/argoapi/",
                &newer,
                Some("beta=true&x=%20"),
                "/argoapi/v1/skills/x?beta=true&x=%20",
            ),
            ("https://h/p", &file, Some(""), "https://h/p/v1/files/a%2Fb/content?"),
        ];
        for (base, target, query, expect) in cases {
            let address = Vendor::Messages.address(&base.parse().unwrap(), target, query);
            assert_eq!(address.to_string(), expect);
        }
    }

    #[test]
    fn argo_wants_its_key_twice_on_responses() {
        let signed = |vendor: Vendor, endpoint| {
            let mut headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-api-key"),
                HeaderValue::from_static("me"),
            )]);
            vendor.sign(Some(endpoint), &mut headers);
            headers
                .get(AUTHORIZATION)
                .map(|value| (value.to_str().unwrap().to_owned(), value.is_sensitive()))
        };
        assert_eq!(signed(Vendor::Argo, Endpoint::Responses), Some(("Bearer me".to_owned(), true)));
        assert_eq!(
            (
                signed(Vendor::Argo, Endpoint::Messages),
                signed(Vendor::Messages, Endpoint::Responses)
            ),
            (None, None)
        );
    }
}
