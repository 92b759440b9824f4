//! The source of an answer that comes from the program: one turn of it, from its lines to events in Messages.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::input::{self, Decision};
use super::login::Limit;
use super::output::{HeldCall, Line, Outcome};
use super::tools::ClientTool;
use super::whole::Whole;
use crate::event::{
    BlockDelta, BlockStart, Event, EventFrame, EventKind, MessageDelta, MessageStart,
};
use crate::usage::StopReason;

/// With which the answer is over, in words of our own: the program was ended before it said so.
const STOP: &str = "{\"type\":\"message_stop\"}";

/// Why no tool of the program's own is used for a request.
const ONLY_OURS: &str = "only the client's own tools may be used here";

/// What the program calls a tool of that name when it says what it offers. To the model it has its own name.
const LEGACY_NAMES: [(&str, &str); 1] = [("Agent", "Task")];

/// What is to be done after a line.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The line asks for no step.
    Quiet,
    /// Something was written for the client.
    Wrote,
    /// The program waits for this line.
    Say(String),
    /// The program says how full its plan's window is.
    Limit(Limit),
    /// The answer is whole; what was written ends it.
    Over(After),
    /// There is no answer, or it broke off.
    Failed(Failure),
}

/// What becomes of the program when the answer is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It says its `result` and can then be told the next turn.
    Settles,
    /// It holds calls open, and waits for their results.
    Holds,
    /// The program would ask again by itself, so it has to go at once.
    Ends,
}

#[derive(Debug, PartialEq, Eq)]
enum TurnState {
    /// Nothing came yet. The tools that the program offers must be the client's, and nothing else.
    Unchecked,
    Ready,
    Streaming,
    Over,
}

/// A machine that the program's lines are pushed into.
#[derive(Debug)]
pub struct Turn {
    tools: Vec<ClientTool>,
    state: TurnState,
    /// Something that a reader sees was said.
    visible: bool,
    stop: Option<StopReason>,
    /// The end of the message as it came; written when it is sure that it is one.
    delta: Option<EventFrame>,
    calls: Vec<HeldCall>,
    /// The tool calls in the answer.
    uses: Vec<String>,
    /// It calls a tool that the client does not have.
    strays: bool,
    /// What was said in whole blocks, for when nothing is streamed.
    whole: Whole,
    failure: Option<Failure>,
    /// The model that the program said it asks, and that answered.
    model: Option<String>,
}

impl Turn {
    /// For a turn that the program begins.
    pub fn begun(tools: Vec<ClientTool>) -> Self {
        Self {
            tools,
            state: TurnState::Unchecked,
            visible: false,
            stop: None,
            delta: None,
            calls: Vec::new(),
            uses: Vec::new(),
            strays: false,
            whole: Whole::default(),
            failure: None,
            model: None,
        }
    }

    /// For a turn that goes on with the results of held calls.
    pub fn resumed(tools: Vec<ClientTool>) -> Self {
        Self { state: TurnState::Ready, ..Self::begun(tools) }
    }

    /// The model that answers, as far as that was said.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The calls that are held open.
    pub fn calls(&self) -> &[HeldCall] {
        &self.calls
    }

    /// True once every tool call of the answer has come to be held.
    pub fn holds_all(&self) -> bool {
        self.uses.iter().all(|id| self.calls.iter().any(|call| call.tool_use_id == *id))
    }

