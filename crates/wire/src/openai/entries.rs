//! The messages and items of a request, one by one, as turns and blocks.
//!
//! Chat has messages, Responses items, Messages turns. Clients mix them: a gateway that says
//! Claude is behind it gets Claude's shapes on OpenAI's addresses. Each entry is read as what it
//! unmistakably is, with the same pairing, names and ids.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::conversation::{ContentBlock, ContentKind, Role, ToolCall, ToolResult};
use super::declared::{Again, Collector};
use super::draft::Draft;
use super::parts::{Parts, SaidParts, Speaker, is_sealed, label};
use super::thinking::Wanted;
use super::tools::{Arguments, arguments};
use super::{Terms, is_another_model, names, seal};
use crate::json::{Node, RawObject, Text, quote};
use crate::read::{Path, array, member, object, string, text, unsupported, verbatim, wrong};
use crate::{Fault, FaultKind};

/// A list of entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'k> {
    /// What the client calls it.
    pub name: &'static str,
    /// The items that were kept of earlier responses, by their ids, where a client may refer to some.
    pub kept: Option<&'k HashMap<String, String>>,
}

/// Reads all entries into the draft's conversation.
pub(crate) fn converse<'a>(
    draft: &mut Draft<'a>,
    node: &Node<'a>,
    list: List<'a>,
    terms: &Terms<'_>,
) -> Result<(), Fault> {
    let path = Path::of(list.name);
    if node.is_string() && list.name == "input" {
        let said = text(node, path)?;
        if said.is_blank() {
            return Err(wrong(path, "it says nothing"));
        }
        draft.conversation.push(Role::User, ContentBlock::new(ContentKind::Text(said)));
        return Ok(());
    }
    let Some(entries) = node.as_array() else {
        return Err(wrong(
            path,
            if list.name == "input" {
                "expected a string or a list of items"
            } else {
                "expected a list"
            },
        ));
    };
    if entries.is_empty() {
        return Err(wrong(
            path,
            format!(
                "expected at least one {}",
                if list.name == "input" { "item" } else { "message" }
            ),
        ));
    }
    let mut reader = Reader { draft, terms, list, legacy: Legacy::default() };
    for (at, node) in entries.iter().enumerate() {
        let path = path.at(at);
        reader.entry(&object(node, path)?, path, at)?;
    }
    Ok(())
}

/// The ids that legacy calls get, since they have none. Paired in order.
#[derive(Default)]
struct Legacy {
    made: usize,
    open: VecDeque<String>,
}

struct Reader<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    terms: &'d Terms<'t>,
    list: List<'a>,
    legacy: Legacy,
}

impl<'a> Reader<'_, 'a, '_> {
    fn entry(&mut self, entry: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let kind = member(entry, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        match kind.as_deref() {
            None if self.list.kept.is_some() && is_reference(entry) => {
                self.reference(entry, path, at)
            }
            Some("item_reference") if self.list.kept.is_some() => self.reference(entry, path, at),
            Some("function_call") => self.call(entry, path, at),
            Some("custom_tool_call") => self.custom_call(entry, path, at),
            Some("tool_search_call") => self.search_call(entry, path, at),
            Some("function_call_output" | "custom_tool_call_output") => {
                self.output(entry, path, at)
            }
            Some("tool_search_output") => self.found(entry, path, at),
            Some("additional_tools") => self.more_tools(entry, path),
            Some("configuration_update") => self.update(entry, path),
            // A block of Messages where a message should be.
            Some("tool_use") if member(entry, "role").is_none() => {
                let call = self.parts(at, Speaker::Assistant).call(entry, path)?;
                self.draft
                    .conversation
                    .push(Role::Assistant, ContentBlock::new(ContentKind::Call(call)));
                Ok(())
            }
            Some("tool_result") if member(entry, "role").is_none() => {
                let result = self.parts(at, Speaker::User).result(entry, path)?;
                self.draft
                    .conversation
                    .push(Role::User, ContentBlock::new(ContentKind::Result(result)));
                Ok(())
            }
            // And a call of Chat's.
            Some("function")
                if member(entry, "role").is_none() && member(entry, "function").is_some() =>
            {
                let call = self.tool_call(entry, path, at)?;
                self.draft.conversation.push(Role::Assistant, call);
                Ok(())
            }
            Some("reasoning") => self.sealed(entry, path, "reasoning"),
            Some("compaction") => self.sealed(entry, path, "compaction"),
            // What the upstream ran itself: its results are in the text that follows.
            Some("web_search_call") => {
                self.draft.notes.left_out(format!("{}.web_search_call", self.list.name))
            }
            Some(other) if other != "message" && member(entry, "role").is_none() => {
                self.foreign(entry, other, path)
            }
            _ => self.message(entry, path, at),
        }
    }

    // ------------------------------------------------------------ messages

    fn message(&mut self, message: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let role =
            member(message, "role").ok_or_else(|| wrong(path.key("role"), "field required"))?;
        let role = string(&role, path.key("role"))?;
        self.unknown(message, &role)?;
        match &*role {
            "system" | "developer" => self.spoken(message, path, at, Role::System, Speaker::System),
            "user" => self.spoken(message, path, at, Role::User, Speaker::User),
            "assistant" => self.assistant(message, path, at),
            "tool" => {
                let id =
                    self.answered(message, path, &["tool_call_id", "call_id", "tool_use_id"])?;
                self.result(message, "content", id, path, at)
            }
            "function" => {
                let id = self.legacy.open.pop_front().ok_or_else(|| {
                    wrong(path, "there is no `function_call` before it that waits for a result")
                })?;
                self.result(message, "content", Cow::Owned(id), path, at)
            }
            other => Err(wrong(
                path.key("role"),
                format!(
                    "`{other}` is no role; expected `system`, `developer`, `user`, `assistant` or `tool`"
                ),
            )),
        }
    }

    /// Notes members that Messages has nothing for, or that have no place in this role.
    fn unknown(&mut self, message: &RawObject<'a>, role: &str) -> Result<(), Fault> {
        let own: &[&str] = match role {
            "assistant" => &[
                "tool_calls",
                "function_call",
                "refusal",
                "thinking_blocks",
                "thinking_model",
                "audio",
            ],
            // The name is its call's.
            "tool" => &["tool_call_id", "call_id", "tool_use_id", "name"],
            "function" => &["name"],
            _ => &[],
        };
        // A thought's text is in its block as well.
        let thoughts = role == "assistant" && member(message, "thinking_blocks").is_some();
        let item = self.list.name == "input";
        for (key, node) in message.members() {
            // Annotations are our own, made from what the text says.
            let known = matches!(key, "role" | "content" | "cache_control" | "annotations")
                || own.contains(&key)
                || (thoughts && key == "reasoning_content");
            let known = known
                || (item && matches!(key, "id" | "status"))
                || (key == "type" && node.raw() == "\"message\"");
            let empty = matches!(node.raw(), "null" | "\"\"" | "[]" | "{}");
            if !known && !empty {
                self.note_ignored(&label(key))?;
            }
        }
        Ok(())
    }

    fn note_ignored(&mut self, key: &str) -> Result<(), Fault> {
        self.draft.notes.ignored(format!("{}.{key}", self.list.name))
    }

    fn parts(&mut self, at: usize, speaker: Speaker) -> Parts<'_, 'a> {
        Parts { draft: self.draft, list: self.list.name, at, speaker, strict: self.terms.strict }
    }

    fn said(
        &mut self,
        message: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
        speaker: Speaker,
    ) -> Result<SaidParts<'a>, Fault> {
        match member(message, "content") {
            Some(node) => self.parts(at, speaker).content(&node, path.key("content")),
            None => Ok(SaidParts::default()),
        }
    }

