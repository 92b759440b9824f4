//! What a Messages request asks of the program.

use std::borrow::Cow;

use super::blocks::{self, Results};
use super::tools::{self, ClientTool};
use crate::json::{Node, RawObject, Text};
use crate::messages::Change;
use crate::model::{self, Effort, Family, Model, ModelTraits, Off};
use crate::notes::Notes;
use crate::read::{
    Path, array, count, member, number, object, string, text, unsupported, verbatim, wrong,
};
use crate::{Fault, Request};

/// What reading a request depends on besides the request.
#[derive(Debug, Clone, Copy)]
pub struct AskTerms {
    pub traits: ModelTraits,
    /// Refuse what cannot be carried over, where it would be noted otherwise.
    pub strict: bool,
}

/// A request, ready to be said to the program.
#[derive(Debug)]
pub struct Ask<'a> {
    pub model: Cow<'a, str>,
    pub stream: bool,
    pub system: Vec<Text<'a>>,
    /// The last one is the user's.
    pub messages: Vec<AskedMessage<'a>>,
    pub tools: Vec<ClientTool>,
    pub thinking: ThinkingMode,
    pub max_tokens: u64,
    pub effort: Option<Effort>,
    /// What goes into the program's own request as it stands: a JSON object of few members, each
    /// of them read and written by us.
    pub extra: String,
    /// What could not be carried over.
    pub changes: Vec<Change>,
}

/// Whether and how much the model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingMode {
    /// As the program has it: adaptively where the model can, else with a large budget.
    Own,
    Off,
    Budget(u64),
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct AskedMessage<'a> {
    pub role: AskedRole,
    /// A list of blocks, as JSON.
    pub blocks: Cow<'a, str>,
}

impl AskedMessage<'_> {
    /// True for a turn of the user's whose last text an older program takes for a command of its own.
    pub fn is_a_command(&self) -> bool {
        self.role == AskedRole::User
            && blocks::last_text(&self.blocks).is_some_and(|text| text.starts_with('/'))
    }

    /// The results of tool calls in it, if it holds nothing else.
    pub fn results(&self) -> Option<Results> {
        blocks::results(&self.blocks)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedRole {
    User,
    Assistant,
}

impl AskedRole {
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Members that are looked at.
const KNOWN: [&str; 14] = [
    "model",
    "stream",
    "messages",
    "system",
    "max_tokens",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "mcp_servers",
];

impl<'a> Ask<'a> {
    /// Reads a Messages request.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or cannot be said to the program, by name.
    pub fn read(request: &Request<'a>, terms: &AskTerms) -> Result<Self, Fault> {
        let body = &request.object;
        let mut notes = Notes::new(terms.strict);
        let model = request.model.clone().ok_or_else(|| wrong("model", "field required"))?;
        let max_tokens =
            member(body, "max_tokens").ok_or_else(|| wrong("max_tokens", "field required"))?;
        for (name, what) in
            [("mcp_servers", "servers of the Model Context Protocol"), ("container", "containers")]
        {
            if member(body, name).is_some_and(|node| node.raw() != "[]") {
                return Err(unsupported(
                    name,
                    format!("{what} are the API's own and cannot be reached through Claude Code"),
                ));
            }
        }
        let tools = match member(body, "tools") {
            Some(node) => tools::tools(&node, &mut notes)?,
            None => Vec::new(),
        };
        let (effort, extra) = extra(body, &model, &tools, terms, &mut notes)?;
        let ask = Self {
            stream: request.stream,
            system: system(body, &mut notes)?,
            messages: messages(body, &mut notes)?,
            thinking: thinking(body, &model, &terms.traits, &mut notes)?,
            max_tokens: limit(&max_tokens, &model, &terms.traits)?,
            tools,
            effort,
            extra,
            model,
            changes: Vec::new(),
        };
        for (key, node) in body.members() {
            if !KNOWN.contains(&key) && !node.is_null() {
                notes.say(key.to_owned(), "not passed on")?;
            }
        }
        Ok(Self { changes: notes.into_changes(), ..ask })
    }
}

/// The limit of the answer. One that is beyond the model's the program would lower without a word.
fn limit(node: &Node<'_>, model: &str, traits: &ModelTraits) -> Result<u64, Fault> {
    let limit = count(node, "max_tokens")?;
    if limit > traits.max_output && !ModelTraits::is_unknown(model) {
        let why = format!(
            "{limit} > {}, which is the maximum allowed number of output tokens for {model}",
            traits.max_output
        );
        return Err(wrong("max_tokens", why));
    }
    Ok(limit)
}

fn system<'a>(body: &RawObject<'a>, notes: &mut Notes) -> Result<Vec<Text<'a>>, Fault> {
    let path = Path::of("system");
    let Some(node) = member(body, "system") else { return Ok(Vec::new()) };
    if node.is_string() {
        return Ok(vec![text(&node, path)?].into_iter().filter(|text| !text.is_blank()).collect());
    }
    let mut texts = Vec::new();
    for (index, node) in array(&node, path)?.iter().enumerate() {
        let place = path.at(index);
        let said = block_text(&object(node, place)?, place, notes)?;
        // Claude Code as a client opens with a line for billing; the program writes its own.
        if index == 0 && said.inner().starts_with("x-anthropic-billing-header:") {
            notes.say("system[0]", "left to the program")?;
        } else if !said.is_blank() {
            texts.push(said);
        }
    }
    Ok(texts)
}

