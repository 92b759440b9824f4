//! A Messages request in the making, and how it is written.

use std::borrow::Cow;

use super::conversation::{
    Content, ContentBlock, ContentKind, Conversation, ConversationTurn, Role, ToolCall, ToolResult,
};
use super::names::Names;
use super::thinking::{Demands, Settings, Wanted};
use super::tools::{Calls, Chosen, Tool, Toolbox};
use crate::Fault;
use crate::json::{Node, RawObject, push_quoted, quote};
use crate::notes::Notes;
use crate::read::{Path, member as given, object, string, verbatim, wrong};

/// How many cache marks a request may have.
const MARKS: usize = 4;

const FIVE_MINUTES: &str = r#"{"type":"ephemeral"}"#;
const AN_HOUR: &str = r#"{"type":"ephemeral","ttl":"1h"}"#;

/// The mark for a lifetime in OpenAI's words: what is longer than five minutes is an hour.
fn mark_for(ttl: &Node<'_>, path: Path<'_>) -> Result<&'static str, Fault> {
    match &*string(ttl, path)? {
        "5m" => Ok(FIVE_MINUTES),
        "30m" | "1h" | "12h" | "24h" => Ok(AN_HOUR),
        other => Err(wrong(
            path,
            format!("`{other}` is no lifetime of a cache; expected `30m` or `12h`"),
        )),
    }
}

/// A request as it was written, and what its answer has to be read by.
#[derive(Debug)]
pub(crate) struct Written {
    pub body: String,
    pub names: Names,
    pub calls: Calls,
    pub betas: Vec<String>,
    pub notes: Notes,
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub conversation: Conversation<'a>,
    pub toolbox: Toolbox<'a>,
    pub chosen: Chosen<'a>,
    pub settings: Settings<'a>,
    /// Members that travel on as they are.
    pub members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What `anthropic-beta` has to announce.
    pub betas: Vec<String>,
    pub notes: Notes,
    /// The effort that the conversation itself asks for, in place of the request's.
    pub effort: Option<Wanted>,
    /// The mark of a breakpoint that names no lifetime.
    breakpoint: &'static str,
}

impl<'a> Draft<'a> {
    /// An empty one. `knows_spaces`: the client knows namespaces.
    pub(crate) fn new(strict: bool, knows_spaces: bool) -> Self {
        Self {
            conversation: Conversation::default(),
            toolbox: Toolbox::new(knows_spaces),
            chosen: Chosen::default(),
            settings: Vec::new(),
            members: Vec::new(),
            betas: Vec::new(),
            notes: Notes::new(strict),
            effort: None,
            breakpoint: FIVE_MINUTES,
        }
    }

    /// Announces a beta.
    pub(crate) fn announce(&mut self, beta: &str) {
        if !self.betas.iter().any(|known| known == beta) {
            self.betas.push(beta.to_owned());
        }
    }

    /// Reads how long breakpoints live that do not say it themselves.
    pub(crate) fn breakpoints(&mut self, source: &RawObject<'_>) -> Result<(), Fault> {
        const OPTIONS: Path<'_> = Path::of("prompt_cache_options");
        let Some(node) = given(source, "prompt_cache_options") else { return Ok(()) };
        if let Some(ttl) = given(&object(&node, OPTIONS)?, "ttl") {
            self.breakpoint = mark_for(&ttl, OPTIONS.key("ttl"))?;
        }
        Ok(())
    }

    /// The mark that a part has, in Messages' words or in OpenAI's.
    pub(crate) fn mark_of(
        &self,
        part: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<Option<Cow<'a, str>>, Fault> {
        if let Some(node) = given(part, "cache_control") {
            return verbatim(&node, path.key("cache_control")).map(Some);
        }
        let Some(node) =
            given(part, "prompt_cache_breakpoint").filter(|node| node.as_bool() != Some(false))
        else {
            return Ok(None);
        };
        let path = path.key("prompt_cache_breakpoint");
        if node.as_bool() == Some(true) {
            return Ok(Some(Cow::Borrowed(self.breakpoint)));
        }
        let breakpoint = object(&node, path)?;
        if let Some(mode) = given(&breakpoint, "mode")
            .map(|node| string(&node, path.key("mode")))
            .transpose()?
            .filter(|mode| mode != "explicit")
        {
            return Err(wrong(
                path.key("mode"),
                format!("`{mode}` is no mode of a breakpoint; expected `explicit`"),
            ));
        }
        let mark = given(&breakpoint, "ttl")
            .map_or(Ok(self.breakpoint), |ttl| mark_for(&ttl, path.key("ttl")))?;
        Ok(Some(Cow::Borrowed(mark)))
    }

