//! claude-code-router's `config.json`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::draft::{Draft, table_name};

pub(super) fn import(settings: &Map<String, Value>, draft: &mut Draft) {
    draft.usual_port(3456);
    draft.keyless = true;
    let mut kept = Vec::new();
    let providers = settings.get("Providers").or_else(|| settings.get("providers"));
    for provider in providers.and_then(Value::as_array).into_iter().flatten() {
        kept.extend(self::provider(provider, draft));
    }
    for (name, given) in settings {
        match name.as_str() {
            "Providers" | "providers" => {}
            "HOST" => draft.host(given, name),
            "PORT" => draft.port(given, name),
            "APIKEY" if given.as_str().is_some_and(|key| !key.is_empty()) => draft.local_key(given, name),
            "APIKEY" => {}
            "LOG_LEVEL" => draft.level(given, name),
            "LOG" => draft.remark(name, "the log goes to standard error; a service manager keeps it"),
            "API_TIMEOUT_MS" => {
                for upstream in &kept {
                    draft.span(&format!("upstream.{upstream}.first_byte_timeout"), given, Duration::from_millis(1), name);
                }
            }
            "PROXY_URL" => {
                for upstream in &kept {
                    draft.text(&format!("upstream.{upstream}.proxy"), given, name);
                }
            }
            "Router" => routes(given, &kept, draft),
            "NON_INTERACTIVE_MODE" => draft.remark(name, "nothing here asks a terminal"),
            "CUSTOM_ROUTER_PATH" | "transformers" | "plugins" => draft.remark(name, "no code of yours is run: `[[route]]`, `[alias]` and `upstream.NAME.set` say what is changed"),
            "CLAUDE_PATH" => draft.text("claude_code.path", given, name),
            _ => draft.remark(name, "not known here"),
        }
    }
}

/// A provider that has Claude; returns its name.
fn provider(provider: &Value, draft: &mut Draft) -> Option<String> {
    let name = provider["name"].as_str().unwrap_or_default();
    let from = format!("Providers {name}");
    let url = provider["api_base_url"].as_str().unwrap_or_default();
    let models: Vec<&str> =
        provider["models"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let transformed = provider["transformer"]["use"].to_string().to_lowercase();
    let messages =
        url.trim_end_matches('/').ends_with("/messages") || transformed.contains("anthropic");
    if !messages && !models.iter().any(|model| model.contains("claude")) {
        draft.remark(&from, "none of its models is Claude; models of other makers are not served");
        return None;
    }
    let upstream = table_name(name);
    let at = |member: &str| format!("upstream.{upstream}.{member}");
    let mut base = url.trim_end_matches('/');
    for end in ["/messages", "/chat/completions", "/v1"] {
        base = base.strip_suffix(end).unwrap_or(base);
    }
    let own = messages && base.ends_with("//api.anthropic.com");
    draft.set(&at("kind"), if own { "anthropic" } else { "messages" }, &from);
    if !own {
        draft.set(&at("base_url"), base, &from);
    }
    if let Some(key) = provider["api_key"].as_str().filter(|key| !key.is_empty()) {
        draft.secret(&at(if own { "api_key" } else { "bearer" }), key, &from);
    }
    if !messages {
        draft.set(&at("speaks"), ["chat"].into_iter().collect::<toml_edit::Array>(), &from);
        draft.remark(&from, "it speaks Chat Completions, which clients of that API are relayed to; what asks in Messages, as Claude Code does, wants an address of its that speaks Messages");
    }
    if provider["transformer"].is_object() && !messages {
        draft.remark(&format!("{from}, transformer"), "what is changed in requests stands under `[upstream.NAME.set]`, `drop` and the `upstream.NAME` settings");
    }
    Some(upstream)
}

/// Which model is asked for what.
fn routes(given: &Value, kept: &[String], draft: &mut Draft) {
    for (when, target) in given.as_object().into_iter().flatten() {
        let from = format!("Router {when}");
        let Some((provider, model)) = target.as_str().and_then(|target| target.split_once(','))
        else {
            if when != "longContextThreshold" && target.as_str().is_none_or(|text| !text.is_empty())
            {
                draft.remark(&from, "not known here");
            }
            continue;
        };
        let upstream = table_name(provider.trim());
        if when == "default" && kept.contains(&upstream) {
            draft.set("model.default", model.trim(), &from);
            draft.set("default_upstream", upstream, &from);
        } else if when == "default" {
            draft.remark(&from, "it is none of Claude's: the client's own model is asked for");
        } else {
            draft.remark(&from, "which model serves what is the client's choice: Claude Code has ANTHROPIC_DEFAULT_HAIKU_MODEL for what it does in the background, and `/model`; an `[alias]` gives one name another model");
        }
    }
}
