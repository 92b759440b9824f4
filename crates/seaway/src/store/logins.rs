//! Programs that signed in with a key, as the database has them.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::{AuditEntry, Promise, Store};
use crate::account::LoginRow;

/// Reads those that are not over.
pub(super) fn load(database: &Connection) -> rusqlite::Result<Vec<LoginRow>> {
    let mut select = database
        .prepare("SELECT id, name, proof, program, created, until FROM login WHERE until > ?1")?;
    let time = |at: i64| Timestamp::from_millisecond(at).unwrap_or_default();
    let rows = select.query_map([Timestamp::now().as_millisecond()], |row| {
        Ok(LoginRow {
            id: row.get(0)?,
            name: row.get_ref(1)?.as_str()?.into(),
            proof: row.get(2)?,
            program: row.get(3)?,
            created: time(row.get(4)?),
            until: time(row.get(5)?),
        })
    })?;
    rows.collect()
}

impl Store {
    /// Keeps a sign-in, with its entry in the audit. It is kept once this resolves well, and not before; `done` is called then.
    pub fn keep_login(
        &self,
        row: LoginRow,
        noted: AuditEntry,
        done: impl FnOnce() + Send + 'static,
    ) -> Promise<()> {
        self.keep(move |database| {
            let transaction =
                database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached(
                    "INSERT INTO login (id, name, proof, program, created, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    row.id,
                    row.name,
                    row.proof,
                    row.program,
                    row.created.as_millisecond(),
                    row.until.as_millisecond()
                ])?;
            super::audit::insert_change(&transaction, &noted, None, None)?;
            transaction.commit()?;
            done();
            Ok(())
        })
    }

    /// Lets a sign-in go on, unless it has ended meanwhile; `done` is called where it goes on.
    pub fn extend_login(
        &self,
        row: &LoginRow,
        done: impl FnOnce() + Send + 'static,
    ) -> Promise<bool> {
        let (id, until) = (row.id, row.until.as_millisecond());
        self.keep(move |database| {
            let goes_on =
                database.execute("UPDATE login SET until = ?2 WHERE id = ?1", [id, until])? > 0;
            if goes_on {
                done();
            }
            Ok(goes_on)
        })
    }

    /// Ends a sign-in, with its entry in the audit if there was one; `done` is called then.
    pub fn end_login(
        &self,
        id: i64,
        noted: AuditEntry,
        done: impl FnOnce() + Send + 'static,
    ) -> Promise<()> {
        self.keep(move |database| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if transaction.execute("DELETE FROM login WHERE id = ?1", [id])? > 0 {
                super::audit::insert_change(&transaction, &noted, None, None)?;
            }
            transaction.commit()?;
            done();
            Ok(())
        })
    }
}
