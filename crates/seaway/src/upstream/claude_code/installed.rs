//! The program itself: is it there, is it new enough, is it signed in.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use seaway_wire::claude_code::login::LoginStatus;
use seaway_wire::claude_code::{COMPLETE, OLDEST, Version};
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::home;
use crate::config::{ProgramConfig, find_program};
use crate::process::{self, Launch, Programs};
use crate::refreshed::{Fetched, GatewayGone, Refreshed};

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
    #[error("Claude Code was asked, but {0}")]
    GatewayGone(#[from] GatewayGone),
}

/// How to install a version, or a newer one. With Node 20 npm silently takes an old one, and the newer ones need 22; the
/// program itself needs no Node, and is there in a package of its own for each platform.
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
#[derive(Debug)]
pub struct Installed {
    /// Where it runs.
    programs: Programs,
    found: Refreshed<OfFile<Version>>,
    /// The file is the one in which the program keeps its login where it keeps it in a file. It is never opened.
    login: Refreshed<OfFile<LoginStatus>>,
    /// What it said of its login last.
    before: Mutex<Option<LoginStatus>>,
    changed: AtomicBool,
}

/// What was found out while a file was as it was.
type OfFile<T> = (Option<FileStamp>, Result<T, Unusable>);

/// One file, as it is now. The time of its last change would not do: it is the same for all files of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    /// Where links lead.
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// When it came to be what it is, in seconds and nanoseconds. Nobody can set that.
    changed: (i64, i64),
}

impl FileStamp {
    fn at(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let meta = std::fs::metadata(&path).ok()?;
        Some(Self {
            path,
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Installed {
    /// The program is asked in one of `tasks`.
    pub fn new(programs: Programs, tasks: TaskTracker) -> Self {
        Self {
            programs,
            found: Refreshed::new(tasks.clone()),
            login: Refreshed::new(tasks),
            before: Mutex::default(),
            changed: AtomicBool::new(false),
        }
    }

    /// Finds the program and asks for its version, once for every time it is installed anew.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if it is missing, too old or something else.
    pub async fn program(&self, setting: &ProgramConfig) -> Result<(PathBuf, Version), Unusable> {
        let given = setting.path.as_deref();
        let missing = || Unusable::Missing(given.map(|path| format!("{}", path.display())));
        let path = find_program(given, &setting.search).ok_or_else(missing)?;
        let version = as_it_is(
            &self.found,
            || FileStamp::at(&path),
            || version(self.programs.clone(), path.clone(), launch(setting, &path, &["--version"])),
            version_holds,
        );
        Ok((path.clone(), version.await?))
    }

    /// A way to run one of the program's own commands, such as `auth login`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the program is.
    pub async fn command(
        &self,
        setting: &ProgramConfig,
        words: &[&str],
    ) -> Result<Launch, Unusable> {
        let (path, _) = self.program(setting).await?;
        Ok(launch(setting, &path, words))
    }

    /// Asks whether it is signed in, or takes what it said a short while ago. No request is made.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if the program is, or gives no answer.
    pub async fn login(&self, setting: &ProgramConfig) -> Result<LoginStatus, Unusable> {
        let (path, _) = self.program(setting).await?;
        let ask = || {
            let words = ["auth", "status", "--json"];
            status(self.programs.clone(), setting.clone(), launch(setting, &path, &words))
        };
        let status = as_it_is(&self.login, || login_file(setting), ask, status_holds).await?;
        let before =
            self.before.lock().unwrap_or_else(PoisonError::into_inner).replace(status.clone());
        if before.is_some_and(|before| before != status) {
            self.changed.store(true, Ordering::Relaxed);
        }
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
    pub fn forget_login(&self) {
        self.login.forget();
    }
}

/// What was found out of a file as it is now: asked for anew whenever it became another one, and when it holds no longer.
async fn as_it_is<T, F>(
    known: &Refreshed<OfFile<T>>,
    file: impl Fn() -> Option<FileStamp>,
    ask: impl Fn() -> F,
    holds: fn(&Result<T, Unusable>) -> Duration,
) -> Result<T, Unusable>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Unusable>> + Send + 'static,
{
    loop {
        let now = file();
        known.forget_if(|(then, _)| *then != now);
        let found = known.get(|| {
            let (asked, now) = (ask(), now.clone());
            async move {
                let value = asked.await;
                Fetched { fresh: holds(&value), value: (now, value), lasting: false }
            }
        });
        let (then, value) = found.await?;
        // The other caller asked about an earlier installation.
        if then == now {
            return value;
        }
    }
}

async fn version(programs: Programs, path: PathBuf, launch: Launch) -> Result<Version, Unusable> {
    let said = match programs.run(launch, PATIENCE).await {
        Ok((_, said)) => said,
        Err(error) => error.to_string(),
    };
    match Version::parse(&said) {
        Some(version) if version < OLDEST => Err(Unusable::Old { path, found: version }),
        Some(version) => Ok(version),
        None => Err(Unusable::Odd { path, said: said.chars().take(80).collect() }),
    }
}

fn version_holds(version: &Result<Version, Unusable>) -> Duration {
    if version.is_ok() { Duration::MAX } else { BAD_FOR }
}

async fn status(
    programs: Programs,
    setting: ProgramConfig,
    mut launch: Launch,
) -> Result<LoginStatus, Unusable> {
    // It writes something down whenever it is started, and its owner's folder is not the place for that.
    let folder = process::Folder::make(&setting.temporary)
        .and_then(|folder| home::furnish(&setting, folder.path()).map(|()| folder));
    let folder = folder.map_err(|error| Unusable::Silent(error.to_string()))?;
    for (name, value) in home::environment(&setting, folder.path(), false) {
        launch.environment.retain(|(known, _)| known != name);
        launch.environment.push((name.to_owned(), value));
    }
    let (_, said) = programs
        .run(launch, PATIENCE)
        .await
        .map_err(|error| Unusable::Silent(error.to_string()))?;
    LoginStatus::parse(&said).ok_or_else(|| Unusable::Silent("it printed no status".into()))
}

fn status_holds(status: &Result<LoginStatus, Unusable>) -> Duration {
    match status {
        Ok(status) if status.logged_in => GOOD_FOR,
        Ok(_) => BAD_FOR,
        Err(_) => Duration::ZERO,
    }
}

/// Where the program keeps its login on Linux.
fn login_file(setting: &ProgramConfig) -> Option<FileStamp> {
    home::login_folder(setting).and_then(|folder| FileStamp::at(&folder.join(".credentials.json")))
}

fn launch(setting: &ProgramConfig, path: &Path, words: &[&str]) -> Launch {
    let mut environment = setting.environment.clone();
    // The whole address, where it would open a browser of its own: whoever signs in may sit at another machine.
    for (name, value) in [
        ("DISABLE_AUTOUPDATER", "1"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("CLAUDE_CODE_FULL_SIGN_IN_LINK", "1"),
    ] {
        environment.push((name.to_owned(), SecretString::from(value)));
    }
    let folder =
        if setting.temporary.is_dir() { setting.temporary.clone() } else { PathBuf::from("/") };
    Launch {
        program: path.to_owned(),
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        environment,
        folder,
    }
}
