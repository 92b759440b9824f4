//! From a stream of Messages events to a stream of chunks.
//!
//! Deltas leave as they come, their text untouched: it is JSON here and there. What has no
//! place in a delta (citations, thinking for the way back) leaves before the finish reason.
//! A stream that does not end as it should ends with an error and without `[DONE]`.

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::chunk::{self, Chunks};
use super::open::{OpenBlock, OpenBlockKind};
use super::response::{ChatCitation, StopDetails, Thought, ToolUse};
use super::{ChatShape, ChatStamp, finish_reason};
use crate::event::{
    BlockDelta, BlockStart, BlockStop, Event, EventKind, MessageDelta, MessageHead, MessageStart,
    Sink, Translator, report,
};
use crate::json::{Members, Tag, Text, quote};
use crate::messages::{Block, Summary};
use crate::openai::UpstreamFault;
use crate::openai::errors::{translate_event, unbegun, unfinished};
use crate::openai::pieces::{custom_input, foreign, one_line, required};
use crate::stage::Out;
use crate::{Faced, Fault, StopReason};

const ROLE: &str = r#"{"role":"assistant","content":"","refusal":null}"#;

/// The sink that writes chunks.
#[derive(Debug)]
pub struct ChatStream {
    shape: ChatShape,
    stamp: ChatStamp,
    summary: Summary,
    state: ChatState,
    /// There once the first chunk was written.
    chunks: Option<Chunks>,
    /// Blocks that began and did not end.
    open: Vec<OpenBlock>,
    /// How many tool calls there were: their index counts them, not blocks.
    calls: usize,
    /// Characters of text so far.
    length: usize,
    annotations: Vec<String>,
    thoughts: Vec<String>,
    explanation: Option<String>,
    out: BytesMut,
}

#[derive(Debug)]
enum ChatState {
    Going,
    /// `[DONE]` was written.
    Ended,
    /// An error was written.
    Failed(UpstreamFault),
}

#[derive(Deserialize)]
struct TextStart<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citations: Option<Vec<&'a RawValue>>,
}