    /// What the conversation and the tools demand of the rest.
    pub(crate) fn demands(&self) -> Demands {
        Demands {
            forced_tool: self.chosen.forced,
            thoughtless_loop: self.is_thoughtless_loop() || self.is_begun_without_thoughts(),
        }
    }

    /// True if the conversation ends with results whose calls came without their thinking.
    fn is_thoughtless_loop(&self) -> bool {
        let mut turns =
            self.conversation.turns.iter().rev().filter(|turn| turn.role != Role::System);
        let results = turns.next().is_some_and(|turn| {
            turn.role == Role::User
                && matches!(
                    turn.blocks.first(),
                    Some(ContentBlock { kind: ContentKind::Result(_), .. })
                )
        });
        let thought = turns.next().is_some_and(|turn| {
            matches!(turn.blocks.first(), Some(ContentBlock { kind: ContentKind::Thought(_), .. }))
        });
        results && !thought
    }

    /// True if the conversation ends with an answer that is begun, and without thinking at that: who thinks begins with it.
    fn is_begun_without_thoughts(&self) -> bool {
        let last = self.conversation.turns.iter().rev().find(|turn| turn.role != Role::System);
        last.is_some_and(|turn| {
            turn.role == Role::Assistant
                && !matches!(
                    turn.blocks.first(),
                    Some(ContentBlock { kind: ContentKind::Thought(_), .. })
                )
        })
    }

    /// Who asks, and how urgently.
    pub(crate) fn user_and_tier(&mut self, source: &RawObject<'a>) -> Result<(), Fault> {
        let user = |key: &str| given(source, key).map(|node| string(&node, key)).transpose();
        let (name, safety) = (user("user")?, user("safety_identifier")?);
        if name.is_some() && safety.is_some() && name != safety {
            self.notes.ignored("safety_identifier")?;
        }
        if let Some(name) = name.or(safety).filter(|name| !name.is_empty()) {
            self.members.push((
                "metadata".into(),
                format!("{{\"user_id\":{}}}", quote(&super::names::user_id(&name))).into(),
            ));
        }
        if let Some(node) = given(source, "service_tier") {
            match &*string(&node, "service_tier")? {
                "auto" => {}
                "default" | "standard_only" => {
                    self.members.push(("service_tier".into(), "\"standard_only\"".into()));
                }
                "priority" | "fast" => {
                    self.members.push(("service_tier".into(), "\"auto\"".into()));
                }
                _ => self.notes.left_out("service_tier")?,
            }
        }
        Ok(())
    }

    /// Takes off all cache marks but the last ones, and puts them in the order in which the API takes them: none
    /// lives longer than one before it. `marked`: the whole request will get one.
    pub(crate) fn limit_marks(&mut self, marked: bool) -> Result<(), Fault> {
        self.take_off_surplus_marks(marked)?;
        let mut short = false;
        let mut shortened = false;
        for mark in self.marks() {
            match mark {
                Some(written) if lives_an_hour(written) && short => {
                    *written = Cow::Borrowed(FIVE_MINUTES);
                    shortened = true;
                }
                Some(written) => short |= !lives_an_hour(written),
                None => {}
            }
        }
        // The request's own mark stands behind them all.
        if let Some((_, own)) = self
            .members
            .iter_mut()
            .find(|(key, own)| short && key == "cache_control" && lives_an_hour(own))
        {
            *own = Cow::Borrowed(FIVE_MINUTES);
            shortened = true;
        }
        if shortened {
            self.notes.say("cache_control.ttl", "lowered to 5m behind a mark of 5m")
        } else {
            Ok(())
        }
    }

