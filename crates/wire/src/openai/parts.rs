//! The parts of a message, in the words of any of the three dialects, as blocks.

use std::borrow::Cow;

use super::conversation::{Content, ContentBlock, ContentKind, ToolCall, ToolResult};
use super::declared::without;
use super::draft::Draft;
use super::{media, names};
use crate::Fault;
use crate::json::{Node, RawObject, Text};
use crate::read::{Path, flag, member, object, string, text, unsupported, verbatim, wrong};

/// Who says it, which decides what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Text alone.
    System,
    /// Text, calls and thoughts.
    Assistant,
    /// Whatever Claude takes; a tool's results too.
    User,
    /// Whatever Claude takes, inside a result.
    Tool,
}

/// What a message holds.
#[derive(Debug, Default)]
pub(super) struct SaidParts<'a> {
    pub blocks: Vec<ContentBlock<'a>>,
    /// Why a part could not be carried over. It was left out; a message that has nothing else loses its sense.
    pub lost: Option<Fault>,
}

impl<'a> SaidParts<'a> {
    /// The blocks.
    ///
    /// # Errors
    ///
    /// If all that was said could not be carried over.
    pub(super) fn sensible(self) -> Result<Vec<ContentBlock<'a>>, Fault> {
        match self.lost {
            Some(fault) if self.blocks.is_empty() => Err(fault),
            _ => Ok(self.blocks),
        }
    }
}

/// Reads parts.
pub(super) struct Parts<'d, 'a> {
    pub draft: &'d mut Draft<'a>,
    /// What the client calls the list of messages.
    pub list: &'static str,
    /// The message's place in the list.
    pub at: usize,
    pub speaker: Speaker,
    /// The beginning of an answer is still to come, so that a thought may stand first.
    pub strict: bool,
}

/// Members that parts have in some dialect.
const MEMBERS: [&str; 20] = [
    "type",
    "text",
    "refusal",
    "image_url",
    "file",
    "file_id",
    "file_data",
    "file_url",
    "filename",
    "detail",
    "source",
    "cache_control",
    "prompt_cache_breakpoint",
    // What a text says of itself: made anew from what the text says.
    "annotations",
    "logprobs",
    "parsed",
    "thinking_blocks",
    "thinking_model",
    "reasoning_content",
    "role",
];