impl ChatStream {
    pub fn new(shape: ChatShape, stamp: ChatStamp) -> Self {
        Self {
            shape,
            stamp,
            summary: Summary::default(),
            state: ChatState::Going,
            chunks: None,
            open: Vec::new(),
            calls: 0,
            length: 0,
            annotations: Vec::new(),
            thoughts: Vec::new(),
            explanation: None,
            out: BytesMut::new(),
        }
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Why there is no whole answer, if that is known already.
    pub fn failure(&self) -> Option<&UpstreamFault> {
        match &self.state {
            ChatState::Failed(fault) => Some(fault),
            ChatState::Going | ChatState::Ended => None,
        }
    }

    /// Ends a stream that will not go on, saying why.
    pub fn cut<K: Faced>(&mut self, why: &Fault<K>, out: &mut Out) {
        if !self.is_over() {
            self.fail(UpstreamFault::of(why));
        }
        self.flush(out);
    }

    fn fail(&mut self, fault: UpstreamFault) {
        chunk::error(&mut self.out, &fault.body);
        self.state = ChatState::Failed(fault);
    }

    fn take(&mut self, event: &Event<'_>) -> serde_json::Result<()> {
        match event.kind {
            EventKind::BlockDelta => {
                self.summary.grew(event);
                self.block_delta(&event.read()?)?;
            }
            EventKind::MessageStart => {
                let MessageStart { message } = event.read()?;
                self.summary.started(&message);
                self.message_start(&message)?;
            }
            EventKind::BlockStart => {
                let start: BlockStart<'_> = event.read()?;
                self.block_start(start.index, start.content_block)?;
            }
            EventKind::BlockStop => {
                let stop: BlockStop = event.read().unwrap_or_default();
                self.block_stop(stop.index);
            }
            EventKind::MessageDelta => {
                let delta: MessageDelta<'_> = event.read().unwrap_or_default();
                self.summary.stopped(&delta);
                let details = delta.delta.stop_details.map(RawValue::get);
                self.explanation = details
                    .and_then(|raw| serde_json::from_str::<StopDetails>(raw).ok()?.explanation)
                    .or(self.explanation.take());
            }
            EventKind::MessageStop => {
                self.summary.ended = true;
                self.message_stop();
            }
            EventKind::Error => {
                let fault = translate_event(self.summary.failed(event));
                self.fail(fault);
            }
            EventKind::Ping | EventKind::Other => {}
        }
        Ok(())
    }

    /// The first chunk has the role. A second start changes nothing.
    fn message_start(&mut self, head: &MessageHead<'_>) -> serde_json::Result<()> {
        if self.chunks.is_some() {
            return Ok(());
        }
        let blocks = head.blocks()?;
        let tier = report(head.usage.map(RawValue::get)).service_tier;
        self.begin(head.id.as_deref(), head.model.as_deref().unwrap_or_default(), tier.as_deref());
        for (index, block) in (0..).zip(blocks) {
            self.block_start(index, block)?;
            self.block_stop(index);
        }
        Ok(())
    }

    fn begin(&mut self, id: Option<&str>, model: &str, tier: Option<&str>) {
        let chunks = Chunks::new(&self.stamp, id, model, tier, self.shape.include_usage);
        chunks.delta(&mut self.out, &[ROLE]);
        self.chunks = Some(chunks);
    }

    /// Writes a chunk; the first one also if the upstream never said how its message starts.
    fn delta(&mut self, pieces: &[&str]) {
        if self.chunks.is_none() {
            let model = self.summary.model.clone().unwrap_or_default();
            self.begin(None, &model, None);
        }
        if let Some(chunks) = &self.chunks {
            chunks.delta(&mut self.out, pieces);
        }
    }

    fn block_start(&mut self, index: u64, block: &RawValue) -> serde_json::Result<()> {
        let source = block.get();
        let tag: Tag<'_> = serde_json::from_str(source)?;
        // The text that a start has already.
        let mut text = None;
        let kind = match &*tag.kind {
            "text" => {
                let started: TextStart<'_> = serde_json::from_str(source)?;
                text = started.text;
                OpenBlockKind::Text {
                    start: self.length,
                    citations: started
                        .citations
                        .iter()
                        .flatten()
                        .map(|raw| raw.get().to_owned())
                        .collect(),
                }
            }
            // A legacy client knows one call; another was forbidden, and would be taken for more of the first.
            "tool_use" if self.shape.legacy && self.calls > 0 => OpenBlockKind::Other,
            "tool_use" => self.call(&serde_json::from_str(source)?),
            "thinking" | "redacted_thinking" => {
                let started: Thought<'_> = serde_json::from_str(source)?;
                text = started.thinking;
                OpenBlockKind::Thought(Block::new(index, serde_json::from_str::<Members>(source)?))
            }
            _ => OpenBlockKind::Other,
        };
        self.open.push(OpenBlock::new(index, kind));
        match text {
            Some(text) => self.text(index, text),
            None => Ok(()),
        }
    }

    fn call(&mut self, started: &ToolUse<'_>) -> OpenBlockKind {
        let index = self.calls;
        self.calls += 1;
        let name = quote(self.shape.names.client(&started.name));
        let custom = !self.shape.legacy && self.shape.custom.contains(&*started.name);
        if custom {
            let (place, id) = (index.to_string(), quote(&started.id));
            self.delta(&[
                "{\"tool_calls\":[{\"index\":",
                &place,
                ",\"id\":",
                &id,
                ",\"type\":\"custom\",\"custom\":{\"name\":",
                &name,
                ",\"input\":\"\"}}]}",
            ]);
        } else if self.shape.legacy {
            self.delta(&["{\"function_call\":{\"name\":", &name, ",\"arguments\":\"\"}}"]);
        } else {
            let (place, id) = (index.to_string(), quote(&started.id));
            self.delta(&[
                "{\"tool_calls\":[{\"index\":",
                &place,
                ",\"id\":",
                &id,
                ",\"type\":\"function\",\"function\":{\"name\":",
                &name,
                ",\"arguments\":\"\"}}]}",
            ]);
        }
        OpenBlockKind::Call {
            index,
            input: Some(started.input().to_owned()),
            custom: custom.then(String::new),
        }
    }

    fn block_delta(&mut self, event: &BlockDelta<'_>) -> serde_json::Result<()> {
        let delta = event.read()?;
        let Some(open) = self.opened(event.index) else {
            return Err(foreign("a delta for a block that never began"));
        };
        if let OpenBlockKind::Thought(block) = &mut open.kind {
            block.delta(&delta, event.delta)?;
        }
        match (&*delta.kind, &mut open.kind) {
            ("text_delta", OpenBlockKind::Text { .. }) => {
                self.text(event.index, required(delta.text)?)
            }
            ("thinking_delta", OpenBlockKind::Thought(_)) => {
                self.text(event.index, required(delta.thinking)?)
            }
            ("input_json_delta", OpenBlockKind::Call { .. }) => {
                self.arguments(event.index, required(delta.partial_json)?)
            }
            ("citations_delta", OpenBlockKind::Text { citations, .. }) => {
                citations.extend(delta.citation.map(|raw| raw.get().to_owned()));
                Ok(())
            }
            // Signatures, what the upstream runs itself, and what is newer than this gateway.
            _ => Ok(()),
        }
    }

    fn opened(&mut self, index: u64) -> Option<&mut OpenBlock> {
        self.open.iter_mut().rev().find(|open| open.index == index)
    }

    /// Sends a piece of an open block's text: of the answer, or of its thinking.
    fn text(&mut self, index: u64, raw: &RawValue) -> serde_json::Result<()> {
        let Some(open) = self.opened(index) else { return Ok(()) };
        let thinks = matches!(open.kind, OpenBlockKind::Thought(_));
        let text = open.pieces.next(raw)?;
        if text.inner().is_empty() {
            return Ok(());
        }
        if thinks {
            self.delta(&["{\"reasoning_content\":", text.raw(), "}"]);
        } else {
            self.length += text.count();
            self.delta(&["{\"content\":", text.raw(), "}"]);
        }
        Ok(())
    }

    fn arguments(&mut self, index: u64, raw: &RawValue) -> serde_json::Result<()> {
        let Some(open) = self.opened(index) else { return Ok(()) };
        let text = open.pieces.next(raw)?;
        if let OpenBlockKind::Call { index, input, custom } = &mut open.kind
            && !text.inner().is_empty()
        {
            *input = None;
            let index = *index;
            match custom {
                // Text that stands in the place of arguments cannot be told before it is whole.
                Some(custom) => custom.push_str(text.inner()),
                None => self.call_text(index, text.raw()),
            }
        }
        Ok(())
    }

    fn call_text(&mut self, index: usize, raw: &str) {
        if self.shape.legacy {
            self.delta(&["{\"function_call\":{\"arguments\":", raw, "}}"]);
        } else {
            self.delta(&[
                "{\"tool_calls\":[{\"index\":",
                &index.to_string(),
                ",\"function\":{\"arguments\":",
                raw,
                "}}]}",
            ]);
        }
    }

    fn block_stop(&mut self, index: u64) {
        let Some(at) = self.open.iter().rposition(|open| open.index == index) else { return };
        let open = self.open.remove(at);
        match open.kind {
            OpenBlockKind::Call { index, input, custom: Some(custom) } => {
                let streamed = || {
                    Text::of_cow(format!("\"{custom}\"").into())
                        .map(|text| text.decoded().into_owned())
                        .unwrap_or_default()
                };
                let written = input.unwrap_or_else(streamed);
                let (place, said) = (index.to_string(), quote(&custom_input(&written)));
                self.delta(&[
                    "{\"tool_calls\":[{\"index\":",
                    &place,
                    ",\"custom\":{\"input\":",
                    &said,
                    "}}]}",
                ]);
            }
            // A call whose arguments were not streamed has them in its start, or has none.
            OpenBlockKind::Call { index, input: Some(input), custom: None } => {
                self.call_text(index, &quote(&input));
            }
            OpenBlockKind::Text { start, citations } => {
                let end = self.length;
                let cited = citations.iter().filter_map(|raw| {
                    serde_json::from_str::<ChatCitation<'_>>(raw).ok()?.annotation(start, end)
                });
                self.annotations.extend(cited);
            }
            OpenBlockKind::Thought(block) => self.thoughts.push(one_line(&block.write())),
            OpenBlockKind::Call { input: None, custom: None, .. } | OpenBlockKind::Other => {}
        }
    }

    /// Going → Ended: the one place where `[DONE]` is written.
    fn message_stop(&mut self) {
        if self.chunks.is_none() {
            self.fail(UpstreamFault::of(&unbegun()));
            return;
        }
        while let Some(index) = self.open.first().map(|open| open.index) {
            self.block_stop(index);
        }
        if !self.annotations.is_empty() {
            let all = self.annotations.join(",");
            self.delta(&["{\"annotations\":[", &all, "]}"]);
        }
        if !self.thoughts.is_empty() {
            let (all, model) =
                (self.thoughts.join(","), quote(self.summary.model.as_deref().unwrap_or_default()));
            self.delta(&["{\"thinking_blocks\":[", &all, "],\"thinking_model\":", &model, "}"]);
        }
        let refused = self.summary.stop_reason == Some(StopReason::Refusal);
        if let Some(explanation) =
            self.explanation.take().filter(|text| refused && !text.is_empty())
        {
            self.delta(&["{\"refusal\":", &quote(&explanation), "}"]);
        }
        let reason = finish_reason(self.summary.stop_reason.as_ref(), self.shape.legacy);
        if let Some(chunks) = &self.chunks {
            chunks.finish(&mut self.out, reason, &self.summary.usage);
        }
        self.state = ChatState::Ended;
    }
}

impl Sink for ChatStream {
    fn event(&mut self, event: &Event<'_>) {
        if let Err(error) = self.take(event) {
            self.fail(UpstreamFault::no_messages(&error));
        }
    }

