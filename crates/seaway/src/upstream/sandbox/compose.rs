//! From a request and its script to the events of an answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use seaway_wire::sse::write_event;
use serde_json::{Value, json};

use super::sample;
use super::script::{Block, Script};
use super::tokens::{self, InputCount};

/// Characters in one delta.
const PIECE: usize = 12;

/// An answer as the frames of its stream.
pub(super) struct ComposedAnswer {
    pub frames: Vec<Bytes>,
}

struct Composer<'a> {
    script: &'a Script,
    events: Vec<(&'static str, Value)>,
    index: usize,
    number: u64,
    /// Tokens that may still be written.
    left: u64,
    output: u64,
    stop: Option<String>,
    stop_sequence: Option<String>,
    stop_sequences: Vec<&'a str>,
    omit_thinking: bool,
}

impl ComposedAnswer {
    /// Composes the answer to a request that was found good.
    pub(super) fn compose(
        request: &Value,
        script: &Script,
        input: InputCount,
        number: u64,
    ) -> Self {
        let mut composer = Composer {
            script,
            events: Vec::new(),
            index: 0,
            number,
            left: request["max_tokens"].as_u64().unwrap_or(u64::MAX),
            output: 0,
            stop: None,
            stop_sequence: None,
            stop_sequences: request["stop_sequences"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            omit_thinking: request["thinking"]["display"] == "omitted",
        };
        if script.error_first {
            composer.error();
        } else {
            composer.start(request, input);
            composer.blocks(&blocks(request, script));
            composer.end();
        }
        Self { frames: composer.events.iter().map(|(name, data)| frame(name, data)).collect() }
    }
}

fn frame(name: &str, data: &Value) -> Bytes {
    let mut out = Vec::new();
    write_event(&mut out, name, &data.to_string());
    out.into()
}

/// The blocks to answer with: the script's, or what the request forces, or an echo.
fn blocks(request: &Value, script: &Script) -> Vec<Block> {
    let mut blocks = script.blocks.clone();
    let speaks = blocks.iter().any(|block| !matches!(block, Block::Thinking(_) | Block::Redacted));
    if !speaks && script.stop.as_deref() != Some("refusal") {
        blocks.push(forced_tool(request).unwrap_or_else(|| Block::Text(spoken(request, script))));
    }
    blocks
}

fn forced_tool(request: &Value) -> Option<Block> {
    let tools = request["tools"].as_array()?;
    // One after the other, so that an agent with a tool for its result comes to it.
    let called = called(request);
    let first = || {
        let mut own = tools.iter().filter(|tool| tool["input_schema"].is_object());
        own.clone()
            .find(|tool| !tool["name"].as_str().is_some_and(|name| called.contains(&name)))
            .or_else(|| own.next_back())
    };
    let tool = match request["tool_choice"]["type"].as_str()? {
        "any" => first()?,
        "tool" => tools.iter().find(|tool| tool["name"] == request["tool_choice"]["name"])?,
        "auto" if is_ordered(request, None) => first()?,
        "auto" => tools.iter().find(|tool| is_ordered(request, tool["name"].as_str()))?,
        _ => return None,
    };
    let input = sample::of_schema(&tool["input_schema"], &tool["input_schema"]);
    let input = if input.is_object() { input } else { json!({}) };
    Some(Block::Tool { name: tool["name"].as_str()?.to_owned(), input: input.to_string() })
}

/// The tools that were called so far.
fn called(request: &Value) -> Vec<&str> {
    let turns = request["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|turn| turn["role"] == "assistant");
    let blocks = turns.filter_map(|turn| turn["content"].as_array()).flatten();
    blocks
        .filter(|block| block["type"] == "tool_use")
        .filter_map(|block| block["name"].as_str())
        .collect()
}

/// True if the system prompt asks for a tool in the words that stand in for a forced choice.
fn is_ordered(request: &Value, tool: Option<&str>) -> bool {
    let order = seaway_wire::openai::order(tool);
    request["system"].as_array().into_iter().flatten().any(|block| block["text"] == *order)
}

fn spoken(request: &Value, script: &Script) -> String {
    let format = &request["output_config"]["format"];
    if format["type"] == "json_schema" {
        return sample::of_schema(&format["schema"], &format["schema"]).to_string();
    }
    if !script.prose.is_empty() {
        return script.prose.clone();
    }
    tool_result(request)
        .map_or_else(|| "ok".to_owned(), |result| format!("The tool answered: {result}"))
}

fn tool_result(request: &Value) -> Option<String> {
    let last =
        request["messages"].as_array()?.iter().rev().find(|message| message["role"] == "user")?;
    let results = last["content"].as_array()?.iter().filter(|block| block["type"] == "tool_result");
    let texts: Vec<String> = results
        .map(|block| match &block["content"] {
            Value::String(text) => text.clone(),
            other => other
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|part| part["text"].as_str())
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

impl Composer<'_> {
    fn event(&mut self, name: &'static str, data: Value) {
        let mut event = json!({ "type": name });
        for (key, value) in data.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        self.events.push((name, event));
    }

    fn start(&mut self, request: &Value, input: InputCount) {
        let message = json!({
            "id": format!("msg_sandbox_{:06}", self.number), "type": "message", "role": "assistant", "model": request["model"],
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {
                "input_tokens": input.fresh, "cache_creation_input_tokens": input.written, "cache_read_input_tokens": input.read,
                "cache_creation": {"ephemeral_5m_input_tokens": input.written, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 1, "service_tier": "standard",
            },
        });
        self.event("message_start", json!({ "message": message }));
        self.event("ping", json!({}));
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            if self.stop.is_some() {
                return;
            }
            match block {
                Block::Text(text) => self.text(text, None),
                Block::Cited(text) => self.text(text, Some(citation(text))),
                Block::Thinking(text) => self.thinking(text),
                Block::Redacted => self.block(json!({"type": "redacted_thinking", "data": STANDARD.encode("redacted by the script")}), vec![]),
                Block::Tool { name, input } => self.tool(name, input),
                Block::Raw(raw) => self.block(raw.clone(), vec![]),
            }
        }
    }

    fn block(&mut self, start: Value, deltas: Vec<Value>) {
        let index = self.index;
        self.index += 1;
        self.event("content_block_start", json!({"index": index, "content_block": start}));
        for delta in deltas {
            self.event("content_block_delta", json!({"index": index, "delta": delta}));
        }
        self.event("content_block_stop", json!({ "index": index }));
    }

    /// What may be written of `text` before the tokens run out.
    fn affordable<'t>(&mut self, text: &'t str) -> &'t str {
        let wanted = tokens::of_text(text);
        let given = wanted.min(self.left);
        self.left -= given;
        self.output += given;
        if given == wanted {
            return text;
        }
        self.stop = Some("max_tokens".into());
        let characters = usize::try_from(given * 4).unwrap_or(usize::MAX);
        text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
    }

    fn text(&mut self, text: &str, citation: Option<Value>) {
        let hit =
            self.stop_sequences.iter().filter_map(|stop| Some((text.find(stop)?, *stop))).min();
        let text = self.affordable(hit.map_or(text, |(at, _)| &text[..at]));
        if let (Some((_, stop)), None) = (hit, &self.stop) {
            self.stop = Some("stop_sequence".into());
            self.stop_sequence = Some(stop.to_owned());
        }
        let mut deltas = deltas(text, |piece| json!({"type": "text_delta", "text": piece}));
        let mut start = json!({"type": "text", "text": ""});
        if let Some(citation) = citation {
            start["citations"] = json!([]);
            deltas.push(json!({"type": "citations_delta", "citation": citation}));
        }
        self.block(start, deltas);
    }

    fn thinking(&mut self, text: &str) {
        let text = self.affordable(text);
        let shown = if self.omit_thinking { "" } else { text };
        let mut all = deltas(shown, |piece| json!({"type": "thinking_delta", "thinking": piece}));
        let signature = STANDARD.encode(format!("signed by the sandbox: {text}"));
        all.push(json!({"type": "signature_delta", "signature": signature}));
        self.block(json!({"type": "thinking", "thinking": "", "signature": ""}), all);
    }

    fn tool(&mut self, name: &str, input: &str) {
        let input = self.affordable(input);
        let id = format!("toolu_sandbox_{:06}_{}", self.number, self.index);
        let mut all = vec![json!({"type": "input_json_delta", "partial_json": ""})];
        all.extend(deltas(
            input,
            |piece| json!({"type": "input_json_delta", "partial_json": piece}),
        ));
        self.block(json!({"type": "tool_use", "id": id, "name": name, "input": {}}), all);
    }

    fn error(&mut self) {
        if let Some((kind, message)) = &self.script.error_event {
            let error = json!({"error": {"type": kind, "message": message}});
            self.event("error", error);
        }
    }

    fn end(&mut self) {
        if self.script.error_event.is_some() {
            return self.error();
        }
        let used_tool =
            self.events.iter().any(|(_, data)| data["content_block"]["type"] == "tool_use");
        let natural = if used_tool { "tool_use" } else { "end_turn" };
        let stop = self
            .script
            .stop
            .clone()
            .or_else(|| self.stop.clone())
            .unwrap_or_else(|| natural.to_owned());
        let mut delta = json!({"stop_reason": stop, "stop_sequence": self.stop_sequence});
        if stop == "refusal" {
            delta["stop_details"] = json!({"type": "refusal", "category": null, "explanation": "The script asked for a refusal"});
        }
        self.event(
            "message_delta",
            json!({"delta": delta, "usage": {"output_tokens": self.output.max(1)}}),
        );
        self.event("message_stop", json!({}));
    }
}

fn citation(text: &str) -> Value {
    json!({
        "type": "char_location", "cited_text": text, "document_index": 0, "document_title": "the request",
        "start_char_index": 0, "end_char_index": text.chars().count(),
    })
}

/// Cuts a text into deltas.
fn deltas(text: &str, delta: impl Fn(&str) -> Value) -> Vec<Value> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE).map(|piece| delta(&piece.iter().collect::<String>())).collect()
}

