//! The lines that the program writes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::login::Limit;

/// One line, as far as anybody here looks at it. Kinds that are newer than this gateway, and the
/// many that say nothing to it, are [`Line::Other`].
#[derive(Debug)]
pub enum Line<'a> {
    /// The first of every turn.
    Init(Init<'a>),
    /// An event of the model's stream, in the conversation itself.
    Event {
        /// The event, as it came from the API.
        event: &'a RawValue,
        /// The program gave the attempt up and closed what was open.
        abandoned: bool,
    },
    /// The program says that it failed, where an answer would stand.
    Failed(Failure),
    /// A finished block of the model's, a tool's result, or a word of a sub-agent's.
    Said(SaidBlock<'a>),
    /// The turn is over.
    Result(Box<Outcome<'a>>),
    /// One of the client's tools is to be called.
    Call(HeldCall),
    /// Anything else that the program asks of the server of the client's tools.
    Question(Question<'a>),
    /// A tool of the program's own is to be used, and its own rules do not say whether it may.
    Permission(Permission<'a>),
    /// A tool is about to be used, whatever the program's own rules say: a hook of ours is asked first.
    Hook(Permission<'a>),
    /// An answer to what we asked.
    Answer(ControlAnswer<'a>),
    /// The program does not want to know any more.
    Withdrawn(Cow<'a, str>),
    /// How full a plan's window is.
    Limit(Limit),
    Other,
    /// Not a line that the program writes.
    Garbage,
}

/// What a turn begins with.
#[derive(Debug, Deserialize)]
pub struct Init<'a> {
    #[serde(default)]
    pub tools: Vec<String>,
    #[serde(borrow, default)]
    pub session_id: Cow<'a, str>,
    /// The model that will be asked.
    #[serde(borrow, default)]
    pub model: Cow<'a, str>,
}

/// A message line: whose it is, and what it says.
#[derive(Debug)]
pub struct SaidBlock<'a> {
    pub user: bool,
    /// The whole message, as JSON.
    pub message: &'a RawValue,
    /// Of a sub-agent, or what one is told.
    pub nested: bool,
    /// The program made it up by itself.
    pub synthetic: bool,
}

/// What a turn came to.
#[derive(Debug, Deserialize)]
pub struct Outcome<'a> {
    #[serde(borrow, default)]
    pub subtype: Cow<'a, str>,
    #[serde(default)]
    pub is_error: bool,
    #[serde(borrow, default)]
    pub result: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub session_id: Cow<'a, str>,
    #[serde(default)]
    pub num_turns: u64,
    /// US dollars by the list, of all that the session ever did.
    #[serde(default)]
    pub total_cost_usd: f64,
    /// What each model did in this turn.
    #[serde(borrow, default)]
    pub model_usage_since_last_result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub api_error_status: Option<u16>,
    #[serde(borrow, default)]
    pub api_error_type: Option<Cow<'a, str>>,
    #[serde(default)]
    pub errors: Vec<String>,
    #[serde(borrow, default)]
    pub permission_denials: Option<&'a RawValue>,
}

/// A question to the server of the client's tools.
#[derive(Debug)]
pub struct Question<'a> {
    pub request_id: Cow<'a, str>,
    pub method: Cow<'a, str>,
    /// As JSON; none for a notification.
    pub id: Option<Cow<'a, str>>,
}

/// A question whether a tool may be used.
#[derive(Debug)]
pub struct Permission<'a> {
    pub request_id: Cow<'a, str>,
    pub tool: Cow<'a, str>,
    /// The arguments, as JSON.
    pub input: &'a str,
    /// The call in the conversation that it is about.
    pub tool_use_id: Option<Cow<'a, str>>,
    /// The folder in which the program works at that moment, where it is told.
    pub cwd: Option<Cow<'a, str>>,
}

/// An answer to a control request of ours.
#[derive(Debug)]
pub struct ControlAnswer<'a> {
    pub request_id: Cow<'a, str>,
    /// What came, as JSON, or why nothing did.
    pub result: Result<Option<&'a RawValue>, Cow<'a, str>>,
}

/// Everything that some kind of line may have.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    subtype: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parent_tool_use_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    abandoned_blocks: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(rename = "isSynthetic", default)]
    synthetic: Option<bool>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// Reads one line.
    pub fn parse(line: &'a [u8]) -> Self {
        let Ok(raw) = serde_json::from_slice::<Raw<'a>>(line) else { return Self::Garbage };
        let parsed = match (&*raw.kind, raw.subtype.as_deref()) {
            ("stream_event", _) => {
                let event = raw.event.filter(|_| raw.parent_tool_use_id.is_none());
                return event.map_or(Self::Other, |event| Self::Event {
                    event,
                    abandoned: raw.abandoned_blocks.is_some(),
                });
            }
            ("system", Some("init")) => serde_json::from_slice(line).ok().map(Self::Init),
            ("assistant", _) if raw.error.is_some() => Failure::parse(line).map(Self::Failed),
            ("assistant" | "user", _) => {
                let (user, nested, synthetic) = (
                    raw.kind == "user",
                    raw.parent_tool_use_id.is_some(),
                    raw.synthetic == Some(true),
                );
                raw.message
                    .map(|message| Self::Said(SaidBlock { user, message, nested, synthetic }))
            }
            ("result", _) => {
                serde_json::from_slice(line).ok().map(|outcome| Self::Result(Box::new(outcome)))
            }
            ("control_request", _) => {
                raw.request_id.zip(raw.request).and_then(|(id, request)| asked(id, request))
            }
            ("control_cancel_request", _) => raw.request_id.map(Self::Withdrawn),
            ("control_response", _) => raw.response.and_then(answer),
            ("rate_limit_event", _) => Limit::parse(line).map(Self::Limit),
            (_, _) => Some(Self::Other),
        };
        parsed.unwrap_or(Self::Garbage)
    }
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow)]
    subtype: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<RawRpc<'a>>,
    #[serde(borrow, default)]
    tool_name: Cow<'a, str>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_use_id: Option<Cow<'a, str>>,
}

