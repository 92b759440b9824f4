//! A child that is spoken to over its pipes, line by line, and that is surely gone in the end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rustix::process::Signal;
use seaway_wire::lines::{LineDecoder, LineTooLong};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::child::{Child, PipeIn, PipeOut, StartedChild};
use super::family;
use super::folder::{FOLDERS, Folder, is_ours};
use super::table::{is_alive, mark};

/// The longest line that a child may write.
const LINE_LIMIT: usize = 256 << 20;
/// How much of what a child writes to stderr is kept: its last words.
const TAIL: usize = 4096;
/// The size of a read, in bytes.
const READ: usize = 16 << 10;
/// How long a child may show no sign of life when it is spoken to.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The same for one that was started a moment ago.
const STARTING: Duration = Duration::from_secs(60);
/// How long a child has to leave after each signal.
const STEP: Duration = Duration::from_secs(2);

/// The file in one that says which process it was made for.
pub(super) const MARK: &str = ".child";

/// How a child is started.
#[derive(Debug)]
pub struct Launch {
    pub program: PathBuf,
    /// Never a prompt or a secret: everybody on the machine can read them.
    pub arguments: Vec<String>,
    /// All of it: nothing is inherited.
    pub environment: Vec<(String, SecretString)>,
    pub folder: PathBuf,
}

/// A running child. Dropping it kills it with all that it started; [`Piped::stop`] is kinder.
pub struct Piped {
    child: Box<dyn Child>,
    stdin: Option<PipeIn>,
    stdout: PipeOut,
    lines: LineDecoder,
    tail: Tail,
    /// Done when its stderr is read to the end.
    tail_kept: JoinHandle<()>,
    /// How much of a line was there when it was last cleared: no sign of life.
    unread: usize,
    began: Instant,
    folder: Folder,
}

impl std::fmt::Debug for Piped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piped").field("child", &self.child).finish_non_exhaustive()
    }
}

