//! LiteLLM's `config.yaml`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::draft::{Draft, DraftRoute, table_name, variable};
use super::names::without_version;

const SECOND: Duration = Duration::from_secs(1);
const SPEAKS_OTHERS: &str =
    "Seaway reaches Claude: what speaks Messages, or Chat Completions with Claude behind it";

/// Where models are asked, as LiteLLM has it.
#[derive(Debug, PartialEq, Eq)]
struct Deployment {
    kind: &'static str,
    base_url: Option<String>,
    /// As it stands in the file.
    key: Option<String>,
    chat: bool,
}

pub(super) fn import(settings: &Map<String, Value>, draft: &mut Draft) {
    draft.usual_port(4000);
    draft.keyless = true;
    let mut places: Vec<(String, Deployment)> = Vec::new();
    for model in settings.get("model_list").and_then(Value::as_array).into_iter().flatten() {
        deployment(model, &mut places, draft);
    }
    for (section, given) in settings {
        let Some(members) = given.as_object() else {
            if section != "model_list" && !given.is_null() {
                draft.remark(section, "not known here");
            }
            continue;
        };
        for (name, given) in members {
            let from = format!("{section}.{name}");
            setting(&from, section, name, given, &places, draft);
        }
    }
    // One place for everything needs no routes.
    if places.len() < 2 {
        draft.routes.clear();
    }
}

fn deployment(model: &Value, places: &mut Vec<(String, Deployment)>, draft: &mut Draft) {
    let name = model["model_name"].as_str().unwrap_or_default();
    let from = format!("model_list {name}");
    let params = &model["litellm_params"];
    let full = params["model"].as_str().unwrap_or_default();
    let (provider, id) = full.split_once('/').unwrap_or(("", full));
    let base_url = params["api_base"].as_str().or_else(|| params["base_url"].as_str());
    let claude = full.contains("claude") || full.ends_with('*');
    let (kind, chat) = match provider {
        "anthropic" if base_url.is_none() => ("anthropic", false),
        "anthropic" => ("messages", false),
        "" if full.starts_with("claude") => ("anthropic", false),
        "openai" | "custom_openai" | "openai_like" | "litellm_proxy"
            if base_url.is_some() && claude =>
        {
            ("messages", true)
        }
        _ => return draft.remark(&from, &format!("`{full}`: {SPEAKS_OTHERS}")),
    };
    let place = Deployment {
        kind,
        base_url: base_url.map(|url| without_version(url).to_owned()),
        key: params["api_key"].as_str().map(str::to_owned),
        chat,
    };
    let known = places.iter().find(|(_, known)| *known == place);
    let upstream = if let Some((upstream, _)) = known {
        upstream.clone()
    } else {
        let upstream = new_name(&place, places);
        write(&upstream, &place, &from, draft);
        places.push((upstream.clone(), place));
        upstream
    };
    parameters(params, &upstream, &from, draft);
    // A name that stands for itself, and a wildcard, need no alias.
    if name != id && !name.contains('*') && !name.is_empty() {
        draft.set_at(vec!["alias".into(), name.to_owned()], id, &from);
    }
    let pattern = if name.contains('*') { name.rsplit('/').next().unwrap_or(name) } else { id };
    match draft.routes.iter_mut().find(|route| route.model == pattern) {
        Some(route) if route.upstreams.contains(&upstream) => {}
        Some(route) => {
            route.upstreams.push(upstream);
            route.from =
                format!("{from}: the next one is asked when one fails; LiteLLM would take turns");
        }
        None => draft.routes.push(DraftRoute {
            model: pattern.to_owned(),
            upstreams: vec![upstream],
            from,
        }),
    }
}

fn new_name(place: &Deployment, places: &[(String, Deployment)]) -> String {
    let host = place
        .base_url
        .as_deref()
        .and_then(|url| url.split("//").nth(1))
        .map(|rest| table_name(rest.split(['/', ':']).next().unwrap_or(rest)));
    let name = host.filter(|name| !name.is_empty()).unwrap_or_else(|| "anthropic".into());
    let taken = |name: &str| places.iter().any(|(known, _)| known == name);
    let others = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(others).find(|name| !taken(name)).unwrap_or(name)
}

fn write(upstream: &str, place: &Deployment, from: &str, draft: &mut Draft) {
    let at = |member: &str| format!("upstream.{upstream}.{member}");
    draft.set(&at("kind"), place.kind, from);
    if let Some(url) = &place.base_url {
        match variable(url) {
            Some(name) => draft.remark(from, &format!("`api_base` is the variable {name}: write its value as `upstream.{upstream}.base_url`, without `/v1`")),
            None => draft.set(&at("base_url"), url.as_str(), from),
        }
    }
    match &place.key {
        Some(key) if place.chat => draft.secret(&at("bearer"), key, from),
        Some(key) => draft.secret(&at("api_key"), key, from),
        None if place.kind == "anthropic" => {
            draft.set(&at("api_key.env"), "ANTHROPIC_API_KEY", from);
        }
        None => {}
    }
    if place.chat {
        draft.set(&at("speaks"), ["chat"].into_iter().collect::<toml_edit::Array>(), from);
    }
}