impl<'a> Parts<'_, 'a> {
    /// What a message or a result says: a string or parts. Blank text vanishes.
    pub(super) fn content(
        &mut self,
        node: &Node<'a>,
        path: Path<'_>,
    ) -> Result<SaidParts<'a>, Fault> {
        let mut said = SaidParts::default();
        if node.is_string() {
            said.blocks.extend(words(node, path)?.map(ContentBlock::new));
            return Ok(said);
        }
        let single = node.as_object().is_some().then(|| vec![node.clone()]);
        let Some(parts) = node.as_array().or(single) else {
            return Err(wrong(path, "expected a string or a list of parts"));
        };
        for (index, node) in parts.iter().enumerate() {
            let path = path.at(index);
            if node.is_string() {
                said.blocks.extend(words(node, path)?.map(ContentBlock::new));
                continue;
            }
            let part = object(node, path)?;
            match self.part(node, &part, path) {
                Ok(block) => said.blocks.extend(block),
                Err(Stop::Wrong(fault)) => return Err(*fault),
                Err(Stop::Lost(lost)) => {
                    let (kind, fault) = *lost;
                    if self.strict {
                        return Err(fault);
                    }
                    self.draft.notes.left_out(format!("{}.content.{kind}", self.list))?;
                    said.lost.get_or_insert(fault);
                }
            }
        }
        Ok(said)
    }

    /// What a part of this kind is to Claude; nothing where it says nothing.
    fn block(
        &mut self,
        node: &Node<'a>,
        part: &RawObject<'a>,
        kind: &str,
        path: Path<'_>,
    ) -> Result<Option<ContentKind<'a>>, Stop> {
        let at = |key: &'static str| path.key(key);
        let required =
            |key: &'static str| member(part, key).ok_or_else(|| wrong(at(key), "field required"));
        let (sees, speaks) = (
            matches!(self.speaker, Speaker::User | Speaker::Tool),
            self.speaker == Speaker::Assistant,
        );
        let block = match kind {
            "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => {
                words(&required("text")?, at("text"))?
            }
            // Some clients keep it where other texts are.
            "refusal" if self.speaker != Speaker::System => {
                let key = if member(part, "refusal").is_some() { "refusal" } else { "text" };
                words(&required(key)?, at(key))?
            }
            "image_url" if sees => {
                Some(ContentKind::Media(self.image(&required("image_url")?, at("image_url"))?))
            }
            "input_image" if sees => Some(ContentKind::Media(self.input_image(part, path)?)),
            "file" if sees && member(part, "file").is_some() => {
                let file = object(&required("file")?, at("file"))?;
                Some(ContentKind::Media(self.file(&file, at("file"), ".file")?))
            }
            "input_file" if sees => Some(ContentKind::Media(self.file(part, path, "")?)),
            "image" | "document" if sees => Some(ContentKind::Media(native(&media::native(node)))),
            "search_result" if sees => Some(ContentKind::Media(native(&verbatim(node, path)?))),
            "container_upload" if self.speaker == Speaker::User => {
                Some(ContentKind::Media(native(&verbatim(node, path)?)))
            }
            "tool_use" if speaks => Some(ContentKind::Call(self.call(part, path)?)),
            "tool_result" if self.speaker == Speaker::User => {
                Some(ContentKind::Result(self.result(part, path)?))
            }
            "thinking" | "redacted_thinking" if speaks => self.thought(node, part, kind, path)?,
            // What Claude's own tools did, and what it made of a long conversation.
            kind if speaks && is_claudes(kind) => {
                Some(ContentKind::Media(native(&verbatim(node, path)?)))
            }
            "input_audio" | "audio" => {
                return Err(unsupported(
                    at("type"),
                    "Claude does not hear audio; send a transcript as text",
                )
                .into());
            }
            other => {
                return Err(Stop::Lost(Box::new((label(other), self.foreign(other, at("type"))))));
            }
        };
        Ok(block)
    }

    fn part(
        &mut self,
        node: &Node<'a>,
        part: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<Option<ContentBlock<'a>>, Stop> {
        let at = |key: &'static str| path.key(key);
        let kind = member(part, "type").ok_or_else(|| wrong(at("type"), "field required"))?;
        let kind = string(&kind, at("type"))?;
        let block = self.block(node, part, &kind, path)?;
        if !matches!(&*kind, "tool_use" | "tool_result")
            && !matches!(block, Some(ContentKind::Thought(_)))
            && !is_native(&kind)
        {
            self.unknown(part)?;
        }
        let mark = self
            .draft
            .mark_of(part, path)?
            .filter(|_| !matches!(block, Some(ContentKind::Thought(_))));
        Ok(block.map(|kind| ContentBlock { kind, mark }))
    }

    fn foreign(&self, kind: &str, path: Path<'_>) -> Fault {
        let expected = match self.speaker {
            Speaker::System => "expected text",
            Speaker::Assistant => "an assistant's message holds text, calls and thinking",
            Speaker::User | Speaker::Tool => "expected text, images or files",
        };
        unsupported(path, format!("parts of type `{kind}` are not supported here; {expected}"))
    }

    /// Notes members that Messages has nothing for. Clients spread our own message over a part of theirs.
    fn unknown(&mut self, part: &RawObject<'a>) -> Result<(), Fault> {
        let place = format!("{}.content", self.list);
        for key in ["annotations", "logprobs"] {
            if member(part, key).is_some_and(|node| !matches!(node.raw(), "[]" | "{}")) {
                self.draft.notes.mention(format!("{place}.{key}"), "ignored");
            }
        }
        for (key, node) in part.members() {
            let spread =
                self.speaker == Speaker::Assistant && matches!(key, "tool_calls" | "function_call");
            let empty = node.is_null() || matches!(node.raw(), "[]" | "{}" | "\"\"");
            if !MEMBERS.contains(&key) && !spread && !empty {
                self.draft.notes.ignored(format!("{place}.{key}"))?;
            }
        }
        Ok(())
    }

    /// How finely an image or a file is to be looked at is not for the client to say.
    fn detail(&mut self, holder: &RawObject<'a>, place: &str) -> Result<(), Fault> {
        match member(holder, "detail").filter(|detail| detail.raw() != "\"auto\"") {
            Some(_) => self.draft.notes.ignored(format!("{}.content{place}.detail", self.list)),
            None => Ok(()),
        }
    }

    /// An image, by an object or by its URL alone.
    fn image(&mut self, node: &Node<'a>, path: Path<'_>) -> Result<String, Fault> {
        if node.is_string() {
            return media::image(&string(node, path)?, path);
        }
        let holder = object(node, path)?;
        let url = member(&holder, "url").ok_or_else(|| wrong(path.key("url"), "field required"))?;
        self.detail(&holder, ".image_url")?;
        self.draft.notes.unknown(
            &holder,
            &["url", "detail"],
            &format!("{}.content.image_url", self.list),
        )?;
        media::image(&string(&url, path.key("url"))?, path.key("url"))
    }

    fn input_image(&mut self, part: &RawObject<'a>, path: Path<'_>) -> Result<String, Fault> {
        self.detail(part, "")?;
        match member(part, "image_url") {
            Some(url) => self.image(&url, path.key("image_url")),
            None => match member(part, "file_id")
                .and_then(|id| id.as_str())
                .filter(|id| media::is_kept(id))
            {
                Some(id) => {
                    self.draft.announce(media::FILES_BETA);
                    Ok(media::kept_image(&id))
                }
                None => Err(no_files(part, path, "image_url")),
            },
        }
    }

    fn file(
        &mut self,
        file: &RawObject<'a>,
        path: Path<'_>,
        place: &'static str,
    ) -> Result<String, Fault> {
        let at = |key: &'static str| path.key(key);
        if !place.is_empty() {
            let place = format!("{}.content{place}", self.list);
            self.draft.notes.unknown(
                file,
                &["filename", "file_data", "file_id", "file_url", "detail"],
                &place,
            )?;
        }
        self.detail(file, place)?;
        let name =
            member(file, "filename").map(|node| string(&node, at("filename"))).transpose()?;
        if let Some(node) = member(file, "file_data") {
            return media::file(&string(&node, at("file_data"))?, name.as_deref(), at("file_data"));
        }
        if let Some(node) = member(file, "file_url") {
            let url = string(&node, at("file_url"))?;
            if !media::is_web(&url) {
                return Err(wrong(at("file_url"), "expected an `https:` or `http:` URL"));
            }
            return Ok(media::document_at(&url, name.as_deref()));
        }
        let Some(node) = member(file, "file_id") else {
            return Err(wrong(at("file_data"), "field required"));
        };
        let block = media::kept_file(&string(&node, at("file_id"))?, at("file_id"))?;
        self.draft.announce(media::FILES_BETA);
        Ok(block)
    }

    /// A call as Messages has it.
    pub(super) fn call(
        &mut self,
        part: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<ToolCall<'a>, Fault> {
        let required = |key: &'static str| {
            member(part, key).ok_or_else(|| wrong(path.key(key), "field required"))
        };
        let id = string(&required("id")?, path.key("id"))?;
        let name = string(&required("name")?, path.key("name"))?;
        let input = match member(part, "input") {
            None => Cow::Borrowed("{}"),
            Some(node) => {
                object(&node, path.key("input"))?;
                verbatim(&node, path.key("input"))?
            }
        };
        self.draft.notes.unknown(
            part,
            &["type", "id", "name", "input", "cache_control", "caller"],
            &format!("{}.content", self.list),
        )?;
        Ok(ToolCall { id: names::call_id(id), name: names::tool(name), input, at: self.at })
    }

    /// A result as Messages has it.
    pub(super) fn result(
        &mut self,
        part: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<ToolResult<'a>, Fault> {
        let id = member(part, "tool_use_id")
            .ok_or_else(|| wrong(path.key("tool_use_id"), "field required"))?;
        let id = names::call_id(string(&id, path.key("tool_use_id"))?);
        let failed = member(part, "is_error")
            .map(|node| flag(&node, path.key("is_error")))
            .transpose()?
            .unwrap_or(false);
        self.draft.notes.unknown(
            part,
            &["type", "tool_use_id", "content", "is_error", "cache_control"],
            &format!("{}.content", self.list),
        )?;
        let content = self.answer(member(part, "content").as_ref(), path.key("content"))?;
        Ok(ToolResult { id, content, failed, at: self.at })
    }

    /// What a tool gave back. A string stays one.
    pub(super) fn answer(
        &mut self,
        node: Option<&Node<'a>>,
        path: Path<'_>,
    ) -> Result<Content<'a>, Fault> {
        let Some(node) = node else { return Ok(Content::Text(Text::quoted(""))) };
        if node.is_string() {
            return Ok(Content::Text(text(node, path)?));
        }
        let speaker = std::mem::replace(&mut self.speaker, Speaker::Tool);
        let said = self.content(node, path);
        self.speaker = speaker;
        let blocks = said?.sensible()?;
        Ok(if blocks.is_empty() {
            Content::Text(Text::quoted(""))
        } else {
            Content::Blocks(blocks)
        })
    }

    /// Thinking that no API would take back is left out.
    fn thought(
        &mut self,
        node: &Node<'a>,
        part: &RawObject<'a>,
        kind: &str,
        path: Path<'_>,
    ) -> Result<Option<ContentKind<'a>>, Fault> {
        if is_sealed(kind, part) && member(part, "cache_control").is_some() {
            // No mark can be on a thought.
            self.draft.notes.left_out(format!("{}.content.{kind}.cache_control", self.list))?;
            return Ok(Some(ContentKind::Thought(
                without(&verbatim(node, path)?, &["cache_control"]).into(),
            )));
        }
        if is_sealed(kind, part) {
            return Ok(Some(ContentKind::Thought(verbatim(node, path)?)));
        }
        self.draft.notes.left_out(format!("{}.content.{kind}", self.list))?;
        Ok(None)
    }
}

