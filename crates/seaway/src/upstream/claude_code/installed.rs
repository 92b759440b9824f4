//! The program itself: is it there, is it new enough, is it signed in.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use seaway_wire::claude_code::login::Status;
use seaway_wire::claude_code::{COMPLETE, OLDEST, Version};
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::home;
use crate::config::{Program, find_program};
use crate::process::{self, Launch};

/// How long the program has to say its version or its login.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what it said of its login holds.
const GOOD_FOR: Duration = Duration::from_secs(180);
/// The same for a login that was not there, and for a program that could not be used.
const BAD_FOR: Duration = Duration::from_secs(5);

/// Why the program cannot be used. Says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("Claude Code is not installed: there is no {}; install it (`npm install -g @anthropic-ai/claude-code`), or set `claude_code.path`", .0.as_deref().unwrap_or("`claude` on the PATH"))]
    Missing(Option<String>),
    #[error("Claude Code {found} at {} is too old; install {OLDEST} or newer ({})", path.display(), install(COMPLETE))]
    Old { path: PathBuf, found: Version },
    #[error("{} is not Claude Code, or does not run: it said {said:?} when asked for its version", path.display())]
    Odd { path: PathBuf, said: String },
    #[error("Claude Code is not signed in; run `seaway login`")]
    SignedOut,
    #[error("Claude Code's login expired at {0}; run `seaway login`")]
    Expired(jiff::Timestamp),
    #[error("Claude Code does not tell whether it is signed in: {0}")]
    Silent(String),
}

/// How to install a version, or a newer one. With Node 20 npm silently takes an old one, and the newer ones need 22; the
/// program itself needs no Node, and is there in a package of its own for each platform.
#[must_use]
pub fn install(version: Version) -> String {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("macos", "aarch64") => "darwin-arm64",
        ("macos", _) => "darwin-x64",
        (_, "aarch64") => "linux-arm64",
        _ => "linux-x64",
    };
    format!(
        "with Node 22: `npm install -g @anthropic-ai/claude-code@latest`; with an older Node, which gets no version from 2.1.198 on: `npm install --prefix ~/claude-code @anthropic-ai/claude-code-{platform}@latest`, and `claude_code.path = \"~/claude-code/node_modules/@anthropic-ai/claude-code-{platform}/claude\"`; {version} is enough"
    )
}

/// What is known of the program.
#[derive(Debug, Default)]
pub struct Installed {
    found: Mutex<Option<Found>>,
    /// What was wrong a moment ago.
    failed: Mutex<Option<Failed>>,
    login: Mutex<Option<Login>>,
    /// What it said before that, if it was asked before.
    before: Mutex<Option<Status>>,
    changed: AtomicBool,
}

/// What it said of its login, and when.
#[derive(Debug)]
struct Login {
    at: Instant,
    status: Status,
    /// The file in which the program keeps it where it keeps it in a file. It is never opened.
    file: Option<File>,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    file: Option<File>,
    error: Unusable,
}

#[derive(Debug, Clone)]
struct Found {
    file: Option<File>,
    version: Version,
}

/// One file, as it is now. The time of its last change would not do: it is the same for all files of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Where links lead.
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// When it came to be what it is, in seconds and nanoseconds. Nobody can set that.
    changed: (i64, i64),
}

impl File {
    fn at(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let meta = std::fs::metadata(&path).ok()?;
        Some(Self { path, device: meta.dev(), inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) })
    }
}

