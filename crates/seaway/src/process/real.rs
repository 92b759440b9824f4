//! Children that are processes of this machine.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;
use secrecy::ExposeSecret;
use tokio::process::Command;

use super::child::{Child, Promised, StartedChild};
use super::piped::{Launch, MARK};
use super::table::mark;
use super::{Folder, Group, family, watch};

/// A process of this machine, which leads a group of its own.
#[derive(Debug)]
struct RealChild {
    child: tokio::process::Child,
    group: Group,
    /// Its process id, and what tells it from another of that number.
    pid: u32,
    mark: String,
    /// The child has tools with which it can start others.
    has_tools: bool,
    /// Its temporary folder, by which those are known.
    folder: PathBuf,
}

impl Child for RealChild {
    fn id(&self) -> Option<u32> {
        self.child.id()
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait(&mut self) -> Promised<'_, io::Result<ExitStatus>> {
        Box::pin(self.child.wait())
    }

    fn signal(&self, signal: Signal) {
        self.group.send(signal);
    }

    fn end_all(&self) -> Box<dyn FnOnce() + Send> {
        let (pid, mark, folder) = (self.pid, self.mark.clone(), self.folder.clone());
        Box::new(move || family::kill(pid, &mark, &folder))
    }
}

impl Drop for RealChild {
    fn drop(&mut self) {
        match self.child.id() {
            Some(pid) if self.has_tools => family::kill(pid, &self.mark, &self.folder),
            Some(_) => self.group.send(Signal::KILL),
            None if self.has_tools => family::kill_rest(&self.folder),
            None => {}
        }
        // Only now: who is killed meanwhile has somebody who ends it.
        watch::remove(self.pid);
    }
}

/// Starts a process that may write these files, or what this one could before it was confined.
pub(super) fn real(
    launch: Launch,
    folder: &Folder,
    has_tools: bool,
    write: Option<Vec<PathBuf>>,
) -> io::Result<StartedChild> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments).current_dir(&launch.folder).env_clear();
    command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command.env("TMPDIR", folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = match write {
        Some(write) => super::started_within(command, write)?,
        None => super::started(command)?,
    };
    let group = Group(child.id());
    let pid = child.id().unwrap_or_default();
    let mark = mark(pid).unwrap_or_default();
    watch::add(pid, &mark, folder.path());
    let missing = || io::Error::other("a pipe is missing");
    let stdin = Box::new(child.stdin.take().ok_or_else(missing)?);
    let stdout = Box::new(child.stdout.take().ok_or_else(missing)?);
    let stderr = Box::new(child.stderr.take().ok_or_else(missing)?);
    let child = RealChild { child, group, pid, mark, has_tools, folder: folder.path().to_owned() };
    // For who comes after a gateway that was killed together with its watch.
    std::fs::write(folder.path().join(MARK), &child.mark)?;
    Ok(StartedChild { stdin, stdout, stderr, child: Box::new(child) })
}
