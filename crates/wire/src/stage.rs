//! What every machine with a stream has: frames out, and an end.

use std::collections::VecDeque;

use bytes::Bytes;

/// Why no further frame will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The upstream ended its body as HTTP says a body ends.
    Complete,
    /// The connection broke, or we stopped reading.
    Broken,
}

/// Frames on their way downstream.
pub type Out = VecDeque<Bytes>;
