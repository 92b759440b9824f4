//! Children: the only code that spawns.

#![expect(clippy::disallowed_methods, reason = "this is the code that starts children")]

mod child;
mod family;
mod folder;
mod piped;
mod programs;
mod real;
mod table;
mod tool;
pub mod watch;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;
use tokio::runtime::Handle;

use crate::confine::{FileReach, outside, outside_within};

pub use child::{Child, PipeIn, PipeOut, Promised, StartedChild};
pub use folder::{FOLDERS, Folder};
pub use piped::{Launch, ListenError, Piped, sweep};
pub use programs::{Programs, Runner};
pub use rustix::process::Signal;
pub use table::{is_alive, mark};
pub use tool::{ToolExit, background, background_asking, end, private_file, tool};

/// Why a child gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("it could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("it took longer than {} seconds", .0.as_secs())]
    TimedOut(Duration),
    #[error("it exited with {}", code(*.status))]
    Failed {
        status: ExitStatus,
        /// Its last words. For the log: they may hold what nobody should see.
        stderr: String,
    },
    #[error("it printed nothing")]
    Silent,
}

/// Starts a child where nothing is confined: it has rules of its own.
fn started(command: Command) -> std::io::Result<tokio::process::Child> {
    let runtime = Handle::try_current().ok();
    outside(move || spawned(command, runtime))
}

/// Starts a child that may write these files and no others.
fn started_within(command: Command, write: Vec<PathBuf>) -> std::io::Result<tokio::process::Child> {
    let runtime = Handle::try_current().ok();
    let reach = FileReach { read: vec!["/".into()], write, make: Vec::new() };
    outside_within(reach, move || spawned(command, runtime))
}

fn spawned(
    mut command: Command,
    runtime: Option<Handle>,
) -> std::io::Result<tokio::process::Child> {
    // Who reaps it belongs to the runtime.
    let _inside = runtime.as_ref().map(Handle::enter);
    command.spawn()
}

fn code(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("status {code}"))
}

/// Runs a shell command of the owner's and returns what it prints.
///
/// The child leads a process group of its own, which is killed when time is up or
/// the caller leaves, so nothing that it started stays behind.
///
/// # Errors
///
/// [`ProcessError`] if it cannot be started, fails, prints nothing or takes too long.
pub async fn capture(line: &str, limit: Duration) -> Result<SecretString, ProcessError> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let child = started(command).map_err(ProcessError::Spawn)?;
    let group = Group(child.id());
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    drop(group);
    let output = output.map_err(|_| ProcessError::TimedOut(limit))?.map_err(ProcessError::Spawn)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last =
            stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Err(ProcessError::Failed { status: output.status, stderr: last.trim().to_owned() });
    }
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if printed.is_empty() { Err(ProcessError::Silent) } else { Ok(printed.into()) }
}

/// Runs a program to its end, on this machine.
async fn run(launch: Launch, limit: Duration) -> Result<(ExitStatus, String), ProcessError> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments).current_dir(&launch.folder).env_clear();
    command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let child = started(command).map_err(ProcessError::Spawn)?;
    let group = Group(child.id());
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    drop(group);
    let output = output.map_err(|_| ProcessError::TimedOut(limit))?.map_err(ProcessError::Spawn)?;
    Ok((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Runs a program in this terminal, as if it had been typed there.
///
/// # Errors
///
/// If it cannot be started.
pub fn in_terminal(launch: &Launch) -> std::io::Result<ExitStatus> {
    typed(launch).status()
}

/// The same; `started` is told its process id.
///
/// # Errors
///
/// If it cannot be started.
pub fn in_terminal_as(launch: &Launch, started: impl FnOnce(u32)) -> std::io::Result<ExitStatus> {
    let mut child = typed(launch).spawn()?;
    started(child.id());
    child.wait()
}

/// Sends a signal to the one process with this number; nothing if there is none any more.
pub fn send(pid: u32, signal: Signal) {
    let id = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // A process that is gone already needs no signal.
    let _told = id.map(|id| rustix::process::kill_process(id, signal));
}

/// Becomes a program; returns only if that is not possible.
pub fn become_program(launch: &Launch) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    typed(launch).exec()
}

fn typed(launch: &Launch) -> std::process::Command {
    let mut command = std::process::Command::new(&launch.program);
    command.args(&launch.arguments).env_clear();
    command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command
}

/// A child's process group; what is left of it when this is dropped is killed.
#[derive(Debug)]
struct Group(Option<u32>);

impl Group {
    fn send(&self, signal: Signal) {
        let id =
            self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // An error means that nobody is left, which is what was wanted.
            let _ = rustix::process::kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.send(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_prints_is_returned() {
        let printed = capture("printf ' tok\\n'", Duration::from_secs(20)).await.unwrap();
        assert_eq!(printed.expose_secret(), "tok");
        assert!(matches!(
            capture("true", Duration::from_secs(20)).await,
            Err(ProcessError::Silent)
        ));
    }

    #[tokio::test]
    async fn nothing_that_it_started_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", pid.display());
        assert!(matches!(
            capture(&line, Duration::from_millis(300)).await,
            Err(ProcessError::TimedOut(_))
        ));
        let pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        for _ in 0..500 {
            if mark(pid).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the grandchild {pid} still runs");
    }
}
