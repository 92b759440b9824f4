//! Requests under a cap that are under way, in a file beside the store: a gateway that is killed leaves there what they held, and
//! the next one charges it.
//!
//! Each has a line of a fixed length, written before its upstream is asked; what it cost is written behind it when it has ended. A
//! write is one system call to a file that has its room already, and waits for no disk: it is there however the process ends. A line
//! whose record is written is free, and is known by its record until another takes its place or it is wiped. One gateway at a time
//! has the file.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use jiff::civil::Date;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::row::JournalRow;
use crate::record::{Claimed, Outcome};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::trusted::{self, Modes};

/// Bytes of a line: no line lies on two pages, so that a process that is killed has written it or has not.
const LINE: usize = 1024;
/// Lines for which there is room from the start.
const LINES: usize = 2048;
/// The file is filled by pieces of this length: what was written in one piece is one piece in the kernel's memory, and to write a line of it costs as much
/// as the piece is long.
const PAGE: usize = 4096;
/// Bytes of what a request cost, in digits.
const COST: usize = 20;
/// How a line begins that says something.
const BEGINS: u8 = 1;
/// Free lines that are wiped in one go.
const WIPED: usize = 16;

/// A request as its line has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimLine<'a> {
    /// Our own id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Milliseconds since the epoch.
    pub at: i64,
    pub day: Date,
    #[serde(borrow)]
    pub caller: Cow<'a, str>,
    #[serde(borrow)]
    pub team: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub dialect: Cow<'a, str>,
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    #[serde(borrow)]
    pub upstream: Cow<'a, str>,
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    #[serde(borrow)]
    pub book: Cow<'a, str>,
    /// What it costs at the least, in micro-dollars.
    pub floor: u64,
    /// What it cost, once that is known: it stands behind the rest.
    #[serde(skip)]
    pub cost: Option<u64>,
}

impl ClaimLine<'_> {
    /// As it lies in the file, with room for what it will have cost, and where that begins. Names that would not fit are cut.
    fn write<'b>(&self, bytes: &'b mut [u8; LINE]) -> io::Result<(&'b [u8], u32)> {
        let length = self.whole(bytes).or_else(|_| {
            let short = |text: &str| text.chars().take(24).collect::<String>().into();
            let (model, upstream) = (short(&self.model), short(&self.upstream));
            let cut = Self { upstream, model, ..self.clone() };
            cut.whole(bytes).map_err(|_| io::Error::other("its names are too long"))
        })?;
        bytes[0] = BEGINS;
        bytes[length..length + COST].fill(b' ');
        Ok((&bytes[..length + COST], u32::try_from(length).unwrap_or(0)))
    }

    fn whole(&self, bytes: &mut [u8; LINE]) -> postcard::Result<usize> {
        let text = postcard::to_slice(self, &mut bytes[1..LINE - COST])?;
        Ok(text.len() + 1)
    }

    /// Reads one back, as far as it is one.
    fn read(line: &[u8]) -> postcard::Result<ClaimLine<'_>> {
        if line[0] != BEGINS {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        let (known, cost) = postcard::take_from_bytes::<ClaimLine<'_>>(&line[1..])?;
        let cost = std::str::from_utf8(cost.get(..COST).unwrap_or_default());
        Ok(ClaimLine { cost: cost.ok().and_then(|cost| cost.trim().parse().ok()), ..known })
    }

    fn row(&self) -> JournalRow<'_> {
        JournalRow {
            id: super::keys::key(&self.id),
            at: self.at,
            request: None,
            caller: self.caller.as_ref().into(),
            team: self.team.as_deref().map(Into::into),
            day: Some(self.day),
            dialect: self.dialect.as_ref().into(),
            endpoint: self.endpoint.as_ref().into(),
            upstream: Some(self.upstream.as_ref().into()),
            asked: self.model.as_ref().into(),
            wanted: None,
            model: None,
            stream: false,
            sent: true,
            status: 0,
            outcome: Outcome::Killed.name().into(),
            stop_reason: None,
            fault: Some("killed".into()),
            attempts: 1,
            tokens: [0; 5],
            first_byte_us: None,
            total_us: 0,
            body_in: None,
            body_out: None,
            as_it_came: false,
            changes: None,
            cost: Some(self.cost.unwrap_or(self.floor)),
            book: Some(self.book.as_ref().into()),
            reckoned: if self.cost.is_none() { self.floor } else { 0 },
            counted: !matches!(self.endpoint.as_ref(), "count_tokens" | "input_tokens"),
            asker: super::row::JournalAsker::default(),
        }
    }
}

/// The file, held by this process.
#[derive(Debug)]
pub struct Claims {
    file: File,
    free: Mutex<FreeLines>,
}

#[derive(Debug)]
struct FreeLines {
    /// Those that were used and are free again; what they say is known by a record.
    used: Vec<u32>,
    /// Those that were used, and say nothing.
    wiped: Vec<u32>,
    /// From here on nothing was used.
    next: u32,
}