#[cfg(test)]
mod tests {
    use seaway_wire::event::FromSse;
    use seaway_wire::messages::Fold;

    use super::*;

    /// What a client that asked for no stream would be told.
    fn answer(request: Value) -> Value {
        let script = Script::parse(&super::super::script::last_user_text(&request));
        let answer = ComposedAnswer::compose(&request, &script, InputCount::default(), 1);
        let mut fold = FromSse::<Fold>::default();
        answer.frames.iter().for_each(|frame| fold.push(frame));
        serde_json::from_str(&fold.into_sink().finish().unwrap().body).unwrap()
    }

    fn ask(text: &str, max_tokens: u64) -> Value {
        json!({"model": "m", "max_tokens": max_tokens, "stop_sequences": ["STOP"], "messages": [{"role": "user", "content": text}]})
    }

    #[test]
    fn it_echoes_and_counts() {
        let message = answer(ask("hello there", 99));
        assert_eq!(message["content"], json!([{"type": "text", "text": "hello there"}]));
        assert_eq!(
            (&message["stop_reason"], &message["usage"]["output_tokens"]),
            (&json!("end_turn"), &json!(3))
        );
    }

    #[test]
    fn tokens_run_out() {
        let message = answer(ask("hello there", 2));
        assert_eq!(
            (&message["content"][0]["text"], &message["stop_reason"]),
            (&json!("hello th"), &json!("max_tokens"))
        );
        let message = answer(ask(r#"[[tool f {"a":"bcdefghijk","c":1}]]"#, 5));
        assert_eq!(message["content"][0]["input"], json!({"a": "bcdefghijk"}));
    }

    #[test]
    fn it_stops_where_it_is_told() {
        let message = answer(ask("one STOP two", 99));
        assert_eq!(
            (&message["content"][0]["text"], &message["stop_sequence"]),
            (&json!("one "), &json!("STOP"))
        );
        assert_eq!(answer(ask("x [[stop pause_turn]]", 9))["stop_reason"], "pause_turn");
        let refused = answer(ask("x [[refuse]]", 9));
        assert_eq!((&refused["stop_reason"], &refused["content"]), (&json!("refusal"), &json!([])));
    }

    #[test]
    fn it_thinks_cites_and_calls_in_parallel() {
        let message =
            answer(ask("[[think hm]][[cite a fact]][[tool f {\"a\": 1.0}]][[tool g]]", 999));
        let kinds: Vec<_> = message["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
        assert!(!message["content"][0]["signature"].as_str().unwrap().is_empty());
        assert_eq!(message["content"][1]["citations"][0]["cited_text"], "a fact");
        assert_eq!(message["stop_reason"], "tool_use");
    }

    #[test]
    fn forced_tools_and_formats_are_served() {
        let mut request = ask("x", 99);
        request["tools"] = json!([{"name": "t", "input_schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}]);
        request["tool_choice"] = json!({"type": "any"});
        assert_eq!(answer(request)["content"][0]["input"], json!({"a": 1}));
        let schema = json!({"type": "object", "properties": {}});
        let mut request = ask("x", 99);
        request["tools"] = json!([{"name": "look", "input_schema": schema}, {"name": "final_result", "input_schema": schema}]);
        request["tool_choice"] = json!({"type": "any"});
        assert_eq!(answer(request.clone())["content"][0]["name"], "look");
        request["messages"] = json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "seen"}]},
        ]);
        assert_eq!(answer(request)["content"][0]["name"], "final_result");
        let mut request = ask("x", 99);
        request["output_config"] = json!({"format": {"type": "json_schema", "schema": {"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}}}});
        assert_eq!(answer(request)["content"][0]["text"], "{\"b\":true}");
    }
}