    /// A message that is its content.
    fn spoken(
        &mut self,
        message: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
        role: Role,
        speaker: Speaker,
    ) -> Result<(), Fault> {
        let blocks = self.said(message, path, at, speaker)?.sensible()?;
        self.push(role, blocks, message, path)
    }

    /// Adds a message's blocks; a mark on the message is one on its last block that can have one.
    fn push(
        &mut self,
        role: Role,
        mut blocks: Vec<ContentBlock<'a>>,
        message: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<(), Fault> {
        let last =
            blocks.iter_mut().rev().find(|block| !matches!(block.kind, ContentKind::Thought(_)));
        if let (Some(node), Some(last)) = (member(message, "cache_control"), last) {
            last.mark = Some(verbatim(&node, path.key("cache_control"))?);
        }
        for block in blocks {
            self.draft.conversation.push(role, block);
        }
        Ok(())
    }

    fn assistant(
        &mut self,
        message: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
    ) -> Result<(), Fault> {
        if member(message, "audio").is_some() {
            return Err(unsupported(
                path.key("audio"),
                "Claude cannot hear what it is said to have spoken; send its transcript as `content`",
            ));
        }
        let mut blocks = self.thoughts(message, path)?;
        if blocks.is_empty() {
            blocks = self.thoughts_in_parts(message, path)?;
        }
        let SaidParts { blocks: spoken, lost } =
            self.said(message, path, at, Speaker::Assistant)?;
        if let Some(node) = member(message, "refusal") {
            let refusal = text(&node, path.key("refusal"))?;
            // Our own answers say a refusal twice where the upstream did not explain it.
            let repeated = matches!(spoken.as_slice(), [ContentBlock { kind: ContentKind::Text(said), .. }] if said.decoded() == refusal.decoded());
            blocks.extend(spoken);
            if !repeated && !refusal.is_blank() {
                blocks.push(ContentBlock::new(ContentKind::Text(refusal)));
            }
        } else {
            blocks.extend(spoken);
        }
        if let Some(node) = member(message, "tool_calls") {
            let path = path.key("tool_calls");
            let said = blocks.len();
            for (index, call) in array(&node, path)?.iter().enumerate() {
                let call = self.tool_call(&object(call, path.at(index))?, path.at(index), at)?;
                // Some clients say a call twice: as a part, and here.
                if !blocks[..said].iter().any(|block| is_same_call(block, &call)) {
                    blocks.push(call);
                }
            }
        }
        if let Some(node) = member(message, "function_call") {
            let path = path.key("function_call");
            self.legacy.made += 1;
            let id = format!("call_legacy_{}", self.legacy.made);
            self.legacy.open.push_back(id.clone());
            let call = self.function(&object(&node, path)?, Cow::Owned(id), path, at)?;
            blocks.push(ContentBlock::new(ContentKind::Call(call)));
        }
        let blocks = SaidParts { blocks, lost }.sensible()?;
        self.push(Role::Assistant, blocks, message, path)
    }

    /// Thinking that the client sends back, word for word, unless another model thought it.
    fn thoughts(
        &mut self,
        message: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<Vec<ContentBlock<'a>>, Fault> {
        let Some(node) = member(message, "thinking_blocks") else { return Ok(Vec::new()) };
        let path = path.key("thinking_blocks");
        let thinker = member(message, "thinking_model").and_then(|node| node.as_str());
        let foreign = thinker.is_some_and(|thinker| is_another_model(&thinker, self.terms.model));
        let mut blocks = Vec::new();
        for (index, node) in array(&node, path)?.iter().enumerate() {
            let path = path.at(index);
            let thought = object(node, path)?;
            let kind = member(&thought, "type").map(|node| string(&node, path)).transpose()?;
            let kind = kind.filter(|kind| matches!(&**kind, "thinking" | "redacted_thinking"));
            let kind = kind.ok_or_else(|| {
                wrong(path, "expected a block of type `thinking` or `redacted_thinking`")
            })?;
            if foreign || !is_sealed(&kind, &thought) {
                self.draft.notes.left_out(format!("{}.thinking_blocks", self.list.name))?;
            } else {
                blocks.push(ContentBlock::new(ContentKind::Thought(verbatim(node, path)?)));
            }
        }
        Ok(blocks)
    }

    /// The same from a part: some clients spread our message over the parts of theirs.
    fn thoughts_in_parts(
        &mut self,
        message: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<Vec<ContentBlock<'a>>, Fault> {
        let path = path.key("content");
        for (index, part) in member(message, "content")
            .and_then(|node| node.as_array())
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let Some(part) =
                part.as_object().filter(|part| member(part, "thinking_blocks").is_some())
            else {
                continue;
            };
            return self.thoughts(&part, path.at(index));
        }
        Ok(Vec::new())
    }

