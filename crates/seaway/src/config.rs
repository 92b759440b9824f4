//! The configuration: text from four layers, turned into one checked [`Config`], once.
//!
//! This is the only module that reads the environment. Everything else is given values.

mod build;
mod kind;
mod layers;
mod memory;
mod paths;
mod ports;
mod price;
mod proxies;
mod reach;
mod secret;
mod settings;
mod show;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Uri};
use seaway_wire::Dialect;
use secrecy::SecretString;

use crate::trusted::{self, Modes};

pub use build::find_program;
pub use kind::{UpstreamKind, Vendor};
pub use layers::{Layers, Mistake, ValueOrigin};
pub use paths::run_folder;
pub use ports::derived as derived_port;
pub use price::{AS_LISTED, PriceBook, PriceEntry, day};
pub use proxies::{PROXIES, merged as merged_no_proxy};
pub use secret::{KeySecret, NoHash, PresentedKey};
pub use settings::{Kind, SETTINGS, Setting, near};
pub use show::{markdown_table, schema, shown};

/// The process environment, captured once.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the variables of this process. Those that are not UTF-8 are left out.
    #[expect(clippy::disallowed_methods, reason = "this is the code that reads the environment")]
    pub fn capture() -> Self {
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self(vars.collect())
    }

    pub fn of(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(vars.into_iter().collect())
    }

    /// Returns a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns a variable that is set, though it may be empty.
    pub fn set(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Where temporary files go.
    pub fn temporary_folder(&self) -> PathBuf {
        self.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the `NAME=value` lines of a file; variables that are set already win.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or another user may write it: it is a settings file like the other.
    pub fn add_file(&mut self, path: &Path) -> std::io::Result<()> {
        let modes = if self.get("SEAWAY_STRICT_MODES") == Some("false") {
            Modes::Any
        } else {
            Modes::Strict
        };
        for line in trusted::read(path, modes)?.lines() {
            let line = line.trim().trim_start_matches("export ");
            if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                let value = value.trim();
                let bare = ['"', '\'']
                    .iter()
                    .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
                self.0
                    .entry(name.trim().to_owned())
                    .or_insert_with(|| bare.unwrap_or(value).to_owned());
            }
        }
        Ok(())
    }
}

/// What the layers are made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`; the usual place otherwise.
    pub file: Option<PathBuf>,
    /// Flags that set a setting: dotted key and text.
    pub flags: Vec<(String, String)>,
    pub environment: Environment,
}

/// A configuration and the layers it was made from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub layers: Layers,
    /// Where the file is, or would be.
    pub path: PathBuf,
    /// When it was last saved, as of just before it was read.
    pub saved_at: Option<SystemTime>,
}

/// When a file was last saved.
pub fn saved_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError(pub Vec<Mistake>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Callers that no key stands for: whoever comes by the owner's socket, to an open gateway, or to what needs no key.
pub const RESERVED_CALLERS: [&str; 3] = [OWNER, "open", "anyone"];
/// Whoever comes by the owner's socket.
pub const OWNER: &str = "owner";

/// What clients may hold, and for how long. No time is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at once, of all and of one address.
    pub connections: usize,
    pub connections_per_address: usize,
    /// Until a connection has asked something.
    pub head_timeout: Duration,
    /// Until a connection has its next request.
    pub idle_timeout: Duration,
    /// The longest time in which a client may take no byte of an answer.
    pub send_timeout: Duration,
    /// In which something of a request's body must come.
    pub body_timeout: Duration,
}

