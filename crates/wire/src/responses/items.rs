//! The items of a request's input, one by one, as turns and blocks.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{Before, seal};
use crate::json::{Members, Node, RawObject, Text, quote};
use crate::openai::conversation::{Block, Call, Content, Kind, Role, ToolResult};
use crate::openai::draft::{Draft, mark_of};
use crate::openai::pieces::one_line;
use crate::openai::tools::arguments;
use crate::openai::{Terms, is_another_model, media, names};
use crate::read::{Path, member, object, string, text, unsupported, wrong};
use crate::{Fault, Request};

const INPUT: Path<'_> = Path::of("input");

/// What items may speak of.
#[derive(Clone, Copy)]
pub(super) struct Known<'k, 'a> {
    /// The items that were kept, by their ids.
    pub items: &'a HashMap<String, String>,
    /// The namespaces of the request's tools.
    pub spaces: &'k HashSet<String>,
}

/// Reads the input into the draft's conversation.
pub(super) fn converse<'a>(draft: &mut Draft<'a>, input: &Node<'a>, known: &Known<'_, 'a>, terms: &Terms<'_>) -> Result<(), Fault> {
    if input.is_string() {
        let said = text(input, INPUT)?;
        if said.is_blank() {
            return Err(wrong(INPUT, "it says nothing"));
        }
        draft.conversation.push(Role::User, Block::new(Kind::Text(said)));
        return Ok(());
    }
    let Some(items) = input.as_array() else { return Err(wrong(INPUT, "expected a string or a list of items")) };
    if items.is_empty() {
        return Err(wrong(INPUT, "expected at least one item"));
    }
    let mut reader = Reader { draft, terms, known: *known };
    for (at, node) in items.iter().enumerate() {
        let path = INPUT.at(at);
        reader.item(&object(node, path)?, path, at)?;
    }
    Ok(())
}

struct Reader<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    terms: &'d Terms<'t>,
    known: Known<'t, 'a>,
}

impl<'a> Reader<'_, 'a, '_> {
    fn item(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let kind = member(item, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        match kind.as_deref() {
            None if is_reference(item) => self.reference(item, path, at),
            None | Some("message") => self.message(item, path),
            Some("function_call") => self.call(item, path, at),
            Some("custom_tool_call") => self.custom_call(item, path, at),
            Some("function_call_output" | "custom_tool_call_output") => self.result(item, path, at),
            Some("reasoning") => self.thought(item, path),
            Some("item_reference") => self.reference(item, path, at),
            // What the upstream ran itself: its results are in the text that follows.
            Some("web_search_call") => self.draft.notes.left_out("input.web_search_call"),
            Some(other) => Err(unsupported(path.key("type"), format!("items of type `{other}` are not supported"))),
        }
    }

    fn message(&mut self, item: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let role = member(item, "role").ok_or_else(|| wrong(path.key("role"), "field required"))?;
        let role = match &*string(&role, path.key("role"))? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            other => return Err(wrong(path.key("role"), format!("`{other}` is no role; expected `user`, `assistant`, `system` or `developer`"))),
        };
        self.draft.notes.unknown(item, &["type", "role", "content", "id", "status", "phase"], "input")?;
        for block in self.content(item, "content", path, role == Role::User)? {
            self.draft.conversation.push(role, block);
        }
        Ok(())
    }

    /// What a message or a result says: a string or parts. Blank text vanishes.
    fn content(&mut self, item: &RawObject<'a>, key: &'static str, path: Path<'_>, anything: bool) -> Result<Vec<Block<'a>>, Fault> {
        let Some(node) = member(item, key) else { return Ok(Vec::new()) };
        let path = path.key(key);
        if node.is_string() {
            let said = text(&node, path)?;
            return Ok(if said.is_blank() { Vec::new() } else { vec![Block::new(Kind::Text(said))] });
        }
        let mut blocks = Vec::new();
        for (index, part) in node.as_array().ok_or_else(|| wrong(path, "expected a string or a list of parts"))?.iter().enumerate() {
            let path = path.at(index);
            let part = object(part, path)?;
            let mark = mark_of(&part, path)?;
            blocks.extend(self.part(&part, path, anything)?.map(|kind| Block { kind, mark }));
        }
        Ok(blocks)
    }

    fn part(&mut self, part: &RawObject<'a>, path: Path<'_>, anything: bool) -> Result<Option<Kind<'a>>, Fault> {
        let at = |key: &'static str| path.key(key);
        let kind = member(part, "type").ok_or_else(|| wrong(at("type"), "field required"))?;
        let required = |key: &'static str| member(part, key).ok_or_else(|| wrong(at(key), "field required"));
        let said = |key: &'static str| -> Result<Option<Kind<'a>>, Fault> {
            let said = text(&required(key)?, at(key))?;
            Ok((!said.is_blank()).then_some(Kind::Text(said)))
        };
        if member(part, "text").is_some() || member(part, "refusal").is_some() {
            self.draft.notes.unknown(part, &["type", "text", "refusal", "annotations", "logprobs", "parsed", "cache_control", "prompt_cache_breakpoint"], "input.content")?;
        }
        match &*string(&kind, at("type"))? {
            "input_text" | "output_text" | "text" => said("text"),
            // Some clients keep it where other texts are.
            "refusal" => said(if member(part, "refusal").is_some() { "refusal" } else { "text" }),
            "input_image" if anything => self.image(part, path).map(Some),
            "input_file" if anything => self.file(part, path).map(Some),
            "input_audio" => Err(unsupported(at("type"), "Claude does not hear audio; send a transcript as text")),
            other => Err(unsupported(at("type"), format!("parts of type `{other}` are not supported here; expected `input_text`, and from users `input_image` or `input_file`"))),
        }
    }

