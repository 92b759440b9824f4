//! What is asked of a key or a team, and what it makes of them.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer};

use super::{KeyHash, KeyRow, KeySettings, TeamRow};
use crate::cap::{Budget, Caps};
use crate::config::RESERVED_CALLERS;

/// A change that cannot be made, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// What is asked for is wrong.
    #[error("{0}")]
    Wrong(String),
    /// There is none.
    #[error("{0}")]
    Unknown(String),
    /// There is one already.
    #[error("{0}")]
    Taken(String),
}

/// What a change makes of a row that is there, or is not.
pub type RowEdit<T> = Box<dyn FnOnce(Option<T>) -> Result<T, ChangeError> + Send>;

/// What is to be another for a key: what is missing stays, what is null is no more.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyPatch {
    pub team: Wish<String>,
    pub budgets: Wish<Vec<String>>,
    pub rpm: Wish<u32>,
    pub tpm: Wish<u32>,
    pub concurrent: Wish<u32>,
    pub models: Wish<Vec<String>>,
    pub upstreams: Wish<Vec<String>>,
    /// `90d`, or a time (`2027-01-01T00:00:00Z`).
    pub expires: Wish<String>,
    pub spill: Wish<String>,
}

/// What is to be another for a team.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeamPatch {
    pub budgets: Wish<Vec<String>>,
    pub rpm: Wish<u32>,
    pub tpm: Wish<u32>,
    pub concurrent: Wish<u32>,
}

/// What is asked of one setting: null is told from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish<T> {
    /// It is not named.
    #[default]
    Stays,
    Is(T),
    /// It is to be no more.
    Gone,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Wish<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Gone, Self::Is))
    }
}

impl<T> Wish<T> {
    /// Puts what was named in place.
    fn put(self, place: &mut Option<T>) {
        match self {
            Self::Stays => {}
            Self::Is(value) => *place = Some(value),
            Self::Gone => *place = None,
        }
    }

    /// What was named; none where it was not, or is to be no more.
    pub const fn named(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Stays | Self::Gone => None,
        }
    }
}

impl TeamPatch {
    fn apply(self, caps: &mut Caps) -> Result<(), ChangeError> {
        match &self.budgets {
            Wish::Stays => {}
            Wish::Is(budgets) => caps.budgets = read_budgets(budgets)?,
            Wish::Gone => caps.budgets.clear(),
        }
        for (name, limit) in [("rpm", self.rpm), ("tpm", self.tpm), ("concurrent", self.concurrent)]
        {
            if limit == Wish::Is(0) {
                let why = format!(
                    "{name}: 0 would let nothing through; leave it out, or name a number above"
                );
                return Err(ChangeError::Wrong(why));
            }
        }
        self.rpm.put(&mut caps.rpm);
        self.tpm.put(&mut caps.tpm);
        self.concurrent.put(&mut caps.concurrent);
        Ok(())
    }
}

fn read_budgets(texts: &[String]) -> Result<Vec<Budget>, ChangeError> {
    let mut budgets: Vec<Budget> = Vec::new();
    for text in texts {
        let budget: Budget = text.parse().map_err(|error: crate::cap::NoBudget| {
            ChangeError::Wrong(format!("budgets: {error}"))
        })?;
        if let Some(other) = budgets.iter().find(|other| other.period == budget.period) {
            let why = format!("budgets: `{other}` and `{budget}` are for the same time; name one");
            return Err(ChangeError::Wrong(why));
        }
        budgets.push(budget);
    }
    Ok(budgets)
}

impl KeyPatch {
    fn apply(self, settings: &mut KeySettings, now: Timestamp) -> Result<(), ChangeError> {
        let Self { team, budgets, rpm, tpm, concurrent, models, upstreams, expires, spill } = self;
        TeamPatch { budgets, rpm, tpm, concurrent }.apply(Arc::make_mut(&mut settings.caps))?;
        team.put(&mut settings.team);
        if spill.named().is_some_and(|model| model.trim().is_empty()) {
            return Err(ChangeError::Wrong("spill: an empty name is none".into()));
        }
        spill.put(&mut settings.spill);
        for (name, place, named) in [
            ("models", &mut settings.models, models),
            ("upstreams", &mut settings.upstreams, upstreams),
        ] {
            match named {
                Wish::Stays => continue,
                Wish::Is(named) => *place = named,
                Wish::Gone => place.clear(),
            }
            if place.iter().any(String::is_empty) {
                return Err(ChangeError::Wrong(format!("{name}: an empty name is none")));
            }
        }
        match expires {
            Wish::Stays => {}
            Wish::Is(text) => settings.expires = Some(until(&text, now)?),
            Wish::Gone => settings.expires = None,
        }
        Ok(())
    }
}

/// Reads `90d` from now on, or a time.
pub(super) fn until(text: &str, now: Timestamp) -> Result<Timestamp, ChangeError> {
    let wrong = || {
        let why = format!(
            "`{text}` is no time to come; write how long (`90d`, `12h`) or until when (`2027-01-01T00:00:00Z`)"
        );
        ChangeError::Wrong(why)
    };
    let span = text.parse::<Span>().ok();
    let at =
        span.and_then(|span| Some(now.to_zoned(TimeZone::UTC).checked_add(span).ok()?.timestamp()));
    let at = at.or_else(|| text.parse().ok()).ok_or_else(wrong)?;
    if at <= now { Err(wrong()) } else { Ok(at) }
}

