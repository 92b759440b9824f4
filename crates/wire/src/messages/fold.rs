//! Building a whole message from its events, for a client that asked for no stream.
//!
//! Nothing is lost on the way: every block and delta kind is kept, also those
//! newer than this gateway, every member of `message_delta`, and the spelling of
//! numbers and tool arguments.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::block::Block;
use super::summary::Summary;
use crate::event::{BlockDelta, BlockStart, Event, EventKind, Sink};
use crate::fault::status_of_type;
use crate::json::Members;

/// A sink that a whole message comes out of.
#[derive(Debug, Default)]
pub struct Fold {
    message: Option<Members>,
    blocks: Vec<Block>,
    summary: Summary,
    error: Option<FoldError>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Folded {
    /// The message as JSON.
    pub body: String,
    pub summary: Summary,
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The upstream said so itself, in the midst of its stream.
    #[error("the upstream ended its stream with an error (status {status})")]
    Upstream {
        /// The HTTP status that belongs to the error's type.
        status: u16,
        /// The error envelope, exactly as it came.
        body: String,
    },
    /// The stream ended before `message_stop`.
    #[error("the upstream's stream ended before its answer did")]
    Truncated,
    /// An event could not be understood.
    #[error("the upstream's stream is not a Messages stream: {0}")]
    Foreign(String),
}

impl Sink for Fold {
    fn event(&mut self, event: &Event<'_>) {
        if !self.is_over() {
            self.error = self.take(event).err();
        }
    }

    fn unreadable(&mut self, why: String) {
        self.error = Some(FoldError::Foreign(why));
    }

    fn is_over(&self) -> bool {
        self.summary.ended || self.error.is_some()
    }
}

impl Fold {
    /// What was understood so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Writes the message.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if the stream brought an error, was cut, or was none of Messages.
    pub fn finish(self) -> Result<Folded, FoldError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (Some(mut message), true) = (self.message, self.summary.ended) else {
            return Err(FoldError::Truncated);
        };
        let mut blocks = self.blocks;
        blocks.sort_by_key(|block| block.index);
        let blocks: Vec<String> = blocks.into_iter().map(Block::write).collect();
        message.set("content", format!("[{}]", blocks.join(",")));
        Ok(Folded { body: message.write(), summary: self.summary })
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match event.kind {
            EventKind::MessageStart => {
                let start: FoldStart<'_> = parse(event)?;
                let message: Members = inner(start.message.get())?;
                self.learn(&message);
                self.message = Some(message);
            }
            EventKind::BlockStart => {
                let start: BlockStart<'_> = parse(event)?;
                self.blocks.push(Block::new(start.index, inner(start.content_block.get())?));
            }
            EventKind::BlockDelta => {
                self.summary.grew(event);
                let delta: BlockDelta<'_> = parse(event)?;
                let open = self.blocks.iter_mut().rev().find(|block| block.index == delta.index);
                let block = open.ok_or_else(|| {
                    FoldError::Foreign("a delta for a block that never began".into())
                })?;
                let read = delta.read().map_err(foreign)?;
                block.delta(&read, delta.delta).map_err(foreign)?;
            }
            EventKind::MessageDelta => self.message_delta(&parse(event)?)?,
            EventKind::MessageStop => self.summary.ended = true,
            EventKind::Error => {
                let status = status_of_type(&self.summary.failed(event).kind);
                let body = String::from_utf8_lossy(event.data).into_owned();
                return Err(FoldError::Upstream { status, body });
            }
            EventKind::BlockStop | EventKind::Ping | EventKind::Other => {}
        }
        Ok(())
    }

    /// The members of `delta` are members of the message; `usage` is merged, the rest joins as it is.
    fn message_delta(&mut self, event: &Members) -> Result<(), FoldError> {
        let mut message = self.message.take().unwrap_or_default();
        for (key, raw) in event.iter() {
            match key {
                "type" => {}
                "delta" => {
                    let delta: Members = inner(raw)?;
                    self.learn(&delta);
                    message.merge(delta);
                }
                "usage" => {
                    self.learn(event);
                    let mut usage: Members =
                        message.get("usage").map_or(Ok(None), inner)?.unwrap_or_default();
                    usage.merge(inner::<Option<Members>>(raw)?.unwrap_or_default());
                    message.set("usage", usage.write());
                }
                _ => message.set(key, raw),
            }
        }
        self.message = Some(message);
        Ok(())
    }

    /// Notes what members of a message, or beside its delta, say of it.
    fn learn(&mut self, members: &Members) {
        let text = |key: &str| serde_json::from_str::<String>(members.get(key)?).ok();
        let usage = members.get("usage");
        self.summary.take(text("model").as_deref(), text("stop_reason").as_deref(), usage);
    }
}

#[derive(Deserialize)]
struct FoldStart<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

fn parse<'a, T: Deserialize<'a>>(event: &Event<'a>) -> Result<T, FoldError> {
    event.read().map_err(foreign)
}

fn inner<'a, T: Deserialize<'a>>(raw: &'a str) -> Result<T, FoldError> {
    serde_json::from_str(raw).map_err(foreign)
}

