//! Records on disk and in the log: one writer thread, SQLite, a bounded queue.
//!
//! A stream never waits for either. When the queue is full a record is dropped
//! and counted.

mod reports;
mod responses;
mod schema;
mod sessions;
mod tasks;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rusqlite::Connection;

use crate::config;
use crate::record::Record;

pub use reports::{Filter, Receipt, Row, Wanted, explain, requests, usage};
pub use responses::Response;
pub use sessions::Session;
pub use tasks::{RESTARTED, Task, TaskStatus};

/// Records that may wait for the writer.
const QUEUE: usize = 4096;
/// Records written in one transaction.
const BATCH: usize = 256;
/// How long the writer lets records gather, so that it wakes for many at once.
const GATHER: Duration = Duration::from_millis(100);
/// How often old records are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the store in {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot make the folder of the store, {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot copy the older store to {path} before its layout is changed; make room, or move the store away")]
    Copy {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store {path} was written by a newer Seaway (version {found} of its layout, this one knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the store gave no answer")]
    Read(#[from] rusqlite::Error),
}

/// A handle on the store.
#[derive(Debug, Clone)]
pub struct Store {
    queue: SyncSender<Message>,
    dropped: Counter,
}

enum Message {
    Record(Box<Record>),
    /// Something to do with the database, in its turn.
    Work(Work),
    Flush(tokio::sync::oneshot::Sender<()>),
}

type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

impl Message {
    fn log(self) {
        match self {
            Self::Record(record) => record.log(),
            Self::Work(_) | Self::Flush(_) => {}
        }
    }
}

impl Store {
    /// Starts the writer. The file is opened by it, so that nobody waits; `failed` is
    /// called if that is not possible.
    #[must_use]
    pub fn start(setting: config::Store, failed: impl FnOnce(&StoreError) + Send + 'static) -> Self {
        let (queue, inbox) = sync_channel(QUEUE);
        let writer = move || match open(setting.path.as_deref()) {
            Ok(database) => write(&database, &inbox, setting.retention),
            Err(error) => {
                failed(&error);
                // Records go to the log alone; whoever waits for a flush is told.
                inbox.into_iter().for_each(Message::log);
            }
        };
        // Without the thread the queue is closed, and every record counts as dropped.
        let _thread = std::thread::Builder::new().name("store".into()).spawn(writer);
        Self { queue, dropped: Counter::default() }
    }

    /// A store that forgets everything with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::start(config::Store { path: None, retention: Duration::MAX }, |_| {})
    }

    /// Queues something to be done with the database. What finds the queue full is not done.
    fn work(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) {
        if self.queue.try_send(Message::Work(Box::new(work))).is_err() {
            self.dropped.inc();
        }
    }

    /// Asks the database, after all that was queued before. `None` if it cannot be read.
    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Option<T> {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.work(move |database| {
            // Whoever asked may have left.
            let _ = done.send(question(database)?);
            Ok(())
        });
        wait.await.ok()
    }

    /// Queues a record.
    pub fn record(&self, record: Box<Record>) {
        match self.queue.try_send(Message::Record(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                message.log();
                self.dropped.inc();
            }
        }
    }

    /// Waits until everything queued so far is written.
    pub async fn flush(&self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        let queue = self.queue.clone();
        let sent = tokio::task::spawn_blocking(move || queue.send(Message::Flush(done)).is_ok()).await;
        if sent.unwrap_or(false) {
            let _closed = wait.await;
        }
    }

    /// Counts records that found the queue full.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.dropped.clone()
    }
}

/// Opens the store for writing and brings its layout up to date.
fn open(path: Option<&Path>) -> Result<Connection, StoreError> {
    let Some(path) = path else {
        let mut database = Connection::open_in_memory()?;
        schema::migrate(&mut database, Path::new(":memory:"))?;
        return Ok(database);
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::auth::private_dir(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    private_file(path).map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut database = Connection::open(path).map_err(failed)?;
    database.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    database.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    database.pragma_update(None, "synchronous", "normal").map_err(failed)?;
    schema::copy(&database, path)?;
    schema::migrate(&mut database, path)?;
    Ok(database)
}

/// SQLite gives its side files the mode of the main one, so that one is made first.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Opens an existing store for reading.
///
/// # Errors
///
/// [`StoreError`] if it cannot be read. `Ok(None)` if there is none yet.
pub fn open_to_read(path: &Path) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let database = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    database.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    schema::check(&database, path)?;
    Ok(Some(database))
}

fn write(database: &Connection, inbox: &Receiver<Message>, retention: Duration) {
    let mut swept: Option<std::time::Instant> = None;
    while let Ok(first) = inbox.recv() {
        if swept.is_none_or(|at| at.elapsed() > SWEEP) {
            swept = Some(std::time::Instant::now());
            warn_on_error(schema::forget(database, retention));
        }
        if matches!(first, Message::Record(_)) {
            std::thread::sleep(GATHER);
        }
        let mut rest = inbox.try_iter();
        warn_on_error(write_batch(database, std::iter::once(first).chain(rest.by_ref().take(BATCH - 1))));
        // More than one batch may have gathered.
        while let Some(next) = rest.next() {
            warn_on_error(write_batch(database, std::iter::once(next).chain(rest.by_ref().take(BATCH - 1))));
        }
    }
}

fn write_batch(database: &Connection, batch: impl Iterator<Item = Message>) -> rusqlite::Result<()> {
    let transaction = database.unchecked_transaction()?;
    let mut flushed = Vec::new();
    for message in batch {
        match message {
            Message::Record(record) => {
                record.log();
                // One record that cannot be written must not take others with it.
                warn_on_error(schema::insert(&transaction, &record));
            }
            Message::Work(work) => warn_on_error(work(&transaction)),
            Message::Flush(done) => flushed.push(done),
        }
    }
    transaction.commit()?;
    for done in flushed {
        // Whoever waited may have left.
        let _ = done.send(());
    }
    Ok(())
}

fn warn_on_error(result: rusqlite::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "records could not be written to the store");
    }
}
