//! What takes events.

use std::ops::ControlFlow;

use super::{Event, EventFrame, SseSource};
use crate::stage::Out;

/// The largest event that is taken apart.
const EVENT_LIMIT: usize = 64 << 20;

/// Takes the events of an answer, one by one.
///
/// It never waits and never fails: once a stream has begun there is no status code left to change, so trouble becomes
/// what it has for that.
pub trait Sink {
    fn event(&mut self, event: &Event<'_>);

    /// Told that the source cannot be read any further, and why.
    fn unreadable(&mut self, why: String);

    /// True once no event that may still come can change what it made.
    fn is_over(&self) -> bool;
}

/// A sink that writes frames of another dialect while events come.
pub trait Translator: Sink {
    /// Hands on what was written.
    fn flush(&mut self, out: &mut Out);

    /// Told once that no event will follow. False if the answer is not whole, so that whoever writes it must not end it
    /// as if it were. It is whole also where the upstream itself ended it with an error.
    fn finish(&mut self, out: &mut Out) -> bool;
}

/// A sink behind a stream of server-sent events.
#[derive(Debug)]
pub struct FromSse<S> {
    source: SseSource,
    sink: S,
}

impl<S: Default> Default for FromSse<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S> FromSse<S> {
    pub fn new(sink: S) -> Self {
        Self { source: SseSource::with_limit(EVENT_LIMIT), sink }
    }

    pub fn sink(&self) -> &S {
        &self.sink
    }

    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    pub fn into_sink(self) -> S {
        self.sink
    }
}

impl<S: Sink> FromSse<S> {
    /// Takes one frame, cut wherever the network cut it.
    pub fn push(&mut self, frame: &[u8]) {
        let sink = &mut self.sink;
        if sink.is_over() {
            return;
        }
        let read = self.source.read(frame, |event| {
            sink.event(event);
            if sink.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(error) = read {
            self.sink.unreadable(error.to_string());
        }
    }

    /// Takes an event that came without a frame.
    pub fn push_event(&mut self, event: &EventFrame) {
        if !self.sink.is_over() {
            self.sink.event(&event.event());
        }
    }
}

impl<S: Translator> FromSse<S> {
    /// Takes one frame, and hands on at once what it made.
    pub fn translate(&mut self, frame: &[u8], out: &mut Out) {
        self.push(frame);
        self.sink.flush(out);
    }

    /// The same of an event that came without a frame.
    pub fn translate_event(&mut self, event: &EventFrame, out: &mut Out) {
        self.push_event(event);
        self.sink.flush(out);
    }
}