/// What a hook is told of a use.
#[derive(Deserialize)]
struct RawUse<'a> {
    #[serde(borrow)]
    tool_name: Cow<'a, str>,
    #[serde(borrow, default)]
    tool_input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cwd: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawRpc<'a> {
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawCall<'a> {
    #[serde(rename = "_meta", borrow)]
    meta: RawMeta<'a>,
}

#[derive(Deserialize)]
struct RawMeta<'a> {
    #[serde(rename = "claudecode/toolUseId", borrow)]
    tool_use_id: Cow<'a, str>,
}

fn asked<'a>(request_id: Cow<'a, str>, request: &'a RawValue) -> Option<Line<'a>> {
    let raw: RawRequest<'a> = serde_json::from_str(request.get()).ok()?;
    match (&*raw.subtype, raw.message) {
        ("can_use_tool", _) => {
            let input = raw.input.map_or("{}", RawValue::get);
            Some(Line::Permission(Permission {
                request_id,
                tool: raw.tool_name,
                input,
                tool_use_id: raw.tool_use_id,
                cwd: None,
            }))
        }
        // What is about no tool, or in a way that nobody knows, is judged as a tool without a name: it is refused.
        ("hook_callback", _) => {
            let used =
                raw.input.and_then(|input| serde_json::from_str::<RawUse<'a>>(input.get()).ok());
            let (tool, input, cwd) = used.map_or((Cow::Borrowed(""), "{}", None), |used| {
                (used.tool_name, used.tool_input.map_or("{}", RawValue::get), used.cwd)
            });
            Some(Line::Hook(Permission {
                request_id,
                tool,
                input,
                tool_use_id: raw.tool_use_id,
                cwd,
            }))
        }
        ("mcp_message", Some(rpc)) => {
            let call = rpc
                .params
                .filter(|_| rpc.method == "tools/call")
                .and_then(|params| serde_json::from_str::<RawCall<'_>>(params.get()).ok());
            Some(match (call, rpc.id) {
                (Some(call), Some(id)) => Line::Call(HeldCall {
                    request_id: request_id.into_owned(),
                    rpc_id: id.get().to_owned(),
                    tool_use_id: call.meta.tool_use_id.into_owned(),
                }),
                (_, id) => Line::Question(Question {
                    request_id,
                    method: rpc.method,
                    id: id.map(|id| Cow::Borrowed(id.get())),
                }),
            })
        }
        _ => Some(Line::Other),
    }
}

#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow)]
    subtype: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
}

fn answer(response: &RawValue) -> Option<Line<'_>> {
    let raw: RawAnswer<'_> = serde_json::from_str(response.get()).ok()?;
    let result = if raw.subtype == "success" {
        Ok(raw.response)
    } else {
        Err(raw.error.unwrap_or(Cow::Borrowed("it gave no reason")))
    };
    Some(Line::Answer(ControlAnswer { request_id: raw.request_id, result }))
}

