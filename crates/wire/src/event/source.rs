//! From server-sent events to events.

use std::ops::ControlFlow;

use super::Event;
use crate::sse::{EventDecoder, EventTooLong};

/// The source of an answer that comes as a stream over HTTP.
#[derive(Debug)]
pub struct SseSource {
    decoder: EventDecoder,
}

impl SseSource {
    /// One that refuses events of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self { decoder: EventDecoder::with_limit(limit) }
    }

    /// Reads one frame, cut wherever the network cut it, and hands its events on until `take` has enough.
    ///
    /// # Errors
    ///
    /// [`EventTooLong`] once an event outgrows the limit; the stream cannot be read further.
    pub fn read(
        &mut self,
        frame: &[u8],
        mut take: impl FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), EventTooLong> {
        let mut events = self.decoder.read(frame);
        while let Some(event) = events.next()? {
            if take(&Event::of_sse(&event)).is_break() {
                break;
            }
        }
        Ok(())
    }
}
