//! Giving out keys and setting budgets: what the owner asks over HTTP, or by a command while no gateway runs.

mod logins;
mod shown;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::account::{
    Accounts, ChangeError, HashKind, KeyHash, KeyPatch, KeyRow, Pepper, RowEdit, Standing,
    TeamPatch, TeamRow, Whose, create, replace, revoke, set, set_team,
};
use crate::auth::{self, random_key};
use crate::config::{Auth, Config, KeySecret};
use crate::fault::{Fault, FaultKind};
use crate::store::{AccountChange, AuditEvent, ChangedBy, Store};

/// How long a key that was replaced still lets in, if nothing else is said.
pub const GRACE: &str = "24h";

/// How long a change waits for a store that is being opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// What works on keys.
pub struct Admin<'a> {
    pub store: &'a Store,
    pub accounts: &'a Arc<Accounts>,
    pub config: &'a Config,
    /// Who asks, and from where.
    pub who: String,
    pub address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Created {
    name: String,
    /// `sha256:` and the hash of a key that is out already: of another gateway's.
    hash: Option<String>,
    /// What it has spent there, in micro-dollars; it counts as of today.
    #[serde(default)]
    spent_micros: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct NewTeam {
    /// What it has spent at another gateway, in micro-dollars, where it is new here.
    #[serde(default)]
    spent_micros: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Replaced {
    grace: Option<String>,
}

/// Reads what is asked; no body is an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Fault::new(FaultKind::InvalidRequest, error.to_string()))
}

/// Reads members of which each may be missing. What is wrong is told with the one that it is in.
fn read_patch<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    read(body).map_err(|fault: Fault| {
        let members: serde_json::Map<String, Value> =
            serde_json::from_slice(body).unwrap_or_default();
        let wrong = members.into_iter().find_map(|(name, value)| {
            let alone = Value::Object([(name.clone(), value)].into_iter().collect());
            let error = serde_json::from_value::<T>(alone).err()?;
            Some((name, error))
        });
        match wrong {
            Some((name, error)) => {
                Fault::new(FaultKind::InvalidRequest, format!("{name}: {error}")).param(name)
            }
            None => fault,
        }
    })
}

/// Reads `sha256:` and 64 hexadecimal digits.
fn foreign_hash(text: &str) -> Result<KeyHash, Fault> {
    match KeySecret::parse(text) {
        Ok(KeySecret::Hashed(bytes)) => Ok(KeyHash { kind: HashKind::Sha256, bytes }),
        Ok(KeySecret::Plain(_)) | Err(_) => {
            let message = "hash: expected `sha256:` and 64 hexadecimal digits";
            Err(Fault::new(FaultKind::InvalidRequest, message).param("hash"))
        }
    }
}

/// Checks what [`Admin::create_key`] would be asked, as far as that can be told without a store.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_new_key(body: &Value) -> Result<(), Fault> {
    let Created { name, hash, rest, .. } = read(body.to_string().as_bytes())?;
    let patch: KeyPatch = read_patch(Value::Object(rest).to_string().as_bytes())?;
    let none = KeyHash { kind: HashKind::Sha256, bytes: [0; 32] };
    let hash = hash.map_or(Ok(none), |hash| foreign_hash(&hash))?;
    create(&name, hash, patch, false, Timestamp::now())(None)?;
    Ok(())
}

impl From<ChangeError> for Fault {
    fn from(error: ChangeError) -> Self {
        let kind = match &error {
            ChangeError::Wrong(_) | ChangeError::Taken(_) => FaultKind::InvalidRequest,
            ChangeError::Unknown(_) => FaultKind::NotFound,
        };
        Self::new(kind, error.to_string())
    }
}

/// What a caller has left and spent today, and what one of its sessions cost; without a caller, of all.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn own(
    store: &Store,
    accounts: &Arc<Accounts>,
    caller: Option<String>,
    session: Option<String>,
) -> Result<Value, Fault> {
    // What has just ended is on its way.
    let _written = store.flush().await;
    let begun = accounts.begins(accounts.day(Timestamp::now())).unwrap_or_default();
    let standing = caller.as_deref().and_then(|caller| accounts.of(caller));
    let (today, session) = store.own_use(caller.clone(), begun.as_millisecond(), session).await?;
    let mut shown =
        json!({"name": caller, "today_micros": today, "session": session, "budgets": []});
    if let Some(Standing { key, team }) = standing {
        shown["team"] = json!(key.row.settings.team);
        shown["models"] = json!(key.row.settings.models);
        shown["expires"] = json!(key.row.settings.expires);
        shown["budgets"] = shown::budgets(accounts, &key.scope);
        if let Some(team) = team {
            shown["team_budgets"] = shown::budgets(accounts, &team);
        }
    }
    Ok(shown)
}

/// What Claude Code shows of a budget (`GET /api/oauth/usage`): dollars, beside the share that headers of answers tell.
pub fn plan_usage(accounts: &Accounts, caller: &Arc<str>, now: Timestamp) -> Value {
    shown::plan_usage(accounts, caller, now)
}

