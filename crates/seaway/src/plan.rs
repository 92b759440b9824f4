//! Which edits a request gets, before its bytes are touched. Pure.

use std::borrow::Cow;

use seaway_wire::messages::{Edits, Suffix};
use seaway_wire::{Dialect, Endpoint};

use crate::config::{Preset, UpstreamConfig};
use crate::fault::{Fault, FaultKind};

/// Collects the edits that the configuration asks for.
///
/// `model` is the name to ask for in place of the client's, with the reason.
pub fn edits(
    upstream: &UpstreamConfig,
    preset: Option<&Preset>,
    model: Option<(&'static str, String)>,
    endpoint: Endpoint,
) -> Edits {
    let configured = &upstream.edits;
    let create = !endpoint.counts();
    let mut edits = Edits {
        model: model.map(|(reason, model)| (Cow::Borrowed(reason), model)),
        drop: configured.drop.clone(),
        strip_cache_ttl: configured.strip_cache_ttl,
        one_sampling_param: configured.one_sampling_param,
        drop_strict_tools: configured.drop_strict_tools,
        // A count is never streamed, and takes none of a creation's settings.
        force_stream: create && upstream.always_stream,
        ..Edits::default()
    };
    edits
        .system
        .extend(configured.system_prefix.clone().map(|text| ("system_prefix".to_owned(), text)));
    if let Some(preset) = preset {
        let name = format!("preset:{}", preset.name);
        edits.system.extend(preset.system.clone().map(|text| (name.clone(), text)));
        if create {
            edits.set.extend(
                preset.defaults.iter().map(|(key, raw)| (name.clone(), key.clone(), raw.clone())),
            );
        }
        if preset.suffix.is_some() || preset.suffix_thinking.is_some() {
            let thinking = preset.suffix_thinking.clone().or_else(|| preset.suffix.clone());
            edits.suffix = Some(Suffix { name, plain: preset.suffix.clone(), thinking });
        }
    }
    if create {
        edits.set.extend(
            configured.set.iter().map(|(key, raw)| ("set".to_owned(), key.clone(), raw.clone())),
        );
    }
    edits
}

/// How a client that speaks one dialect is served by an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the client's own dialect.
    Relay,
    /// Through Messages.
    Translate,
}

/// Chooses the way. Presets and configured edits are made of Messages' members, so they need that dialect, unless
/// the configuration names the models that do.
///
/// # Errors
///
/// If there is none.
pub fn mode(
    upstream: &UpstreamConfig,
    dialect: Dialect,
    preset: Option<&Preset>,
    model: &str,
) -> Result<Mode, Fault> {
    let speaks = |dialect: Dialect| upstream.speaks.contains(&dialect);
    let edited = match &upstream.translate {
        Some(models) => models.iter().any(|glob| glob.matches(model)),
        None => upstream.edits_messages(),
    };
    match dialect {
        Dialect::Messages if speaks(Dialect::Messages) => Ok(Mode::Relay),
        Dialect::Chat | Dialect::Responses if speaks(dialect) && preset.is_none() && !edited => {
            Ok(Mode::Relay)
        }
        Dialect::Chat | Dialect::Responses if speaks(Dialect::Messages) => Ok(Mode::Translate),
        Dialect::Chat | Dialect::Messages | Dialect::Responses => {
            let known: Vec<&str> = upstream.speaks.iter().map(|dialect| dialect.name()).collect();
            let with = if preset.is_some() { " with a preset" } else { "" };
            let message = format!(
                "upstream `{}` speaks {} only and cannot be asked in {dialect}{with}; use another model or endpoint",
                upstream.name,
                known.join(", ")
            );
            Err(Fault::new(FaultKind::Unsupported, message))
        }
    }
}

/// The edits that can be made to a request that is relayed in one of OpenAI's dialects.
pub fn openai_edits(
    upstream: &UpstreamConfig,
    model: Option<(&'static str, String)>,
    dialect: Dialect,
) -> Edits {
    let set_chat = upstream.set_chat.iter().filter(|_| dialect == Dialect::Chat);
    Edits {
        model: model.map(|(reason, model)| (Cow::Borrowed(reason), model)),
        set: set_chat.map(|(key, raw)| ("set_chat".to_owned(), key.clone(), raw.clone())).collect(),
        drop: upstream.edits.drop.clone(),
        one_sampling_param: upstream.edits.one_sampling_param,
        drop_strict_tools: upstream.edits.drop_strict_tools,
        ..Edits::default()
    }
}