    // ------------------------------------------------------------ calls

    /// A call as Chat has it.
    fn tool_call(
        &mut self,
        call: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
    ) -> Result<ContentBlock<'a>, Fault> {
        let place = format!("{}.tool_calls", self.list.name);
        self.draft.notes.unknown(
            call,
            &["id", "type", "function", "custom", "index", "cache_control"],
            &place,
        )?;
        let mark = self.draft.mark_of(call, path)?;
        let required =
            |key: &str| member(call, key).ok_or_else(|| wrong(path.key(key), "field required"));
        let id = names::call_id(string(&required("id")?, path.key("id"))?);
        let kind = member(call, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        let call = match kind.as_deref() {
            None | Some("function" | "") => {
                let path = path.key("function");
                self.function(&object(&required("function")?, path)?, id, path, at)?
            }
            Some("custom") => {
                let path = path.key("custom");
                let custom = object(&required("custom")?, path)?;
                self.draft.notes.unknown(
                    &custom,
                    &["name", "input"],
                    &format!("{place}.custom"),
                )?;
                ToolCall {
                    id,
                    name: names::tool(name(&custom, path)?),
                    input: text_input(&custom, path)?,
                    at,
                }
            }
            Some(other) => {
                return Err(unsupported(
                    path.key("type"),
                    format!("calls of type `{other}` are not supported; expected `function`"),
                ));
            }
        };
        Ok(ContentBlock { kind: ContentKind::Call(call), mark })
    }

