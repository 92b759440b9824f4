//! The cookie of a dashboard that was signed in to: who, until when, and a proof that only who has the key can make.
//!
//! Nothing is remembered here, so a restart signs nobody out whose key is known itself; a key that is rotated signs out whoever had it.

use std::sync::LazyLock;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};

use crate::auth::{Caller, Keyring};
use crate::config::KeySecret;

/// In seconds.
const AGE: i64 = 30 * 86_400;
const PLACE: &str = "Path=/dashboard; HttpOnly; SameSite=Strict";
const USE: &str = "seaway dashboard cookie, version 1";

/// What only this process knows. Where keys are known by hashes, a restart signs everybody out.
static SALT: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut salt = [0; 32];
    aws_lc_rs::rand::fill(&mut salt).expect("the system has randomness");
    salt
});

/// Cookies know no port, and a machine may have several gateways: the name tells them apart.
fn name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let port =
        host.rsplit_once(':').map_or("", |(_, port)| port).chars().filter(char::is_ascii_digit);
    format!("seaway-{}", port.collect::<String>())
}

/// The header that makes it go.
pub fn gone(headers: &HeaderMap) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{}=; {PLACE}; Max-Age=0", name(headers))).ok()
}

fn proof(caller: &str, until: i64, secret: &KeySecret) -> blake3::Hash {
    let own = match secret.plain() {
        Some(_) => blake3::derive_key(USE, secret.material()),
        // Who reads the settings has the hash, and must not be able to sign in by it: this process alone can.
        None => *blake3::keyed_hash(&SALT, secret.material()).as_bytes(),
    };
    blake3::keyed_hash(&own, format!("{until} {caller}").as_bytes())
}

/// The header that sets it. `now` is in seconds since 1970.
pub fn made(
    headers: &HeaderMap,
    caller: &Caller,
    secret: &KeySecret,
    now: i64,
    secure: bool,
) -> Option<HeaderValue> {
    let until = now + AGE;
    let secure = if secure { "; Secure" } else { "" };
    let value = format!(
        "{}={until}.{}; {PLACE}; Max-Age={AGE}{secure}",
        name(headers),
        proof(&caller.0, until, secret).to_hex()
    );
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whom a request's cookie proves to be there.
pub fn caller(headers: &HeaderMap, keyring: &Keyring, now: i64) -> Option<Caller> {
    let name = name(headers);
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let values =
        cookies.filter_map(|cookie| cookie.trim().strip_prefix(name.as_str())?.strip_prefix('='));
    values.filter_map(|value| value.split_once('.')).find_map(|(until, given)| {
        let until: i64 = until.parse().ok().filter(|until| *until > now)?;
        let given = blake3::Hash::from_hex(given).ok()?;
        // Hashes are compared in constant time.
        keyring
            .iter()
            .find(|(name, secret)| proof(name, until, secret) == given)
            .map(|(name, _)| Caller(name.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_proves_its_caller_until_its_time_is_over_or_the_key_is_another() {
        let keyring = Keyring::of([("laptop", "k1"), ("phone", "k2")]);
        let mut host = HeaderMap::new();
        host.insert(HOST, HeaderValue::from_static("127.0.0.1:7329"));
        let made =
            made(&host, &Caller("phone".into()), keyring.secret_of("phone").unwrap(), 100, true)
                .unwrap();
        let made = made.to_str().unwrap();
        assert!(
            made.contains("HttpOnly")
                && made.contains("SameSite=Strict")
                && made.contains("Secure")
        );
        let value = made.split(';').next().unwrap();
        let check = |value: &str, keyring: &Keyring, now: i64, expect: Option<&str>| {
            let mut headers = host.clone();
            headers.insert(COOKIE, HeaderValue::from_str(value).unwrap());
            assert_eq!(
                caller(&headers, keyring, now).map(|caller| caller.0.to_string()).as_deref(),
                expect,
                "{value} at {now}"
            );
        };
        check(value, &keyring, 101, Some("phone"));
        check(&format!("theme=dark; {value}"), &keyring, 101, Some("phone"));
        check(value, &keyring, 100 + AGE, None);
        check(&value.replace("seaway-7329=2", "seaway-7329=3"), &keyring, 101, None);
        check(&value[..value.len() - 1], &keyring, 101, None);
        check(value, &Keyring::of([("laptop", "k1"), ("phone", "k3")]), 101, None);
        check(value, &Keyring::of([("other", "k2")]), 101, None);
        check(&value.replace("7329", "7330"), &keyring, 101, None);
        check("seaway-7329=", &keyring, 101, None);
    }
}