    fn unreadable(&mut self, why: String) {
        self.fail(UpstreamFault::unreadable(&why));
    }

    fn is_over(&self) -> bool {
        matches!(self.state, ChatState::Ended | ChatState::Failed(_))
    }
}

impl Translator for ChatStream {
    fn flush(&mut self, out: &mut Out) {
        if !self.out.is_empty() {
            out.push_back(self.out.split().freeze());
        }
    }

    fn finish(&mut self, out: &mut Out) -> bool {
        self.cut(&unfinished(), out);
        matches!(self.state, ChatState::Ended) || self.summary.error.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FromSse;
    use crate::openai::Names;

    /// Translates `events` in pieces of every size; what comes out must not depend on it.
    #[track_caller]
    fn run(events: &[&str], shape: &ChatShape) -> (Vec<String>, bool) {
        let source: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
        let mut seen = None;
        for size in 1..=source.len() {
            let stream = ChatStream::new(shape.clone(), ChatStamp { id: "own".into(), created: 7 });
            let (mut stream, mut out) = (FromSse::new(stream), Out::new());
            source.as_bytes().chunks(size).for_each(|piece| stream.translate(piece, &mut out));
            let whole = stream.sink_mut().finish(&mut out);
            let text: Vec<u8> = out.iter().flat_map(|frame| frame.iter().copied()).collect();
            let now = (String::from_utf8(text).unwrap(), whole);
            assert_eq!(*seen.get_or_insert(now.clone()), now, "in pieces of {size} bytes");
        }
        let (text, whole) = seen.expect("the source is not empty");
        (
            text.split_terminator("\n\n")
                .map(|line| line.strip_prefix("data: ").unwrap().to_owned())
                .collect(),
            whole,
        )
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;

    fn ended(reason: &str) -> String {
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":7}}}}"#
        )
    }

    fn start(index: u64, block: &str) -> String {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
    }

    fn delta(index: u64, delta: &str) -> String {
        format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
    }

    fn stop(index: u64) -> String {
        format!(r#"{{"type":"content_block_stop","index":{index}}}"#)
    }

    /// The deltas and finish reasons of a whole stream.
    #[track_caller]
    fn deltas(middle: &[String], reason: &str, shape: &ChatShape) -> Vec<String> {
        let ended = ended(reason);
        let mut events = vec![START];
        events.extend(middle.iter().map(String::as_str));
        events.extend([ended.as_str(), STOP]);
        let (lines, whole) = run(&events, shape);
        assert!(whole);
        let (done, chunks) = lines.split_last().unwrap();
        assert_eq!(done, "[DONE]");
        let show = |line: &String| {
            let chunk: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&chunk["id"], &chunk["model"], &chunk["created"]),
                (&"chatcmpl-msg_1".into(), &"claude-x".into(), &7.into())
            );
            let choice = &chunk["choices"][0];
            if choice["finish_reason"].is_null() {
                choice["delta"].to_string()
            } else {
                format!("{} {}", choice["delta"], choice["finish_reason"])
            }
        };
        chunks.iter().map(show).collect()
    }

