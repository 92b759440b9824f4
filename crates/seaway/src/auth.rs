//! Local keys: who may call, and by what name they are known.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::SecretString;

use crate::account::{Accounts, LoginRow, Shown};
use crate::config::{Auth, Config, KeySecret, OWNER, PresentedKey};
use crate::trusted::{self, Modes};

/// Headers that may carry a credential of the client's.
pub static CARRIERS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// Who a client proved to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller(pub Arc<str>);

/// The name of somebody who showed no key and needs none. No key can have it.
const STRANGER: &str = "anyone";

impl Caller {
    pub fn stranger() -> Self {
        Self(STRANGER.into())
    }

    pub fn is_stranger(&self) -> bool {
        &*self.0 == STRANGER
    }
}

/// The keys that let clients in.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<(Arc<str>, KeySecret)>,
    open: bool,
    /// Keys that were given out.
    given: Option<Arc<Accounts>>,
    /// Who may give them out.
    owners: Vec<Arc<str>>,
}

/// The local key's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the local key in {path}")]
pub struct KeyError {
    pub path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Keyring {
    /// Collects the configured keys; makes the local key if none is configured and none was made.
    ///
    /// # Errors
    ///
    /// If the made key can be neither read nor written.
    pub fn load(config: &Config) -> Result<Self, KeyError> {
        let (keys, open): (Vec<(Arc<str>, KeySecret)>, bool) = match &config.auth {
            Auth::Open => (Vec::new(), true),
            Auth::Keys(keys) => {
                let keys = keys.iter();
                (keys.map(|(name, secret)| (name.as_str().into(), secret.clone())).collect(), false)
            }
            Auth::MadeKey => {
                let made = made_key(&config.state_dir, config.modes)?;
                (vec![("default".into(), KeySecret::Plain(made))], false)
            }
        };
        // The only key there is belongs to whoever set it.
        let named = |name: &&Arc<str>| config.admin_callers.iter().any(|owner| **owner == ***name);
        let owners = match &*keys {
            _ if !config.admin_callers.is_empty() => {
                keys.iter().map(|(name, _)| name).filter(named).cloned().collect()
            }
            [(name, _)] => vec![name.clone()],
            _ => Vec::new(),
        };
        Ok(Self { keys, open, given: None, owners })
    }

    /// The same, with the keys that were given out.
    pub fn with(self, given: Arc<Accounts>) -> Self {
        Self { given: Some(given), ..self }
    }

    /// True for who may give keys out and take them back.
    pub fn is_owner(&self, caller: &Caller) -> bool {
        &*caller.0 == OWNER || self.owners.contains(&caller.0)
    }

    /// True where this caller may have limits, or this key be somebody's, of which the store has not told yet.
    pub fn is_awaited(&self, caller: impl FnOnce() -> Option<Caller>) -> bool {
        let awaited = self.given.as_ref().is_some_and(|given| given.is_awaited());
        awaited && !caller().is_some_and(|caller| self.is_owner(&caller))
    }

    /// Waits until the store has told of keys that were given out. Cancel safe.
    pub async fn told(&self) {
        if let Some(given) = &self.given {
            given.loaded().await;
        }
    }

    /// True where more than one somebody may come.
    pub fn is_shared(&self) -> bool {
        self.keys.len() > 1 || self.given.as_ref().is_some_and(|given| !given.is_empty())
    }

    /// Why a key of the configuration lets in no more, where it was set to expire.
    fn limit_of(&self, name: &str) -> Option<String> {
        self.given.as_ref()?.of(name)?.key.row.past(jiff::Timestamp::now())
    }

    /// Why somebody is not let in who shows a key that once let in.
    pub fn past(&self, headers: &HeaderMap) -> Option<String> {
        let given = self.given.as_ref()?;
        let mut sent = CARRIERS.iter().flat_map(|name| headers.get_all(name));
        sent.find_map(|value| {
            let shown = PresentedKey::of(token(value.as_bytes()));
            let own = self.keys.iter().find(|(_, secret)| secret.is(&shown));
            if let Some((name, _)) = own {
                return self.limit_of(name);
            }
            match given.shown(token(value.as_bytes())) {
                Some(Shown::Past(why)) => Some(why),
                Some(Shown::SignedIn { name, proof }) => (!self.proves(&name, &proof)).then(|| {
                    format!("the key `{name}` was replaced or lets in no more, and with it what signed in by it; sign in again (`/login` in Claude Code)")
                }),
                Some(Shown::Good(_)) | None => None,
            }
        })
    }

    pub fn of<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            keys: keys
                .into_iter()
                .map(|(name, key)| (name.into(), KeySecret::Plain(key.to_owned().into())))
                .collect(),
            open: false,
            given: None,
            owners: Vec::new(),
        }
    }

    /// True if anyone who reaches us may call.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The key to paste into a client. None where no key is needed, or where there are hashes alone.
    pub fn first(&self) -> Option<&SecretString> {
        self.keys.iter().find_map(|(_, secret)| secret.plain())
    }

    /// True where keys are needed and none of them can be shown.
    pub fn is_hashed(&self) -> bool {
        !self.open && self.first().is_none()
    }

    /// The secret of a caller of the configuration.
    pub fn secret_of(&self, caller: &str) -> Option<&KeySecret> {
        self.keys.iter().find(|(name, _)| &**name == caller).map(|(_, secret)| secret)
    }

    /// Every caller with its secret.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &KeySecret)> {
        self.keys.iter().map(|(name, secret)| (name, secret))
    }

    /// Whose keys are others than before, and how.
    pub fn changes_since(&self, before: &Self) -> Vec<(Arc<str>, &'static str)> {
        let of = |ring: &Self, name: &str| ring.secret_of(name).map(|key| key.material().to_vec());
        let now = self.keys.iter().filter_map(|(name, secret)| match of(before, name) {
            None => Some((name.clone(), "the key is new")),
            Some(old) if old != secret.material() => Some((name.clone(), "the key was changed")),
            Some(_) => None,
        });
        let gone = before.keys.iter().filter(|(name, _)| self.secret_of(name).is_none());
        now.chain(gone.map(|(name, _)| (name.clone(), "the key is gone"))).collect()
    }

    /// Whose key this is, with what that very key proves by. A token is none.
    pub fn shown_proof(&self, key: &str) -> Option<(Arc<str>, [u8; 32])> {
        let Caller(name) = self.whose(key)?;
        let given = self.given.as_ref()?;
        match self.secret_of(&name) {
            Some(secret) => Some((name, given.proof_of_secret(secret.material())?)),
            None => given.shown_proof(token(key.as_bytes())),
        }
    }

    /// True where a program calls with the token of a sign-in.
    pub fn shows_token(&self, headers: &HeaderMap) -> bool {
        let mut sent = CARRIERS.iter().flat_map(|name| headers.get_all(name));
        sent.any(|value| self.is_token(token(value.as_bytes())))
    }

    fn is_token(&self, shown: &[u8]) -> bool {
        let given = self.given.as_ref();
        given.is_some_and(|given| given.login_of(shown).is_some())
    }

    /// Tells who has this key. A token is none: what it is of ends, and what it made here would not.
    pub fn whose(&self, key: &str) -> Option<Caller> {
        if self.is_token(token(key.as_bytes())) {
            return None;
        }
        self.find(&HeaderValue::from_str(key).ok()?).map(Caller)
    }

    /// Tells who calls. Clients may send several credentials; one good one is enough.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let mut sent = CARRIERS.iter().flat_map(|name| headers.get_all(name));
        let known = sent.find_map(|value| self.find(value));
        match known {
            Some(name) => Some(Caller(name)),
            // Who shows a key that lets in no more is not let in without one.
            None if self.open && self.past(headers).is_none() => Some(Caller("open".into())),
            None => None,
        }
    }

    /// True if a local key stands anywhere in a header's value.
    pub fn holds(&self, value: &HeaderValue) -> bool {
        let pieces = value
            .as_bytes()
            .split(|byte| b" \t,;=\"'".contains(byte))
            .filter(|piece| !piece.is_empty());
        let mut pieces = pieces.chain([value.as_bytes()]);
        pieces.any(|piece| {
            let given = self.given.as_ref().is_some_and(|given| given.holds(piece));
            let piece = PresentedKey::of(piece);
            given || self.keys.iter().any(|(_, secret)| secret.is(&piece))
        })
    }

    fn find(&self, value: &HeaderValue) -> Option<Arc<str>> {
        let sent = PresentedKey::of(token(value.as_bytes()));
        let mut found = None;
        // Every key is compared, so that time does not tell which one was close.
        for (name, secret) in &self.keys {
            if secret.is(&sent) {
                found = Some(name);
            }
        }
        if let Some(name) = found {
            return self.limit_of(name).is_none().then(|| name.clone());
        }
        match self.given.as_ref()?.shown(token(value.as_bytes()))? {
            // The configuration has the last word on its names.
            Shown::Good(name) => self.secret_of(&name).is_none().then_some(name),
            Shown::SignedIn { name, proof } => self.proves(&name, &proof).then_some(name),
            Shown::Past(_) => None,
        }
    }

    /// By what it is known that a caller's key is the same as before; none where it lets in no more.
    pub fn proof(&self, name: &str) -> Option<[u8; 32]> {
        let given = self.given.as_ref()?;
        match self.secret_of(name) {
            Some(secret) if self.limit_of(name).is_none() => {
                given.proof_of_secret(secret.material())
            }
            Some(_) => None,
            None => given.proof(name, jiff::Timestamp::now()),
        }
    }

    /// True for the name of a key that lets in.
    pub fn is_good(&self, name: &str) -> bool {
        match self.secret_of(name) {
            Some(_) => self.limit_of(name).is_none(),
            None => self.proof(name).is_some(),
        }
    }

    /// True while the key that a program signed in with lets in.
    pub fn bears(&self, login: &LoginRow) -> bool {
        self.proves(&login.name, &login.proof)
    }

    /// The same of what it proves by.
    pub fn proves(&self, name: &str, proof: &[u8; 32]) -> bool {
        let given = self.given.as_ref();
        match self.secret_of(name) {
            Some(_) => self.proof(name).as_ref() == Some(proof),
            None => given.is_some_and(|given| given.proves(name, proof, jiff::Timestamp::now())),
        }
    }
}

