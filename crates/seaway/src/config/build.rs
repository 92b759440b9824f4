//! From layers to [`Config`]: what each setting means, and what goes together.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use secrecy::SecretString;

use super::layers::{Layers, Origin, dotted};
use super::value::Value;
use super::{
    Api, Auth, Carrier, Config, Credential, Edits, Environment, Glob, Limits, Listen, Log, Place, Preset, Price, Proxy, Route, Source, Store, Upstream, UpstreamName, paths,
    settings,
};

const DEFAULTS: &str = include_str!("defaults.toml");
const ANTHROPIC: &str = "https://api.anthropic.com";

/// Builds the configuration; what cannot be right is left in the layers as mistakes.
pub(super) fn config(layers: &mut Layers, environment: &Environment) -> Config {
    layers.add_file(Path::new("(built in)"), DEFAULTS);
    let mut reader = Reader { layers, environment };
    let listen = reader.listen();
    let upstreams = reader.upstreams(&listen);
    let state_dir = reader.text("state_dir").map_or_else(|| paths::state_dir(environment), |text| reader.path(&text));
    let config = Config {
        auth: reader.auth(&listen),
        hosts: reader.texts("hosts"),
        cors_origins: reader.origins(),
        body_limit: usize::try_from(reader.size("body_limit")).unwrap_or(usize::MAX),
        grace: reader.span("grace"),
        ping: reader.span("ping"),
        watch: reader.flag("watch"),
        threads: reader.threads(),
        log: reader.log(),
        default_model: reader.text("model.default"),
        default_upstream: reader.default_upstream(&upstreams),
        aliases: reader.aliases(),
        routes: reader.routes(&upstreams),
        presets: reader.presets(),
        store: reader.store(&state_dir),
        prices: reader.prices(),
        state_dir,
        upstreams,
        listen,
    };
    if config.log.level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        reader.mistake("log_level", "expected `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `seaway=debug`");
    }
    config
}

struct Reader<'a> {
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