/// One of the models that the program knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedModel {
    /// What it can be asked for by, such as `opus`.
    pub value: String,
    /// The full name of the model.
    #[serde(default)]
    pub resolved_model: Option<String>,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
}

/// Reads the answer to `list_models`.
pub fn models(answer: &RawValue) -> Option<Vec<ListedModel>> {
    #[derive(Deserialize)]
    struct List {
        models: Vec<ListedModel>,
    }
    serde_json::from_str::<List>(answer.get()).ok().map(|list| list.models)
}

/// A call of a client's tool that the program holds open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCall {
    pub request_id: String,
    /// As JSON.
    pub rpc_id: String,
    pub tool_use_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_nobody_knows_are_passed_over() {
        for line in [
            r#"{"type":"keep_alive"}"#,
            r#"{"type":"system","subtype":"status","status":"requesting"}"#,
            r#"{"type":"new","error":{"a":1},"message":7}"#,
        ] {
            assert!(matches!(Line::parse(line.as_bytes()), Line::Other), "{line}");
        }
        for line in [
            "",
            "not json",
            "[1]",
            r#"{"type":"control_request"}"#,
            r#"{"type":"result","usage":7,"is_error":"x"}"#,
        ] {
            assert!(matches!(Line::parse(line.as_bytes()), Line::Garbage), "{line}");
        }
    }

    #[test]
    fn words_of_a_sub_agent_are_not_the_conversations() {
        let line = br#"{"type":"stream_event","event":{"type":"message_stop"},"parent_tool_use_id":"toolu_1"}"#;
        assert!(matches!(Line::parse(line), Line::Other));
        let line = br#"{"type":"stream_event","event":{"type":"message_stop"},"parent_tool_use_id":null,"abandoned_blocks":{"from_block_index":0}}"#;
        assert!(matches!(Line::parse(line), Line::Event { abandoned: true, .. }));
    }

    #[test]
    fn a_call_a_question_and_a_permission_are_told_apart() {
        let call = br#"{"type":"control_request","request_id":"q","request":{"subtype":"mcp_message","server_name":"client","message":{"method":"tools/call","params":{"name":"w","arguments":{},"_meta":{"claudecode/toolUseId":"toolu_1","progressToken":2}},"jsonrpc":"2.0","id":2}}}"#;
        let Line::Call(call) = Line::parse(call) else { panic!("a call") };
        assert_eq!(
            (call.request_id.as_str(), call.rpc_id.as_str(), call.tool_use_id.as_str()),
            ("q", "2", "toolu_1")
        );
        let question = br#"{"type":"control_request","request_id":"q","request":{"subtype":"mcp_message","message":{"method":"notifications/initialized"}}}"#;
        assert!(matches!(Line::parse(question), Line::Question(Question { id: None, .. })));
        let permission = br#"{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}"#;
        assert!(matches!(
            Line::parse(permission),
            Line::Permission(Permission { input: r#"{"command":"ls"}"#, .. })
        ));
        let hook = br#"{"type":"control_request","request_id":"q","request":{"subtype":"hook_callback","callback_id":"seaway","input":{"cwd":"/w","hook_event_name":"PreToolUse","tool_name":"Read","tool_input":{"file_path":"/a"}},"tool_use_id":"toolu_1"}}"#;
        let Line::Hook(used) = Line::parse(hook) else { panic!("a hook") };
        assert_eq!(
            (&*used.tool, used.input, used.tool_use_id.as_deref(), used.cwd.as_deref()),
            ("Read", r#"{"file_path":"/a"}"#, Some("toolu_1"), Some("/w"))
        );
        let odd = br#"{"type":"control_request","request_id":"q","request":{"subtype":"hook_callback","callback_id":"seaway","input":{"new":1}}}"#;
        assert!(matches!(Line::parse(odd), Line::Hook(Permission { input: "{}", .. })));
    }
}
