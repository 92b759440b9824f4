//! The sink of the relay: reads what an answer cost while its bytes pass untouched.

use serde::de::IgnoredAny;

use crate::Dialect;
use crate::chat;
use crate::event::Event;
use crate::messages::Summary;
use crate::responses;
use crate::sse::{EventDecoder, SseEvent};
use crate::stage::End;

/// The largest event that is read along. A larger one is forwarded unread.
const EVENT_LIMIT: usize = 32 << 20;
/// The largest JSON answer that is read along. A larger one is forwarded unread.
const JSON_LIMIT: usize = 8 << 20;
/// So much of a stream has begun, whether or not it holds a whole event.
const BEGINNING_LIMIT: usize = 1 << 20;

/// Reads along as an answer is relayed.
#[derive(Debug)]
pub struct Meter {
    /// The dialect of the answer.
    dialect: Dialect,
    summary: Summary,
    form: MeterForm,
    beginning: Beginning,
}

/// How far an answer is that has just begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// So many bytes came, and no whole event.
    Waits(usize),
    Over,
}

#[derive(Debug)]
enum MeterForm {
    Events(Box<EventDecoder>),
    Json(Vec<u8>),
    /// Bytes whose meaning is not ours to know, or that outgrew a limit.
    Opaque,
}

impl Meter {
    /// For a body of server-sent events.
    pub fn for_events(dialect: Dialect) -> Self {
        Self::with(dialect, MeterForm::Events(Box::new(EventDecoder::with_limit(EVENT_LIMIT))))
    }

    /// For a JSON body.
    pub fn for_json(dialect: Dialect) -> Self {
        Self::with(dialect, MeterForm::Json(Vec::new()))
    }

    /// For a body that is not looked into.
    pub fn opaque(dialect: Dialect) -> Self {
        Self::with(dialect, MeterForm::Opaque)
    }

