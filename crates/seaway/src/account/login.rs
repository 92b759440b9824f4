//! Programs that signed in with a key: each has tokens of its own, which are good as long as the key is.
//!
//! An access token says of itself which sign-in it is of and until when it is good; what only this gateway has proves that. So none is
//! kept, and one that is made anew takes nothing from those before.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::{Accounts, Pepper, Shown};

/// How long an access token is good.
pub const ACCESS: Duration = Duration::from_secs(3600);
/// How long a sign-in lasts that is not used.
pub const LASTS: Duration = Duration::from_secs(30 * 86_400);

/// So many programs are signed in with one key at most; one more ends the one that was used the longest ago.
pub const SIGN_INS: usize = 100;

/// How they begin; both as keys do, so that whatever hides keys hides them.
const ACCESS_BEGINS: &str = "sk-seaway-in-";
const REFRESH_BEGINS: &str = "sk-seaway-re-";

/// A program that signed in, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// Random.
    pub id: i64,
    /// Whose key it was done with.
    pub name: Arc<str>,
    /// Of the key: when that is another, this is over.
    pub proof: [u8; 32],
    /// The program, as it names itself.
    pub program: String,
    pub created: Timestamp,
    /// Until when it may go on without a person.
    pub until: Timestamp,
}

/// What a program that signed in shows from then on.
#[derive(Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

fn proof(pepper: &Pepper, what: &[u8], id: i64, until: i64) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&pepper.0);
    hasher.update(what).update(&id.to_le_bytes()).update(&until.to_le_bytes());
    hasher.finalize()
}

const ACCESS_USE: &[u8] = b"seaway access token, version 1";
const REFRESH_USE: &[u8] = b"seaway refresh token, version 1";

/// Reads a token: its sign-in and until when it is good, if it was made here.
fn read(pepper: &Pepper, token: &[u8], begins: &str, what: &[u8]) -> Option<(i64, i64)> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(begins.as_bytes())?).ok()?;
    let (id, rest) = bytes.split_first_chunk::<8>()?;
    let (until, given) = rest.split_first_chunk::<8>()?;
    let given = blake3::Hash::from_bytes(given.try_into().ok()?);
    let (id, until) = (i64::from_le_bytes(*id), i64::from_le_bytes(*until));
    // Hashes are compared in constant time.
    (given == proof(pepper, what, id, until)).then_some((id, until))
}

impl Accounts {
    /// Tokens of a sign-in; none before there is a pepper.
    pub fn tokens(&self, id: i64, now: Timestamp) -> Option<Tokens> {
        let pepper = self.pepper()?;
        let until = now.as_second().saturating_add(ACCESS.as_secs().cast_signed());
        let write = |begins: &str, what, until: i64| {
            let mut bytes = [id.to_le_bytes(), until.to_le_bytes()].concat();
            bytes.extend(proof(pepper, what, id, until).as_bytes());
            format!("{begins}{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        Some(Tokens {
            access: write(ACCESS_BEGINS, ACCESS_USE, until),
            // How long that is good the store knows.
            refresh: write(REFRESH_BEGINS, REFRESH_USE, 0),
        })
    }

    /// The sign-in of a refresh token, if it is not over.
    pub fn refreshed(&self, token: &str, now: Timestamp) -> Option<LoginRow> {
        let (id, _) = read(self.pepper()?, token.as_bytes(), REFRESH_BEGINS, REFRESH_USE)?;
        self.read().logins.get(&id).filter(|login| login.until > now).cloned()
    }

    /// The sign-in that a token is of, be it over or not.
    pub fn login_of(&self, token: &[u8]) -> Option<i64> {
        let pepper = self.pepper()?;
        let access = read(pepper, token, ACCESS_BEGINS, ACCESS_USE);
        let (id, _) = access.or_else(|| read(pepper, token, REFRESH_BEGINS, REFRESH_USE))?;
        Some(id)
    }

    /// Whose sign-in it is, if it is known.
    pub fn login_name(&self, id: i64) -> Option<Arc<str>> {
        self.read().logins.get(&id).map(|login| login.name.clone())
    }

    /// The sign-ins that are not over.
    pub fn logins(&self, now: Timestamp) -> Vec<LoginRow> {
        self.read().logins.values().filter(|login| login.until > now).cloned().collect()
    }

    /// The sign-in of a key's that was used the longest ago, if they are more than [`SIGN_INS`].
    pub fn login_beyond(&self, name: &str, now: Timestamp) -> Option<LoginRow> {
        let book = self.read();
        let own = book.logins.values().filter(|login| &*login.name == name && login.until > now);
        let (count, oldest) =
            (own.clone().count(), own.min_by_key(|login| (login.until, login.created)).cloned());
        oldest.filter(|_| count > SIGN_INS)
    }

