//! The program itself, as a process with a state folder of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use super::{Client, KEY, Upstream};

pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) state: tempfile::TempDir,
    pub(crate) log: std::sync::mpsc::Receiver<String>,
}

pub(crate) fn command(state: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
    command
        .env_clear()
        .env("HOME", state.path())
        .args(["--state-dir", &state.path().to_string_lossy()]);
    command
}

pub(crate) fn run(state: &tempfile::TempDir, arguments: &[&str]) -> Output {
    command(state).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// Starts one whose state folder is there already.
    pub(crate) fn start_in(state: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut child = command(&state)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the banner names the address").unwrap();
            if let Some((_, address)) = line.split_once("serves on http://") {
                break address.trim().parse().unwrap();
            }
        };
        let (sender, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, address, state, log }
    }

    pub(crate) fn before(upstream: &Upstream, arguments: &[&str]) -> Self {
        let base = format!("upstream.up.base_url={}", upstream.url());
        let mut all = vec!["--api-key", KEY, "--set", "upstream.up.kind=messages", "--set", &base];
        all.extend_from_slice(arguments);
        Self::start(&all)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until a line of the log holds `what`.
    pub(crate) fn says(&self, what: &str) -> String {
        loop {
            let line = self.log.recv().unwrap_or_else(|_| panic!("the log ended without {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address, Some(KEY)).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
