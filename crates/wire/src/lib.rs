//! The languages Seaway speaks, and nothing else.
//!
//! Everything here is a pure function or a plain state machine: bytes in, bytes
//! out. There is no IO, no clock, no randomness, no async and no logging; ids
//! and times are handed in by the caller. That is what lets every machine be
//! tested at every cut, and every edit be applied to the original bytes as often
//! as a retry needs it.
//!
//! The Anthropic Messages API is the hub. A client and an upstream that both
//! speak it are joined by a [`Relay`]: bytes pass through untouched and are only read
//! along by a [`Meter`]. Other dialects are spokes: [`chat`] writes a Messages request
//! from its own, and its own answer from Messages [`event`]s. What OpenAI's
//! dialects have in common is in [`openai`]; what a Claude model takes, in [`model`].

pub mod bound;
pub mod chat;
pub mod claude_code;
pub mod dialect;
pub mod endpoint;
pub mod event;
pub mod fault;
pub mod json;
pub mod lines;
pub mod messages;
pub mod meter;
pub mod model;
mod notes;
pub mod openai;
pub mod otlp;
pub mod price;
#[cfg(feature = "properties")]
pub mod properties;
mod read;
pub mod relay;
pub mod request;
pub mod responses;
pub mod sse;
pub mod stage;
pub mod usage;

pub use dialect::Dialect;
pub use endpoint::Endpoint;
pub use fault::{Face, Faced, Fault, FaultKind};
pub use meter::Meter;
pub use relay::Relay;
pub use request::Request;
pub use usage::{Iteration, Served, StopReason, Usage};
