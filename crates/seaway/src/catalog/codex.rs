//! Models as Codex lists them: what it knows of one decides which tools it has, how much it remembers, what it is told.
//!
//! Codex 0.171.0 reads `{"models": […]}` from `GET /v1/models?client_version=…` wherever its provider has a command for
//! its key. What is missing of an entry makes the whole list fail; what is there takes the place of what Codex knows.

use seaway_wire::model::{Capabilities, Effort, ModelTraits, Thinking};
use serde::Deserialize;
use serde_json::{Value, json};

/// What each model is told first. Codex has no other text for a model that is listed.
const INSTRUCTIONS: &str = include_str!("codex.txt");
/// The window of a model whose list does not tell it: that of every Claude since the third.
const WINDOW: u64 = 200_000;

/// Models that Codex 0.171.0 brings along, and shows beside those that are listed.
pub const OF_CODEX: [&str; 11] = [
    "gpt-6.2-sol",
    "gpt-6.2-astra",
    "gpt-6.1-terra",
    "gpt-6.1-sol",
    "gpt-6-astra",
    "gpt-6-sol",
    "gpt-6-luna",
    "gpt-5.6-sol",
    "gpt-5.6-terra",
    "gpt-5.6-luna",
    "gpt-5.5",
];

/// The models of a list for Codex, each with what is listed of it as JSON; of those whose names are in `hidden` it
/// knows what they are, and does not offer them.
pub fn codex_models<'m>(
    shown: impl Iterator<Item = (&'m str, &'m str)>,
    hidden: impl Iterator<Item = (String, &'m str)>,
) -> Value {
    let listed = |model: &str| serde_json::from_str::<Value>(model).unwrap_or_default();
    let mut all: Vec<Value> =
        shown.enumerate().map(|(at, (id, model))| codex_model(id, &listed(model), at)).collect();
    for (name, model) in hidden {
        let mut known = codex_model(&name, &listed(model), all.len());
        known["visibility"] = "hide".into();
        all.push(known);
    }
    all.into()
}

/// A name without the date at its end, if there is one.
pub fn undated(id: &str) -> Option<&str> {
    let (name, date) = id.rsplit_once('-')?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// A model for Codex; `model` is what is listed of it, `position` its place in the picker.
fn codex_model(id: &str, model: &Value, position: usize) -> Value {
    let told = Capabilities::deserialize(model).unwrap_or_default();
    let traits = ModelTraits::of(model["id"].as_str().unwrap_or(id)).with(&told);
    let window = model["max_input_tokens"].as_u64().filter(|window| *window > 0).unwrap_or(WINDOW);
    let thinks = traits.thinking != Thinking::No;
    let levels: Vec<Value> = traits
        .efforts
        .iter()
        .map(|effort| json!({"effort": effort.name(), "description": described(*effort)}))
        .collect();
    // Without being told, Claude works with high effort.
    let usual = traits.efforts.contains(&Effort::High).then_some(Effort::High.name());
    json!({
        "slug": id,
        "display_name": model["display_name"].as_str().filter(|_| model["id"] == id).unwrap_or(id),
        "description": "by way of Seaway",
        "default_reasoning_level": usual,
        "supported_reasoning_levels": levels,
        "supports_reasoning_summaries": thinks,
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": true,
        "priority": position,
        "upgrade": null,
        "availability_nux": null,
        "base_instructions": INSTRUCTIONS,
        "support_verbosity": false,
        "default_verbosity": null,
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": true,
        "context_window": window,
        "max_context_window": window,
        "input_modalities": ["text", "image"],
        "experimental_supported_tools": [],
    })
}

fn described(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "Quick, with little thought",
        Effort::Medium => "Some thought, where it is needed",
        Effort::High => "Thorough; what the model does by itself",
        Effort::Xhigh => "More than the model does by itself",
        Effort::Max => "As much as it takes",
    }
}
