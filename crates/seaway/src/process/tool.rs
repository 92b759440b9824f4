//! Tools that run to an end: one that answers, one that leaves a process behind, one that may ask.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};
use secrecy::ExposeSecret;
use tokio::process::Command;

use super::{Group, Launch, ProcessError, started};

/// How a tool ended, and what it said.
#[derive(Debug)]
pub struct ToolExit {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

fn command(launch: &Launch) -> Command {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments).current_dir(&launch.folder).env_clear();
    command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a tool to its end. What it started goes with it.
///
/// # Errors
///
/// [`ProcessError`] if it cannot be started or takes too long.
pub async fn tool(launch: &Launch, limit: Duration) -> Result<ToolExit, ProcessError> {
    let mut command = command(launch);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = started(command).map_err(ProcessError::Spawn)?;
    let group = Group(child.id());
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    drop(group);
    let output = output.map_err(|_| ProcessError::TimedOut(limit))?.map_err(ProcessError::Spawn)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(ToolExit {
        status: output.status,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// Runs a tool that leaves a process behind when it ends well. What it says goes into a file: a pipe would be held
/// open by what stays. It leads a group of its own, so that a Ctrl-C in this terminal does not reach what stays.
///
/// # Errors
///
/// [`ProcessError`] if it cannot be started or takes too long; then nothing of it is left.
pub async fn background(
    launch: &Launch,
    says: File,
    limit: Duration,
) -> Result<ExitStatus, ProcessError> {
    let mut command = command(launch);
    command.stdout(Stdio::null()).stderr(says).process_group(0);
    let mut child = started(command).map_err(ProcessError::Spawn)?;
    let mut group = Group(child.id());
    let status = tokio::time::timeout(limit, child.wait()).await;
    let status = status.map_err(|_| ProcessError::TimedOut(limit))?.map_err(ProcessError::Spawn)?;
    if status.success() {
        group.0 = None;
    }
    Ok(status)
}

/// The same with this terminal, in which the tool may ask for what it needs.
///
/// The tool has a group of its own that holds the terminal while it runs, so that a later Ctrl-C does not reach what stays.
///
/// # Errors
///
/// [`ProcessError`] if there is no terminal, it cannot be started or takes too long.
pub fn background_asking(
    launch: &Launch,
    says: File,
    limit: Duration,
) -> Result<ExitStatus, ProcessError> {
    use std::os::unix::process::CommandExt;
    let terminal = File::open("/dev/tty").map_err(ProcessError::Spawn)?;
    let mut command = std::process::Command::new(&launch.program);
    command.args(&launch.arguments).current_dir(&launch.folder).env_clear().process_group(0);
    command.envs(launch.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(says)
        .spawn()
        .map_err(ProcessError::Spawn)?;
    let mut group = Group(Some(child.id()));
    let lent = Lent::to(&terminal, child.id());
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(ProcessError::Spawn)? {
            Some(status) => break status,
            None if began.elapsed() > limit => {
                drop(group);
                // Reaped, so that nothing is left of it.
                let _killed = child.wait();
                return Err(ProcessError::TimedOut(limit));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    drop(lent);
    if status.success() {
        group.0 = None;
    }
    Ok(status)
}

/// A terminal that is somebody else's for a while.
struct Lent<'t> {
    terminal: &'t File,
    /// Who takes it back from behind is stopped otherwise.
    blocked: SigSet,
}

impl<'t> Lent<'t> {
    fn to(terminal: &'t File, group: u32) -> Self {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        let _kept = blocked.thread_block();
        if let Ok(group) = i32::try_from(group).map(Pid::from_raw) {
            let _lent = tcsetpgrp(terminal, group);
            // The tool may have asked before it held the terminal, and was stopped for that.
            let _woken = nix::sys::signal::killpg(group, Signal::SIGCONT);
        }
        Self { terminal, blocked }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _back = tcsetpgrp(self.terminal, getpgrp());
        let _kept = self.blocked.thread_unblock();
    }
}

/// Ends a process that may not listen any more, if it is still the one that `mark` was made of.
pub fn end(pid: u32, mark: &str) {
    if super::mark(pid).is_some_and(|now| now == mark) {
        Group(Some(pid)).send(rustix::process::Signal::KILL);
    }
}

/// Opens a file that only its owner can read, empty, for several to append to.
///
/// # Errors
///
/// If it cannot be made.
pub fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    File::options().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".to_owned().into())],
            folder: folder.to_owned(),
        }
    }

    #[tokio::test]
    async fn what_a_tool_says_is_returned() {
        let folder = tempfile::tempdir().unwrap();
        let ended =
            tool(&shell("pwd; echo no >&2; exit 3", folder.path()), Duration::from_secs(20))
                .await
                .unwrap();
        assert_eq!(
            (ended.status.code(), ended.stdout.trim(), ended.stderr.trim()),
            (Some(3), folder.path().to_str().unwrap(), "no")
        );
        assert!(matches!(
            tool(&shell("sleep 600", folder.path()), Duration::from_millis(100)).await,
            Err(ProcessError::TimedOut(_))
        ));
    }

    #[tokio::test]
    async fn what_stays_behind_stays_only_if_all_went_well() {
        let folder = tempfile::tempdir().unwrap();
        let words = folder.path().join("words");
        let run = async |end: &str, limit| {
            let script = format!("sleep 600 2>/dev/null & echo $!; echo $! >&2; {end}");
            let status =
                background(&shell(&script, folder.path()), private_file(&words).unwrap(), limit)
                    .await;
            let pid: u32 = std::fs::read_to_string(&words).unwrap().trim().parse().unwrap();
            (status.ok().and_then(|status| status.code()), pid)
        };
        let (status, pid) = run("exit 0", Duration::from_secs(20)).await;
        assert!(status == Some(0) && super::super::mark(pid).is_some());
        end(pid, "another");
        let mark = super::super::mark(pid).unwrap();
        // It leads no group of its own, as what daemonizes does.
        let _gone = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        end(pid, &mark);
        for (script, limit, expect) in [("exit 1", 20_000, Some(1)), ("sleep 600", 300, None)] {
            let (status, pid) = run(script, Duration::from_millis(limit)).await;
            assert_eq!(status, expect);
            while super::super::mark(pid).is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}
