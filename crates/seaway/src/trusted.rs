//! Files and folders that are trusted for what they hold: nobody else may own or change them.
//!
//! The rule is that of OpenSSH's `StrictModes`: a file of ours or root's that neither group nor
//! others may write, in folders of which the same is true. A folder in which everybody may make
//! files of their own (`/tmp`) is passed through, not trusted.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::confine::outside;

/// Whether it matters who else may write what is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// The rule above.
    Strict,
    /// The owner vouches that nobody else is there, as in a container of one user.
    Any,
}

/// Others may write.
const OTHERS_WRITE: u32 = 0o022;
/// In a folder: only who owns a file may move it.
const STICKY: u32 = 0o1000;

/// Reads a file if it can be trusted. What is looked at is what is read.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] with words for what another user owns or may write, and what reading fails by.
pub fn read(path: &Path, modes: Modes) -> Result<String> {
    // The owner's settings say where it lies.
    let path = path.to_owned();
    outside(move || read_here(&path, modes))
}

fn read_here(path: &Path, modes: Modes) -> Result<String> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    // `/dev/null` stands for no settings at all.
    if modes == Modes::Strict && !is_read_only(&file) && !meta.file_type().is_char_device() {
        check(path, &meta)?;
        let absolute = std::path::absolute(path)?;
        absolute.ancestors().skip(1).try_for_each(passes)?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Checks a folder that is there: what lies in it is trusted. One that is not there yet will be ours.
///
/// # Errors
///
/// As [`read`].
pub fn folder(path: &Path, modes: Modes) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => {
            Err(Error::new(ErrorKind::NotADirectory, format!("{} is no folder", path.display())))
        }
        Ok(_) if modes == Modes::Any => Ok(()),
        Ok(meta) => {
            check(path, &meta)?;
            std::path::absolute(path)?.ancestors().skip(1).try_for_each(passes)
        }
        Err(error) if error.kind() == ErrorKind::NotFound && modes == Modes::Any => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match std::path::absolute(path)?.ancestors().skip(1).find(|parent| parent.exists()) {
                Some(parent) => parent.ancestors().try_for_each(passes),
                None => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

fn check(path: &Path, meta: &Metadata) -> Result<()> {
    owned(path, meta)?;
    if meta.mode() & OTHERS_WRITE != 0 {
        let (path, mode) = (path.display(), meta.mode() & 0o7777);
        return Err(refused(format!(
            "others may write {path} (mode {mode:04o}); take that away: chmod go-w '{path}'"
        )));
    }
    Ok(())
}

/// A folder on the way to what is trusted.
fn passes(folder: &Path) -> Result<()> {
    let meta = std::fs::metadata(folder)?;
    if meta.mode() & STICKY != 0 && meta.uid() == 0 {
        return Ok(());
    }
    check(folder, &meta)
}

fn owned(path: &Path, meta: &Metadata) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    match meta.uid() {
        0 => Ok(()),
        uid if uid == own => Ok(()),
        uid => Err(refused(format!(
            "{} belongs to another user (uid {uid}); use a file or folder of your own",
            path.display()
        ))),
    }
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::PermissionDenied, why)
}

/// What is mounted so that nobody can write there, as a container's settings are.
fn is_read_only(file: &File) -> bool {
    rustix::fs::fstatvfs(file)
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Makes a file that nobody else may read, if it is not there, and checks one that is. SQLite, for one, gives its side
/// files the mode of the main one, so that one is made first. A link is followed if it is ours.
///
/// # Errors
///
/// Why it cannot be opened, or, as [`read`], why it cannot be trusted.
pub fn private_file(path: &Path, modes: Modes) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = |flags: rustix::fs::OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    };
    let file = match open(rustix::fs::OFlags::NOFOLLOW) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            if modes == Modes::Strict {
                owned(path, &std::fs::symlink_metadata(path)?)?;
            }
            open(rustix::fs::OFlags::empty())?
        }
        file => file?,
    };
    if modes == Modes::Strict { check(path, &file.metadata()?) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn refuses(result: Result<impl std::fmt::Debug>, what: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let (dir, file) = (base.path().join("d"), base.path().join("d/f"));
        std::fs::create_dir(&dir).unwrap();
        chmod(&dir, 0o755);
        std::fs::write(&file, "x").unwrap();
        chmod(&file, 0o644);
        assert_eq!(read(&file, Modes::Strict).unwrap(), "x");
        folder(&dir, Modes::Strict).unwrap();
        for mode in [0o664, 0o646] {
            chmod(&file, mode);
            refuses(
                read(&file, Modes::Strict),
                &format!("others may write {} (mode 0{mode:o})", file.display()),
            );
        }
        chmod(&file, 0o600);
        for mode in [0o775, 0o777] {
            chmod(&dir, mode);
            refuses(read(&file, Modes::Strict), &format!("others may write {}", dir.display()));
            refuses(folder(&dir, Modes::Strict), "chmod go-w");
            refuses(folder(&dir.join("not/there/yet"), Modes::Strict), "chmod go-w");
            folder(&dir, Modes::Any).unwrap();
            folder(&dir.join("not/there/yet"), Modes::Any).unwrap();
            assert_eq!(read(&file, Modes::Any).unwrap(), "x");
        }
    }

    #[test]
    fn what_another_user_owns_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let (dir, file) = (base.path().join("d"), base.path().join("d/f"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&file, "x").unwrap();
        let give = |path: &Path| std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
        give(&file);
        refuses(read(&file, Modes::Strict), "belongs to another user (uid 12345)");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
        give(&dir);
        refuses(read(&file, Modes::Strict), "belongs to another user");
        refuses(folder(&dir, Modes::Strict), "belongs to another user");
        // A link of ours to what is not: what is read counts.
        std::os::unix::fs::symlink(&file, base.path().join("link")).unwrap();
        give(&file);
        refuses(read(&base.path().join("link"), Modes::Strict), "belongs to another user");
    }

    #[test]
    fn a_link_that_somebody_planted_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (aim, link) = (base.path().join("aim"), base.path().join("link"));
        std::os::unix::fs::symlink(&aim, &link).unwrap();
        private_file(&link, Modes::Strict).unwrap();
        assert_eq!(std::fs::metadata(&aim).unwrap().mode() & 0o777, 0o600, "one of ours is");
        chmod(&aim, 0o666);
        refuses(private_file(&link, Modes::Strict), "others may write");
        chmod(&aim, 0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
            refuses(private_file(&link, Modes::Strict), "belongs to another user");
            private_file(&link, Modes::Any).unwrap();
            std::os::unix::fs::chown(&aim, Some(12_345), None).unwrap();
            refuses(private_file(&aim, Modes::Strict), "belongs to another user");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&base.path().join("none"), Modes::Strict).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        folder(&base.path().join("none"), Modes::Strict).unwrap();
        assert_eq!(read(Path::new("/dev/null"), Modes::Strict).unwrap(), "");
    }
}