    /// True once something was written for the client.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, TurnState::Streaming | TurnState::Over)
    }

    /// Takes one line, and puts what it means to the client into `out`: events of the answer, which stay where they are
    /// in the line.
    pub fn line(&mut self, line: &Bytes, out: &mut Vec<EventFrame>) -> Step {
        match Line::parse(line) {
            Line::Event { event, abandoned } => self.event(line, event, abandoned, out),
            // Unchecked → Ready: the program offers what the client has, and nothing of its own.
            Line::Init(init) if self.state == TurnState::Unchecked => {
                self.model = Some(init.model.into_owned()).filter(|model| !model.is_empty());
                self.check(init.tools)
            }
            Line::Failed(failure) => self.failed(failure),
            Line::Result(outcome) => self.result(&outcome, out),
            Line::Call(call) => {
                self.calls.push(call);
                Step::Quiet
            }
            Line::Question(question) => Step::Say(input::serve(&question, &self.tools)),
            Line::Permission(asked) => Step::Say(input::deny(&asked.request_id, ONLY_OURS)),
            Line::Hook(used) => {
                Step::Say(input::decide(&used.request_id, Decision::Deny(ONLY_OURS)))
            }
            Line::Withdrawn(id) => {
                self.calls.retain(|call| call.request_id != id);
                Step::Quiet
            }
            Line::Limit(limit) => Step::Limit(limit),
            Line::Answer(answer) if answer.result.is_err() => {
                let why = answer.result.err().unwrap_or_default();
                self.failed(Failure {
                    message: format!("Claude Code did not take a setting of this request: {why}"),
                    ..Failure::default()
                })
            }
            Line::Said(said) if self.state == TurnState::Ready && !said.user && !said.nested => {
                self.whole.push(said.message);
                Step::Quiet
            }
            Line::Init(_) | Line::Said(_) | Line::Answer(_) | Line::Other | Line::Garbage => {
                Step::Quiet
            }
        }
    }

    /// Told that the program said its last line.
    pub fn end(&mut self) -> Failure {
        let none = || Failure {
            message: "Claude Code ended without an answer".into(),
            ..Failure::default()
        };
        self.failure.take().unwrap_or_else(none)
    }

    fn check(&mut self, offered: Vec<String>) -> Step {
        let known = |name: &str| {
            LEGACY_NAMES
                .iter()
                .find(|(now, _)| *now == name)
                .map_or_else(|| name.to_owned(), |(_, before)| (*before).to_owned())
        };
        let mut offered: Vec<String> = offered.iter().map(|name| known(name)).collect();
        let mut missing = Vec::new();
        for tool in &self.tools {
            match offered.iter().position(|name| *name == known(&tool.name)) {
                Some(at) => drop(offered.swap_remove(at)),
                None => missing.push(tool.name.as_str()),
            }
        }
        offered.sort_unstable();
        let message = match (offered.as_slice(), missing.as_slice()) {
            ([], []) => {
                self.state = TurnState::Ready;
                return Step::Quiet;
            }
            ([], missing) => format!(
                "Claude Code does not offer the model all of the client's tools ({} missing)",
                missing.join(", ")
            ),
            (strange, _) => format!(
                "Claude Code offers the model tools that the client did not send ({})",
                strange.join(", ")
            ),
        };
        Step::Failed(Failure {
            message: message + "; nothing was asked",
            is_final: true,
            ..Failure::default()
        })
    }

    fn failed(&mut self, failure: Failure) -> Step {
        // A refusal is an answer: its own end follows.
        let refusal =
            failure.class.as_deref() == Some("invalid_request") && failure.status.is_none();
        if self.state == TurnState::Streaming && refusal {
            return Step::Quiet;
        }
        if self.state == TurnState::Over {
            return Step::Quiet;
        }
        self.failure = Some(failure.clone());
        // Before 2.1.300 only the result says which status it was, and follows at once.
        if self.state == TurnState::Ready && failure.status.is_none() && failure.reason.is_none() {
            return Step::Quiet;
        }
        Step::Failed(failure)
    }

    fn result(&mut self, outcome: &Outcome<'_>, out: &mut Vec<EventFrame>) -> Step {
        if self.state == TurnState::Over {
            return Step::Quiet;
        }
        // Ready → Over: all of it was said, and none of it streamed.
        if self.state == TurnState::Ready && !outcome.is_error && self.whole.write(outcome, out) {
            self.uses.extend(self.whole.calls());
            self.state = TurnState::Over;
            return Step::Over(After::Ends);
        }
        let said = outcome
            .errors
            .first()
            .cloned()
            .or_else(|| outcome.result.as_deref().map(str::to_owned));
        let message = match said.filter(|said| !said.is_empty()) {
            Some(said) => said,
            None => format!("Claude Code ended its turn without an answer ({})", outcome.subtype),
        };
        let kind = outcome.api_error_type.as_deref().map(str::to_owned);
        let before = self.failure.take().unwrap_or_default();
        // Nor does it say then that it had no connection, but in words.
        let lost = outcome.api_error_status.is_none()
            && before.class.as_deref() == Some("server_error")
            && message.starts_with("API Error: ");
        let reason = before.reason.clone().or_else(|| lost.then(|| "connection_failed".to_owned()));
        Step::Failed(Failure { status: outcome.api_error_status, kind, reason, message, ..before })
    }

    fn event(
        &mut self,
        line: &Bytes,
        raw: &RawValue,
        abandoned: bool,
        out: &mut Vec<EventFrame>,
    ) -> Step {
        let event = Event::of_json(raw.get().as_bytes());
        let frame = || EventFrame::of_line(line, &event);
        match (event.kind, &self.state) {
            (_, TurnState::Over) => Step::Quiet,
            (_, TurnState::Unchecked) => self.failed(Failure {
                message: "Claude Code answered before it said which tools it offers".into(),
                ..Failure::default()
            }),
            // Ready → Streaming.
            (EventKind::MessageStart, TurnState::Ready) => {
                self.state = TurnState::Streaming;
                let start: MessageStart<'_> = event.read().unwrap_or_default();
                self.model = start.message.model.map(Cow::into_owned).or(self.model.take());
                out.push(frame());
                Step::Wrote
            }
            // A second beginning: the first attempt was given up.
            (EventKind::MessageStart, TurnState::Streaming) => self.failed(cut_off()),
            (EventKind::MessageDelta, TurnState::Streaming) => {
                let delta: MessageDelta<'_> = event.read().unwrap_or_default();
                self.delta(delta.delta.stop_reason.as_deref(), frame(), out)
            }
            (EventKind::MessageStop, TurnState::Streaming) if abandoned => self.failed(cut_off()),
            (EventKind::MessageStop, TurnState::Streaming) => self.stop(frame(), out),
            (_, TurnState::Ready) => Step::Quiet,
            (_, TurnState::Streaming) => {
                self.look(&event);
                out.push(frame());
                Step::Wrote
            }
        }
    }

    /// Notes which tools are called, and whether anything is said.
    fn look(&mut self, event: &Event<'_>) {
        match event.kind {
            EventKind::BlockStart => {
                let Ok(start) = event.read::<BlockStart<'_>>() else { return };
                let Ok(block) = serde_json::from_str::<Opening<'_>>(start.content_block.get())
                else {
                    return;
                };
                match &*block.kind {
                    "text" => self.visible |= block.text.is_some_and(|text| !text.is_empty()),
                    "thinking" | "redacted_thinking" => {}
                    "tool_use" => {
                        self.visible = true;
                        self.strays |= !self
                            .tools
                            .iter()
                            .any(|tool| block.name.as_deref() == Some(tool.name.as_str()));
                        self.uses.extend(block.id.map(Cow::into_owned));
                    }
                    _ => self.visible = true,
                }
            }
            EventKind::BlockDelta if !self.visible => {
                let delta = event
                    .read::<BlockDelta<'_>>()
                    .ok()
                    .and_then(|delta| serde_json::from_str::<Opening<'_>>(delta.delta.get()).ok());
                self.visible = delta.is_some_and(|delta| {
                    delta.kind == "text_delta"
                        && delta.text.is_some_and(|text| !text.trim().is_empty())
                });
            }
            _ => {}
        }
    }

    fn delta(
        &mut self,
        reason: Option<&str>,
        frame: EventFrame,
        out: &mut Vec<EventFrame>,
    ) -> Step {
        out.extend(self.delta.take());
        let Some(reason) = reason else {
            self.delta = Some(frame);
            return Step::Quiet;
        };
        let reason = StopReason::parse(reason);
        let asks_again = match reason {
            StopReason::MaxTokens | StopReason::ContextWindowExceeded | StopReason::Refusal => true,
            StopReason::EndTurn => !self.visible,
            // The program would answer that call by itself.
            StopReason::ToolUse => self.strays,
            StopReason::StopSequence | StopReason::PauseTurn | StopReason::Other(_) => false,
        };
        self.stop = Some(reason);
        out.push(frame);
        if asks_again {
            // A moment later there would be another request, so its own last word is not waited for.
            out.push(EventFrame::new(STOP));
            self.state = TurnState::Over;
            return Step::Over(After::Ends);
        }
        Step::Wrote
    }

    fn stop(&mut self, frame: EventFrame, out: &mut Vec<EventFrame>) -> Step {
        // Without a reason to stop it was stopped.
        if self.stop.is_none() {
            return self.failed(cut_off());
        }
        out.extend(self.delta.take());
        out.push(frame);
        self.state = TurnState::Over;
        Step::Over(match self.stop {
            Some(StopReason::ToolUse) if !self.uses.is_empty() => After::Holds,
            Some(StopReason::EndTurn | StopReason::StopSequence | StopReason::PauseTurn)
                if self.uses.is_empty() =>
            {
                After::Settles
            }
            _ => After::Ends,
        })
    }
}