    fn function(
        &mut self,
        function: &RawObject<'a>,
        id: Cow<'a, str>,
        path: Path<'_>,
        at: usize,
    ) -> Result<ToolCall<'a>, Fault> {
        let place = format!("{}.tool_calls.function", self.list.name);
        self.draft.notes.unknown(function, &["name", "arguments"], &place)?;
        let name = name(function, path)?;
        Ok(ToolCall {
            id,
            name: names::tool(name),
            input: self.arguments(function, path, &place)?,
            at,
        })
    }

    /// What is no JSON must not cost every later turn of a conversation: it is carried as a text.
    fn arguments(
        &mut self,
        holder: &RawObject<'a>,
        path: Path<'_>,
        place: &str,
    ) -> Result<Cow<'a, str>, Fault> {
        let Arguments { input, broken } = arguments(holder, path.key("arguments"))?;
        if broken && self.terms.strict {
            return Err(wrong(path.key("arguments"), "not valid JSON"));
        }
        if broken {
            self.draft.notes.say(format!("{place}.arguments"), "not JSON, carried as a text")?;
        }
        Ok(input)
    }

    fn call(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.caller(item)?;
        self.draft.notes.unknown(
            item,
            &[
                "type",
                "id",
                "status",
                "call_id",
                "name",
                "namespace",
                "arguments",
                "parsed_arguments",
                "caller",
            ],
            self.list.name,
        )?;
        let (id, name) = (call_id(item, path)?, full_name(item, path)?);
        let input = self.arguments(item, path, self.list.name)?;
        self.draft.conversation.push_call(ToolCall { id, name, input, at });
        Ok(())
    }

    /// Who called: the model, unless a program of its own did, which Claude has none of.
    fn caller(&mut self, item: &RawObject<'a>) -> Result<(), Fault> {
        let direct = member(item, "caller").is_none_or(|node| {
            node.as_object()
                .and_then(|caller| caller.get("type"))
                .is_some_and(|kind| kind.raw() == "\"direct\"")
        });
        if direct { Ok(()) } else { self.note_ignored("caller") }
    }

    fn custom_call(
        &mut self,
        item: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
    ) -> Result<(), Fault> {
        self.caller(item)?;
        self.draft.notes.unknown(
            item,
            &["type", "id", "status", "call_id", "name", "namespace", "input", "caller"],
            self.list.name,
        )?;
        let call = ToolCall {
            id: call_id(item, path)?,
            name: full_name(item, path)?,
            input: text_input(item, path)?,
            at,
        };
        self.draft.conversation.push_call(call);
        Ok(())
    }

    /// A search among the client's tools. What OpenAI searched itself has no call.
    fn search_call(
        &mut self,
        item: &RawObject<'a>,
        path: Path<'_>,
        at: usize,
    ) -> Result<(), Fault> {
        if member(item, "call_id").is_none()
            || member(item, "execution").is_some_and(|node| node.raw() == "\"server\"")
        {
            return self.draft.notes.left_out(format!("{}.tool_search_call", self.list.name));
        }
        let id = call_id(item, path)?;
        let input = self.arguments(item, path, self.list.name)?;
        self.draft.conversation.push_call(ToolCall {
            id,
            name: Cow::Borrowed("tool_search"),
            input,
            at,
        });
        Ok(())
    }

    // ------------------------------------------------------------ results

    /// The call that a result answers; where it does not say so, the one that is open.
    fn answered(
        &mut self,
        holder: &RawObject<'a>,
        path: Path<'_>,
        keys: &[&'static str],
    ) -> Result<Cow<'a, str>, Fault> {
        for key in keys {
            if let Some(node) = member(holder, key) {
                return Ok(names::call_id(string(&node, path.key(key))?));
            }
        }
        let open = self.draft.conversation.sole_open_call().map(|call| call.id.clone());
        open.ok_or_else(|| wrong(path.key(keys[0]), "field required"))
    }

    fn result(
        &mut self,
        holder: &RawObject<'a>,
        key: &'static str,
        id: Cow<'a, str>,
        path: Path<'_>,
        at: usize,
    ) -> Result<(), Fault> {
        let node = member(holder, key);
        let mut content = self.parts(at, Speaker::User).answer(node.as_ref(), path.key(key))?;
        let mut mark = None;
        if let super::conversation::Content::Blocks(blocks) = &mut content {
            mark = blocks.iter_mut().fold(None, |last, block| block.mark.take().or(last));
        }
        // Codex tells of a call that goes on before it tells of its end.
        let again =
            member(holder, "type").is_some_and(|kind| kind.raw() == "\"custom_tool_call_output\"");
        if let Some(first) = self.draft.conversation.result_mut(&id).filter(|_| again) {
            first.content.append(content);
            return self
                .draft
                .notes
                .say(format!("{}.output", self.list.name), "joined to the same call's");
        }
        let block = ContentBlock {
            kind: ContentKind::Result(ToolResult { id, content, failed: false, at }),
            mark,
        };
        self.push(Role::User, vec![block], holder, path)
    }

    fn output(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.draft.notes.unknown(
            item,
            &[
                "type",
                "id",
                "status",
                "call_id",
                "tool_call_id",
                "output",
                "name",
                "namespace",
                "cache_control",
                "caller",
            ],
            self.list.name,
        )?;
        self.caller(item)?;
        // The call has these members.
        for key in ["name", "namespace"].into_iter().filter(|key| member(item, key).is_some()) {
            self.draft.notes.mention(format!("{}.{key}", self.list.name), "ignored");
        }
        if member(item, "output").is_none() {
            return Err(wrong(path.key("output"), "field required"));
        }
        let named = ["call_id", "tool_call_id"].iter().any(|key| member(item, key).is_some());
        if !named && !self.fits_the_open_call(item, path)? {
            // What a program says that nobody called.
            return self.foreign(item, "function_call_output", path);
        }
        let id = self.answered(item, path, &["call_id", "tool_call_id"])?;
        self.result(item, "output", id, path, at)
    }

    /// True if a result that names no call can only be that of the one that is open.
    fn fits_the_open_call(&self, item: &RawObject<'a>, path: Path<'_>) -> Result<bool, Fault> {
        let Some(open) = self.draft.conversation.sole_open_call() else {
            // Without a name of its own it is a result whose call is missing.
            return if member(item, "name").is_some() {
                Ok(false)
            } else {
                Err(wrong(path.key("call_id"), "field required"))
            };
        };
        let given =
            if member(item, "name").is_some() { Some(full_name(item, path)?) } else { None };
        Ok(given.is_none_or(|given| given == open.name))
    }

    /// What a search among the client's tools found: from now on they are tools.
    fn found(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.draft.notes.unknown(
            item,
            &["type", "id", "status", "call_id", "tools", "execution"],
            "input.tool_search_output",
        )?;
        if member(item, "execution").is_some_and(|node| node.raw() == "\"server\"") {
            self.draft.notes.mention("input.tool_search_output.execution", "ignored");
        }
        let list =
            member(item, "tools").ok_or_else(|| wrong(path.key("tools"), "field required"))?;
        let mut collector = Collector::new(
            self.draft,
            self.terms,
            Again::Replaces,
            "input.tool_search_output.tools",
        );
        collector.list(&list, path.key("tools"))?;
        let about = std::mem::take(&mut collector.about);
        if member(item, "call_id").is_none() {
            self.say_of_spaces(about);
            return Ok(());
        }
        let id = self.answered(item, path, &["call_id"])?;
        let names = named(&list);
        let mut told = if names.is_empty() {
            "No tool was found.".to_owned()
        } else {
            format!("These tools can be called now: {}.", names.join(", "))
        };
        for about in about {
            told.push_str("\n\n");
            told.push_str(&about);
        }
        let content = super::conversation::Content::Text(Text::quoted(&told));
        self.draft.conversation.push(
            Role::User,
            ContentBlock::new(ContentKind::Result(ToolResult { id, content, failed: false, at })),
        );
        Ok(())
    }

    /// Tools that come with the input. What is said of their namespaces stays in its place.
    fn more_tools(&mut self, item: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        self.draft.notes.unknown(
            item,
            &["type", "id", "role", "tools"],
            "input.additional_tools",
        )?;
        let list =
            member(item, "tools").ok_or_else(|| wrong(path.key("tools"), "field required"))?;
        let mut collector =
            Collector::new(self.draft, self.terms, Again::Replaces, "input.additional_tools.tools");
        collector.list(&list, path.key("tools"))?;
        let about = std::mem::take(&mut collector.about);
        self.say_of_spaces(about);
        Ok(())
    }

    fn say_of_spaces(&mut self, about: Vec<String>) {
        for about in about {
            self.draft
                .conversation
                .push(Role::System, ContentBlock::new(ContentKind::Text(Text::quoted(&about))));
        }
    }

    // ------------------------------------------------------------ the rest

    /// From here on the conversation has other settings than the request's.
    fn update(&mut self, item: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        self.draft.notes.unknown(item, &["type", "id", "reasoning"], self.list.name)?;
        let Some(node) = member(item, "reasoning") else { return Ok(()) };
        let path = path.key("reasoning");
        let reasoning = object(&node, path)?;
        self.draft.notes.unknown(&reasoning, &["effort"], "input.reasoning")?;
        if let Some(effort) = member(&reasoning, "effort") {
            let path = path.key("effort");
            self.draft.effort = Some(Wanted::parse(&string(&effort, path)?, &path.to_string())?);
        }
        Ok(())
    }

    /// A block that comes back as we sealed it. Anything else could not be made into one that the API takes.
    fn sealed(&mut self, item: &RawObject<'a>, path: Path<'_>, kind: &str) -> Result<(), Fault> {
        let sealed = member(item, "encrypted_content")
            .map(|node| string(&node, path.key("encrypted_content")))
            .transpose()?;
        let opened = sealed
            .and_then(|sealed| seal::open(&sealed))
            .filter(|opened| opened.is_thought() == (kind == "reasoning"));
        match opened.filter(|opened| !is_another_model(&opened.model, self.terms.model)) {
            Some(opened) if opened.is_thought() => self.draft.conversation.push(
                Role::Assistant,
                ContentBlock::new(ContentKind::Thought(opened.block.into())),
            ),
            Some(opened) => {
                self.draft.announce(super::COMPACTION_BETA);
                self.draft
                    .conversation
                    .push(Role::Assistant, ContentBlock::new(ContentKind::Media(opened.block)));
            }
            None => self.draft.notes.left_out(format!("{}.{kind}", self.list.name))?,
        }
        Ok(())
    }

    fn reference(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let id = member(item, "id").ok_or_else(|| wrong(path.key("id"), "field required"))?;
        let id = string(&id, path.key("id"))?;
        let unknown = || {
            let mut fault = wrong(path.key("id"), format!("there is no item `{id}` that was kept"));
            fault.kind = FaultKind::NotFound;
            fault
        };
        let kept = self.list.kept.and_then(|kept| kept.get(&*id)).ok_or_else(unknown)?;
        let kept = RawObject::parse(kept.as_bytes()).map_err(|_| unknown())?;
        self.entry(&kept, path, at)
    }

    /// An item of a kind that has no counterpart: what it says is carried as text, so that a history that began
    /// elsewhere can go on.
    fn foreign(&mut self, item: &RawObject<'a>, kind: &str, path: Path<'_>) -> Result<(), Fault> {
        if self.terms.strict {
            return Err(unsupported(
                path.key("type"),
                format!("items of type `{kind}` are not supported"),
            ));
        }
        let place = format!("{}.{}", self.list.name, label(kind));
        let answers =
            ["_output", "_response", "_message"].iter().any(|ending| kind.ends_with(ending));
        if let Some(url) = member(item, "output")
            .and_then(|output| member(&output.as_object()?, "image_url")?.as_str())
        {
            let seen = super::media::image(&url, path.key("output").key("image_url"))?;
            self.draft.conversation.push(Role::User, ContentBlock::new(ContentKind::Media(seen)));
            self.draft.notes.unknown(item, &["type", "id", "status", "output"], &place)?;
            return self.draft.notes.say(place, "carried as an image");
        }
        match plain_text(item, kind) {
            Some(said) => {
                let role = if answers { Role::User } else { Role::Assistant };
                self.draft
                    .conversation
                    .push(role, ContentBlock::new(ContentKind::Text(Text::quoted(&said))));
                self.draft.notes.say(place, "carried as text")
            }
            None => self.draft.notes.left_out(place),
        }
    }
}

