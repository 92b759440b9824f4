//! One ssh connection in the background, and words to it over its control socket.
//!
//! It outlives us on purpose: the next start must not cost another login. That it answers on a socket of ours is how we
//! know that it is ours.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{SshFailure, telling};
use super::ssh_args::{self, Forward};
use crate::auth::{own_dir, replace};
use crate::config::TunnelConfig;
use crate::process::{self, Launch, ProcessError, ToolExit};

/// How long a login may take that asks nobody.
const LOGIN: Duration = Duration::from_secs(30);
/// The same where somebody types.
const LOGIN_ASKING: Duration = Duration::from_secs(180);
/// How long a master may take to answer a word.
const WORD: Duration = Duration::from_secs(10);
/// How long an answer may take from the other end.
const KNOCK: Duration = Duration::from_secs(10);

/// How much of what ssh says is kept, in bytes.
const MOST_SAID: u64 = 256 << 10;
/// The file that tells the master's process.
const PROCESS: &str = "process";
/// The file with the forwards that others can reach.
const FORWARDS: &str = "forwards";

/// Why ssh did not do as told.
#[derive(Debug, Clone)]
pub(super) struct SshError {
    pub cause: SshFailure,
    /// The telling line of what it said.
    pub said: String,
}

impl SshError {
    fn of_words(stderr: &str) -> Self {
        Self { cause: SshFailure::of(stderr), said: telling(stderr) }
    }

    fn of_process(error: &ProcessError) -> Self {
        let cause = if matches!(error, ProcessError::TimedOut(_)) {
            SshFailure::Network
        } else {
            SshFailure::Local
        };
        Self { cause, said: format!("ssh: {}", crate::causes::chain(error)) }
    }
}

impl From<std::io::Error> for SshError {
    fn from(error: std::io::Error) -> Self {
        Self { cause: SshFailure::Local, said: error.to_string() }
    }
}

/// What is known of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It answers; its process id.
    Lives(u32),
    Gone,
    /// Its socket is there, and nothing is heard of it.
    Silent,
}

#[derive(Debug)]
pub(super) struct Master {
    setting: Arc<TunnelConfig>,
}

impl Master {
    pub(super) fn new(setting: Arc<TunnelConfig>) -> Self {
        Self { setting }
    }

    pub(super) fn folder(&self) -> &PathBuf {
        &self.setting.folder
    }

