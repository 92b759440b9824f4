//! Which edits a request gets, before its bytes are touched. Pure.

use std::borrow::Cow;

use seaway_wire::messages::{Edits, Suffix};

use crate::config::{Preset, Upstream};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Create,
    CountTokens,
}

impl Endpoint {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "messages",
            Self::CountTokens => "count_tokens",
        }
    }

    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Create => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }
}

/// Collects the edits that the configuration asks for.
///
/// `model` is the name to ask for in place of the client's, with the reason.
#[must_use]
pub fn edits(upstream: &Upstream, preset: Option<&Preset>, model: Option<(&'static str, String)>, endpoint: Endpoint) -> Edits {
    let configured = &upstream.edits;
    let create = endpoint == Endpoint::Create;
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
    edits.system.extend(configured.system_prefix.clone().map(|text| ("system_prefix".to_owned(), text)));
    if let Some(preset) = preset {
        let name = format!("preset:{}", preset.name);
        edits.system.extend(preset.system.clone().map(|text| (name.clone(), text)));
        if create {
            edits.set.extend(preset.defaults.iter().map(|(key, raw)| (name.clone(), key.clone(), raw.clone())));
        }
        if preset.suffix.is_some() || preset.suffix_thinking.is_some() {
            let thinking = preset.suffix_thinking.clone().or_else(|| preset.suffix.clone());
            edits.suffix = Some(Suffix { name, plain: preset.suffix.clone(), thinking });
        }
    }
    if create {
        edits.set.extend(configured.set.iter().map(|(key, raw)| ("set".to_owned(), key.clone(), raw.clone())));
    }
    edits
}