/// The credential in a header's value, without `Bearer`.
fn token(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest.trim_ascii(),
        _ => value,
    }
}

/// Why nothing can be written to the state folder, in words that every command has for it; nothing if it can.
pub fn unwritable(state_dir: &Path) -> Option<String> {
    let absolute = std::path::absolute(state_dir).ok()?;
    // A folder that is not there yet is made in the first one that is.
    let there = absolute.ancestors().find(|folder| folder.exists())?;
    let refused =
        rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .err()?;
    let why = std::io::Error::from(refused);
    Some(format!(
        "the state folder {} cannot be written to ({why}): nothing is recorded, no key can be made, and `seaway status` finds no gateway of it",
        state_dir.display()
    ))
}

/// Where the made key is kept.
pub fn key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("key")
}

fn made_key(state_dir: &Path, modes: Modes) -> Result<SecretString, KeyError> {
    let path = key_file(state_dir);
    trusted::folder(state_dir, modes).map_err(|source| KeyError { path: path.clone(), source })?;
    match trusted::read(&path, modes) {
        Ok(text) if !text.trim().is_empty() => {
            tighten(&path);
            Ok(text.split_whitespace().next().unwrap_or_default().to_owned().into())
        }
        Ok(_) => new_key(state_dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => first_key(state_dir),
        Err(source) => Err(KeyError { path, source }),
    }
}

/// A key that others could read is made ours alone again.
fn tighten(path: &Path) {
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if open {
        let fixed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).is_ok();
        tracing::warn!(path = %path.display(), fixed, "the local key could be read by others; rotate it if it may have been");
    }
}

