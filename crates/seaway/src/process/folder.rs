//! Temporary folders of children.

use std::io;
use std::path::Path;

/// What their names begin with, before the number of the gateway they belong to.
pub const FOLDERS: &str = "seaway-child-";
/// A temporary folder for one child, removed after it, also by who finds it once its gateway was killed.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Makes one that only we can look into.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn make(temporary: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        if temporary.as_os_str().to_string_lossy().contains(char::is_control) || !temporary.is_dir()
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} is no folder for temporary files; set TMPDIR to one that is there",
                    temporary.display()
                ),
            ));
        }
        let private = std::fs::Permissions::from_mode(0o700);
        let prefix = format!("{FOLDERS}{}-", std::process::id());
        tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(private)
            .tempdir_in(temporary)
            .map(Self)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// True for a folder that was made for a child of ours.
pub(super) fn is_child_folder(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOLDERS))
        && is_ours(path)
}

/// True for a folder that nobody else could have filled.
pub(super) fn is_ours(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path);
    meta.is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o777 == 0o700
    })
}
