//! HTTP/1.1 framing (RFC 9112), without IO: bytes in, heads and bodies out, and the other way around.
//!
//! The gateway's own lane for what is asked most. It takes what is plain and refuses what could be read in two ways; what
//! it does not take, a server hands to hyper with every byte, so that there is nothing a client could lose by it. hyper is
//! the oracle too: what is taken here is read by it in the same way, which tests and a fuzz target hold.

pub mod body;
pub mod head;
#[cfg(feature = "properties")]
pub mod properties;
pub mod queue;
pub mod write;

pub use body::{BodyDecoder, BodyError, Framing};
pub use head::{HeadError, RequestHead, RequestRead, ResponseHead, may_end, request, response};
pub use queue::{WriteQueue, make_room};