/// Why a part did not become a block.
enum Stop {
    Wrong(Box<Fault>),
    /// The part has no counterpart; what it is called.
    Lost(Box<(String, Fault)>),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Wrong(Box::new(fault))
    }
}

/// True if a thought has what proves that the model thought it.
pub(super) fn is_sealed(kind: &str, thought: &RawObject<'_>) -> bool {
    let key = if kind == "thinking" { "signature" } else { "data" };
    member(thought, key).is_some_and(|node| node.is_string() && node.raw() != "\"\"")
}

/// A text that says something.
fn words<'a>(node: &Node<'a>, path: Path<'_>) -> Result<Option<ContentKind<'a>>, Fault> {
    let said = text(node, path)?;
    Ok((!said.is_blank()).then_some(ContentKind::Text(said)))
}

/// A block of Messages' own, without its mark, which is kept apart.
fn native(raw: &str) -> String {
    without(raw, &["cache_control", "prompt_cache_breakpoint"])
}

/// Blocks that Claude's answers have besides text, thinking and calls.
fn is_claudes(kind: &str) -> bool {
    matches!(kind, "server_tool_use" | "mcp_tool_use" | "compaction")
        || kind.ends_with("_tool_result")
}

fn is_native(kind: &str) -> bool {
    matches!(kind, "image" | "document" | "search_result" | "container_upload") || is_claudes(kind)
}

/// A kind as it may stand in a note.
pub(super) fn label(kind: &str) -> String {
    kind.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(64)
        .collect()
}

fn no_files(part: &RawObject<'_>, path: Path<'_>, instead: &'static str) -> Fault {
    match member(part, "file_id") {
        Some(_) => unsupported(
            path.key("file_id"),
            format!("files that OpenAI keeps cannot be reached from here; send `{instead}`"),
        ),
        None => wrong(path.key(instead), "field required"),
    }
}