/// What else stands with a deployment.
fn parameters(params: &Value, upstream: &str, from: &str, draft: &mut Draft) {
    for (name, given) in params.as_object().into_iter().flatten() {
        let from = format!("{from}, {name}");
        let at = |member: &str| format!("upstream.{upstream}.{member}");
        match name.as_str() {
            "model" | "api_key" | "api_base" | "base_url" => {}
            "timeout" | "stream_timeout" => draft.span(&at("first_byte_timeout"), given, SECOND, &from),
            "max_retries" => draft.count(&at("retries"), given, &from),
            "max_parallel_requests" => draft.count(&at("concurrency"), given, &from),
            "extra_headers" => {
                for (header, value) in given.as_object().into_iter().flatten() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let key = vec!["upstream".into(), upstream.to_owned(), "headers".into(), header.clone()];
                    draft.set_at(key, text, &from);
                }
            }
            "rpm" | "tpm" => draft.remark(&from, "rates are the upstream's: `upstream.NAME.concurrency` and its queue bound what is asked at once"),
            "input_cost_per_token" | "output_cost_per_token" => draft.remark(&from, "prices by the million stand under `[price.NAME]`"),
            _ => draft.remark(&from, "a default for every request stands under `[upstream.NAME.set]`"),
        }
    }
}

fn setting(
    from: &str,
    section: &str,
    name: &str,
    given: &Value,
    places: &[(String, Deployment)],
    draft: &mut Draft,
) {
    match (section, name) {
        ("general_settings", "master_key") => draft.local_key(given, from),
        ("server_settings", "host") => draft.host(given, from),
        ("server_settings" | "general_settings", "port") => draft.port(given, from),
        ("litellm_settings", "request_timeout") | ("router_settings", "timeout") => {
            for at in unsaid(places, "first_byte_timeout", draft) {
                draft.span(&at, given, SECOND, from);
            }
        }
        ("litellm_settings" | "router_settings", "num_retries") => {
            for at in unsaid(places, "retries", draft) {
                draft.count(&at, given, from);
            }
        }
        ("litellm_settings", "set_verbose") => {
            if let Some(true) = draft.flag(given, from) {
                draft.set("log_level", "debug", from);
            }
        }
        ("litellm_settings", "json_logs") => {
            if let Some(true) = draft.flag(given, from) {
                draft.set("log_format", "json", from);
            }
        }
        ("litellm_settings", "drop_params") => draft.remark(from, "what cannot be carried over is left out and told in `seaway-note`, unless `strict = true`"),
        ("litellm_settings" | "router_settings", "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks") => {
            draft.remark(from, "a route's `upstream` list is asked one after another for the same model; another model is not asked in its place");
        }
        ("router_settings", "model_group_alias") => {
            for (alias, model) in given.as_object().into_iter().flatten() {
                if let Some(model) = model.as_str() {
                    let model = draft.alias(model).unwrap_or(model).to_owned();
                    draft.set_at(vec!["alias".into(), alias.clone()], model, from);
                }
            }
        }
        ("router_settings", "routing_strategy" | "allowed_fails" | "cooldown_time") => draft.remark(from, "upstreams are asked in their order; one that fails is benched by itself"),
        ("general_settings", "database_url" | "store_model_in_db") => draft.remark(from, "records are in a SQLite file below `state_dir`; `seaway usage` reads them"),
        ("environment_variables", _) => draft.remark(from, "set it in the environment"),
        ("litellm_settings", "callbacks" | "success_callback" | "failure_callback" | "service_callbacks") => draft.remark(from, "logs, `/metrics` and `seaway usage` tell what happened; nothing is sent elsewhere"),
        ("litellm_settings", "cache" | "cache_params") => draft.remark(from, "answers are never taken from a cache; the upstream's prompt cache is used as the client says"),
        _ => draft.remark(from, "not known here"),
    }
}

/// Settings of upstreams about which nothing is said yet: what stands with a model counts for more.
fn unsaid(places: &[(String, Deployment)], member: &str, draft: &Draft) -> Vec<String> {
    let all = places.iter().map(|(upstream, _)| format!("upstream.{upstream}.{member}"));
    all.filter(|key| !draft.has(key)).collect()
}
