//! OpenAI's Responses API: a spoke.
//!
//! A request becomes one of Messages ([`to_messages`]), a message becomes a response ([`response`]), and a stream of
//! Messages events a stream of Responses events ([`ResponsesStream`]). What a later request needs to go on from a response is
//! a [`Memory`], which whoever has a store keeps.
//!
//! <https://platform.openai.com/docs/api-reference/responses> is the source of every protocol fact here.

mod echo;
mod events;
mod items;
mod memory;
mod output;
mod request;
mod stream;
mod summary;

pub use echo::Echo;
pub use items::listed as input_items;
pub use memory::Memory;
pub use request::{Before, ResponsesRequest, previous, references, to_messages};
pub use stream::{Kept, ResponsesStream, countable, counted, response, unkept};
pub use summary::{observe, summary_of_json};

use crate::openai::{Calls, Names};

/// What of a request its answer depends on.
#[derive(Debug, Clone, Default)]
pub struct ResponsesShape {
    pub names: Names,
    /// What the calls of some tools become.
    pub calls: Calls,
    /// The client wants its model's thinking back in a form that it can return.
    pub encrypted: bool,
    pub echo: Echo,
    /// The conversation up to the answer.
    pub memory: Memory,
}

/// What an answer is called, and when things happen.
#[derive(Debug, Clone)]
pub struct ResponsesStamp {
    /// Without a prefix; items are called after it.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Tells the time, in seconds since 1970.
    pub clock: fn() -> i64,
}
