//! A run: the program works with tools of its own, and what it does is told as it happens.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::failure::Failure;
use super::login::Limit;
use super::output::{Line, Outcome};
use crate::json::{Members, quote};
use crate::sse::write_event;
use crate::usage::{Report, Usage};

/// What a line of a run means.
#[derive(Debug)]
pub enum Happened {
    /// A line without news.
    Quiet,
    /// Something for whoever watches; it was written.
    Told,
    /// The program asks whether it may use a tool, and waits.
    Asks {
        request_id: String,
        tool: String,
        input: String,
    },
    /// The program is about to use a tool, and waits for a word of ours.
    Uses {
        request_id: String,
        tool: String,
        input: String,
        /// The folder in which it works at that moment.
        cwd: Option<String>,
    },
    /// A tool was used of which nobody was asked: the program does not keep to what it was told.
    Unasked,
    /// The program does not want to know any more.
    Withdrawn(String),
    /// How full a plan's window is.
    Limit(Limit),
    /// The run came to its end.
    Done(Box<Done>),
    Failed(Failure),
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub result: String,
    /// By the program's name.
    pub session_id: String,
    pub turns: u64,
    /// As the program counts it, all requests together: JSON.
    pub usage: String,
    /// US dollars by the list.
    pub cost: f64,
    pub stop_reason: Option<String>,
    /// Uses of tools that were refused: JSON.
    pub denials: String,
}

/// A machine that a run's lines are pushed into.
#[derive(Debug, Default)]
pub struct Run {
    failure: Option<Failure>,
    model: Option<String>,
    counted: Usage,
    /// The uses that were judged.
    judged: HashSet<String>,
}

impl Run {
    /// The model that worked, once it said a word.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What it cost, once there is a result, whatever it says.
    pub fn counted(&self) -> Usage {
        self.counted
    }

    /// Takes one line, and writes what it means as events into `out`.
    pub fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Happened {
        match Line::parse(line) {
            Line::Event { abandoned: true, .. } => {
                write_event(
                    out,
                    "retry",
                    "{\"message\":\"the answer broke off; what follows begins it anew or goes on with it\"}",
                );
                Happened::Told
            }
            Line::Event { event, .. } => text(event, out),
            Line::Said(said) if said.user && self.was_unasked(said.message) => Happened::Unasked,
            Line::Said(said) if !said.nested && !said.synthetic => {
                self.said(said.user, said.message, out)
            }
            Line::Failed(failure) => {
                self.failure = Some(failure);
                Happened::Quiet
            }
            Line::Hook(used) => {
                self.judged.extend(used.tool_use_id.map(Cow::into_owned));
                Happened::Uses {
                    request_id: used.request_id.into_owned(),
                    tool: used.tool.into_owned(),
                    input: used.input.to_owned(),
                    cwd: used.cwd.map(Cow::into_owned),
                }
            }
            Line::Permission(asked) => Happened::Asks {
                request_id: asked.request_id.into_owned(),
                tool: asked.tool.into_owned(),
                input: asked.input.to_owned(),
            },
            Line::Withdrawn(id) => Happened::Withdrawn(id.into_owned()),
            Line::Result(outcome) => self.result(&outcome),
            Line::Init(_)
            | Line::Said(_)
            | Line::Call(_)
            | Line::Question(_)
            | Line::Answer(_)
            | Line::Other
            | Line::Garbage => Happened::Quiet,
            Line::Limit(limit) => Happened::Limit(limit),
        }
    }

    /// Told that the program said its last line.
    pub fn end(&mut self) -> Failure {
        let none = || Failure {
            message: "Claude Code ended without a result".into(),
            ..Failure::default()
        };
        self.failure.take().unwrap_or_else(none)
    }

    /// True if a message holds the result of a use that nobody was asked about. One that did not come to be used, such
    /// as of a tool that is not there, is none.
    fn was_unasked(&self, message: &RawValue) -> bool {
        let Ok(message) = serde_json::from_str::<Members>(message.get()) else { return false };
        let blocks: Vec<Members> = message
            .get("content")
            .and_then(|raw| serde_json::from_str(raw).ok())
            .unwrap_or_default();
        blocks.iter().filter(|block| block.get("type") == Some("\"tool_result\"")).any(|block| {
            let id = block
                .get("tool_use_id")
                .and_then(|raw| serde_json::from_str::<String>(raw).ok())
                .unwrap_or_default();
            let not_used = block.get("is_error") == Some("true")
                && block.get("content").is_some_and(|content| content.contains("<tool_use_error>"));
            !not_used && !self.judged.contains(&id)
        })
    }

