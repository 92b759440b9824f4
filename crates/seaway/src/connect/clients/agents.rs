//! Agents whose settings are JSON, with a list of providers.

use seaway_wire::model::{ModelTraits, Thinking};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::{Change, Edit, Facts, FileChange, Setup, line, project_files, start};

/// <https://opencode.ai/docs/config>
pub(super) fn opencode(facts: &Facts) -> Setup {
    let folder = facts.config_folder("opencode");
    let file = ["opencode.jsonc", "opencode.json", "config.json"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| folder.join("opencode.json"));
    let models: Map<String, Value> =
        facts.models.iter().map(|model| (model.clone(), json!({"name": model}))).collect();
    let key = match &facts.key {
        None => "any".to_owned(),
        // A made key lies in a file of its own; opencode reads it there, also after it was rotated.
        Some(key)
            if std::fs::read_to_string(&facts.key_file)
                .is_ok_and(|text| text.trim() == key.expose_secret()) =>
        {
            format!("{{file:{}}}", facts.key_file.display())
        }
        Some(key) => key.expose_secret().to_owned(),
    };
    let provider = json!({"npm": "@ai-sdk/anthropic", "name": "Seaway", "options": {"baseURL": format!("{}/v1", facts.url), "apiKey": key}, "models": models});
    let edits = vec![
        Edit::own(&["provider", "seaway"], provider),
        Edit::choice(&["model"], format!("seaway/{}", facts.model)),
    ];
    let mut warnings = facts.overriding(&["OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT"]);
    warnings.extend(project_files(
        facts,
        &["opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc"],
        &[&["model"], &["provider", "seaway"]],
    ));
    Setup {
        files: vec![FileChange { path: file, change: Change::Json(edits) }],
        then: start("opencode"),
        warnings,
    }
}

/// The documentation that comes with it: `docs/models.md`.
pub(super) fn pi(facts: &Facts) -> Setup {
    let folder = facts.folder_of("PI_CODING_AGENT_DIR", ".pi/agent");
    let models: Vec<Value> = facts.models.iter().map(|model| {
        let thinks = ModelTraits::of(model).thinking != Thinking::No;
        json!({"id": model, "name": model, "reasoning": thinks, "input": ["text", "image"], "contextWindow": 200_000, "maxTokens": 32_000, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}})
    }).collect();
    let provider = json!({"baseUrl": facts.url, "api": "anthropic-messages", "apiKey": format!("!{}", line(&facts.key_words())), "models": models});
    let files = vec![
        FileChange {
            path: folder.join("models.json"),
            change: Change::Json(vec![Edit::own(&["providers", "seaway"], provider)]),
        },
        FileChange {
            path: folder.join("settings.json"),
            change: Change::StrictJson(vec![
                Edit::choice(&["defaultProvider"], "seaway"),
                Edit::choice(&["defaultModel"], facts.model.as_str()),
            ]),
        },
    ];
    let warnings =
        project_files(facts, &[".pi/settings.json"], &[&["defaultProvider"], &["defaultModel"]]);
    Setup { files, then: start("pi"), warnings }
}

/// <https://qwenlm.github.io/qwen-code-docs/en/users/configuration/model-providers>
pub(super) fn qwen(facts: &Facts) -> Setup {
    const VARIABLE: &str = "SEAWAY_KEY";
    let file = facts.home.join(".qwen/settings.json");
    let models: Vec<Value> = facts
        .models
        .iter()
        .map(|model| json!({"id": model, "name": format!("{model} by Seaway"), "baseUrl": facts.url, "envKey": VARIABLE}))
        .collect();
    let edits = vec![
        Edit::own(&["modelProviders", "anthropic"], models),
        Edit::own(&["env", VARIABLE], facts.written_key()),
        Edit::choice(&["security", "auth", "selectedType"], "anthropic"),
        Edit::choice(&["model", "name"], facts.model.as_str()),
    ];
    let warnings = project_files(
        facts,
        &[".qwen/settings.json"],
        &[&["modelProviders"], &["security", "auth", "selectedType"], &["model", "name"]],
    );
    Setup {
        files: vec![FileChange { path: file, change: Change::Json(edits) }],
        then: start("qwen"),
        warnings,
    }
}

