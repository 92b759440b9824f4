//! Programs that signed in, as their owner sees and ends them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Admin;
use crate::account::LoginRow;
use crate::fault::{Fault, FaultKind};
use crate::store::{AuditEntry, AuditEvent};

/// A sign-in's id for people.
fn id_of(login: &LoginRow) -> String {
    format!("{:016x}", login.id)
}

fn shown(login: &LoginRow) -> Value {
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "id": id_of(login),
        "key": login.name,
        "program": login.program,
        "created_at": time(login.created),
        "expires_at": time(login.until),
    })
}

impl Admin<'_> {
    /// Lists the programs that signed in and are not over, by their keys, the newest first.
    pub fn logins(&self) -> Value {
        let now = Timestamp::now();
        let mut logins = self.accounts.logins(now);
        // Those of a key that was taken back or replaced let nobody in any more.
        logins.retain(|login| {
            let given = self
                .accounts
                .of(&login.name)
                .is_some_and(|key| key.key.row.hash.is_some() || key.key.row.revoked.is_some());
            !given || self.accounts.proves(&login.name, &login.proof, now)
        });
        logins.sort_by(|one, other| {
            (&one.name, other.created, one.id).cmp(&(&other.name, one.created, other.id))
        });
        json!({ "logins": logins.iter().map(shown).collect::<Vec<_>>() })
    }

    /// Ends one: its tokens let in no more from then on.
    ///
    /// # Errors
    ///
    /// If there is none of that id, or the store cannot forget it.
    pub async fn end_login(&self, id: &str) -> Result<Value, Fault> {
        let logins = self.accounts.logins(Timestamp::now());
        let login = logins.into_iter().find(|login| id_of(login) == id).ok_or_else(|| {
            let message = format!("there is no sign-in `{id}`; see `seaway key logins`");
            Fault::new(FaultKind::NotFound, message)
        })?;
        let detail = format!("{} of `{}`, by the owner", login.program, login.name);
        let noted = AuditEntry::once(AuditEvent::ClientSignOut, &*self.who, detail);
        let (id, accounts) = (login.id, self.accounts.clone());
        let noted = noted.from(self.address);
        self.store.end_login(id, noted, move || accounts.drop_login(id)).await?;
        Ok(shown(&login))
    }
}
