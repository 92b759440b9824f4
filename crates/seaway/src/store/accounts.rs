//! Keys that were given out, their teams, and what was spent, as the database has them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::json;

use super::audit::insert_change;
use super::keys::signed;
use super::{AuditEntry, AuditEvent, Promise, Store};
use crate::account::{
    ChangeError, HashKind, KeyHash, KeyRow, KeySettings, Ledgers, RowEdit, TeamRow, UsedRow, Whose,
};

/// Days of which each is known by itself, the last ones whatever day it is; what was spent before is known as one sum.
const DAYS: i64 = 95;

/// Reads all that is known of keys and teams.
pub(super) fn load(database: &Connection) -> rusqlite::Result<Ledgers> {
    Ok(Ledgers {
        keys: keys(database)?,
        teams: teams(database)?,
        used: used(database)?,
        logins: super::logins::load(database)?,
        trouble: None,
    })
}

/// What was spent, by days; what is older than they go as of the first day there is.
fn used(database: &Connection) -> rusqlite::Result<Vec<UsedRow>> {
    let oldest: Option<String> = database
        .query_row(
            "SELECT DISTINCT day FROM used ORDER BY day DESC LIMIT 1 OFFSET ?1",
            [DAYS],
            |row| row.get(0),
        )
        .optional()?;
    let mut select = database.prepare(
        "SELECT team, (SELECT text FROM name WHERE id = who), iif(day >= ?1, day, ''), sum(spent) FROM used GROUP BY 1, 2, 3 HAVING sum(spent) > 0",
    )?;
    let rows = select.query_map([oldest.unwrap_or_default()], |row| {
        let (team, day): (bool, String) = (row.get(0)?, row.get(2)?);
        Ok(UsedRow {
            whose: if team { Whose::Team } else { Whose::Key },
            name: row.get(1)?,
            day: day.parse().unwrap_or(Date::MIN),
            spent: row.get(3)?,
        })
    })?;
    rows.collect()
}

const KEY: &str = "name, hash, plain, old_hash, old_plain, old_until, settings, created, revoked";

/// Lists keys.
fn keys(database: &Connection) -> rusqlite::Result<Vec<KeyRow>> {
    let mut select = database.prepare(&format!("SELECT {KEY} FROM key"))?;
    // Many have the same.
    let mut settings: HashMap<String, Arc<KeySettings>> = HashMap::new();
    let rows = select.query_map([], |row| {
        key_with(row, |text| {
            if let Some(known) = settings.get(text) {
                return Ok(known.clone());
            }
            let read = Arc::new(serde_json::from_str::<KeySettings>(text)?);
            settings.insert(text.to_owned(), read.clone());
            Ok(read)
        })
    })?;
    rows.collect()
}

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    let millis: Option<i64> = row.get(at)?;
    Ok(millis.and_then(|at| Timestamp::from_millisecond(at).ok()))
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    key_with(row, |text| serde_json::from_str(text).map(Arc::new))
}

