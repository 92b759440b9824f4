//! What waits for the one thread that writes: promises first, then records.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, oneshot};

use super::StoreWork;
use crate::record::Record;

/// How long records gather, so that many are written at once: about twelve times a second at any load.
const GATHER: Duration = Duration::from_millis(80);
/// Bytes of records that may be on their way before new requests wait.
const ROOM: usize = 16 << 20;

/// Bytes of responses that may wait to be kept.
const WORK_ROOM: usize = 64 << 20;

/// The writer's next step.
pub(super) enum WriterStep {
    Work(StoreWork),
    /// Records, in the order in which they came; what waits for them to be written.
    Records(VecDeque<Box<Record>>, Vec<oneshot::Sender<bool>>),
    /// Whatever is left is to be put where it outlives the process, with these records.
    Spool(VecDeque<Box<Record>>, Vec<oneshot::Sender<bool>>, oneshot::Sender<()>),
    /// Nothing is due.
    Idle,
    /// The last handle is gone, and the queue is empty.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<PendingWork>,
    /// Looked at between two records, without the lock.
    has_work: AtomicBool,
    changed: Condvar,
    /// Bytes of the records that were not written yet.
    held: AtomicUsize,
    written: Notify,
    pub(super) dropped: Counter,
    pub(super) unkept: Counter,
    trouble: AtomicU8,
}

/// What is wrong with the store, from a moment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It cannot be written: records are held back, and promises refused.
    Unwritable,
    /// The database could not be opened.
    OutOfUse,
}

impl StoreTrouble {
    /// The trouble in words, for a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unwritable => {
                "the store cannot be written: records are held back until it can, and nothing can be promised; is the disk full, or the file locked?"
            }
            Self::OutOfUse => {
                "the store could not be opened: records are held back until it can, and nothing can be promised; the log says why"
            }
        }
    }
}

#[derive(Default)]
struct PendingWork {
    /// With the bytes that each holds.
    work: VecDeque<(usize, StoreWork)>,
    /// The bytes of all queued work.
    bytes: usize,
    records: VecDeque<Box<Record>>,
    /// When the first of the records came.
    since: Option<Instant>,
    flushes: Vec<oneshot::Sender<bool>>,
    spool: Option<oneshot::Sender<()>>,
    closed: bool,
}

impl std::fmt::Debug for PendingWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("work", &self.work.len())
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, PendingWork> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what somebody was promised, of so many bytes. False if more waits already than may wait: a store that does not
    /// answer must not fill the memory.
    pub(super) fn work(&self, bytes: usize, work: StoreWork) -> bool {
        let mut waiting = self.lock();
        if bytes > 0 && waiting.bytes > WORK_ROOM {
            return false;
        }
        waiting.bytes += bytes;
        waiting.work.push_back((bytes, work));
        self.has_work.store(true, Ordering::Relaxed);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        match self.trouble.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(StoreTrouble::Unwritable),
            _ => Some(StoreTrouble::OutOfUse),
        }
    }

    pub(super) fn is_in_trouble(&self, trouble: Option<StoreTrouble>) {
        let number = match trouble {
            None => 0,
            Some(StoreTrouble::Unwritable) => 1,
            Some(StoreTrouble::OutOfUse) => 2,
        };
        self.trouble.store(number, Ordering::Relaxed);
    }

    /// True if somebody waits for a promise.
    pub(super) fn has_work(&self) -> bool {
        self.has_work.load(Ordering::Relaxed)
    }

    /// The next promise, if one waits.
    pub(super) fn work_at_hand(&self) -> Option<StoreWork> {
        self.next_work(&mut self.lock())
    }

    fn next_work(&self, waiting: &mut PendingWork) -> Option<StoreWork> {
        let (bytes, work) = waiting.work.pop_front()?;
        waiting.bytes -= bytes;
        self.has_work.store(!waiting.work.is_empty(), Ordering::Relaxed);
        Some(work)
    }

    pub(super) fn record(&self, record: Box<Record>) {
        self.held.fetch_add(record.size(), Ordering::Relaxed);
        let mut waiting = self.lock();
        waiting.records.push_back(record);
        // The writer knows by then when it is to wake.
        let first = waiting.since.is_none();
        if first {
            waiting.since = Some(Instant::now());
        }
        drop(waiting);
        if first {
            self.changed.notify_one();
        }
    }

    pub(super) async fn room(&self) {
        while self.held.load(Ordering::Relaxed) > ROOM {
            let written = self.written.notified();
            if self.held.load(Ordering::Relaxed) > ROOM {
                written.await;
            }
        }
    }

    /// The writer is done with records of so many bytes.
    pub(super) fn release(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        if before > ROOM {
            self.written.notify_waiters();
        }
    }

    pub(super) async fn flush(&self) -> bool {
        let (done, wait) = oneshot::channel();
        self.lock().flushes.push(done);
        self.changed.notify_one();
        wait.await.unwrap_or(false)
    }

    pub(super) async fn spool(&self) {
        let (done, wait) = oneshot::channel();
        self.lock().spool = Some(done);
        self.changed.notify_one();
        let _closed = wait.await;
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// What is to be done now, without waiting for more to gather.
    pub(super) fn at_hand(&self) -> WriterStep {
        let mut waiting = self.lock();
        if let Some(work) = self.next_work(&mut waiting) {
            return WriterStep::Work(work);
        }
        if let Some(done) = waiting.spool.take() {
            return waiting.spool(done);
        }
        if waiting.records.is_empty() && waiting.flushes.is_empty() {
            WriterStep::Idle
        } else {
            waiting.take()
        }
    }

    /// Waits for something to do, but no longer than until `idle`.
    pub(super) fn next(&self, idle: Option<Instant>) -> WriterStep {
        let mut waiting = self.lock();
        loop {
            if let Some(work) = self.next_work(&mut waiting) {
                return WriterStep::Work(work);
            }
            let now = Instant::now();
            let due = waiting.since.map(|since| since + GATHER);
            if waiting.closed && waiting.records.is_empty() && waiting.flushes.is_empty() {
                return WriterStep::Closed;
            }
            if let Some(done) = waiting.spool.take() {
                return waiting.spool(done);
            }
            let urgent = waiting.closed || !waiting.flushes.is_empty();
            if urgent || due.is_some_and(|due| due <= now) {
                return waiting.take();
            }
            if idle.is_some_and(|idle| idle <= now) {
                return WriterStep::Idle;
            }
            let until = due.into_iter().chain(idle).min();
            waiting = match until {
                Some(until) => {
                    self.changed
                        .wait_timeout(waiting, until - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl PendingWork {
    fn spool(&mut self, done: oneshot::Sender<()>) -> WriterStep {
        self.since = None;
        let records = std::mem::take(&mut self.records);
        WriterStep::Spool(records, std::mem::take(&mut self.flushes), done)
    }

    fn take(&mut self) -> WriterStep {
        self.since = None;
        WriterStep::Records(std::mem::take(&mut self.records), std::mem::take(&mut self.flushes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_kept_has_a_bound() {
        let inbox = Inbox::default();
        let half = WORK_ROOM / 2 + 1;
        let queued = [half, half, half, 0].map(|bytes| inbox.work(bytes, Box::new(|_| {})));
        assert_eq!(queued, [true, true, false, true], "what is small is always taken");
        assert!(inbox.has_work() && inbox.work_at_hand().is_some());
        assert!(inbox.work(half, Box::new(|_| {})), "there is room again");
        while inbox.work_at_hand().is_some() {}
        assert!(!inbox.has_work());
    }
}
