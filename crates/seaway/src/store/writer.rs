//! The one thread that writes: promises as they come, records many at once, and in between what makes room.
//!
//! While the store cannot be opened or written, records are held back and tried again; what is left at the end goes
//! into a file (see `spool.rs`).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::claims::{Claims, TakenClaims};
use super::files::{Files, SharedConnection, empty_side_file, locked};
use super::inbox::{Inbox, StoreTrouble, WriterStep};
use super::journal::{BatchResult, Journal, Owed, Pace};
use super::row::JournalRow;
use super::spool::{self, Spool, Spooled};
use super::{Opened, StoreError, accounts, schema};
use crate::account::Ledgers;
use crate::causes::chain;
use crate::config::StoreConfig;
use crate::record::Record;
use crate::trusted::Modes;

/// How often old records are looked for, and what other gateways left behind.
const SWEEP: Duration = Duration::from_secs(3600);
/// Between two slices of a sweep, while there is something else to do.
const PAUSE: Duration = Duration::from_millis(10);
/// After a failure the store is tried again this much later, or with the next records.
const RETRY: Duration = Duration::from_secs(1);
/// A store that cannot be opened is tried again this much later, and each time twice that, up to the latter.
const REOPEN: Duration = Duration::from_secs(1);
const REOPEN_LATEST: Duration = Duration::from_secs(300);
/// Who could not be told of keys, or keep their budgets, is told this much later.
const RETELL: Duration = Duration::from_secs(2);
/// After so long without a write the side file is emptied.
const QUIET: Duration = Duration::from_secs(5);
/// Bytes of records that are held back while the store cannot be written. What is beyond is kept as a sum.
const HELD_BACK: usize = 8 << 20;

/// What the thread is told at its start.
pub(super) struct WriterSetting {
    /// None for a store in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) modes: Modes,
    pub(super) retention: Duration,
}

impl WriterSetting {
    pub(super) fn of(setting: &StoreConfig) -> Self {
        let StoreConfig { path, modes, retention, .. } = setting;
        Self { path: path.clone(), modes: *modes, retention: *retention }
    }
}

/// Writes until the last handle is gone. `open` is asked for the database until it has one.
pub(super) fn run(
    inbox: Arc<Inbox>,
    setting: WriterSetting,
    open: impl FnMut() -> Result<Writer, StoreError>,
    opened: Opened,
) {
    let mut desk = WriterDesk::new(inbox.clone(), setting, open, opened);
    loop {
        let step = inbox.next(desk.next());
        if !desk.step(step) {
            break;
        }
    }
    desk.leave();
}

impl<O: FnMut() -> Result<Writer, StoreError>> WriterDesk<O> {
    pub(super) fn new(inbox: Arc<Inbox>, setting: WriterSetting, open: O, opened: Opened) -> Self {
        let WriterSetting { path, modes, retention } = setting;
        let spool = path.as_deref().and_then(|path| {
            Spool::reserve(path, modes)
                .inspect_err(
                    |error| tracing::debug!(%error, "no file for what may be left at the end"),
                )
                .ok()
        });
        let mut desk = WriterDesk {
            writer: None,
            open,
            opened,
            claims: None,
            untold: Some(Instant::now()),
            trouble: None,
            reopen: REOPEN,
            inbox,
            spool,
            path,
            modes,
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
        desk.open();
        desk
    }

    /// Does one thing. False once nothing will come any more.
    pub(super) fn step(&mut self, step: WriterStep) -> bool {
        match step {
            WriterStep::Work(work) => {
                self.busy = true;
                // Without a database it is dropped, which tells whoever asked.
                if let Some(writer) = &self.writer {
                    work(&mut locked(&writer.shared));
                    self.written();
                }
            }
            WriterStep::Records(records, flushes) => {
                self.busy = true;
                self.take(records, flushes);
            }
            WriterStep::Spool(records, flushes, done) => {
                for record in records {
                    record.log();
                    self.held += record.size();
                    self.unwritten.push_back(record);
                }
                self.flushes.extend(flushes);
                // What was just refused would be refused again, and there is little time.
                if self.retry.is_none() {
                    self.write();
                }
                self.spool();
                // Whoever waited may have left.
                let _left = done.send(());
            }
            WriterStep::Idle => self.tidy(),
            WriterStep::Closed => return false,
        }
        true
    }
}

/// What the thread writes with.
pub(super) struct Writer {
    pub(super) shared: SharedConnection,
    /// None for a store in memory.
    pub(super) files: Option<Files>,
}

/// What the thread has before it.
pub(super) struct WriterDesk<O> {
    /// None until it could be opened.
    writer: Option<Writer>,
    open: O,
    /// To be told what is known of keys, once it is open.
    opened: Opened,
    /// The file of requests under a cap, if this process has it.
    claims: Option<Arc<Claims>>,
    /// When that is to be tried, until it is told without trouble.
    untold: Option<Instant>,
    /// Why caps are not kept here, as it was told last.
    trouble: Option<String>,
    /// How long until that is tried again.
    reopen: Duration,
    inbox: Arc<Inbox>,
    spool: Option<Spool>,
    /// The store's file.
    path: Option<PathBuf>,
    modes: Modes,
    journal: Journal,
    /// Records that are not yet written; many only while the store cannot be written.
    unwritten: VecDeque<Box<Record>>,
    /// Their bytes.
    held: usize,
    owed: Owed,
    /// Who waits until all that came before is written.
    flushes: Vec<oneshot::Sender<bool>>,
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

impl<O: FnMut() -> Result<Writer, StoreError>> WriterDesk<O> {
    /// When there is something to do besides what comes.
    pub(super) fn next(&self) -> Option<Instant> {
        let quiet = self.wrote.map(|wrote| wrote + QUIET);
        let sweep = self.writer.as_ref().map(|_| self.sweep);
        let untold = self.writer.as_ref().and(self.untold);
        [self.retry, sweep, quiet, untold].into_iter().flatten().min()
    }