    /// Calls of tools, and their results. Text came before, piece by piece.
    fn said(&mut self, user: bool, message: &RawValue, out: &mut Vec<u8>) -> Happened {
        let Ok(message) = serde_json::from_str::<Members>(message.get()) else {
            return Happened::Quiet;
        };
        if !user && self.model.is_none() {
            self.model = message.get("model").and_then(|raw| serde_json::from_str(raw).ok());
        }
        let blocks: Vec<Members> = message
            .get("content")
            .and_then(|raw| serde_json::from_str(raw).ok())
            .unwrap_or_default();
        let mut told = false;
        for block in &blocks {
            let member = |key: &str| block.get(key).unwrap_or("null").to_owned();
            match (user, block.get("type")) {
                (false, Some("\"tool_use\"")) => write_event(
                    out,
                    "tool_use",
                    &format!(
                        "{{\"id\":{},\"name\":{},\"input\":{}}}",
                        member("id"),
                        member("name"),
                        member("input")
                    ),
                ),
                (true, Some("\"tool_result\"")) => {
                    let failed = block.get("is_error").unwrap_or("false");
                    write_event(
                        out,
                        "tool_result",
                        &format!(
                            "{{\"toolUseId\":{},\"content\":{},\"isError\":{failed}}}",
                            member("tool_use_id"),
                            member("content")
                        ),
                    );
                }
                _ => continue,
            }
            told = true;
        }
        if told { Happened::Told } else { Happened::Quiet }
    }

    fn result(&mut self, outcome: &Outcome<'_>) -> Happened {
        let usage = outcome.usage.map_or("null", RawValue::get);
        if let Ok(report) = serde_json::from_str::<Report<'_>>(usage) {
            self.counted.update(&report);
        }
        let failed = outcome.is_error || outcome.subtype != "success" || outcome.result.is_none();
        if failed {
            let said = outcome
                .errors
                .first()
                .cloned()
                .or_else(|| outcome.result.as_deref().map(str::to_owned))
                .filter(|said| !said.is_empty());
            let message = match &*outcome.subtype {
                "error_max_turns" => {
                    "the run reached its `maxTurns` before it was done; allow more".to_owned()
                }
                _ => said.unwrap_or_else(|| {
                    format!("Claude Code ended the run without a result ({})", outcome.subtype)
                }),
            };
            let kind = match &*outcome.subtype {
                "error_max_turns" => Some("invalid_request_error".to_owned()),
                _ => outcome.api_error_type.as_deref().map(str::to_owned),
            };
            return Happened::Failed(Failure {
                status: outcome.api_error_status,
                kind,
                message,
                ..self.failure.take().unwrap_or_default()
            });
        }
        Happened::Done(Box::new(Done {
            result: outcome.result.as_deref().unwrap_or_default().to_owned(),
            session_id: outcome.session_id.clone().into_owned(),
            turns: outcome.num_turns,
            usage: usage.to_owned(),
            cost: cost(outcome),
            stop_reason: outcome.stop_reason.as_deref().map(str::to_owned),
            denials: outcome.permission_denials.map_or("[]", RawValue::get).to_owned(),
        }))
    }
}

/// What this run cost: a session that goes on has a total that counts what came before, too.
fn cost(outcome: &Outcome<'_>) -> f64 {
    #[derive(serde::Deserialize)]
    struct Model {
        #[serde(rename = "costUSD")]
        cost: f64,
    }
    let models = outcome.model_usage_since_last_result.and_then(|raw| {
        serde_json::from_str::<std::collections::HashMap<String, Model>>(raw.get()).ok()
    });
    models.map_or(outcome.total_cost_usd, |models| models.values().map(|model| model.cost).sum())
}

/// A piece of text, as the model says it.
fn text(event: &RawValue, out: &mut Vec<u8>) -> Happened {
    const DELTA: &str = "\"text_delta\"";
    if !event.get().contains(DELTA) {
        return Happened::Quiet;
    }
    let delta = serde_json::from_str::<Members>(event.get())
        .ok()
        .and_then(|event| serde_json::from_str::<Members>(event.get("delta")?).ok());
    match delta
        .as_ref()
        .filter(|delta| delta.get("type") == Some(DELTA))
        .and_then(|delta| delta.get("text"))
    {
        Some(text) => {
            write_event(out, "text", &format!("{{\"text\":{text}}}"));
            Happened::Told
        }
        None => Happened::Quiet,
    }
}

