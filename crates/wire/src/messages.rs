//! The Anthropic Messages API: the hub.
//!
//! <https://platform.claude.com/docs/en/api/messages> is the source of every
//! protocol fact here.

mod block;
mod edit;
mod event;
mod fold;
mod partial;
mod related;

pub(crate) use block::Block;
pub use edit::{Change, Edited, Edits, Suffix};
pub(crate) use event::{BlockDelta, BlockStart};
pub use event::{EventKind, Summary, UpstreamError};
pub use fold::{Fold, FoldError, Folded};
pub use related::{files_of_message, id_of_made, models_of_batch};