/// What Seaway runs by. Every value is checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Vec<Listen>,
    pub auth: Auth,
    /// Where the keys come from that are set, for people: a variable, a flag, a place in a file.
    pub key_from: Option<String>,
    pub hosts: Vec<String>,
    /// Where a plan's login lies that nothing here can use: the program is not installed.
    pub idle_login: Option<PathBuf>,
    /// Who may sign in to the dashboard; nobody named: whoever has a key.
    pub dashboard_callers: Vec<String>,
    /// Who may give out keys over HTTP; nobody named: whoever has the only key of the configuration.
    pub admin_callers: Vec<String>,
    /// By whose days budgets go.
    pub time_zone: jiff::tz::TimeZone,
    /// What programs that sign in take as their managed settings; none where nothing is said of them.
    pub managed: Option<serde_json::Map<String, serde_json::Value>>,
    pub cors_origins: Vec<HeaderValue>,
    /// In bytes.
    pub body_limit: usize,
    /// Bytes of bodies that may be held at once.
    pub memory_limit: usize,
    pub client: ClientLimits,
    pub grace: Duration,
    /// How long an upstream that cannot be reached still counts as ready.
    pub ready_grace: Duration,
    pub ping: Duration,
    /// Refuse what a translation cannot carry over.
    pub strict: bool,
    pub watch: bool,
    pub lane: Lane,
    /// Also what goes on as it came is hashed.
    pub receipts_always: bool,
    /// Threads that serve.
    pub threads: usize,
    pub state_dir: PathBuf,
    /// The file that says to which machines ssh may log in: one for all gateways of a user on this machine, whatever their
    /// state folders, since it is the machine that the other end blocks.
    pub lockouts: PathBuf,
    /// Whose files are trusted.
    pub modes: Modes,
    pub log: Log,
    pub default_model: Option<String>,
    pub default_upstream: Option<UpstreamName>,
    /// Ids to list beside the upstreams'.
    pub models: Vec<String>,
    /// List those alone.
    pub models_only: bool,
    pub aliases: Vec<(Glob, String)>,
    pub routes: Vec<Route>,
    pub upstreams: Vec<Arc<UpstreamConfig>>,
    pub presets: Vec<Preset>,
    pub store: StoreConfig,
    /// The process is confined to what it needs, where the kernel can.
    pub confine: bool,
    /// Where some address is served with TLS.
    pub tls: Option<TlsConfig>,
    /// How long responses are kept that clients may go on from.
    /// In bytes.
    pub responses_limit: u64,
    pub responses_retention: Duration,
    pub prices: Arc<PriceBook>,
    /// What a client's `no_proxy` should say, where a proxy is set that it would come to us by.
    pub no_proxy: Option<String>,
    /// How ssh is run here, whatever it is to reach.
    pub ssh: TunnelConfig,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// With TLS of our own.
    Tls(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// True if only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) | Self::Tls(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The address, unless it is a unix socket.
    pub const fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which clients are let in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Whoever has one of these keys; the name is the caller.
    Keys(Vec<(String, KeySecret)>),
    /// Whoever has the key in the state folder, which is made when missing.
    MadeKey,
    /// Any client that reaches the address.
    Open,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: String,
    pub json: bool,
    /// `None`: if the place it goes to is a terminal.
    pub color: Option<bool>,
}

/// The name an upstream is configured under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamName(pub Arc<str>);

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern in which `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(pub String);

impl Glob {
    pub fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

/// Which upstreams serve which models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub model: Glob,
    pub when: RouteWhen,
    /// The model to ask for in place of the client's.
    pub ask_model: Option<String>,
    pub upstreams: Vec<UpstreamName>,
}

/// When a route is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteWhen {
    Always,
    /// Near a cap or the limit of a plan, and at it.
    Budget,
}

impl RouteWhen {
    pub const NAMES: &[&str] = &["always", "budget"];
}

/// An upstream's configuration.
#[derive(Debug)]
pub struct UpstreamConfig {
    pub name: UpstreamName,
    pub place: UpstreamPlace,
    pub limits: Limits,
    pub edits: Edits,
    /// The dialects of its requests.
    pub speaks: Vec<Dialect>,
    /// The type of the server tool that serves web searches.
    pub web_search: Option<String>,
    /// Always ask for a stream, and fold it for clients that asked for none.
    pub always_stream: bool,
    /// The models that are asked for in Messages whatever the client speaks. `None`: where requests are edited, all.
    pub translate: Option<Vec<Glob>>,
    /// Members to add to a Chat request that is relayed and lacks them: key and JSON text.
    pub set_chat: Vec<(String, String)>,
    /// Model names are matched against the upstream's list, ignoring case and punctuation.
    pub match_models: bool,
    /// Where its credential comes from.
    pub told: CredentialNote,
    /// Changes whenever anything in this upstream's configuration does.
    pub fingerprint: u64,
}

/// Where a credential comes from, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialNote {
    /// The credential that is used.
    pub used: Option<String>,
    /// Credentials that are set and not used.
    pub lost: Vec<String>,
}

impl fmt::Display for CredentialNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.used.as_deref().unwrap_or("no credential"))?;
        if self.lost.is_empty() {
            Ok(())
        } else {
            write!(f, " (not used: {})", self.lost.join(", "))
        }
    }
}

impl UpstreamConfig {
    /// True if it serves the Claude Code program's own login, and may do so on loopback only.
    pub fn is_login(&self) -> bool {
        matches!(&self.place, UpstreamPlace::Program(program) if program.credential.is_none() && !program.remote)
    }

    /// True if something in the configuration edits requests, which only works on Messages.
    pub fn edits_messages(&self) -> bool {
        self.always_stream || self.edits != Edits::default()
    }
}

/// The program or address behind an upstream.
#[derive(Debug)]
pub enum UpstreamPlace {
    Api(Box<ApiConfig>),
    Program(Box<ProgramConfig>),
    Sandbox,
}

/// What a plan's token begins with.
pub(crate) const PLAN_TOKEN: &str = "sk-ant-oat";
/// Why a plan's token is no credential of an upstream's.
pub(crate) const OWN_LOGIN: &str = "this is Claude Code's own login; a Claude plan is reached through the official program only: install it, use `kind = \"claude-code\"` without a credential, and sign it in, or give it the token as `CLAUDE_CODE_OAUTH_TOKEN`";