impl Done {
    /// The run as its answer tells it. `id` is ours; `session` is there if it can be continued.
    pub fn body(
        &self,
        id: &str,
        session: Option<&str>,
        model: Option<&str>,
        millis: u128,
    ) -> String {
        let mut body = Members::default();
        let text = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
        body.set("id", quote(id));
        body.set("result", quote(&self.result));
        body.set("sessionId", text(session));
        body.set("model", text(model));
        body.set("stopReason", text(self.stop_reason.as_deref()));
        body.set("turns", self.turns.to_string());
        body.set("durationMs", millis.to_string());
        body.set("usage", self.usage.clone());
        body.set("cost", serde_json::json!(self.cost).to_string());
        body.set("permissionDenials", self.denials.clone());
        body.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a run, and what it came to.
    fn play(lines: &[&str]) -> (String, Happened, Usage) {
        let (mut run, mut out) = (Run::default(), Vec::new());
        let mut last = Happened::Quiet;
        for line in lines {
            last = run.line(line.as_bytes(), &mut out);
        }
        (String::from_utf8(out).unwrap(), last, run.counted())
    }

    #[test]
    fn what_happens_is_told_in_order() {
        let (told, last, counted) = play(&[
            r#"{"type":"system","subtype":"init","tools":["Read"]}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"I \"read\""}},"parent_tool_use_id":null}"#,
            r#"{"type":"assistant","message":{"model":"m","content":[{"type":"text","text":"I \"read\""}]},"parent_tool_use_id":null}"#,
            r#"{"type":"assistant","message":{"model":"m","content":[{"type":"tool_use","id":"t","name":"Read","input":{"file_path":"/a"}}]},"parent_tool_use_id":null}"#,
            r#"{"type":"control_request","request_id":"q","request":{"subtype":"hook_callback","callback_id":"seaway","input":{"tool_name":"Read","tool_input":{"file_path":"/a"}},"tool_use_id":"t"}}"#,
            r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]},"parent_tool_use_id":null}"#,
            r#"{"type":"control_request","request_id":"q","request":{"subtype":"hook_callback","callback_id":"seaway","input":{"tool_name":"Read","tool_input":{}},"tool_use_id":"n"}}"#,
            r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"n","content":"nested"}]},"parent_tool_use_id":"t"}"#,
            r#"{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":2,"session_id":"s","total_cost_usd":0.25,"usage":{"input_tokens":3,"output_tokens":4}}"#,
        ]);
        assert_eq!(
            told,
            "event: text\ndata: {\"text\":\"I \\\"read\\\"\"}\n\nevent: tool_use\ndata: {\"id\":\"t\",\"name\":\"Read\",\"input\":{\"file_path\":\"/a\"}}\n\n\
             event: tool_result\ndata: {\"toolUseId\":\"t\",\"content\":\"x\",\"isError\":false}\n\n"
        );
        let Happened::Done(done) = last else { panic!("{last:?}") };
        assert_eq!((counted.input, counted.output, done.turns), (3, 4, 2));
        let body: serde_json::Value =
            serde_json::from_str(&done.body("run_1", None, Some("m"), 5)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"id": "run_1", "result": "done", "sessionId": null, "model": "m", "stopReason": null, "turns": 2, "durationMs": 5, "usage": {"input_tokens": 3, "output_tokens": 4}, "cost": 0.25, "permissionDenials": []})
        );
    }

    #[test]
    fn a_result_that_is_an_error_is_one() {
        let table = [
            (
                r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: x","usage":{"output_tokens":7},"api_error_status":429,"api_error_type":"rate_limit_error"}"#,
                Some(429),
                "API Error: x",
            ),
            (
                r#"{"type":"result","subtype":"error_max_turns","is_error":true}"#,
                None,
                "the run reached its `maxTurns` before it was done; allow more",
            ),
            (
                r#"{"type":"result","subtype":"success","is_error":false}"#,
                None,
                "Claude Code ended the run without a result (success)",
            ),
            (
                r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["why"]}"#,
                None,
                "why",
            ),
        ];
        for (line, status, message) in table {
            let (_, last, _) = play(&[line]);
            let Happened::Failed(failure) = last else { panic!("{last:?}") };
            assert_eq!((failure.status, failure.message.as_str()), (status, message));
        }
        assert_eq!(play(&[table[0].0]).2.output, 7, "what failed has cost something too");
        assert_eq!(Run::default().end().message, "Claude Code ended without a result");
    }

    #[test]
    fn a_use_that_nobody_was_asked_about_is_seen() {
        let result = |content: &str, more: &str, parent: &str| {
            format!(
                r#"{{"type":"user","message":{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":"{content}"{more}}}]}},"parent_tool_use_id":{parent}}}"#
            )
        };
        for used in [
            result("x", "", "null"),
            result("exit 1", ",\"is_error\":true", "null"),
            result("x", "", "\"toolu_of_an_agent\""),
        ] {
            assert!(matches!(play(&[&used]).1, Happened::Unasked), "{used}");
        }
        assert!(matches!(
            play(&[&result(
                "<tool_use_error>no such tool</tool_use_error>",
                ",\"is_error\":true",
                "null"
            )])
            .1,
            Happened::Told
        ));
    }

    #[test]
    fn a_question_of_the_programs_is_handed_on() {
        let line = r#"{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}"#;
        assert!(
            matches!(play(&[line]).1, Happened::Asks { tool, input, .. } if tool == "Bash" && input == r#"{"command":"ls"}"#)
        );
    }
}
