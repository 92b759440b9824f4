//! The files of the database, and the connections to it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How long to wait for another process that writes.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// The side file is written back beyond this many bytes, in the background. The next write then begins it anew, and waits
/// for the disk once.
pub(super) const SIDE_FILE: u64 = 16 << 20;
/// Beyond this many, the writer does it before it goes on.
const SIDE_FILE_LIMIT: u64 = 64 << 20;
/// How long it leaves that alone afterwards: a full disk stays full for a while.
const AGAIN: Duration = Duration::from_secs(1);

/// A connection. Each reader has its own; a store in memory has but one.
pub(super) type SharedConnection = Arc<Mutex<Connection>>;

pub(super) fn locked(shared: &SharedConnection) -> MutexGuard<'_, Connection> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file that changes lie in until they are written back into the main one (SQLite calls it the write-ahead log).
pub(super) struct Files {
    pub(super) main: PathBuf,
    side: PathBuf,
    /// Somebody who writes it back while the writer goes on.
    background: SyncSender<()>,
    /// When the writer last tried it itself.
    tried: Cell<Option<Instant>>,
}

impl Files {
    pub(super) fn of(path: &Path, database: SharedConnection) -> Self {
        let mut side = path.as_os_str().to_owned();
        side.push("-wal");
        let (background, asked) = sync_channel(1);
        let work = move || {
            for () in asked {
                let database = locked(&database);
                warn_on_error(checkpoint(&database, "PASSIVE"));
            }
        };
        // Without the thread the writer does it, later.
        let _thread = std::thread::Builder::new().name("store-back".into()).spawn(work);
        Self { main: path.to_owned(), side: side.into(), background, tried: Cell::new(None) }
    }

    /// Keeps the side file from growing without end.
    pub(super) fn limit_side_file(&self, writer: &SharedConnection) {
        let size = std::fs::metadata(&self.side).map_or(0, |file| file.len());
        let just_tried = self.tried.get().is_some_and(|tried| tried.elapsed() < AGAIN);
        if size > SIDE_FILE_LIMIT && !just_tried {
            self.tried.set(Some(Instant::now()));
            warn_on_error(checkpoint_at_once(&locked(writer), "RESTART"));
        } else if size > SIDE_FILE {
            // Full means that it is asked for already.
            let _asked = self.background.try_send(());
        }
    }
}

/// Writes everything back and cuts the side file to nothing.
pub(super) fn empty_side_file(writer: &SharedConnection) {
    warn_on_error(checkpoint_at_once(&locked(writer), "TRUNCATE"));
}

/// Without waiting for those who read, as the writer must not.
fn checkpoint_at_once(database: &Connection, how: &str) -> rusqlite::Result<()> {
    database.busy_timeout(Duration::ZERO)?;
    let done = checkpoint(database, how);
    database.busy_timeout(BUSY)?;
    done
}

/// That somebody reads meanwhile is no error; less is written back then.
fn checkpoint(database: &Connection, how: &str) -> rusqlite::Result<()> {
    database.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
}

fn warn_on_error(result: rusqlite::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the side file of the store could not be written back");
    }
}
