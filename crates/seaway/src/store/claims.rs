//! Requests under a cap that are under way, in a file beside the store: a gateway that is killed leaves there what they held, and
//! the next one charges it.
//!
//! Each has a line of a fixed length, written before its upstream is asked, again when it has ended, and wiped once its record is
//! written. A write is one system call to a file that has its room already, and waits for no disk: it is there however the process
//! ends. One gateway at a time has the file.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::row::JournalRow;
use crate::record::{Claimed, Outcome};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::trusted::{self, Modes};

/// Bytes of a line: no line lies on two pages, so that a process that is killed has written it or has not.
const LINE: usize = 1024;
/// Lines for which there is room from the start.
const LINES: usize = 2048;

/// A request as its line has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimLine {
    /// Our own id.
    pub id: String,
    /// Milliseconds since the epoch.
    pub at: i64,
    pub day: String,
    pub caller: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    pub dialect: String,
    pub endpoint: String,
    pub upstream: String,
    pub model: String,
    pub book: String,
    /// What it costs at the least, in micro-dollars.
    pub floor: u64,
    /// What it cost, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
}

impl ClaimLine {
    /// As it lies in the file. Names that would not fit are cut.
    fn bytes(&self) -> io::Result<[u8; LINE]> {
        let mut bytes = [b' '; LINE];
        bytes[LINE - 1] = b'\n';
        let mut text = serde_json::to_vec(self)?;
        if text.len() >= LINE {
            let short = |text: &str| text.chars().take(24).collect();
            let cut =
                Self { model: short(&self.model), upstream: short(&self.upstream), ..self.clone() };
            text = serde_json::to_vec(&cut)?;
        }
        let room = bytes.get_mut(..text.len()).filter(|_| text.len() < LINE);
        room.ok_or_else(|| io::Error::other("its names are too long"))?.copy_from_slice(&text);
        Ok(bytes)
    }

    fn row(&self) -> JournalRow<'_> {
        JournalRow {
            id: super::keys::key(&self.id),
            at: self.at,
            request: None,
            caller: self.caller.as_str().into(),
            team: self.team.as_deref().map(Into::into),
            day: Some(self.day.as_str().into()),
            dialect: self.dialect.as_str().into(),
            endpoint: self.endpoint.as_str().into(),
            upstream: Some(self.upstream.as_str().into()),
            asked: self.model.as_str().into(),
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
            changes: None,
            cost: Some(self.cost.unwrap_or(self.floor)),
            book: Some(self.book.as_str().into()),
            reckoned: if self.cost.is_none() { self.floor } else { 0 },
            counted: !matches!(self.endpoint.as_str(), "count_tokens" | "input_tokens"),
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
    /// Those that were used and are free again.
    again: Vec<u32>,
    /// From here on nothing was used.
    next: u32,
}

/// A line in use. Dropped, it is free again: its record is written.
#[derive(Debug)]
pub struct ClaimSlot {
    claims: Arc<Claims>,
    at: u32,
    line: Mutex<ClaimLine>,
    stays: AtomicBool,
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
        let (left, unreadable) = left_behind(&mut self.file).map_err(failed)?;
        if unreadable > 0 {
            let aside = PathBuf::from(format!("{}.unreadable", path.display()));
            let kept = std::fs::copy(&path, &aside).is_ok();
            tracing::error!(lines = unreadable, kept, path = %aside.display(), "what was under way under a cap when a gateway was killed cannot be read");
        }
        if !left.is_empty() {
            let charged = charge(journal, database, &left)?;
            tracing::warn!(
                requests = left.len(),
                charged,
                "a gateway was killed while requests under a cap were under way; what is not known of them is charged at its least"
            );
        }
        // What was charged is known by its records, so that it can be wiped.
        let blank: Vec<u8> = [b' '; LINE].repeat(LINES);
        let anew = self.file.set_len(0).and_then(|()| self.file.write_all_at(&blank, 0));
        anew.map_err(failed)?;
        let free = Mutex::new(FreeLines { again: Vec::new(), next: 0 });
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
    pub fn hold(self: &Arc<Self>, line: ClaimLine) -> io::Result<Arc<ClaimSlot>> {
        let at = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.again.pop().unwrap_or_else(|| {
                free.next += 1;
                free.next - 1
            })
        };
        let written = line.bytes().and_then(|bytes| self.write(at, &bytes));
        let slot = ClaimSlot {
            claims: self.clone(),
            at,
            line: Mutex::new(line),
            stays: AtomicBool::new(false),
        };
        written.map(|()| Arc::new(slot))
    }

    fn write(&self, at: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, u64::from(at) * LINE as u64)
    }
}

impl Claimed for ClaimSlot {
    fn settled(&self, cost: u64) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.cost = Some(cost);
        if let Err(error) = line.bytes().and_then(|bytes| self.claims.write(self.at, &bytes)) {
            tracing::error!(%error, "what a request cost could not be noted beside the store");
        }
    }

    fn stays(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

impl ClaimSlot {
    /// Another upstream or model is asked.
    pub fn moved(&self, upstream: &str, model: &str, floor: u64) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        upstream.clone_into(&mut line.upstream);
        model.clone_into(&mut line.model);
        line.floor = floor;
        if let Err(error) = line.bytes().and_then(|bytes| self.claims.write(self.at, &bytes)) {
            tracing::error!(%error, "which upstream is asked could not be noted beside the store");
        }
    }
}

impl Drop for ClaimSlot {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed) {
            return;
        }
        // A first byte that begins no line is enough.
        if let Err(error) = self.claims.write(self.at, b" ") {
            tracing::debug!(%error, "a line of the file of claims could not be wiped");
            return;
        }
        self.claims.free.lock().unwrap_or_else(PoisonError::into_inner).again.push(self.at);
    }
}

/// True if a gateway that lives keeps the budgets of a store.
pub fn is_kept(store: &Path) -> bool {
    let file = File::options().read(true).write(true).open(path_of(store));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The lines of a gateway that is gone, and how many of them are none.
fn left_behind(file: &mut File) -> io::Result<(Vec<ClaimLine>, usize)> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let lines = bytes.chunks(LINE).filter(|line| line.first() == Some(&b'{'));
    let (mut found, mut unreadable) = (Vec::new(), 0);
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(line) => found.push(line),
            // Half a line is of a machine that died; a process writes it whole.
            Err(_) => unreadable += 1,
        }
    }
    Ok((found, unreadable))
}

/// Writes records of what has none, in one transaction. Returns what they cost together.
fn charge(
    journal: &mut Journal,
    database: &mut Connection,
    left: &[ClaimLine],
) -> rusqlite::Result<u64> {
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
    journal.charge(database, &rows)?;
    Ok(cost)
}