/// Checks the name of a new key or team.
fn check_name(name: &str) -> Result<(), ChangeError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if RESERVED_CALLERS.contains(&name) || name == "default" {
        return Err(ChangeError::Wrong(format!(
            "the name `{name}` is the gateway's own; choose another"
        )));
    }
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with(['.', '-'])
    {
        let why = format!("`{name}` is no name; use up to 64 letters, digits and any of `._@-`");
        return Err(ChangeError::Wrong(why));
    }
    Ok(())
}

/// Makes a new key. `configured`: the configuration has one of that name.
pub fn create(
    name: &str,
    hash: KeyHash,
    patch: KeyPatch,
    configured: bool,
    now: Timestamp,
) -> RowEdit<KeyRow> {
    let name = name.to_owned();
    Box::new(move |before| {
        check_name(&name)?;
        if let Some(before) = before {
            let how = if before.revoked.is_some() {
                "was revoked; its name stays with what it spent, so choose another"
            } else {
                "is there already; `seaway key set` changes it"
            };
            return Err(ChangeError::Taken(format!("the key `{name}` {how}")));
        }
        if configured {
            let why = format!(
                "the configuration has a key `{name}`; choose another name, or limit that one with `seaway key set {name}`"
            );
            return Err(ChangeError::Taken(why));
        }
        let mut settings = KeySettings::default();
        patch.apply(&mut settings, now)?;
        let (name, settings) = (name.into(), Arc::new(settings));
        Ok(KeyRow { name, hash: Some(hash), old: None, settings, created: now, revoked: None })
    })
}

fn unknown(name: &str) -> ChangeError {
    ChangeError::Unknown(format!("there is no key `{name}`; `seaway key list` names them"))
}

fn revoked(name: &str) -> ChangeError {
    ChangeError::Wrong(format!(
        "the key `{name}` was revoked; make another with `seaway key create`"
    ))
}

/// Changes what is set for a key. One of the configuration gets its row here.
pub fn set(name: &str, patch: KeyPatch, configured: bool, now: Timestamp) -> RowEdit<KeyRow> {
    let name = name.to_owned();
    Box::new(move |before| {
        let mut row = match before {
            Some(row) if row.revoked.is_some() => return Err(revoked(&name)),
            Some(row) => row,
            None if configured => KeyRow {
                name: name.into(),
                hash: None,
                old: None,
                settings: Arc::default(),
                created: now,
                revoked: None,
            },
            None => return Err(unknown(&name)),
        };
        patch.apply(Arc::make_mut(&mut row.settings), now)?;
        Ok(row)
    })
}

/// Takes a key back, for good.
pub fn revoke(name: &str, now: Timestamp) -> RowEdit<KeyRow> {
    let name = name.to_owned();
    Box::new(move |before| match before {
        Some(row) if row.hash.is_none() => Err(ChangeError::Wrong(format!(
            "the key `{name}` is set in the configuration; take it out there"
        ))),
        Some(row) if row.revoked.is_some() => Err(revoked(&name)),
        Some(row) => Ok(KeyRow { revoked: Some(now), ..row }),
        None => Err(unknown(&name)),
    })
}

/// Puts another secret in the place of a key's, which lets in for so long still.
pub fn replace(name: &str, hash: KeyHash, grace: &str, now: Timestamp) -> RowEdit<KeyRow> {
    let (name, grace) = (name.to_owned(), grace.to_owned());
    Box::new(move |before| match before {
        Some(row) if row.hash.is_none() => Err(ChangeError::Wrong(format!(
            "the key `{name}` is set in the configuration; change it there"
        ))),
        Some(row) if row.revoked.is_some() => Err(revoked(&name)),
        Some(row) => {
            let until =
                if matches!(grace.as_str(), "0" | "0s") { now } else { until(&grace, now)? };
            let waits = row.old.as_ref().map(|old| old.1).filter(|until| *until > now);
            if let Some(before) = waits
                && until > now
            {
                let why = format!(
                    "the key `{name}` was replaced already, and the one before lets in until {before}; a grace of 0 ends both at once"
                );
                return Err(ChangeError::Wrong(why));
            }
            let old = row.hash.map(|hash| Box::new((hash, until)));
            Ok(KeyRow { hash: Some(hash), old, ..row })
        }
        None => Err(unknown(&name)),
    })
}

/// Makes a team, or changes what is set for it.
pub fn set_team(name: &str, patch: TeamPatch, now: Timestamp) -> RowEdit<TeamRow> {
    let name = name.to_owned();
    Box::new(move |before| {
        check_name(&name)?;
        let mut row =
            before.unwrap_or_else(|| TeamRow { name, caps: Arc::default(), created: now });
        patch.apply(Arc::make_mut(&mut row.caps))?;
        Ok(row)
    })
}
