//! The relay: every frame leaves as it came, and is only read along.

use bytes::Bytes;

use crate::event::EventFrame;
use crate::fault::openai_body;
use crate::json::quote;
use crate::stage::{End, Out};
use crate::{Dialect, Faced, Fault, Meter};

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

    /// Says in the client's dialect that a stream was cut off, and why, as far as it can still be said. The transfer is to
    /// be broken off all the same: it is not what the upstream meant to send.
    pub fn cut<K: Faced>(&mut self, why: &Fault<K>, request_id: &str, out: &mut Out) {
        if !self.meter.is_open() {
            return;
        }
        let event = match self.meter.dialect() {
            Dialect::Messages => why.body(Dialect::Messages, request_id),
            Dialect::Responses => format!(
                "{{\"type\":\"error\",\"code\":\"server_error\",\"message\":{},\"param\":null,\"sequence_number\":0}}",
                quote(&why.message)
            ),
            // A chunk has no name that would make an error of what was begun.
            Dialect::Chat if !self.meter.between_events() => return,
            Dialect::Chat => {
                let error = openai_body(&why.message, "server_error", None, None);
                return out.push_back(format!("data: {error}\n\n").into());
            }
        };
        // The last name of an event counts, so that what was begun becomes part of the error.
        let begun = if self.meter.between_events() { "" } else { "\n" };
        out.push_back(format!("{begun}event: error\ndata: {event}\n\n").into());
    }

    /// Told once that no frame will follow, and why. False if the answer is not whole, so that whoever writes it must
    /// not end it as if it were.
    pub fn finish(&mut self, end: End) -> bool {
        self.meter.close(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;
    use crate::sse::EventDecoder;

    /// The events that a client sees of a relayed stream which is cut off after so much of it.
    fn seen(dialect: Dialect, source: &[u8]) -> Vec<(String, String)> {
        let (mut relay, mut out) = (Relay::new(Meter::for_events(dialect)), Out::new());
        relay.push(Bytes::copy_from_slice(source), &mut out);
        if !relay.finish(End::Broken) {
            relay.cut(&Fault::new(FaultKind::BadReply, "cut \"off\""), "req_1", &mut out);
        }
        let mut decoder = EventDecoder::with_limit(1 << 16);
        let mut seen = Vec::new();
        for frame in &out {
            let mut events = decoder.read(frame);
            while let Some(event) = events.next().unwrap() {
                let data = String::from_utf8_lossy(event.data).into_owned();
                seen.push((event.name.unwrap_or_default().to_owned(), data));
            }
        }
        seen
    }

    #[test]
    fn wherever_a_stream_of_messages_is_cut_its_last_event_is_an_error() {
        let source = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ü\"}}\n\n";
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let whole = [source, stop].concat();
        for at in 0..whole.len() {
            let (name, data) = seen(Dialect::Messages, &whole.as_bytes()[..at]).pop().unwrap();
            assert_eq!(name, "error", "cut at {at}");
            assert!(data.ends_with(r#"{"type":"error","error":{"type":"api_error","message":"cut \"off\""},"request_id":"req_1"}"#), "cut at {at}: {data}");
        }
        assert_eq!(seen(Dialect::Messages, whole.as_bytes()).pop().unwrap().0, "message_stop");
        let said = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
        assert_eq!(seen(Dialect::Messages, said.as_bytes()).len(), 1, "it was said already");
    }

    #[test]
    fn the_other_dialects_say_it_in_their_own_words() {
        let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        assert_eq!(
            seen(Dialect::Chat, chunk.as_bytes()).pop().unwrap().1,
            r#"{"error":{"message":"cut \"off\"","type":"server_error","param":null,"code":null}}"#
        );
        assert_eq!(seen(Dialect::Chat, &chunk.as_bytes()[..20]).len(), 0, "nothing fits there");
        let created =
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n";
        for at in [created.len(), 30] {
            let (name, data) = seen(Dialect::Responses, &created.as_bytes()[..at]).pop().unwrap();
            assert!(
                name == "error" && data.contains(r#""type":"error","code":"server_error""#),
                "{data}"
            );
        }
    }
}
