//! Opening the database, and who reads it by which connection.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::writer::Writer;
use super::{StoreError, Work, schema};
use crate::config::PriceBook;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// The side file is written back beyond this many bytes, in the background. The next write then begins it anew, and waits
/// for the disk once.
const SIDE_FILE: u64 = 16 << 20;
/// Beyond this many, the writer does it before it goes on.
const SIDE_FILE_LIMIT: u64 = 64 << 20;
/// How long it leaves that alone afterwards: a full disk stays full for a while.
const AGAIN: Duration = Duration::from_secs(1);

/// A connection that only reads.
pub type Reader = Connection;

/// A connection. Each reader has its own; a store in memory has but one.
pub(super) type Shared = Arc<Mutex<Connection>>;

pub(super) fn locked(shared: &Shared) -> MutexGuard<'_, Connection> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Open {
    pub(super) writer: Writer,
    pub(super) lookups: Shared,
    pub(super) reports: Shared,
}

/// Opens the store and brings its layout up to date.
pub(super) fn open(path: Option<&Path>, prices: &PriceBook) -> Result<Open, StoreError> {
    let Some(path) = path else {
        let mut database = Connection::open_in_memory()?;
        schema::migrate(&mut database, Path::new(":memory:"), prices)?;
        let shared = Arc::new(Mutex::new(database));
        return Ok(Open { writer: Writer { shared: shared.clone(), files: None }, lookups: shared.clone(), reports: shared });
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::auth::private_dir(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    private_file(path).map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let database = to_write(path, prices).map_err(failed)?;
    let read = || to_read(path).map(|database| Arc::new(Mutex::new(database))).map_err(failed);
    let (lookups, reports, files) = (read()?, read()?, Files::of(path, read()?));
    Ok(Open { writer: Writer { shared: Arc::new(Mutex::new(database?)), files: Some(files) }, lookups, reports })
}

/// A connection that writes, to a store of the newest layout.
fn to_write(path: &Path, prices: &PriceBook) -> rusqlite::Result<Result<Connection, StoreError>> {
    let mut database = Connection::open(path)?;
    database.busy_timeout(BUSY)?;
    // Pages that become free are given back; only a new file can be told so.
    database.pragma_update(None, "auto_vacuum", "incremental")?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "normal")?;
    // What was deleted is gone from the disk too.
    database.pragma_update(None, "secure_delete", true)?;
    database.pragma_update(None, "wal_autocheckpoint", 0)?;
    database.pragma_update(None, "journal_size_limit", i64::try_from(SIDE_FILE).unwrap_or(i64::MAX))?;
    database.set_prepared_statement_cache_capacity(64);
    Ok(schema::copy(&database, path).and_then(|()| schema::migrate(&mut database, path, prices)).map(|()| database))
}

fn to_read(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "query_only", true)?;
    Ok(database)
}

/// SQLite gives its side files the mode of the main one, so that one is made first.
pub(super) fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Opens an existing store for reading.
///
/// # Errors
///
/// [`StoreError`] if it cannot be read. `Ok(None)` if there is none yet.
pub fn open_to_read(path: &Path) -> Result<Option<Reader>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let database = to_read(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    schema::check_to_read(&database, path)?;
    Ok(Some(database))
}

/// Has a thread do what is asked of a connection, in turn, as long as somebody can ask.
pub(super) fn read_by(name: &str, shared: Shared, urgency: Urgency, asked: Receiver<Work>) {
    let work = move || {
        if urgency == Urgency::Patient {
            stand_back();
        }
        for work in asked {
            work(&mut locked(&shared));
        }
    };
    // Without the thread nobody reads the queue, and whoever asks learns that the store is out of use.
    let _thread = std::thread::Builder::new().name(name.into()).spawn(work);
}

/// Who waits for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A request.
    Prompt,
    /// A person.
    Patient,
}

/// Lets others have the core first, where the system knows threads for that and not processes alone.
fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 5) {
        tracing::debug!(%error, "the threads for reports are as urgent as any");
    }
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
    fn of(path: &Path, database: Shared) -> Self {
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
    pub(super) fn limit_side_file(&self, writer: &Shared) {
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
pub(super) fn empty_side_file(writer: &Shared) {
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
