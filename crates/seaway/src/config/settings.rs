//! Every setting there is, as data.
//!
//! Flags, variables, the schema, the table in docs/settings.md, `config show` and the
//! checking of a file all read this one table, so they cannot disagree.

use super::kind::UpstreamKind;
use super::{Lane, RouteWhen};

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Flag,
    Count,
    /// US dollars; may have a fraction.
    Amount,
    /// Bytes: `1024`, `"64KiB"`, `"32MiB"`.
    Size,
    /// A time: `"500ms"`, `"30s"`, `"5m"`, `"7d"`; a bare number is seconds.
    Span,
    Choice(&'static [&'static str]),
    /// A list of texts; one text stands for a list of one.
    Texts,
    Counts,
    /// Names of the owner's choosing, each with a text.
    TextMap,
    /// Names of the owner's choosing, each with any value.
    AnyMap,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key, dotted; `*` is a name of the owner's choosing, or a place in a list.
    pub path: &'static str,
    pub kind: Kind,
    /// As it would be written in a variable; empty for none.
    pub default: &'static str,
    pub about: &'static str,
    /// The value is never shown.
    pub secret: bool,
}

const fn plain(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting { path, kind, default, about, secret: false }
}

const fn secret(path: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { path, kind, default: "", about, secret: true }
}