impl Reader<'_> {
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

    fn origin(&self, key: &[String]) -> Origin {
        self.layers.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn mistake(&mut self, name: &str, why: &str) {
        self.mistake_at(&key(name), why);
    }

    fn mistake_at(&mut self, key: &[String], why: &str) {
        let origin = self.origin(key);
        self.layers.mistake(origin, format!("{}: {why}", dotted(key)));
    }

    /// `~/` is the home folder; relative paths stay relative to the working folder.
    fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => paths::home(self.environment).join(rest),
            None => PathBuf::from(text),
        }
    }

    fn listen(&mut self) -> Vec<Listen> {
        let mut addresses = Vec::new();
        for text in self.texts("listen") {
            if let Some(path) = text.strip_prefix("unix:") {
                addresses.push(Listen::Unix(self.path(path)));
                continue;
            }
            match text.to_socket_addrs().map(|mut found| found.next()) {
                Ok(Some(address)) => addresses.push(Listen::Tcp(address)),
                Ok(None) | Err(_) => self.mistake("listen", &format!("`{text}` is no address; expected `HOST:PORT` or `unix:/path`")),
            }
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

    fn threads(&self) -> usize {
        let given = self.count_at(&key("threads")).and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn auth(&mut self, listen: &[Listen]) -> Auth {
        if self.text("auth").as_deref() == Some("none") {
            if !listen.iter().all(Listen::is_local) {
                self.mistake("auth", "`none` is for loopback only; listen on 127.0.0.1, or use `auth = \"key\"`");
            }
            return Auth::Open;
        }
        let mut keys: Vec<(String, SecretString)> = Vec::new();
        let fixed = self.text("api_key").or_else(|| self.environment.get("PROXY_API_KEY").map(str::to_owned));
        keys.extend(fixed.map(|value| ("default".to_owned(), value.into())));
        let named = self.get(&key("keys"));
        let named = named.as_ref().map(Value::entries).unwrap_or_default();
        keys.extend(named.iter().filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned().into()))));
        if keys.iter().any(|(_, value)| secrecy::ExposeSecret::expose_secret(value).trim().is_empty()) {
            self.mistake("keys", "a key is empty");
        }
        if keys.is_empty() { Auth::MadeKey } else { Auth::Keys(keys) }
    }

    fn origins(&mut self) -> Vec<HeaderValue> {
        let mut origins = Vec::new();
        for text in self.texts("cors_origins") {
            match text.parse() {
                Ok(value) if text.contains("://") && !text.ends_with('/') => origins.push(value),
                _ => self.mistake("cors_origins", &format!("`{text}` is no origin; expected something like `https://app.example`")),
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

    fn aliases(&self) -> Vec<(Glob, String)> {
        let map = self.get(&key("alias"));
        let entries = map.as_ref().map(Value::entries).unwrap_or_default();
        let mut aliases: Vec<_> = entries.iter().filter_map(|(name, value)| Some((Glob(name.clone()), value.text()?.to_owned()))).collect();
        // An exact name beats a pattern, wherever they stand.
        aliases.sort_by_key(|(glob, _)| glob.0.contains('*'));
        aliases
    }

    fn default_upstream(&mut self, upstreams: &[Arc<Upstream>]) -> Option<UpstreamName> {
        let name = self.text("default_upstream")?;
        self.known(&key("default_upstream"), &name, upstreams)
    }

    fn known(&mut self, key: &[String], name: &str, upstreams: &[Arc<Upstream>]) -> Option<UpstreamName> {
        let found = upstreams.iter().find(|upstream| &*upstream.name.0 == name);
        if found.is_none() {
            let names: Vec<String> = upstreams.iter().map(|upstream| format!("`{}`", upstream.name)).collect();
            let names = if names.is_empty() { "none is configured".to_owned() } else { format!("there are {}", names.join(", ")) };
            self.mistake_at(key, &format!("no upstream is called `{name}`; {names}"));
        }
        found.map(|upstream| upstream.name.clone())
    }

    fn routes(&mut self, upstreams: &[Arc<Upstream>]) -> Vec<Route> {
        let mut routes = Vec::new();
        for name in self.layers.names("route") {
            let at = below("route", &name, "upstream");
            let listed = self.get(&at).map(|value| value.texts()).unwrap_or_default();
            if listed.is_empty() {
                let origin = self.origin(&below("route", &name, "model"));
                self.layers.mistake(origin, "this route names no `upstream`");
            }
            let targets = listed.iter().filter_map(|listed| self.known(&at, listed, upstreams)).collect();
            let model = self.text_at(&below("route", &name, "model")).unwrap_or_default();
            routes.push(Route { model: Glob(model), upstreams: targets });
        }
        routes
    }

    fn upstreams(&mut self, listen: &[Listen]) -> Vec<Arc<Upstream>> {
        let mut names = self.layers.names("upstream");
        if let Some(implied) = self.implied(&names) {
            names.push(implied);
        }
        names.iter().filter_map(|name| self.upstream(name, listen)).map(Arc::new).collect()
    }

    /// An upstream that is asked for by its kind (`--upstream sandbox`), or, when none is
    /// configured, what the environment offers. Never the simulated one by itself.
    fn implied(&mut self, names: &[String]) -> Option<String> {
        let asked = self.text("default_upstream").filter(|name| ["anthropic", "sandbox"].contains(&name.as_str()) && !names.contains(name));
        if asked.is_none() && !names.is_empty() {
            return None;
        }
        let credential = CREDENTIALS.iter().find(|(variable, _)| self.environment.get(variable).is_some());
        let kind = asked.or_else(|| credential.map(|_| "anthropic".to_owned()))?;
        let origin = self.origin(&key("default_upstream"));
        self.layers.add(below("upstream", &kind, "kind"), Value::Text(kind.clone()), origin);
        Some(kind)
    }

    fn upstream(&mut self, name: &str, listen: &[Listen]) -> Option<Upstream> {
        let at = |rest: &str| below("upstream", name, rest);
        let Some(kind) = self.text_at(&at("kind")) else {
            let origin = self.layers.iter().find(|(key, _)| key.starts_with(&at("")[..2])).map(|(_, (_, origin))| origin.clone());
            self.layers.mistake(origin.unwrap_or(Origin::Default), format!("upstream.{name}: `kind` is missing: one of `anthropic`, `messages`, `sandbox`"));
            return None;
        };
        let place = if kind == "sandbox" { Place::Sandbox } else { Place::Api(Box::new(self.api(name, &kind, listen)?)) };
        let mut hasher = DefaultHasher::new();
        for (key, (value, _)) in self.layers.iter().filter(|(key, _)| key.starts_with(&at("")[..2])) {
            format!("{key:?}{value:?}").hash(&mut hasher);
        }
        format!("{place:?}").hash(&mut hasher);
        Some(Upstream {
            name: UpstreamName(name.into()),
            place,
            limits: self.limits(name),
            edits: self.edits(name),
            always_stream: self.text_at(&at("stream")).as_deref() == Some("always"),
            fingerprint: hasher.finish(),
        })
    }

    fn api(&mut self, name: &str, kind: &str, listen: &[Listen]) -> Option<Api> {
        let at = |rest: &str| below("upstream", name, rest);
        Some(Api {
            base_url: self.base_url(name, kind, listen)?,
            socket: self.text_at(&at("socket")).map(|text| self.path(&text)),
            credential: self.credential(name, kind),
            passthrough: self.get(&at("passthrough")).and_then(|value| value.flag()).unwrap_or_default(),
            headers: self.headers(&at("headers")),
            ca_file: self.text_at(&at("ca_file")).map(|text| self.path(&text)),
            proxy: self.proxy(&at("proxy")),
            connect_timeout: self.span_at(&at("connect_timeout")),
            idle_timeout: self.span_at(&at("idle_timeout")),
        })
    }

    fn base_url(&mut self, name: &str, kind: &str, listen: &[Listen]) -> Option<Uri> {
        let at = below("upstream", name, "base_url");
        let (text, variable) = match (self.text_at(&at), self.environment.get("ANTHROPIC_BASE_URL")) {
            (Some(text), _) => (text, false),
            (None, Some(text)) if kind == "anthropic" => (text.to_owned(), true),
            (None, _) if kind == "anthropic" => (ANTHROPIC.to_owned(), false),
            (None, _) => {
                let kind = below("upstream", name, "kind");
                let origin = self.origin(&kind);
                self.layers.mistake(origin, format!("{}: `base_url` is missing", dotted(&kind[..2])));
                return None;
            }
        };
        let origin = if variable { Origin::Variable("ANTHROPIC_BASE_URL".into()) } else { self.origin(&at) };
        match parse_base_url(&text) {
            Ok(uri) if is_own(&uri, listen) => {
                self.layers.mistake(origin, format!("`{text}` is Seaway's own address: requests would go round in a circle"));
                None
            }
            Ok(uri) => Some(uri),
            Err(why) => {
                self.layers.mistake(origin, format!("{}: `{text}` {why}", dotted(&at)));
                None
            }
        }
    }

    fn credential(&mut self, name: &str, kind: &str) -> Option<Credential> {
        for (group, carrier) in [("api_key", Carrier::ApiKey), ("bearer", Carrier::Bearer)] {
            if let Some(source) = self.source(name, group) {
                return Some(Credential { carrier, source });
            }
        }
        if kind != "anthropic" {
            return None;
        }
        let found = CREDENTIALS.iter().find_map(|(variable, carrier)| Some((self.environment.get(variable)?, *carrier)));
        found.map(|(value, carrier)| Credential { carrier, source: Source::Value(value.to_owned().into()) })
    }

    fn source(&mut self, name: &str, group: &str) -> Option<Source> {
        let at = |rest: &str| below("upstream", name, &format!("{group}.{rest}"));
        if let Some(value) = self.text_at(&at("value")) {
            return Some(Source::Value(value.into()));
        }
        if let Some(variable) = self.text_at(&at("env")) {
            let unset = || Source::Unset(format!("the variable `{variable}` is not set"));
            return Some(self.environment.get(&variable).map_or_else(unset, |value| Source::Value(value.to_owned().into())));
        }
        if let Some(file) = self.text_at(&at("file")) {
            let path = self.path(&file);
            if path.file_name().is_some_and(|name| name == ".credentials.json") {
                self.mistake_at(&at("file"), "this is Claude Code's own login; a Claude plan is reached through the official program only, with `kind = \"claude-code\"`");
            }
            return Some(Source::File { path, pointer: self.text_at(&at("pointer")), expires_pointer: self.text_at(&at("expires_pointer")) });
        }
        let line = self.text_at(&at("command"))?;
        Some(Source::Command { line, ttl: self.span_at(&at("ttl")) })
    }

    fn headers(&mut self, at: &[String]) -> Vec<(HeaderName, HeaderValue)> {
        let map = self.get(at);
        let mut headers = Vec::new();
        for (name, value) in map.as_ref().map(Value::entries).unwrap_or_default() {
            let parsed = (name.parse::<HeaderName>(), value.text().unwrap_or_default().parse::<HeaderValue>());
            match parsed {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                _ => self.mistake_at(at, &format!("`{name}` is no header, or its value is none")),
            }
        }
        headers
    }

    fn proxy(&mut self, at: &[String]) -> Proxy {
        let variable = |names: [&str; 2]| names.iter().find_map(|name| self.environment.get(name)).map(str::to_owned);
        let except = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let (https, except, origin) = match self.text_at(at).as_deref() {
            Some("none") => return Proxy::None,
            Some("env") | None => {
                let set = variable(["HTTPS_PROXY", "https_proxy"]).or_else(|| variable(["ALL_PROXY", "all_proxy"]));
                let Some(https) = set else { return Proxy::None };
                (https, except, Origin::Variable("HTTPS_PROXY".into()))
            }
            Some(url) => (url.to_owned(), String::new(), self.origin(at)),
        };
        if !https.starts_with("http://") && https.contains("://") {
            self.layers.mistake(origin, format!("{}: only `http://` proxies are supported; `none` uses no proxy", dotted(at)));
        }
        Proxy::Through { https, except }
    }

    fn limits(&mut self, name: &str) -> Limits {
        let at = |rest: &str| below("upstream", name, rest);
        let count = |reader: &Self, rest: &str| reader.count_at(&at(rest)).and_then(|count| usize::try_from(count).ok());
        let concurrency = count(self, "concurrency");
        if concurrency == Some(0) {
            self.mistake_at(&at("concurrency"), "must be at least 1");
        }
        let listed = match self.get(&at("retry_on")) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        };
        let retry_on: Vec<u16> = listed.iter().filter_map(Value::count).filter_map(|status| u16::try_from(status).ok()).collect();
        if retry_on.iter().any(|status| !(400..600).contains(status)) {
            self.mistake_at(&at("retry_on"), "expected statuses from 400 to 599");
        }
        Limits {
            concurrency,
            queue: count(self, "queue").unwrap_or_default(),
            queue_timeout: self.span_at(&at("queue_timeout")),
            first_byte_timeout: self.span_at(&at("first_byte_timeout")),
            retries: self.count_at(&at("retries")).and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            retry_on,
        }
    }

    fn edits(&self, name: &str) -> Edits {
        let at = |rest: &str| below("upstream", name, rest);
        let flag = |rest: &str| self.get(&at(rest)).and_then(|value| value.flag()).unwrap_or_default();
        Edits {
            system_prefix: self.text_at(&at("system_prefix")),
            strip_cache_ttl: flag("strip_cache_ttl"),
            one_sampling_param: flag("one_sampling_param"),
            drop_strict_tools: self.text_at(&at("strict_tools")).as_deref() == Some("drop"),
            drop: self.get(&at("drop")).map(|value| value.texts()).unwrap_or_default(),
            set: self.json_members(&at("set")),
        }
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
            if RESERVED.contains(&name.as_str()) || name.is_empty() || name.contains('/') {
                let origin = self.layers.iter().find(|(key, _)| key.starts_with(&at("")[..2])).map(|(_, (_, origin))| origin.clone());
                self.layers.mistake(origin.unwrap_or(Origin::Default), format!("preset.{name}: this name is a path of the API; choose another"));
            }
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

    fn store(&self, state_dir: &Path) -> Store {
        let path = match self.text("store.path").as_deref() {
            Some(":memory:") => None,
            Some(path) => Some(self.path(path)),
            None => Some(state_dir.join("seaway.db")),
        };
        Store { path, retention: self.span("store.retention") }
    }

    fn prices(&mut self) -> Vec<(Glob, Price)> {
        let mut prices = Vec::new();
        for name in self.layers.names("price") {
            let amount = |rest: &str| self.get(&below("price", &name, rest)).and_then(|value| value.amount());
            let (Some(input), Some(output)) = (amount("input"), amount("output")) else {
                self.layers.mistake(Origin::Default, format!("price.\"{name}\": needs both `input` and `output`"));
                continue;
            };
            let price = Price {
                input,
                output,
                cache_read: amount("cache_read").unwrap_or(input * 0.1),
                cache_write: amount("cache_write").unwrap_or(input * 1.25),
                cache_write_1h: amount("cache_write_1h").unwrap_or(input * 2.0),
            };
            prices.push((Glob(name), price));
        }
        prices
    }
}

/// Variables that people have set for Anthropic's own tools, strongest first.
const CREDENTIALS: [(&str, Carrier); 3] = [("ANTHROPIC_API_KEY", Carrier::ApiKey), ("ANTHROPIC_AUTH_TOKEN", Carrier::Bearer), ("CLAUDE_ACCESS_TOKEN", Carrier::Bearer)];

/// Names that a preset's path would collide with.
const RESERVED: [&str; 9] = ["messages", "models", "files", "chat", "completions", "responses", "run", "tasks", "sessions"];

fn tcp(listen: &mut Listen) -> Option<&mut SocketAddr> {
    match listen {
        Listen::Tcp(address) => Some(address),
        Listen::Unix(_) => None,
    }
}

/// A base URL without a slash or `/v1` at its end.
fn parse_base_url(text: &str) -> Result<Uri, &'static str> {
    let trimmed = text.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed);
    let uri: Uri = trimmed.parse().map_err(|_| "is no address; expected something like `https://host/path`")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err("has no scheme or host; expected something like `https://host/path`");
    }
    if uri.query().is_some() {
        return Err("has a query; expected an address alone");
    }
    Ok(uri)
}