/// A line in use. Dropped, it is free again: its record is written.
#[derive(Debug)]
pub struct ClaimSlot {
    claims: Arc<Claims>,
    at: u32,
    /// Where in it what it cost stands.
    cost_at: AtomicU32,
    stays: AtomicBool,
    summed: AtomicBool,
}

/// Why caps cannot be kept here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimsError {
    #[error(
        "another gateway that runs with this store keeps its budgets; send requests of keys with a budget there, or stop it and start this one anew"
    )]
    Elsewhere,
    #[error("{path} cannot be used")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] rusqlite::Error),
}

fn path_of(store: &Path) -> PathBuf {
    PathBuf::from(format!("{}.claims", store.display()))
}

/// The file, with what a gateway may have left there that was killed.
#[derive(Debug)]
pub(super) struct TakenClaims {
    path: PathBuf,
    file: File,
}

impl TakenClaims {
    /// Charges what was left, and begins anew.
    pub(super) fn charge(
        mut self,
        journal: &mut Journal,
        database: &mut Connection,
    ) -> Result<Arc<Claims>, ClaimsError> {
        let path = self.path.clone();
        let failed = |source| ClaimsError::File { path: path.clone(), source };
        let bytes = left_behind(&mut self.file).map_err(failed)?;
        let (left, unreadable) = lines(&bytes);
        if unreadable > 0 {
            let aside = PathBuf::from(format!("{}.unreadable", path.display()));
            let kept = std::fs::copy(&path, &aside).is_ok();
            tracing::error!(lines = unreadable, kept, path = %aside.display(), "what was under way under a cap when a gateway was killed cannot be read");
        }
        let (requests, charged) = charge(journal, database, &left)?;
        if requests > 0 {
            tracing::warn!(
                requests,
                charged,
                "a gateway was killed while requests under a cap were under way; what is not known of them is charged at its least"
            );
        }
        // What was charged is known by its records, so that it can be wiped.
        let pages = 0..LINES * LINE / PAGE;
        let mut fill = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            pages.clone().try_for_each(|_| self.file.write_all(&[b' '; PAGE]))
        };
        fill().map_err(failed)?;
        let free = FreeLines { used: Vec::new(), wiped: Vec::new(), next: 0 };
        let free = Mutex::new(free);
        Ok(Arc::new(Claims { file: self.file, free }))
    }
}

impl Claims {
    /// Takes the file: from here on no other gateway adds to it.
    pub(super) fn take(store: &Path, modes: Modes) -> Result<TakenClaims, ClaimsError> {
        let path = path_of(store);
        let failed = |source| ClaimsError::File { path: path.clone(), source };
        trusted::private_file(&path, modes).map_err(failed)?;
        let file = File::options().read(true).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ClaimsError::Elsewhere),
            // Where there are no locks, nobody knows who else has it.
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(TakenClaims { path, file })
    }

    /// Writes a line. From here on the request is found however this process ends.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn hold(self: &Arc<Self>, line: &ClaimLine<'_>) -> io::Result<Arc<ClaimSlot>> {
        let mut room = [0; LINE];
        let (bytes, cost_at) = line.write(&mut room)?;
        let at = {
            let mut free = self.free();
            let again = free.used.pop().or_else(|| free.wiped.pop());
            again.unwrap_or_else(|| {
                free.next += 1;
                free.next - 1
            })
        };
        let slot = ClaimSlot {
            claims: self.clone(),
            at,
            cost_at: AtomicU32::new(cost_at),
            stays: AtomicBool::new(false),
            summed: AtomicBool::new(false),
        };
        self.write(at, bytes).map(|()| Arc::new(slot))
    }

    fn write(&self, at: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, u64::from(at) * LINE as u64)
    }

    fn free(&self) -> MutexGuard<'_, FreeLines> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wipes what is free, as their records are about to be deleted, or there is time for it.
    pub(super) fn wipe(&self) {
        loop {
            let mut free = self.free();
            let kept = free.used.len().saturating_sub(WIPED);
            let some = free.used.split_off(kept);
            if some.is_empty() {
                return;
            }
            for at in some {
                // What cannot be wiped is known by its record still.
                match self.blank(at) {
                    Ok(()) => free.wiped.push(at),
                    Err(_) => free.used.push(at),
                }
            }
            if free.used.len() > kept {
                return;
            }
        }
    }

    /// A first byte that begins no line is enough.
    fn blank(&self, at: u32) -> io::Result<()> {
        self.write(at, b" ").inspect_err(|error| {
            tracing::debug!(%error, "a line of the file of claims could not be wiped");
        })
    }
}

impl Claimed for ClaimSlot {
    fn settled(&self, cost: u64) {
        let at = u64::from(self.at) * LINE as u64 + u64::from(self.cost_at.load(Ordering::Relaxed));
        let mut digits = [b' '; COST];
        let noted = write!(&mut digits[..], "{cost}")
            .and_then(|()| self.claims.file.write_all_at(&digits, at));
        if let Err(error) = noted {
            tracing::error!(%error, "what a request cost could not be noted beside the store");
        }
    }

