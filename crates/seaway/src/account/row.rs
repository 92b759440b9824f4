//! Keys and teams as the store has them.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::cap::Caps;
use crate::config::Glob;

/// How a key became its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// BLAKE3, keyed with what only this gateway has.
    Keyed,
    /// SHA-256, as LiteLLM keeps keys; one that is long and random cannot be guessed by it.
    Sha256,
}

/// By which a key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash {
    pub kind: HashKind,
    pub bytes: [u8; 32],
}

/// What is set for a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeySettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(flatten)]
    pub caps: Arc<Caps>,
    /// The models that it may ask for, by patterns; none named: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The upstreams that it may use; none named: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<String>,
    /// Until when it lets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The model that is asked instead, near a cap and at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill: Option<String>,
}

impl KeySettings {
    pub fn may_ask(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| Glob(glob.clone()).matches(model))
    }

    pub fn may_use(&self, upstream: &str) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|name| name == upstream)
    }
}

/// A key, without the key. There may be a hundred thousand, of which many have the same settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub name: Arc<str>,
    /// None for a key of the configuration, whose secret is there.
    pub hash: Option<KeyHash>,
    /// What it was before it was replaced, and how long that lets in.
    pub old: Option<Box<(KeyHash, Timestamp)>>,
    pub settings: Arc<KeySettings>,
    pub created: Timestamp,
    pub revoked: Option<Timestamp>,
}

impl KeyRow {
    /// Why it no longer lets in, if it does not.
    pub fn past(&self, now: Timestamp) -> Option<String> {
        let name = &self.name;
        if let Some(at) = self.revoked {
            return Some(format!("the key `{name}` was revoked at {}", second(at)));
        }
        let expired = self.settings.expires.filter(|at| *at <= now)?;
        Some(format!(
            "the key `{name}` has expired at {}; ask the gateway's owner for a new one",
            second(expired)
        ))
    }

    /// By what it is known.
    pub fn hashes(&self) -> impl Iterator<Item = &KeyHash> {
        self.hash.iter().chain(self.old.as_ref().map(|old| &old.0))
    }
}

/// A time, to the second.
fn second(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%dT%H:%M:%SZ")
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRow {
    pub name: String,
    pub caps: Arc<Caps>,
    pub created: Timestamp,
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    Key,
    Team,
}

impl Whose {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
        }
    }
}

/// What was spent on a day, or before what is told by days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedRow {
    pub whose: Whose,
    pub name: String,
    pub day: Date,
    /// In micro-dollars.
    pub spent: u64,
}
