//! Thinking, and what Claude made of a long conversation, on its way to a client and back, word for word.
//!
//! What the client gets is not secret, only sealed: it can be told whether it came back as it was. The thinking has a
//! signature of its own, which the API checks.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::json::Tag;

/// How what we sealed begins.
const MARK: &str = "seaway1.";
/// How much of the hash is kept.
const HASH: usize = 12;

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    block: &'a RawValue,
}

/// What was sealed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Who thought it; empty where the upstream did not say.
    pub model: String,
    /// A block of Messages, as it was.
    pub block: String,
    compaction: bool,
}

impl Opened {
    /// True for thinking; the rest is what Claude made of a long conversation.
    pub(crate) fn is_thought(&self) -> bool {
        !self.compaction
    }
}

/// Seals a block that `model` thought. The block has to be JSON.
pub(crate) fn seal(model: &str, block: &str) -> String {
    let Ok(block) = serde_json::from_str::<&RawValue>(block) else { return String::new() };
    let text = serde_json::to_string(&Sealed { model: model.into(), block }).unwrap_or_default();
    let hash = Sha256::digest(text.as_bytes());
    format!("{MARK}{}.{}", BASE64.encode(&hash[..HASH]), BASE64.encode(text))
}

/// Opens what we sealed; `None` for anything else, and for what was changed.
pub(crate) fn open(sealed: &str) -> Option<Opened> {
    let (hash, text) = sealed.strip_prefix(MARK)?.split_once('.')?;
    let text = BASE64.decode(text).ok()?;
    let same = BASE64.decode(hash).ok()? == Sha256::digest(&text)[..HASH];
    let opened: Sealed<'_> = serde_json::from_slice(&text).ok().filter(|_| same)?;
    let tag: Tag<'_> = serde_json::from_str(opened.block.get()).ok()?;
    let compaction = tag.kind == "compaction";
    if !compaction && !matches!(&*tag.kind, "thinking" | "redacted_thinking") {
        return None;
    }
    Some(Opened {
        model: opened.model.into_owned(),
        block: opened.block.get().to_owned(),
        compaction,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_comes_back_as_it_was_or_not_at_all() {
        let block = r#"{"type":"thinking", "thinking":"gr\u00fc\u00df","signature":"s==","n":1.0}"#;
        let sealed = seal("m", block);
        assert_eq!(
            open(&sealed),
            Some(Opened { model: "m".into(), block: block.into(), compaction: false })
        );
        for at in [MARK.len() + 1, sealed.len() / 2, sealed.len() - 1] {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&String::from_utf8(other).unwrap()), None);
        }
        for foreign in ["", "gAAAAABo", "seaway1.", "seaway1.x.y"] {
            assert_eq!(open(foreign), None);
        }
    }
}
