//! From a stream of Messages events to a stream of Responses events, and from a whole message to a response.
//!
//! Both go through the same machine: a whole message is one whose blocks come in one piece. Deltas leave as they come,
//! their text untouched. A stream that does not end as it should ends with `response.failed`.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::output::{CallItem, Output, Part, Reasoning, ResponseStatus};
use super::{Memory, ResponsesShape, ResponsesStamp};
use crate::chat::NoMessage;
use crate::event::{
    BlockDelta, BlockStart, BlockStop, Event, EventKind, MessageDelta, MessageHead, MessageStart,
    Sink, Translator, report,
};
use crate::json::{Members, Tag, Text};
use crate::messages::{Block, Summary};
use crate::openai::UpstreamFault;
use crate::openai::errors::{translate_event, unbegun, unfinished};
use crate::openai::pieces::{Pieces, foreign, one_line, required};
use crate::stage::Out;
use crate::{Faced, Fault, StopReason};

/// A response that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    /// As the client got it.
    pub object: String,
    /// What a later request goes on from.
    pub memory: Memory,
}

/// The sink that writes events of the Responses API.
#[derive(Debug)]
pub struct ResponsesStream {
    id: String,
    output: Output,
    summary: Summary,
    state: ResponsesState,
    begun: bool,
    open: Option<OpenItem>,
    /// The blocks that are over, as Messages has them.
    content: Vec<String>,
    kept: Option<Kept>,
    object: String,
}

#[derive(Debug)]
enum ResponsesState {
    Going,
    /// The answer is whole. The last event waits until it is kept, since it says so.
    Whole(ResponseStatus),
    Ended,
    /// `response.failed` was written.
    Failed(UpstreamFault),
}

/// The block that is open.
#[derive(Debug)]
struct OpenItem {
    index: u64,
    /// The whole block.
    block: Block,
    pieces: Pieces,
    kind: OpenItemKind,
}

#[derive(Debug)]
enum OpenItemKind {
    Text(Part, Vec<String>),
    Reasoning(Reasoning),
    /// A call, and what its arguments are if none are streamed.
    Call(CallItem, Option<String>),
    /// A search whose query is not known yet.
    Search,
    /// What Claude made of a long conversation.
    Compaction,
    /// What the upstream runs itself, and what is newer than this gateway.
    Other,
}

/// The members of a block that matter at its start.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Started<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    citations: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Citation {
    url: Option<String>,
    title: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Query {
    input: Asked,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    query: String,
}

impl ResponsesStream {
    pub fn new(shape: ResponsesShape, stamp: ResponsesStamp) -> Self {
        Self {
            id: format!("resp_{}", stamp.id),
            output: Output::new(shape, stamp),
            summary: Summary::default(),
            state: ResponsesState::Going,
            begun: false,
            open: None,
            content: Vec::new(),
            kept: None,
            object: String::new(),
        }
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Why there is no whole answer, if that is known already.
    pub fn failure(&self) -> Option<&UpstreamFault> {
        match &self.state {
            ResponsesState::Failed(fault) => Some(fault),
            ResponsesState::Going | ResponsesState::Whole(_) | ResponsesState::Ended => None,
        }
    }

    /// The response, once it is whole and if the client wants it kept. Told once; the last event waits for [`Self::settle`].
    pub fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Writes the last event of a response that was to be kept, and says in it whether it is.
    pub fn settle(&mut self, kept: bool, out: &mut Out) {
        // Whole → Ended: what the client is told is true by now.
        let ResponsesState::Whole(status) = self.state else { return };
        if !kept {
            self.object = unkept(&self.object);
        }
        self.output.tell(status, &self.object);
        self.state = ResponsesState::Ended;
        self.flush(out);
    }

    /// Ends a stream that will not go on, saying why.
    pub fn cut<K: Faced>(&mut self, why: &Fault<K>, out: &mut Out) {
        if !self.is_over() {
            self.fail(UpstreamFault::of(why));
        }
        self.flush(out);
    }

    fn fail(&mut self, fault: UpstreamFault) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            error: Face,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Face {
            message: String,
        }
        self.begin();
        let said: Body = serde_json::from_str(&fault.body).unwrap_or_default();
        let code = if fault.status == 429 { "rate_limit_exceeded" } else { "server_error" };
        self.output.fail(code, &said.error.message, &self.summary.usage);
        self.state = ResponsesState::Failed(fault);
    }

