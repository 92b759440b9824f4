//! Where things live when nobody says otherwise.

use std::path::{Path, PathBuf};

use super::Environment;

fn folder(environment: &Environment, variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set.or_else(|| Some(home(environment)?.join(under_home)))?;
    Some(base.join("seaway"))
}

/// The home folder: by its variable, else by the password database. Nowhere else: what stands in a folder that everybody
/// can write to is not the user's.
pub(super) fn home(environment: &Environment) -> Option<PathBuf> {
    let told = environment.get("HOME").map(PathBuf::from);
    let known =
        || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    told.or_else(known).filter(|home| home.is_absolute())
}

/// Where the file is, or would be; nowhere without a home.
pub(super) fn config_file(environment: &Environment) -> Option<PathBuf> {
    match environment.get("SEAWAY_CONFIG") {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(folder(environment, "XDG_CONFIG_HOME", ".config")?.join("seaway.toml")),
    }
}

pub(super) fn state_dir(environment: &Environment) -> Option<PathBuf> {
    folder(environment, "XDG_STATE_HOME", ".local/state")
}

/// What belongs to this machine alone: home folders are shared between machines.
pub fn run_folder(state_dir: &Path) -> PathBuf {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    state_dir.join("run").join(if host.is_empty() { "localhost".into() } else { host })
}
