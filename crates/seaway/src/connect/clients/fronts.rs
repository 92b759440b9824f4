//! Editors, and front ends with a folder of their own.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::lists::quoted;
use super::{Change, Edit, Facts, FileChange, Setup, project_files};
use crate::connect::{LinePlace, yaml};

/// <https://zed.dev/docs/ai/llm-providers>. It takes a key by its window or its environment alone.
pub(super) fn zed(facts: &Facts) -> Setup {
    let models: Vec<Value> = facts
        .models
        .iter()
        .map(|model| json!({"name": model, "display_name": format!("{model} by Seaway"), "max_tokens": 200_000, "max_output_tokens": 32_000}))
        .collect();
    let edits = vec![
        Edit::own(&["language_models", "anthropic", "api_url"], facts.url.as_str()),
        Edit::own(&["language_models", "anthropic", "available_models"], models),
        Edit::choice(
            &["agent", "default_model"],
            json!({"provider": "anthropic", "model": facts.model}),
        ),
    ];
    let warnings = project_files(
        facts,
        &[".zed/settings.json"],
        &[&["language_models", "anthropic", "api_url"], &["agent", "default_model"]],
    );
    Setup {
        files: vec![FileChange {
            path: facts.config_folder("zed").join("settings.json"),
            change: Change::Json(edits),
        }],
        then: format!(
            "paste what `{}` prints under Anthropic in its Agent Settings, once: Zed keeps it in the system's keychain",
            super::line(&facts.key_words())
        ),
        warnings,
    }
}

/// What it keeps for its first user: where one stands, in the home folder, or in a data folder of its own.
pub(super) fn sillytavern(facts: &Facts) -> Setup {
    let own = if cfg!(target_os = "macos") {
        facts.home.join("Library/Application Support/SillyTavern/data")
    } else {
        facts.folder_of("XDG_DATA_HOME", ".local/share").join("SillyTavern/data")
    };
    let named = facts.environment.get("SILLYTAVERN_DATAROOT").map(|root| facts.folder.join(root));
    let here = facts.projects().map(|folder| folder.join("data"));
    let all = named.into_iter().chain(here).chain([facts.home.join("SillyTavern/data"), own]);
    let mut users = all.map(|root| root.join("default-user"));
    let Some(user) = users.find(|user| user.join("settings.json").is_file()) else {
        return absent(
            "SillyTavern's settings (`data/default-user/settings.json`, made when it is first started) are not here: start it once, then ask again in its folder",
        );
    };
    let key =
        json!([{"id": "seaway", "value": facts.written_key(), "label": "Seaway", "active": true}]);
    let settings = vec![
        Edit::choice(&["main_api"], "openai"),
        Edit::choice(&["oai_settings", "chat_completion_source"], "custom"),
        Edit::choice(&["oai_settings", "custom_url"], format!("{}/v1", facts.url)),
        Edit::choice(&["oai_settings", "custom_model"], facts.model.as_str()),
    ];
    let change =
        |name: &str, edits| FileChange { path: user.join(name), change: Change::StrictJson(edits) };
    Setup {
        files: vec![
            change("settings.json", settings),
            change("secrets.json", vec![Edit::own(&["api_key_custom"], key)]),
        ],
        then: "reload its page at once: an open one writes its old settings back".into(),
        warnings: Vec::new(),
    }
}

/// <https://www.librechat.ai/docs/configuration/librechat_yaml/object_structure/custom_endpoint>
pub(super) fn librechat(facts: &Facts) -> Setup {
    let folders = facts.projects().map(PathBuf::from).chain([facts.home.join("LibreChat")]);
    let is_its = |folder: &PathBuf| {
        ["librechat.yaml", "librechat.example.yaml"].iter().any(|name| folder.join(name).is_file())
    };
    let Some(folder) = { folders }.find(is_its) else {
        return absent(
            "LibreChat's folder, with its `librechat.example.yaml`, is not here: ask again in it",
        );
    };
    let file = folder.join("librechat.yaml");
    let models: Vec<String> = facts.models.iter().map(|model| quoted(model)).collect();
    let block = format!(
        "endpoints:\n  custom:\n    - name: Seaway\n      apiKey: {}\n      baseURL: {}\n      models:\n        default: [{}]\n        fetch: true\n      titleConvo: true\n      titleModel: {}\n",
        quoted(&facts.written_key()),
        quoted(&format!("{}/v1", facts.url)),
        models.join(", "),
        quoted(facts.small())
    );
    // A file that does not say by which rules it is read is refused.
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let others = yaml::remove(&text).unwrap_or_default();
    let says = others.lines().any(|line| line.starts_with("version:"));
    let head = if says { "" } else { "version: 1.2.1\n" };
    let mut warnings = Vec::new();
    if folder.join("docker-compose.yml").is_file() {
        let port = facts.url.rsplit(':').next().unwrap_or_default();
        warnings.push(format!("in a container loopback is the container's own: if LibreChat runs in one, write http://host.docker.internal:{port}/v1 there, and let Seaway listen beyond loopback"));
    }
    Setup {
        files: vec![FileChange {
            path: file,
            change: Change::Yaml(LinePlace::End, format!("{head}{block}")),
        }],
        then: "restart it, and choose Seaway among its endpoints".into(),
        warnings,
    }
}

fn absent(why: &str) -> Setup {
    Setup { then: why.into(), ..Setup::default() }
}