    /// Opens the database, or notes when that is to be tried again.
    fn open(&mut self) {
        // What failed is told by whoever opens.
        if let Ok(writer) = (self.open)() {
            self.writer = Some(writer);
            self.retry = None;
            self.inbox.is_in_trouble(None);
            if !self.tell_accounts() {
                self.take_over();
            }
            self.write();
        } else {
            self.inbox.is_in_trouble(Some(StoreTrouble::OutOfUse));
            self.retry = Some(Instant::now() + self.reopen);
            self.reopen = (self.reopen * 2).min(REOPEN_LATEST);
            self.hold_back();
        }
    }

    /// Takes over what other gateways left behind.
    fn take_over(&mut self) {
        if let Some(Writer { shared, files: Some(files) }) = &self.writer {
            spool::take_over(&mut self.journal, &mut locked(shared), &files.main, self.modes);
        }
    }

    /// Tells what is known of keys, before anything of this process under a budget is written. What other gateways left is taken over meanwhile, if this
    /// returns true: by who has the file of claims nothing is left out, and nothing counted twice.
    fn tell_accounts(&mut self) -> bool {
        if self.untold.take().is_none() || self.writer.is_none() {
            return false;
        }
        let path = self
            .writer
            .as_ref()
            .and_then(|writer| writer.files.as_ref())
            .map(|files| files.main.clone());
        let taken = match path.filter(|_| self.opened.keeps_budgets) {
            Some(path) => Claims::take(&path, self.modes).map(Some),
            None => Ok(None),
        };
        self.take_over();
        let Some(writer) = &self.writer else { return true };
        let mut database = locked(&writer.shared);
        let charge = |taken: Option<TakenClaims>| match taken {
            Some(taken) => taken.charge(&mut self.journal, &mut database).map(Some),
            None => Ok(None),
        };
        let claims = taken.and_then(charge);
        let known = accounts::load(&database);
        drop(database);
        let (claims, trouble) = match claims {
            Ok(claims) => (claims, None),
            Err(error) => (None, Some(chain(&error))),
        };
        if trouble.is_some() || known.is_err() {
            self.untold = Some(Instant::now() + RETELL);
        }
        match known {
            Ok(known) => {
                if trouble != self.trouble && !known.keys.is_empty() {
                    if let Some(why) = &trouble {
                        tracing::warn!("keys with limits are not served: {why}");
                    } else {
                        tracing::info!("keys with limits are served again");
                    }
                }
                self.trouble.clone_from(&trouble);
                self.claims.clone_from(&claims);
                (self.opened.tell)(Ledgers { trouble, ..known }, claims);
            }
            Err(error) => {
                tracing::error!(%error, "what is known of keys could not be read; only those of the configuration let in");
            }
        }
        true
    }

