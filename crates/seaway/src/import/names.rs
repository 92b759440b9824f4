//! Tools whose settings are names and values: each name has a place here.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::draft::{Draft, table_name};

/// What becomes of one setting.
enum Becomes {
    Host,
    Port,
    /// The key that clients send.
    Key,
    /// The key is wanted, or not.
    WantsKey,
    Level,
    /// `debug` where it is switched on.
    Verbose,
    Text(&'static str),
    Count(&'static str),
    /// Milliseconds.
    Millis(&'static [&'static str]),
    /// One of our settings has this value where it is switched on.
    Where(&'static str, &'static str),
    /// The API, with this as its key.
    ApiKey,
    /// The same with a bearer token.
    Bearer,
    /// The API is at another address.
    BaseUrl,
    List(&'static str),
    /// The user's name at Argonne.
    ArgoUser,
    /// Which of Argonne's gateways, by its address.
    ArgoAddress,
    /// There is none, and this is why.
    Nothing(&'static str),
}

use Becomes::{
    ApiKey, ArgoAddress, ArgoUser, BaseUrl, Bearer, Count, Host, Key, Level, List, Millis, Nothing,
    Port, Text, Verbose, WantsKey, Where,
};

const UNKNOWN: &str = "not known here";
const ALL_TOOLS: &str = "`claude_code.permission = \"allow\"` lets runs use every tool";

/// Variables. Of heysarver/claude-code-proxy, ClaudeCodeProxy, claude-ws-proxy, argo-shim and the SDKs.
const VARIABLES: &[(&str, Becomes)] = &[
    ("HOST", Host),
    ("PORT", Port),
    ("HTTP_PORT", Port),
    ("PROXY_API_KEY", Key),
    ("AUTH_TOKEN", Key),
    ("LITELLM_MASTER_KEY", Key),
    ("REQUIRE_API_KEY", WantsKey),
    ("LOG_LEVEL", Level),
    ("REQUEST_TIMEOUT_MS", Millis(&["first_byte_timeout", "idle_timeout"])),
    ("WORKER_CONCURRENCY", Count("claude_code.workers")),
    ("MAX_QUEUE_SIZE", Count("upstream.claude-code.queue")),
    ("QUEUE_TIMEOUT_MS", Millis(&["queue_timeout"])),
    ("SESSION_TTL_MS", Millis(&["claude_code.retention"])),
    ("MAX_SESSIONS", Count("claude_code.sessions")),
    ("SESSION_TIMEOUT_MS", Millis(&["claude_code.idle"])),
    (
        "MAX_SESSIONS_PER_KEY",
        Nothing(
            "sessions are not limited by key; `claude_code.sessions` limits those that are kept warm",
        ),
    ),
    ("SESSION_CLEANUP_INTERVAL_MS", Nothing("nothing to do: what is over goes by itself")),
    ("AUTO_APPROVE_TOOL", Where("claude_code.permission", "allow")),
    ("CLAUDE_PATH", Text("claude_code.path")),
    ("DEFAULT_MODEL", Text("model.default")),
    ("ANTHROPIC_MODEL", Text("model.default")),
    ("ANTHROPIC_API_KEY", ApiKey),
    ("ANTHROPIC_AUTH_TOKEN", Bearer),
    ("ANTHROPIC_BASE_URL", BaseUrl),
    ("ANTHROPIC_API_BASE", BaseUrl),
    (
        "CLAUDE_ACCESS_TOKEN",
        Nothing(
            "a plan's token goes to the official program alone: leave it in the environment as CLAUDE_CODE_OAUTH_TOKEN (`claude setup-token` makes one), or run `seaway login`",
        ),
    ),
    (
        "CLAUDE_CODE_OAUTH_TOKEN",
        Nothing("leave it in the environment: the official program reads it there"),
    ),
    ("CELS_USERNAME", ArgoUser),
    ("ARGO_USER", ArgoUser),
    (
        "OPENAI_API_KEY",
        Nothing("models of other makers are not served; clients send Seaway's key in its place"),
    ),
];

const WS_PROXY: &[(&str, Becomes)] = &[
    ("host", Host),
    ("httpPort", Port),
    ("port", Nothing("there is no WebSocket: clients use HTTP and its streams")),
    ("wsPort", Nothing("there is no WebSocket: clients use HTTP and its streams")),
    ("maxSessions", Count("claude_code.sessions")),
    ("sessionTimeoutMs", Millis(&["claude_code.idle"])),
    ("defaultModel", Text("model.default")),
    ("models", List("models")),
    ("requireApiKey", WantsKey),
    ("apiKey", Key),
    ("autoApproveTool", Where("claude_code.permission", "allow")),
    ("autoApproveTools", Where("claude_code.permission", "allow")),
    ("claudePath", Text("claude_code.path")),
    ("logLevel", Level),
    ("requestTimeoutMs", Millis(&["first_byte_timeout"])),
];

const HORSELOCK: &[(&str, Becomes)] = &[
    ("host", Host),
    ("port", Port),
    ("log_level", Level),
    (
        "filter_sampling_params",
        Nothing(
            "not needed on a plan; for an API upstream `upstream.NAME.one_sampling_param = true`",
        ),
    ),
    (
        "strip_ttl",
        Nothing("not needed on a plan; for an API upstream `upstream.NAME.strip_cache_ttl = true`"),
    ),
];

const ARGO_PROXY: &[(&str, Becomes)] = &[
    ("config_version", Nothing("the version of the file")),
    ("host", Host),
    ("port", Port),
    ("user", ArgoUser),
    ("argo_base_url", ArgoAddress),
    ("argo_url", ArgoAddress),
    ("argo_stream_url", ArgoAddress),
    ("argo_embedding_url", ArgoAddress),
    ("native_openai_base_url", ArgoAddress),
    ("native_anthropic_base_url", ArgoAddress),
    ("verbose", Verbose),
    (
        "use_native_openai",
        Nothing("Argo's own Chat Completions are used for what Claude does not serve"),
    ),
    ("use_native_anthropic", Nothing("Claude is always asked in Messages")),
    (
        "enable_payload_control",
        Nothing("images are sent on as they are; `body_limit` bounds a request"),
    ),
    ("max_payload_size", Nothing("images are sent on as they are; `body_limit` bounds a request")),
    ("image_timeout", Nothing("images are not fetched: their addresses are sent on")),
    ("concurrent_downloads", Nothing("images are not fetched: their addresses are sent on")),
    ("num_workers", Nothing("`threads` are as many as there are cores")),
    ("real_stream", Nothing("every answer is streamed as it comes")),
];

/// A `.env`.
pub(super) fn variables(settings: &Map<String, Value>, draft: &mut Draft) {
    let names = ["WORKER_CONCURRENCY", "MAX_QUEUE_SIZE", "SESSION_TTL_MS", "MAX_SESSIONS"];
    let plan = names.iter().any(|name| settings.contains_key(*name))
        || settings.contains_key("CLAUDE_ACCESS_TOKEN");
    if plan && !settings.contains_key("ANTHROPIC_API_KEY") {
        with_plan(draft, "the plan, through the official program");
    }
    for (name, given) in settings {
        match name.strip_prefix("SEAWAY_") {
            Some(_) => draft.remark(name, "ours already: leave it in the environment"),
            None => becomes(VARIABLES, name, given, draft),
        }
    }
}

/// claude-ws-proxy's `config.json`.
pub(super) fn ws_proxy(settings: &Map<String, Value>, draft: &mut Draft) {
    draft.usual_port(3456);
    draft.keyless = true;
    with_plan(draft, "the plan, through the official program");
    for (name, given) in settings {
        becomes(WS_PROXY, name, given, draft);
    }
    if settings.get("requireApiKey") == Some(&Value::Bool(false)) {
        draft.has_key = false;
    }
}

/// horselock's `config.txt`.
pub(super) fn horselock(settings: &Map<String, Value>, draft: &mut Draft) {
    draft.usual_port(3000);
    draft.keyless = true;
    with_plan(
        draft,
        "the plan, through the official program: its credentials are read by that program alone",
    );
    for (name, given) in settings {
        becomes(HORSELOCK, name, given, draft);
    }
}

/// horselock's presets, a file each.
pub(super) fn preset(settings: &Map<String, Value>, path: &Path, draft: &mut Draft) {
    let name = table_name(&path.file_stem().unwrap_or_default().to_string_lossy());
    for (member, given) in settings {
        let ours = match member.as_str() {
            "system" => "system",
            "suffix" => "suffix",
            "suffixEt" => "suffix_thinking",
            _ => {
                draft.remark(member, UNKNOWN);
                continue;
            }
        };
        draft.text(&format!("preset.{name}.{ours}"), given, member);
    }
}

/// argo-proxy's `config.yaml`.
pub(super) fn argo_proxy(settings: &Map<String, Value>, draft: &mut Draft) {
    draft.keyless = true;
    draft.set("upstream.argo.kind", "argo", "Argonne's gateway");
    draft.set("default_upstream", "argo", "Argonne's gateway");
    draft.set(
        "argo.direct",
        true,
        "it ran within the network; without this line the gateway is reached by ssh from anywhere",
    );
    for (name, given) in settings {
        becomes(ARGO_PROXY, name, given, draft);
    }
}

fn with_plan(draft: &mut Draft, from: &str) {
    draft.plan = true;
    draft.set("upstream.claude-code.kind", "claude-code", from);
}

fn becomes(table: &[(&str, Becomes)], name: &str, given: &Value, draft: &mut Draft) {
    // What is there without a value is as if it were not.
    if given.is_null() || given.as_str().is_some_and(|text| text.trim().is_empty()) {
        return;
    }
    let Some((_, becomes)) = table.iter().find(|(known, _)| *known == name) else {
        return draft.remark(name, UNKNOWN);
    };
    match becomes {
        Host => draft.host(given, name),
        Port => draft.port(given, name),
        WantsKey => {
            if let Some(false) = draft.flag(given, name) {
                draft.keyless = true;
            }
        }
        Level => draft.level(given, name),
        Verbose => {
            if let Some(true) = draft.flag(given, name) {
                draft.set("log_level", "debug", name);
            }
        }
        Text(key) => draft.text(key, given, name),
        Count(key) => draft.count(key, given, name),
        Millis(keys) => spans(keys, given, name, draft),
        Where(key, value) => {
            if let Some(true) = draft.flag(given, name) {
                draft.set(key, *value, &format!("{name}: {ALL_TOOLS}"));
            }
        }
        List(key) => list(key, given, name, draft),
        Nothing(why) => draft.remark(name, why),
        Key | ApiKey | Bearer | BaseUrl | ArgoUser | ArgoAddress => {
            access(becomes, given, name, draft);
        }
    }
}

fn spans(keys: &[&str], given: &Value, name: &str, draft: &mut Draft) {
    let upstream = if draft.plan { "claude-code" } else { "anthropic" };
    for key in keys {
        let key = match key.split_once('.') {
            Some(_) => (*key).to_owned(),
            None => format!("upstream.{upstream}.{key}"),
        };
        draft.span(&key, given, Duration::from_millis(1), name);
    }
}

/// Who may ask, and as whom we ask.
fn access(becomes: &Becomes, given: &Value, name: &str, draft: &mut Draft) {
    match becomes {
        Key => draft.local_key(given, name),
        ApiKey => credential("api_key", given, name, draft),
        Bearer => credential("bearer", given, name, draft),
        BaseUrl => {
            anthropic(draft, name);
            match given.as_str().map(without_version) {
                Some(url) => draft.set("upstream.anthropic.base_url", url, name),
                None => draft.text("upstream.anthropic.base_url", given, name),
            }
        }
        ArgoUser => {
            if !draft.has("upstream.argo.kind") {
                draft.set("upstream.argo.kind", "argo", "Argonne's gateway");
            }
            draft.remark(
                name,
                &format!(
                    "say who you are in the environment: CELS_USERNAME={}",
                    given.as_str().unwrap_or_default()
                ),
            );
        }
        ArgoAddress => {
            let address = given.as_str().unwrap_or_default();
            let env =
                ["dev", "test"].into_iter().find(|env| address.contains(&format!("apps-{env}.")));
            if let Some(env) = env {
                draft.set("argo.env", env, name);
            }
        }
        _ => {}
    }
}

fn anthropic(draft: &mut Draft, name: &str) {
    if !draft.has("upstream.anthropic.kind") {
        draft.set("upstream.anthropic.kind", "anthropic", name);
    }
}

fn credential(member: &str, given: &Value, name: &str, draft: &mut Draft) {
    anthropic(draft, name);
    let key = format!("upstream.anthropic.{member}");
    match given.as_str() {
        Some(text) => draft.secret(&key, text, name),
        None => draft.text(&key, given, name),
    }
}

fn list(key: &str, given: &Value, name: &str, draft: &mut Draft) {
    let id = |model: &Value| {
        let id = model.as_str().or_else(|| model["id"].as_str()).or_else(|| model["name"].as_str());
        id.map(str::to_owned)
    };
    match given.as_array().map(|all| all.iter().map(id).collect::<Option<Vec<_>>>()) {
        Some(Some(ids)) => draft.set(key, ids.into_iter().collect::<toml_edit::Array>(), name),
        _ => draft.remark(name, "no list of names"),
    }
}

/// An address without the version, which clients add.
pub(super) fn without_version(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url)
}