fn key_with(
    row: &Row<'_>,
    read: impl FnOnce(&str) -> serde_json::Result<Arc<KeySettings>>,
) -> rusqlite::Result<KeyRow> {
    let hash = |at: usize| -> rusqlite::Result<Option<KeyHash>> {
        let bytes: Option<[u8; 32]> = row.get(at)?;
        let plain: bool = row.get(at + 1)?;
        let kind = if plain { HashKind::Sha256 } else { HashKind::Keyed };
        Ok(bytes.map(|bytes| KeyHash { kind, bytes }))
    };
    let settings = read(row.get_ref(6)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(KeyRow {
        name: row.get_ref(0)?.as_str()?.into(),
        hash: hash(1)?,
        old: hash(3)?.zip(time(row, 5)?).map(Box::new),
        settings,
        created: time(row, 7)?.unwrap_or_default(),
        revoked: time(row, 8)?,
    })
}

/// Lists teams, by their names.
fn teams(database: &Connection) -> rusqlite::Result<Vec<TeamRow>> {
    let mut select = database.prepare("SELECT name, settings, created FROM team ORDER BY name")?;
    let rows = select.query_map([], team)?;
    rows.collect()
}

fn team(row: &Row<'_>) -> rusqlite::Result<TeamRow> {
    let settings: String = row.get(1)?;
    let caps = serde_json::from_str(&settings).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(TeamRow { name: row.get(0)?, caps, created: time(row, 2)?.unwrap_or_default() })
}

/// Who changes something, and from where.
#[derive(Debug, Clone)]
pub struct ChangedBy {
    pub who: String,
    pub address: Option<std::net::IpAddr>,
}

/// A change that was made, or why it was not.
pub type AccountChange<T> = Result<T, ChangeError>;

impl KeyRow {
    fn shown(&self) -> serde_json::Value {
        let mut shown = serde_json::to_value(&self.settings).unwrap_or_default();
        if let (Some(at), Some(shown)) = (self.revoked, shown.as_object_mut()) {
            shown.insert("revoked".into(), json!(at));
        }
        shown
    }
}

/// Changes a key, with its row in the audit, in one transaction.
fn change_key(
    database: &mut Connection,
    by: &ChangedBy,
    event: AuditEvent,
    name: &str,
    edit: RowEdit<KeyRow>,
    spent: Option<(Date, u64)>,
) -> rusqlite::Result<AccountChange<KeyRow>> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = transaction
        .query_row(&format!("SELECT {KEY} FROM key WHERE name = ?1"), [name], key)
        .optional()?;
    let after = match edit(before.clone()) {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(team) = &after.settings.team
        && before.as_ref().is_none_or(|before| before.settings.team.as_ref() != Some(team))
        && !exists(&transaction, "SELECT 1 FROM team WHERE name = ?1", team)?
    {
        let why = format!("there is no team `{team}`; make it with `seaway team set {team}`");
        return Ok(Err(ChangeError::Unknown(why)));
    }
    let twice = || ChangeError::Taken("this very key is given out already, by another name".into());
    for hash in after.hashes() {
        let known = transaction
            .prepare_cached("SELECT 1 FROM key WHERE name <> ?1 AND (hash = ?2 OR old_hash = ?2)")?
            .exists(params![name, hash.bytes])?;
        if known {
            return Ok(Err(twice()));
        }
    }
    let hash = |hash: Option<&KeyHash>| hash.map(|hash| hash.bytes);
    let plain = |hash: Option<&KeyHash>| hash.is_some_and(|hash| hash.kind == HashKind::Sha256);
    let old = after.old.as_ref();
    transaction.execute(
        &format!("INSERT INTO key ({KEY}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (name) DO UPDATE SET
            hash = excluded.hash, plain = excluded.plain, old_hash = excluded.old_hash, old_plain = excluded.old_plain, old_until = excluded.old_until,
            settings = excluded.settings, revoked = excluded.revoked"),
        params![
            after.name,
            hash(after.hash.as_ref()),
            plain(after.hash.as_ref()),
            hash(old.map(|old| &old.0)),
            plain(old.map(|old| &old.0)),
            old.map(|old| old.1.as_millisecond()),
            serde_json::to_string(&after.settings).unwrap_or_default(),
            after.created.as_millisecond(),
            after.revoked.map(Timestamp::as_millisecond),
        ],
    )?;
    if let Some((day, spent)) = spent {
        add_spent(&transaction, false, name, day, spent)?;
    }
    let entry = AuditEntry {
        address: by.address,
        ..AuditEntry::once(event, &*by.who, format!("key `{name}`"))
    };
    insert_change(
        &transaction,
        &entry,
        before.as_ref().map(|before| before.shown().to_string()),
        Some(after.shown().to_string()),
    )?;
    transaction.commit()?;
    Ok(Ok(after))
}

fn exists(database: &Connection, query: &str, name: &str) -> rusqlite::Result<bool> {
    database.prepare_cached(query)?.exists([name])
}

/// Changes a team, with its row in the audit, in one transaction.
fn change_team(
    database: &mut Connection,
    by: &ChangedBy,
    name: &str,
    edit: RowEdit<TeamRow>,
    spent: Option<(Date, u64)>,
) -> rusqlite::Result<AccountChange<TeamRow>> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = transaction
        .query_row("SELECT name, settings, created FROM team WHERE name = ?1", [name], team)
        .optional()?;
    let after = match edit(before.clone()) {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    let settings = serde_json::to_string(&after.caps).unwrap_or_default();
    transaction.execute(
        "INSERT INTO team (name, settings, created) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
        params![after.name, settings, after.created.as_millisecond()],
    )?;
    if let Some((day, spent)) = spent.filter(|_| before.is_none()) {
        add_spent(&transaction, true, name, day, spent)?;
    }
    let was = before.map(|before| serde_json::to_string(&before.caps).unwrap_or_default());
    let entry = AuditEntry {
        address: by.address,
        ..AuditEntry::once(AuditEvent::TeamChanged, &*by.who, format!("team `{name}`"))
    };
    insert_change(&transaction, &entry, was, Some(settings))?;
    transaction.commit()?;
    Ok(Ok(after))
}

/// Deletes a team that no key is in.
fn remove_team(
    database: &mut Connection,
    by: &ChangedBy,
    name: &str,
) -> rusqlite::Result<AccountChange<()>> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let member = keys(&transaction)?
        .into_iter()
        .find(|key| key.settings.team.as_deref() == Some(name) && key.revoked.is_none());
    if let Some(member) = member {
        let why =
            format!("the key `{}` is in the team `{name}`; take it out of it first", member.name);
        return Ok(Err(ChangeError::Wrong(why)));
    }
    let before: Option<String> = transaction
        .query_row("SELECT settings FROM team WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    if transaction.execute("DELETE FROM team WHERE name = ?1", [name])? == 0 {
        return Ok(Err(ChangeError::Unknown(format!("there is no team `{name}`"))));
    }
    let entry = AuditEntry {
        address: by.address,
        ..AuditEntry::once(AuditEvent::TeamChanged, &*by.who, format!("team `{name}` is gone"))
    };
    insert_change(&transaction, &entry, before, None)?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// What a key or a team has used altogether, and when last, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsedUp {
    pub spent: u64,
    pub requests: u64,
    pub last: i64,
}

/// Returns what each key or team has used.
fn used_up(database: &Connection, whose: Whose) -> rusqlite::Result<HashMap<String, UsedUp>> {
    let mut select = database.prepare(
        "SELECT (SELECT text FROM name WHERE id = who), sum(spent), sum(requests), max(last) FROM used WHERE team = ?1 GROUP BY who",
    )?;
    let rows = select.query_map([whose == Whose::Team], |row| {
        Ok((row.get(0)?, UsedUp { spent: row.get(1)?, requests: row.get(2)?, last: row.get(3)? }))
    })?;
    rows.collect()
}

/// Adds to what was used on a day.
pub(super) fn add_used(
    database: &Connection,
    (team, who, day): (bool, i64, Date),
    used: UsedUp,
) -> rusqlite::Result<()> {
    let mut add = database.prepare_cached(
        "INSERT INTO used (team, who, day, spent, requests, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET
            spent = spent + excluded.spent, requests = requests + excluded.requests, last = max(last, excluded.last)",
    )?;
    let (spent, requests) = (signed(used.spent), signed(used.requests));
    add.execute(params![team, who, day.to_string(), spent, requests, used.last]).map(drop)
}

/// The row of a name.
pub(super) fn name_of(database: &Connection, name: &str) -> rusqlite::Result<i64> {
    database
        .prepare_cached("INSERT INTO name (text) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([name])?;
    database
        .prepare_cached("SELECT id FROM name WHERE text = ?1")?
        .query_row([name], |row| row.get(0))
}

/// Adds what was spent at another gateway, as of a day.
fn add_spent(
    database: &Connection,
    team: bool,
    name: &str,
    day: Date,
    spent: u64,
) -> rusqlite::Result<()> {
    let who = name_of(database, name)?;
    let used = UsedUp { spent, requests: 0, last: 0 };
    add_used(database, (team, who, day), used)
}

impl Store {
    /// Changes a key. `spent`: what it has spent elsewhere, as of a day. `done` is called with it as soon as it is written, in the order of changes.
    pub fn change_key(
        &self,
        by: ChangedBy,
        event: AuditEvent,
        name: String,
        edit: RowEdit<KeyRow>,
        spent: Option<(Date, u64)>,
        done: impl FnOnce(&KeyRow) + Send + 'static,
    ) -> Promise<AccountChange<KeyRow>> {
        self.keep(move |database| {
            let changed = change_key(database, &by, event, &name, edit, spent)?;
            if let Ok(row) = &changed {
                done(row);
            }
            Ok(changed)
        })
    }

    /// Changes a team, as [`Self::change_key`] does.
    pub fn change_team(
        &self,
        by: ChangedBy,
        name: String,
        edit: RowEdit<TeamRow>,
        spent: Option<(Date, u64)>,
        done: impl FnOnce(&TeamRow) + Send + 'static,
    ) -> Promise<AccountChange<TeamRow>> {
        self.keep(move |database| {
            let changed = change_team(database, &by, &name, edit, spent)?;
            if let Ok(row) = &changed {
                done(row);
            }
            Ok(changed)
        })
    }

    /// Deletes a team that no key is in.
    pub fn remove_team(
        &self,
        by: ChangedBy,
        name: String,
        done: impl FnOnce() + Send + 'static,
    ) -> Promise<AccountChange<()>> {
        self.keep(move |database| {
            let changed = remove_team(database, &by, &name)?;
            if changed.is_ok() {
                done();
            }
            Ok(changed)
        })
    }

    /// What each key or team has used.
    pub fn used_up(&self, whose: Whose) -> Promise<HashMap<String, UsedUp>> {
        self.report(move |database| used_up(database, whose))
    }

    /// Events from a time on, the newest first, by a thread of the store.
    pub fn audited(&self, since: i64, limit: u32) -> Promise<Vec<super::AuditRow>> {
        self.report(move |database| super::audit(database, since, limit))
    }
}
