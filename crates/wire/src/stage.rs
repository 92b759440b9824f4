//! The shape of every stream machine: frames in, frames out, no waiting.

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

/// A machine that turns upstream frames into downstream frames.
///
/// It never waits and never fails. Once a stream has begun there is no status
/// code left to change, so trouble becomes what the client's own dialect has for
/// it: an error event, or a transfer that is broken off.
pub trait Stage {
    /// Takes one frame, cut wherever the network cut it.
    fn push(&mut self, frame: Bytes, out: &mut Out);

    /// Told once that no frame will follow, and why. False if the answer is not
    /// whole, so that whoever writes it must not end it as if it were.
    fn finish(&mut self, end: End, out: &mut Out) -> bool;
}

/// Reads along as frames pass.
pub trait Tap {
    fn read(&mut self, frame: &[u8]);

    /// Told once that the stream is over. False if it should have gone on.
    fn close(&mut self, end: End) -> bool;
}

/// Forwards every frame as it came, letting a [`Tap`] read along.
#[derive(Debug)]
pub struct Relay<T> {
    tap: T,
}

impl<T> Relay<T> {
    pub fn new(tap: T) -> Self {
        Self { tap }
    }

    pub fn tap(&self) -> &T {
        &self.tap
    }
}

impl<T: Tap> Stage for Relay<T> {
    fn push(&mut self, frame: Bytes, out: &mut Out) {
        self.tap.read(&frame);
        out.push_back(frame);
    }

    fn finish(&mut self, end: End, _: &mut Out) -> bool {
        self.tap.close(end)
    }
}
