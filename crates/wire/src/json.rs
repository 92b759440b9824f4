//! Reading and editing JSON without losing a byte.
//!
//! [`RawObject`] is a request we only look at: the source text and where each
//! member lies in it. A [`Patch`] is what we change: ranges of the source and
//! what stands there instead. Every byte outside a patched range is kept, so key
//! order, spacing, number spelling and members newer than this gateway survive.

mod members;
mod object;
mod patch;
mod scan;
mod text;

pub use members::Members;
pub(crate) use object::decoded;
pub use object::{Node, RawObject};
pub use patch::{Patch, push_quoted, quote};
pub(crate) use scan::Scanner;
pub use scan::{MAX_DEPTH, Malformed, check};
pub use text::{Text, whole, without_lone_surrogates};

use std::borrow::Cow;

/// The `type` member that tells which variant an object is.
///
/// Read the tag first, then the variant: serde's `tag`, `untagged` and `flatten`
/// buffer their input, which a [`serde_json::value::RawValue`] does not survive.
#[derive(Debug, serde::Deserialize)]
pub struct Tag<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
}
