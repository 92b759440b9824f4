//! Opening the database, and who reads it by which connection.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::files::{BUSY, Files, SIDE_FILE, SharedConnection, locked};
use super::writer::Writer;
use super::{StoreError, StoreWork, schema};
use crate::config::{PriceBook, StoreConfig, StoreSync};
use crate::trusted::Modes;

/// A connection that only reads.
pub type Reader = Connection;

pub(super) struct Open {
    pub(super) writer: Writer,
    pub(super) lookups: SharedConnection,
    pub(super) reports: SharedConnection,
}

/// Opens the store and brings its layout up to date.
pub(super) fn open(setting: &StoreConfig, prices: &PriceBook) -> Result<Open, StoreError> {
    let (StoreConfig { path, modes, .. }, sync) = (setting, setting.sync);
    let modes = *modes;
    let Some(path) = path else {
        let mut database = Connection::open_in_memory()?;
        schema::migrate(&mut database, Path::new(":memory:"), prices)?;
        let shared = Arc::new(Mutex::new(database));
        return Ok(Open {
            writer: Writer { shared: shared.clone(), files: None },
            lookups: shared.clone(),
            reports: shared,
        });
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::auth::private_dir(folder)
        .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    crate::trusted::private_file(path, modes)
        .map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let database = to_write(path, modes, sync, prices).map_err(failed)?;
    let read = || to_read(path).map(|database| Arc::new(Mutex::new(database))).map_err(failed);
    let (lookups, reports, files) = (read()?, read()?, Files::of(path, read()?));
    Ok(Open {
        writer: Writer { shared: Arc::new(Mutex::new(database?)), files: Some(files) },
        lookups,
        reports,
    })
}

/// A connection that writes, to a store of the newest layout.
fn to_write(
    path: &Path,
    modes: Modes,
    sync: StoreSync,
    prices: &PriceBook,
) -> rusqlite::Result<Result<Connection, StoreError>> {
    let mut database = Connection::open(path)?;
    database.busy_timeout(BUSY)?;
    // Pages that become free are given back; only a new file can be told so.
    database.pragma_update(None, "auto_vacuum", "incremental")?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", sync.name())?;
    // What was deleted is gone from the disk too.
    database.pragma_update(None, "secure_delete", true)?;
    database.pragma_update(None, "wal_autocheckpoint", 0)?;
    database.pragma_update(
        None,
        "journal_size_limit",
        i64::try_from(SIDE_FILE).unwrap_or(i64::MAX),
    )?;
    database.set_prepared_statement_cache_capacity(64);
    Ok(schema::copy(&database, path, modes)
        .and_then(|()| schema::migrate(&mut database, path, prices))
        .map(|()| database))
}

fn to_read(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    database.busy_timeout(BUSY)?;
    database.pragma_update(None, "query_only", true)?;
    Ok(database)
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
    let database =
        to_read(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    schema::check_to_read(&database, path)?;
    Ok(Some(database))
}

/// A connection that is there once the store could be opened.
#[derive(Debug, Default)]
pub(super) struct ReaderSlot(Mutex<SlotState>, Condvar);

#[derive(Debug, Default)]
enum SlotState {
    /// The first try is under way: whoever asks waits for it.
    #[default]
    Opening,
    OutOfUse,
    Open(SharedConnection),
}

impl ReaderSlot {
    pub(super) fn is_out_of_use(&self) {
        self.set(SlotState::OutOfUse);
    }

    pub(super) fn opened(&self, shared: SharedConnection) {
        self.set(SlotState::Open(shared));
    }

    fn set(&self, state: SlotState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.1.notify_all();
    }

    /// Does it by the connection, or drops it where there is none.
    pub(super) fn work(&self, work: StoreWork) {
        if let Some(shared) = self.connection() {
            work(&mut locked(&shared));
        }
    }

    fn connection(&self) -> Option<SharedConnection> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = |state: &mut SlotState| matches!(state, SlotState::Opening);
        let state = self.1.wait_while(state, opening).unwrap_or_else(PoisonError::into_inner);
        match &*state {
            SlotState::Open(shared) => Some(shared.clone()),
            SlotState::Opening | SlotState::OutOfUse => None,
        }
    }
}

/// Has a thread do what is asked of a connection, in turn, as long as somebody can ask. While the store cannot be opened
/// it is dropped, which tells whoever asked.
pub(super) fn read_by(
    name: &str,
    slot: Arc<ReaderSlot>,
    urgency: Urgency,
    asked: Receiver<StoreWork>,
) {
    let work = move || {
        if urgency == Urgency::Patient {
            stand_back();
        }
        for work in asked {
            slot.work(work);
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