/// Why a child could not be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("its output cannot be read")]
    Read(#[from] io::Error),
    #[error(transparent)]
    LineTooLong(#[from] LineTooLong),
}

type Tail = Arc<Mutex<Vec<u8>>>;

impl Piped {
    pub(super) fn of(started: StartedChild, folder: Folder, tasks: &TaskTracker) -> Self {
        let StartedChild { stdin, stdout, stderr, child } = started;
        let tail = Tail::default();
        let tail_kept = tasks.spawn(keep_tail(stderr, tail.clone()));
        Self {
            child,
            stdin: Some(stdin),
            stdout,
            lines: LineDecoder::with_limit(LINE_LIMIT),
            tail,
            tail_kept,
            unread: 0,
            began: Instant::now(),
            folder,
        }
    }

    /// Its temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How long it may show no sign of life when it is spoken to.
    fn patience(&self) -> Duration {
        if self.began.elapsed() < STARTING { STARTING } else { SIGN_OF_LIFE }
    }

    /// The process id; none once it was reaped.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Writes to its stdin, and takes in meanwhile what it writes: two that both write and do not
    /// read would wait for ever. Not cancel safe: dropped, a part of it may have been written.
    ///
    /// # Errors
    ///
    /// If it does not listen any more: nothing of it is taken for ten seconds, or a minute while it starts.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        let patience = self.patience();
        let Self { stdin, stdout, lines, .. } = self;
        let stdin = stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let writing = async {
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let written = tokio::time::timeout(patience, stdin.write(rest))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                rest =
                    rest.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
            }
            stdin.flush().await
        };
        let mut writing = std::pin::pin!(writing);
        let mut open = true;
        loop {
            lines.buffer().reserve(READ);
            tokio::select! {
                biased;
                written = &mut writing => return written,
                read = stdout.read_buf(lines.buffer()), if open => open = read? > 0,
            }
        }
    }

    /// Forgets what it has said so far, so that what comes next is about what it is told next.
    ///
    /// # Errors
    ///
    /// If there is no reading on.
    pub fn clear(&mut self) -> Result<(), ListenError> {
        loop {
            while self.lines.pull()?.is_some() {}
            self.lines.buffer().reserve(READ);
            match self.stdout.read_buf(self.lines.buffer()).now_or_never() {
                Some(Ok(1..)) => {}
                Some(Err(error)) => return Err(error.into()),
                // No byte is there, or the pipe is closed; the next write tells which.
                Some(Ok(0)) | None => break,
            }
        }
        self.unread = self.lines.buffer().len();
        Ok(())
    }

    /// Waits for a sign of life after something was said to it; false if none comes in time. Nothing of it is lost.
    pub async fn stirs(&mut self) -> bool {
        let patience = self.patience();
        if self.lines.buffer().len() > self.unread {
            return true;
        }
        self.lines.buffer().reserve(READ);
        let read = tokio::time::timeout(patience, self.stdout.read_buf(self.lines.buffer())).await;
        // A child that ended is not a silent one: what is read next tells.
        read.is_ok()
    }

    /// Returns a line that is here already.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn pending(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.lines.pull()
    }

    /// Waits for the next line of its stdout; `None` at the end.
    ///
    /// Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if there is no reading on.
    pub async fn line(&mut self) -> Result<Option<Bytes>, ListenError> {
        loop {
            if let Some(line) = self.lines.pull()? {
                self.unread = 0;
                return Ok(Some(line));
            }
            self.lines.buffer().reserve(READ);
            if self.stdout.read_buf(self.lines.buffer()).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Its last words on stderr. For the log: they may hold what nobody should see.
    pub fn last_words(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }

    /// Lets it end, and returns its last words, all of them, with how it ended. Dropped meanwhile, it is killed.
    pub async fn last_will(mut self) -> (String, Option<ExitStatus>) {
        let status = self.wind_up().await;
        // What it started may still hold the pipe.
        let _late = tokio::time::timeout(STEP, &mut self.tail_kept).await;
        (self.last_words(), status)
    }

    /// True if the child still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.is_alive()
    }

    /// A way to end it with all that it started, from anywhere; nothing happens to another process in its place.
    pub fn end_all(&self) -> impl FnOnce() + Send + 'static {
        self.child.end_all()
    }

    /// Interrupts the child's work.
    pub fn interrupt(&self) {
        self.child.signal(Signal::INT);
    }

    /// Ends it this moment, with all that it started.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    /// Lets it end by itself: nothing more will be said to it. If it does not, it is stopped. Its folder is there until
    /// it is dropped.
    pub async fn wind_up(&mut self) -> Option<ExitStatus> {
        self.stdin = None;
        match tokio::time::timeout(STEP, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => self.end().await,
        }
    }

    /// The same, and its folder goes with it. Dropped meanwhile, the child is killed.
    pub async fn finish(mut self) -> Option<ExitStatus> {
        self.wind_up().await
    }

    /// Ends the child: interrupt, terminate, kill, with a wait after each. It is gone and reaped when this returns. Dropped
    /// meanwhile, it is killed at once.
    pub async fn stop(mut self) -> Option<ExitStatus> {
        self.end().await
    }

    async fn end(&mut self) -> Option<ExitStatus> {
        self.stdin = None;
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            self.child.signal(signal);
            if let Ok(Ok(status)) = tokio::time::timeout(STEP, self.child.wait()).await {
                return Some(status);
            }
        }
        self.child.wait().await.ok()
    }
}

/// Ends the children of gateways that were killed, and removes their temporary folders.
pub fn sweep(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(FOLDERS).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let dead = |owner: &u32| *owner != std::process::id() && !is_alive(*owner);
        // Anybody may make a folder of that name in a folder for all.
        let Some(owner) = owner.filter(dead).filter(|_| is_ours(&entry.path())) else { continue };
        let left = std::fs::read_to_string(entry.path().join(MARK)).unwrap_or_default();
        let pid = left.split(' ').next().and_then(|pid| pid.parse().ok());
        // The number may be somebody else's by now; the time of its start tells.
        match pid.filter(|pid| mark(*pid).is_some_and(|mark| mark == left)) {
            Some(pid) => {
                tracing::warn!(pid, owner, "ending a child that a killed gateway left behind");
                family::kill(pid, &left, &entry.path());
            }
            None => family::kill_rest(&entry.path()),
        }
        let _shared_or_gone = std::fs::remove_dir_all(entry.path());
    }
}