fn block_text<'a>(
    block: &RawObject<'a>,
    place: Path<'_>,
    notes: &mut Notes,
) -> Result<Text<'a>, Fault> {
    if member(block, "cache_control").is_some() {
        notes.say("cache_control", "left to the program")?;
    }
    let said = member(block, "text").ok_or_else(|| wrong(place.key("text"), "field required"))?;
    text(&said, place.key("text"))
}

fn messages<'a>(body: &RawObject<'a>, notes: &mut Notes) -> Result<Vec<AskedMessage<'a>>, Fault> {
    let path = Path::of("messages");
    let node = member(body, "messages").ok_or_else(|| wrong(path, "field required"))?;
    let mut messages: Vec<AskedMessage<'a>> = Vec::new();
    for (index, node) in array(&node, path)?.iter().enumerate() {
        let place = path.at(index);
        let message = object(node, place)?;
        let role =
            member(&message, "role").ok_or_else(|| wrong(place.key("role"), "field required"))?;
        let role = string(&role, place.key("role"))?;
        let content = member(&message, "content")
            .ok_or_else(|| wrong(place.key("content"), "field required"))?;
        let blocks = blocks::content(&content, place.key("content"), notes)?;
        notes.unknown(&message, &["role", "content", "id", "type"], "messages")?;
        match &*role {
            "user" if nothing(&blocks) => {
                return Err(wrong(
                    place.key("content"),
                    "user messages must have non-empty content",
                ));
            }
            "user" => add(&mut messages, AskedRole::User, blocks),
            "assistant" if nothing(&blocks) => {
                return Err(wrong(
                    place.key("content"),
                    "all messages must have non-empty content except for the optional final assistant message",
                ));
            }
            "assistant" => add(&mut messages, AskedRole::Assistant, blocks),
            // An empty one only carries settings of the turn.
            "system" if nothing(&blocks) => notes.say("messages.role: system", "not passed on")?,
            "system" => {
                notes.say("messages.role: system", "said in the user turn")?;
                add(&mut messages, AskedRole::User, blocks);
            }
            _ => return Err(wrong(place.key("role"), "expected `user` or `assistant`")),
        }
    }
    match messages.last() {
        None => Err(wrong(path, "expected at least one message")),
        Some(last) if last.role == AskedRole::Assistant => {
            let why = "the conversation ends with the assistant; Claude Code cannot be made to continue an answer that was begun for it, so end with a user message";
            Err(unsupported(path, why))
        }
        Some(_) => {
            paired(&messages)?;
            Ok(messages)
        }
    }
}