    /// Makes the folder and the files that ssh reads.
    pub(super) fn prepare(&self) -> std::io::Result<()> {
        own_dir(self.folder())?;
        for (name, asks) in [(ssh_args::CONFIG, false), (ssh_args::CONFIG_ASKING, true)] {
            let (path, text) =
                (self.folder().join(name), ssh_args::config_file(&self.setting.ssh_config, asks));
            if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                replace(&path, text.as_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn launch(&self, arguments: Vec<String>) -> Launch {
        let TunnelConfig { program, environment, folder, .. } = &*self.setting;
        Launch {
            program: program.clone(),
            arguments,
            environment: environment.clone(),
            folder: folder.clone(),
        }
    }

    async fn word(&self, word: &str, forward: Option<&Forward>) -> Result<ToolExit, SshError> {
        let launch = self.launch(ssh_args::control(&self.setting, word, forward));
        process::tool(&launch, WORD).await.map_err(|error| SshError::of_process(&error))
    }

    /// Whether it lives.
    pub(super) async fn life(&self) -> Life {
        if !self.folder().join(ssh_args::CONTROL).exists() {
            return Life::Gone;
        }
        let Ok(ended) = self.word("check", None).await else { return Life::Silent };
        // "Master running (pid=123)"
        let pid = ended
            .stderr
            .split_once("pid=")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        match pid.filter(|_| ended.status.success()) {
            Some(pid) => Life::Lives(pid),
            None if ["refused", "No such file"]
                .iter()
                .any(|words| ended.stderr.contains(words)) =>
            {
                Life::Gone
            }
            None => Life::Silent,
        }
    }

    /// The master's process id, if it lives.
    pub(super) async fn pid(&self) -> Option<u32> {
        match self.life().await {
            Life::Lives(pid) => Some(pid),
            Life::Gone | Life::Silent => None,
        }
    }

    /// Logs in. This is what may cost a second factor.
    pub(super) async fn login(&self, asks: bool) -> Result<(), SshError> {
        let file = self.folder().join(ssh_args::SAID);
        let says = process::private_file(&file)?;
        let launch = self.launch(ssh_args::login(&self.setting, asks));
        let status = if asks {
            let asking = tokio::task::spawn_blocking(move || {
                process::background_asking(&launch, says, LOGIN_ASKING)
            });
            asking
                .await
                .unwrap_or_else(|error| Err(ProcessError::Spawn(std::io::Error::other(error))))
        } else {
            process::background(&launch, says, LOGIN).await
        };
        let said = std::fs::read_to_string(&file).unwrap_or_default();
        tracing::debug!(tunnel = self.setting.name, said, "ssh");
        match status {
            Ok(status) if status.success() => self.remember().await,
            Ok(status) if status.signal().is_some() => {
                Err(SshError { cause: SshFailure::Local, said: "ssh was stopped".into() })
            }
            Ok(_) => Err(SshError::of_words(&said)),
            Err(error @ ProcessError::TimedOut(_)) if said.trim().is_empty() => {
                Err(SshError::of_process(&error))
            }
            Err(ProcessError::TimedOut(_)) => {
                Err(SshError { cause: SshFailure::Network, said: telling(&said) })
            }
            Err(error) => Err(SshError::of_process(&error)),
        }
    }

    /// Keeps which process it is, for the day on which it does not answer any more.
    async fn remember(&self) -> Result<(), SshError> {
        let Some(pid) = self.pid().await else {
            // A way that we cannot speak to is none.
            return Err(SshError {
                cause: SshFailure::Local,
                said: "ssh logged in, but it does not listen on its control socket".into(),
            });
        };
        if let Some(Err(error)) =
            process::mark(pid).map(|mark| replace(&self.folder().join(PROCESS), mark.as_bytes()))
        {
            tracing::debug!(%error, "which process the master is was not written down");
        }
        Ok(())
    }

    pub(super) async fn forward(&self, forward: &Forward) -> Result<(), SshError> {
        let ended = self.word("forward", Some(forward)).await?;
        if !ended.status.success() {
            return Err(SshError::of_words(&ended.stderr));
        }
        if let Some(line) = forward.line() {
            let mut lines = self.lines();
            lines.push(line);
            self.write_down(&lines);
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder().join(FORWARDS)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn write_down(&self, lines: &[String]) {
        if let Err(error) = replace(&self.folder().join(FORWARDS), lines.join("\n").as_bytes()) {
            tracing::debug!(%error, "the forwards were not written down");
        }
    }

    /// The forwards that others can reach.
    pub(super) fn forwards(&self) -> Vec<Forward> {
        self.lines().iter().filter_map(|line| Forward::parse(line)).collect()
    }

    /// Why the other end opened no way lately, as ssh noted.
    pub(super) fn refusal(&self) -> Option<String> {
        let path = self.folder().join(ssh_args::SAID);
        let said = String::from_utf8_lossy(&std::fs::read(&path).ok()?).into_owned();
        // ssh appends to it, so that it may be emptied at any time.
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > MOST_SAID) {
            let _emptied = std::fs::File::options().write(true).truncate(true).open(&path);
        }
        said.lines()
            .rev()
            .find(|line| line.contains("open failed"))
            .map(|line| line.trim().to_owned())
    }

    /// Takes a forward away. That there was none is as good.
    pub(super) async fn cancel(&self, forward: &Forward) {
        let _there_or_not = self.word("cancel", Some(forward)).await;
        match (forward, forward.line()) {
            (_, Some(gone)) => self.write_down(
                &self.lines().into_iter().filter(|line| *line != gone).collect::<Vec<_>>(),
            ),
            (Forward::Local { from, .. } | Forward::Remote { from, .. }, None) => {
                let _gone = std::fs::remove_file(self.folder().join(from));
            }
        }
    }

    /// True if the other end answers over the master, even if it refuses.
    pub(super) async fn knock(&self) -> bool {
        let refused = ["refused by peer", "open failed", "administratively prohibited"];
        let answered = |ended: &ToolExit| {
            ended.stdout.starts_with("SSH-")
                || refused.iter().any(|words| ended.stderr.contains(words))
        };
        process::tool(&self.launch(ssh_args::knock(&self.setting)), KNOCK)
            .await
            .as_ref()
            .is_ok_and(answered)
    }

    /// Clears away a master that does not answer: over the socket it left the next one would not listen.
    pub(super) async fn bury(&self) {
        if [ssh_args::CONTROL, FORWARDS].iter().any(|name| self.folder().join(name).exists()) {
            self.exit().await;
        }
    }

    /// Ends the master, also one that does not listen any more.
    pub(super) async fn exit(&self) {
        let told = self.word("exit", None).await;
        let marked = std::fs::read_to_string(self.folder().join(PROCESS)).unwrap_or_default();
        let pid = marked.split(' ').next().and_then(|pid| pid.parse::<u32>().ok());
        if told.is_ok_and(|ended| ended.status.success()) {
            // It closes its socket first and leaves then.
            for _ in 0..50 {
                if pid.is_none_or(|pid| process::mark(pid).is_none_or(|now| now != marked)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if let Some(pid) = pid {
            process::end(pid, &marked);
        }
        for name in [ssh_args::CONTROL, PROCESS, FORWARDS] {
            let _gone = std::fs::remove_file(self.folder().join(name));
        }
    }
}