/// What turns keys that are given out into hashes: 32 bytes; none where no key was ever given out.
///
/// # Errors
///
/// If it cannot be read.
pub fn known_pepper(state_dir: &Path, modes: Modes) -> std::io::Result<Option<[u8; 32]>> {
    let path = state_dir.join("pepper");
    match trusted::read(&path, modes) {
        Ok(text) => {
            tighten(&path);
            read_pepper(&path, &text).map(Some)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, made at the first use.
///
/// # Errors
///
/// If the state folder can be neither read nor written.
pub fn pepper(state_dir: &Path, modes: Modes) -> std::io::Result<[u8; 32]> {
    if let Some(known) = known_pepper(state_dir, modes)? {
        return Ok(known);
    }
    trusted::folder(state_dir, modes)?;
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no randomness"))?;
    let path = state_dir.join("pepper");
    let text = first(&path, &URL_SAFE_NO_PAD.encode(random))?;
    read_pepper(&path, &text)
}

fn read_pepper(path: &Path, text: &str) -> std::io::Result<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok();
    bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
        std::io::Error::other(format!(
            "{} is not what was written there; without it no key that was given out is known",
            path.display()
        ))
    })
}

/// Makes a new local key, in place of one that is there.
///
/// # Errors
///
/// If the state folder cannot be written to.
pub fn new_key(state_dir: &Path) -> Result<SecretString, KeyError> {
    let path = key_file(state_dir);
    let wrong = |source| KeyError { path: path.clone(), source };
    let key = random_key().map_err(wrong)?;
    private_dir(state_dir).and_then(|()| replace(&path, key.as_bytes())).map_err(wrong)?;
    Ok(key.into())
}