    fn take(&mut self, event: &Event<'_>) -> serde_json::Result<()> {
        match event.kind {
            EventKind::BlockDelta => {
                self.summary.grew(event);
                self.block_delta(&event.read()?)?;
            }
            EventKind::MessageStart => {
                let MessageStart { message } = event.read()?;
                self.summary.started(&message);
                self.message_start(&message)?;
            }
            EventKind::BlockStart => {
                let start: BlockStart<'_> = event.read()?;
                self.block_start(start.index, start.content_block)?;
            }
            EventKind::BlockStop => {
                let stop: BlockStop = event.read().unwrap_or_default();
                // Whether a call without arguments has none or was cut off, is told by what comes next.
                let waits = |open: &OpenItem| matches!(open.kind, OpenItemKind::Call(_, Some(_)));
                if self.open.as_ref().is_some_and(|open| open.index == stop.index && !waits(open)) {
                    self.block_stop();
                }
            }
            EventKind::MessageDelta => {
                self.summary.stopped(&event.read::<MessageDelta<'_>>().unwrap_or_default());
            }
            EventKind::MessageStop => {
                self.summary.ended = true;
                self.message_stop();
            }
            EventKind::Error => {
                let fault = translate_event(self.summary.failed(event));
                self.fail(fault);
            }
            EventKind::Ping | EventKind::Other => {}
        }
        Ok(())
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.output.begin();
        }
    }

    /// A second start changes nothing.
    fn message_start(&mut self, head: &MessageHead<'_>) -> serde_json::Result<()> {
        if self.begun {
            return Ok(());
        }
        let blocks = head.blocks()?;
        head.model.as_deref().unwrap_or_default().clone_into(&mut self.output.model);
        let tier = report(head.usage.map(RawValue::get)).service_tier;
        self.output.tier = tier.map(|tier| crate::chat::service_tier(&tier).to_owned());
        self.begin();
        for (index, block) in (0..).zip(blocks) {
            self.block_start(index, block)?;
        }
        Ok(())
    }

    /// A block begins. Another that is open is over with that: they come one by one.
    fn block_start(&mut self, index: u64, block: &RawValue) -> serde_json::Result<()> {
        self.begin();
        self.block_stop();
        let source = block.get();
        let tag: Tag<'_> = serde_json::from_str(source)?;
        let started: Started<'_> = serde_json::from_str(source)?;
        let (kind, text) = match &*tag.kind {
            "text" => (
                OpenItemKind::Text(
                    self.output.open_part(),
                    started.citations.iter().flatten().map(|raw| raw.get().to_owned()).collect(),
                ),
                started.text,
            ),
            "thinking" | "redacted_thinking" => {
                (OpenItemKind::Reasoning(self.output.open_reasoning()), started.thinking)
            }
            "tool_use" => {
                let input = started
                    .input
                    .map(RawValue::get)
                    .filter(|raw| *raw != "null")
                    .unwrap_or("{}")
                    .to_owned();
                (
                    OpenItemKind::Call(
                        self.output.open_call(&started.id, &started.name),
                        Some(input),
                    ),
                    None,
                )
            }
            "server_tool_use" if started.name == "web_search" => (OpenItemKind::Search, None),
            "compaction" => (OpenItemKind::Compaction, None),
            "web_search_tool_result" => {
                // A list of results, or an object that says why there are none.
                let found = started.content.is_some_and(|content| content.get().starts_with('['));
                self.output.end_search(found);
                (OpenItemKind::Other, None)
            }
            _ => (OpenItemKind::Other, None),
        };
        self.open = Some(OpenItem {
            index,
            block: Block::new(index, serde_json::from_str::<Members>(source)?),
            pieces: Pieces::default(),
            kind,
        });
        match text {
            Some(text) => self.piece(text),
            None => Ok(()),
        }
    }