/// The official Claude Code program, and what it may do.
#[derive(Debug, Clone)]
pub struct ProgramConfig {
    /// Where it is said to be; `claude` otherwise.
    pub path: Option<PathBuf>,
    /// Where programs are looked for.
    pub search: String,
    /// Another place than Anthropic's for it to ask.
    pub base_url: Option<Uri>,
    /// In place of the program's own login.
    pub credential: Option<CredentialConfig>,
    /// All that its processes are given of our environment.
    pub environment: Vec<(String, SecretString)>,
    /// The model for processes that are started before anybody asks.
    pub model: Option<String>,
    /// From which share of its plan's limits on others are asked first, from 0 to 1.
    pub spill_at: Option<f64>,
    pub strict: bool,
    pub sessions: usize,
    pub idle: Duration,
    pub prewarm: usize,
    pub retention: Duration,
    pub idle_timeout: Duration,
    /// The files of our own settings: they may hold keys.
    pub settings: Vec<PathBuf>,
    /// Where temporary folders are made.
    pub temporary: PathBuf,
    /// A folder of ours for what is kept: an empty one to work in, and the workspace.
    pub folder: PathBuf,
    /// Its login may be used beyond loopback.
    pub remote: bool,
    pub agent: Agent,
}

#[cfg(test)]
impl ProgramConfig {
    /// One for tests, with everything below a folder.
    pub(crate) fn example(folder: &Path) -> Self {
        Self {
            path: None,
            search: String::new(),
            base_url: None,
            credential: None,
            environment: Vec::new(),
            model: None,
            spill_at: None,
            strict: false,
            sessions: 5,
            idle: Duration::from_secs(300),
            prewarm: 0,
            retention: Duration::from_secs(600),
            idle_timeout: Duration::ZERO,
            settings: Vec::new(),
            temporary: folder.to_owned(),
            folder: folder.join("claude-code"),
            remote: false,
            agent: Agent {
                workspace: vec![folder.to_owned()],
                tools: vec!["Read".into()],
                permission: Permission::Deny,
                ask_timeout: Duration::from_secs(300),
                run_timeout: Duration::from_secs(1800),
            },
        }
    }
}

/// The limits of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub workspace: Vec<PathBuf>,
    pub tools: Vec<String>,
    pub permission: Permission,
    /// How long a question waits for its answer.
    pub ask_timeout: Duration,
    /// How long a run may take in all, the waiting for answers included; zero for as long as it takes.
    pub run_timeout: Duration,
}

/// What becomes of a tool that a run was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Deny,
    Ask,
    Allow,
}

/// A way by ssh to a machine from which an upstream can be reached.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    pub name: String,
    /// Where to log in.
    pub host: String,
    /// By which machines; empty for none, `None` for what ssh's own settings say.
    pub jump: Option<String>,
    /// As whom; `None` for what ssh's own settings say.
    pub user: Option<String>,
    /// ssh's port there.
    pub port: Option<u16>,
    /// A tunnel that is open there already, by the port that it listens on.
    pub open_at: Option<u16>,
    /// The port that `seaway tunnel` and `seaway relay` listen on.
    pub tunnel_port: u16,
    /// The ssh program.
    pub program: PathBuf,
    /// The owner's own settings for it.
    pub ssh_config: PathBuf,
    pub home: PathBuf,
    /// How much it says, up to 3.
    pub verbose: u8,
    /// All that it is given of our environment.
    pub environment: Vec<(String, SecretString)>,
    /// Where its control socket and its forwards are: a folder of its own on this machine.
    pub folder: PathBuf,
    /// The file that says whether it may log in.
    pub lockout: PathBuf,
    /// The time between two looks at the tunnel.
    pub probe: Duration,
}