impl Installed {
    /// Finds the program and asks for its version, once for every time it is installed anew.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if it is missing, too old or something else.
    pub async fn program(&self, setting: &Program) -> Result<(PathBuf, Version), Unusable> {
        let given = setting.path.as_deref();
        let missing = || Unusable::Missing(given.map(|path| format!("{}", path.display())));
        let path = find_program(given, &setting.search).ok_or_else(missing)?;
        let file = File::at(&path);
        let mut found = self.found.lock().await;
        if let Some(known) = found.as_ref().filter(|known| known.file == file) {
            return Ok((path, known.version));
        }
        let mut failed = self.failed.lock().await;
        let holds = |failed: &&Failed| failed.at.elapsed() < BAD_FOR && failed.file == file;
        if let Some(failed) = failed.as_ref().filter(holds) {
            return Err(failed.error.clone());
        }
        let mut refuse = |error: Unusable| {
            *failed = Some(Failed { at: Instant::now(), file: file.clone(), error: error.clone() });
            Err(error)
        };
        let said = match process::run(launch(setting, &path, &["--version"]), PATIENCE).await {
            Ok((_, said)) => said,
            Err(error) => error.to_string(),
        };
        let Some(version) = Version::parse(&said) else {
            return refuse(Unusable::Odd { path: path.clone(), said: said.chars().take(80).collect() });
        };
        if version < OLDEST {
            return refuse(Unusable::Old { path: path.clone(), found: version });
        }
        *found = Some(Found { file, version });
        Ok((path, version))
    }

    /// A way to run one of the program's own commands, such as `auth login`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the program is.
    pub async fn command(&self, setting: &Program, words: &[&str]) -> Result<Launch, Unusable> {
        let (path, _) = self.program(setting).await?;
        Ok(launch(setting, &path, words))
    }

    /// Asks whether it is signed in, or takes what it said a short while ago. No request is made.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the program is, or gives no answer.
    pub async fn login(&self, setting: &Program) -> Result<Status, Unusable> {
        let mut launch = self.command(setting, &["auth", "status", "--json"]).await?;
        let mut login = self.login.lock().await;
        let file = login_file(setting);
        let holds = |known: &&Login| known.at.elapsed() < if known.status.logged_in { GOOD_FOR } else { BAD_FOR } && known.file == file;
        if let Some(known) = login.as_ref().filter(holds) {
            return Ok(known.status.clone());
        }
        // It writes something down whenever it is started, and its owner's folder is not the place for that.
        let folder = process::Folder::make(&setting.temporary).and_then(|folder| home::furnish(setting, folder.path()).map(|()| folder));
        let folder = folder.map_err(|error| Unusable::Silent(error.to_string()))?;
        for (name, value) in home::environment(setting, folder.path(), false) {
            launch.environment.retain(|(known, _)| known != name);
            launch.environment.push((name.to_owned(), value));
        }
        let (_, said) = process::run(launch, PATIENCE).await.map_err(|error| Unusable::Silent(error.to_string()))?;
        let status = Status::parse(&said).ok_or_else(|| Unusable::Silent("it printed no status".into()))?;
        let before = self.before.lock().await.replace(status.clone());
        if before.is_some_and(|before| before != status) {
            self.changed.store(true, Ordering::Relaxed);
        }
        *login = Some(Login { at: Instant::now(), status: status.clone(), file });
        Ok(status)
    }

    /// True after the login became another, until somebody takes note.
    pub fn login_has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// The same, and takes note.
    pub fn take_change_of_login(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// Forgets what it said of its login.
    pub async fn forget_login(&self) {
        *self.login.lock().await = None;
    }
}

/// Where the program keeps its login on Linux.
fn login_file(setting: &Program) -> Option<File> {
    home::login_folder(setting).and_then(|folder| File::at(&folder.join(".credentials.json")))
}

fn launch(setting: &Program, path: &Path, words: &[&str]) -> Launch {
    let mut environment = setting.environment.clone();
    // The whole address, where it would open a browser of its own: whoever signs in may sit at another machine.
    for (name, value) in [("DISABLE_AUTOUPDATER", "1"), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"), ("CLAUDE_CODE_FULL_SIGN_IN_LINK", "1")] {
        environment.push((name.to_owned(), SecretString::from(value)));
    }
    let folder = if setting.temporary.is_dir() { setting.temporary.clone() } else { PathBuf::from("/") };
    Launch { program: path.to_owned(), arguments: words.iter().map(|word| (*word).to_owned()).collect(), environment, folder }
}
