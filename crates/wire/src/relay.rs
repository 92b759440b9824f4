//! The relay: every frame leaves as it came, and is only read along.

use bytes::Bytes;

use crate::Meter;
use crate::event::EventFrame;
use crate::stage::{End, Out};

/// Forwards an answer to a client that speaks what its upstream speaks.
#[derive(Debug)]
pub struct Relay {
    meter: Meter,
}

impl Relay {
    pub fn new(meter: Meter) -> Self {
        Self { meter }
    }

    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Takes one frame, cut wherever the network cut it.
    pub fn push(&mut self, frame: Bytes, out: &mut Out) {
        self.meter.read(&frame);
        out.push_back(frame);
    }

    /// Takes an event that came without a frame, and gives it one.
    pub fn event(&mut self, event: &EventFrame, out: &mut Out) {
        self.meter.event(&event.event());
        out.push_back(event.to_sse());
    }

    /// Told once that no frame will follow, and why. False if the answer is not whole, so that whoever writes it must
    /// not end it as if it were.
    pub fn finish(&mut self, end: End) -> bool {
        self.meter.close(end)
    }
}
