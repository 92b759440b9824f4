//! Which gateways of this user run on this machine, and how to ask them.
//!
//! An instance is found by a record in the state folder and asked over a unix socket
//! beside it, which only its owner can open. No secret is ever sent to a TCP port to
//! find out who listens there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::auth::{is_own_dir, own_dir, replace};
use crate::config::run_folder;

/// What an instance says of itself.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Instance {
    pub pid: u32,
    /// Where clients reach it.
    pub addresses: Vec<String>,
    /// Where its owner reaches it.
    pub socket: PathBuf,
    /// RFC 3339.
    pub started: String,
}

/// A record that is removed when this is dropped.
#[derive(Debug)]
pub struct Registered(PathBuf);

impl Drop for Registered {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Where this process' own socket goes.
///
/// # Errors
///
/// If the folder cannot be made, or the path is longer than a socket's may be.
pub fn socket_path(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = run_folder(state_dir);
    own_dir(&folder)?;
    let path = folder.join(format!("{}.sock", std::process::id()));
    if path.as_os_str().len() > 100 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is too long for a unix socket; set a shorter `state_dir`",
        ));
    }
    Ok(path)
}

/// Writes this process' record.
///
/// # Errors
///
/// If the folder cannot be written to.
pub fn register(
    state_dir: &Path,
    addresses: Vec<String>,
    socket: PathBuf,
) -> io::Result<Registered> {
    let pid = std::process::id();
    let instance = Instance { pid, addresses, socket, started: jiff::Timestamp::now().to_string() };
    let path = run_folder(state_dir).join(format!("{pid}.json"));
    replace(&path, serde_json::to_string(&instance)?.as_bytes())?;
    Ok(Registered(path))
}

/// Finds the instances that have a record. Those whose socket nobody holds any more are
/// forgotten on the way.
pub fn find(state_dir: &Path) -> Vec<Instance> {
    let folder = run_folder(state_dir);
    if !is_own_dir(&folder) {
        return Vec::new();
    }
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let records = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    records.filter_map(|path| alive(&path)).collect()
}

fn alive(path: &Path) -> Option<Instance> {
    let mut instance: Instance = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    // Our sockets lie beside our records, and nowhere else.
    instance.socket = path.with_file_name(instance.socket.file_name()?);
    match std::os::unix::net::UnixStream::connect(&instance.socket) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) => {}
        // Too busy to answer is not dead.
        Ok(_) | Err(_) => return Some(instance),
    }
    let _gone = std::fs::remove_file(&instance.socket);
    let _gone = std::fs::remove_file(path);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_instance_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let socket = socket_path(state.path()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let registered = register(state.path(), vec!["http://x".into()], socket).unwrap();
        assert_eq!(find(state.path())[0].addresses, ["http://x"]);
        drop(listener);
        // A child that another test forks right now may hold the socket until it execs.
        while !find(state.path()).is_empty() {
            std::thread::yield_now();
        }
        drop(registered);
    }
}