    fn image(&mut self, part: &RawObject<'a>, path: Path<'_>) -> Result<Kind<'a>, Fault> {
        self.draft.notes.unknown(part, &["type", "image_url", "detail", "file_id", "cache_control", "prompt_cache_breakpoint"], "input.content")?;
        if member(part, "detail").is_some_and(|detail| detail.raw() != "\"auto\"") {
            self.draft.notes.ignored("input.content.detail")?;
        }
        match member(part, "image_url") {
            Some(url) => media::image(&string(&url, path.key("image_url"))?, path.key("image_url")).map(Kind::Media),
            None => Err(Self::no_files(part, path, "image_url")),
        }
    }

    fn file(&mut self, part: &RawObject<'a>, path: Path<'_>) -> Result<Kind<'a>, Fault> {
        self.draft.notes.unknown(part, &["type", "filename", "file_data", "file_url", "file_id", "detail", "cache_control", "prompt_cache_breakpoint"], "input.content")?;
        let name = member(part, "filename").map(|node| string(&node, path.key("filename"))).transpose()?;
        if let Some(data) = member(part, "file_data") {
            return media::file(&string(&data, path.key("file_data"))?, name.as_deref(), path.key("file_data")).map(Kind::Media);
        }
        let Some(url) = member(part, "file_url") else { return Err(Self::no_files(part, path, "file_data")) };
        let url = string(&url, path.key("file_url"))?;
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(wrong(path.key("file_url"), "expected an `https:` or `http:` URL"));
        }
        let title = name.filter(|name| !name.trim().is_empty()).map_or_else(String::new, |name| format!(",\"title\":{}", quote(&name)));
        Ok(Kind::Media(format!("{{\"type\":\"document\",\"source\":{{\"type\":\"url\",\"url\":{}}}{title}}}", quote(&url))))
    }

    fn no_files(part: &RawObject<'_>, path: Path<'_>, instead: &'static str) -> Fault {
        match member(part, "file_id") {
            Some(_) => unsupported(path.key("file_id"), format!("files that OpenAI keeps cannot be reached from here; send `{instead}`")),
            None => wrong(path.key(instead), "field required"),
        }
    }

    fn call_id(item: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
        let id = member(item, "call_id").ok_or_else(|| wrong(path.key("call_id"), "field required"))?;
        Ok(names::call_id(string(&id, path.key("call_id"))?))
    }

    /// The name of a called tool, as the upstream knows it.
    fn name(&self, item: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
        let name = member(item, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
        let name = string(&name, path.key("name"))?;
        if name.is_empty() {
            return Err(wrong(path.key("name"), "a tool has to have a name"));
        }
        let Some(space) = member(item, "namespace") else { return Ok(names::tool(name)) };
        let space = string(&space, path.key("namespace"))?;
        if space.is_empty() {
            return Ok(names::tool(name));
        }
        if !self.known.spaces.contains(&*space) {
            return Err(unsupported(path.key("namespace"), format!("`{space}` is no namespace of this request's tools; send its tools, or name the tool plainly")));
        }
        Ok(names::tool(names::within(&space, &name).into()))
    }

    fn call(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.draft.notes.unknown(item, &["type", "id", "status", "call_id", "name", "namespace", "arguments", "parsed_arguments"], "input")?;
        let (id, name, input) = (Self::call_id(item, path)?, self.name(item, path)?, arguments(item, path.key("arguments"))?);
        self.draft.conversation.push(Role::Assistant, Block::new(Kind::Call(Call { id, name, input, at })));
        Ok(())
    }

    fn custom_call(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.draft.notes.unknown(item, &["type", "id", "status", "call_id", "name", "namespace", "input"], "input")?;
        let (id, name) = (Self::call_id(item, path)?, self.name(item, path)?);
        let written = member(item, "input").map(|node| text(&node, path.key("input"))).transpose()?.unwrap_or_else(|| Text::quoted(""));
        let input = format!("{{\"input\":{}}}", written.raw()).into();
        self.draft.conversation.push(Role::Assistant, Block::new(Kind::Call(Call { id, name, input, at })));
        Ok(())
    }

    fn result(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        self.draft.notes.unknown(item, &["type", "id", "status", "call_id", "output", "name"], "input")?;
        let id = Self::call_id(item, path)?;
        let content = match member(item, "output") {
            None => return Err(wrong(path.key("output"), "field required")),
            Some(node) if node.is_string() => Content::Text(text(&node, path.key("output"))?),
            Some(_) => {
                let blocks = self.content(item, "output", path, true)?;
                if blocks.is_empty() { Content::Text(Text::quoted("")) } else { Content::Blocks(blocks) }
            }
        };
        self.draft.conversation.push(Role::User, Block::new(Kind::Result(ToolResult { id, content, at })));
        Ok(())
    }

    /// Thinking that comes back as we sealed it. Anything else could not be made into a block that the API takes.
    fn thought(&mut self, item: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let sealed = member(item, "encrypted_content").map(|node| string(&node, path.key("encrypted_content"))).transpose()?;
        let opened = sealed.and_then(|sealed| seal::open(&sealed)).filter(|opened| !is_another_model(&opened.model, self.terms.model));
        match opened {
            Some(opened) => self.draft.conversation.push(Role::Assistant, Block::new(Kind::Thought(opened.block.into()))),
            None => self.draft.notes.left_out("input.reasoning")?,
        }
        Ok(())
    }

    fn reference(&mut self, item: &RawObject<'a>, path: Path<'_>, at: usize) -> Result<(), Fault> {
        let id = member(item, "id").ok_or_else(|| wrong(path.key("id"), "field required"))?;
        let id = string(&id, path.key("id"))?;
        let unknown = || {
            let mut fault = wrong(path.key("id"), format!("there is no item `{id}` that was kept"));
            fault.kind = crate::FaultKind::NotFound;
            fault
        };
        let kept = self.known.items.get(&*id).ok_or_else(unknown)?;
        let kept = RawObject::parse(kept.as_bytes()).map_err(|_| unknown())?;
        self.item(&kept, path, at)
    }
}