/// Reads stderr to its end, so that the child never waits for somebody to.
async fn keep_tail(mut stderr: PipeOut, tail: Tail) {
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&piece[..read]);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::super::Programs;
    use super::*;

    fn shell(script: &str, folder: &Path) -> Piped {
        let launch = Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".to_owned().into())],
            folder: folder.to_owned(),
        };
        let folder = Folder::make(folder).unwrap();
        Programs::Real.spawn(launch, folder, true, &TaskTracker::new()).unwrap()
    }

    #[tokio::test]
    async fn lines_go_in_and_out_and_its_folder_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell(
            "echo warned >&2; read a; echo \"got $a\"; echo $TMPDIR; env | grep -c CARGO",
            folder.path(),
        );
        assert!(
            std::env::vars().any(|(name, _)| name.starts_with("CARGO")),
            "there is something that must not be inherited"
        );
        child.say("x\n").await.unwrap();
        assert_eq!(child.line().await.unwrap().unwrap(), "got x");
        let temporary = PathBuf::from(
            String::from_utf8(child.line().await.unwrap().unwrap().to_vec()).unwrap(),
        );
        assert!(temporary.starts_with(folder.path()) && temporary.exists());
        assert_eq!(child.line().await.unwrap().unwrap(), "0");
        assert_eq!(child.line().await.unwrap(), None);
        while child.last_words() != "warned" {
            tokio::task::yield_now().await;
        }
        child.stop().await;
        assert!(!temporary.exists());
    }

    #[tokio::test]
    async fn what_a_killed_gateway_left_is_ended_and_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut left = shell("sleep 600 & wait", folder.path());
        let pid = left.id().unwrap();
        let dead = |name: &str| folder.path().join(format!("{FOLDERS}4194303-{name}"));
        for (name, mark) in
            [("ours", mark(pid).unwrap()), ("strange", format!("{} 1", std::process::id()))]
        {
            std::fs::DirBuilder::new().mode(0o700).create(dead(name)).unwrap();
            std::fs::write(dead(name).join(MARK), mark).unwrap();
        }
        let open = dead("open");
        std::fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
        std::fs::write(open.join(MARK), mark(std::process::id()).unwrap()).unwrap();
        let living = folder.path().join(format!("{FOLDERS}{}-x", std::process::id()));
        std::fs::create_dir(&living).unwrap();
        sweep(folder.path());
        assert!(
            !dead("ours").exists() && !dead("strange").exists() && living.exists() && open.exists()
        );
        assert_eq!(left.line().await.unwrap(), None, "it was ended");
        left.stop().await;
    }

    #[tokio::test]
    async fn what_left_its_group_goes_with_it_and_also_after_it() {
        let folder = tempfile::tempdir().unwrap();
        for script in [
            "(setsid sleep 600 & echo $!); sleep 600 & wait",
            "(setsid sleep 600 >/dev/null & echo $!); exit 0",
        ] {
            let mut child = shell(script, folder.path());
            let started: u32 = String::from_utf8(child.line().await.unwrap().unwrap().to_vec())
                .unwrap()
                .parse()
                .unwrap();
            assert!(mark(started).is_some());
            drop(child);
            for _ in 0..1000 {
                if mark(started).is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(mark(started), None, "{script}");
        }
    }

    #[tokio::test]
    async fn a_sign_of_life_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("read a; echo $a; read b", folder.path());
        child.say("x\n").await.unwrap();
        assert!(child.stirs().await && child.stirs().await);
        assert_eq!(child.line().await.unwrap().unwrap(), "x");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_is_no_sign_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo before; printf half; read a; echo never", folder.path());
        while child.lines.buffer().len() < "before\nhalf".len() {
            child.stdout.read_buf(child.lines.buffer()).await.unwrap();
        }
        child.clear().unwrap();
        assert!(!child.stirs().await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_shows_no_sign_of_life_and_takes_nothing_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("read a; read b", folder.path());
        assert!(!child.stirs().await);
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        let more_than_a_pipe_holds = "x".repeat(1 << 20);
        assert_eq!(
            child.say(&more_than_a_pipe_holds).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ignores_signals_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            shell("trap '' INT TERM; sleep 600 & echo $!; while :; do wait; done", folder.path());
        let started: u32 = String::from_utf8(child.line().await.unwrap().unwrap().to_vec())
            .unwrap()
            .parse()
            .unwrap();
        let status = child.stop().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        while mark(started).is_some() {
            tokio::task::yield_now().await;
        }
    }
}
