//! From layers to [`Config`]: what each setting means, and what goes together.

mod argo;
mod foreign;
mod prices;
mod program;
mod routes;
mod told;
mod tunnels;
mod upstreams;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use seaway_wire::Endpoint;

use super::layers::{BUILT_IN, Layers, ValueOrigin, dotted};
use super::value::Value;
use super::{
    Auth, ClientLimits, Config, Environment, Glob, KeySecret, Lane, Listen, Log, NO_HOME, Preset,
    RESERVED_CALLERS, STRICT_MODES, StoreConfig, StoreSync, TlsConfig, UpstreamConfig,
    UpstreamKind, UpstreamName, memory, paths, proxies, settings,
};
use crate::trusted::Modes;

pub use program::find as find_program;

const DEFAULTS: &str = include_str!("defaults.toml");

/// Builds the configuration; what cannot be right is left in the layers as mistakes.
pub(super) fn config(layers: &mut Layers, environment: &Environment) -> Config {
    layers.add_file(Path::new(BUILT_IN), DEFAULTS);
    layers.join_names("upstream", &UpstreamKind::BUILT_IN);
    for group in ["tunnel", "preset", "price"] {
        layers.join_names(group, &[argo::TUNNEL]);
    }
    foreign::warn(layers, environment);
    let mut reader = ConfigReader { layers, environment };
    let tls = reader.tls();
    let listen = reader.listen(tls.as_ref());
    let upstreams = reader.upstreams(&listen);
    let ssh = reader.ssh(&upstreams);
    reader.flags_of_tunnels(&upstreams);
    let state_dir = reader.needed_state_dir();
    let config = Config {
        auth: reader.auth(&listen),
        key_from: reader.key_from(),
        hosts: reader.texts("hosts"),
        idle_login: reader.idle_login(),
        dashboard_callers: reader.texts("dashboard.callers"),
        admin_callers: reader.texts("admin.callers"),
        time_zone: reader.time_zone(),
        managed: reader.managed(),
        cors_origins: reader.origins(),
        body_limit: usize::try_from(reader.size("body_limit")).unwrap_or(usize::MAX),
        memory_limit: reader.memory_limit(),
        client: reader.client(),
        grace: reader.span("grace"),
        ready_grace: reader.span("ready_grace"),
        ping: reader.span("ping"),
        strict: reader.flag("strict"),
        watch: reader.flag("watch"),
        lane: reader.lane(),
        receipts_always: reader.text("receipts").as_deref() == Some("always"),
        threads: reader.threads(),
        log: reader.log(),
        default_model: reader.text("model.default"),
        default_upstream: reader.default_upstream(&upstreams),
        models: reader.models(),
        models_only: reader.flag("models_only"),
        aliases: reader.aliases(),
        routes: reader.routes(&upstreams),
        presets: reader.presets(),
        modes: reader.modes(),
        store: reader.store(&state_dir),
        responses_limit: reader.size("responses.limit"),
        responses_retention: reader.span("responses.retention"),
        prices: Arc::new(reader.prices()),
        no_proxy: proxies::needed(environment),
        ssh,
        lockouts: reader.lockouts(),
        state_dir,
        upstreams,
        listen,
        tls,
        confine: reader.flag("confine"),
    };
    if config.log.level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        reader.mistake("log_level", "expected `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `seaway=debug`");
    }
    config
}

/// As many connections as there can be open files, when each has one to an upstream too and some are needed for the rest.
fn connections() -> usize {
    /// For listeners, threads, the store, the log and the tools that are run.
    const RESERVE: u64 = 32;
    const MOST: usize = 1 << 16;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let pairs = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVE) / 2);
    usize::try_from(pairs).unwrap_or(MOST).clamp(1, MOST)
}

/// The local key, as one of the tools has it that Seaway replaces.
const FOREIGN_KEY: &str = "PROXY_API_KEY";

struct ConfigReader<'a> {
    layers: &'a mut Layers,
    environment: &'a Environment,
}

fn key(dotted: &str) -> Vec<String> {
    dotted.split('.').map(str::to_owned).collect()
}

/// The key of a setting below a name of the owner's choosing, which may hold dots.
fn below(group: &str, name: &str, rest: &str) -> Vec<String> {
    let mut segments = vec![group.to_owned(), name.to_owned()];
    segments.extend(rest.split('.').map(str::to_owned));
    segments
}