impl TunnelConfig {
    /// A way to a host, with nothing else said.
    pub fn to(host: &str) -> Self {
        Self {
            name: host.to_owned(),
            host: host.to_owned(),
            jump: None,
            user: None,
            port: None,
            open_at: None,
            tunnel_port: 0,
            program: "ssh".into(),
            ssh_config: PathBuf::new(),
            home: PathBuf::new(),
            verbose: 0,
            environment: Vec::new(),
            folder: PathBuf::new(),
            lockout: PathBuf::new(),
            probe: Duration::from_secs(60),
        }
    }

    /// A way to another machine, with the same ssh.
    pub fn beside(&self, host: &str) -> Self {
        let mut other = Self {
            host: host.to_owned(),
            name: host.to_owned(),
            jump: None,
            user: None,
            port: None,
            ..self.clone()
        };
        other.settle(self.folder.parent().unwrap_or(Path::new("")));
        other
    }

    /// Gives it its places on this machine.
    fn settle(&mut self, run_folder: &Path) {
        // The same in every version, or an update would cost a login.
        let way =
            format!("{:?}", (&self.host, &self.jump, &self.user, self.port, &self.ssh_config));
        self.folder =
            run_folder.join(format!("ssh-{}", &blake3::hash(way.as_bytes()).to_hex()[..8]));
    }

    /// The first machine that is logged in to: it is the one that may block us.
    pub fn door(&self) -> &str {
        let first = self
            .jump
            .as_deref()
            .and_then(|jump| jump.split(',').next())
            .map(str::trim)
            .filter(|jump| !jump.is_empty());
        let door = first.unwrap_or(&self.host);
        door.rsplit('@').next().unwrap_or(door)
    }
}

/// Where a Messages API is, and how to be let in.
#[derive(Debug)]
pub struct ApiConfig {
    /// Scheme, authority and a path without a slash at its end.
    pub base_url: Uri,
    pub socket: Option<PathBuf>,
    /// By which tunnel it is reached.
    pub via: Option<Arc<TunnelConfig>>,
    pub vendor: Vendor,
    pub credential: Option<CredentialConfig>,
    pub passthrough: bool,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub ca_file: Option<PathBuf>,
    pub proxy: Proxy,
    pub connect_timeout: Duration,
    /// Unused connections that each thread keeps; as many as were in use at once where none is set.
    pub keepalive: Option<usize>,
    pub lane: Lane,
    pub idle_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    None,
    /// `except` is as `NO_PROXY` would say it.
    Through {
        url: String,
        except: String,
        /// For plain HTTP too, not for HTTPS alone.
        plain: bool,
    },
}

/// A credential: which header it goes into, and where it comes from.
#[derive(Debug, Clone)]
pub struct CredentialConfig {
    pub carrier: Carrier,
    pub source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `x-api-key`.
    ApiKey,
    /// `Authorization: Bearer`.
    Bearer,
}

#[derive(Debug, Clone)]
pub enum Source {
    Value(SecretString),
    /// A variable that is not set; the text says which.
    Unset(String),
    File {
        path: PathBuf,
        pointer: Option<String>,
        expires_pointer: Option<String>,
    },
    Command {
        line: String,
        ttl: Duration,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub concurrency: Option<usize>,
    pub queue: usize,
    pub queue_timeout: Duration,
    pub first_byte_timeout: Duration,
    pub retries: u32,
    pub retry_on: Vec<u16>,
}

/// Edits that every request to an upstream gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    pub system_prefix: Option<String>,
    pub strip_cache_ttl: bool,
    pub one_sampling_param: bool,
    pub drop_strict_tools: bool,
    pub drop: Vec<String>,
    /// Key and JSON text.
    pub set: Vec<(String, String)>,
}

/// A named way of asking, used as `/v1/NAME/messages` or by header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    pub name: String,
    pub system: Option<String>,
    pub suffix: Option<String>,
    pub suffix_thinking: Option<String>,
    /// Key and JSON text.
    pub defaults: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `None`: in memory.
    pub path: Option<PathBuf>,
    pub retention: Duration,
    pub sync: StoreSync,
    /// Whether it matters who else may write it.
    pub modes: Modes,
}

/// The files of a listener with TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, and those of whoever issued it.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients have to show, or the very ones.
    pub client_ca: Option<PathBuf>,
}

/// What an answer's record has to outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreSync {
    /// The process, but for the last tenth of a second; a loss of power may cost the last seconds.
    Normal,
    /// Everything: an answer ends when its record is on the disk.
    Full,
}