/// True for an item that stands for one that was kept; its type may be left out.
fn is_reference(item: &RawObject<'_>) -> bool {
    match member(item, "type") {
        Some(kind) => kind.as_str().is_some_and(|kind| kind == "item_reference"),
        None => item.get("id").is_some() && item.members().all(|(key, node)| key == "id" || node.is_null()),
    }
}

/// The ids that items of the input refer to.
pub(super) fn references(input: &Node<'_>) -> Vec<String> {
    let items = input.as_array().unwrap_or_default();
    let refers = items.iter().filter_map(Node::as_object).filter(is_reference);
    refers.filter_map(|item| Some(item.get("id")?.as_str()?.into_owned())).collect()
}

/// The items of a request's input as they are listed afterwards, each with an id of its own; those of ours begin with
/// `id`.
#[must_use]
pub fn listed(request: &Request<'_>, id: &str, before: &Before) -> Vec<String> {
    let Some(input) = member(&request.object, "input") else { return Vec::new() };
    if input.is_string() {
        let content = format!("[{{\"type\":\"input_text\",\"text\":{}}}]", input.raw());
        return vec![one_line(&format!("{{\"id\":\"msg_{id}_in_0\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"user\",\"content\":{content}}}"))];
    }
    let mut taken = HashSet::new();
    let items = input.as_array().unwrap_or_default();
    let named = items.iter().enumerate().filter_map(|(at, node)| {
        let item = node.as_object()?;
        let referred = is_reference(&item).then(|| item.get("id")?.as_str().and_then(|id| before.items.get(&*id))).flatten();
        let mut members: Members = serde_json::from_str(referred.map_or(node.raw(), String::as_str)).ok()?;
        if members.get("type").is_none_or(|kind| kind == "null") {
            members.set("type", quote("message"));
        }
        let kind = members.get("type").unwrap_or_default().trim_matches('"').to_owned();
        complete(&mut members, &kind);
        let given = members.get("id").and_then(|id| serde_json::from_str::<String>(id).ok()).filter(|id| !id.is_empty() && taken.insert(id.clone()));
        if given.is_none() {
            let own = format!("{}_{id}_in_{at}", prefix(&kind));
            members.set("id", quote(&own));
            taken.insert(own);
        }
        Some(one_line(&members.write()))
    });
    named.collect()
}

/// Adds what clients may leave out and readers want to see.
fn complete(members: &mut Members, kind: &str) {
    if matches!(kind, "message" | "function_call" | "function_call_output" | "custom_tool_call" | "custom_tool_call_output") && members.get("status").is_none() {
        members.set("status", quote("completed"));
    }
    let answers = members.get("role") == Some("\"assistant\"");
    let said = if answers { "output_text" } else { "input_text" };
    let extras = if answers { ",\"annotations\":[]" } else { "" };
    if let Some(text) = members.get("content").filter(|raw| raw.starts_with('"')) {
        let content = format!("[{{\"type\":\"{said}\",\"text\":{text}{extras}}}]");
        members.set("content", content);
    }
}

fn prefix(kind: &str) -> &'static str {
    match kind {
        "message" => "msg",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "custom_tool_call" => "ctc",
        "custom_tool_call_output" => "ctco",
        "reasoning" => "rs",
        _ => "item",
    }
}
