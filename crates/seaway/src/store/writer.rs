//! The one thread that writes: promises as they come, records many at once, and in between what makes room.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::files::{Files, SharedConnection, empty_side_file, locked};
use super::inbox::{Inbox, StoreTrouble, WriterStep};
use super::journal::{BatchResult, Journal, Owed, Pace};
use super::schema;
use crate::record::Record;

/// How often old records are looked for.
const SWEEP: Duration = Duration::from_secs(3600);
/// Between two slices of a sweep, while there is something else to do.
const PAUSE: Duration = Duration::from_millis(10);
/// After a failure the store is tried again this much later, or with the next records.
const RETRY: Duration = Duration::from_secs(1);
/// After so long without a write the side file is emptied.
const QUIET: Duration = Duration::from_secs(5);
/// Bytes of records that are held back while the store cannot be written. What is beyond is kept as a sum.
const HELD_BACK: usize = 8 << 20;

/// Writes until the last handle is gone.
pub(super) fn run(writer: &Writer, inbox: &Inbox, retention: Duration) {
    let mut desk = WriterDesk {
        writer,
        inbox,
        journal: Journal::default(),
        unwritten: VecDeque::new(),
        held: 0,
        owed: Owed::default(),
        flushes: Vec::new(),
        retry: None,
        retention,
        sweep: Instant::now(),
        busy: false,
        wrote: None,
    };
    loop {
        match inbox.next(desk.next()) {
            WriterStep::Work(work) => {
                desk.busy = true;
                work(&mut locked(&writer.shared));
                desk.written();
            }
            WriterStep::Records(records, flushes) => {
                desk.busy = true;
                desk.take(records, flushes);
            }
            WriterStep::Idle => desk.tidy(),
            WriterStep::Closed => break,
        }
    }
    desk.leave();
}

/// Without a database: records go to the log, and whoever waits is told.
pub(super) fn refuse(inbox: &Inbox) {
    inbox.is_in_trouble(Some(StoreTrouble::OutOfUse));
    loop {
        match inbox.next(None) {
            WriterStep::Records(records, _flushes) => {
                for record in records {
                    record.log();
                    inbox.dropped.inc();
                    inbox.release(record.size());
                }
            }
            WriterStep::Work(_) | WriterStep::Idle => {}
            WriterStep::Closed => return,
        }
    }
}

/// What the thread writes with.
pub(super) struct Writer {
    pub(super) shared: SharedConnection,
    /// None for a store in memory.
    pub(super) files: Option<Files>,
}

struct WriterDesk<'a> {
    writer: &'a Writer,
    inbox: &'a Inbox,
    journal: Journal,
    /// Records that are not yet written; many only while the store cannot be written.
    unwritten: VecDeque<Box<Record>>,
    /// Their bytes.
    held: usize,
    owed: Owed,
    flushes: Vec<oneshot::Sender<()>>,
    /// When to try again, after a failure.
    retry: Option<Instant>,
    retention: Duration,
    /// When to look for old records.
    sweep: Instant,
    /// Work came since the last look.
    busy: bool,
    /// When something was last written, if the side file was not emptied since.
    wrote: Option<Instant>,
}

impl WriterDesk<'_> {
    /// When there is something to do besides what comes.
    fn next(&self) -> Option<Instant> {
        let quiet = self.wrote.map(|wrote| wrote + QUIET);
        [self.retry, Some(self.sweep), quiet].into_iter().flatten().min()
    }

    fn take(&mut self, records: VecDeque<Box<Record>>, flushes: Vec<oneshot::Sender<()>>) {
        let mut pace = Pace::of(records.len());
        for record in records {
            record.log();
            self.held += record.size();
            self.unwritten.push_back(record);
            if self.inbox.has_work() {
                self.do_work();
            }
            pace.step();
        }
        self.flushes.extend(flushes);
        self.write();
    }

    fn write(&mut self) {
        while !self.unwritten.is_empty() || !self.owed.is_empty() {
            let done = self.journal.write(
                &mut locked(&self.writer.shared),
                &self.unwritten,
                &self.owed,
                || !self.inbox.has_work(),
            );
            match done {
                Ok(written) => self.wrote_records(written),
                Err(error) => return self.failed(&error),
            }
            self.do_work();
            self.written();
        }
        if self.retry.take().is_some() {
            self.inbox.is_in_trouble(None);
        }
        for done in self.flushes.drain(..) {
            // Whoever waited may have left.
            let _left = done.send(());
        }
    }

    fn wrote_records(&mut self, written: BatchResult) {
        self.inbox.dropped.inc_by(written.refused);
        let size: usize = self.unwritten.drain(..written.records).map(|record| record.size()).sum();
        self.held -= size;
        self.inbox.release(size);
        self.owed = Owed::default();
        if self.retry.take().is_some() {
            self.inbox.is_in_trouble(None);
            tracing::info!("the store can be written again");
        }
    }

    /// Keeps the promises that wait.
    fn do_work(&self) {
        while let Some(work) = self.inbox.work_at_hand() {
            work(&mut locked(&self.writer.shared));
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if self.retry.is_none() {
            tracing::error!(%error, "records cannot be written to the store; they are held back until they can");
        }
        self.inbox.is_in_trouble(Some(StoreTrouble::Unwritable));
        self.retry = Some(Instant::now() + RETRY);
        while self.held > HELD_BACK
            && let Some(record) = self.unwritten.pop_front()
        {
            self.owed.add(&record);
            self.inbox.dropped.inc();
            self.held -= record.size();
            self.inbox.release(record.size());
        }
    }

    /// Something was written, perhaps.
    fn written(&mut self) {
        self.wrote = Some(Instant::now());
        if let Some(files) = &self.writer.files {
            files.limit_side_file(&self.writer.shared);
        }
    }

    /// Nothing is due: time for one small thing.
    fn tidy(&mut self) {
        let now = Instant::now();
        if self.retry.is_some_and(|retry| retry <= now) {
            return self.write();
        }
        if self.sweep <= now {
            let swept = schema::forget(&mut locked(&self.writer.shared), self.retention);
            let more = swept.unwrap_or_else(|error| {
                tracing::error!(%error, "old records could not be deleted");
                false
            });
            if !more && let Some(files) = &self.writer.files {
                schema::forget_copies(&files.main, self.retention);
            }
            let busy = std::mem::take(&mut self.busy);
            self.sweep = now
                + match more {
                    true if busy => PAUSE,
                    true => Duration::ZERO,
                    false => SWEEP,
                };
            if more {
                self.written();
            }
            return;
        }
        if self.wrote.is_some_and(|wrote| wrote + QUIET <= now) {
            self.wrote = None;
            if self.writer.files.is_some() {
                empty_side_file(&self.writer.shared);
            }
        }
    }

    fn leave(mut self) {
        self.write();
        if !self.unwritten.is_empty() {
            self.inbox.dropped.inc_by(self.unwritten.len() as u64);
            tracing::error!(
                records = self.unwritten.len(),
                "these could not be written to the store until the end; what they add up to is lost too"
            );
        }
    }
}
