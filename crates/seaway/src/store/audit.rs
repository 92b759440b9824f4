//! Who came in, who was not let in, and what was changed about that.

use std::net::IpAddr;
use std::path::Path;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::keys::bound;
use super::{Store, StoreError, files, schema};
use crate::trusted::Modes;

/// What is kept for the owner to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditEvent {
    /// A browser signed in to the dashboard.
    SignIn,
    /// Wrong keys came from an address.
    KeyRefused,
    /// A local key is another than before, is new, or is gone.
    KeyChanged,
    /// The Claude Code program signed in to a plan, or out of it.
    ProgramLogin,
    ProgramLogout,
    /// Lock-outs of ssh were cleared.
    Unlocked,
    /// A key was given out, changed, replaced or taken back.
    KeyCreated,
    KeySet,
    KeyRotated,
    KeyRevoked,
    /// A program signed in with a key, or out of it.
    ClientSignIn,
    ClientSignOut,
    /// A team's budgets and rates are others, or it is new or gone.
    TeamChanged,
}

impl AuditEvent {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::KeyRefused => "key_refused",
            Self::KeyChanged => "key_changed",
            Self::ProgramLogin => "program_login",
            Self::ProgramLogout => "program_logout",
            Self::Unlocked => "unlocked",
            Self::KeyCreated => "key_created",
            Self::KeySet => "key_set",
            Self::KeyRotated => "key_rotated",
            Self::KeyRevoked => "key_revoked",
            Self::ClientSignIn => "client_sign_in",
            Self::ClientSignOut => "client_sign_out",
            Self::TeamChanged => "team_changed",
        }
    }
}

/// One event, as it happened.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    pub event: AuditEvent,
    /// The caller; empty for who did not prove to be one.
    pub who: String,
    /// Where it came from; none from this machine's own sockets and commands.
    pub address: Option<IpAddr>,
    /// In words; never a secret.
    pub detail: String,
    /// How often it happened so far.
    pub count: u32,
}

impl AuditEntry {
    /// Something that happened once.
    pub fn once(event: AuditEvent, who: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { event, who: who.into(), address: None, detail: detail.into(), count: 1 }
    }

    pub fn from(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    fn log(&self) {
        let Self { event, who, address, detail, count } = self;
        let address = address.map(tracing::field::display);
        if *event == AuditEvent::KeyRefused {
            tracing::warn!(event = event.name(), address, count, "{detail}");
        } else {
            tracing::info!(event = event.name(), who, address, "{detail}");
        }
    }
}

/// An event, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub event: String,
    pub who: String,
    pub address: Option<String>,
    pub detail: String,
    pub count: u32,
    /// What was changed, before and after, as JSON; no secret is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Store {
    /// Has an event written, and tells the log. Nobody waits for that; what cannot be written is in the log alone.
    pub fn audit(&self, entry: AuditEntry) {
        entry.log();
        let id = uuid::Uuid::now_v7();
        let _written = self.keep(move |database| {
            insert(database, id, &entry).inspect_err(
                |error| tracing::error!(%error, event = entry.event.name(), "an audit row could not be written"),
            )
        });
    }
}

pub(super) fn insert(
    database: &Connection,
    id: uuid::Uuid,
    entry: &AuditEntry,
) -> rusqlite::Result<()> {
    insert_all(database, id, entry, [None, None])
}

/// Writes what was changed, for the transaction that changes it.
pub(super) fn insert_change(
    database: &Connection,
    entry: &AuditEntry,
    before: Option<String>,
    after: Option<String>,
) -> rusqlite::Result<()> {
    insert_all(database, uuid::Uuid::now_v7(), entry, [before, after])
}

fn insert_all(
    database: &Connection,
    id: uuid::Uuid,
    entry: &AuditEntry,
    [before, after]: [Option<String>; 2],
) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached(
        "INSERT INTO audit (id, event, who, address, detail, count, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let address = entry.address.map(|address| address.to_string());
    insert
        .execute(params![
            id.into_bytes(),
            entry.event.name(),
            entry.who,
            address,
            entry.detail,
            entry.count,
            before,
            after
        ])
        .map(drop)
}

/// Writes an event into the store of a gateway, whether it runs or not: for commands. Without a store there is nothing to write to.
///
/// # Errors
///
/// [`StoreError`] if it cannot be written, or is older than this program.
pub fn append(path: &Path, modes: Modes, entry: &AuditEntry) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    crate::trusted::private_file(path, modes)
        .map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let database = Connection::open(path).map_err(failed)?;
    database.busy_timeout(files::BUSY).map_err(failed)?;
    schema::check_to_read(&database, path)?;
    Ok(insert(&database, uuid::Uuid::now_v7(), entry)?)
}

/// Lists events from a time on, in milliseconds since the epoch, the newest first.
///
/// # Errors
///
/// If the store cannot be read.
pub fn audit(database: &Connection, since: i64, limit: u32) -> rusqlite::Result<Vec<AuditRow>> {
    let mut select = database.prepare(
        "SELECT id, event, who, address, detail, count, before, after FROM audit WHERE id >= ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = select.query_map(params![bound(since), limit], |row| {
        let id: [u8; 16] = row.get(0)?;
        // The first 48 bits of a UUIDv7 are its time.
        let at = u128::from_be_bytes(id) >> 80;
        Ok(AuditRow {
            at: i64::try_from(at).unwrap_or(i64::MAX),
            event: row.get(1)?,
            who: row.get(2)?,
            address: row.get(3)?,
            detail: row.get(4)?,
            count: row.get(5)?,
            before: row.get(6)?,
            after: row.get(7)?,
        })
    })?;
    rows.collect()
}