fn cut_off() -> Failure {
    Failure {
        message: "the connection to the API was lost in the middle of the answer".into(),
        reason: Some("connection_failed".into()),
        ..Failure::default()
    }
}

/// A block or a delta, as far as it tells whether it says anything.
#[derive(Deserialize)]
struct Opening<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = r#"{"type":"system","subtype":"init","tools":[],"session_id":"s"}"#;
    const TEXT: &str =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    const HELLO: &str =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}"#;
    const STOPPED: &str = r#"{"type":"content_block_stop","index":0}"#;
    const START: &str = r#"{"type":"message_start","message":{"id":"m","content":[]}}"#;
    const RESULT: &str =
        r#"{"type":"result","subtype":"success","is_error":false,"result":"hello"}"#;

    fn event(event: &str) -> String {
        format!(
            r#"{{"type":"stream_event","event":{event},"session_id":"s","parent_tool_use_id":null,"uuid":"u"}}"#
        )
    }

    fn ending(reason: &str) -> String {
        event(&format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":{reason}}},"usage":{{"output_tokens":1}}}}"#
        ))
    }

    fn tool(name: &str) -> ClientTool {
        ClientTool { name: name.into(), manifest: format!("{{\"name\":\"{name}\"}}") }
    }

    /// Pushes lines until one is not quiet; returns the names of the events and the last step.
    fn play(mut turn: Turn, lines: &[String]) -> (Vec<String>, Step) {
        let (mut out, mut last) = (Vec::new(), Step::Quiet);
        for line in lines {
            last = say(&mut turn, line, &mut out);
            if matches!(last, Step::Over(_) | Step::Failed(_)) {
                break;
            }
        }
        let text = written(&out);
        (
            text.lines()
                .filter_map(|line| line.strip_prefix("event: "))
                .map(str::to_owned)
                .collect(),
            last,
        )
    }

    fn say(turn: &mut Turn, line: &str, out: &mut Vec<EventFrame>) -> Step {
        turn.line(&Bytes::copy_from_slice(line.as_bytes()), out)
    }

    fn written(events: &[EventFrame]) -> String {
        events.iter().map(|event| String::from_utf8(event.to_sse().to_vec()).unwrap()).collect()
    }

    #[track_caller]
    fn check(reason: &str, events: &[&str], expect: After) {
        let mut lines = vec![INIT.to_owned(), event(START)];
        lines.extend(events.iter().map(|source| event(source)));
        lines.extend([ending(reason), event(STOP)]);
        let (names, step) = play(Turn::begun(Vec::new()), &lines);
        assert_eq!(step, Step::Over(expect), "{reason}");
        assert_eq!(names.last().map(String::as_str), Some("message_stop"), "{reason}");
        assert_eq!(names.len(), events.len() + 3, "{reason}");
    }

    #[test]
    fn an_answer_is_over_with_its_stop_reason_and_the_program_goes_where_it_would_ask_again() {
        let said = [TEXT, HELLO, STOPPED];
        check("\"end_turn\"", &said, After::Settles);
        check("\"stop_sequence\"", &said, After::Settles);
        check("\"pause_turn\"", &said, After::Settles);
        check("\"max_tokens\"", &said, After::Ends);
        check("\"model_context_window_exceeded\"", &said, After::Ends);
        check("\"refusal\"", &said, After::Ends);
        check("\"something_new\"", &said, After::Ends);
        check("\"end_turn\"", &[TEXT, STOPPED], After::Ends);
        check("\"end_turn\"", &[], After::Ends);
    }

    #[test]
    fn events_pass_as_they_came() {
        let odd = r#"{"type":"new_event", "x": 1.0}"#;
        let mut turn = Turn::begun(Vec::new());
        let mut out = Vec::new();
        for line in [INIT.to_owned(), event(START), event(odd)] {
            say(&mut turn, &line, &mut out);
        }
        assert_eq!(
            written(&out),
            format!("event: message_start\ndata: {START}\n\nevent: new_event\ndata: {odd}\n\n")
        );
    }

    #[test]
    fn tools_of_the_programs_own_are_never_asked_with() {
        let init = r#"{"type":"system","subtype":"init","tools":["a","Bash"]}"#.to_owned();
        let (names, step) = play(Turn::begun(vec![tool("a")]), &[init, event(START)]);
        assert!(
            names.is_empty()
                && matches!(&step, Step::Failed(failure) if failure.message.contains("Bash")),
            "{step:?}"
        );
        let (names, step) = play(Turn::begun(Vec::new()), &[event(START)]);
        assert!(names.is_empty() && matches!(step, Step::Failed(_)));
        let init = r#"{"type":"system","subtype":"init","tools":["a"]}"#.to_owned();
        let (_, step) = play(Turn::begun(vec![tool("a"), tool("b")]), &[init, event(START)]);
        assert!(
            matches!(&step, Step::Failed(failure) if failure.message.contains("(b missing)") && failure.is_final),
            "{step:?}"
        );
    }

    #[test]
    fn a_tool_is_the_clients_also_by_the_name_that_the_program_once_had_for_it() {
        let init =
            |tools: &str| format!(r#"{{"type":"system","subtype":"init","tools":[{tools}]}}"#);
        for (ours, offered, fits) in [
            (&["Agent"][..], r#""Task""#, true),
            (&["Agent"], r#""Agent""#, true),
            (&["Task", "Agent"], r#""Task","Task""#, true),
            (&["Agent"], r#""Task","Task""#, false),
            (&["Agent"], "", false),
        ] {
            let turn = Turn::begun(ours.iter().map(|name| tool(name)).collect());
            let (names, _) = play(turn, &[init(offered), event(START)]);
            assert_eq!(!names.is_empty(), fits, "{ours:?} as {offered}");
        }
    }

    #[test]
    fn the_model_that_answers_is_known() {
        let mut turn = Turn::begun(Vec::new());
        let init = r#"{"type":"system","subtype":"init","tools":[],"model":"claude-opus-5-5"}"#;
        say(&mut turn, init, &mut Vec::new());
        assert_eq!(turn.model(), Some("claude-opus-5-5"));
        let start = event(r#"{"type":"message_start","message":{"model":"claude-sonnet-5-5"}}"#);
        say(&mut turn, &start, &mut Vec::new());
        assert_eq!(turn.model(), Some("claude-sonnet-5-5"));
    }

    #[test]
    fn a_second_attempt_is_never_a_second_beginning() {
        let abandoned = r#"{"type":"stream_event","event":{"type":"message_stop"},"parent_tool_use_id":null,"abandoned_blocks":{"from_block_index":0}}"#.to_owned();
        let failed = r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error: Over"}]},"error":"unknown","api_error_status":529,"api_error_type":"overloaded_error","request_id":"r"}"#;
        let begun = || vec![INIT.to_owned(), event(START), event(TEXT), event(HELLO)];
        let unfinished = vec![event(STOPPED), ending("null"), event(STOP)];
        for (rest, status) in [
            (vec![event(STOPPED), abandoned.clone()], 502),
            (unfinished, 502),
            (vec![failed.to_owned(), event(STOPPED), ending("null"), abandoned], 529),
            (vec![event(START)], 502),
        ] {
            let (names, step) = play(Turn::begun(Vec::new()), &[begun(), rest].concat());
            let Step::Failed(failure) = step else { panic!("{step:?}") };
            assert_eq!(failure.status_or_typical(), status);
            assert!(!names.contains(&"message_stop".to_owned()), "{names:?}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let failed = r#"{"type":"assistant","message":{"model":"<synthetic>","stop_reason":"refusal","content":[{"type":"text","text":"API Error: flagged"}]},"error":"invalid_request","request_id":"r"}"#;
        let lines = [
            INIT.to_owned(),
            event(START),
            event(TEXT),
            event(HELLO),
            event(STOPPED),
            failed.to_owned(),
            ending("\"refusal\""),
        ];
        assert_eq!(play(Turn::begun(Vec::new()), &lines).1, Step::Over(After::Ends));
    }

    #[test]
    fn failures_are_told_by_status_and_type() {
        let limit = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"limit"}]},"error":"rate_limit","api_error":"usage_limit_reached","api_error_status":429,"api_error_type":"rate_limit_error","api_error_params":{"rate_limit_info":{"resetsAt":1795300000}},"request_id":"req_1"}"#;
        let (_, step) = play(Turn::begun(Vec::new()), &[INIT.to_owned(), limit.to_owned()]);
        let Step::Failed(failure) = step else { panic!("{step:?}") };
        assert_eq!(
            (failure.status, failure.limit.as_ref().and_then(|limit| limit.resets_at)),
            (Some(429), Some(1_795_300_000))
        );
        assert_eq!(
            failure.body(),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"},"request_id":"req_1"}"#
        );
        let result = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["No conversation found"]}"#;
        let (_, step) = play(Turn::begun(Vec::new()), &[INIT.to_owned(), result.to_owned()]);
        assert!(
            matches!(step, Step::Failed(failure) if failure.message == "No conversation found")
        );
        let (_, step) = play(Turn::begun(Vec::new()), &[INIT.to_owned(), RESULT.to_owned()]);
        assert!(matches!(step, Step::Failed(_)), "a result without an answer is none");
    }

    #[test]
    fn what_an_older_program_says_of_a_failure_is_put_together() {
        let failed = |class: &str, text: &str| {
            format!(
                r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{text}"}}]}},"error":"{class}","request_id":"r"}}"#
            )
        };
        let result = |status: &str, text: &str| {
            format!(
                r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},"result":"{text}"}}"#
            )
        };
        let table = [
            ("unknown", "API Error: 400 bad", "400", Some(400), None),
            (
                "server_error",
                "API Error: Connection dropped (ECONNRESET)",
                "null",
                None,
                Some("connection_failed"),
            ),
            ("authentication_failed", "Not logged in", "null", None, None),
        ];
        for (class, text, told, status, reason) in table {
            let (_, step) = play(
                Turn::begun(Vec::new()),
                &[INIT.to_owned(), failed(class, text), result(told, text)],
            );
            let Step::Failed(failure) = step else { panic!("{step:?}") };
            assert_eq!(
                (
                    failure.status,
                    failure.reason.as_deref(),
                    failure.class.as_deref(),
                    failure.request_id.as_deref()
                ),
                (status, reason, Some(class), Some("r")),
                "{text}"
            );
        }
    }

    #[test]
    fn held_calls_are_known_by_the_ids_in_the_answer() {
        let use_of = |id: &str, index: u8| {
            event(&format!(
                r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"{id}","name":"a","input":{{}}}}}}"#
            ))
        };
        let call = |id: &str| {
            format!(
                r#"{{"type":"control_request","request_id":"q-{id}","request":{{"subtype":"mcp_message","message":{{"method":"tools/call","params":{{"name":"a","_meta":{{"claudecode/toolUseId":"{id}"}}}},"id":2}}}}}}"#
            )
        };
        let init = r#"{"type":"system","subtype":"init","tools":["a"]}"#.to_owned();
        let mut turn = Turn::begun(vec![tool("a")]);
        let mut out = Vec::new();
        for line in
            [init, event(START), use_of("x", 0), call("x"), use_of("y", 1), ending("\"tool_use\"")]
        {
            say(&mut turn, &line, &mut out);
        }
        assert_eq!(say(&mut turn, &event(STOP), &mut out), Step::Over(After::Holds));
        assert!(!turn.holds_all());
        say(&mut turn, &call("y"), &mut out);
        assert!(turn.holds_all());
        say(&mut turn, r#"{"type":"control_cancel_request","request_id":"q-y"}"#, &mut out);
        assert_eq!(turn.calls().len(), 1);
    }

    #[test]
    fn a_tool_that_the_client_does_not_have_ends_the_program_before_it_answers_itself() {
        let stray = event(
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x","name":"b","input":{}}}"#,
        );
        let init = r#"{"type":"system","subtype":"init","tools":["a"]}"#.to_owned();
        let (names, step) = play(
            Turn::begun(vec![tool("a")]),
            &[init, event(START), stray, ending("\"tool_use\"")],
        );
        assert_eq!(
            (step, names.last().map(String::as_str)),
            (Step::Over(After::Ends), Some("message_stop"))
        );
    }

    #[test]
    fn blocks_that_were_never_streamed_are_an_answer_all_the_same() {
        let said = |block: &str| {
            format!(
                r#"{{"type":"assistant","message":{{"id":"m","content":[{block}]}},"parent_tool_use_id":null}}"#
            )
        };
        let lines = [
            INIT.to_owned(),
            said(r#"{"type":"thinking","thinking":"hm","signature":"s"}"#),
            said(r#"{"type":"text","text":"hello"}"#),
            RESULT.to_owned(),
        ];
        let (names, step) = play(Turn::begun(Vec::new()), &lines);
        assert_eq!((names.len(), step), (3 + 4 + 3, Step::Over(After::Ends)));
    }

    #[test]
    fn garbage_and_news_change_nothing() {
        let lines = [
            INIT.to_owned(),
            "garbage".into(),
            event(START),
            r#"{"type":"brand_new"}"#.into(),
            event(TEXT),
            event(HELLO),
            event(STOPPED),
            ending("\"end_turn\""),
            event(STOP),
        ];
        assert_eq!(play(Turn::begun(Vec::new()), &lines).1, Step::Over(After::Settles));
    }
}