impl ConfigReader<'_> {
    /// A value, or its default. Layers hold only values that fit their setting.
    fn get(&self, key: &[String]) -> Option<Value> {
        if let Some((value, _)) = self.layers.get(key) {
            return Some(value.clone());
        }
        let setting = settings::find(key)?;
        if setting.default.is_empty() {
            return None;
        }
        Value::parse(setting.default, setting.kind).ok()
    }

    fn text_at(&self, key: &[String]) -> Option<String> {
        self.get(key)?.text().map(str::to_owned)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.text_at(&key(name))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.get(&key(name)).map(|value| value.texts()).unwrap_or_default()
    }

    /// By whose days budgets go.
    fn time_zone(&mut self) -> jiff::tz::TimeZone {
        let Some(name) = self.text("time_zone").filter(|name| !name.is_empty()) else {
            return jiff::tz::TimeZone::system();
        };
        jiff::tz::TimeZone::get(&name).unwrap_or_else(|_| {
            let why = format!("`{name}` is no time zone of this system; expected one such as `Europe/Berlin` or `UTC`");
            self.mistake("time_zone", &why);
            jiff::tz::TimeZone::UTC
        })
    }

    /// What programs that sign in take as their settings.
    fn managed(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let members = self.get(&key("managed"))?;
        Some(
            members.entries().iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
        )
    }

    fn flag(&self, name: &str) -> bool {
        self.get(&key(name)).and_then(|value| value.flag()).unwrap_or_default()
    }

    fn size(&self, name: &str) -> u64 {
        self.get(&key(name)).and_then(|value| value.size()).unwrap_or_default()
    }

    fn span(&self, name: &str) -> Duration {
        self.span_at(&key(name))
    }

    fn span_at(&self, key: &[String]) -> Duration {
        self.get(key).and_then(|value| value.span()).unwrap_or_default()
    }

    fn count_at(&self, key: &[String]) -> Option<u64> {
        self.get(key).and_then(|value| value.count())
    }

    fn origin(&self, key: &[String]) -> ValueOrigin {
        self.layers.get(key).map_or(ValueOrigin::Default, |(_, origin)| origin.clone())
    }

    /// Where a group of settings first shows itself.
    fn group_origin(&self, group: &[String]) -> ValueOrigin {
        let first = self.layers.iter().find(|(key, _)| key.starts_with(group));
        first.map_or(ValueOrigin::Default, |(_, (_, origin))| origin.clone())
    }

    fn mistake(&mut self, name: &str, why: &str) {
        self.mistake_at(&key(name), why);
    }

    fn mistake_at(&mut self, key: &[String], why: &str) {
        let origin = self.origin(key);
        self.layers.mistake(origin, format!("{}: {why}", dotted(key)));
    }

    /// Where the state is kept; nowhere for who has no home and names no folder.
    fn state_dir(&self) -> Option<PathBuf> {
        self.text("state_dir")
            .map_or_else(|| paths::state_dir(self.environment), |text| Some(self.path(&text)))
    }

    /// `~/` is the home folder; relative paths stay relative to the working folder.
    fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => paths::home(self.environment).unwrap_or_default().join(rest),
            None => PathBuf::from(text),
        }
    }

    fn modes(&mut self) -> Modes {
        if let ValueOrigin::File { .. } = self.origin(&key(STRICT_MODES)) {
            self.mistake(STRICT_MODES, "only `--strict-modes` or $SEAWAY_STRICT_MODES can say that; a file cannot vouch for itself");
        }
        super::modes(self.layers)
    }

    fn needed_state_dir(&mut self) -> PathBuf {
        self.state_dir().unwrap_or_else(|| {
            let why = format!("{NO_HOME}, or name the folder: --state-dir FOLDER");
            self.layers.mistake(ValueOrigin::Default, why);
            PathBuf::new()
        })
    }

    fn tls(&mut self) -> Option<TlsConfig> {
        let file = |name| self.text(name).map(|path| self.path(&path));
        match (file("tls.cert"), file("tls.key"), file("tls.client_ca")) {
            (Some(cert), Some(key), client_ca) => Some(TlsConfig { cert, key, client_ca }),
            (None, None, None) => None,
            (None, _, _) => {
                self.mistake("tls.cert", "TLS needs a certificate: a file in PEM");
                None
            }
            (Some(_), None, _) => {
                self.mistake("tls.key", "TLS needs the key of the certificate: a file in PEM");
                None
            }
        }
    }

    fn listen(&mut self, tls: Option<&TlsConfig>) -> Vec<Listen> {
        let mut addresses = Vec::new();
        for text in self.texts("listen") {
            if let Some(path) = text.strip_prefix("unix:") {
                addresses.push(Listen::Unix(self.path(path)));
                continue;
            }
            let (bare, secure) = match text.split_once("://") {
                Some(("http", rest)) => (rest, false),
                Some(("https", rest)) => (rest, true),
                _ => (text.as_str(), tls.is_some()),
            };
            match bare.to_socket_addrs().map(|mut found| found.next()) {
                Ok(Some(_)) if secure && tls.is_none() => self.mistake(
                    "listen",
                    &format!("`{text}` wants a certificate; set `tls.cert` and `tls.key`"),
                ),
                Ok(Some(address)) if secure => addresses.push(Listen::Tls(address)),
                Ok(Some(address)) => addresses.push(Listen::Tcp(address)),
                Ok(None) | Err(_) => self.mistake(
                    "listen",
                    &format!("`{text}` is no address; expected `HOST:PORT`, `https://HOST:PORT` or `unix:/path`"),
                ),
            }
        }
        // On a machine that many share, each has a port of their own.
        if self.layers.get(&key("listen")).is_none()
            && self.means_argo()
            && let Some(Listen::Tcp(address)) = addresses.first_mut()
        {
            address.set_port(super::ports::derived(&self.local_user()));
            let derived = address.to_string();
            self.layers.add(
                key("listen"),
                Value::List(vec![Value::Text(derived)]),
                ValueOrigin::Default,
            );
        }
        if let Some(port) = self.count_at(&key("port")) {
            match (u16::try_from(port), addresses.iter_mut().find_map(tcp)) {
                (Ok(port), Some(address)) => address.set_port(port),
                (Err(_), _) => self.mistake("port", "expected a number up to 65535"),
                (_, None) => self.mistake("port", "there is no TCP address in `listen`"),
            }
        }
        addresses
    }

    pub(super) fn lane(&self) -> Lane {
        match self.text("lane").as_deref() {
            Some("hyper") => Lane::Hyper,
            _ => Lane::Own,
        }
    }

    fn threads(&self) -> usize {
        self.number("threads")
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// A setting that is a count above zero.
    fn number(&self, name: &str) -> Option<usize> {
        let count = self.count_at(&key(name)).and_then(|count| usize::try_from(count).ok());
        count.filter(|count| *count > 0)
    }

    fn auth(&mut self, listen: &[Listen]) -> Auth {
        if self.text("auth").as_deref() == Some("none") {
            if !listen.iter().all(Listen::is_local) {
                self.mistake(
                    "auth",
                    "`none` is for loopback only; listen on 127.0.0.1, or use `auth = \"key\"`",
                );
            }
            return Auth::Open;
        }
        let fixed =
            self.text("api_key").or_else(|| self.environment.get(FOREIGN_KEY).map(str::to_owned));
        let mut given: Vec<(String, String)> = Vec::new();
        given.extend(fixed.map(|value| ("default".to_owned(), value)));
        let named = self.get(&key("keys"));
        let named = named.as_ref().map(Value::entries).unwrap_or_default();
        given.extend(
            named.iter().filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned()))),
        );
        let mut keys = Vec::new();
        for (name, text) in given {
            match KeySecret::parse(&text) {
                Ok(secret) => keys.push((name, secret)),
                Err(why) => self.mistake("keys", &format!("`{name}`: {why}")),
            }
        }
        for (name, _) in keys.iter().filter(|(name, _)| RESERVED_CALLERS.contains(&name.as_str())) {
            let why = format!("`{name}` stands for somebody without a key; choose another name");
            self.layers.mistake(ValueOrigin::Default, format!("keys: {why}"));
        }
        if keys.iter().any(|(_, secret)| secret.is_empty()) {
            self.mistake("keys", "a key is empty");
        }
        if keys.is_empty() { Auth::MadeKey } else { Auth::Keys(keys) }
    }

    /// What is given, or an eighth of what there is.
    fn memory_limit(&self) -> usize {
        let given = self.get(&key("memory_limit")).and_then(|value| value.size());
        let limit = given.unwrap_or_else(|| memory::there_is() / 8);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    fn client(&mut self) -> ClientLimits {
        let connections = self.number("connections").unwrap_or_else(connections);
        ClientLimits {
            connections,
            // One address alone leaves room for others.
            connections_per_address: self
                .number("connections_per_address")
                .unwrap_or_else(|| (connections * 3 / 4).max(1)),
            head_timeout: self.span("head_timeout"),
            idle_timeout: self.span("client_idle_timeout"),
            send_timeout: self.span("send_timeout"),
            body_timeout: self.span("body_timeout"),
        }
    }

    fn origins(&mut self) -> Vec<HeaderValue> {
        let mut origins = Vec::new();
        for text in self.texts("cors_origins") {
            match text.parse() {
                Ok(value) if text.contains("://") && !text.ends_with('/') => origins.push(value),
                _ => self.mistake(
                    "cors_origins",
                    &format!(
                        "`{text}` is no origin; expected something like `https://app.example`"
                    ),
                ),
            }
        }
        origins
    }

    fn log(&self) -> Log {
        Log {
            level: self.text("log_level").unwrap_or_default(),
            json: self.text("log_format").as_deref() == Some("json"),
            color: match self.text("color").as_deref() {
                Some("always") => Some(true),
                Some("never") => Some(false),
                _ => self.environment.get("NO_COLOR").map(|_| false),
            },
        }
    }

    fn models(&mut self) -> Vec<String> {
        let models = self.texts("models");
        if models.iter().any(|id| id.trim().is_empty()) {
            self.mistake("models", "a model's id is empty");
        }
        if models.is_empty() && self.flag("models_only") {
            self.mistake("models_only", "there is nothing in `models` to list");
        }
        models
    }

    fn aliases(&self) -> Vec<(Glob, String)> {
        let map = self.get(&key("alias"));
        let entries = map.as_ref().map(Value::entries).unwrap_or_default();
        let mut aliases: Vec<_> = entries
            .iter()
            .filter_map(|(name, value)| Some((Glob(name.clone()), value.text()?.to_owned())))
            .collect();
        // An exact name beats a pattern, wherever they stand.
        aliases.sort_by_key(|(glob, _)| glob.0.contains('*'));
        aliases
    }

    fn default_upstream(&mut self, upstreams: &[Arc<UpstreamConfig>]) -> Option<UpstreamName> {
        let name = self.text("default_upstream")?;
        self.known(&key("default_upstream"), &name, upstreams)
    }

    fn known(
        &mut self,
        key: &[String],
        name: &str,
        upstreams: &[Arc<UpstreamConfig>],
    ) -> Option<UpstreamName> {
        let found = upstreams.iter().find(|upstream| &*upstream.name.0 == name);
        let configured = self.layers.names("upstream");
        // An upstream that is there and wrong has been told already.
        if found.is_none() && !configured.iter().any(|known| known == name) {
            let known = || configured.iter().map(String::as_str).chain(UpstreamKind::BUILT_IN);
            let near = settings::near(name, known())
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let names: Vec<String> = configured.iter().map(|name| format!("`{name}`")).collect();
            let names = if names.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            self.mistake_at(key, &format!("no upstream is called `{name}`; {names}{near}"));
        }
        found.map(|upstream| upstream.name.clone())
    }

    fn json_members(&self, at: &[String]) -> Vec<(String, String)> {
        let map = self.get(at);
        let entries = map.as_ref().map(Value::entries).unwrap_or_default();
        entries.iter().map(|(name, value)| (name.clone(), value.to_json().to_string())).collect()
    }

    fn presets(&mut self) -> Vec<Preset> {
        let mut presets = Vec::new();
        for name in self.layers.names("preset") {
            let at = |rest: &str| below("preset", &name, rest);
            if is_reserved(&name) || name.is_empty() || name.contains('/') {
                let origin = self.group_origin(&at("")[..2]);
                self.layers.mistake(
                    origin,
                    format!("preset.{name}: this name is a path of the API; choose another"),
                );
            }
            self.no_routing_members(&at("defaults"));
            presets.push(Preset {
                system: self.text_at(&at("system")),
                suffix: self.text_at(&at("suffix")),
                suffix_thinking: self.text_at(&at("suffix_thinking")),
                defaults: self.json_members(&at("defaults")),
                name,
            });
        }
        presets
    }

    fn store(&mut self, state_dir: &Path) -> StoreConfig {
        let path = match self.text("store.path").as_deref() {
            Some(":memory:") => None,
            Some(path) => Some(self.path(path)),
            None => Some(state_dir.join("seaway.db")),
        };
        let full = self.text("store.sync").as_deref() == Some(StoreSync::Full.name());
        StoreConfig {
            path,
            retention: self.span("store.retention"),
            sync: if full { StoreSync::Full } else { StoreSync::Normal },
            modes: self.modes(),
        }
    }
}

