//! What is kept of runs that can be gone on with: their transcripts, each in a folder of its own, which goes with
//! the session.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::home;
use crate::config::ProgramConfig;

/// Below a folder of settings: where the program keeps its transcripts.
const TRANSCRIPTS: &str = "projects";

fn folder(setting: &ProgramConfig) -> PathBuf {
    setting.folder.join("sessions")
}

/// The folder of a session; `None` for what is no id of ours.
fn of(setting: &ProgramConfig, id: &str) -> Option<PathBuf> {
    uuid::Uuid::parse_str(id).ok().map(|id| folder(setting).join(id.to_string()))
}

/// Gives a child what is kept of a session.
///
/// # Errors
///
/// If it is not there, or cannot be read.
pub(super) fn take_up(setting: &ProgramConfig, id: &str, temporary: &Path) -> io::Result<()> {
    let kept = of(setting, id).ok_or(io::ErrorKind::NotFound)?;
    copy(&kept.join(TRANSCRIPTS), &home::config(temporary).join(TRANSCRIPTS))
}

/// Keeps what a child wrote of a session: all of it, or what was kept before.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn keep(setting: &ProgramConfig, id: &str, temporary: &Path) -> io::Result<()> {
    let kept = of(setting, id).ok_or(io::ErrorKind::InvalidInput)?;
    crate::auth::private_dir(&folder(setting))?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(folder(setting))?;
    copy(&home::config(temporary).join(TRANSCRIPTS), &new.path().join(TRANSCRIPTS))?;
    let old = folder(setting).join(format!(".old-{}", uuid::Uuid::now_v7()));
    let had = std::fs::rename(&kept, &old).is_ok();
    std::fs::rename(new.path(), &kept)?;
    let _moved = new.keep();
    if had && let Err(error) = std::fs::remove_dir_all(&old) {
        // The session counts as kept all the same; the sweep finds what is left.
        tracing::warn!(folder = %old.display(), %error, "what was kept of a session before could not be removed");
    }
    Ok(())
}

/// Removes what is kept of a session.
pub(super) fn erase(setting: &ProgramConfig, id: &str) {
    if let Some(kept) = of(setting, id).filter(|kept| kept.exists())
        && let Err(error) = std::fs::remove_dir_all(&kept)
    {
        tracing::error!(folder = %kept.display(), %error, "a deleted session could not be removed from the disk");
    }
}

/// Removes what nobody went on with for as long as sessions are kept, and what was left half written.
pub(super) fn sweep(setting: &ProgramConfig) {
    for entry in std::fs::read_dir(folder(setting)).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > setting.retention) {
            let _gone_already = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies a folder with all that is in it. What is neither file nor folder stays.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let entries = std::fs::read_dir(from)?;
    crate::auth::private_dir(to)?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_kept_gone_on_with_and_erased() {
        let folder = tempfile::tempdir().unwrap();
        let setting = ProgramConfig::example(folder.path());
        let id = uuid::Uuid::now_v7().to_string();
        let child = |name: &str| {
            let temporary = folder.path().join(name);
            std::fs::create_dir_all(home::config(&temporary)).unwrap();
            temporary
        };
        let transcript = |temporary: &Path| home::config(temporary).join("projects/-w/t.jsonl");
        let first = child("first");
        assert_eq!(take_up(&setting, &id, &first).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(keep(&setting, &id, &first).is_err(), "there is nothing to keep");
        std::fs::create_dir_all(transcript(&first).parent().unwrap()).unwrap();
        for turn in ["one", "two"] {
            std::fs::write(transcript(&first), turn).unwrap();
            keep(&setting, &id, &first).unwrap();
        }
        let second = child("second");
        take_up(&setting, &id, &second).unwrap();
        assert_eq!(std::fs::read_to_string(transcript(&second)).unwrap(), "two");
        let all = || std::fs::read_dir(super::folder(&setting)).unwrap().count();
        assert_eq!(all(), 1, "nothing half written is left");
        sweep(&setting);
        assert_eq!(all(), 1);
        erase(&setting, &id);
        erase(&setting, "../../first");
        assert!(all() == 0 && first.exists());
    }

    #[test]
    fn what_is_too_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        let setting = ProgramConfig {
            retention: std::time::Duration::ZERO,
            ..ProgramConfig::example(folder.path())
        };
        std::fs::create_dir_all(super::folder(&setting).join("x")).unwrap();
        sweep(&setting);
        assert!(!super::folder(&setting).join("x").exists());
    }
}