/// Nothing is said: no block, or one text without a character.
fn nothing(blocks: &str) -> bool {
    matches!(
        blocks.split_whitespace().collect::<String>().as_str(),
        "[]" | r#"[{"type":"text","text":""}]"#
    )
}

/// Adds a turn. One that follows another of the same voice joins it, as the API has it: the program would put a
/// line break between them.
fn add<'a>(messages: &mut Vec<AskedMessage<'a>>, role: AskedRole, blocks: Cow<'a, str>) {
    match messages.last_mut() {
        Some(last) if last.role == role => {
            last.blocks = blocks::joined(&last.blocks, &blocks).into();
        }
        _ => messages.push(AskedMessage { role, blocks }),
    }
}

/// Every call has its result in the next turn, and every result its call in the one before. The program would mend
/// what does not fit in words of its own.
fn paired(messages: &[AskedMessage<'_>]) -> Result<(), Fault> {
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let path = Path::of("messages");
        let place = path.at(index);
        let (calls, results) = blocks::ids(&message.blocks);
        let twice = |ids: &[String]| {
            ids.iter()
                .enumerate()
                .find(|(at, id)| ids[..*at].contains(id))
                .map(|(_, id)| id.clone())
        };
        if let Some(id) = twice(&results).or_else(|| twice(&calls)) {
            return Err(wrong(
                place,
                format!(
                    "each `tool_use` and each `tool_result` must have an id of its own; `{id}` is there twice"
                ),
            ));
        }
        if let Some(id) = results.iter().find(|id| !open.contains(id)) {
            let why = format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            );
            return Err(wrong(place, why));
        }
        let left: Vec<&str> =
            open.iter().filter(|id| !results.contains(id)).map(String::as_str).collect();
        if !left.is_empty() {
            let why = format!(
                "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                left.join(", ")
            );
            return Err(wrong(path.at(index.saturating_sub(1)), why));
        }
        open = if message.role == AskedRole::Assistant { calls } else { Vec::new() };
    }
    Ok(())
}

/// The budget of a model that is given one.
fn thinking_budget(
    body: &RawObject<'_>,
    asked: Option<&RawObject<'_>>,
    path: Path<'_>,
) -> Result<u64, Fault> {
    let at = path.key("budget_tokens");
    let budget = asked.and_then(|asked| member(asked, "budget_tokens"));
    let budget = count(&budget.ok_or_else(|| wrong(at, "field required"))?, at)?;
    if budget < 1024 {
        return Err(wrong(at, "input should be greater than or equal to 1024"));
    }
    let limit = member(body, "max_tokens").and_then(|limit| limit.as_u64());
    if limit.is_some_and(|limit| limit <= budget) {
        return Err(wrong("max_tokens", "must be greater than `thinking.budget_tokens`"));
    }
    Ok(budget)
}

