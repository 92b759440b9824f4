//! Real ssh servers on loopback, by `deploy/ssh-lab`.

use std::path::PathBuf;
use std::process::Command;

use super::ports;

pub(crate) struct Lab {
    folder: tempfile::TempDir,
    servers: Vec<String>,
}

impl Lab {
    /// Keys and settings, and no server yet.
    pub(crate) fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap(), servers: Vec::new() };
        Self::script(&["keys", &lab.path()]);
        lab
    }

    fn path(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    fn script(words: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/ssh-lab");
        let output = Command::new(script).args(words).output().unwrap();
        assert!(
            output.status.success(),
            "ssh-lab {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts a server on a free port of an address of this machine.
    pub(crate) fn start(&mut self, name: &str, address: &str, options: &[&str]) -> u16 {
        let port = ports::reserved(address);
        self.start_on(name, address, port, options);
        port
    }

    pub(crate) fn start_on(&mut self, name: &str, address: &str, port: u16, options: &[&str]) {
        let (path, place) = (self.path(), format!("{address}:{port}"));
        let mut words = vec!["start", &path, name, &place];
        words.extend(options);
        Self::script(&words);
        self.servers.push(name.to_owned());
    }

    /// The settings of somebody whose key these servers know.
    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }

    /// Says something before those settings, where it counts.
    pub(crate) fn say(&self, text: &str) {
        let known = std::fs::read_to_string(self.settings()).unwrap();
        std::fs::write(self.settings(), format!("{text}\n{known}")).unwrap();
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap()
    }

    /// How often somebody was let in.
    pub(crate) fn logins(&self, name: &str) -> usize {
        self.log(name).matches("Accepted publickey").count()
    }

    /// How often somebody knocked.
    pub(crate) fn connections(&self, name: &str) -> usize {
        self.log(name).matches("Connection from").count()
    }

    /// The processes of its sessions.
    pub(crate) fn sessions(&self, name: &str) -> Vec<i32> {
        let server =
            std::fs::read_to_string(self.folder.path().join(format!("{name}.pid"))).unwrap();
        children(server.trim())
    }

    /// Stops the sessions of a server in mid-air: the connection lives, and nothing comes of it any more.
    pub(crate) fn freeze(&self, name: &str) {
        let mut all = self.sessions(name);
        // Without root's rights a session has a second process, which does the work.
        all.extend(all.clone().iter().flat_map(|pid| children(&pid.to_string())));
        assert!(!all.is_empty(), "{name} has no session");
        for pid in all {
            send(pid, rustix::process::Signal::STOP);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let path = self.path();
        for name in &self.servers {
            Self::script(&["stop", &path, name]);
        }
    }
}

fn children(parent: &str) -> Vec<i32> {
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let fields = stats.filter_map(|stat| {
        let rest: Vec<String> =
            stat.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect();
        (rest[1] == parent && rest[0] != "Z").then(|| stat.split(' ').next()?.parse().ok())?
    });
    fields.collect()
}

pub(crate) fn send(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Who runs the tests, as ssh is to be told.
pub(crate) fn me() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