/// True for a name that a preset's path would collide with.
fn is_reserved(name: &str) -> bool {
    const OURS: [&str; 5] = ["v1", "completions", "run", "tasks", "sessions"];
    OURS.contains(&name) || Endpoint::first_segments().any(|segment| segment == name)
}

fn tcp(listen: &mut Listen) -> Option<&mut SocketAddr> {
    match listen {
        Listen::Tcp(address) | Listen::Tls(address) => Some(address),
        Listen::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, Environment, Loaded, Sources, UpstreamPlace};

    pub(super) fn load(
        file: &str,
        vars: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Loaded, ConfigError> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
        };
        Config::load(&Sources {
            file: Some(path.path().into()),
            flags: owned(flags),
            environment: Environment::of(owned(vars)),
        })
    }

    #[track_caller]
    pub(super) fn refused(file: &str, vars: &[(&str, &str)], what: &str) {
        let error = load(file, vars, &[]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }

    /// A file and variables that do not go together, and what is said of them.
    type Mistaken = (&'static str, &'static [(&'static str, &'static str)], &'static str);

    const MISTAKEN: &[Mistaken] = &[
        ("listen = '0.0.0.0:1'\nauth = 'none'", &[], "for loopback only"),
        ("listen = 'nowhere'", &[], "is no address"),
        ("listen = 'https://127.0.0.1:1'", &[], "set `tls.cert` and `tls.key`"),
        ("[tls]\ncert = 'x'", &[], "TLS needs the key"),
        ("[tls]\nclient_ca = 'x'", &[], "TLS needs a certificate"),
        ("[upstream.a]\nbase_url = 'http://x'", &[], "`kind` is missing"),
        ("[upstream.a]\nkind = 'messages'", &[], "`base_url` is missing"),
        ("[upstream.a]\nkind = 'messages'\nbase_url = 'x'", &[], "has no scheme"),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://me:hush@x'",
            &[],
            "`http://(redacted)@x` holds a credential",
        ),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://127.0.0.1:7329/'",
            &[],
            "own address",
        ),
        (
            "",
            &[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", "http://localhost:7329")],
            "$ANTHROPIC_BASE_URL: `http://localhost:7329` is Seaway's own address",
        ),
        (
            "[upstream.a]\nkind = 'anthropic'\napi_key.file = '~/.claude/.credentials.json'",
            &[],
            "official program only",
        ),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://x'\nbearer = 'sk-ant-oat01-x'",
            &[],
            "official program only",
        ),
        (
            "[upstream.a]\nkind = 'claude-code'\nbearer.env = 'MINE'",
            &[("MINE", "sk-ant-oat01-x")],
            "CLAUDE_CODE_OAUTH_TOKEN",
        ),
        (
            "[upstream.a]\nkind = 'sandbox'\n[[route]]\nmodel = '*'\nupstream = 'b'",
            &[],
            "no upstream is called `b`; there are `a`",
        ),
        (
            "[upstream.a]\nkind = 'sandbox'\n[[route]]\nask_model = 'm'\nupstream = 'a'",
            &[],
            "route.0.ask_model: a route asks for another model with `when = \"budget\"` alone",
        ),
        (
            "[upstream.a]\nkind = 'sandbox'\n[[route]]\nwhen = 'budget'",
            &[],
            "names neither an `upstream` nor an `ask_model`",
        ),
        ("[[route]]\nmodel = '*'\nwhen = 'full'", &[], "`always`"),
        ("[upstream.a]\nkind = 'sandbox'\nspill_at = 0.9", &[], "upstream.a.spill_at: only a plan"),
        ("[upstream.a]\nkind = 'claude-code'\nspill_at = 95", &[], "at most 1, such as `0.95`"),
        (
            "[upstream.a]\nkind = 'sandbox'\nset = { stream = true }",
            &[],
            "`stream` cannot be edited here",
        ),
        (
            "[upstream.open-router]\nkind = 'sandbox'\n[[route]]\nupstream = 'openrouter'",
            &[],
            "there are `open-router`; did you mean `open-router`?",
        ),
        ("default_upstream = 'sandbx'", &[], "none is configured; did you mean `sandbox`?"),
        ("[preset.messages]\nsystem = 'x'", &[], "is a path of the API"),
        ("[preset.v1]\nsystem = 'x'", &[], "is a path of the API"),
        ("strict_modes = false", &[], "a file cannot vouch for itself"),
        ("models_only = true", &[], "there is nothing in `models`"),
        ("models = ['a', '']", &[], "a model's id is empty"),
        (
            "listen = '0.0.0.0:1'\n[upstream.a]\nkind = 'claude-code'",
            &[],
            "a plan's login serves its owner alone",
        ),
        ("claude_code.workers = 0\n[upstream.a]\nkind = 'claude-code'", &[], "from 1 to 1000"),
        (
            "auth = 'none'\nlisten = ['127.0.0.1:1']\n[claude_code]\npermision = 'allow'\n[upstream.a]\nkind = 'claude-code'",
            &[],
            "did you mean `permission`?",
        ),
        ("[upstream.a]\nkind = 'sandbox'\nconcurrency = 0", &[], "from 1 to 1000000"),
        ("[upstream.a]\nkind = 'sandbox'\nspeaks = ['klingon']", &[], "`klingon` is no dialect"),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://h'\nspeaks = 'chat'\nsystem_prefix = 'x'",
            &[],
            "can only be edited in `messages`",
        ),
        ("[upstream.a]\nkind = 'sandbox'\nspeaks = 'chat'", &[], "speaks `messages` only"),
        ("log_level = 'a=b=c'", &[], "log_level: expected"),
    ];

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (file, variables, what) in MISTAKEN {
            refused(file, variables, what);
        }
        for told in
            ["$CLAUDE_ACCESS_TOKEN: this is Claude Code's own login", "CLAUDE_CODE_OAUTH_TOKEN"]
        {
            refused("", &[("CLAUDE_ACCESS_TOKEN", "sk-ant-oat01-x")], told);
        }
        let broken = load("default_upstream = 'b'\n[upstream.b]\nkind = 'messages'\n", &[], &[])
            .unwrap_err();
        assert_eq!(
            broken.0.len(),
            1,
            "what is there and wrong is not told to be missing: {broken}"
        );
        for flags in [
            [("argo.env", "test")],
            [("argo.direct", "true")],
            [("argo.host", "h")],
            [("argo.jump", "")],
            [("argo.tunnel_port", "7")],
        ] {
            let error =
                load("[upstream.a]\nkind = 'sandbox'", &[], &flags).unwrap_err().to_string();
            assert!(error.contains("add `--upstream argo`"), "{error}");
        }
    }

    #[test]
    fn the_environment_offers_an_upstream_only_when_none_is_configured() {
        let name = |loaded: &Loaded| {
            loaded.config.upstreams.first().map(|upstream| upstream.name.to_string())
        };
        assert_eq!(name(&load("", &[], &[]).unwrap()), None);
        assert_eq!(
            name(&load("", &[("ANTHROPIC_AUTH_TOKEN", "t")], &[]).unwrap()).as_deref(),
            Some("anthropic")
        );
        assert_eq!(
            name(
                &load("", &[("ANTHROPIC_API_KEY", "t")], &[("default_upstream", "sandbox")])
                    .unwrap()
            )
            .as_deref(),
            Some("sandbox")
        );
        let loaded = load(
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://h/p/v1/'",
            &[("ANTHROPIC_API_KEY", "t")],
            &[],
        )
        .unwrap();
        assert_eq!(loaded.config.upstreams.len(), 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_string_lossy().into_owned();
        assert_eq!(name(&load("", &[("PATH", &path)], &[]).unwrap()), None);
        std::fs::write(folder.path().join("claude"), "").unwrap();
        std::fs::set_permissions(
            folder.path().join("claude"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        assert_eq!(
            name(&load("", &[("PATH", &path)], &[]).unwrap()).as_deref(),
            Some("claude-code")
        );
        assert_eq!(
            name(&load("", &[("PATH", &path), ("ANTHROPIC_API_KEY", "t")], &[]).unwrap())
                .as_deref(),
            Some("anthropic")
        );
        assert_eq!(
            name(&load("", &[("PATH", &path)], &[("listen", "0.0.0.0:1")]).unwrap()),
            None,
            "a login is for its owner alone"
        );
        assert_eq!(
            name(&load("", &[("CLAUDE_PATH", &format!("{path}/claude"))], &[]).unwrap()).as_deref(),
            Some("claude-code")
        );
        match &loaded.config.upstreams[0].place {
            UpstreamPlace::Api(api) => assert_eq!(
                (api.base_url.to_string().as_str(), api.credential.is_none()),
                ("http://h/p", true)
            ),
            UpstreamPlace::Program(_) | UpstreamPlace::Sandbox => panic!("no API"),
        }
    }

    #[test]
    fn where_a_credential_comes_from_is_told_and_what_lost() {
        let told = |file: &str, vars: &[(&str, &str)], flags: &[(&str, &str)]| {
            load(file, vars, flags).unwrap().config.upstreams[0].told.to_string()
        };
        let both = [("ANTHROPIC_API_KEY", "hush"), ("ANTHROPIC_AUTH_TOKEN", "hush")];
        assert_eq!(told("", &both, &[]), "$ANTHROPIC_API_KEY (not used: $ANTHROPIC_AUTH_TOKEN)");
        assert_eq!(told("", &both[1..], &[]), "$ANTHROPIC_AUTH_TOKEN");
        assert_eq!(
            told("", &both, &[("default_upstream", "claude-code")]),
            "the program's own login (not used: $ANTHROPIC_API_KEY, $ANTHROPIC_AUTH_TOKEN)"
        );
        assert_eq!(
            told("", &both[..1], &[("upstream.anthropic.bearer", "hush")]),
            "`upstream.anthropic.bearer` of --set upstream.anthropic.bearer (not used: $ANTHROPIC_API_KEY)"
        );
        assert_eq!(
            told(
                "[upstream.a]\nkind = 'anthropic'\napi_key.env = 'ANTHROPIC_API_KEY'",
                &both[..1],
                &[]
            ),
            "$ANTHROPIC_API_KEY"
        );
        assert_eq!(
            told("[upstream.a]\nkind = 'messages'\nbase_url = 'http://h'", &both, &[]),
            "no credential"
        );
        let key =
            |file: &str, vars: &[(&str, &str)]| load(file, vars, &[]).unwrap().config.key_from;
        assert_eq!(key("", &[("PROXY_API_KEY", "hush")]).as_deref(), Some("$PROXY_API_KEY"));
        assert_eq!(
            key("", &[("PROXY_API_KEY", "hush"), ("SEAWAY_API_KEY", "hush")]).as_deref(),
            Some("$SEAWAY_API_KEY")
        );
        assert!(key("api_key = 'hush'", &[]).unwrap().ends_with(":1:1"));
        assert_eq!(key("", &[]), None);
    }

    #[test]
    fn variables_reach_names_with_a_hyphen() {
        let file = "[upstream.open-router]\nkind = 'messages'\nbase_url = 'http://h'\nqueue = 1\n[upstream.plain]\nkind = 'sandbox'\n";
        let loaded = load(
            file,
            &[
                ("SEAWAY_UPSTREAM__OPEN_ROUTER__QUEUE", "7"),
                ("SEAWAY_UPSTREAM__OPEN_ROUTER__API_KEY", "k"),
                ("SEAWAY_UPSTREAM__PLAIN__QUEUE", "9"),
            ],
            &[],
        )
        .unwrap();
        let queues: Vec<_> = loaded
            .config
            .upstreams
            .iter()
            .map(|upstream| (upstream.name.to_string(), upstream.limits.queue))
            .collect();
        assert_eq!(queues, [("open-router".into(), 7), ("plain".into(), 9)]);
        let flag = load(
            file,
            &[("SEAWAY_UPSTREAM__OPEN_ROUTER__QUEUE", "7")],
            &[("upstream.open-router.queue", "8")],
        )
        .unwrap();
        assert_eq!(flag.config.upstreams[0].limits.queue, 8, "a flag is stronger");
        let program =
            load("", &[("SEAWAY_UPSTREAM__CLAUDE_CODE__QUEUE", "7"), ("HOME", "/h")], &[]).unwrap();
        assert_eq!(
            (
                program.config.upstreams[0].name.to_string().as_str(),
                program.config.upstreams[0].limits.queue
            ),
            ("claude-code", 7)
        );
        let argo = load(
            "",
            &[("LOGNAME", "a"), ("HOME", "/h")],
            &[("default_upstream", "argo"), ("upstream.argo.ca_file", "/c.pem")],
        )
        .unwrap();
        match &argo.config.upstreams[0].place {
            UpstreamPlace::Api(api) => assert_eq!(
                (api.ca_file.as_deref(), api.via.is_some()),
                (Some(std::path::Path::new("/c.pem")), true)
            ),
            UpstreamPlace::Program(_) | UpstreamPlace::Sandbox => panic!("no API"),
        }
    }

    #[test]
    fn variables_of_other_tools_are_told() {
        let warnings =
            |vars: &[(&str, &str)]| load("", vars, &[]).unwrap().layers.warnings().join("\n");
        for name in [
            "HTTP_PORT",
            "REQUEST_TIMEOUT_MS",
            "WORKER_CONCURRENCY",
            "MAX_QUEUE_SIZE",
            "MAX_SESSIONS",
            "SESSION_TIMEOUT_MS",
            "AUTH_TOKEN",
        ] {
            let said = warnings(&[(name, "7"), ("HOME", "/h")]);
            assert!(
                said.starts_with(&format!("${name} is another tool's"))
                    && said.contains("here it is `"),
                "{said}"
            );
        }
        assert_eq!(
            warnings(&[
                ("HTTP_PORT", "7"),
                ("SEAWAY_PORT", "8"),
                ("PORT", "9"),
                ("MAX_SESSIONS", "")
            ]),
            ""
        );
    }

    /// What a configuration makes of Argonne's gateway and its tunnel.
    fn argo(
        file: &str,
        vars: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> (String, Option<crate::config::TunnelConfig>) {
        let vars: Vec<_> = [("LOGNAME", "alice"), ("HOME", "/home/alice")]
            .iter()
            .filter(|(name, _)| !vars.iter().any(|(given, _)| given == name))
            .chain(vars)
            .copied()
            .collect();
        let loaded = load(file, &vars, flags).unwrap();
        let upstream = &loaded.config.upstreams[0];
        let UpstreamPlace::Api(api) = &upstream.place else { panic!("it is an API") };
        let credential = match &api.credential.as_ref().unwrap().source {
            crate::config::Source::Value(value) => {
                secrecy::ExposeSecret::expose_secret(value).to_owned()
            }
            other => panic!("{other:?}"),
        };
        let (_, user) = &upstream.set_chat[0];
        (
            format!(
                "{} {} {credential} {user} {}",
                loaded.config.listen[0], api.base_url, upstream.always_stream
            ),
            api.via.as_deref().cloned(),
        )
    }

    /// The same of tunnels.
    const MISTAKEN_WAYS: &[Mistaken] = &[
        ("default_upstream = 'argo'", &[("CELS_USERNAME", " ")], "$CELS_USERNAME: it is empty"),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'https://h'\nvia = 'x'",
            &[],
            "no tunnel is called `x`; none is configured",
        ),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'https://h'\nvia = 'x'\n[tunnel.x]\njump = 'j'",
            &[],
            "`host` is missing",
        ),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'https://h'\nvia = 'x'\nsocket = '/s'\n[tunnel.x]\nhost = 'h'",
            &[],
            "`socket` and `via`",
        ),
        (
            "[upstream.a]\nkind = 'messages'\nbase_url = 'http://h'\nvia = 'x'\n[tunnel.x]\nhost = 'h'",
            &[],
            "has to be `https`",
        ),
    ];

    #[test]
    fn argo_is_a_preset_that_can_be_overridden() {
        for (file, variables, what) in MISTAKEN_WAYS {
            refused(file, variables, what);
        }
        let said = [("default_upstream", "argo")];
        let way = |tunnel: &Option<crate::config::TunnelConfig>| {
            let tunnel = tunnel.as_ref().unwrap();
            format!(
                "{:?} {} by {:?} {:?}",
                tunnel.user.as_deref().unwrap_or(""),
                tunnel.host,
                tunnel.jump.as_deref(),
                tunnel.open_at
            )
        };
        let (plain, tunnel) = argo("", &[], &said);
        assert_eq!(
            plain,
            "http://127.0.0.1:22025 https://apps.inside.anl.gov/argoapi alice \"alice\" true"
        );
        assert_eq!(
            way(&tunnel),
            r#""alice" homes.cels.anl.gov by Some("logins.cels.anl.gov") None"#
        );
        let (plain, tunnel) = argo(
            "",
            &[("CELS_USERNAME", "cels"), ("ARGO_USER", "argo")],
            &[("argo.env", "dev"), ("argo.jump", ""), ("argo.host", "h"), said[0]],
        );
        assert_eq!(
            plain,
            "http://127.0.0.1:22025 https://apps-dev.inside.anl.gov/argoapi argo \"argo\" true"
        );
        assert_eq!(way(&tunnel), r#""cels" h by Some("") None"#);
        let file = "port = 7\n[upstream.argo]\nkind = 'argo'\nstream = 'asked'\napi_key = 'k'\n[tunnel.cels]\nhost = 'file'\nuser = 'u'\n[argo]\nhost = 'weaker'\n";
        let (plain, tunnel) = argo(file, &[("CELS_USERNAME", "cels")], &[]);
        assert_eq!(
            plain,
            "http://127.0.0.1:7 https://apps.inside.anl.gov/argoapi k \"cels\" false"
        );
        assert_eq!(way(&tunnel), r#""u" file by Some("logins.cels.anl.gov") None"#);
        let (_, tunnel) = argo(file, &[], &[("argo.host", "flag")]);
        assert!(way(&tunnel).contains("flag by"), "a flag beats a file");
        let (_, tunnel) =
            argo(file, &[], &[("argo.tunnel_host", "uan"), ("argo.tunnel_port", "99")]);
        assert_eq!(
            way(&tunnel),
            r#""" uan by None Some(99)"#,
            "the machine that holds it open is another"
        );
        assert!(argo("", &[], &[("argo.direct", "true"), said[0]]).1.is_none());
    }

    #[test]
    fn a_tunnel_is_configured_by_flags_too_and_its_host_is_a_name() {
        let own = "[upstream.a]\nkind = 'messages'\nbase_url = 'https://h'\nvia = 'x'\n[tunnel.x]\nhost = 'h'\n";
        let loaded = load(own, &[], &[("argo.host", "flag"), ("argo.tunnel_port", "7")]).unwrap();
        let UpstreamPlace::Api(api) = &loaded.config.upstreams[0].place else {
            panic!("it is an API")
        };
        let tunnel = api.via.as_deref().unwrap();
        assert_eq!(
            (tunnel.host.as_str(), tunnel.tunnel_port, tunnel.user.as_deref()),
            ("flag", 7, None),
            "flags are for any tunnel"
        );
        for host in ["-oProxyCommand=x", "a b", "a;b", "$(a)"] {
            refused(
                &format!(
                    "[upstream.a]\nkind = 'messages'\nbase_url = 'https://h'\nvia = 'x'\n[tunnel.x]\nhost = '{host}'"
                ),
                &[],
                "is no name of a machine",
            );
        }
    }

    #[test]
    fn what_ships_can_be_overridden() {
        let loaded =
            load("[price.'claude-opus-4-5*']\ninput = 1\n[preset.terse]\nsystem = 'x'\n", &[], &[])
                .unwrap();
        let of = |loaded: &Loaded| {
            let day = jiff::civil::date(2026, 11, 29);
            let (entry, price) =
                loaded.config.prices.find("claude-opus-4-5-20251101", day).unwrap();
            (entry.own, price.rates.input, price.rates.output)
        };
        assert_eq!(of(&loaded), (true, 1_000_000, 25_000_000));
        let wider = format!("{}[price.'claude-*']\ninput = 2\noutput = 3\n", "\n".repeat(200));
        let wider = load(&wider, &[], &[]).unwrap();
        assert_eq!(
            of(&wider),
            (true, 2_000_000, 3_000_000),
            "the owner's pattern beats what ships, wherever it stands"
        );
        assert_eq!(loaded.config.presets[0].system.as_deref(), Some("x"));
    }

    #[test]
    fn an_exact_alias_beats_a_pattern() {
        let loaded = load("[alias]\n'gpt-*' = 'a'\n'gpt-4o' = 'b'\n", &[], &[]).unwrap();
        assert_eq!(loaded.config.aliases[0].1, "b");
    }
}
