//! One file of somebody else's: read, replaced whole, put back.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::DiskError;
use crate::auth::replace;

/// What a file was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    pub text: String,
    pub mode: u32,
}

/// Reads a file; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, DiskError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

/// The same with its mode.
pub(super) fn look(path: &Path) -> Result<Option<FileState>, DiskError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let mode = std::fs::metadata(path).map_err(at(path))?.permissions().mode() & 0o7777;
    Ok(Some(FileState { text, mode }))
}

/// Where a file really lies: links are followed, not replaced, also those of folders on the way.
pub(super) fn real(path: &Path) -> Result<PathBuf, DiskError> {
    let path = std::path::absolute(path).map_err(at(path))?;
    let there =
        path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
    let resolved = there.canonicalize().map_err(|_| {
        at(there)(io::Error::new(io::ErrorKind::NotFound, "it is a link that leads nowhere"))
    })?;
    Ok(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) })
}

/// The folders that have to be made for a file, the outermost first.
pub(super) fn missing(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| !folder.exists())
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

/// Replaces a file by one that only its owner can read, if it is still what it was when we read it.
pub(super) fn put(path: &Path, now: Option<&str>, after: &str) -> Result<(), DiskError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
    }
    if read(path)?.as_deref() != now {
        return Err(DiskError::Raced(path.to_owned()));
    }
    replace(path, after.as_bytes()).map_err(at(path))
}

/// Makes a file what it was, its mode too; or makes it go, with the folders that were made for it.
pub(super) fn restore(
    path: &Path,
    now: Option<&str>,
    was: Option<&FileState>,
    folders: &[PathBuf],
) -> Result<(), DiskError> {
    if let Some(FileState { text, mode }) = was {
        put(path, now, text)?;
        return std::fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(at(path));
    }
    if now.is_some() {
        std::fs::remove_file(path).map_err(at(path))?;
    }
    for folder in folders.iter().rev() {
        // Somebody else's files keep a folder.
        let _gone = std::fs::remove_dir(folder);
    }
    Ok(())
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { path: path.clone(), source }
}
