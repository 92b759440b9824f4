//! The secret behind a local key: the key itself, or the hash that tells who has it.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What stands before a hash in the configuration.
const HASHED: &str = "sha256:";

/// What a client's key is compared with.
#[derive(Debug, Clone)]
pub enum KeySecret {
    Plain(SecretString),
    /// SHA-256 of the key. Nobody can show or send the key by it, nor guess one that is random and long.
    Hashed([u8; 32]),
}

/// It begins like a hash and is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected `sha256:` and the 64 hexadecimal digits of the key's SHA-256, as `seaway key hash` prints it"
)]
pub struct NoHash;

impl KeySecret {
    /// Reads a key, or `sha256:` and its hash.
    ///
    /// # Errors
    ///
    /// [`NoHash`] for a hash that is none.
    pub fn parse(text: &str) -> Result<Self, NoHash> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(HASHED) else {
            return Ok(Self::Plain(text.to_owned().into()));
        };
        let hash = blake3::Hash::from_hex(digits.trim()).map_err(|_| NoHash)?;
        Ok(Self::Hashed(*hash.as_bytes()))
    }

    /// How the configuration has the hash of a key.
    pub fn hashed(key: &str) -> String {
        let digits: String =
            sha256(key.trim().as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        format!("{HASHED}{digits}")
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(key) if key.expose_secret().is_empty())
    }

    /// The key, for who is to send it.
    pub const fn plain(&self) -> Option<&SecretString> {
        match self {
            Self::Plain(key) => Some(key),
            Self::Hashed(_) => None,
        }
    }

    /// What only this key or its hash gives, for proofs made by the gateway.
    pub fn material(&self) -> &[u8] {
        match self {
            Self::Plain(key) => key.expose_secret().as_bytes(),
            Self::Hashed(hash) => hash,
        }
    }

    /// Tells whether this is the key. The time that it takes does not tell how close it came.
    pub fn is(&self, sent: &PresentedKey<'_>) -> bool {
        match self {
            Self::Plain(key) => key.expose_secret().as_bytes().ct_eq(sent.text).into(),
            Self::Hashed(hash) => hash.ct_eq(sent.hash()).into(),
        }
    }
}

/// What may be a key, hashed at most once.
#[derive(Debug)]
pub struct PresentedKey<'a> {
    text: &'a [u8],
    hash: std::cell::OnceCell<[u8; 32]>,
}

impl<'a> PresentedKey<'a> {
    pub const fn of(text: &'a [u8]) -> Self {
        Self { text, hash: std::cell::OnceCell::new() }
    }

    fn hash(&self) -> &[u8; 32] {
        self.hash.get_or_init(|| sha256(self.text))
    }
}

fn sha256(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`, by FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_is_known_by_itself_or_by_its_hash() {
        let hashed = KeySecret::parse(&format!(" sha256:{ABC}\n")).unwrap();
        let plain = KeySecret::parse(" abc ").unwrap();
        for (sent, expect) in [("abc", true), ("abd", false), ("", false), (ABC, false)] {
            let sent = PresentedKey::of(sent.as_bytes());
            assert_eq!([hashed.is(&sent), plain.is(&sent)], [expect; 2], "{sent:?}");
        }
        assert_eq!(KeySecret::hashed("abc\n"), format!("sha256:{ABC}"));
        assert!(hashed.plain().is_none() && plain.plain().is_some());
        assert!(!format!("{plain:?}").contains("abc"));
        for wrong in ["sha256:", "sha256:00", &format!("sha256:{ABC}0"), "sha256:zz"] {
            assert!(KeySecret::parse(wrong).is_err(), "{wrong}");
        }
    }
}
