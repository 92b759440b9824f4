//! The Anthropic Messages API: the hub.
//!
//! <https://platform.claude.com/docs/en/api/messages> is the source of every
//! protocol fact here.

mod block;
mod edit;
mod fold;
mod partial;
mod related;
mod summary;

pub(crate) use block::Block;
pub use edit::{Change, Edited, Edits, Suffix};
pub use fold::{Fold, FoldError, Folded};
pub use related::{files_named, files_of_message, id_of_made, kept_of_list, models_of_batch};
pub use summary::{Summary, UpstreamError};