/// What turns keys into hashes; made with the first of them.
///
/// # Errors
///
/// If it cannot be made, or is gone.
pub fn pepper<'a>(accounts: &'a Accounts, config: &Config) -> Result<&'a Pepper, Fault> {
    if accounts.lacks_pepper() {
        let message = "the file `pepper` is gone from the state folder, by which the keys that were given out are known; put it back";
        return Err(Fault::new(FaultKind::StoreDown, message));
    }
    if accounts.pepper().is_none() {
        let made = auth::pepper(&config.state_dir, config.modes).map_err(|error| {
            let message = "no key can be given out, and nobody signed in: the state folder cannot be written to, or its file `pepper` cannot be read";
            Fault::new(FaultKind::StoreDown, message).because(error)
        })?;
        accounts.set_pepper(Pepper(made));
    }
    accounts.pepper().ok_or_else(|| Fault::new(FaultKind::Internal, "there is no pepper"))
}

impl Admin<'_> {
    fn by(&self) -> ChangedBy {
        ChangedBy { who: self.who.clone(), address: self.address }
    }

    /// True if the configuration has a key of this name.
    fn is_configured(&self, name: &str) -> bool {
        match &self.config.auth {
            Auth::Keys(keys) => keys.iter().any(|(known, _)| known == name),
            Auth::MadeKey | Auth::Open => false,
        }
    }

    /// True for the hash of a key of the configuration.
    fn is_secret(&self, hash: &str) -> bool {
        let Auth::Keys(keys) = &self.config.auth else { return false };
        keys.iter().any(|(_, secret)| match secret.plain() {
            Some(key) => KeySecret::hashed(key.expose_secret()) == hash.trim(),
            None => KeySecret::parse(hash).is_ok_and(|hash| hash.material() == secret.material()),
        })
    }

    fn pepper(&self) -> Result<&Pepper, Fault> {
        pepper(self.accounts, self.config)
    }

    /// Where another gateway keeps the budgets of this store, it is the one to be asked: this one's change would be none there.
    async fn may_change(&self) -> Result<(), Fault> {
        // At the start the store is opened at this moment.
        let _open = tokio::time::timeout(PATIENCE, self.accounts.loaded()).await;
        self.accounts.ready().map_err(|why| {
            Fault::new(
                FaultKind::StoreDown,
                format!("keys cannot be changed here at the moment: {why}"),
            )
        })
    }

    fn new_key() -> Result<String, Fault> {
        random_key().map_err(|error| {
            Fault::new(FaultKind::Internal, "the system has no randomness").because(error)
        })
    }

    async fn change(
        &self,
        event: AuditEvent,
        name: &str,
        edit: RowEdit<KeyRow>,
        spent: Option<(Date, u64)>,
    ) -> Result<KeyRow, Fault> {
        self.may_change().await?;
        // Whose limits are to be known at the next start is awaited by this file.
        self.pepper()?;
        let accounts = self.accounts.clone();
        let done = move |row: &KeyRow| {
            accounts.put(row.clone());
            if let Some((day, spent)) = spent {
                accounts.spend(&row.name, None, day, spent);
            }
        };
        let changed: AccountChange<KeyRow> =
            self.store.change_key(self.by(), event, name.to_owned(), edit, spent, done).await?;
        Ok(changed?)
    }

    fn check_names(&self, patch: &KeyPatch) -> Result<(), Fault> {
        let named = patch.upstreams.named();
        let known: Vec<&str> =
            self.config.upstreams.iter().map(|setting| &*setting.name.0).collect();
        for name in named.into_iter().flatten() {
            if !known.contains(&name.as_str()) {
                let message = format!(
                    "upstreams: there is no upstream `{name}`; there are {}",
                    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                );
                return Err(Fault::new(FaultKind::InvalidRequest, message).param("upstreams"));
            }
        }
        Ok(())
    }

    /// Makes a key. It is in the answer, and can never be shown again.
    ///
    /// # Errors
    ///
    /// What is wrong with what is asked, or that it cannot be kept.
    pub async fn create_key(&self, body: &[u8]) -> Result<Value, Fault> {
        let Created { name, hash, spent_micros, rest } = read(body)?;
        let patch: KeyPatch = read_patch(Value::Object(rest).to_string().as_bytes())?;
        self.check_names(&patch)?;
        let key = if hash.is_some() { None } else { Some(Self::new_key()?) };
        let (hash, now) = match (&key, hash) {
            (_, Some(hash)) if self.is_secret(&hash) => {
                let message = "hash: this is a key of the configuration";
                return Err(Fault::new(FaultKind::InvalidRequest, message).param("hash"));
            }
            (_, Some(hash)) => (foreign_hash(&hash)?, Timestamp::now()),
            (Some(key), None) => (self.pepper()?.hash(key), Timestamp::now()),
            (None, None) => return Err(Fault::new(FaultKind::Internal, "there is no key")),
        };
        let edit = create(&name, hash, patch, self.is_configured(&name), now);
        let spent = (spent_micros > 0).then(|| (self.accounts.day(now), spent_micros));
        let row = self.change(AuditEvent::KeyCreated, &name, edit, spent).await?;
        Ok(match key {
            Some(key) => self.with_key(&row, &key),
            None => shown::key(self.accounts, &row, None),
        })
    }

    fn with_key(&self, row: &KeyRow, key: &str) -> Value {
        let mut shown = shown::key(self.accounts, row, None);
        shown["key"] = key.into();
        shown
    }

    /// Changes what is set for a key.
    ///
    /// # Errors
    ///
    /// As [`Self::create_key`].
    pub async fn set_key(&self, name: &str, body: &[u8]) -> Result<Value, Fault> {
        let patch: KeyPatch = read_patch(body)?;
        self.check_names(&patch)?;
        let edit = set(name, patch, self.is_configured(name), Timestamp::now());
        self.change(AuditEvent::KeySet, name, edit, None).await?;
        self.keys(Some(name)).await
    }

    /// Takes a key back.
    ///
    /// # Errors
    ///
    /// As [`Self::create_key`].
    pub async fn revoke_key(&self, name: &str) -> Result<Value, Fault> {
        let edit = revoke(name, Timestamp::now());
        self.change(AuditEvent::KeyRevoked, name, edit, None).await?;
        self.keys(Some(name)).await
    }

    /// Makes another key in the place of one, which lets in for a while still.
    ///
    /// # Errors
    ///
    /// As [`Self::create_key`].
    pub async fn rotate_key(&self, name: &str, body: &[u8]) -> Result<Value, Fault> {
        let Replaced { grace } = read(body)?;
        let key = Self::new_key()?;
        let hash = self.pepper()?.hash(&key);
        let grace = grace.as_deref().unwrap_or(GRACE);
        let edit = replace(name, hash, grace, Timestamp::now());
        let row = self.change(AuditEvent::KeyRotated, name, edit, None).await?;
        Ok(self.with_key(&row, &key))
    }

    /// Lists keys, or shows the one of a name.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or what was used cannot be read.
    pub async fn keys(&self, name: Option<&str>) -> Result<Value, Fault> {
        let _written = self.store.flush().await;
        let used = self.store.used_up(Whose::Key).await?;
        let shown = |row: &KeyRow| {
            let used = used.get(&*row.name).copied().unwrap_or_default();
            shown::key(self.accounts, row, Some(used))
        };
        match name {
            None => {
                let keys: Vec<Value> =
                    self.accounts.keys().iter().map(|key| shown(&key.row)).collect();
                Ok(json!({ "keys": keys }))
            }
            Some(name) => match self.accounts.of(name) {
                Some(standing) => Ok(shown(&standing.key.row)),
                None => Err(ChangeError::Unknown(format!("there is no key `{name}`")).into()),
            },
        }
    }

    /// Makes a team, or changes what is set for it.
    ///
    /// # Errors
    ///
    /// As [`Self::create_key`].
    pub async fn set_team(&self, name: &str, body: &[u8]) -> Result<Value, Fault> {
        let NewTeam { spent_micros, rest } = read(body)?;
        let patch: TeamPatch = read_patch(Value::Object(rest).to_string().as_bytes())?;
        self.may_change().await?;
        self.pepper()?;
        let (accounts, now) = (self.accounts.clone(), Timestamp::now());
        let day = accounts.day(now);
        let spent =
            (spent_micros > 0 && accounts.team(name).is_none()).then_some((day, spent_micros));
        let edit = set_team(name, patch, now);
        let done = move |row: &TeamRow| {
            accounts.put_team(row.clone());
            if let Some((day, spent)) = spent {
                accounts.spend_of_team(&row.name, day, spent);
            }
        };
        self.store.change_team(self.by(), name.to_owned(), edit, spent, done).await??;
        self.teams(Some(name)).await
    }

    /// Deletes a team that no key is in.
    ///
    /// # Errors
    ///
    /// As [`Self::create_key`].
    pub async fn remove_team(&self, name: &str) -> Result<Value, Fault> {
        self.may_change().await?;
        let (accounts, gone) = (self.accounts.clone(), name.to_owned());
        let done = move || accounts.drop_team(&gone);
        self.store.remove_team(self.by(), name.to_owned(), done).await??;
        Ok(json!({"name": name, "deleted": true}))
    }

    /// Lists teams, or shows the one of a name.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or what was used cannot be read.
    pub async fn teams(&self, name: Option<&str>) -> Result<Value, Fault> {
        let _written = self.store.flush().await;
        let used = self.store.used_up(Whose::Team).await?;
        let keys = self.accounts.keys();
        let shown = |team: &crate::account::Scope| {
            shown::team(
                self.accounts,
                team,
                Some(used.get(&*team.name).copied().unwrap_or_default()),
                &keys,
            )
        };
        match name {
            None => {
                let teams: Vec<Value> =
                    self.accounts.teams().iter().map(|team| shown(team)).collect();
                Ok(json!({ "teams": teams }))
            }
            Some(name) => match self.accounts.team(name) {
                Some(team) => Ok(shown(&team)),
                None => Err(ChangeError::Unknown(format!("there is no team `{name}`")).into()),
            },
        }
    }
}