    fn stays(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    fn summed(&self) {
        self.summed.store(true, Ordering::Relaxed);
    }
}

impl ClaimSlot {
    /// Another upstream or model is asked.
    pub fn moved(&self, line: &ClaimLine<'_>) {
        let mut room = [0; LINE];
        let written = line.write(&mut room).and_then(|(bytes, cost_at)| {
            self.cost_at.store(cost_at, Ordering::Relaxed);
            self.claims.write(self.at, bytes)
        });
        if let Err(error) = written {
            tracing::error!(%error, "which upstream is asked could not be noted beside the store");
        }
    }
}

impl Drop for ClaimSlot {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed) {
            return;
        }
        // No record tells of it.
        if self.summed.load(Ordering::Relaxed) {
            if self.claims.blank(self.at).is_ok() {
                self.claims.free().wiped.push(self.at);
            }
            return;
        }
        self.claims.free().used.push(self.at);
    }
}

/// True if a gateway that lives keeps the budgets of a store.
pub fn is_kept(store: &Path) -> bool {
    let file = File::options().read(true).write(true).open(path_of(store));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// What a gateway that is gone had in its file.
fn left_behind(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines in it, and how many of them are none.
fn lines(bytes: &[u8]) -> (Vec<ClaimLine<'_>>, usize) {
    // Older ones were JSON.
    let begins = |line: &&[u8]| matches!(line.first(), Some(&(BEGINS | b'{')));
    let lines = bytes.chunks(LINE).filter(begins);
    let (mut found, mut unreadable) = (Vec::new(), 0);
    for line in lines {
        match ClaimLine::read(line) {
            Ok(line) => found.push(line),
            // Half a line is of a machine that died; a process writes it whole.
            Err(_) => unreadable += 1,
        }
    }
    (found, unreadable)
}

/// Writes records of what has none, in one transaction. Returns how many they are, and what they cost together.
fn charge(
    journal: &mut Journal,
    database: &mut Connection,
    left: &[ClaimLine<'_>],
) -> rusqlite::Result<(usize, u64)> {
    let mut rows = VecDeque::new();
    for line in left {
        let row = line.row();
        let known = database
            .query_row("SELECT 1 FROM record WHERE id = ?1", [row.id], |_| Ok(()))
            .optional()?;
        if known.is_none() {
            rows.push_back(row);
        }
    }
    let cost = rows.iter().filter_map(|row| row.cost).sum();
    if !rows.is_empty() {
        journal.charge(database, &rows)?;
    }
    Ok((rows.len(), cost))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn line(model: &str) -> ClaimLine<'_> {
        ClaimLine {
            id: "0197".into(),
            at: 7,
            day: date(2026, 11, 30),
            caller: "ann".into(),
            team: Some("lab".into()),
            dialect: "messages".into(),
            endpoint: "messages".into(),
            upstream: "api".into(),
            model: model.into(),
            book: "1".into(),
            floor: 12,
            cost: None,
        }
    }

    /// What is in the file, as `model cost`.
    fn found(claims: &Claims) -> Vec<String> {
        let mut file = claims.file.try_clone().unwrap();
        let bytes = left_behind(&mut file).unwrap();
        let (lines, unreadable) = lines(&bytes);
        assert_eq!(unreadable, 0);
        lines.iter().map(|line| format!("{} {:?}", line.model, line.cost)).collect()
    }

    #[test]
    fn a_line_is_found_until_another_takes_its_place_or_it_is_wiped() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("claims"))
            .unwrap();
        let free = Mutex::new(FreeLines { used: Vec::new(), wiped: Vec::new(), next: 0 });
        let claims = Arc::new(Claims { file, free });
        let hold = |model: &str| claims.hold(&line(model)).unwrap();
        let (first, second, third) = (hold("a-long-name"), hold("b"), hold("c"));
        assert_eq!(found(&claims), ["a-long-name None", "b None", "c None"]);
        first.settled(u64::MAX);
        second.moved(&line("d\te\n"));
        second.settled(5);
        let max = format!("a-long-name Some({})", u64::MAX);
        assert_eq!(found(&claims), [max.as_str(), "d\te\n Some(5)", "c None"]);
        // Its record is written: known by that.
        drop(first);
        assert_eq!(found(&claims).len(), 3);
        // What it cost before is not what the next one in its place costs.
        let again = hold("f");
        assert_eq!(found(&claims), ["f None", "d\te\n Some(5)", "c None"]);
        // Nothing but a sum tells of it.
        third.summed();
        drop(third);
        assert_eq!(found(&claims), ["f None", "d\te\n Some(5)"]);
        // Nothing tells of it at all.
        second.stays();
        drop((second, again));
        claims.wipe();
        assert_eq!(found(&claims), ["d\te\n Some(5)"]);
        let long = hold(&"m".repeat(3000));
        assert_eq!(found(&claims)[0], format!("{} None", "m".repeat(24)));
        drop(long);
        // Of the three that are free each is taken once.
        let four: Vec<_> = (0..4).map(|_| hold("g")).collect();
        let mut places: Vec<u32> = four.iter().map(|slot| slot.at).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 2, 3, 4]);
    }
}