fn is_same_call(one: &ContentBlock<'_>, other: &ContentBlock<'_>) -> bool {
    matches!((&one.kind, &other.kind), (ContentKind::Call(one), ContentKind::Call(other)) if one.id == other.id && one.name == other.name)
}

/// What an item of an unknown kind says: all it has but what only its sender needs.
fn plain_text(item: &RawObject<'_>, kind: &str) -> Option<String> {
    // Pictures, lists of what could be called, and what was encrypted say nothing in words.
    const SILENT: [&str; 4] =
        ["image_generation_call", "mcp_list_tools", "compaction_trigger", "context_compaction"];
    if SILENT.contains(&kind) {
        return None;
    }
    let own = |key: &str| {
        matches!(
            key,
            "type" | "id" | "status" | "created_by" | "internal_chat_message_metadata_passthrough"
        )
    };
    let said: Vec<(&str, Node<'_>)> =
        item.members().filter(|(key, node)| !own(key) && !node.is_null()).collect();
    let words = ["content", "output", "text"]
        .iter()
        .find_map(|key| Some((*key, words_of(&member(item, key)?)?)));
    match words {
        Some((key, words)) if said.iter().all(|(known, _)| *known == key) => return Some(words),
        Some((_, words)) if kind == "agent_message" => {
            let name = |key: &str| {
                member(item, key).and_then(|node| node.as_str()).unwrap_or_default().into_owned()
            };
            return Some(format!(
                "Message from {} to {}:\n{words}",
                name("author"),
                name("recipient")
            ));
        }
        _ if said.is_empty() => return None,
        _ => {}
    }
    let members: Vec<String> = said
        .iter()
        .map(|(key, node)| format!("{}:{}", quote(key), without_nulls(node, 0)))
        .collect();
    Some(format!("<{0}>{{{1}}}</{0}>", label(kind), members.join(",")))
}

/// A value as it was written, but for members that are null: those are absent.
fn without_nulls(node: &Node<'_>, depth: usize) -> String {
    const DEPTH: usize = 32;
    if depth < DEPTH && node.raw().contains("null") {
        if let Some(object) = node.as_object() {
            let kept = object.members().filter(|(_, node)| !node.is_null());
            return format!(
                "{{{}}}",
                kept.map(|(key, node)| format!(
                    "{}:{}",
                    quote(key),
                    without_nulls(&node, depth + 1)
                ))
                .collect::<Vec<_>>()
                .join(",")
            );
        }
        if let Some(list) = node.as_array() {
            return format!(
                "[{}]",
                list.iter()
                    .map(|node| without_nulls(node, depth + 1))
                    .collect::<Vec<_>>()
                    .join(",")
            );
        }
    }
    node.raw().to_owned()
}

/// The texts of a string, or of a list of parts.
fn words_of(node: &Node<'_>) -> Option<String> {
    if let Some(text) = Text::of(node) {
        return Some(text.decoded().into_owned()).filter(|text| !text.trim().is_empty());
    }
    let parts = node.as_array()?;
    let said = |part: &Node<'_>| {
        let part = part.as_object()?;
        // What one agent wrote to another stands there as it was written, unless OpenAI's models wrote it.
        let text = part.get("text").or_else(|| part.get("encrypted_content"))?;
        Some(Text::of(&text)?.decoded().into_owned())
    };
    let texts: Vec<String> = parts.iter().filter_map(said).collect();
    (!texts.is_empty() && texts.len() == parts.len()).then(|| texts.join("\n"))
}

