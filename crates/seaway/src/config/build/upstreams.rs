//! The upstreams of a configuration, and what the environment offers when there is none.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use seaway_wire::Dialect;

use super::{ConfigReader, below, key};
use crate::config::layers::{ValueOrigin, dotted};
use crate::config::show::without_userinfo;
use crate::config::value::Value;
use crate::config::{
    ApiConfig, Carrier, CredentialConfig, Edits, Glob, Limits, Listen, OWN_LOGIN, PLAN_TOKEN,
    Proxy, Source, UpstreamConfig, UpstreamKind, UpstreamName, UpstreamPlace, Vendor,
};

/// Variables that people have set for Anthropic's own tools, strongest first.
pub(super) const CREDENTIALS: [(&str, Carrier); 3] = [
    ("ANTHROPIC_API_KEY", Carrier::ApiKey),
    ("ANTHROPIC_AUTH_TOKEN", Carrier::Bearer),
    ("CLAUDE_ACCESS_TOKEN", Carrier::Bearer),
];

impl ConfigReader<'_> {
    pub(super) fn upstreams(&mut self, listen: &[Listen]) -> Vec<Arc<UpstreamConfig>> {
        let mut names = self.layers.names("upstream");
        self.lay_over(&names);
        if let Some(implied) = self.implied(&names, listen) {
            names.push(implied);
        }
        names.iter().filter_map(|name| self.upstream(name, listen)).map(Arc::new).collect()
    }

    /// What is said of a built-in upstream by its name alone is laid over what it is.
    fn lay_over(&mut self, names: &[String]) {
        for name in names.iter().filter(|name| UpstreamKind::of_name(name).is_some()) {
            let kind = below("upstream", name, "kind");
            if self.layers.get(&kind).is_none() {
                let origin = self.group_origin(&kind[..2]);
                self.layers.add(kind, Value::Text(name.clone()), origin);
            }
        }
    }

    /// An upstream that is asked for by its kind (`--upstream sandbox`), or, when none is
    /// configured, what the environment offers. Never the simulated one by itself.
    fn implied(&mut self, names: &[String], listen: &[Listen]) -> Option<String> {
        let asked = self
            .text("default_upstream")
            .filter(|name| UpstreamKind::of_name(name).is_some() && !names.contains(name));
        if asked.is_none() && !names.is_empty() {
            return None;
        }
        let credential =
            CREDENTIALS.iter().find(|(variable, _)| self.environment.get(variable).is_some());
        let local = listen.iter().all(Listen::is_local);
        let there = self.given_path().is_some() || self.program_path().is_some();
        if there && !local && asked.is_none() && credential.is_none() {
            self.layers.warn("Claude Code is installed, but a plan's login serves its owner alone: it is used on loopback only, or with `claude_code.remote = true` and an upstream of that kind".into());
        }
        let installed = || local && there;
        let offered = || {
            credential
                .map(|_| UpstreamKind::Http(Vendor::Anthropic))
                .or_else(|| installed().then_some(UpstreamKind::ClaudeCode))
        };
        let kind = asked.or_else(|| offered().map(|kind| kind.name().to_owned()))?;
        let origin = self.origin(&key("default_upstream"));
        self.layers.add(below("upstream", &kind, "kind"), Value::Text(kind.clone()), origin);
        Some(kind)
    }

    fn upstream(&mut self, name: &str, listen: &[Listen]) -> Option<UpstreamConfig> {
        let at = |rest: &str| below("upstream", name, rest);
        let Some(kind) = self.text_at(&at("kind")).and_then(|kind| UpstreamKind::parse(&kind))
        else {
            let origin = self.group_origin(&at("")[..2]);
            self.layers.mistake(origin, format!("upstream.{name}: `kind` is missing: one of `anthropic`, `messages`, `claude-code`, `argo`, `sandbox`"));
            return None;
        };
        if kind == UpstreamKind::ARGO {
            self.expand_argo(name);
        }
        let place = match kind {
            UpstreamKind::Sandbox => UpstreamPlace::Sandbox,
            UpstreamKind::ClaudeCode => {
                UpstreamPlace::Program(Box::new(self.program(name, listen)?))
            }
            UpstreamKind::Http(vendor) => {
                UpstreamPlace::Api(Box::new(self.api(name, vendor, listen)?))
            }
        };
        let fingerprint = self.fingerprint(name, kind, &place);
        let mut limits = self.limits(name);
        if kind == UpstreamKind::ClaudeCode {
            limits.concurrency = limits.concurrency.or_else(|| self.workers());
        }
        let upstream = UpstreamConfig {
            name: UpstreamName(name.into()),
            place,
            limits,
            edits: self.edits(name),
            speaks: self.speaks(&at("speaks")),
            web_search: self.text_at(&at("web_search")),
            always_stream: self.text_at(&at("stream")).as_deref() == Some("always"),
            translate: self
                .get(&at("translate"))
                .map(|value| value.texts().into_iter().map(Glob).collect()),
            set_chat: self.json_members(&at("set_chat")),
            told: self.told(name, kind),
            match_models: self
                .get(&at("match_models"))
                .and_then(|value| value.flag())
                .unwrap_or_default(),
            fingerprint,
        };
        self.check_speaks(&upstream, kind);
        Some(upstream)
    }

    /// What tells one setting of an upstream from another.
    fn fingerprint(&self, name: &str, kind: UpstreamKind, place: &UpstreamPlace) -> u64 {
        let at = |rest: &str| below("upstream", name, rest);
        let mut hasher = DefaultHasher::new();
        let counts = |key: &[String]| {
            key.starts_with(&at("")[..2])
                || (kind == UpstreamKind::ClaudeCode
                    && ["claude_code", "model", "strict"].contains(&key[0].as_str()))
        };
        for (key, (value, _)) in self.layers.iter().filter(|(key, _)| counts(key)) {
            format!("{key:?}{value:?}").hash(&mut hasher);
        }
        format!("{place:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// An upstream cannot be asked in what its kind does not speak, nor edited in what it does not.
    fn check_speaks(&mut self, upstream: &UpstreamConfig, kind: UpstreamKind) {
        let at = |rest: &str| below("upstream", &upstream.name.0, rest);
        if kind != UpstreamKind::ClaudeCode && self.get(&at("spill_at")).is_some() {
            self.mistake_at(
                &at("spill_at"),
                "only a plan (`kind = \"claude-code\"`) tells how much of it is used",
            );
        }
        if !matches!(upstream.place, UpstreamPlace::Api(_))
            && upstream.speaks != [Dialect::Messages]
        {
            self.mistake_at(
                &at("speaks"),
                &format!("an upstream of kind `{}` speaks `messages` only", kind.name()),
            );
        }
        if upstream.edits_messages() && !upstream.speaks.contains(&Dialect::Messages) {
            self.mistake_at(
                &at("speaks"),
                "requests can only be edited in `messages`; add it, or take the edits out",
            );
        }
    }

    fn api(&mut self, name: &str, vendor: Vendor, listen: &[Listen]) -> Option<ApiConfig> {
        let at = |rest: &str| below("upstream", name, rest);
        let via = self.via(name, vendor);
        if via.is_some() && self.text_at(&at("socket")).is_some() {
            self.mistake_at(
                &at("socket"),
                "`socket` and `via` are two ways to one place; leave one out",
            );
        }
        let base_url = self.base_url(name, Some(vendor), listen)?;
        if via.is_some() && base_url.scheme_str() != Some("https") {
            self.mistake_at(&at("base_url"), "what is reached by a tunnel has to be `https`: it proves its name, whoever is in between");
        }
        Some(ApiConfig {
            base_url,
            socket: self.text_at(&at("socket")).map(|text| self.path(&text)),
            via,
            vendor,
            credential: self.credential(name, Some(vendor)),
            passthrough: self
                .get(&at("passthrough"))
                .and_then(|value| value.flag())
                .unwrap_or_default(),
            headers: self.headers(&at("headers")),
            ca_file: self.text_at(&at("ca_file")).map(|text| self.path(&text)),
            proxy: self.proxy(&at("proxy")),
            connect_timeout: self.span_at(&at("connect_timeout")),
            keepalive: self
                .count_at(&at("keepalive"))
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            lane: self.lane(),
            idle_timeout: self.span_at(&at("idle_timeout")),
        })
    }

    pub(super) fn base_url(
        &mut self,
        name: &str,
        vendor: Option<Vendor>,
        listen: &[Listen],
    ) -> Option<Uri> {
        let at = below("upstream", name, "base_url");
        let (text, variable) = match (self.text_at(&at), self.environment.get("ANTHROPIC_BASE_URL"))
        {
            (Some(text), _) => (text, false),
            (None, Some(text)) if vendor.is_some_and(Vendor::takes_variables) => {
                (text.to_owned(), true)
            }
            (None, _) => {
                if let Some(home) = vendor.and_then(Vendor::home) {
                    return home.parse().ok();
                }
                let kind = below("upstream", name, "kind");
                let origin = self.origin(&kind);
                self.layers
                    .mistake(origin, format!("{}: `base_url` is missing", dotted(&kind[..2])));
                return None;
            }
        };
        let origin = if variable {
            ValueOrigin::Variable("ANTHROPIC_BASE_URL".into())
        } else {
            self.origin(&at)
        };
        match parse_base_url(&text) {
            Ok(uri) if is_own(&uri, listen) => {
                self.layers.mistake(
                    origin,
                    format!(
                        "`{text}` is Seaway's own address: requests would go round in a circle"
                    ),
                );
                None
            }
            Ok(uri) => Some(uri),
            Err(why) => {
                let shown = without_userinfo(&text);
                self.layers.mistake(origin, format!("{}: `{shown}` {why}", dotted(&at)));
                None
            }
        }
    }

    pub(super) fn credential(
        &mut self,
        name: &str,
        vendor: Option<Vendor>,
    ) -> Option<CredentialConfig> {
        for (group, carrier) in [("api_key", Carrier::ApiKey), ("bearer", Carrier::Bearer)] {
            if let Some(source) = self.source(name, group) {
                return Some(CredentialConfig { carrier, source });
            }
        }
        match vendor {
            Some(Vendor::Argo) => return Some(self.argo_credential()),
            Some(vendor) if vendor.takes_variables() => {}
            Some(_) | None => return None,
        }
        let (variable, carrier) =
            CREDENTIALS.iter().find(|(variable, _)| self.environment.get(variable).is_some())?;
        let value = self.environment.get(variable)?.to_owned();
        if value.trim_start().starts_with(PLAN_TOKEN) {
            self.layers.mistake(
                ValueOrigin::Variable((*variable).to_owned()),
                format!("${variable}: {OWN_LOGIN}"),
            );
        }
        Some(CredentialConfig { carrier: *carrier, source: Source::Value(value.into()) })
    }

    fn source(&mut self, name: &str, group: &str) -> Option<Source> {
        let at = |rest: &str| below("upstream", name, &format!("{group}.{rest}"));
        if let Some(value) = self.text_at(&at("value")) {
            if value.trim_start().starts_with(PLAN_TOKEN) {
                self.mistake_at(&at("value"), OWN_LOGIN);
            }
            return Some(Source::Value(value.into()));
        }
        if let Some(variable) = self.text_at(&at("env")) {
            if self
                .environment
                .get(&variable)
                .is_some_and(|value| value.trim_start().starts_with(PLAN_TOKEN))
            {
                self.mistake_at(&at("env"), OWN_LOGIN);
            }
            let unset = || Source::Unset(format!("the variable `{variable}` is not set"));
            return Some(
                self.environment
                    .get(&variable)
                    .map_or_else(unset, |value| Source::Value(value.to_owned().into())),
            );
        }
        if let Some(file) = self.text_at(&at("file")) {
            let path = self.path(&file);
            if path.file_name().is_some_and(|name| name == ".credentials.json") {
                self.mistake_at(&at("file"), OWN_LOGIN);
            }
            return Some(Source::File {
                path,
                pointer: self.text_at(&at("pointer")),
                expires_pointer: self.text_at(&at("expires_pointer")),
            });
        }
        let line = self.text_at(&at("command"))?;
        Some(Source::Command { line, ttl: self.span_at(&at("ttl")) })
    }

    fn headers(&mut self, at: &[String]) -> Vec<(HeaderName, HeaderValue)> {
        let map = self.get(at);
        let mut headers = Vec::new();
        for (name, value) in map.as_ref().map(Value::entries).unwrap_or_default() {
            let parsed = (
                name.parse::<HeaderName>(),
                value.text().unwrap_or_default().parse::<HeaderValue>(),
            );
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
        let variable = |names: [&str; 2]| {
            names.iter().find_map(|name| self.environment.get(name)).map(str::to_owned)
        };
        let except = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let (https, except, origin, plain) = match self.text_at(at).as_deref() {
            Some("none") => return Proxy::None,
            Some("env") | None => {
                let set = variable(["HTTPS_PROXY", "https_proxy"])
                    .or_else(|| variable(["ALL_PROXY", "all_proxy"]));
                let Some(https) = set else { return Proxy::None };
                (https, except, ValueOrigin::Variable("HTTPS_PROXY".into()), false)
            }
            Some(url) => (url.to_owned(), String::new(), self.origin(at), true),
        };
        if !https.starts_with("http://") && https.contains("://") {
            self.layers.mistake(
                origin,
                format!(
                    "{}: only `http://` proxies are supported; `none` uses no proxy",
                    dotted(at)
                ),
            );
        }
        Proxy::Through { url: https, except, plain }
    }

    fn speaks(&mut self, at: &[String]) -> Vec<Dialect> {
        let named = self.get(at).map(|value| value.texts()).unwrap_or_default();
        let known = |name: &str| {
            [Dialect::Messages, Dialect::Chat, Dialect::Responses]
                .into_iter()
                .find(|dialect| dialect.name() == name)
        };
        if let Some(name) = named.iter().find(|name| known(name).is_none()) {
            self.mistake_at(at, &format!("`{name}` is no dialect that an upstream can be asked in; expected `messages`, `chat` or `responses`"));
        }
        if named.is_empty() {
            self.mistake_at(at, "expected `messages`, `chat`, `responses` or several of them");
        }
        named.iter().filter_map(|name| known(name)).collect()
    }

    fn limits(&mut self, name: &str) -> Limits {
        let at = |rest: &str| below("upstream", name, rest);
        let count = |reader: &Self, rest: &str| {
            reader.count_at(&at(rest)).and_then(|count| usize::try_from(count).ok())
        };
        let concurrency = count(self, "concurrency");
        if concurrency.is_some_and(|most| !(1..=1_000_000).contains(&most)) {
            self.mistake_at(&at("concurrency"), "must be from 1 to 1000000");
        }
        let listed = match self.get(&at("retry_on")) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        };
        let retry_on: Vec<u16> = listed
            .iter()
            .filter_map(Value::count)
            .filter_map(|status| u16::try_from(status).ok())
            .collect();
        if retry_on.iter().any(|status| !(400..600).contains(status)) {
            self.mistake_at(&at("retry_on"), "expected statuses from 400 to 599");
        }
        Limits {
            concurrency,
            queue: count(self, "queue").unwrap_or_default(),
            queue_timeout: self.span_at(&at("queue_timeout")),
            first_byte_timeout: self.span_at(&at("first_byte_timeout")),
            retries: self
                .count_at(&at("retries"))
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or_default(),
            retry_on,
        }
    }

    /// What routing goes by cannot be edited: the client would get what it did not ask for.
    pub(super) fn no_routing_members(&mut self, at: &[String]) {
        let named = match self.get(at) {
            Some(Value::Map(entries)) => entries.into_iter().map(|(name, _)| name).collect(),
            Some(value) => value.texts(),
            None => Vec::new(),
        };
        if let Some(name) =
            named.iter().find(|name| ["model", "stream", "messages"].contains(&name.as_str()))
        {
            self.mistake_at(at, &format!("`{name}` cannot be edited here; use `alias` for models and `stream` for streaming"));
        }
    }

    fn edits(&mut self, name: &str) -> Edits {
        self.no_routing_members(&below("upstream", name, "set"));
        self.no_routing_members(&below("upstream", name, "drop"));
        let at = |rest: &str| below("upstream", name, rest);
        let flag =
            |rest: &str| self.get(&at(rest)).and_then(|value| value.flag()).unwrap_or_default();
        Edits {
            system_prefix: self.text_at(&at("system_prefix")),
            strip_cache_ttl: flag("strip_cache_ttl"),
            one_sampling_param: flag("one_sampling_param"),
            drop_strict_tools: self.text_at(&at("strict_tools")).as_deref() == Some("drop"),
            drop: self.get(&at("drop")).map(|value| value.texts()).unwrap_or_default(),
            set: self.json_members(&at("set")),
        }
    }
}

/// A base URL without a slash or `/v1` at its end.
fn parse_base_url(text: &str) -> Result<Uri, &'static str> {
    let trimmed = text.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed);
    let uri: Uri = trimmed
        .parse()
        .map_err(|_| "is no address; expected something like `https://host/path`")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err("has no scheme or host; expected something like `https://host/path`");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("holds a credential; use `api_key`, `bearer` or `headers`");
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
        Listen::Tcp(own) | Listen::Tls(own) => {
            own.port() == port
                && (host == "localhost"
                    || ip.is_some_and(|ip| {
                        ip == own.ip() || (ip.is_loopback() && own.ip().is_unspecified())
                    }))
        }
        Listen::Unix(_) => false,
    })
}
