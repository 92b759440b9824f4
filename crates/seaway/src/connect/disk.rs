//! Files that are changed, what they were before, and how they become that again.

mod file;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Change, FileChange, FileRefusal};
use crate::auth::{own_dir, replace};
use file::{FileState, at, look, missing, put, read, real, restore};

/// Why no file was changed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot use {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is left alone: {refusal}", .path.display())]
    Refused { path: PathBuf, refusal: FileRefusal },
    #[error("{} was changed by another program this very moment; try again", .0.display())]
    Raced(PathBuf),
    #[error("{} cannot be read, so nobody knows what was there before; move it away if you want to set up anew", .path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
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
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct UndoRecord {
    files: Vec<UndoEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct UndoEntry {
    path: PathBuf,
    /// What was done to it. There are two while one takes the place of the other, the newer first.
    layers: Vec<UndoLayer>,
    /// Folders that were made for it, the outermost first.
    folders: Vec<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct UndoLayer {
    change: Change,
    /// What the file was without us; nothing if there was none.
    before: Option<Before>,
    /// A hash of what we wrote.
    after: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Before {
    mode: u32,
    backup: PathBuf,
}

/// The folder with records and backups. One process at a time.
#[derive(Debug)]
pub struct UndoJournal {
    folder: PathBuf,
    _lock: File,
}

/// What is about to be done to one file.
struct Planned {
    path: PathBuf,
    change: Change,
    /// The file without our change; `None` if there would be no file.
    base: Option<FileState>,
    now: Option<FileState>,
    after: String,
    known: Option<UndoEntry>,
}

impl UndoJournal {
    /// Opens it, and waits for who has it open.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, DiskError> {
        let folder = state_dir.join("connect");
        let open = || {
            own_dir(&folder)?;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = open().map_err(at(&folder))?;
        Ok(Self { folder, _lock: lock })
    }

    fn record_path(&self, client: &str) -> PathBuf {
        self.folder.join(format!("{client}.json"))
    }

    fn record(&self, client: &str) -> Result<UndoRecord, DiskError> {
        let path = self.record_path(client);
        let Some(text) = read(&path)? else { return Ok(UndoRecord::default()) };
        serde_json::from_str(&text).map_err(|source| DiskError::Record { path, source })
    }

    /// Writes a record, or makes an empty one go; then the backups go that nobody speaks of.
    fn remember(&self, client: &str, record: &UndoRecord) -> Result<(), DiskError> {
        let path = self.record_path(client);
        if record.files.is_empty() {
            let _gone = std::fs::remove_file(&path);
        } else {
            let text =
                serde_json::to_vec_pretty(record).map_err(|error| at(&path)(error.into()))?;
            replace(&path, &text).map_err(at(&path))?;
        }
        let used: Vec<&Path> = record
            .files
            .iter()
            .flat_map(|kept| &kept.layers)
            .filter_map(|layer| Some(layer.before.as_ref()?.backup.as_path()))
            .collect();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(&format!("{client}-"));
            if ours && !used.contains(&entry.path().as_path()) {
                let _gone = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// True if the client was set up and that was not taken back.
    ///
    /// # Errors
    ///
    /// If what is remembered cannot be read.
    pub fn is_connected(&self, client: &str) -> Result<bool, DiskError> {
        Ok(!self.record(client)?.files.is_empty())
    }

    /// Says what would be made of the files, and makes it unless `only_say`.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; then no file was changed, or those that were are put back.
    pub fn connect(
        &self,
        client: &str,
        changes: &[FileChange],
        force: bool,
        only_say: bool,
    ) -> Result<Vec<Changed>, DiskError> {
        let record = self.record(client)?;
        let mut planned = Vec::new();
        for FileChange { path, change } in changes {
            let path = real(path)?;
            let now = look(&path)?;
            let known = record
                .files
                .iter()
                .find(|kept| kept.path == path)
                .filter(|_| now.is_some())
                .cloned();
            // What we did before is undone first, so that what is kept is what was there without us.
            let base = match &known {
                Some(kept) => kept.undone(now.as_ref())?,
                None => now.clone(),
            };
            let after = change
                .apply(base.as_ref().map_or("", |base| &base.text), force)
                .map_err(|refusal| DiskError::Refused { path: path.clone(), refusal })?;
            planned.push(Planned { path, change: change.clone(), base, now, after, known });
        }
        let text =
            |was: &Option<FileState>| was.as_ref().map_or_else(String::new, |was| was.text.clone());
        let told = planned
            .iter()
            .map(|plan| Changed {
                path: plan.path.clone(),
                before: text(&plan.now),
                after: Some(plan.after.clone()),
            })
            .collect();
        if !only_say {
            self.write(client, &record, &planned)?;
        }
        Ok(told)
    }

    fn write(
        &self,
        client: &str,
        before: &UndoRecord,
        planned: &[Planned],
    ) -> Result<(), DiskError> {
        // First the record: whatever happens then can be undone, whether a file is still the old one or already ours.
        let mut record = before.clone();
        for plan in planned {
            let mut kept = plan.known.clone().unwrap_or_else(|| UndoEntry {
                path: plan.path.clone(),
                layers: Vec::new(),
                folders: missing(&plan.path),
            });
            kept.layers.insert(0, self.layer(client, plan)?);
            record.files.retain(|other| other.path != plan.path);
            record.files.push(kept);
        }
        self.remember(client, &record)?;
        for (number, plan) in planned.iter().enumerate() {
            if let Err(error) =
                put(&plan.path, plan.now.as_ref().map(|now| now.text.as_str()), &plan.after)
            {
                for done in &planned[..number] {
                    let folders = record
                        .files
                        .iter()
                        .find(|kept| kept.path == done.path)
                        .map_or(&[][..], |kept| &kept.folders);
                    restore(&done.path, Some(&done.after), done.now.as_ref(), folders)?;
                }
                self.remember(client, before)?;
                return Err(error);
            }
        }
        for kept in &mut record.files {
            kept.layers.truncate(1);
        }
        self.remember(client, &record)
    }

    fn layer(&self, client: &str, plan: &Planned) -> Result<UndoLayer, DiskError> {
        let mut before = None;
        if let Some(FileState { text, mode }) = &plan.base {
            let backup = self.folder.join(format!("{client}-{}.before", &hash(text)[..16]));
            replace(&backup, text.as_bytes()).map_err(at(&backup))?;
            before = Some(Before { mode: *mode, backup });
        }
        Ok(UndoLayer { change: plan.change.clone(), before, after: hash(&plan.after) })
    }

    /// Puts back what was there. Files that were changed since lose only what is ours.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; then what is not put back yet stays remembered.
    pub fn undo(&self, client: &str, only_say: bool) -> Result<Vec<Changed>, DiskError> {
        let mut record = self.record(client)?;
        let mut told = Vec::new();
        for kept in record.files.clone() {
            let now = look(&kept.path)?;
            let was = kept.undone(now.as_ref())?;
            let text = now.as_ref().map(|now| now.text.as_str());
            if !only_say {
                restore(&kept.path, text, was.as_ref(), &kept.folders)?;
                record.files.retain(|other| other.path != kept.path);
                self.remember(client, &record)?;
            }
            told.push(Changed {
                path: kept.path,
                before: text.unwrap_or_default().to_owned(),
                after: was.map(|was| was.text),
            });
        }
        Ok(told)
    }
}

impl UndoEntry {
    /// The file without what we did; nothing if there is nothing of anybody's in it.
    fn undone(&self, now: Option<&FileState>) -> Result<Option<FileState>, DiskError> {
        let Some(now) = now else { return self.layers.last().map_or(Ok(None), UndoLayer::before) };
        if let Some(layer) = self.layers.iter().find(|layer| layer.after == hash(&now.text)) {
            return layer.before();
        }
        let mut text = now.text.clone();
        for layer in &self.layers {
            let before = layer.before()?;
            let original = before.as_ref().map_or("", |was| &was.text);
            text = layer
                .change
                .revert(original, &text)
                .map_err(|refusal| DiskError::Refused { path: self.path.clone(), refusal })?;
        }
        let oldest = self.layers.last().map_or(Ok(None), UndoLayer::before)?;
        let empty = oldest.is_none() && matches!(text.trim(), "" | "{}");
        Ok((!empty).then(|| FileState { text, mode: oldest.map_or(now.mode, |was| was.mode) }))
    }
}

impl UndoLayer {
    fn before(&self) -> Result<Option<FileState>, DiskError> {
        let Some(Before { mode, backup }) = &self.before else { return Ok(None) };
        let text = read(backup)?.ok_or_else(|| at(backup)(io::ErrorKind::NotFound.into()))?;
        Ok(Some(FileState { text, mode: *mode }))
    }
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Edit};
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn shelf(&self) -> UndoJournal {
            UndoJournal::open(&self.0.path().join("state")).unwrap()
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("made/for it/settings.json")
        }

        fn changes(&self, value: &str) -> Vec<FileChange> {
            vec![FileChange {
                path: self.file(),
                change: Change::Json(vec![Edit::own(&["a", "b"], value)]),
            }]
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
        assert!(
            home.text().contains("\"b\": \"1\"")
                && home.mode() == 0o600
                && shelf.is_connected("c").unwrap()
        );
        // Twice, and with another value, it is still undone to what was there before us.
        shelf.connect("c", &home.changes("2"), false, false).unwrap();
        assert!(home.text().contains("\"b\": \"2\""));
        shelf.undo("c", false).unwrap();
        assert_eq!(
            (home.text().as_str(), home.mode(), shelf.is_connected("c").unwrap()),
            ("{ // mine\n}", 0o644, false)
        );
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
        assert!(matches!(
            shelf.connect("c", &home.changes("1"), false, false),
            Err(DiskError::Refused { refusal: FileRefusal::Foreign(_), .. })
        ));
        assert!(!shelf.is_connected("c").unwrap());
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
        let change = vec![FileChange {
            path: link.clone(),
            change: Change::Json(vec![Edit::own(&["a"], "1")]),
        }];
        shelf.connect("c", &change, false, false).unwrap();
        assert!(link.is_symlink() && home.text().contains("\"a\""));
        shelf.undo("c", false).unwrap();
        assert_eq!(home.text(), "{}");
    }

    #[test]
    fn what_was_added_to_a_file_of_ours_is_kept() {
        let home = Home::new();
        let shelf = home.shelf();
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        std::fs::write(
            home.file(),
            home.text().replace("{\n  \"a\"", "{\n  \"theirs\": true,\n  \"a\""),
        )
        .unwrap();
        shelf.connect("c", &home.changes("2"), false, false).unwrap();
        assert!(home.text().contains("theirs") && home.text().contains("\"2\""), "{}", home.text());
        shelf.undo("c", false).unwrap();
        assert!(
            home.text().contains("theirs") && !home.text().contains("\"a\""),
            "{}",
            home.text()
        );
    }

    #[test]
    fn a_folder_that_is_a_link_does_not_make_two_files_of_one() {
        let home = Home::new();
        std::fs::create_dir(home.0.path().join("far")).unwrap();
        std::os::unix::fs::symlink(home.0.path().join("far"), home.0.path().join("near")).unwrap();
        let change = |value: &str| {
            vec![FileChange {
                path: home.0.path().join("near/c/x.json"),
                change: Change::Json(vec![Edit::own(&["a"], value)]),
            }]
        };
        let shelf = home.shelf();
        shelf.connect("c", &change("1"), false, false).unwrap();
        shelf.connect("c", &change("2"), false, false).unwrap();
        shelf.undo("c", false).unwrap();
        assert!(!home.0.path().join("far/c").exists() && home.0.path().join("near").is_symlink());
        std::os::unix::fs::symlink("nowhere", home.0.path().join("lost.json")).unwrap();
        let lost = vec![FileChange {
            path: home.0.path().join("lost.json"),
            change: Change::Json(vec![Edit::own(&["a"], "1")]),
        }];
        assert!(shelf.connect("c", &lost, false, false).is_err(), "a link that leads nowhere");
    }

    #[test]
    fn two_places_of_one_client_are_both_undone() {
        let home = Home::new();
        let place = |name: &str| home.0.path().join(name).join("x.json");
        let change = |name: &str| {
            vec![FileChange {
                path: place(name),
                change: Change::Json(vec![Edit::own(&["a"], "1")]),
            }]
        };
        for name in ["one", "two"] {
            std::fs::create_dir(home.0.path().join(name)).unwrap();
            std::fs::write(place(name), format!("{{\"{name}\": 1}}")).unwrap();
        }
        let shelf = home.shelf();
        for name in ["one", "two"] {
            shelf.connect("c", &change(name), false, false).unwrap();
        }
        assert_eq!(shelf.undo("c", false).unwrap().len(), 2);
        for name in ["one", "two"] {
            assert_eq!(std::fs::read_to_string(place(name)).unwrap(), format!("{{\"{name}\": 1}}"));
        }
        assert!(
            std::fs::read_dir(home.0.path().join("state/connect"))
                .unwrap()
                .flatten()
                .all(|entry| entry.file_name() == "lock"),
            "nothing is left"
        );
    }

    #[test]
    fn a_change_that_fails_in_the_middle_leaves_everything_as_it_was() {
        let home = Home::new();
        let shelf = home.shelf();
        home.put("{\"mine\": 1}");
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        let before = home.text();
        let folder = home.0.path().join("file");
        std::fs::write(&folder, "").unwrap();
        // The second file cannot be made: its folder is a file.
        let mut both = home.changes("2");
        both.insert(
            0,
            FileChange {
                path: home.0.path().join("new/x.json"),
                change: Change::Json(vec![Edit::own(&["a"], "1")]),
            },
        );
        both.push(FileChange {
            path: folder.join("x.json"),
            change: Change::Json(vec![Edit::own(&["a"], "1")]),
        });
        assert!(shelf.connect("c", &both, false, false).is_err());
        assert_eq!((home.text(), home.0.path().join("new").exists()), (before, false));
        shelf.undo("c", false).unwrap();
        assert_eq!(home.text(), "{\"mine\": 1}");
    }

    #[test]
    fn what_broke_off_halfway_can_be_undone() {
        let home = Home::new();
        home.put("{\"mine\": 1}");
        let shelf = home.shelf();
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        let first = home.text();
        let record = std::fs::read_to_string(home.0.path().join("state/connect/c.json")).unwrap();
        shelf.connect("c", &home.changes("2"), false, false).unwrap();
        // As after a crash: the record knows both, the file is still the first.
        let (old, mut new): (UndoRecord, UndoRecord) =
            (serde_json::from_str(&record).unwrap(), shelf.record("c").unwrap());
        new.files[0].layers.extend(old.files[0].layers.clone());
        shelf.remember("c", &new).unwrap();
        std::fs::write(home.file(), &first).unwrap();
        shelf.undo("c", false).unwrap();
        assert_eq!(home.text(), "{\"mine\": 1}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_none() {
        let home = Home::new();
        let shelf = home.shelf();
        std::fs::write(home.0.path().join("state/connect/c.json"), "{").unwrap();
        assert!(matches!(
            shelf.connect("c", &home.changes("1"), false, false),
            Err(DiskError::Record { .. })
        ));
        assert!(shelf.undo("c", false).is_err());
    }

    #[test]
    fn a_file_that_was_deleted_since_comes_back_as_it_was() {
        let home = Home::new();
        home.put("{\"mine\": 1}");
        let shelf = home.shelf();
        shelf.connect("c", &home.changes("1"), false, false).unwrap();
        std::fs::remove_file(home.file()).unwrap();
        shelf.undo("c", false).unwrap();
        assert_eq!((home.text().as_str(), home.mode()), ("{\"mine\": 1}", 0o644));
    }
}