/// Its README: `crush.json`, custom providers that are compatible with Anthropic.
pub(super) fn crush(facts: &Facts) -> Setup {
    let folder = facts.config_folder("crush");
    let models: Vec<Value> = facts.models.iter().map(|model| {
        let thinks = ModelTraits::of(model).thinking != Thinking::No;
        json!({"id": model, "name": model, "context_window": 200_000, "default_max_tokens": 32_000, "can_reason": thinks, "supports_attachments": true})
    }).collect();
    let key = format!("$({})", line(&facts.key_words()));
    let provider = json!({"name": "Seaway", "type": "anthropic", "base_url": format!("{}/v1", facts.url), "api_key": key, "models": models});
    let chosen = |model: &str| json!({"provider": "seaway", "model": model});
    let edits = vec![
        Edit::own(&["providers", "seaway"], provider),
        Edit::choice(&["models", "large"], chosen(&facts.model)),
        Edit::choice(&["models", "small"], chosen(facts.small())),
    ];
    let warnings = project_files(
        facts,
        &["crush.json", ".crush.json"],
        &[&["providers", "seaway"], &["models", "large"]],
    );
    Setup {
        files: vec![FileChange {
            path: folder.join("crush.json"),
            change: Change::StrictJson(edits),
        }],
        then: start("crush"),
        warnings,
    }
}

/// <https://docs.cline.bot/getting-started/config>, and what its own `cline auth` writes.
pub(super) fn cline(facts: &Facts) -> Setup {
    let file = facts.environment.get("CLINE_PROVIDER_SETTINGS_PATH").map_or_else(
        || facts.folder_of("CLINE_DATA_DIR", ".cline/data").join("settings/providers.json"),
        |path| facts.folder.join(path),
    );
    let settings = json!({"provider": "anthropic", "apiKey": facts.written_key(), "model": facts.model, "baseUrl": facts.url});
    let edits = vec![
        Edit::beside(&["version"], 1),
        Edit::choice(&["lastUsedProvider"], "anthropic"),
        Edit::own(&["providers", "anthropic", "settings"], settings),
        // It writes these anew whenever it is used.
        Edit::beside(&["providers", "anthropic", "updatedAt"], "1970-01-01T00:00:00.000Z"),
        Edit::beside(&["providers", "anthropic", "tokenSource"], "manual"),
    ];
    Setup {
        files: vec![FileChange { path: file, change: Change::StrictJson(edits) }],
        then: start("cline"),
        warnings: Vec::new(),
    }
}

/// Its custom providers: <https://block.github.io/goose/docs/getting-started/providers>. Which of its providers it uses
/// stands in a file that it writes anew itself, without our marks, so that choice stays with the person.
pub(super) fn goose(facts: &Facts) -> Setup {
    let file = facts.config_folder("goose").join("custom_providers/seaway.json");
    let models: Vec<Value> =
        facts.models.iter().map(|model| json!({"name": model, "context_limit": 200_000})).collect();
    let edits = [
        ("name", "seaway".into()),
        ("engine", "anthropic".into()),
        ("display_name", "Seaway".into()),
        ("description", "Claude by Seaway, at one local address".into()),
        ("api_key_env", "".into()),
        ("base_url", facts.url.as_str().into()),
        ("headers", json!({"x-api-key": facts.written_key()})),
        ("models", models.into()),
        ("supports_streaming", true.into()),
        ("requires_auth", false.into()),
    ];
    let edits = edits.map(|(name, value): (&str, Value)| Edit::own(&[name], value));
    Setup {
        files: vec![FileChange { path: file, change: Change::StrictJson(edits.into()) }],
        then: format!(
            "choose `Seaway` in `goose configure`, or start it with `GOOSE_PROVIDER=seaway GOOSE_MODEL={} goose`",
            facts.model
        ),
        warnings: Vec::new(),
    }
}