fn foreign(error: serde_json::Error) -> FoldError {
    FoldError::Foreign(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FromSse;

    /// Folds `events` in pieces of every size; the message must not depend on it.
    #[track_caller]
    fn fold(events: &[&str]) -> Result<String, FoldError> {
        let source: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
        let mut seen = None;
        for size in 1..=source.len() {
            let mut fold = FromSse::<Fold>::default();
            source.as_bytes().chunks(size).for_each(|piece| fold.push(piece));
            let now = fold.into_sink().finish().map(|folded| {
                let whole = Summary::of_json(folded.body.as_bytes());
                assert_eq!(folded.summary.usage, whole.usage, "it costs what its stream cost");
                folded.body
            });
            assert_eq!(*seen.get_or_insert(now.clone()), now, "in pieces of {size} bytes");
        }
        seen.expect("the source is not empty")
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;
    const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"container":{"id":"c"}},"usage":{"input_tokens":null,"output_tokens":7},"context_management":{"applied_edits":[]}}"#;

    #[track_caller]
    fn check(block: &str, deltas: &[&str], expect: &str) {
        let start =
            format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
        let deltas: Vec<String> = deltas
            .iter()
            .map(|delta| format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#))
            .collect();
        let mut events = vec![START, &start];
        events.extend(deltas.iter().map(String::as_str));
        events.extend([END, STOP]);
        let body = fold(&events).unwrap();
        assert!(body.contains(&format!(r#""content":[{expect}]"#)), "{body}");
    }

    #[test]
    fn text_and_citations() {
        check(
            r#"{"type":"text","text":"a","citations":[{"n":1}]}"#,
            &[
                r#"{"type":"text_delta","text":"\u00fc"}"#,
                r#"{"type":"citations_delta","citation":{"n":2.0}}"#,
            ],
            r#"{"type":"text","text":"a\u00fc","citations":[{"n":1},{"n":2.0}]}"#,
        );
    }

    #[test]
    fn thinking_and_its_signature() {
        check(
            r#"{"type":"thinking","thinking":"","signature":""}"#,
            &[
                r#"{"type":"thinking_delta","thinking":"hm","estimated_tokens":3}"#,
                r#"{"type":"thinking_delta","thinking":"!"}"#,
                r#"{"type":"signature_delta","signature":"c2ln"}"#,
            ],
            r#"{"type":"thinking","thinking":"hm!","signature":"c2ln"}"#,
        );
    }

    #[test]
    fn tool_arguments_keep_their_spelling() {
        let block = r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#;
        let deltas = [
            r#"{"type":"input_json_delta","partial_json":""}"#,
            r#"{"type":"input_json_delta","partial_json":"{\"a\": 1.0"}"#,
            r#"{"type":"input_json_delta","partial_json":", \"b\":12345678901234567890}"}"#,
        ];
        check(
            block,
            &deltas,
            r#"{"type":"tool_use","id":"t","name":"n","input":{"a": 1.0, "b":12345678901234567890}}"#,
        );
        check(block, &deltas[..1], r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#);
        check(block, &deltas[..2], r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#);
    }

    #[test]
    fn a_surrogate_pair_may_be_split_between_deltas() {
        check(
            r#"{"type":"text","text":""}"#,
            &[
                r#"{"type":"text_delta","text":"hello \ud83d"}"#,
                r#"{"type":"text_delta","text":"\ude00 world"}"#,
            ],
            r#"{"type":"text","text":"hello \ud83d\ude00 world"}"#,
        );
        let block = r#"{"type":"tool_use","id":"t","name":"n","input":{}}"#;
        let deltas = [
            r#"{"type":"input_json_delta","partial_json":"{\"a\":\"\ud83d"}"#,
            r#"{"type":"input_json_delta","partial_json":"\ude00\\n\"}"}"#,
        ];
        check(
            block,
            &deltas,
            "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"a\":\"😀\\n\"}}",
        );
        let lone = r#"{"type":"input_json_delta","partial_json":"{\"a\":\"\ud83dx\"}"}"#;
        check(
            block,
            &[lone],
            "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"a\":\"\u{fffd}x\"}}",
        );
    }

    #[test]
    fn blocks_stand_in_the_order_of_their_index() {
        let start = |index: u64| {
            format!(
                r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"b{index}"}}}}"#
            )
        };
        let body = fold(&[START, &start(1), &start(0), END, STOP]).unwrap();
        assert!(body.contains(r#""content":[{"type":"b0"},{"type":"b1"}]"#), "{body}");
    }

    #[test]
    fn what_is_newer_than_this_gateway_is_kept() {
        check(
            r#"{"type":"compaction","content":null}"#,
            &[
                r#"{"type":"compaction_delta","content":"sum","encrypted_content":"x"}"#,
                r#"{"type":"compaction_delta","content":"mary","n":[1]}"#,
            ],
            r#"{"type":"compaction","content":"summary","n":[1],"encrypted_content":"x"}"#,
        );
        check(
            r#"{"type":"web_search_tool_result","content":[{"x":1}]}"#,
            &[],
            r#"{"type":"web_search_tool_result","content":[{"x":1}]}"#,
        );
    }

    #[test]
    fn every_member_of_message_delta_is_kept() {
        assert_eq!(
            fold(&[START, END, STOP]).unwrap(),
            r#"{"id":"m","content":[],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":7},"stop_sequence":null,"container":{"id":"c"},"context_management":{"applied_edits":[]}}"#
        );
    }

    #[test]
    fn an_error_keeps_its_body_and_gets_its_status() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
        assert_eq!(
            fold(&[START, error]),
            Err(FoldError::Upstream { status: 529, body: error.into() })
        );
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        assert_eq!(fold(&[START, END]), Err(FoldError::Truncated));
        assert_eq!(fold(&[STOP]), Err(FoldError::Truncated));
        let stray =
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"x"}}"#;
        assert!(matches!(fold(&[START, stray, STOP]), Err(FoldError::Foreign(_))));
    }
}
