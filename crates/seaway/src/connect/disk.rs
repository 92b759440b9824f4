//! Files that are changed, what they were before, and how they become that again.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FileChange, Refusal};
use crate::auth::{own_dir, replace};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot use {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is left alone: {refusal}", .path.display())]
    Refused { path: PathBuf, refusal: Refusal },
    #[error("{} was changed by another program this very moment; try again", .0.display())]
    Raced(PathBuf),
}

/// What was made of one file.
#[derive(Debug)]
pub struct Changed {
    pub path: PathBuf,
    pub before: String,
    /// Nothing if the file goes.
    pub after: Option<String>,
}

/// What is remembered of a client that was set up.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    files: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    change: FileChange,
    /// What the file was; nothing if there was none.
    before: Option<Before>,
    /// A hash of what we wrote.
    after: String,
    /// Folders that were made for it, the outermost first.
    folders: Vec<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Before {
    mode: u32,
    backup: PathBuf,
}

/// The folder with records and backups. One process at a time.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    _lock: File,
}

impl Shelf {
    /// Opens it, and waits for who has it open.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, DiskError> {
        let folder = state_dir.join("connect");
        let open = || {
            own_dir(&folder)?;
            let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = open().map_err(at(&folder))?;
        Ok(Self { folder, _lock: lock })
    }

    fn record_path(&self, client: &str) -> PathBuf {
        self.folder.join(format!("{client}.json"))
    }