    /// Every place for a mark, in the order in which the API reads them.
    fn marks(&mut self) -> impl Iterator<Item = &mut Option<Cow<'a, str>>> {
        let tools = self.toolbox.tools.iter_mut().map(|tool| &mut tool.mark);
        let blocks = self
            .conversation
            .system
            .iter_mut()
            .chain(self.conversation.turns.iter_mut().flat_map(|turn| turn.blocks.iter_mut()));
        tools.chain(blocks.map(|block| &mut block.mark))
    }

    fn take_off_surplus_marks(&mut self, marked: bool) -> Result<(), Fault> {
        let most = MARKS
            - usize::from(marked || self.members.iter().any(|(key, _)| key == "cache_control"));
        let marks: Vec<&mut Option<Cow<'a, str>>> =
            self.marks().filter(|mark| mark.is_some()).collect();
        let surplus = marks.len().saturating_sub(most);
        marks.into_iter().take(surplus).for_each(|mark| *mark = None);
        if surplus > 0 {
            self.notes.say("cache_control", "left out but for the last ones")
        } else {
            Ok(())
        }
    }

    /// Writes the turns alone.
    pub(crate) fn turns(&self) -> String {
        let mut out = String::new();
        list(&mut out, &self.conversation.turns, turn);
        out
    }

    /// Writes system text from a place on.
    pub(crate) fn system_from(&self, at: usize) -> String {
        let mut out = String::new();
        list(&mut out, &self.conversation.system[at..], block);
        out
    }

    /// Writes the request.
    pub(crate) fn write(self, model: &str, stream: bool, room: usize) -> Written {
        let mut out = String::with_capacity(room);
        out.push_str("{\"model\":");
        push_quoted(&mut out, model);
        for (key, raw) in &self.settings {
            member(&mut out, key, raw);
        }
        if stream {
            out.push_str(",\"stream\":true");
        }
        if !self.conversation.system.is_empty() {
            out.push_str(",\"system\":");
            list(&mut out, &self.conversation.system, block);
        }
        out.push_str(",\"messages\":");
        list(&mut out, &self.conversation.turns, turn);
        if !self.toolbox.is_empty() {
            out.push_str(",\"tools\":");
            list(&mut out, &self.toolbox.tools, tool);
        }
        if let Some(choice) = &self.chosen.written {
            member(&mut out, "tool_choice", choice);
        }
        for (key, raw) in &self.members {
            member(&mut out, key, raw);
        }
        out.push('}');
        Written {
            body: out,
            names: self.toolbox.names,
            calls: self.toolbox.calls,
            betas: self.betas,
            notes: self.notes,
        }
    }
}

fn tool(out: &mut String, tool: &Tool<'_>) {
    match tool.text.trim_end().strip_suffix('}').filter(|_| tool.deferred) {
        Some(open) => {
            out.push_str(open);
            out.push_str(",\"defer_loading\":true}");
        }
        None => marked(out, &tool.text, tool.mark.as_deref()),
    }
}

/// True for a mark of an hour.
fn lives_an_hour(mark: &str) -> bool {
    let ttl = RawObject::parse(mark.as_bytes()).ok().and_then(|mark| mark.get("ttl"));
    ttl.is_some_and(|ttl| ttl.raw() == "\"1h\"")
}

fn turn(out: &mut String, turn: &ConversationTurn<'_>) {
    out.push_str("{\"role\":\"");
    out.push_str(turn.role.name());
    out.push_str("\",\"content\":");
    list(out, &turn.blocks, block);
    out.push('}');
}

fn member(out: &mut String, key: &str, raw: &str) {
    out.push(',');
    out.push_str(&quote(key));
    out.push(':');
    out.push_str(raw);
}

fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// Writes an object's text with its mark, if it has one.
fn marked(out: &mut String, object: &str, mark: Option<&str>) {
    let open = object.trim_end().strip_suffix('}').filter(|_| mark.is_some());
    // Every tool and every image has members, so there is one before the mark.
    out.push_str(open.unwrap_or(object));
    if open.is_some() {
        close(out, mark);
    }
}

fn close(out: &mut String, mark: Option<&str>) {
    if let Some(mark) = mark {
        out.push_str(",\"cache_control\":");
        out.push_str(mark);
    }
    out.push('}');
}

fn block(out: &mut String, block: &ContentBlock<'_>) {
    let mark = block.mark.as_deref();
    match &block.kind {
        ContentKind::Text(text) => {
            out.push_str("{\"type\":\"text\",\"text\":");
            out.push_str(text.raw());
            close(out, mark);
        }
        ContentKind::Thought(raw) => out.push_str(raw),
        ContentKind::Media(raw) => marked(out, raw, mark),
        ContentKind::Call(ToolCall { id, name, input, .. }) => {
            out.push_str("{\"type\":\"tool_use\",\"id\":");
            push_quoted(out, id);
            out.push_str(",\"name\":");
            push_quoted(out, name);
            out.push_str(",\"input\":");
            out.push_str(input);
            close(out, mark);
        }
        ContentKind::Result(ToolResult { id, content, failed, .. }) => {
            out.push_str("{\"type\":\"tool_result\",\"tool_use_id\":");
            push_quoted(out, id);
            out.push_str(",\"content\":");
            match content {
                Content::Text(text) => out.push_str(text.raw()),
                Content::Blocks(blocks) => list(out, blocks, self::block),
            }
            if *failed {
                out.push_str(",\"is_error\":true");
            }
            close(out, mark);
        }
    }
}