    fn take(&mut self, records: VecDeque<Box<Record>>, flushes: Vec<oneshot::Sender<bool>>) {
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
            let Some(writer) = &self.writer else { return self.hold_back() };
            let done = self.journal.write(
                &mut locked(&writer.shared),
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
        if self.retry.is_some() && self.writer.is_some() {
            self.retry = None;
            self.inbox.is_in_trouble(None);
        }
        self.flushed(true);
    }

    /// Tells who waits whether all that came before is written.
    fn flushed(&mut self, written: bool) {
        for done in self.flushes.drain(..) {
            // Whoever waited may have left.
            let _left = done.send(written);
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
            if let Some(writer) = &self.writer {
                work(&mut locked(&writer.shared));
            }
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if self.retry.is_none() {
            tracing::error!(%error, "records cannot be written to the store; they are held back until they can");
        }
        self.inbox.is_in_trouble(Some(StoreTrouble::Unwritable));
        self.retry = Some(Instant::now() + RETRY);
        self.hold_back();
    }

    /// Nothing can be written at the moment: keeps as much as may be, and the rest as sums.
    fn hold_back(&mut self) {
        while self.held > HELD_BACK
            && let Some(record) = self.unwritten.pop_front()
        {
            self.owed.add(&JournalRow::of(&record));
            self.owed.keep(record.claim.clone());
            self.inbox.dropped.inc();
            self.held -= record.size();
            self.inbox.release(record.size());
        }
        self.flushed(false);
    }

    /// Something was written, perhaps.
    fn written(&mut self) {
        self.wrote = Some(Instant::now());
        if let Some(Writer { shared, files: Some(files) }) = &self.writer {
            files.limit_side_file(shared);
        }
    }

    /// Nothing is due: time for one small thing.
    fn tidy(&mut self) {
        let now = Instant::now();
        let due = self.retry.is_some_and(|retry| retry <= now);
        let Some(writer) = &self.writer else {
            if due {
                self.open();
            }
            return;
        };
        if due {
            return self.write();
        }
        if self.untold.is_some_and(|untold| untold <= now) {
            let _taken_over = self.tell_accounts();
            return;
        }
        if self.sweep <= now {
            return self.sweep(now);
        }
        if self.wrote.is_some_and(|wrote| wrote + QUIET <= now) {
            self.wrote = None;
            if writer.files.is_some() {
                empty_side_file(&writer.shared);
            }
            self.wipe_claims();
        }
    }

    /// Wipes the lines of what has ended and is written.
    fn wipe_claims(&self) {
        if let Some(claims) = &self.claims {
            claims.wipe();
        }
    }

    /// Deletes a slice of what is old.
    fn sweep(&mut self, now: Instant) {
        // What is known by its record is wiped before that is gone.
        self.wipe_claims();
        let Some(writer) = &self.writer else { return };
        let swept = schema::forget(&mut locked(&writer.shared), self.retention);
        let more = swept.unwrap_or_else(|error| {
            tracing::error!(%error, "old records could not be deleted");
            false
        });
        if !more && let Some(files) = &writer.files {
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
        } else {
            self.take_over();
        }
    }

    /// What failed is tried with the next step.
    pub(super) fn retry_now(&mut self) {
        self.retry = self.retry.map(|_| Instant::now());
    }

    /// Lets the database grow to so many pages.
    pub(super) fn limit_pages(&self, pages: u32) -> rusqlite::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let database = locked(&writer.shared);
        database.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    /// Writes what is left, into a file if the store does not take it.
    pub(super) fn leave(&mut self) {
        self.write();
        self.wipe_claims();
        self.spool();
    }

    fn spool(&mut self) {
        self.flushed(false);
        if self.unwritten.is_empty() && self.owed.is_empty() {
            return;
        }
        let left = self.unwritten.len();
        let spooled = match &mut self.spool {
            Some(spool) => spool.write(&self.unwritten, &mut self.owed),
            None => Err(std::io::Error::other("there is no file for them")),
        };
        match (spooled, &self.spool) {
            (Ok(Spooled { rows, summed }), Some(spool)) => {
                self.inbox.dropped.inc_by(summed as u64);
                let path = spool.path().display();
                tracing::warn!(rows, summed, %path, "records could not be written to the store; the next gateway takes them over from a file");
            }
            (Err(error), _) => {
                self.inbox.dropped.inc_by(left as u64);
                self.unwritten
                    .iter()
                    .filter_map(|record| record.claim.as_ref())
                    .for_each(|claim| claim.stays());
                self.owed.is_lost();
                tracing::error!(%error, records = left, "these could not be written to the store until the end; what they add up to is lost too");
            }
            (Ok(_), None) => {}
        }
        for record in self.unwritten.drain(..) {
            self.inbox.release(record.size());
        }
        (self.held, self.owed) = (0, Owed::default());
        // The file is another gateway's now; what may come yet has one of its own.
        self.spool = self.path.as_deref().and_then(|path| Spool::reserve(path, self.modes).ok());
    }
}