    fn block_delta(&mut self, event: &BlockDelta<'_>) -> serde_json::Result<()> {
        let delta = event.read()?;
        let Some(open) = self.open.as_mut().filter(|open| open.index == event.index) else {
            return Err(foreign("a delta for a block that is not open"));
        };
        open.block.delta(&delta, event.delta)?;
        match (&*delta.kind, &mut open.kind) {
            ("text_delta", OpenItemKind::Text(..)) => self.piece(required(delta.text)?),
            ("thinking_delta", OpenItemKind::Reasoning(_)) => self.piece(required(delta.thinking)?),
            ("input_json_delta", OpenItemKind::Call(..)) => {
                self.piece(required(delta.partial_json)?)
            }
            ("citations_delta", OpenItemKind::Text(_, citations)) => {
                citations.extend(delta.citation.map(|raw| raw.get().to_owned()));
                Ok(())
            }
            // Signatures, what the upstream runs itself, and what is newer than this gateway.
            _ => Ok(()),
        }
    }

    /// A piece of the open block's text, thinking or arguments.
    fn piece(&mut self, raw: &RawValue) -> serde_json::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let text = open.pieces.next(raw)?;
        if text.inner().is_empty() {
            return Ok(());
        }
        match &mut open.kind {
            OpenItemKind::Text(part, _) => self.output.text(part, &text),
            OpenItemKind::Reasoning(reasoning) => self.output.thought(reasoning, &text),
            OpenItemKind::Call(call, input) => {
                *input = None;
                self.output.arguments(call, &text);
            }
            OpenItemKind::Search | OpenItemKind::Compaction | OpenItemKind::Other => {}
        }
        Ok(())
    }

    /// The open block is over.
    fn block_stop(&mut self) {
        let Some(OpenItem { block, kind, .. }) = self.open.take() else { return };
        let block = one_line(&block.write());
        let mut whole = true;
        match kind {
            OpenItemKind::Text(part, citations) => {
                let cited =
                    citations.iter().filter_map(|raw| serde_json::from_str::<Citation>(raw).ok());
                let cited: Vec<(String, String)> = cited
                    .filter_map(|cited| Some((cited.url?, cited.title.unwrap_or_default())))
                    .collect();
                self.output.close_part(&part, &cited);
                whole = !part.is_blank();
            }
            OpenItemKind::Reasoning(reasoning) => {
                // Without its signature no API takes it back.
                whole = is_signed(&block);
                self.output.close_reasoning(&reasoning, whole.then_some(block.as_str()));
            }
            OpenItemKind::Call(mut call, input) => {
                // A call whose arguments were not streamed has them in its start, or has none.
                let cut = input.is_some() && self.is_cut();
                if let Some(input) = input {
                    self.output.arguments(&mut call, &Text::quoted(&input));
                }
                whole = self.output.close_call(call, cut);
            }
            OpenItemKind::Search => {
                let query: Query = serde_json::from_str(&block).unwrap_or_default();
                self.output.open_search(&query.input.query);
            }
            OpenItemKind::Compaction => self.output.compaction(&block),
            OpenItemKind::Other => {}
        }
        // A call that was cut off cannot be gone on from, nor can a text without a word.
        if whole {
            self.content.push(block);
        }
    }

    /// True once the answer is known to have ended at a limit: what is open then was not finished.
    fn is_cut(&self) -> bool {
        matches!(
            self.summary.stop_reason,
            Some(StopReason::MaxTokens | StopReason::ContextWindowExceeded)
        )
    }

    /// Leaves out what the upstream began to run itself and did not finish: it would not be taken back without its result.
    fn forget_unfinished(&mut self) {
        let about: Vec<About> = self
            .content
            .iter()
            .map(|block| serde_json::from_str(block).unwrap_or_default())
            .collect();
        let answered: HashSet<&str> =
            about.iter().map(|block| block.tool_use_id.as_str()).collect();
        let mut kept = about
            .iter()
            .map(|block| block.kind != "server_tool_use" || answered.contains(block.id.as_str()));
        self.content.retain(|_| kept.next().unwrap_or(true));
    }

    /// Going → Whole or Ended: the one place where a response ends well.
    fn message_stop(&mut self) {
        if !self.begun {
            self.fail(UpstreamFault::of(&unbegun()));
            return;
        }
        self.block_stop();
        let status = ResponseStatus::of(self.summary.stop_reason.as_ref());
        self.object = self.output.end(status, &self.summary.usage);
        if self.output.shape.echo.is_kept() {
            self.forget_unfinished();
            let memory = std::mem::take(&mut self.output.shape.memory)
                .answered(&self.content, &self.output.model);
            self.kept = Some(Kept { id: self.id.clone(), object: self.object.clone(), memory });
            self.state = ResponsesState::Whole(status);
            return;
        }
        self.output.tell(status, &self.object);
        self.state = ResponsesState::Ended;
    }
}