    fn with(dialect: Dialect, form: MeterForm) -> Self {
        Self { dialect, summary: Summary::default(), form, beginning: Beginning::Waits(0) }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// True once an answer has surely begun: with a whole event of a stream, or with the first bytes of anything else.
    pub fn has_begun(&self) -> bool {
        self.beginning == Beginning::Over
    }

    /// True for a stream of events that said of itself neither that it is over nor that it failed.
    pub fn is_open(&self) -> bool {
        matches!(self.form, MeterForm::Events(_))
            && !self.summary.ended
            && self.summary.error.is_none()
    }

    /// True where an event of our own may be written into the stream.
    pub fn between_events(&self) -> bool {
        match &self.form {
            MeterForm::Events(decoder) => decoder.between_events() && !self.summary.ended,
            MeterForm::Json(_) | MeterForm::Opaque => false,
        }
    }

    /// Takes an event of Messages that came without a frame.
    pub fn event(&mut self, event: &Event<'_>) {
        self.beginning = Beginning::Over;
        self.summary.observe(event);
    }

    /// Takes one frame, cut wherever the network cut it.
    pub fn read(&mut self, frame: &[u8]) {
        if let Beginning::Waits(read) = self.beginning
            && !frame.is_empty()
        {
            let read = read.saturating_add(frame.len());
            let over = !matches!(self.form, MeterForm::Events(_)) || read > BEGINNING_LIMIT;
            self.beginning = if over { Beginning::Over } else { Beginning::Waits(read) };
        }
        match &mut self.form {
            MeterForm::Events(decoder) => {
                let summary = &mut self.summary;
                let mut events = decoder.read(frame);
                let lost = loop {
                    // Nearly every event is one, and says nothing but that there is more text.
                    while self.dialect == Dialect::Messages
                        && let Some(rest) = events.next_like(Summary::DELTA)
                    {
                        self.beginning = Beginning::Over;
                        summary.grew_plainly(rest);
                    }
                    match events.next() {
                        Ok(Some(event)) => {
                            self.beginning = Beginning::Over;
                            observe(self.dialect, summary, &event);
                        }
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
                drop(events);
                if lost {
                    self.form = MeterForm::Opaque;
                }
            }
            MeterForm::Json(held) if held.len() + frame.len() <= JSON_LIMIT => {
                held.extend_from_slice(frame);
            }
            MeterForm::Json(_) => self.form = MeterForm::Opaque,
            MeterForm::Opaque => {}
        }
    }

    /// Told once that the stream is over. False if it should have gone on.
    pub fn close(&mut self, end: End) -> bool {
        let complete = end == End::Complete;
        match &self.form {
            // An error event ends an answer as well as `message_stop` does. So does a stop
            // reason where the upstream ended the body itself: some never send the last event.
            MeterForm::Events(_) => {
                self.summary.ended
                    || (complete
                        && (self.summary.error.is_some() || self.summary.stop_reason.is_some()))
            }
            MeterForm::Json(held) => {
                if !complete {
                    return false;
                }
                // A body may end as HTTP says it ends, in the midst of its JSON.
                let (summary, whole) = of_json(self.dialect, held);
                self.summary = summary;
                whole
            }
            MeterForm::Opaque => complete,
        }
    }
}

/// Takes what one event of a stream says.
fn observe(dialect: Dialect, summary: &mut Summary, event: &SseEvent<'_>) {
    match dialect {
        Dialect::Messages => summary.observe(&Event::of_sse(event)),
        Dialect::Chat => chat::observe(summary, event.data),
        Dialect::Responses => responses::observe(summary, event.data),
    }
}

/// Reads a whole JSON answer, and tells whether it is all there.
fn of_json(dialect: Dialect, body: &[u8]) -> (Summary, bool) {
    let is_all = || {
        let read = serde_json::from_slice::<IgnoredAny>(body);
        !read.is_err_and(|error| error.is_eof())
    };
    match dialect {
        Dialect::Messages => Summary::of_whole_json(body),
        Dialect::Chat => (chat::summary_of_json(body), is_all()),
        Dialect::Responses => (responses::summary_of_json(body), is_all()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{StopReason, Usage};

    const STREAM: &str = concat!(
        "event: message_start\r\n",
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-ü\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\r\n\r\n",
        ": keep-alive\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"message_stop\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\ndata: \"usage\":{\"output_tokens\":5,\"input_tokens\":null}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    /// Reads `source` in pieces of every size; what is understood must not depend on it.
    #[track_caller]
    fn read(source: &str, end: End) -> (Summary, bool) {
        let mut seen = None;
        for size in 1..=source.len() {
            let mut meter = Meter::for_events(Dialect::Messages);
            source.as_bytes().chunks(size).for_each(|piece| meter.read(piece));
            let whole = meter.close(end);
            let now = (meter.summary().clone(), whole);
            assert_eq!(*seen.get_or_insert(now.clone()), now, "in pieces of {size} bytes");
        }
        seen.expect("the source is not empty")
    }

    #[test]
    fn a_stream_says_what_it_cost() {
        let (summary, whole) = read(STREAM, End::Complete);
        assert!(whole);
        assert_eq!(summary.model.as_deref(), Some("claude-ü"));
        assert_eq!(summary.stop_reason, Some(StopReason::EndTurn));
        assert_eq!(summary.usage, Usage { input: 9, output: 5, ..Usage::default() });
    }

    #[test]
    fn text_grows_by_the_same_however_it_comes() {
        let delta = |rest: &str| {
            format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{rest}\n\n"
            )
        };
        let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
        let long = "x".repeat(400);
        let text = |text: &str| format!(r#","delta":{{"type":"text_delta","text":"{text}"}}}}"#);
        for (rest, expect) in [
            (format!("0{}", text("a")), 1),
            (format!("0{}", text(&long)), 100),
            (format!("12345{}", text(&long)), 101),
            (format!(r#"0,"delta":{{"type":"signature_delta","signature":"{long}"}}}}"#), 0),
            (format!(r#"0, "delta": {{"type": "signature_delta","signature":"{long}"}}}}"#), 0),
            (format!(r#"0,"delta":{{"signature":"{long}","type":"signature_delta"}}}}"#), 102),
            (format!("0{}\r", text("a")), 1),
            (format!("0,\ndata: {}", &text(&long)[1..]), 100),
            ("0}\n: a comment".to_owned(), 1),
        ] {
            let (summary, whole) = read(&format!("{start}{}", delta(&rest)), End::Complete);
            assert_eq!((summary.so_far, whole), (expect, false), "{rest}");
        }
    }

    #[test]
    fn a_cut_stream_is_never_whole() {
        let ends = STREAM.len();
        let stopped = STREAM.find("event: message_stop").unwrap();
        for (at, _) in STREAM.char_indices().skip(1) {
            for end in [End::Complete, End::Broken] {
                let mut meter = Meter::for_events(Dialect::Messages);
                meter.read(&STREAM.as_bytes()[..at]);
                let whole = at == ends || (at >= stopped && end == End::Complete);
                assert_eq!(meter.close(end), whole, "cut at {at}");
            }
        }
    }

    #[test]
    fn an_error_event_ends_the_answer() {
        let source = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
        let (summary, whole) = read(source, End::Complete);
        assert!(whole);
        assert_eq!(summary.error.unwrap().kind, "overloaded_error");
    }

    #[test]
    fn an_event_name_stands_in_for_a_missing_type() {
        assert!(read("event: message_stop\ndata: {}\n\n", End::Complete).1);
    }

    #[test]
    fn a_json_answer_is_read_at_its_end() {
        let mut meter = Meter::for_json(Dialect::Messages);
        meter.read(br#"{"model":"m","stop_reason":"refusal","usage":{"input_to"#);
        meter.read(br#"kens":3,"output_tokens":4}}"#);
        assert!(meter.close(End::Complete));
        let summary = meter.summary();
        assert_eq!((summary.usage.input, summary.usage.output), (3, 4));
        assert_eq!(summary.stop_reason, Some(StopReason::Refusal));
    }

    #[test]
    fn a_json_answer_that_ends_in_its_midst_is_not_whole() {
        let body = r#"{"model":"m","content":[{"text":"a}"}]} "#;
        for at in 1..=body.len() {
            let mut meter = Meter::for_json(Dialect::Messages);
            meter.read(&body.as_bytes()[..at]);
            assert_eq!(meter.close(End::Complete), at >= body.len() - 1, "cut at {at}");
        }
        let mut meter = Meter::for_json(Dialect::Messages);
        meter.read(b"what is none was never one");
        assert!(meter.close(End::Complete));
    }

    #[test]
    fn a_chat_stream_says_what_it_cost() {
        let source = concat!(
            "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n",
            "data: [DONE]\n\n"
        );
        for size in 1..source.len() {
            let mut meter = Meter::for_events(Dialect::Chat);
            source.as_bytes().chunks(size).for_each(|piece| meter.read(piece));
            assert!(meter.close(End::Complete));
            let summary = meter.summary();
            assert_eq!(
                (summary.model.as_deref(), &summary.stop_reason),
                (Some("m"), &Some(StopReason::MaxTokens))
            );
            assert_eq!(
                (summary.usage.input, summary.usage.cache_read, summary.usage.output),
                (6, 3, 4)
            );
        }
    }

    #[test]
    fn a_cut_chat_stream_is_not_whole() {
        let mut meter = Meter::for_events(Dialect::Chat);
        meter.read(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n");
        assert!(!meter.close(End::Complete));
    }

    #[test]
    fn a_chat_error_is_one_whatever_it_says_of_itself() {
        let mut meter = Meter::for_events(Dialect::Chat);
        meter.read(b"data: {\"error\":{\"message\":\"x\",\"type\":null,\"code\":null}}\n\n");
        assert!(meter.close(End::Complete));
        assert_eq!(meter.summary().error.as_ref().map(|error| error.message.as_str()), Some("x"));
    }

    #[test]
    fn a_completion_is_read_at_its_end() {
        let mut meter = Meter::for_json(Dialect::Chat);
        meter.read(br#"{"model":"m","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        assert!(meter.close(End::Complete));
        assert_eq!(meter.summary().usage.output, 2);
    }
}