fn thinking(
    body: &RawObject<'_>,
    model: &str,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<ThinkingMode, Fault> {
    let path = Path::of("thinking");
    let asked = match member(body, "thinking") {
        Some(node) => Some(object(&node, path)?),
        None => None,
    };
    let kind = match asked
        .as_ref()
        .map(|asked| member(asked, "type").ok_or_else(|| wrong(path.key("type"), "field required")))
    {
        Some(kind) => Some(string(&kind?, path.key("type"))?.into_owned()),
        None => None,
    };
    if let Some(asked) = &asked {
        if member(asked, "display").is_some_and(|display| display.raw() != "\"summarized\"") {
            notes.say("thinking.display", "kept as summarized")?;
        }
        notes.unknown(asked, &["type", "budget_tokens", "display"], "thinking")?;
    }
    let can_be_off = traits.thinking != model::Thinking::Adaptive
        || matches!(traits.off, Off::Silence | Off::Disabled);
    // From 5 on silence means that the model thinks.
    let off_by_silence = can_be_off && Model::parse(model).is_some_and(|model| model.major < 5);
    Ok(match (kind.as_deref(), traits.thinking) {
        (_, model::Thinking::No) => ThinkingMode::Own,
        (None, _) if off_by_silence => ThinkingMode::Off,
        (Some("disabled"), _) if can_be_off => ThinkingMode::Off,
        (None, _) => ThinkingMode::Own,
        (Some("disabled" | "between_tools"), _) => {
            notes.say("thinking", "kept, as the program has it for this model")?;
            ThinkingMode::Own
        }
        (Some("enabled"), model::Thinking::Manual) => {
            ThinkingMode::Budget(thinking_budget(body, asked.as_ref(), path)?)
        }
        (Some("adaptive"), model::Thinking::Manual) => {
            return Err(wrong(
                path.key("type"),
                "adaptive thinking is not supported on this model; use `enabled` with `budget_tokens`",
            ));
        }
        (Some("enabled"), model::Thinking::Adaptive) => {
            notes.say("thinking.budget_tokens", "not passed on")?;
            ThinkingMode::Own
        }
        (Some("adaptive"), _) => ThinkingMode::Own,
        (Some(_), _) => {
            return Err(wrong(path.key("type"), "expected `enabled`, `adaptive` or `disabled`"));
        }
    })
}

/// Writes the members that go into the program's request as they are, and reads the effort.
fn extra(
    body: &RawObject<'_>,
    model: &str,
    tools: &[ClientTool],
    terms: &AskTerms,
    notes: &mut Notes,
) -> Result<(Option<Effort>, String), Fault> {
    let mut members: Vec<(&str, String)> = Vec::new();
    for (key, most) in [("temperature", 1.0), ("top_p", 1.0), ("top_k", f64::MAX)] {
        if let Some(node) = member(body, key) {
            number(&node, key, most)?;
            members.push((key, node.raw().to_owned()));
        }
    }
    if let Some(node) = member(body, "stop_sequences") {
        let path = Path::of("stop_sequences");
        let texts: Result<Vec<_>, Fault> = array(&node, path)?
            .iter()
            .enumerate()
            .map(|(index, node)| text(node, path.at(index)))
            .collect();
        let texts: Vec<String> = texts?.iter().map(|text| text.raw().to_owned()).collect();
        members.push(("stop_sequences", format!("[{}]", texts.join(","))));
    }
    if let Some(node) = member(body, "tool_choice") {
        members.push(("tool_choice", tools::choice(&node, tools, notes)?));
    }
    let (effort, format) = output_config(body, model, terms, notes)?;
    if let Some(format) = format {
        let effort =
            effort.map_or_else(String::new, |effort| format!("\"effort\":\"{}\",", effort.name()));
        members.push(("output_config", format!("{{{effort}\"format\":{format}}}")));
    }
    let members: Vec<String> =
        members.iter().map(|(key, raw)| format!("\"{key}\":{raw}")).collect();
    Ok((effort, format!("{{{}}}", members.join(","))))
}

/// Reads the effort, which is the API's default where none is given, and the format of the answer.
fn output_config(
    body: &RawObject<'_>,
    model: &str,
    terms: &AskTerms,
    notes: &mut Notes,
) -> Result<(Option<Effort>, Option<String>), Fault> {
    let path = Path::of("output_config");
    // The program has defaults of its own, which are not the API's.
    let medium = Model::parse(model)
        .is_some_and(|model| model.family == Family::Opus && (model.major, model.minor) >= (5, 5));
    let mut wish = if medium { Effort::Medium } else { Effort::High };
    let mut format = None;
    if let Some(node) = member(body, "output_config") {
        let config = object(&node, path)?;
        if let Some(node) = member(&config, "effort") {
            let name = string(&node, path.key("effort"))?;
            let known = [Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max];
            wish = known.into_iter().find(|effort| effort.name() == name).ok_or_else(|| {
                wrong(path.key("effort"), "expected `low`, `medium`, `high`, `xhigh` or `max`")
            })?;
            if terms.traits.effort(wish) != Some(wish) && !ModelTraits::is_unknown(model) {
                return Err(wrong(
                    path.key("effort"),
                    format!("this model does not support the effort `{name}`"),
                ));
            }
        }
        if let Some(node) = member(&config, "format") {
            format = Some(verbatim(&node, path.key("format"))?.into_owned());
        }
        notes.unknown(&config, &["effort", "format"], "output_config")?;
    }
    Ok((terms.traits.effort(wish), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, strict: bool) -> Result<Ask<'_>, Fault> {
        let request = Request::parse(body.as_bytes()).unwrap();
        let traits = ModelTraits::of(request.model.as_deref().unwrap_or_default());
        Ask::read(&request, &AskTerms { traits, strict })
    }

    #[track_caller]
    fn extra_of(members: &str, expect: &str) {
        let body = format!(
            r#"{{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{{"role":"user","content":"q"}}],{members}}}"#
        );
        assert_eq!(read(&body, false).unwrap().extra, expect);
    }

    #[test]
    fn only_members_that_we_read_go_into_the_programs_request() {
        extra_of(r#""temperature":0.50,"top_k":7"#, r#"{"temperature":0.50,"top_k":7}"#);
        extra_of(r#""stop_sequences":["\n\nH:" , "x"]"#, r#"{"stop_sequences":["\n\nH:","x"]}"#);
        extra_of(
            r#""tools":[{"name":"a","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"a","disable_parallel_tool_use":true,"evil":{"model":"x"}}"#,
            r#"{"tool_choice":{"type":"tool","name":"a","disable_parallel_tool_use":true}}"#,
        );
        extra_of(
            r#""output_config":{"format":{"type":"json_schema","schema":{"a":1.0}}}"#,
            r#"{"output_config":{"format":{"type":"json_schema","schema":{"a":1.0}}}}"#,
        );
        extra_of(r#""metadata":{"user_id":"u"},"stream":true"#, "{}");
    }

    #[test]
    fn thinking_is_as_the_model_and_the_program_have_it() {
        let table = [
            ("claude-sonnet-4-5", "", ThinkingMode::Off, 0),
            (
                "claude-sonnet-4-5",
                r#","thinking":{"type":"enabled","budget_tokens":2000}"#,
                ThinkingMode::Budget(2000),
                0,
            ),
            ("claude-opus-4-8", "", ThinkingMode::Off, 0),
            (
                "claude-opus-4-8",
                r#","thinking":{"type":"adaptive","display":"omitted"}"#,
                ThinkingMode::Own,
                1,
            ),
            (
                "claude-opus-4-8",
                r#","thinking":{"type":"enabled","budget_tokens":2000}"#,
                ThinkingMode::Own,
                1,
            ),
            ("claude-sonnet-5-5", "", ThinkingMode::Own, 0),
            ("claude-sonnet-5-5", r#","thinking":{"type":"disabled"}"#, ThinkingMode::Own, 1),
            ("claude-3-5-haiku-latest", "", ThinkingMode::Own, 0),
        ];
        for (model, members, expect, noted) in table {
            let body = format!(
                r#"{{"model":"{model}","max_tokens":3000,"messages":[{{"role":"user","content":"q"}}]{members}}}"#
            );
            let ask = read(&body, false).unwrap();
            assert_eq!((ask.thinking, ask.changes.len()), (expect, noted), "{model} {members}");
            assert_eq!(read(&body, true).is_err(), noted > 0, "{model} {members}");
        }
    }

    #[test]
    fn system_text_in_the_conversation_joins_the_user_turn() {
        let body = r#"{"model":"claude-opus-5-5","max_tokens":9,"system":[{"type":"text","text":"x-anthropic-billing-header: cc"},{"type":"text","text":"S"}],
            "messages":[{"role":"user","content":"q"},{"role":"system","content":[{"type":"text","text":"e"}]},{"role":"system","content":[]}]}"#;
        let ask = read(body, false).unwrap();
        assert_eq!(ask.messages.len(), 1);
        assert_eq!(
            ask.messages[0].blocks,
            r#"[{"type":"text","text":"q"},{"type":"text","text":"e"}]"#
        );
        assert_eq!(ask.system.iter().map(Text::raw).collect::<Vec<_>>(), ["\"S\""]);
        assert_eq!(ask.effort, Some(Effort::Medium));
    }

    #[test]
    fn neighbouring_turns_of_one_voice_are_one() {
        let body = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":""}]},{"role":"user","content":"c"}]}"#;
        let ask = read(body, false).unwrap();
        let blocks: Vec<&str> = ask.messages.iter().map(|message| &*message.blocks).collect();
        assert_eq!(
            (blocks.len(), blocks[0]),
            (3, r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#)
        );
        assert_eq!(ask.changes.len(), 1, "the empty result is noted");
        assert!(
            read(r#"{"model":"claude-sonnet-4-5","max_tokens":70000,"messages":[{"role":"user","content":"a"}]}"#, false)
                .unwrap_err()
                .message
                .starts_with("max_tokens: 70000 > 64000")
        );
    }

    #[test]
    fn what_is_wrong_or_out_of_reach_is_named() {
        let table = [
            (r#""messages":[]"#, "messages: expected at least one message"),
            (
                r#""messages":[{"role":"user","content":""}]"#,
                "messages[0].content: user messages must have non-empty content",
            ),
            (
                r#""messages":[{"role":"user","content":"q"},{"role":"assistant","content":"{"}]"#,
                "the conversation ends with the assistant",
            ),
            (
                r#""messages":[{"role":"tool","content":"q"}]"#,
                "messages[0].role: expected `user` or `assistant`",
            ),
            (
                r#""messages":[{"role":"user","content":"q"}],"container":"c""#,
                "container: containers are the API's own",
            ),
            (
                r#""messages":[{"role":"user","content":[{"type":"text"}]}]"#,
                "messages[0].content[0].text: field required",
            ),
            (
                r#""messages":[{"role":"user","content":[{"type":"text","text":" "}]}]"#,
                "messages[0].content[0].text: text content blocks must contain",
            ),
            (
                r#""messages":[{"role":"user","content":"q"},{"role":"assistant","content":""},{"role":"user","content":"q"}]"#,
                "messages[1].content: all messages must have non-empty content",
            ),
            (
                r#""messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"n","input":{}}]},{"role":"user","content":"no"}]"#,
                "messages[1]: `tool_use` ids were found without `tool_result` blocks immediately after: a",
            ),
            (
                r#""messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"r"}]}]"#,
                "messages[0]: unexpected `tool_use_id` found",
            ),
            (
                r#""messages":[{"role":"user","content":"q"}],"thinking":{"type":"adaptive"}"#,
                "thinking.type: adaptive thinking is not supported",
            ),
            (
                r#""messages":[{"role":"user","content":"q"}],"thinking":{"type":"enabled","budget_tokens":1024}"#,
                "max_tokens: must be greater than",
            ),
            (
                r#""messages":[{"role":"user","content":"q"}],"output_config":{"effort":"low"}"#,
                "output_config.effort: this model does not support",
            ),
            (
                r#""messages":[{"role":"user","content":"q"}],"temperature":7"#,
                "temperature: expected a number from 0 to 1",
            ),
        ];
        for (members, expect) in table {
            let body = format!(r#"{{"model":"claude-sonnet-4-5","max_tokens":9,{members}}}"#);
            let message = read(&body, false).unwrap_err().message;
            assert!(message.starts_with(expect) || message.contains(expect), "{message}");
        }
    }
}
