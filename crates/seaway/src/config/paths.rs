//! Where things live when nobody says otherwise.

use std::path::{Path, PathBuf};

use super::Environment;

fn folder(environment: &Environment, variable: &str, under_home: &str) -> PathBuf {
    let set = environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set.unwrap_or_else(|| home(environment).join(under_home));
    base.join("seaway")
}

pub(super) fn home(environment: &Environment) -> PathBuf {
    environment.get("HOME").map_or_else(std::env::temp_dir, PathBuf::from)
}

pub(super) fn config_file(environment: &Environment) -> PathBuf {
    match environment.get("SEAWAY_CONFIG") {
        Some(path) => PathBuf::from(path),
        None => folder(environment, "XDG_CONFIG_HOME", ".config").join("seaway.toml"),
    }
}

pub(super) fn state_dir(environment: &Environment) -> PathBuf {
    folder(environment, "XDG_STATE_HOME", ".local/state")
}

/// What belongs to this machine alone: home folders are shared between machines.
#[must_use]
pub fn run_folder(state_dir: &Path) -> PathBuf {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    state_dir.join("run").join(if host.is_empty() { "localhost".into() } else { host })
}