/// Makes the first local key. Of several that start at once, one wins and all take its key.
fn first_key(state_dir: &Path) -> Result<SecretString, KeyError> {
    let path = key_file(state_dir);
    let wrong = |source| KeyError { path: path.clone(), source };
    let key = random_key().map_err(wrong)?;
    private_dir(state_dir).map_err(wrong)?;
    first(&path, &key).map(SecretString::from).map_err(wrong)
}

/// Writes a file that is not there yet. Returns what is in it: of several that do so at once, one wins.
fn first(path: &Path, content: &str) -> std::io::Result<String> {
    let temporary = temporary(path, content.as_bytes())?;
    let published = std::fs::hard_link(&temporary, path);
    let _gone = std::fs::remove_file(&temporary);
    match published {
        Ok(()) => Ok(content.to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(std::fs::read_to_string(path)?.trim().to_owned())
        }
        Err(error) => Err(error),
    }
}

/// A key that nobody can guess.
///
/// # Errors
///
/// If the system has no randomness.
pub fn random_key() -> std::io::Result<String> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(format!("sk-seaway-{}", URL_SAFE_NO_PAD.encode(random)))
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
///
/// If it cannot be made.
pub fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The same, where what lies in it is trusted.
///
/// # Errors
///
/// If it cannot be made, or is not ours alone.
pub fn own_dir(path: &Path) -> std::io::Result<()> {
    private_dir(path)?;
    if is_own_dir(path) {
        return Ok(());
    }
    let why = format!(
        "{} belongs to somebody else, or others may write there; make it yours alone (chmod 700), or choose another `state_dir`",
        path.display()
    );
    Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why))
}

/// True for a folder of ours that nobody else can write to: whatever lies in it was put there by us.
pub fn is_own_dir(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path);
    meta.is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o022 == 0
    })
}

/// Writes a file that only its owner can read, all of it or nothing.
///
/// # Errors
///
/// If the folder cannot be written to.
pub fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = temporary(path, content)?;
    let moved = std::fs::rename(&temporary, path);
    if moved.is_err() {
        let _gone = std::fs::remove_file(&temporary);
    }
    moved
}

/// Writes a private file beside `path`, whose name nobody can foresee.
fn temporary(path: &Path, content: &[u8]) -> std::io::Result<PathBuf> {
    let name = format!(
        ".{}.{}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        uuid::Uuid::now_v7().simple()
    );
    let temporary = path.with_file_name(name);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _gone = std::fs::remove_file(&temporary);
    }
    written.map(|()| temporary)
}

/// Marks the headers that hold a credential, so that no log shows them.
pub fn mark_sensitive(headers: &mut HeaderMap) {
    for name in CARRIERS.iter().chain([&header::COOKIE, &header::PROXY_AUTHORIZATION]) {
        if let header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expect: Option<&str>) {
        let keyring = Keyring::of([("laptop", "K1"), ("phone", "K2")]);
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!(
            keyring.caller(&headers).as_ref().map(|caller| &*caller.0),
            expect,
            "{headers:?}"
        );
    }

    #[test]
    fn any_carrier_with_a_good_key_lets_in() {
        check(&[], None);
        check(&[("x-api-key", "K3")], None);
        check(&[("x-api-key", "K1")], Some("laptop"));
        check(&[("authorization", "Bearer K2")], Some("phone"));
        check(&[("authorization", "bearer  K2 ")], Some("phone"));
        check(&[("api-key", "K1")], Some("laptop"));
        check(&[("x-api-key", "wrong"), ("authorization", "Bearer K1")], Some("laptop"));
        check(&[("x-api-key", "")], None);
    }

    #[test]
    fn all_that_start_at_once_have_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn({
                    let state = folder.path().join("s");
                    move || made_key(&state, Modes::Strict).unwrap().expose_secret().to_owned()
                })
            })
            .collect();
        let keys: std::collections::HashSet<String> =
            threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn the_made_key_is_private_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = made_key(&state, Modes::Strict).unwrap();
        assert_eq!(made_key(&state, Modes::Strict).unwrap().expose_secret(), first.expose_secret());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key_file(&state)), mode(&state)), (0o600, 0o700));
        assert_ne!(new_key(&state).unwrap().expose_secret(), first.expose_secret());
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "nothing else is left behind");
    }
}