fn is_own(uri: &Uri, listen: &[Listen]) -> bool {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let ip = host.parse::<std::net::IpAddr>().ok();
    listen.iter().any(|listen| match listen {
        Listen::Tcp(own) => own.port() == port && (host == "localhost" || ip.is_some_and(|ip| ip == own.ip() || (ip.is_loopback() && own.ip().is_unspecified()))),
        Listen::Unix(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, Environment, Loaded, Place, Sources};

    fn load(file: &str, vars: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        Config::load(&Sources { file: Some(path.path().into()), flags: owned(flags), environment: Environment::of(owned(vars)) })
    }

    #[track_caller]
    fn refused(file: &str, vars: &[(&str, &str)], what: &str) {
        let error = load(file, vars, &[]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        refused("listen = '0.0.0.0:1'\nauth = 'none'", &[], "for loopback only");
        refused("listen = 'nowhere'", &[], "is no address");
        refused("[upstream.a]\nbase_url = 'http://x'", &[], "`kind` is missing");
        refused("[upstream.a]\nkind = 'messages'", &[], "`base_url` is missing");
        refused("[upstream.a]\nkind = 'messages'\nbase_url = 'x'", &[], "has no scheme");
        refused("[upstream.a]\nkind = 'messages'\nbase_url = 'http://127.0.0.1:7329/'", &[], "own address");
        refused("", &[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", "http://localhost:7329")], "$ANTHROPIC_BASE_URL: `http://localhost:7329` is Seaway's own address");
        refused("[upstream.a]\nkind = 'anthropic'\napi_key.file = '~/.claude/.credentials.json'", &[], "official program only");
        refused("[upstream.a]\nkind = 'sandbox'\n[[route]]\nmodel = '*'\nupstream = 'b'", &[], "no upstream is called `b`; there are `a`");
        refused("[preset.messages]\nsystem = 'x'", &[], "is a path of the API");
        refused("[upstream.a]\nkind = 'sandbox'\nconcurrency = 0", &[], "at least 1");
        refused("log_level = 'a=b=c'", &[], "log_level: expected");
    }

    #[test]
    fn the_environment_offers_an_upstream_only_when_none_is_configured() {
        let name = |loaded: &Loaded| loaded.config.upstreams.first().map(|upstream| upstream.name.to_string());
        assert_eq!(name(&load("", &[], &[]).unwrap()), None);
        assert_eq!(name(&load("", &[("ANTHROPIC_AUTH_TOKEN", "t")], &[]).unwrap()).as_deref(), Some("anthropic"));
        assert_eq!(name(&load("", &[("ANTHROPIC_API_KEY", "t")], &[("default_upstream", "sandbox")]).unwrap()).as_deref(), Some("sandbox"));
        let loaded = load("[upstream.a]\nkind = 'messages'\nbase_url = 'http://h/p/v1/'", &[("ANTHROPIC_API_KEY", "t")], &[]).unwrap();
        assert_eq!(loaded.config.upstreams.len(), 1);
        match &loaded.config.upstreams[0].place {
            Place::Api(api) => assert_eq!((api.base_url.to_string().as_str(), api.credential.is_none()), ("http://h/p", true)),
            Place::Sandbox => panic!("not a sandbox"),
        }
    }

    #[test]
    fn what_ships_can_be_overridden() {
        let loaded = load("[price.'claude-opus-4-5*']\ninput = 1\n[preset.terse]\nsystem = 'x'\n", &[], &[]).unwrap();
        let price = loaded.config.prices.iter().find(|(glob, _)| glob.matches("claude-opus-4-5-20251101")).unwrap().1;
        assert_eq!((price.input, price.output), (1.0, 25.0));
        assert_eq!(loaded.config.presets[0].system.as_deref(), Some("x"));
    }

    #[test]
    fn an_exact_alias_beats_a_pattern() {
        let loaded = load("[alias]\n'gpt-*' = 'a'\n'gpt-4o' = 'b'\n", &[], &[]).unwrap();
        assert_eq!(loaded.config.aliases[0].1, "b");
    }
}
