//! The Claude Code program: where it is, what it is given, what it may do.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{ConfigReader, below, key};
use crate::config::layers::ValueOrigin;
use crate::config::paths;
use crate::config::value::Value;
use crate::config::{Agent, Listen, Permission, ProgramConfig};

/// What the program's processes are given of our environment: what a program needs to run, to
/// find its own login and to reach the network. No key of ours and nobody else's secret.
const GIVEN: [&str; 26] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
];

impl ConfigReader<'_> {
    pub(super) fn program(&mut self, name: &str, listen: &[Listen]) -> Option<ProgramConfig> {
        let at = |rest: &str| below("upstream", name, rest);
        let base_url = match self.text_at(&at("base_url")) {
            Some(_) => Some(self.base_url(name, None, listen)?),
            None => None,
        };
        let credential = self.credential(name, None);
        let local = listen.iter().all(Listen::is_local);
        let remote = self.flag("claude_code.remote");
        if credential.is_none() && !local && !remote {
            let why = "a plan's login serves its owner alone: listen on loopback, give this upstream an `api_key`, or, if nobody but you can reach it, set `claude_code.remote = true`";
            self.mistake_at(&at("kind"), why);
        }
        let spill_at = self.get(&at("spill_at")).and_then(|value| value.amount());
        if spill_at.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            let why = "a share of the plan's limits, above 0 and at most 1, such as `0.95`";
            self.mistake_at(&at("spill_at"), why);
        }
        let folder = self.state_dir().unwrap_or_default().join("claude-code");
        let count = |reader: &Self, name: &str| {
            reader
                .count_at(&key(name))
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or_default()
        };
        Some(ProgramConfig {
            path: self.given_path(),
            search: self.environment.get("PATH").unwrap_or_default().to_owned(),
            base_url,
            credential,
            environment: self.given(),
            model: self.text("model.default"),
            strict: self.flag("strict"),
            sessions: count(self, "claude_code.sessions"),
            idle: self.span("claude_code.idle"),
            prewarm: count(self, "claude_code.prewarm"),
            retention: self.span("claude_code.retention"),
            idle_timeout: self.span_at(&at("idle_timeout")),
            settings: self.settings_files(),
            temporary: self.environment.temporary_folder(),
            remote,
            agent: self.agent(&folder, local),
            folder,
            spill_at,
        })
    }

    pub(super) fn workers(&mut self) -> Option<usize> {
        let workers = self
            .count_at(&key("claude_code.workers"))
            .and_then(|count| usize::try_from(count).ok());
        if workers.is_some_and(|most| !(1..=1000).contains(&most)) {
            self.mistake("claude_code.workers", "must be from 1 to 1000");
        }
        workers
    }

    fn given(&self) -> Vec<(String, SecretString)> {
        let more = self.texts("claude_code.pass_env");
        let names = GIVEN.into_iter().chain(more.iter().map(String::as_str));
        names
            .filter_map(|name| {
                Some((name.to_owned(), self.environment.get(name)?.to_owned().into()))
            })
            .collect()
    }

    pub(super) fn given_path(&self) -> Option<PathBuf> {
        let given = self
            .text("claude_code.path")
            .or_else(|| self.environment.get("CLAUDE_PATH").map(str::to_owned));
        given.map(|text| self.path(&text))
    }

    /// Where the program is, if it is there.
    pub(super) fn program_path(&self) -> Option<PathBuf> {
        find(self.given_path().as_deref(), self.environment.get("PATH").unwrap_or_default())
    }

    /// The files that settings come from, or would.
    fn settings_files(&self) -> Vec<PathBuf> {
        let origins = self.layers.iter().filter_map(|(_, (_, origin))| match origin {
            ValueOrigin::File { path, .. } => Some(path.clone()),
            _ => None,
        });
        let mut files: Vec<PathBuf> = origins
            .chain(paths::config_file(self.environment))
            .filter(|path| path.is_absolute())
            .collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Where a plan's login lies, if the program that could use it is not there. It is not opened.
    pub(super) fn idle_login(&self) -> Option<PathBuf> {
        let folder = self
            .environment
            .get("CLAUDE_CONFIG_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(self.environment.get("HOME")?).join(".claude")))?;
        Some(folder.join(".credentials.json"))
            .filter(|login| login.is_file() && self.program_path().is_none())
    }

    fn agent(&mut self, folder: &Path, local: bool) -> Agent {
        let permission = match self.text("claude_code.permission").as_deref() {
            Some("ask") => Permission::Ask,
            Some("allow") => Permission::Allow,
            _ => Permission::Deny,
        };
        let open = self.text("auth").as_deref() == Some("none");
        if permission == Permission::Allow && open && !local {
            self.mistake("claude_code.permission", "`allow` needs a key where others can reach us");
        }
        let named = self.texts("claude_code.workspace");
        let workspace = if named.is_empty() {
            vec![folder.join("workspace")]
        } else {
            named.iter().map(|text| self.path(text)).collect()
        };
        let tools =
            self.get(&key("claude_code.tools")).as_ref().map(Value::texts).unwrap_or_default();
        Agent {
            workspace,
            tools,
            permission,
            ask_timeout: self.span("claude_code.ask_timeout"),
            run_timeout: self.span("claude_code.run_timeout"),
        }
    }
}

/// Finds the program: at the path that is given, or `claude` on the search path.
pub fn find(given: Option<&Path>, search: &str) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    match given {
        Some(path) if path.components().count() > 1 => Some(path.to_owned()).filter(runs),
        _ => {
            let name = given.unwrap_or(Path::new("claude"));
            search
                .split(':')
                .filter(|folder| !folder.is_empty())
                .map(|folder| Path::new(folder).join(name))
                .find(runs)
        }
    }
}