/// All settings, in the order in which people meet them.
pub const SETTINGS: &[Setting] = &[
    plain(
        "listen",
        Kind::Texts,
        "127.0.0.1:7329",
        "addresses to listen on: `HOST:PORT`, `unix:/path`, or with `http://` or `https://` where only some have TLS; with `argo` the port is made of your user name",
    ),
    plain(
        "tls.cert",
        Kind::Text,
        "",
        "a certificate in PEM, with those of its issuers: addresses are served with TLS, and what is renewed is taken over",
    ),
    plain("tls.key", Kind::Text, "", "the key of the certificate, in PEM"),
    plain(
        "tls.client_ca",
        Kind::Text,
        "",
        "clients have to show a certificate of these authorities, or one of these, beside their key",
    ),
    plain(
        "port",
        Kind::Count,
        "",
        "the port of the first TCP address, in place of the one in `listen`",
    ),
    plain(
        "auth",
        Kind::Choice(&["key", "none"]),
        "key",
        "`key`: clients must send a local key; `none`: anyone who reaches us, on loopback only",
    ),
    secret(
        "api_key",
        Kind::Text,
        "a fixed local key, or its hash (`sha256:…`), in place of the one made at first start",
    ),
    secret(
        "keys",
        Kind::TextMap,
        "several local keys with names, or their hashes (`sha256:…`, see `seaway key hash`); the name is the caller in usage and logs",
    ),
    plain(
        "dashboard.callers",
        Kind::Texts,
        "",
        "which callers may sign in to the dashboard, by the names of their keys; nobody named: whoever has a key",
    ),
    plain(
        "admin.callers",
        Kind::Texts,
        "",
        "which callers may give out keys and set budgets over HTTP (`/v1/admin`), by the names of their keys; nobody named: whoever has the made key, or the only one that is configured",
    ),
    plain(
        "time_zone",
        Kind::Text,
        "",
        "by whose days, weeks and months budgets go, such as `Europe/Berlin`; nothing said: the system's",
    ),
    plain(
        "managed",
        Kind::AnyMap,
        "",
        "Claude Code's managed settings, for programs that sign in here (`/login`): what its `managed-settings.json` holds, for all of them",
    ),
    plain(
        "hosts",
        Kind::Texts,
        "",
        "further names that clients may reach us by (the `Host` header)",
    ),
    plain("cors_origins", Kind::Texts, "", "web origins whose pages may call us"),
    plain("body_limit", Kind::Size, "32MiB", "the largest request body"),
    plain(
        "memory_limit",
        Kind::Size,
        "",
        "bytes of requests that are held at once, and as many of answers that are held until they are whole; beyond it requests wait, and are then refused; an eighth of the machine's memory, or of the container's, otherwise",
    ),
    plain(
        "connections",
        Kind::Count,
        "",
        "connections of clients at once, of which the one that asks nothing for longest makes room; as many as the limit of open files leaves otherwise",
    ),
    plain(
        "connections_per_address",
        Kind::Count,
        "",
        "the same of one address; three quarters of all otherwise",
    ),
    plain(
        "head_timeout",
        Kind::Span,
        "10s",
        "how long a new connection has to ask something; 0 for ever",
    ),
    plain(
        "client_idle_timeout",
        Kind::Span,
        "300s",
        "how long a connection may wait between two requests; 0 for ever",
    ),
    plain(
        "send_timeout",
        Kind::Span,
        "60s",
        "how long a client may take nothing of its answer, before it and what works for it are let go; 0 for ever",
    ),
    plain(
        "body_timeout",
        Kind::Span,
        "60s",
        "how long a client may send nothing of a request it has begun; 0 for ever",
    ),
    plain(
        "confine",
        Kind::Flag,
        "true",
        "on Linux the gateway itself may open only its own files and those of the system, and start programs only as its settings say (landlock, seccomp); the programs that it starts are not held by that",
    ),
    plain("grace", Kind::Span, "30s", "how long a drain waits for answers in flight"),
    plain(
        "ready_grace",
        Kind::Span,
        "0s",
        "how long an upstream that cannot be reached still counts as ready, so that not every instance leaves a balancer at once",
    ),
    plain(
        "ping",
        Kind::Span,
        "15s",
        "upstream silence after which a stream gets a ping of ours; 0 for never",
    ),
    plain(
        "strict",
        Kind::Flag,
        "false",
        "refuse what a translation cannot carry over, by name, where `seaway-note` would tell it otherwise",
    ),
    plain("watch", Kind::Flag, "false", "reload when the file is saved"),
    plain(
        "lane",
        Kind::Choice(Lane::NAMES),
        "own",
        "who reads and writes HTTP/1.1 for what models are asked: `own`, our own code, which is quicker, or `hyper`, as for everything else",
    ),
    plain("threads", Kind::Count, "", "threads that serve; one a core otherwise"),
    plain("state_dir", Kind::Text, "", "where the local key, the store and instance records live"),
    plain(
        "strict_modes",
        Kind::Flag,
        "true",
        "refuse a settings file, key or state folder that another user owns or may write; `false` by a flag or variable alone, for a container that nobody else enters",
    ),
    plain(
        "log_level",
        Kind::Text,
        "info",
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `seaway=debug`",
    ),
    plain("log_format", Kind::Choice(&["text", "json"]), "text", "how log lines are written"),
    plain("color", Kind::Choice(&["auto", "always", "never"]), "auto", "colour on a terminal"),
    plain(
        "default_upstream",
        Kind::Text,
        "",
        "where requests go that no route picks; the first upstream otherwise",
    ),
    plain("model.default", Kind::Text, "", "the model where a client names none"),
    plain(
        "models",
        Kind::Texts,
        "",
        "ids to list at `/v1/models` beside those that the upstreams list",
    ),
    plain(
        "models_only",
        Kind::Flag,
        "false",
        "list those of `models` alone; any other may still be asked for",
    ),
    plain(
        "alias",
        Kind::TextMap,
        "",
        "model names that clients may use, and what they stand for; `*` matches anything",
    ),
    plain(
        "route.*.model",
        Kind::Text,
        "*",
        "which models, as asked for by the client or after its alias; `*` matches anything",
    ),
    plain(
        "route.*.when",
        Kind::Choice(RouteWhen::NAMES),
        "always",
        "`budget`: only from 95 % of a cap over the caller on, where a request no longer fits it, and where the plan that would be asked is past its `spill_at`",
    ),
    plain(
        "route.*.ask_model",
        Kind::Text,
        "",
        "the model to ask for in place of the client's, with `when = \"budget\"`",
    ),
    plain(
        "route.*.upstream",
        Kind::Texts,
        "",
        "where they go; the next is tried when one is unreachable, overloaded or rate limited; may be left out beside `ask_model`",
    ),
    plain(
        "upstream.*.kind",
        Kind::Choice(UpstreamKind::NAMES),
        "",
        "`anthropic`: the API; `messages`: anything that speaks it; `claude-code`: the official program under your own login; `argo`: Argonne's gateway, by ssh; `sandbox`: simulated",
    ),
    plain(
        "upstream.*.spill_at",
        Kind::Amount,
        "",
        "the share of a plan's limits, such as `0.95`, from which the other upstreams of its route are asked first, or what a route with `when = \"budget\"` says (`claude-code`)",
    ),
    plain("upstream.*.base_url", Kind::Text, "", "its address, without `/v1`"),
    plain(
        "upstream.*.socket",
        Kind::Text,
        "",
        "a unix socket to reach it through; `base_url` still names it",
    ),
    secret(
        "upstream.*.api_key.value",
        Kind::Text,
        "the credential, sent as `x-api-key`; `api_key = \"…\"` for short",
    ),
    plain("upstream.*.api_key.env", Kind::Text, "", "the variable that holds it"),
    plain(
        "upstream.*.api_key.file",
        Kind::Text,
        "",
        "the file that holds it, read anew when it changes",
    ),
    plain(
        "upstream.*.api_key.pointer",
        Kind::Text,
        "",
        "where in a JSON file it is, such as `/token/access`",
    ),
    plain(
        "upstream.*.api_key.expires_pointer",
        Kind::Text,
        "",
        "where in a JSON file it says when it expires: RFC 3339, or seconds or milliseconds since 1970",
    ),
    plain("upstream.*.api_key.command", Kind::Text, "", "a shell command that prints it"),
    plain(
        "upstream.*.api_key.ttl",
        Kind::Span,
        "5m",
        "how long a printed one is used; a 401 runs the command again",
    ),
    secret(
        "upstream.*.bearer.value",
        Kind::Text,
        "the credential, sent as `Authorization: Bearer`; `bearer = \"…\"` for short",
    ),
    plain("upstream.*.bearer.env", Kind::Text, "", "as for `api_key`"),
    plain("upstream.*.bearer.file", Kind::Text, "", "as for `api_key`"),
    plain("upstream.*.bearer.pointer", Kind::Text, "", "as for `api_key`"),
    plain("upstream.*.bearer.expires_pointer", Kind::Text, "", "as for `api_key`"),
    plain("upstream.*.bearer.command", Kind::Text, "", "as for `api_key`"),
    plain("upstream.*.bearer.ttl", Kind::Span, "5m", "as for `api_key`"),
    plain(
        "upstream.*.via",
        Kind::Text,
        "",
        "the tunnel to reach it by: a name below `tunnel`; empty for none",
    ),
    plain(
        "upstream.*.passthrough",
        Kind::Flag,
        "false",
        "send the client's own credential on, unchanged",
    ),
    secret("upstream.*.headers", Kind::TextMap, "headers to add to every request"),
    plain("upstream.*.ca_file", Kind::Text, "", "certificates to trust besides the system's, PEM"),
    plain(
        "upstream.*.proxy",
        Kind::Text,
        "env",
        "an HTTP proxy, `env` for `HTTPS_PROXY` and `NO_PROXY`, `none`",
    ),
    plain("upstream.*.concurrency", Kind::Count, "", "requests at once; more wait in the queue"),
    plain("upstream.*.queue", Kind::Count, "64", "requests that may wait; more are answered 429"),
    plain("upstream.*.queue_timeout", Kind::Span, "60s", "how long one may wait"),
    plain("upstream.*.connect_timeout", Kind::Span, "10s", "for the connection, TLS included"),
    plain(
        "upstream.*.keepalive",
        Kind::Count,
        "",
        "unused connections that each thread keeps for a minute; as many as were in use at once if not set, 0 for none",
    ),
    plain(
        "upstream.*.first_byte_timeout",
        Kind::Span,
        "600s",
        "from the request to the head of its answer; 0 for no limit",
    ),
    plain(
        "upstream.*.idle_timeout",
        Kind::Span,
        "300s",
        "between two pieces of an answer; 0 for no limit",
    ),
    plain(
        "upstream.*.retries",
        Kind::Count,
        "2",
        "further attempts when there was no answer at all",
    ),
    plain(
        "upstream.*.retry_on",
        Kind::Counts,
        "",
        "statuses that are tried again too, honouring `retry-after`, such as `[529]`",
    ),
    plain(
        "upstream.*.speaks",
        Kind::Texts,
        "messages",
        "the dialects it can be asked in: `messages`, `chat`, `responses`; a client is relayed where it has its own, translated where it has `messages`",
    ),
    plain(
        "upstream.*.web_search",
        Kind::Text,
        "",
        "the server tool that serves `web_search_options`, such as `web_search_20250305`; refused otherwise",
    ),
    plain(
        "upstream.*.stream",
        Kind::Choice(&["asked", "always"]),
        "asked",
        "`always`: ask for a stream even when the client did not, and fold it",
    ),
    plain("upstream.*.system_prefix", Kind::Text, "", "text to put before the system prompt"),
    plain(
        "upstream.*.strip_cache_ttl",
        Kind::Flag,
        "false",
        "take `ttl` out of every `cache_control`",
    ),
    plain(
        "upstream.*.one_sampling_param",
        Kind::Flag,
        "false",
        "leave one of `temperature` and `top_p`",
    ),
    plain(
        "upstream.*.strict_tools",
        Kind::Choice(&["keep", "drop"]),
        "keep",
        "`drop`: take `strict` out of every tool",
    ),
    plain(
        "upstream.*.translate",
        Kind::Texts,
        "",
        "where it speaks OpenAI's dialects too: the models that are asked for in Messages all the same, such as `claude*`; `*` matches anything",
    ),
    plain(
        "upstream.*.set_chat",
        Kind::AnyMap,
        "",
        "members to add to every relayed Chat request that lacks them",
    ),
    plain(
        "upstream.*.match_models",
        Kind::Flag,
        "false",
        "find a model's name in the upstream's list whatever its case and punctuation; unknown names pass",
    ),
    plain("upstream.*.drop", Kind::Texts, "", "members to take out of every request"),
    plain("upstream.*.set", Kind::AnyMap, "", "members to add to every request that lacks them"),
    plain(
        "claude_code.path",
        Kind::Text,
        "",
        "the Claude Code program; `claude` on the PATH otherwise",
    ),
    plain(
        "claude_code.workers",
        Kind::Count,
        "2",
        "how many of its processes answer at once; each takes up to 260 MB. More requests wait in the upstream's `queue`",
    ),
    plain(
        "claude_code.sessions",
        Kind::Count,
        "5",
        "how many conversations are kept warm in a process of their own; the one used longest ago goes first",
    ),
    plain("claude_code.idle", Kind::Span, "5m", "how long such a process waits for the next turn"),
    plain(
        "claude_code.prewarm",
        Kind::Count,
        "0",
        "processes to start with, before anybody asks, and to keep ready; otherwise one, from the first request on and for `idle`",
    ),
    plain(
        "claude_code.retention",
        Kind::Span,
        "7d",
        "how long a named session can be taken up again, also after a restart",
    ),
    plain(
        "claude_code.pass_env",
        Kind::Texts,
        "",
        "further variables that the program is given, such as `AWS_PROFILE`",
    ),
    plain(
        "claude_code.remote",
        Kind::Flag,
        "false",
        "serve a login beyond loopback; a plan is for its owner alone",
    ),
    plain(
        "claude_code.workspace",
        Kind::Texts,
        "",
        "folders that `/v1/run` and `/v1/tasks` may work in; one of ours otherwise",
    ),
    plain(
        "claude_code.tools",
        Kind::Texts,
        "Read,Glob,Grep",
        "tools of the program's own that a run may use when it names none",
    ),
    plain(
        "claude_code.permission",
        Kind::Choice(&["deny", "ask", "allow"]),
        "deny",
        "what becomes of other tools in a run: refused, asked over its stream, or allowed",
    ),
    plain(
        "claude_code.ask_timeout",
        Kind::Span,
        "5m",
        "how long such a question waits for its answer",
    ),
    plain(
        "claude_code.run_timeout",
        Kind::Span,
        "30m",
        "how long a run may take in all; `0s` for as long as it takes",
    ),
    plain(
        "tunnel.*.host",
        Kind::Text,
        "",
        "the machine to log in to by ssh, from which the upstream can be reached",
    ),
    plain(
        "tunnel.*.jump",
        Kind::Text,
        "",
        "the machines to go by, with commas between; empty for none. Not given: as ssh's own settings have it",
    ),
    plain(
        "tunnel.*.user",
        Kind::Text,
        "",
        "the account there; as ssh's own settings have it otherwise",
    ),
    plain("tunnel.*.port", Kind::Count, "", "the port of ssh there"),
    plain(
        "tunnel.*.tunnel_host",
        Kind::Text,
        "",
        "a machine where `seaway tunnel` or `seaway relay` holds this tunnel open already",
    ),
    plain(
        "tunnel.*.tunnel_port",
        Kind::Count,
        "",
        "the port on which it is open there, or is to be opened here; made of the user's name otherwise",
    ),
    plain("tunnel.*.ssh", Kind::Text, "ssh", "the ssh program"),
    plain("tunnel.*.ssh_config", Kind::Text, "~/.ssh/config", "your own settings for it"),
    plain("tunnel.*.probe", Kind::Span, "60s", "how often an open tunnel is looked at"),
    plain(
        "argo.env",
        Kind::Choice(&["prod", "test", "dev"]),
        "prod",
        "which of Argonne's gateways",
    ),
    plain("argo.direct", Kind::Flag, "false", "no tunnel: this machine is inside the network"),
    plain("argo.host", Kind::Text, "", "the machine to log in to; `homes.cels.anl.gov` otherwise"),
    plain(
        "argo.jump",
        Kind::Text,
        "",
        "the machine to go by, or empty; `logins.cels.anl.gov` otherwise",
    ),
    plain(
        "argo.tunnel_host",
        Kind::Text,
        "",
        "a machine where the tunnel is open already; for compute nodes",
    ),
    plain(
        "argo.tunnel_port",
        Kind::Count,
        "",
        "its port there, or here for `tunnel` and `relay`; made of the user's name otherwise",
    ),
    plain(
        "ssh_verbose",
        Kind::Count,
        "0",
        "how much ssh says to the log, up to 3; `-v` sets it too",
    ),
    plain("preset.*.system", Kind::Text, "", "text to put before the system prompt"),
    plain("preset.*.suffix", Kind::Text, "", "text to add to the last user turn"),
    plain(
        "preset.*.suffix_thinking",
        Kind::Text,
        "",
        "the same for requests that think, in place of `suffix`",
    ),
    plain("preset.*.defaults", Kind::AnyMap, "", "members to add to a request that lacks them"),
    plain("store.path", Kind::Text, "", "the SQLite file; `:memory:` keeps nothing"),
    plain(
        "store.retention",
        Kind::Span,
        "365d",
        "how long records are kept; their sums by the hour stay",
    ),
    plain(
        "store.sync",
        Kind::Choice(&["normal", "full"]),
        "normal",
        "`full`: the end of an answer waits until its record is on the disk, and nothing is asked of an upstream while the store cannot be written; for billing",
    ),
    plain(
        "receipts",
        Kind::Choice(&["changed", "always"]),
        "changed",
        "of which requests the BLAKE3 of the body that came and of the one that went is kept: of those that were changed on the way, or of all",
    ),
    plain(
        "responses.limit",
        Kind::Size,
        "512MiB",
        "how much is kept of responses, with the conversations that they belong to; the oldest go first",
    ),
    plain(
        "responses.retention",
        Kind::Span,
        "30d",
        "how long responses are kept, which clients may ask for again and go on from; 0 for not at all",
    ),
    plain(
        "price.*.input",
        Kind::Amount,
        "",
        "US dollars for a million input tokens of the models that match",
    ),
    plain("price.*.output", Kind::Amount, "", "US dollars for a million output tokens"),
    plain(
        "price.*.cache_read",
        Kind::Amount,
        "",
        "US dollars for a million tokens read from the cache; a tenth of `input` otherwise",
    ),
    plain(
        "price.*.cache_write",
        Kind::Amount,
        "",
        "US dollars for a million tokens written to the cache; 1.25 times `input` otherwise",
    ),
    plain(
        "price.*.cache_write_1h",
        Kind::Amount,
        "",
        "US dollars for a million tokens written for an hour; twice `input` otherwise",
    ),
    plain(
        "price.*.fast.input",
        Kind::Amount,
        "",
        "the same where an answer was served fast (`usage.speed`); like the usual ones otherwise",
    ),
    plain("price.*.fast.output", Kind::Amount, "", "output tokens, fast"),
    plain("price.*.fast.cache_read", Kind::Amount, "", "tokens read from the cache, fast"),
    plain(
        "price.*.long.above",
        Kind::Count,
        "",
        "a prompt of more tokens than these has the prices of `long`, for every token of its request",
    ),
    plain("price.*.long.input", Kind::Amount, "", "input tokens, of such a request"),
    plain("price.*.long.output", Kind::Amount, "", "output tokens, of such a request"),
    plain(
        "price.*.long.cache_read",
        Kind::Amount,
        "",
        "tokens read from the cache, of such a request",
    ),
    plain(
        "price.*.from.*.input",
        Kind::Amount,
        "",
        "the same from a day on (`from.\"2026-10-07\"`, in UTC); what is not said stays",
    ),
    plain("price.*.from.*.output", Kind::Amount, "", "output tokens, from that day on"),
    plain(
        "price.*.from.*.cache_read",
        Kind::Amount,
        "",
        "tokens read from the cache, from that day on",
    ),
    plain(
        "price.*.from.*.cache_write",
        Kind::Amount,
        "",
        "tokens written to the cache, from that day on",
    ),
    plain(
        "price.*.from.*.cache_write_1h",
        Kind::Amount,
        "",
        "tokens written for an hour, from that day on",
    ),
    plain(
        "price.multiplier.*",
        Kind::Amount,
        "",
        "what an upstream takes of the list's price: 1.2 for a fifth more, by the name of the upstream",
    ),
];

