//! Names and ids that Messages would refuse: rewritten on the way up, and back on the way down.
//!
//! Each rewriting is a pure function of the name alone, so that a call and its result, and
//! the same conversation one turn later, agree.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// The longest tool name.
const LONGEST: usize = 64;

/// The names of a request's tools that the client calls otherwise than the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Name>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    upstream: String,
    client: String,
    /// What holds it, in Responses.
    space: Option<String>,
}

impl Names {
    /// Remembers how a tool is called upstream.
    pub(crate) fn add(&mut self, upstream: &str, client: &str, space: Option<&str>) {
        if upstream != client || space.is_some() {
            self.0.push(Name {
                upstream: upstream.to_owned(),
                client: client.to_owned(),
                space: space.map(str::to_owned),
            });
        }
    }

    fn of(&self, upstream: &str) -> Option<&Name> {
        self.0.iter().find(|name| name.upstream == upstream)
    }

    /// The client's name for a tool.
    pub fn client<'n>(&'n self, upstream: &'n str) -> &'n str {
        self.of(upstream).map_or(upstream, |name| &name.client)
    }

    /// The client's namespace for a tool.
    pub fn space(&self, upstream: &str) -> Option<&str> {
        self.of(upstream)?.space.as_deref()
    }
}

/// The name of a tool in a namespace, where there are none.
pub(crate) fn within(space: &str, name: &str) -> String {
    format!("{space}__{name}")
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A tool's name as Messages takes it.
pub(crate) fn tool(name: Cow<'_, str>) -> Cow<'_, str> {
    if is_plain(&name) && name.len() <= LONGEST {
        name
    } else {
        Cow::Owned(rewritten(&name, LONGEST))
    }
}

/// A tool call's id as Messages takes it.
pub(crate) fn call_id(id: Cow<'_, str>) -> Cow<'_, str> {
    if is_plain(&id) { id } else { Cow::Owned(rewritten(&id, LONGEST)) }
}

/// What can stay of a name, and a hash that tells it from its likes.
fn rewritten(name: &str, longest: usize) -> String {
    let hash = hex(&Sha256::digest(name.as_bytes())[..5]);
    let kept = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
    let kept: String = kept.take(longest - hash.len() - 1).collect();
    format!("{kept}_{hash}")
}

/// A user's id as Messages takes it: opaque, and at most 256 characters; else its hash. The API refuses what looks like
/// an e-mail address or a phone number.
pub(crate) fn user_id(id: &str) -> Cow<'_, str> {
    if id.chars().count() <= 256 && is_opaque(id) {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(hex(&Sha256::digest(id.as_bytes())))
    }
}

fn is_opaque(id: &str) -> bool {
    let digits = id.chars().filter(char::is_ascii_digit).count();
    let dialled = (7..=15).contains(&digits)
        && id.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '(' | ')' | '/'));
    !dialled && !id.chars().any(|c| c == '@' || c.is_whitespace())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_name_stays() {
        for name in ["get_weather", "a-B_9", &"n".repeat(64)] {
            assert_eq!(tool(name.into()), name);
        }
        assert_eq!(call_id("i".repeat(99).into()), "i".repeat(99));
    }

    #[test]
    fn a_bad_name_is_rewritten_and_found_again() {
        for name in ["fs.read", "fs:read", "fs read", "größe", &"n".repeat(65), ""] {
            let upstream = tool(name.into());
            assert!(is_plain(&upstream) && upstream.len() <= 64, "{name} → {upstream}");
            assert_eq!(upstream, tool(name.into()));
            let mut names = Names::default();
            names.add(&upstream, name, None);
            assert_eq!(names.client(&upstream), name);
            assert_eq!(names.client("other"), "other");
        }
        assert_ne!(tool("fs.read".into()), tool("fs:read".into()));
        assert_eq!(call_id("call|1".into()), "call_1_c26e9779d7");
    }

    #[test]
    fn a_user_id_that_tells_who_it_is_is_hashed() {
        for plain in
            ["user-17", "550e8400-e29b-41d4-a716-446655440000", "u_123456", "42", "a.b:c|d"]
        {
            assert_eq!(user_id(plain), plain);
        }
        for known in [
            "ada@example.org",
            "+1 (555) 123-4567",
            "+15551234567",
            "555-123-4567",
            "5551234567",
            "Ada Lovelace",
        ] {
            assert_eq!(user_id(known).len(), 64, "{known}");
        }
    }

    #[test]
    fn a_long_user_id_is_hashed() {
        assert_eq!(user_id("ü"), "ü");
        assert_eq!(user_id(&"ü".repeat(256)), "ü".repeat(256));
        assert_eq!(user_id(&"x".repeat(257)).len(), 64);
    }
}