impl Sink for ResponsesStream {
    fn event(&mut self, event: &Event<'_>) {
        if let Err(error) = self.take(event) {
            self.fail(UpstreamFault::no_messages(&error));
        }
    }

    fn unreadable(&mut self, why: String) {
        self.fail(UpstreamFault::unreadable(&why));
    }

    fn is_over(&self) -> bool {
        !matches!(self.state, ResponsesState::Going)
    }
}

impl Translator for ResponsesStream {
    fn flush(&mut self, out: &mut Out) {
        if !self.output.events.out.is_empty() {
            out.push_back(self.output.events.out.split().freeze());
        }
    }

    fn finish(&mut self, out: &mut Out) -> bool {
        self.cut(&unfinished(), out);
        // The response was not kept.
        self.settle(false, out);
        matches!(self.state, ResponsesState::Ended) || self.summary.error.is_some()
    }
}

/// The object of a response that was to be kept and is not: it says so.
pub fn unkept(object: &str) -> String {
    let Ok(mut members) = serde_json::from_str::<Members>(object) else { return object.to_owned() };
    members.set("store", "false");
    members.write()
}

/// Translates a whole message. The object says that it is kept if there is something to be kept; see [`unkept`].
///
/// # Errors
///
/// [`NoMessage`] if it is none.
pub fn response(
    body: &[u8],
    shape: ResponsesShape,
    stamp: ResponsesStamp,
) -> Result<(String, Option<Kept>), NoMessage> {
    let head: MessageHead<'_> =
        serde_json::from_slice(body).map_err(|error| NoMessage::of(error.to_string()))?;
    if let Some(other) = head.kind.as_deref().filter(|kind| *kind != "message") {
        return Err(NoMessage::of(format!("its type is `{other}`")));
    }
    if head.content.is_none() {
        return Err(NoMessage::of("it has no content".to_owned()));
    }
    let mut stream = ResponsesStream::new(shape, stamp);
    stream.summary = Summary::of_json(body);
    stream.message_start(&head).map_err(|error| NoMessage::of(error.to_string()))?;
    stream.message_stop();
    // The events were for nobody.
    stream.output.events.out = BytesMut::new();
    Ok((std::mem::take(&mut stream.object), stream.take_kept()))
}

/// What tells a block from others.
#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    tool_use_id: String,
}

fn is_signed(block: &str) -> bool {
    #[derive(Deserialize)]
    struct Thinking {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        signature: String,
    }
    serde_json::from_str::<Thinking>(block)
        .is_ok_and(|block| block.kind != "thinking" || !block.signature.is_empty())
}

/// Translates a count of tokens.
///
/// # Errors
///
/// [`NoMessage`] if it is none.
pub fn counted(body: &[u8]) -> Result<String, NoMessage> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    let count: Count =
        serde_json::from_slice(body).map_err(|error| NoMessage::of(error.to_string()))?;
    Ok(format!("{{\"object\":\"response.input_tokens\",\"input_tokens\":{}}}", count.input_tokens))
}

/// A request without what a count of its tokens does not take.
pub fn countable(body: &str) -> String {
    const TAKEN: [&str; 7] =
        ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"];
    let Ok(members) = serde_json::from_str::<Members>(body) else { return body.to_owned() };
    let mut out = Members::default();
    for (key, raw) in members.iter().filter(|(key, _)| TAKEN.contains(key)) {
        out.set(key, raw);
    }
    out.write()
}
