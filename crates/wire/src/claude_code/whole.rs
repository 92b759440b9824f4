//! An answer that came in whole blocks, as the stream that it was not.
//!
//! The program tells every block once more when it is finished. Where it told nothing else, such as after an
//! attempt of its own without streaming, that is the answer.

use serde_json::value::RawValue;

use super::output::Outcome;
use crate::event::EventFrame;
use crate::json::{Members, quote};

/// The message lines of one answer.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// The message without its blocks.
    message: Option<Members>,
    blocks: Vec<Members>,
}

impl Whole {
    /// Takes a line's message. One with another id is another answer's, and begins anew.
    pub(super) fn push(&mut self, message: &RawValue) {
        let Ok(mut message) = serde_json::from_str::<Members>(message.get()) else { return };
        let blocks: Vec<Members> = message
            .get("content")
            .and_then(|raw| serde_json::from_str(raw).ok())
            .unwrap_or_default();
        if self.message.as_ref().is_some_and(|before| before.get("id") != message.get("id")) {
            self.blocks.clear();
        }
        message.set("content", "[]");
        self.message = Some(message);
        self.blocks.extend(blocks);
    }

    /// The ids of the tools that it calls.
    pub(super) fn calls(&self) -> impl Iterator<Item = String> {
        self.blocks
            .iter()
            .filter(|block| block.get("type") == Some("\"tool_use\""))
            .filter_map(|block| serde_json::from_str(block.get("id")?).ok())
    }

    /// Tells the answer in events; false if there is none.
    pub(super) fn write(&self, outcome: &Outcome<'_>, out: &mut Vec<EventFrame>) -> bool {
        let Some(message) = self.message.as_ref().filter(|_| !self.blocks.is_empty()) else {
            return false;
        };
        out.push(EventFrame::new(format!(
            "{{\"type\":\"message_start\",\"message\":{}}}",
            message.write()
        )));
        for (index, block) in self.blocks.iter().enumerate() {
            write_block(index, block, out);
        }
        let reason =
            outcome.stop_reason.as_deref().map_or_else(|| "\"end_turn\"".to_owned(), quote);
        let usage = outcome.usage.map_or("{}", RawValue::get);
        out.push(EventFrame::new(format!(
                "{{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":{reason},\"stop_sequence\":null}},\"usage\":{usage}}}"
            )));
        out.push(EventFrame::new("{\"type\":\"message_stop\"}"));
        true
    }
}

fn write_block(index: usize, block: &Members, out: &mut Vec<EventFrame>) {
    let member = |key: &str| block.get(key).unwrap_or("\"\"");
    let mut opening = block.clone();
    let mut deltas = Vec::new();
    match block.get("type") {
        Some("\"text\"")
            if block
                .get("citations")
                .is_none_or(|citations| matches!(citations, "null" | "[]")) =>
        {
            opening.set("text", "\"\"");
            deltas.push(format!("{{\"type\":\"text_delta\",\"text\":{}}}", member("text")));
        }
        Some("\"thinking\"") => {
            opening.set("thinking", "\"\"");
            opening.set("signature", "\"\"");
            deltas.push(format!(
                "{{\"type\":\"thinking_delta\",\"thinking\":{}}}",
                member("thinking")
            ));
            deltas.push(format!(
                "{{\"type\":\"signature_delta\",\"signature\":{}}}",
                member("signature")
            ));
        }
        Some("\"tool_use\"") => {
            opening.set("input", "{}");
            deltas.push(format!(
                "{{\"type\":\"input_json_delta\",\"partial_json\":{}}}",
                quote(block.get("input").unwrap_or("{}"))
            ));
        }
        // Whatever else there is stands whole in its beginning.
        _ => {}
    }
    out.push(EventFrame::new(format!(
        "{{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{}}}",
        opening.write()
    )));
    for delta in deltas {
        out.push(EventFrame::new(format!(
            "{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}"
        )));
    }
    out.push(EventFrame::new(format!("{{\"type\":\"content_block_stop\",\"index\":{index}}}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Sink;
    use crate::messages::Fold;

    #[test]
    fn whole_blocks_make_the_message_that_they_are() {
        let mut whole = Whole::default();
        let blocks = [
            r#"{"type":"thinking","thinking":"hm","signature":"s"}"#,
            r#"{"type":"text","text":"a\"b"}"#,
            r#"{"type":"tool_use","id":"t","name":"n","input":{"a":1.0}}"#,
            r#"{"type":"new_block","x":[1.0]}"#,
        ];
        for block in blocks {
            let message = format!(
                r#"{{"id":"m","type":"message","role":"assistant","model":"c","content":[{block}],"usage":{{"input_tokens":3}}}}"#
            );
            whole.push(&RawValue::from_string(message).unwrap());
        }
        let outcome: Outcome<'_> =
            serde_json::from_str(r#"{"stop_reason":"tool_use","usage":{"output_tokens":7}}"#)
                .unwrap();
        let mut out = Vec::new();
        assert!(whole.write(&outcome, &mut out));
        let mut fold = Fold::default();
        for told in &out {
            fold.event(&told.event());
        }
        let body = fold.finish().unwrap().body;
        assert!(body.contains(&format!("\"content\":[{}]", blocks.join(","))), "{body}");
        assert!(
            body.contains("\"stop_reason\":\"tool_use\"") && body.contains("\"output_tokens\":7"),
            "{body}"
        );
        assert_eq!(whole.calls().collect::<Vec<_>>(), ["t"]);
        assert!(!Whole::default().write(&outcome, &mut out));
    }
}
