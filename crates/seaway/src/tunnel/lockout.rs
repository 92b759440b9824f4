//! Not getting the node blocked: who fails to log in too often stops trying.
//!
//! Two failures in a row that the other end may hold against us are fifteen minutes without ssh; the third such round
//! locks it until the owner says `seaway unlock`. The state is a file that all processes of the owner on this machine
//! share, so that a restart loop cannot get round it.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::failure::SshFailure;
use crate::auth::{own_dir, replace};

/// Failures in a row that make a round.
const ROUND: u32 = 2;
/// Rounds that lock.
const LAST_ROUND: u32 = 3;
/// How long ssh rests after a round.
pub const REST: Duration = Duration::from_secs(15 * 60);
/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is held against one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockoutRecord {
    /// In a row, since the last round.
    failures: u32,
    rounds: u32,
    /// Seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    /// ssh's last words.
    #[serde(default)]
    pub last: String,
}

/// Whether ssh may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockoutVerdict {
    Free,
    /// Not before this time, in seconds since the epoch.
    Rests(i64),
    Locked,
}

impl LockoutRecord {
    /// Says whether a login may be tried at `now`.
    pub fn verdict(&self, now: i64) -> LockoutVerdict {
        if self.rounds >= LAST_ROUND {
            return LockoutVerdict::Locked;
        }
        // A clock that was set back must not make it longer.
        let until = self.until.map(|until| until.min(now + REST.as_secs().cast_signed()));
        until.filter(|until| *until > now).map_or(LockoutVerdict::Free, LockoutVerdict::Rests)
    }

    /// Notes a login that failed.
    pub fn failed(&mut self, cause: SshFailure, last: &str, now: i64) {
        if !cause.counts() {
            return;
        }
        last.clone_into(&mut self.last);
        self.failures += 1;
        if self.failures >= ROUND {
            self.failures = 0;
            self.rounds += 1;
            self.until = Some(now + REST.as_secs().cast_signed());
        }
    }
}

/// The file, and the place in it that one tunnel logs in to.
#[derive(Debug, Clone)]
pub struct Lockout {
    path: PathBuf,
    place: String,
}

type Records = BTreeMap<String, LockoutRecord>;

impl Lockout {
    pub fn new(path: &Path, place: &str) -> Self {
        Self { path: path.to_owned(), place: place.to_owned() }
    }

    /// What is held against the place.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read: then nobody knows, and nobody may log in.
    pub fn read(&self) -> io::Result<LockoutRecord> {
        Ok(all(&self.path)?.remove(&self.place).unwrap_or_default())
    }

    /// Notes a login that failed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn failed(&self, cause: SshFailure, last: &str, now: i64) -> io::Result<()> {
        if !cause.counts() {
            return Ok(());
        }
        self.change(|records| {
            records.entry(self.place.clone()).or_default().failed(cause, last, now);
        })
    }

    /// A tunnel proved itself: nothing is held against the place any more.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn proved(&self) -> io::Result<()> {
        if self.read()? == LockoutRecord::default() {
            return Ok(());
        }
        self.change(|records| drop(records.remove(&self.place)))
    }

    fn change(&self, change: impl FnOnce(&mut Records)) -> io::Result<()> {
        let _held = hold(&self.path.with_extension("lock"), PATIENCE)?;
        let mut records = all(&self.path)?;
        change(&mut records);
        replace(&self.path, &serde_json::to_vec_pretty(&records)?)
    }
}

/// Everything that is held against any place.
///
/// # Errors
///
/// If the file is there and cannot be read.
pub fn all(path: &Path) -> io::Result<Records> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            io::Error::other(format!(
                "{} is damaged: {error}; `seaway unlock` makes it new",
                path.display()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Records::new()),
        Err(error) => Err(error),
    }
}

/// Forgets everything. Returns what there was.
///
/// # Errors
///
/// If the file cannot be removed.
pub fn clear(path: &Path) -> io::Result<Records> {
    if !path.exists() {
        return Ok(Records::new());
    }
    let _held = hold(&path.with_extension("lock"), PATIENCE)?;
    let records = all(path).unwrap_or_default();
    std::fs::remove_file(path)?;
    Ok(records)
}

/// Holds a lock that all processes of the owner respect, for as long as the file is open.
///
/// # Errors
///
/// If somebody else holds it for longer than `patience`, or the file cannot be made.
pub fn hold(path: &Path, patience: Duration) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        own_dir(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if since.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("another process holds {}", path.display()),
                ));
            }
            // Some file systems of clusters have no locks. Without them two processes may log in at once, which is all.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, path = %path.display(), "there are no locks here");
                return Ok(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: i64 = 15 * 60;

    #[test]
    fn three_rounds_of_two_lock_and_the_network_never_does() {
        let mut record = LockoutRecord::default();
        for _ in 0..5 {
            record.failed(SshFailure::Network, "n", 0);
        }
        assert_eq!((record.verdict(0), &*record.last), (LockoutVerdict::Free, ""));
        let mut now = 1000;
        for round in 1..=3 {
            record.failed(SshFailure::Authentication, "denied", now);
            assert_eq!(record.verdict(now), LockoutVerdict::Free, "one may be a slip");
            record.failed(SshFailure::Unknown, "denied", now + 1);
            let expect = if round == 3 {
                LockoutVerdict::Locked
            } else {
                LockoutVerdict::Rests(now + 1 + QUARTER)
            };
            assert_eq!(record.verdict(now + 1), expect);
            now += 1 + QUARTER;
            assert_eq!(
                record.verdict(now),
                if round == 3 { LockoutVerdict::Locked } else { LockoutVerdict::Free }
            );
        }
        assert_eq!(record.verdict(i64::MAX / 2), LockoutVerdict::Locked, "no time heals it");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_longer_rest() {
        let mut record = LockoutRecord::default();
        record.failed(SshFailure::HostKey, "", 1_000_000);
        record.failed(SshFailure::HostKey, "", 1_000_000);
        assert_eq!(record.verdict(5), LockoutVerdict::Rests(5 + QUARTER));
    }

    #[test]
    fn the_file_is_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/ssh.json");
        let (here, there) = (Lockout::new(&path, "here"), Lockout::new(&path, "there"));
        for _ in 0..6 {
            // As a process that starts anew each time.
            Lockout::new(&path, "here").failed(SshFailure::Authentication, "denied", 7).unwrap();
        }
        assert_eq!(
            (here.read().unwrap().verdict(7), there.read().unwrap().verdict(7)),
            (LockoutVerdict::Locked, LockoutVerdict::Free)
        );
        here.proved().unwrap();
        assert_eq!(here.read().unwrap(), LockoutRecord::default());
        there.failed(SshFailure::Unknown, "x", 7).unwrap();
        assert_eq!(clear(&path).unwrap().keys().collect::<Vec<_>>(), ["there"]);
        assert!(
            clear(&path).unwrap().is_empty() && there.read().unwrap() == LockoutRecord::default()
        );
        std::fs::write(&path, "{").unwrap();
        assert!(
            here.read().unwrap_err().to_string().contains("is damaged") && here.proved().is_err()
        );
        clear(&path).unwrap();
        assert!(here.proved().is_ok());
    }

    #[test]
    fn many_at_once_lose_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssh.json");
        std::thread::scope(|scope| {
            for place in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    Lockout::new(path, &place.to_string())
                        .failed(SshFailure::Unknown, "x", 1)
                        .unwrap();
                });
            }
        });
        assert_eq!(all(&path).unwrap().len(), 8);
    }
}
