//! Clients whose settings are YAML.

use std::path::PathBuf;

use super::{Change, Edit, Facts, FileChange, Setup, start};
use crate::connect::LinePlace;

/// A text as YAML takes it, whatever is in it: JSON strings are YAML.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// <https://aider.chat/docs/config/aider_conf.html>
pub(super) fn aider(facts: &Facts) -> Setup {
    let file = facts.home.join(".aider.conf.yml");
    let block = format!(
        "model: {}\nweak-model: {}\nanthropic-api-key: {}\nset-env:\n  - {}\n",
        quoted(&format!("anthropic/{}", facts.model)),
        quoted(&format!("anthropic/{}", facts.small())),
        quoted(&facts.written_key()),
        quoted(&format!("ANTHROPIC_API_BASE={}", facts.url))
    );
    let mut warnings = facts.overriding(&[
        "ANTHROPIC_API_BASE",
        "ANTHROPIC_BASE_URL",
        "AIDER_MODEL",
        "AIDER_ANTHROPIC_API_KEY",
    ]);
    for path in facts
        .projects()
        .flat_map(|folder| [".aider.conf.yml", ".env"].map(|name| folder.join(name)))
    {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if ["model:", "set-env:", "anthropic-api-key:", "ANTHROPIC_API_BASE=", "ANTHROPIC_API_KEY="]
            .iter()
            .any(|word| text.lines().any(|line| line.starts_with(word)))
        {
            warnings.push(format!("{} sets a model, a key or an address, which aider follows in this folder in place of what is written", path.display()));
        }
    }
    Setup {
        files: vec![FileChange { path: file, change: Change::Yaml(LinePlace::End, block) }],
        then: start("aider"),
        warnings,
    }
}

/// <https://docs.continue.dev/reference>
pub(super) fn continue_dev(facts: &Facts) -> Setup {
    let file = facts.folder_of("CONTINUE_GLOBAL_DIR", ".continue").join("config.yaml");
    let mut models: Vec<&String> = facts.models.iter().collect();
    // The first one is the one that is chosen.
    models.sort_by_key(|model| **model != facts.model);
    let items: String = models
        .iter()
        .map(|model| {
            let (name, key, base) = (quoted(&format!("{model} (Seaway)")), quoted(&facts.written_key()), quoted(&format!("{}/v1", facts.url)));
            format!("- name: {name}\n  provider: anthropic\n  model: {}\n  apiBase: {base}\n  apiKey: {key}\n  roles: [chat, edit, apply]\n", quoted(model))
        })
        .collect();
    let place = LinePlace::Under {
        member: "models".into(),
        head: "name: Local Config\nversion: 1.0.0\nschema: v1\n".into(),
    };
    Setup {
        files: vec![FileChange { path: file, change: Change::Yaml(place, items) }],
        then: "reload Continue in the editor, or start `cn`".into(),
        warnings: Vec::new(),
    }
}

/// <https://llm.datasette.io/en/stable/other-models.html>
pub(super) fn llm(facts: &Facts) -> Setup {
    let folder = facts
        .environment
        .get("LLM_USER_PATH")
        .map_or_else(|| usual(facts), |folder| facts.folder.join(folder));
    let items: String = facts
        .models
        .iter()
        .map(|model| {
            let (id, base) = (quoted(&format!("seaway/{model}")), quoted(&format!("{}/v1", facts.url)));
            format!(
                "- model_id: {id}\n  model_name: {}\n  api_base: {base}\n  api_key_name: seaway\n  vision: true\n  supports_tools: true\n  supports_schema: true\n",
                quoted(model)
            )
        })
        .collect();
    let files = vec![
        FileChange {
            path: folder.join("extra-openai-models.yaml"),
            change: Change::Yaml(LinePlace::End, items),
        },
        FileChange {
            path: folder.join("keys.json"),
            change: Change::StrictJson(vec![Edit::own(&["seaway"], facts.written_key())]),
        },
    ];
    Setup {
        files,
        then: format!("try `llm -m seaway/{} 'hello'`", facts.model),
        warnings: Vec::new(),
    }
}

/// Where its settings are when no variable of its own says.
fn usual(facts: &Facts) -> PathBuf {
    let folder = if cfg!(target_os = "macos") {
        facts.home.join("Library/Application Support")
    } else {
        facts.folder_of("XDG_CONFIG_HOME", ".config")
    };
    folder.join("io.datasette.llm")
}
