//! What is kept on disk, by three promises.
//!
//! - The *journal* says what happened: records come without waiting, are written many at once and
//!   summed by the hour. A writer that falls behind makes new requests wait; it loses nothing.
//! - *State* was promised to somebody: responses, sessions, tasks. It is written before its client
//!   is told, and read by a connection of its own.
//! - *Reports* are what people ask. They have a connection of their own too, and are in nobody's way.

mod accounts;
mod audit;
mod claims;
mod files;
mod inbox;
mod journal;
mod keeper;
mod keys;
mod logins;
mod made;
mod open;
mod promise;
mod reports;
mod responses;
mod row;
mod schema;
mod sessions;
mod shapes;
mod spool;
mod stepped;
mod tasks;
mod telemetry;
#[cfg(test)]
mod tests;
mod usage_by;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rusqlite::Connection;

use crate::account::Ledgers;
use crate::config::{self, PriceBook};
use crate::fault::{Fault, FaultKind};
use crate::record::Record;
use inbox::Inbox;
use open::{ReaderSlot, Urgency};
use writer::{Writer, WriterSetting};

pub use accounts::{AccountChange, ChangedBy, UsedUp};
pub use audit::{AuditEntry, AuditEvent, AuditRow, append, audit};
pub use claims::{ClaimLine, ClaimSlot, Claims, is_kept};
pub use inbox::StoreTrouble;
pub use keeper::{Keeper, Keeping, Keepsake};
pub use made::MadeAt;
pub use open::{Reader, open_to_read};
pub use promise::Promise;
pub use reports::{Filter, Receipt, RequestFilter, Row, explain, requests, usage};
pub use responses::Response;
pub use sessions::Session;
pub use stepped::StoreSteps;
pub use tasks::{LEASE, RESTARTED, Task, TaskStatus};
pub use usage_by::{UsageBy, UsageSum, usage_by};

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
    #[error(
        "cannot copy the older store to {path} before its layout is changed; make room, or move the store away"
    )]
    Copy {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the store {path} was written by a newer Seaway (version {found} of its layout, this one knows {known})"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "the store {path} was written by an older Seaway; start `seaway` once, which brings it up to date and keeps a copy"
    )]
    Older { path: PathBuf },
    #[error("the store could not do it")]
    Failed(#[from] rusqlite::Error),
    /// It could not be opened; the log says why.
    #[error("the store is out of use")]
    Gone,
    #[error("the store did not answer within ten seconds")]
    Late,
    #[error("more waits to be written to the store than may wait")]
    Full,
}

/// What was promised cannot be kept, or not be found again, at the moment.
impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::new(FaultKind::StoreDown, "the gateway's store cannot be used at the moment; ask again, and see the gateway's log").because(error)
    }
}

/// What is to be done with the database. Dropped undone, whoever waits learns that the store is out of use.
type StoreWork = Box<dyn FnOnce(&mut Connection) + Send>;

/// Told what is known of keys, and where requests under a cap are noted, once the store is open and before anything is written.
pub struct Opened {
    /// This process is to keep budgets: one does, of those that use the store.
    pub keeps_budgets: bool,
    /// Called again where there was trouble before.
    pub tell: Box<dyn FnMut(Ledgers, Option<Arc<Claims>>) + Send>,
}

impl Opened {
    /// For who wants to know of no keys.
    pub fn unheard() -> Self {
        Self { keeps_budgets: false, tell: Box::new(|_, _| {}) }
    }
}

/// A handle on the store. Its threads end with the last one.
#[derive(Debug, Clone)]
pub struct Store {
    writer: Arc<Handle>,
    lookups: Sender<StoreWork>,
    reports: Sender<StoreWork>,
    sync: config::StoreSync,
}