    /// Puts a sign-in in place. Those that are over by then go.
    pub fn put_login(&self, row: LoginRow, now: Timestamp) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.logins.retain(|_, login| login.until > now);
        book.logins.insert(row.id, row);
    }

    /// A sign-in is over.
    pub fn drop_login(&self, id: i64) {
        self.book.write().unwrap_or_else(PoisonError::into_inner).logins.remove(&id);
    }

    /// Whose token this is, if it is one.
    pub(super) fn signed_in(&self, token: &[u8], now: Timestamp) -> Option<Shown> {
        if !token.starts_with(ACCESS_BEGINS.as_bytes()) {
            return None;
        }
        let (id, until) = read(self.pepper()?, token, ACCESS_BEGINS, ACCESS_USE)?;
        let login = self.read().logins.get(&id).map(|login| (login.name.clone(), login.proof));
        Some(match login {
            Some((name, proof)) if until > now.as_second() => Shown::SignedIn { name, proof },
            Some(_) => {
                Shown::Past("this access token has expired; its program makes another".into())
            }
            None => {
                Shown::Past("this sign-in is over; sign in again (`/login` in Claude Code)".into())
            }
        })
    }

    /// What a key that was given out proves by. None where it was not given out, or lets in no more.
    pub fn proof(&self, name: &str, now: Timestamp) -> Option<[u8; 32]> {
        let key = self.read().keys.get(name)?.clone();
        key.row.past(now).is_none().then_some(key.row.hash?.bytes)
    }

    /// True while the key that a sign-in was done with lets in.
    pub fn proves(&self, name: &str, proof: &[u8; 32], now: Timestamp) -> bool {
        let Some(key) = self.read().keys.get(name).cloned() else { return false };
        let old = key.row.old.as_ref().is_some_and(|old| old.0.bytes == *proof && old.1 > now);
        key.row.past(now).is_none() && (old || key.row.hash.is_some_and(|own| own.bytes == *proof))
    }

    /// Whose key this is that was given out, with what it proves by: another than the newest where it was replaced.
    pub fn shown_proof(&self, key: &[u8]) -> Option<(Arc<str>, [u8; 32])> {
        let known = self.read();
        let name = self.named(&known, key)?;
        let hashes = known.keys.get(&name)?.row.hashes().copied().collect::<Vec<_>>();
        drop(known);
        let own = hashes.into_iter().find(|hash| self.is(hash, key))?;
        Some((name, own.bytes))
    }

    /// The same of a secret of the configuration.
    pub fn proof_of_secret(&self, material: &[u8]) -> Option<[u8; 32]> {
        Some(*blake3::keyed_hash(&self.pepper()?.0, material).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_token_is_good_until_its_time_or_its_sign_in_is_over() {
        let accounts = Accounts::new(Some(Pepper([7; 32])), TimeZone::UTC);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let row = LoginRow {
            id: -5,
            name: "ann".into(),
            proof: [1; 32],
            program: String::new(),
            created: now,
            until: now + LASTS,
        };
        accounts.put_login(row.clone(), now);
        let Tokens { access, refresh } = accounts.tokens(-5, now).unwrap();
        let good = Some(Shown::SignedIn { name: "ann".into(), proof: [1; 32] });
        let shown = |token: &str, at| accounts.signed_in(token.as_bytes(), at);
        assert_eq!(shown(&access, now), good);
        assert!(matches!(shown(&access, now + ACCESS), Some(Shown::Past(_))));
        for wrong in [&refresh, &format!("{access}A"), &access[1..], "sk-seaway-in-", ""] {
            assert_eq!(shown(wrong, now), None, "{wrong}");
        }
        // Each letter counts.
        for at in ACCESS_BEGINS.len()..access.len() {
            let other = if access.as_bytes()[at] == b'A' { "B" } else { "A" };
            let wrong = format!("{}{other}{}", &access[..at], &access[at + 1..]);
            assert_eq!(shown(&wrong, now), None, "{wrong}");
        }
        assert_eq!(accounts.refreshed(&refresh, now), Some(row.clone()));
        assert_eq!(accounts.refreshed(&access, now), None);
        assert_eq!(accounts.refreshed(&refresh, now + LASTS), None);
        assert_eq!(accounts.login_of(access.as_bytes()), accounts.login_of(refresh.as_bytes()));
        let other = Accounts::new(Some(Pepper([8; 32])), TimeZone::UTC);
        assert_eq!(other.signed_in(access.as_bytes(), now), None);
        for id in 1..=i64::try_from(SIGN_INS).unwrap() {
            let created = now + Duration::from_secs(id.unsigned_abs());
            accounts
                .put_login(LoginRow { id, created, until: created + LASTS, ..row.clone() }, now);
        }
        accounts.put_login(LoginRow { id: 0, name: "bob".into(), ..row.clone() }, now);
        let beyond = |name| accounts.login_beyond(name, now).map(|login| login.id);
        assert_eq!((beyond("ann"), beyond("bob")), (Some(-5), None));
        accounts.drop_login(-5);
        assert_eq!(beyond("ann"), None);
        assert!(matches!(shown(&access, now), Some(Shown::Past(_))));
        assert_eq!(accounts.refreshed(&refresh, now), None);
    }
}