/// The names of tools in a list, as the upstream knows them.
fn named(list: &Node<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for tool in list.as_array().unwrap_or_default().iter().filter_map(Node::as_object) {
        let Some(name) = member(&tool, "name").and_then(|node| node.as_str()) else { continue };
        match member(&tool, "tools") {
            Some(inner) => {
                let inner = inner.as_array().unwrap_or_default();
                let inner = inner.iter().filter_map(|tool| tool.as_object()?.get("name")?.as_str());
                names.extend(
                    inner.map(|tool| {
                        format!("`{}`", names::tool(names::within(&name, &tool).into()))
                    }),
                );
            }
            None => names.push(format!("`{}`", names::tool(name))),
        }
    }
    names
}

fn name<'a>(holder: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let node = member(holder, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
    let name = string(&node, path.key("name"))?;
    if name.is_empty() {
        Err(wrong(path.key("name"), "a tool has to have a name"))
    } else {
        Ok(name)
    }
}

/// The name of a called tool, as the upstream knows it.
fn full_name<'a>(item: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let name = name(item, path)?;
    let space =
        member(item, "namespace").map(|node| string(&node, path.key("namespace"))).transpose()?;
    Ok(match space.filter(|space| !space.is_empty()) {
        Some(space) => names::tool(names::within(&space, &name).into()),
        None => names::tool(name),
    })
}

fn call_id<'a>(item: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let id = member(item, "call_id").ok_or_else(|| wrong(path.key("call_id"), "field required"))?;
    Ok(names::call_id(string(&id, path.key("call_id"))?))
}

/// The text that a custom tool is called with, as the argument that stands for it.
fn text_input<'a>(holder: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let written = member(holder, "input")
        .map(|node| text(&node, path.key("input")))
        .transpose()?
        .unwrap_or_else(|| Text::quoted(""));
    Ok(format!("{{\"input\":{}}}", written.raw()).into())
}