    fn record(&self, client: &str) -> Record {
        let text = std::fs::read_to_string(self.record_path(client)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// True if the client was set up and that was not taken back.
    #[must_use]
    pub fn is_connected(&self, client: &str) -> bool {
        !self.record(client).files.is_empty()
    }

    /// Says what would be made of the files, and makes it unless `only_say`.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; then no file was changed, or those that were are put back.
    pub fn connect(&self, client: &str, changes: &[FileChange], force: bool, only_say: bool) -> Result<Vec<Changed>, DiskError> {
        let record = self.record(client);
        let mut planned = Vec::new();
        for change in changes {
            let path = real(&change.path);
            let refused = |refusal| DiskError::Refused { path: path.clone(), refusal };
            let now = read(&path)?;
            let known = record.files.iter().find(|kept| kept.change.path == path && now.is_some());
            // What we did before is undone first, so that the backup stays what it was before us.
            let base = known.map_or_else(|| Ok(now.clone()), |kept| undone(kept, now.as_deref()))?;
            let after = change.change.apply(base.as_deref().unwrap_or_default(), force).map_err(refused)?;
            let there_before = known.map_or(now.is_some(), |kept| kept.before.is_some());
            planned.push(Planned {
                change: FileChange { path, change: change.change.clone() },
                base: base.filter(|_| there_before),
                now,
                after,
                mode: known.and_then(|kept| kept.before.as_ref()).map(|before| before.mode),
                folders: known.map(|kept| kept.folders.clone()),
            });
        }
        let told = planned.iter().map(|plan| Changed { path: plan.change.path.clone(), before: plan.now.clone().unwrap_or_default(), after: Some(plan.after.clone()) }).collect();
        if !only_say {
            self.write(client, planned)?;
        }
        Ok(told)
    }

    fn write(&self, client: &str, planned: Vec<Planned>) -> Result<(), DiskError> {
        let mut record = Record::default();
        for (number, plan) in planned.iter().enumerate() {
            let path = &plan.change.path;
            let before = match &plan.base {
                None => None,
                Some(base) => {
                    let mode = plan.mode.or_else(|| std::fs::metadata(path).ok().map(|meta| meta.permissions().mode() & 0o7777)).unwrap_or(0o600);
                    let backup = self.folder.join(format!("{client}.{number}.before"));
                    replace(&backup, base.as_bytes()).map_err(at(&backup))?;
                    Some(Before { mode, backup })
                }
            };
            let folders = plan.folders.clone().unwrap_or_else(|| missing(path));
            record.files.push(Kept { change: plan.change.clone(), before, after: hash(&plan.after), folders });
        }
        // First the record: whatever happens then can be undone.
        let path = self.record_path(client);
        let text = serde_json::to_vec_pretty(&record).map_err(|error| at(&path)(error.into()))?;
        replace(&path, &text).map_err(at(&path))?;
        for (done, plan) in planned.iter().enumerate() {
            if let Err(error) = put(&plan.change.path, plan.now.as_deref(), &plan.after) {
                for earlier in &planned[..done] {
                    let _back = earlier.now.as_ref().map(|now| replace(&earlier.change.path, now.as_bytes()));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts back what was there. Files that were changed since lose only what is ours.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; then the record stays.
    pub fn undo(&self, client: &str, only_say: bool) -> Result<Vec<Changed>, DiskError> {
        let record = self.record(client);
        let mut told = Vec::new();
        for kept in &record.files {
            let path = &kept.change.path;
            let Some(now) = read(path)? else { continue };
            let after = undone(kept, Some(&now))?;
            if !only_say {
                match (&after, &kept.before) {
                    (None, _) => remove(path, &kept.folders)?,
                    (Some(text), before) => {
                        put(path, Some(&now), text)?;
                        let mode = before.as_ref().map_or(0o600, |before| before.mode);
                        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at(path))?;
                    }
                }
            }
            told.push(Changed { path: path.clone(), before: now, after });
        }
        if !only_say {
            for path in record.files.iter().filter_map(|kept| kept.before.as_ref()).map(|before| &before.backup).chain([&self.record_path(client)]) {
                let _gone = std::fs::remove_file(path);
            }
        }
        Ok(told)
    }
}

struct Planned {
    change: FileChange,
    /// What the file was before us, if there was one.
    base: Option<String>,
    now: Option<String>,
    after: String,
    mode: Option<u32>,
    folders: Option<Vec<PathBuf>>,
}

/// A file's text without what we did; nothing if there was no file, and there is nothing of anybody's in it now.
fn undone(kept: &Kept, now: Option<&str>) -> Result<Option<String>, DiskError> {
    let path = &kept.change.path;
    let before = kept.before.as_ref().map(|before| read(&before.backup)?.ok_or_else(|| at(&before.backup)(io::ErrorKind::NotFound.into()))).transpose()?;
    match now {
        None => Ok(None),
        Some(now) if hash(now) == kept.after => Ok(before),
        Some(now) => {
            let text = kept.change.change.revert(before.as_deref().unwrap_or_default(), now);
            text.map(Some).map_err(|refusal| DiskError::Refused { path: path.clone(), refusal })
        }
    }
}

/// Replaces a file, if it is still what it was when we read it.
fn put(path: &Path, now: Option<&str>, after: &str) -> Result<(), DiskError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
    }
    if read(path)?.as_deref() != now {
        return Err(DiskError::Raced(path.to_owned()));
    }
    replace(path, after.as_bytes()).map_err(at(path))
}

fn remove(path: &Path, folders: &[PathBuf]) -> Result<(), DiskError> {
    std::fs::remove_file(path).map_err(at(path))?;
    for folder in folders.iter().rev() {
        // Somebody else's files keep a folder.
        let _gone = std::fs::remove_dir(folder);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, DiskError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

/// Where a file really lies: a link is followed, not replaced.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The folders that have to be made for a file, the outermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    folders.reverse();
    folders
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn at(path: &Path) -> impl Fn(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Edit};
    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn shelf(&self) -> Shelf {
            Shelf::open(&self.0.path().join("state")).unwrap()
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("made/for it/settings.json")
        }

        fn changes(&self, value: &str) -> Vec<FileChange> {
            vec![FileChange { path: self.file(), change: Change::Json(vec![Edit::own(&["a", "b"], value)]) }]
        }

        fn put(&self, text: &str) {
            std::fs::create_dir_all(self.file().parent().unwrap()).unwrap();
            std::fs::write(self.file(), text).unwrap();
            std::fs::set_permissions(self.file(), Permissions::from_mode(0o644)).unwrap();
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.file()).unwrap()
        }

        fn mode(&self) -> u32 {
            std::fs::metadata(self.file()).unwrap().permissions().mode() & 0o777
        }
    }

    #[test]
    fn an_undo_restores_exactly() {
        let home = Home::new();
        home.put("{ // mine\n}");
        let shelf = home.shelf();
        shelf.connect("c", &home.changes("1"), false, true).unwrap();
        assert_eq!(home.text(), "{ // mine\n}", "only said");
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        assert!(home.text().contains("\"b\": \"1\"") && home.mode() == 0o600 && shelf.is_connected("c"));
        // Twice, and with another value, it is still undone to what was there before us.
        shelf.connect("c", &home.changes("2"), false, false).unwrap();
        assert!(home.text().contains("\"b\": \"2\""));
        shelf.undo("c", false).unwrap();
        assert_eq!((home.text().as_str(), home.mode(), shelf.is_connected("c")), ("{ // mine\n}", 0o644, false));
        assert!(shelf.undo("c", false).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_made_goes_with_its_folders() {
        let home = Home::new();
        let shelf = home.shelf();
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        shelf.connect("c", &home.changes("2"), false, false).unwrap();
        assert_eq!(home.mode(), 0o600);
        shelf.undo("c", false).unwrap();
        assert!(!home.0.path().join("made").exists());
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        std::fs::write(home.0.path().join("made/theirs"), "x").unwrap();
        shelf.undo("c", false).unwrap();
        assert!(!home.file().exists() && home.0.path().join("made/theirs").exists());
    }

    #[test]
    fn what_others_changed_since_stays() {
        let home = Home::new();
        home.put("{\"a\": {\"b\": \"0\"}}");
        let shelf = home.shelf();
        assert!(matches!(shelf.connect("c", &home.changes("1"), false, false), Err(DiskError::Refused { refusal: Refusal::Foreign(_), .. })));
        assert!(!shelf.is_connected("c"));
        shelf.connect("c", &home.changes("1"), true, false).unwrap();
        std::fs::write(home.file(), "{\"a\": {\"b\": \"1\"}, \"new\": true}").unwrap();
        shelf.connect("c", &home.changes("2"), true, false).unwrap();
        assert_eq!(home.text(), "{\"a\": {\"b\": \"2\"}, \"new\": true}");
        shelf.undo("c", false).unwrap();
        assert_eq!(home.text(), "{\"a\": {\"b\": \"0\"}, \"new\": true}");
    }

    #[test]
    fn a_link_is_followed() {
        let home = Home::new();
        home.put("{}");
        let link = home.0.path().join("link.json");
        std::os::unix::fs::symlink(home.file(), &link).unwrap();
        let shelf = home.shelf();
        let change = vec![FileChange { path: link.clone(), change: Change::Json(vec![Edit::own(&["a"], "1")]) }];
        shelf.connect("c", &change, false, false).unwrap();
        assert!(link.is_symlink() && home.text().contains("\"a\""));
        shelf.undo("c", false).unwrap();
        assert_eq!(home.text(), "{}");
    }
}