impl StoreSync {
    /// How SQLite calls it, and the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

/// Who reads and writes HTTP/1.1 for what models are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Own,
    Hyper,
}

impl Lane {
    pub(crate) const NAMES: &[&str] = &["own", "hyper"];
}

impl Config {
    /// Where the file is, or would be; nowhere for who has no home and names none.
    pub fn path(sources: &Sources) -> Option<PathBuf> {
        sources.file.clone().or_else(|| paths::config_file(&sources.environment))
    }

    /// Reads all layers.
    ///
    /// # Errors
    ///
    /// Every mistake in any of them, at once.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::default();
        let path = Self::path(sources).unwrap_or_else(|| {
            layers.mistake(
                ValueOrigin::Default,
                format!("{NO_HOME}, or name the file: --config FILE"),
            );
            PathBuf::new()
        });
        // Of a flag that is given twice, the last one counts.
        for (key, text) in sources.flags.iter().rev() {
            let path = key_path(key);
            let flag = settings::find(&path)
                .and_then(Setting::flag)
                .unwrap_or_else(|| format!("set {key}"));
            layers.add_text(path, text, ValueOrigin::Flag(flag));
        }
        layers.add_variables(sources.environment.iter());
        // Before it is read: what is saved meanwhile is newer than what we have.
        let saved_at = saved_at(&path);
        match trusted::read(&path, modes(&layers)) {
            Ok(text) => layers.add_file(&path, &text),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && sources.file.is_none() => {}
            // The words name the file or folder that is not trusted.
            Err(error)
                if error.kind() == std::io::ErrorKind::PermissionDenied
                    && error.get_ref().is_some() =>
            {
                layers.mistake(
                    ValueOrigin::File { path: path.clone(), line: 1, column: 1 },
                    format!("not read: {error}"),
                );
            }
            Err(error) => {
                let origin = ValueOrigin::Flag("config".into());
                layers.mistake(origin, format!("cannot read {}: {error}", path.display()));
            }
        }
        let config = build::config(&mut layers, &sources.environment);
        let mistakes = layers.take_mistakes();
        if mistakes.is_empty() {
            Ok(Loaded { config, layers, path, saved_at })
        } else {
            Err(ConfigError(mistakes))
        }
    }
}

/// Whose files are trusted, as far as flags and variables say: a file cannot vouch for itself.
fn modes(layers: &Layers) -> Modes {
    let said = layers.get(&[STRICT_MODES.to_owned()]).and_then(|(value, _)| value.flag());
    if said == Some(false) { Modes::Any } else { Modes::Strict }
}

const STRICT_MODES: &str = "strict_modes";

/// What is said where there is no home folder.
const NO_HOME: &str =
    "there is no home folder: HOME is not set, and the password database names none; set HOME";

/// A dotted key, as TOML has it: names may be quoted.
fn key_path(key: &str) -> Vec<String> {
    let plain = || key.split('.').map(str::to_owned).collect();
    let quoted = key.contains(['"', '\'']).then(|| toml_edit::Key::parse(key).ok()).flatten();
    quoted.map_or_else(plain, |path| path.iter().map(|name| name.get().to_owned()).collect())
}

/// Reads a time such as `30s` or `200ms`.
pub fn parse_span(text: &str) -> Option<Duration> {
    value::Value::Text(text.to_owned()).span()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_anything() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(Glob(pattern.into()).matches(text), expect, "{pattern} {text}");
        };
        check("*", "", true);
        check("a*", "abc", true);
        check("a*", "ba", false);
        check("*c", "abc", true);
        check("a*c", "ac", true);
        check("a*b*c", "axbxc", true);
        check("a*b*c", "axc", false);
        check("a", "a", true);
        check("a", "ab", false);
        check("a*a", "a", false);
    }

    #[test]
    fn names_in_a_dotted_key_may_be_quoted() {
        assert_eq!(key_path("alias.gpt-*"), ["alias", "gpt-*"]);
        assert_eq!(key_path(r#"alias."gpt-4.1""#), ["alias", "gpt-4.1"]);
        assert_eq!(key_path("price.'claude-*'.input"), ["price", "claude-*", "input"]);
    }

    #[test]
    fn an_env_file_never_beats_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# c\nexport A=\"1\"\nB = 'x=y'\nC=3\n").unwrap();
        let mut environment = Environment::of([("C".to_owned(), "set".to_owned())]);
        environment.add_file(file.path()).unwrap();
        assert_eq!(
            (environment.get("A"), environment.get("B"), environment.get("C")),
            (Some("1"), Some("x=y"), Some("set"))
        );
    }
}