/// Ends the writer when nobody can ask it for anything any more.
#[derive(Debug)]
struct Handle(Arc<Inbox>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Store {
    /// Starts the threads of the store. The file is opened by them, so that nobody waits; `failed` is
    /// called if that is not possible, once, and it is tried again from time to time. By `prices` is estimated what older records have cost, which did
    /// not keep it. `opened` is told what is known of keys.
    pub fn start(
        setting: config::StoreConfig,
        prices: Arc<PriceBook>,
        opened: Opened,
        failed: impl FnOnce(&StoreError) + Send + 'static,
    ) -> Self {
        let (store, parts) = Self::parts(&setting);
        open::read_by(
            "store-lookups",
            parts.lookups.slot.clone(),
            Urgency::Prompt,
            parts.lookups.asked,
        );
        open::read_by(
            "store-reports",
            parts.reports.slot.clone(),
            Urgency::Patient,
            parts.reports.asked,
        );
        let slots = [parts.lookups.slot, parts.reports.slot];
        let work = move || {
            let writing = WriterSetting::of(&setting);
            writer::run(parts.inbox, writing, opener(setting, prices, slots, failed), opened);
        };
        // Without the thread nothing is recorded, and whoever waits for something to be kept waits in vain; such a
        // process has no thread for anything else either.
        let _thread = std::thread::Builder::new().name("store".into()).spawn(work);
        store
    }

    fn parts(setting: &config::StoreConfig) -> (Self, StoreParts) {
        let inbox = Arc::new(Inbox::default());
        let ((lookups, looked_up), (reports, reported)) = (channel(), channel());
        let writer = Arc::new(Handle(inbox.clone()));
        let reading = |asked| ReadingPart { slot: Arc::default(), asked };
        let parts = StoreParts { inbox, lookups: reading(looked_up), reports: reading(reported) };
        (Self { writer, lookups, reports, sync: setting.sync }, parts)
    }

    /// A store that forgets everything with the process.
    pub fn in_memory() -> Self {
        Self::start(
            config::StoreConfig {
                path: None,
                retention: Duration::MAX,
                sync: config::StoreSync::Normal,
                modes: crate::trusted::Modes::Strict,
            },
            Arc::default(),
            Opened::unheard(),
            |_| {},
        )
    }

    /// Queues a record. It is written even if the store falls behind, see [`Self::room`].
    pub fn record(&self, record: Box<Record>) {
        self.writer.0.record(record);
    }

    /// Waits while more records are on their way than may be: for who is about to begin what will be recorded.
    ///
    /// Nothing is lost if this is dropped.
    pub async fn room(&self) {
        self.writer.0.room().await;
    }

    /// Waits until every record so far is written; false if that cannot be done at the moment. Cancel safe.
    pub async fn flush(&self) -> bool {
        self.writer.0.flush().await
    }

    /// Has what could not be written put into a file, for the next gateway to take over. For the end: what is promised
    /// or recorded afterwards may be lost. Cancel safe.
    pub async fn spool(&self) {
        self.writer.0.spool().await;
    }

    /// True where an answer ends when its record is on the disk.
    pub fn is_synced(&self) -> bool {
        self.sync == config::StoreSync::Full
    }

    /// What is wrong with it right now.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.writer.0.trouble()
    }

    /// Counts records that could not be written; their tokens are counted all the same, as soon as anything can be.
    pub fn dropped(&self) -> Counter {
        self.writer.0.dropped.clone()
    }

    /// Counts what was promised to somebody and could not be kept, of which each was told.
    pub fn unkept(&self) -> Counter {
        self.writer.0.unkept.clone()
    }

    /// Has something small written that somebody was, or will be, promised.
    fn keep<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Promise<T> {
        self.keep_sized(0, work)
    }

    /// The same for something of so many bytes.
    fn keep_sized<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Promise<T> {
        let (work, promise) = promise::of(work);
        let promise = promise.counted(self.writer.0.unkept.clone());
        if self.writer.0.work(bytes, work) { promise } else { promise.refused() }
    }

    /// Reads what was promised.
    fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Promise<T> {
        ask(&self.lookups, work)
    }

    /// Reads what people ask.
    fn report<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Promise<T> {
        ask(&self.reports, work)
    }
}

/// The other ends of a store's handle.
struct StoreParts {
    inbox: Arc<Inbox>,
    lookups: ReadingPart,
    reports: ReadingPart,
}

/// What is asked of one connection that reads.
struct ReadingPart {
    slot: Arc<ReaderSlot>,
    asked: Receiver<StoreWork>,
}

/// Opens the database, for its writer and for those who read; `failed` is told the first failure.
fn opener(
    setting: config::StoreConfig,
    prices: Arc<PriceBook>,
    [lookups, reports]: [Arc<ReaderSlot>; 2],
    failed: impl FnOnce(&StoreError) + Send,
) -> impl FnMut() -> Result<Writer, StoreError> + Send {
    let mut failed = Some(failed);
    move || match open::open(&setting, &prices) {
        Ok(open) => {
            lookups.opened(open.lookups);
            reports.opened(open.reports);
            if failed.is_none() {
                tracing::info!("the store could be opened at last");
            }
            Ok(open.writer)
        }
        Err(error) => {
            lookups.is_out_of_use();
            reports.is_out_of_use();
            if let Some(failed) = failed.take() {
                failed(&error);
            }
            Err(error)
        }
    }
}

fn ask<T: Send + 'static>(
    queue: &Sender<StoreWork>,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Promise<T> {
    let (work, promise) = promise::of_reading(work);
    // A queue that nobody reads drops it.
    let _gone = queue.send(work);
    promise
}