impl Setting {
    /// True if this is the setting at `path`.
    pub fn is_at(&self, path: &[String]) -> bool {
        let mut own = self.path.split('.');
        path.iter().all(|segment| own.next().is_some_and(|name| name == "*" || name == segment))
            && own.next().is_none()
    }

    /// The flag that sets it, if its path has no names of the owner's choosing.
    pub fn flag(&self) -> Option<String> {
        let fixed = !self.path.contains('*') && !matches!(self.kind, Kind::TextMap | Kind::AnyMap);
        // Those are asked for on many a command line.
        let short = self.path.strip_prefix("argo.").unwrap_or(self.path);
        fixed.then(|| short.replace(['.', '_'], "-"))
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("SEAWAY_{}", self.path.replace('.', "__").replace('*', "NAME").to_uppercase())
    }
}

/// Finds the setting at `path`.
pub(super) fn find(path: &[String]) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.is_at(path))
}

/// True if settings lie below `path`.
pub(super) fn is_group(path: &[String]) -> bool {
    SETTINGS.iter().any(|setting| {
        let mut own = setting.path.split('.');
        path.iter().all(|segment| own.next().is_some_and(|name| name == "*" || name == segment))
            && own.next().is_some()
    })
}

/// The name that the last segment of `path` was probably meant to be.
pub(super) fn nearest(path: &[String]) -> Option<&'static str> {
    let (last, parent) = path.split_last()?;
    let siblings = SETTINGS.iter().filter_map(|setting| {
        let mut own = setting.path.split('.');
        let below = parent
            .iter()
            .all(|segment| own.next().is_some_and(|name| name == "*" || name == segment));
        own.next().filter(|name| below && *name != "*")
    });
    near(last, siblings)
}

/// The one of these names that was probably meant.
pub fn near<'a>(said: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (strsim::normalized_damerau_levenshtein(said, name), name));
    scored
        .filter(|(score, _)| *score > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_path_finds_its_setting() {
        assert_eq!(find(&path("listen")).unwrap().path, "listen");
        assert_eq!(find(&path("upstream.x.base_url")).unwrap().path, "upstream.*.base_url");
        assert!(find(&path("upstream.x")).is_none());
        assert!(is_group(&path("upstream.x.api_key")));
        assert!(!is_group(&path("listen")));
    }

    #[test]
    fn a_slip_is_recognised() {
        assert_eq!(nearest(&path("lisen")), Some("listen"));
        assert_eq!(nearest(&path("upsteam")), Some("upstream"));
        assert_eq!(nearest(&path("upstream.x.base_ulr")), Some("base_url"));
        assert_eq!(nearest(&path("zzzzz")), None);
    }

    #[test]
    fn every_setting_says_what_it_is() {
        for setting in SETTINGS {
            assert!(!setting.about.is_empty() && !setting.about.ends_with('.'), "{}", setting.path);
        }
    }
}