    #[track_caller]
    fn check(middle: &[String], reason: &str, expect: &[&str]) {
        let came = deltas(middle, reason, &ChatShape::default());
        assert_eq!(came[0], ROLE);
        assert_eq!(came[1..], *expect);
    }

    #[test]
    fn text_leaves_as_it_comes() {
        check(
            &[
                start(0, r#"{"type":"text","text":"a"}"#),
                delta(0, r#"{"type":"text_delta","text":""}"#),
                delta(0, r#"{"type":"text_delta","text":"\u00fc\n"}"#),
                stop(0),
            ],
            "end_turn",
            &[r#"{"content":"a"}"#, r#"{"content":"ü\n"}"#, r#"{} "stop""#],
        );
    }

    #[test]
    fn calls_are_counted_and_always_have_arguments() {
        check(
            &[
                start(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
                delta(0, r#"{"type":"thinking_delta","thinking":"hm"}"#),
                delta(0, r#"{"type":"signature_delta","signature":"s"}"#),
                stop(0),
                start(1, r#"{"type":"server_tool_use","id":"x","name":"web_search","input":{}}"#),
                delta(1, r#"{"type":"input_json_delta","partial_json":"{}"}"#),
                stop(1),
                start(2, r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#),
                delta(2, r#"{"type":"input_json_delta","partial_json":""}"#),
                delta(2, r#"{"type":"input_json_delta","partial_json":"{\"a\":1.0}"}"#),
                stop(2),
                start(3, r#"{"type":"tool_use","id":"u","name":"m","input":{}}"#),
                stop(3),
                start(4, r#"{"type":"tool_use","id":"v","name":"k","input":{"b":2}}"#),
            ],
            "tool_use",
            &[
                r#"{"reasoning_content":"hm"}"#,
                r#"{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"n","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1.0}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"u","type":"function","function":{"name":"m","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":2,"id":"v","type":"function","function":{"name":"k","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":2,"function":{"arguments":"{\"b\":2}"}}]}"#,
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}],"thinking_model":"claude-x"}"#,
                r#"{} "tool_calls""#,
            ],
        );
    }

    #[test]
    fn citations_become_annotations_before_the_end() {
        check(
            &[
                start(0, r#"{"type":"text","text":"🌊 "}"#),
                stop(0),
                start(
                    1,
                    r#"{"type":"text","text":"","citations":[{"type":"web_search_result_location","url":"https://x","title":"X"}]}"#,
                ),
                delta(1, r#"{"type":"text_delta","text":"x\u00fcy"}"#),
                delta(
                    1,
                    r#"{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"https://y"}}"#,
                ),
                delta(1, r#"{"type":"citations_delta","citation":{"type":"char_location"}}"#),
                stop(1),
            ],
            "end_turn",
            &[
                r#"{"content":"🌊 "}"#,
                r#"{"content":"xüy"}"#,
                r#"{"annotations":[{"type":"url_citation","url_citation":{"start_index":2,"end_index":5,"title":"X","url":"https://x"}},{"type":"url_citation","url_citation":{"start_index":2,"end_index":5,"title":"","url":"https://y"}}]}"#,
                r#"{} "stop""#,
            ],
        );
    }

    #[test]
    fn what_is_newer_than_this_gateway_is_passed_over() {
        check(
            &[
                start(0, r#"{"type":"newer","name":null,"id":7,"text":{}}"#),
                delta(0, r#"{"type":"text_delta","text":"not an answer"}"#),
                delta(0, r#"{"type":"newer_delta","text":7}"#),
                stop(0),
                start(1, r#"{"type":"text","text":"a"}"#),
            ],
            "end_turn",
            &[r#"{"content":"a"}"#, r#"{} "stop""#],
        );
    }

    #[test]
    fn thinking_is_told_and_kept_also_where_characters_are_split() {
        check(
            &[
                start(0, r#"{"type":"thinking","thinking":"w\ud83d","signature":""}"#),
                delta(0, r#"{"type":"thinking_delta","thinking":"\ude00 a\ude00b"}"#),
                delta(0, r#"{"type":"signature_delta","signature":"s"}"#),
            ],
            "end_turn",
            &[
                r#"{"reasoning_content":"w"}"#,
                "{\"reasoning_content\":\"😀 a\u{fffd}b\"}",
                "{\"thinking_blocks\":[{\"type\":\"thinking\",\"thinking\":\"w😀 a\u{fffd}b\",\"signature\":\"s\"}],\"thinking_model\":\"claude-x\"}",
                r#"{} "stop""#,
            ],
        );
    }

    #[test]
    fn split_surrogate_pairs_are_joined() {
        check(
            &[
                start(0, r#"{"type":"text","text":""}"#),
                delta(0, r#"{"type":"text_delta","text":"a\ud83d"}"#),
                delta(0, r#"{"type":"text_delta","text":"\ude00b\\ud83d"}"#),
            ],
            "end_turn",
            &[r#"{"content":"a"}"#, r#"{"content":"😀b\\ud83d"}"#, r#"{} "stop""#],
        );
    }

    #[test]
    fn rewritten_names_and_legacy_functions_come_back() {
        let mut names = Names::default();
        names.add("n", "fs.read", None);
        let call = [
            start(0, r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#),
            delta(0, r#"{"type":"input_json_delta","partial_json":"{}"}"#),
        ];
        let came =
            deltas(&call, "tool_use", &ChatShape { names, legacy: true, ..ChatShape::default() });
        assert_eq!(
            came[1..],
            [
                r#"{"function_call":{"name":"fs.read","arguments":""}}"#,
                r#"{"function_call":{"arguments":"{}"}}"#,
                r#"{} "function_call""#
            ]
        );
    }

    #[test]
    fn a_custom_call_is_told_as_text_once_it_is_whole() {
        let shape = ChatShape { custom: ["patch".to_owned()].into(), ..ChatShape::default() };
        let call = [
            start(0, r#"{"type":"tool_use","id":"t","name":"patch","input":{}}"#),
            delta(0, r#"{"type":"input_json_delta","partial_json":"{\"input\": \"a\\"}"#),
            delta(0, r#"{"type":"input_json_delta","partial_json":"nb\"}"}"#),
            stop(0),
            start(1, r#"{"type":"tool_use","id":"u","name":"patch","input":{"input":"c"}}"#),
        ];
        assert_eq!(
            deltas(&call, "tool_use", &shape)[1..],
            [
                r#"{"tool_calls":[{"index":0,"id":"t","type":"custom","custom":{"name":"patch","input":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"custom":{"input":"a\nb"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"u","type":"custom","custom":{"name":"patch","input":""}}]}"#,
                r#"{"tool_calls":[{"index":1,"custom":{"input":"c"}}]}"#,
                r#"{} "tool_calls""#,
            ]
        );
    }

    #[test]
    fn usage_comes_last_and_only_when_asked_for() {
        let shape = ChatShape { include_usage: true, ..ChatShape::default() };
        let (lines, _) = run(&[START, START, &ended("end_turn"), STOP, STOP], &shape);
        let chunks: Vec<serde_json::Value> = lines[..lines.len() - 1]
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(chunks.len(), 3, "one role, one finish, one usage: {lines:?}");
        assert!(
            chunks[..2]
                .iter()
                .all(|chunk| chunk.get("usage").is_some_and(serde_json::Value::is_null))
        );
        assert_eq!(
            (&chunks[2]["choices"], &chunks[2]["usage"]["total_tokens"]),
            (&serde_json::json!([]), &10.into())
        );
    }

    #[test]
    fn a_refusal_says_why_before_the_end() {
        let ended = r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"type":"refusal","explanation":"no"}},"usage":{}}"#;
        let (lines, _) = run(&[START, ended, STOP], &ChatShape::default());
        assert!(
            lines[1].contains(r#""delta":{"refusal":"no"}"#) && lines[2].contains("content_filter"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_cut_answer_never_looks_whole() {
        let events = [
            START.to_owned(),
            start(0, r#"{"type":"text","text":"a"}"#),
            stop(0),
            ended("end_turn"),
        ];
        for upto in 0..=events.len() {
            let mut given: Vec<&str> = events[..upto].iter().map(String::as_str).collect();
            given.push(r#"{"type":"ping"}"#);
            let (lines, whole) = run(&given, &ChatShape::default());
            assert!(!whole);
            assert!(
                lines
                    .last()
                    .unwrap()
                    .starts_with(r#"{"error":{"message":"the upstream's stream ended before"#),
                "{lines:?}"
            );
            assert!(
                lines.iter().all(|line| line != "[DONE]" && !line.contains(r#""finish_reason":""#)),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn an_error_event_ends_the_stream() {
        let error =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let (lines, whole) = run(&[START, error, STOP], &ChatShape::default());
        assert!(whole, "the upstream said so itself");
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1],
            r#"{"error":{"message":"Overloaded","type":"server_error","param":null,"code":"overloaded"}}"#
        );
        let (lines, whole) = run(&[STOP], &ChatShape::default());
        assert!(
            lines[0].contains("before its answer began") && lines.len() == 1 && !whole,
            "{lines:?}"
        );
        let lost = delta(0, r#"{"type":"text_delta","text":"lost"}"#);
        let (lines, _) = run(&[START, &lost, &ended("end_turn"), STOP], &ChatShape::default());
        assert!(lines[1].contains("a block that never began") && lines.len() == 2, "{lines:?}");
        for text in ["7", "{\"a\":1}", "null"] {
            let odd = [
                start(0, r#"{"type":"text","text":"a\ud83d"}"#),
                delta(0, &format!(r#"{{"type":"text_delta","text":{text}}}"#)),
            ];
            let (lines, whole) = run(&[START, &odd[0], &odd[1], STOP], &ChatShape::default());
            assert!(!whole && lines.last().unwrap().contains("not a Messages stream"), "{lines:?}");
        }
        let (lines, _) =
            run(&["{\"type\":\"message_start\",\"message\":7}"], &ChatShape::default());
        assert!(lines[0].contains("not a Messages stream"), "{lines:?}");
    }
}