/// True for an item that stands for one that was kept; its type may be left out.
pub(crate) fn is_reference(item: &RawObject<'_>) -> bool {
    match member(item, "type") {
        Some(kind) => kind.as_str().is_some_and(|kind| kind == "item_reference"),
        None => {
            item.get("id").is_some()
                && item.members().all(|(key, node)| key == "id" || node.is_null())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ModelTraits;
    use crate::openai::Terms;
    use crate::{Request, chat};

    const MODEL: &str = "claude-haiku-4-5";

    fn translated(messages: &str, strict: bool) -> Result<(String, String), String> {
        let body = format!("{{\"model\":\"x\",\"max_tokens\":9,\"messages\":{messages}}}");
        let request = Request::parse(body.as_bytes()).unwrap();
        let terms = Terms {
            model: MODEL,
            traits: ModelTraits::of(MODEL),
            strict,
            max_tokens: None,
            marked: false,
            web_search: None,
        };
        let translated =
            chat::to_messages(&request, &terms).map_err(|fault| fault.message.into_owned())?;
        let value: serde_json::Value = serde_json::from_str(&translated.body).unwrap();
        let notes: Vec<String> = translated
            .changes
            .iter()
            .map(|change| format!("{} {}", change.name, change.path))
            .collect();
        Ok((
            format!("{}{}", value["system"], value["messages"]).replace("null", ""),
            notes.join(", "),
        ))
    }

    #[track_caller]
    fn becomes(messages: &str, expect: &str) {
        assert_eq!(translated(messages, true).unwrap().0, expect);
    }

    /// The same, where something is noted.
    #[track_caller]
    fn becomes_noting(messages: &str, expect: &str, notes: &str) {
        assert_eq!(translated(messages, false).unwrap(), (expect.to_owned(), notes.to_owned()));
    }

    #[track_caller]
    fn refused(messages: &str, expect: &str) {
        let came = translated(messages, true).unwrap_err();
        assert!(came.contains(expect), "{came}");
    }

    #[test]
    fn every_role() {
        becomes(
            r#"[{"role":"developer","content":"d"},{"role":"system","content":[{"type":"text","text":"s"},{"type":"text","text":" "}]},{"role":"user","content":"u"}]"#,
            r#"[{"type":"text","text":"d"},{"type":"text","text":"s"}][{"role":"user","content":[{"type":"text","text":"u"}]}]"#,
        );
        becomes(
            r#"[{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"a":1.0}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
        refused(r#"[{"role":"robot","content":"u"}]"#, "messages[0].role: `robot` is no role");
        refused(r#"[{"content":"u"}]"#, "messages[0].role: field required");
        refused(r#"["u"]"#, "messages[0]: expected an object");
        refused("[]", "messages: expected at least one message");
    }

    #[test]
    fn legacy_calls_are_paired_in_order() {
        becomes(
            r#"[{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"1"},{"role":"assistant","function_call":{"name":"g","arguments":"7"}},{"role":"function","name":"g","content":"2"}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"call_legacy_1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_legacy_1","content":"1"}]},{"role":"assistant","content":[{"type":"tool_use","id":"call_legacy_2","name":"g","input":{"value":7}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_legacy_2","content":"2"}]}]"#,
        );
        refused(
            r#"[{"role":"function","name":"f","content":"1"}]"#,
            "no `function_call` before it",
        );
    }

    #[test]
    fn thinking_goes_first_and_untouched() {
        let thought = r#"{ "type":"thinking", "thinking":"","signature":"s" }"#;
        let message = |more: &str| {
            format!(
                r#"[{{"role":"user","content":"u"}},{{"role":"assistant","content":"a","thinking_blocks":[{thought}]{more}}},{{"role":"user","content":"v"}}]"#
            )
        };
        becomes(
            &message(""),
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"s"},{"type":"text","text":"a"}]},{"role":"user","content":[{"type":"text","text":"v"}]}]"#,
        );
        assert_eq!(
            translated(
                &message(
                    r#","thinking_model":"claude-haiku-4-5-20251001","reasoning_content":"x""#
                ),
                true
            )
            .unwrap()
            .1,
            ""
        );
        assert_eq!(
            translated(&message(r#","thinking_model":"claude-opus-5-5""#), false).unwrap().1,
            "messages.thinking_blocks left out"
        );
        refused(
            r#"[{"role":"assistant","thinking_blocks":[{"type":"text"}]}]"#,
            "messages[0].thinking_blocks[0]: expected a block of type",
        );
    }

    #[test]
    fn a_message_of_ours_that_is_spread_over_a_part_keeps_its_thoughts() {
        becomes(
            r#"[{"role":"user","content":"u"},{"role":"assistant","content":[{"type":"text","text":"k","role":"assistant","annotations":[],"reasoning_content":"h","thinking_blocks":[{"type":"thinking","thinking":"h","signature":"s"}],"thinking_model":"claude-haiku-4-5"}]},{"role":"user","content":"v"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"text","text":"k"}]},{"role":"user","content":[{"type":"text","text":"v"}]}]"#,
        );
    }

    #[test]
    fn marks_stay_with_their_blocks() {
        becomes(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]},{"role":"tool","tool_call_id":"1","content":"r","name":"f"}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{},"cache_control":{"type":"ephemeral"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
        becomes(
            r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b","prompt_cache_breakpoint":{}}]},{"role":"user","content":"c","cache_control":{"type":"ephemeral"}}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}},{"type":"text","text":"c","cache_control":{"type":"ephemeral"}}]}]"#,
        );
    }

    #[test]
    fn there_are_never_more_than_four_marks() {
        let part = r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}"#;
        let parts = [part; 6].join(",");
        let (body, _) = translated(
            &format!(r#"[{{"role":"user","content":[{parts}]}},{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f"}}}}],"cache_control":{{}},"thinking_blocks":[{{"type":"thinking","signature":"s"}}]}},{{"role":"tool","tool_call_id":"1","content":[{parts}]}},{{"role":"assistant","thinking_blocks":[{{"type":"thinking","signature":"s"}}],"cache_control":{{}}}},{{"role":"user","content":"y"}}]"#),
            false,
        )
        .unwrap();
        assert_eq!(body.matches("cache_control").count(), 4, "{body}");
        assert!(!body.contains(r#""signature":"s","cache_control""#), "{body}");
    }

    #[test]
    fn what_says_nothing_vanishes_and_what_is_lost_is_noted() {
        let noted = |messages: &str| translated(messages, false).unwrap().1;
        assert_eq!(
            noted(
                r#"[{"role":"user","content":"u","name":"n"},{"role":"assistant","content":"","reasoning_content":"r","annotations":[]},{"role":"user","content":"v","name":"m"}]"#
            ),
            "messages.name ignored, messages.reasoning_content ignored"
        );
        assert_eq!(
            noted(
                r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x","detail":"low"}}]}]"#
            ),
            "messages.content.image_url.detail ignored"
        );
        assert_eq!(
            noted(r#"[{"role":"user","content":"u","tool_calls":[1],"audio":{"id":"x"}}]"#),
            "messages.tool_calls ignored, messages.audio ignored"
        );
        assert_eq!(
            noted(
                r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","new":1,"function":{"name":"f","more":2}}]},{"role":"tool","tool_call_id":"1"}]"#
            ),
            "messages.tool_calls.new ignored, messages.tool_calls.function.more ignored"
        );
        refused(r#"[{"role":"user","content":"u","name":"n"}]"#, "messages.name: would be ignored");
    }

    #[test]
    fn parts_that_cannot_be_are_refused() {
        refused(
            r#"[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]"#,
            "messages[0].content[0].type: Claude does not hear",
        );
        refused(
            r#"[{"role":"user","content":[{"type":"video"}]}]"#,
            "parts of type `video` are not supported",
        );
        refused(
            r#"[{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]"#,
            "parts of type `image_url` are not supported here; an assistant's message",
        );
        refused(
            r#"[{"role":"user","content":7}]"#,
            "messages[0].content: expected a string or a list of parts",
        );
        refused(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}]}]"#,
            "messages[0].tool_calls[0].function.arguments: not valid JSON",
        );
        refused(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"retrieval"}]}]"#,
            "calls of type `retrieval`",
        );
    }

    #[test]
    fn claudes_own_parts_are_read_as_such() {
        becomes(
            r#"[{"role":"user","content":[{"type":"text","text":"u"},{"type":"image","source":{"type":"url","url":"https://x"},"cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"},{"type":"tool_use","id":"call|1","name":"fs.read","input":{"p": 1.0}}]},{"role":"user","content":[{"type":"text","text":"go on"},{"type":"tool_result","tool_use_id":"call|1","content":[{"type":"text","text":"r"}],"is_error":true}]}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"},{"type":"image","source":{"type":"url","url":"https://x"},"cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"},{"type":"tool_use","id":"call_1_c26e9779d7","name":"fs_read_4074bc0257","input":{"p":1.0}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1_c26e9779d7","content":[{"type":"text","text":"r"}],"is_error":true},{"type":"text","text":"go on"}]}]"#,
        );
        becomes(
            r#"[{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"s","content":[]}]},{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}]}]"#,
            r#"[{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"s","content":[]}]},{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}]}]"#,
        );
        refused(
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":"no result"}]"#,
            "messages[0]: the tool call `1` has no result",
        );
    }

    #[test]
    fn items_of_responses_are_read_as_such() {
        becomes(
            r#"[{"type":"message","role":"user","content":[{"type":"input_text","text":"u"},{"type":"input_image","image_url":"https://x"}]},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"r"},{"role":"assistant","content":[{"type":"output_text","text":"a"}]},{"role":"user","content":"v"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"},{"type":"image","source":{"type":"url","url":"https://x"}}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]},{"role":"assistant","content":[{"type":"text","text":"a"}]},{"role":"user","content":[{"type":"text","text":"v"}]}]"#,
        );
    }

    #[test]
    fn custom_calls_are_carried() {
        becomes(
            r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{"name":"patch","input":"a\nb"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"patch","input":{"input":"a\nb"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
    }

    #[test]
    fn broken_arguments_do_not_cost_the_conversation() {
        for (broken, carried) in [
            (r#"{\"a\": \"un"#, r#"{\"a\": \"un"#),
            ("{}{}", "{}{}"),
            (&"[".repeat(1000), &"[".repeat(1000)),
        ] {
            becomes_noting(
                &format!(
                    r#"[{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":"{broken}"}}}}]}},{{"role":"tool","tool_call_id":"1","content":"r"}}]"#
                ),
                &format!(
                    r#"[{{"role":"assistant","content":[{{"type":"tool_use","id":"1","name":"f","input":{{"value":"{carried}"}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"1","content":"r"}}]}}]"#
                ),
                "messages.tool_calls.function.arguments not JSON, carried as a text",
            );
        }
    }

    #[test]
    fn a_result_without_an_id_is_that_of_the_one_open_call() {
        let call = |id: u8| {
            format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":""}}}}"#)
        };
        let messages = |calls: &str| {
            format!(
                r#"[{{"role":"assistant","tool_calls":[{calls}]}},{{"role":"tool","content":"r"}}]"#
            )
        };
        becomes(
            &messages(&call(1)),
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
        );
        refused(
            &messages(&format!("{},{}", call(1), call(2))),
            "messages[1].tool_call_id: field required",
        );
        refused(
            r#"[{"role":"user","content":"u"},{"role":"tool","content":"r"}]"#,
            "messages[1].tool_call_id: field required",
        );
    }

    #[test]
    fn blocks_and_calls_that_stand_alone_are_read_as_what_they_are() {
        let turns = r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"a":1.0}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#;
        becomes(
            r#"[{"role":"user","content":"u"},{"type":"tool_use","id":"1","name":"f","input":{"a":1.0}},{"type":"tool_result","tool_use_id":"1","content":"r"}]"#,
            turns,
        );
        becomes(
            r#"[{"role":"user","content":"u"},{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1.0}"}},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            turns,
        );
        // Said twice: as a part, and as a call.
        becomes(
            r#"[{"role":"user","content":"u"},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"a":1.0}}],"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            turns,
        );
    }

    #[test]
    fn what_nobody_knows_is_left_out_where_the_rest_keeps_its_sense() {
        becomes_noting(
            r#"[{"role":"user","content":[{"type":"text","text":"u"},{"type":"video_url","video_url":{"url":"https://x"}}]},{"role":"assistant","content":[{"type":"image_url","image_url":"https://x"}],"tool_calls":[{"id":"1","type":"function","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"1","content":"r"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]"#,
            "messages.content.video_url left out, messages.content.image_url left out",
        );
        let lone =
            r#"[{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://x"}}]}]"#;
        assert!(
            translated(lone, false)
                .unwrap_err()
                .contains("parts of type `video_url` are not supported")
        );
        becomes_noting(
            r#"[{"role":"user","content":"u"},{"type":"shell_call","id":"x","call_id":"c","status":"completed","action":{"commands":["ls"],"timeout_ms":null},"x":null},{"type":"shell_call_output","call_id":"c","output":[{"stdout":"a.txt"}]},{"type":"image_generation_call","id":"i","result":"aGk="},{"role":"user","content":"v"}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"u"}]},{"role":"assistant","content":[{"type":"text","text":"<shell_call>{\"call_id\":\"c\",\"action\":{\"commands\":[\"ls\"]}}</shell_call>"}]},{"role":"user","content":[{"type":"text","text":"<shell_call_output>{\"call_id\":\"c\",\"output\":[{\"stdout\":\"a.txt\"}]}</shell_call_output>"},{"type":"text","text":"v"}]}]"#,
            "messages.shell_call carried as text, messages.shell_call_output carried as text, messages.image_generation_call left out",
        );
        refused(
            r#"[{"role":"user","content":"u"},{"type":"shell_call","action":{}}]"#,
            "items of type `shell_call` are not supported",
        );
    }

    #[test]
    fn foreign_ids_are_rewritten_alike() {
        let (body, _) = translated(
            r#"[{"role":"assistant","tool_calls":[{"id":"call|1","type":"function","function":{"name":"fs.read"}}]},{"role":"tool","tool_call_id":"call|1","content":[{"type":"text","text":"r"}]}]"#,
            true,
        )
        .unwrap();
        assert!(
            body.contains(r#""id":"call_1_c26e9779d7""#)
                && body.contains(r#""tool_use_id":"call_1_c26e9779d7""#),
            "{body}"
        );
    }
}
