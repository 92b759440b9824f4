//! What OpenAI's two dialects share on their way to Messages and back.
//!
//! Both speak of functions, data URLs and efforts where Messages speaks of tools, sources
//! and thinking. The rules here know neither Chat nor Responses: they take what either
//! says and write what a given model accepts. Every function depends on its arguments
//! alone, and what it writes for a turn only on that turn and what came before, so that a
//! conversation that grows keeps its prefix: the prompt cache and returned thinking live
//! by that.

pub(crate) mod choice;
pub(crate) mod conversation;
pub(crate) mod declared;
pub(crate) mod draft;
pub(crate) mod entries;
pub(crate) mod errors;
pub(crate) mod format;
pub(crate) mod media;
pub(crate) mod members;
pub(crate) mod names;
mod parts;
pub(crate) mod pieces;
pub(crate) mod schema;
pub(crate) mod seal;
pub(crate) mod thinking;
pub(crate) mod tools;
pub(crate) mod usage;

pub use errors::{UpstreamFault, translate_error};
pub use names::Names;
pub use tools::{Calls, order};

use crate::model::{Model, ModelTraits};

/// What requests have to announce that let Claude compact a conversation, or that hold what it made of one.
/// <https://platform.claude.com/docs/en/build-with-claude/compaction>
pub(crate) const COMPACTION_BETA: &str = "compact-2026-01-12";
/// The fewest tokens at which a conversation may be compacted.
pub(crate) const LEAST_COMPACTION: u64 = 50_000;

/// True if two ids surely name two models. Of names that are not known as Claude's nobody knows.
pub(crate) fn is_another_model(a: &str, b: &str) -> bool {
    matches!((Model::parse(a), Model::parse(b)), (Some(a), Some(b)) if a != b)
}

/// What a request's translation depends on besides the request.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'t> {
    /// The model to ask for.
    pub model: &'t str,
    pub traits: ModelTraits,
    /// Refuse what cannot be carried over, where it would be noted otherwise.
    pub strict: bool,
    /// The limit of an answer for which the client gives none, if the model's own is not meant.
    pub max_tokens: Option<u64>,
    /// The configuration adds a cache mark to the whole request, so that there is one less for its blocks.
    pub marked: bool,
    /// The type of the server tool that serves web searches, if one may.
    pub web_search: Option<&'t str>,
}
