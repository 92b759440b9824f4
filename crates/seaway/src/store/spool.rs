//! Records that could not be written until the end: a file beside the store, which the next gateway takes over.
//!
//! Room for it is taken at the start, so that a disk that is full at the end is no trouble. The file is
//! lines of JSON: who it is, rows and sums, and that it is all there; zeros follow.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::journal::{Counts, Journal, Owed, SumKey};
use super::row::JournalRow;
use crate::record::Record;
use crate::trusted::{self, Modes};

/// Bytes that are taken at the start.
const ROOM: usize = 1 << 20;
/// Of these, bytes for records as they are, where there are no more than that.
const ROOM_FOR_ROWS: usize = ROOM / 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpoolLine<'a> {
    /// The first one.
    Spool {
        id: String,
    },
    Row(#[serde(borrow)] Box<JournalRow<'a>>),
    Sum(SumKey, Counts),
    /// The last one.
    End(bool),
}

/// A file with room for what may be left. Removed when dropped unwritten.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    id: String,
    kept: bool,
}

/// What became of records that could not be written to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spooled {
    /// Kept as they are.
    pub(super) rows: usize,
    /// Kept as a part of sums alone, since there was no room.
    pub(super) summed: usize,
}

impl Spool {
    /// Makes the file, with as much room as there is, up to a mebibyte.
    pub(super) fn reserve(store: &Path, modes: Modes) -> io::Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let path = PathBuf::from(format!("{}{id}", beginning(store)));
        // Under its name it is found by others, who learn by the lock that its gateway lives.
        let unnamed = PathBuf::from(format!("{}.new-{id}", store.display()));
        trusted::private_file(&unnamed, modes)?;
        let mut file = File::options().read(true).write(true).open(&unnamed)?;
        // Where there are no locks nobody deletes it before it is written.
        let _locked = file.try_lock();
        if let Err(error) = std::fs::rename(&unnamed, &path) {
            let _gone = std::fs::remove_file(&unnamed);
            return Err(error);
        }
        let whole = file.write_all(&vec![0; ROOM]).and_then(|()| file.sync_data());
        if let Err(error) = whole {
            tracing::debug!(%error, "there is no room to keep records in should the store fail");
        }
        Ok(Self { path, file, id, kept: false })
    }

    /// Writes what is left: all of it, or as much as there is room for and the rest as sums.
    ///
    /// # Errors
    ///
    /// If not even the sums have room.
    pub(super) fn write(
        &mut self,
        records: &VecDeque<Box<Record>>,
        owed: &mut Owed,
    ) -> io::Result<Spooled> {
        let all = self.text(records.iter().map(AsRef::as_ref), owed)?;
        if self.put(&all).is_ok() {
            return Ok(Spooled { rows: records.len(), summed: 0 });
        }
        self.write_within(records, owed)
    }

    /// Writes it into the room that was taken at the start.
    pub(super) fn write_within(
        &mut self,
        records: &VecDeque<Box<Record>>,
        owed: &mut Owed,
    ) -> io::Result<Spooled> {
        let mut room = ROOM_FOR_ROWS;
        let fits = records.iter().rev().take_while(|record| {
            let size =
                line(&SpoolLine::Row(Box::new(JournalRow::of(record)))).map_or(0, |l| l.len());
            room.checked_sub(size).map(|left| room = left).is_some()
        });
        let rows = fits.count();
        let summed = records.len() - rows;
        for record in records.iter().take(summed) {
            owed.add(&JournalRow::of(record));
        }
        let some = self.text(records.iter().skip(summed).map(AsRef::as_ref), owed)?;
        self.put(&some)?;
        Ok(Spooled { rows, summed })
    }

    fn text<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        owed: &Owed,
    ) -> io::Result<Vec<u8>> {
        let mut text = line(&SpoolLine::Spool { id: self.id.clone() })?;
        for record in records {
            text.extend(line(&SpoolLine::Row(Box::new(JournalRow::of(record))))?);
        }
        for (key, counts) in owed.iter() {
            text.extend(line(&SpoolLine::Sum(key.clone(), *counts))?);
        }
        text.extend(line(&SpoolLine::End(true))?);
        Ok(text)
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text)?;
        // A disk may say only now that it is full.
        self.file.sync_data()?;
        self.kept = true;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.kept {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

fn line(line: &SpoolLine<'_>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// What the path of every such file of a store begins with.
fn beginning(store: &Path) -> String {
    format!("{}.spool-", store.display())
}

/// Takes over what other gateways of this store left behind when they ended.
pub(super) fn take_over(
    journal: &mut Journal,
    database: &mut Connection,
    store: &Path,
    modes: Modes,
) {
    let (Some(folder), Some(name)) = (store.parent(), beginning_of_name(store)) else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&name) {
            continue;
        }
        let path = entry.path();
        if let Err(error) = take_one(journal, database, &path, modes) {
            let error = crate::causes::chain(&*error);
            tracing::error!(error, path = %path.display(), "what a gateway left behind could not be taken over");
        }
    }
}

fn beginning_of_name(store: &Path) -> Option<String> {
    Some(beginning(Path::new(store.file_name()?)))
}

fn take_one(
    journal: &mut Journal,
    database: &mut Connection,
    path: &Path,
    modes: Modes,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    trusted::private_file(path, modes)?;
    let mut file = File::options().read(true).write(true).open(path)?;
    // Held until it is deleted. Its gateway may be about to write it: then it is for a later look.
    let ours = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => return Ok(()),
        // There are no locks here.
        Err(TryLockError::Error(_)) => false,
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let Left { id, rows, owed, whole } = read(&text);
    if !whole && !ours {
        return Ok(());
    }
    if let Some(id) = id {
        let refused = journal.take(database, &id, &rows, &owed)?;
        let (rows, path) = (rows.len(), path.display());
        tracing::info!(rows, refused, whole, %path, "records of a gateway that could not write them were taken over");
    }
    std::fs::remove_file(path)?;
    Ok(())
}

/// What a file holds.
#[derive(Default)]
struct Left<'a> {
    id: Option<String>,
    rows: Vec<JournalRow<'a>>,
    owed: Owed,
    whole: bool,
}

/// Reads what is there, up to the first line that is not whole.
fn read(text: &str) -> Left<'_> {
    let mut left = Left::default();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(SpoolLine::Spool { id }) => left.id = Some(id),
            Ok(SpoolLine::Row(row)) => left.rows.push(*row),
            Ok(SpoolLine::Sum(key, counts)) => left.owed.add_counts(key, counts),
            Ok(SpoolLine::End(_)) => {
                left.whole = true;
                break;
            }
            Err(_) => break,
        }
    }
    left
}
