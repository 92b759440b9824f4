//! A response in the making: items, and the events that tell of them.
//!
//! One item is open at a time: a message is closed before anything else is added. What is written as an event and
//! what stands in the final object are made from the same pieces, so they cannot differ.

use super::events::EventWriter;
use super::{ResponsesShape, ResponsesStamp};
use crate::StopReason;
use crate::Usage;
use crate::json::{Text, quote};
use crate::openai::pieces::{custom_input, one_line};
use crate::openai::{seal, usage};

/// The message that is open.
#[derive(Debug)]
struct MessageItem {
    id: String,
    parts: Vec<String>,
}

/// A search that is open.
#[derive(Debug)]
struct Search {
    id: String,
    query: String,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseStatus {
    InProgress,
    Completed,
    Incomplete(&'static str),
    Failed,
}

impl ResponseStatus {
    pub(super) fn of(reason: Option<&StopReason>) -> Self {
        match reason {
            // A turn that pauses is not over: its answer must not look whole.
            Some(
                StopReason::MaxTokens | StopReason::ContextWindowExceeded | StopReason::PauseTurn,
            ) => Self::Incomplete("max_output_tokens"),
            Some(StopReason::Refusal) => Self::Incomplete("content_filter"),
            // What is newer than this gateway is an end like any other.
            Some(
                StopReason::EndTurn
                | StopReason::StopSequence
                | StopReason::ToolUse
                | StopReason::Other(_),
            )
            | None => Self::Completed,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// A reasoning item that is open; its summary began with its first text.
#[derive(Debug)]
pub(super) struct Reasoning {
    id: String,
    /// JSON, without quotes.
    summary: Option<String>,
}

/// What a call is to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Function,
    /// Its argument is text.
    Custom,
    /// It searches the client's own tools.
    Search,
}

impl Manner {
    /// How ids of its items begin, its kind, and the member that has what it is called with.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Function => ("fc", "function_call", "arguments"),
            Self::Custom => ("ctc", "custom_tool_call", "input"),
            Self::Search => ("tsc", "tool_search_call", "arguments"),
        }
    }
}

/// A call that is open.
#[derive(Debug)]
pub(super) struct CallItem {
    id: String,
    /// By which its result names it.
    asked: String,
    name: String,
    space: Option<String>,
    pub(super) manner: Manner,
    /// JSON, without quotes: the arguments as they came.
    arguments: String,
}

/// A text part that is open.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// JSON, without quotes.
    text: String,
    /// In characters.
    length: usize,
}

/// A response in the making.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) shape: ResponsesShape,
    stamp: ResponsesStamp,
    pub(super) model: String,
    pub(super) tier: Option<String>,
    done: Vec<String>,
    message: Option<MessageItem>,
    search: Option<Search>,
    pub(super) events: EventWriter,
}

impl Output {
    pub(super) fn new(shape: ResponsesShape, stamp: ResponsesStamp) -> Self {
        Self {
            shape,
            stamp,
            model: String::new(),
            tier: None,
            done: Vec::new(),
            message: None,
            search: None,
            events: EventWriter::default(),
        }
    }

    fn item_event(&mut self, kind: &str, item: &str) {
        self.events.item(kind, self.done.len(), item);
    }

    /// An event about a part of the item that is open.
    fn part_event(&mut self, kind: &str, id: &str, pieces: &[&str]) {
        self.events.part(kind, id, self.done.len(), None, pieces);
    }

    /// An event about the part of the message that is open.
    fn text_event(&mut self, kind: &str, pieces: &[&str]) {
        if let Some(message) = &self.message {
            self.events.part(kind, &message.id, self.done.len(), Some(message.parts.len()), pieces);
        }
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.stamp.id, self.done.len())
    }

    fn add(&mut self, item: String) {
        self.item_event("response.output_item.done", &item);
        self.done.push(item);
    }

    /// The first two events.
    pub(super) fn begin(&mut self) {
        let object = self.object(ResponseStatus::InProgress, None, None);
        self.events.whole("response.created", &object);
        self.events.whole("response.in_progress", &object);
    }

    // ------------------------------------------------------------ text

    /// Opens a part, and a message around it where there is none.
    pub(super) fn open_part(&mut self) -> Part {
        self.end_search(false);
        if self.message.is_none() {
            let id = self.id("msg");
            self.item_event("response.output_item.added", &format!("{{\"id\":\"{id}\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}"));
            self.message = Some(MessageItem { id, parts: Vec::new() });
        }
        self.text_event("response.content_part.added", &[",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[],\"logprobs\":[]}"]);
        Part::default()
    }

    pub(super) fn text(&mut self, part: &mut Part, text: &Text<'_>) {
        part.text.push_str(text.inner());
        part.length += text.count();
        self.text_event(
            "response.output_text.delta",
            &[",\"delta\":", text.raw(), ",\"logprobs\":[]"],
        );
    }

    /// Closes a part. `citations` are places and titles, as JSON.
    pub(super) fn close_part(&mut self, part: &Part, citations: &[(String, String)]) {
        let annotation = |(url, title): &(String, String)| {
            format!(
                "{{\"type\":\"url_citation\",\"start_index\":0,\"end_index\":{},\"url\":{},\"title\":{}}}",
                part.length,
                quote(url),
                quote(title)
            )
        };
        let annotations: Vec<String> = citations.iter().map(annotation).collect();
        for (number, annotation) in annotations.iter().enumerate() {
            self.text_event(
                "response.output_text.annotation.added",
                &[&format!(",\"annotation_index\":{number},\"annotation\":"), annotation],
            );
        }
        self.text_event(
            "response.output_text.done",
            &[",\"text\":\"", &part.text, "\",\"logprobs\":[]"],
        );
        let written = format!(
            "{{\"type\":\"output_text\",\"text\":\"{}\",\"annotations\":[{}],\"logprobs\":[]}}",
            part.text,
            annotations.join(",")
        );
        self.text_event("response.content_part.done", &[",\"part\":", &written]);
        if let Some(message) = &mut self.message {
            message.parts.push(written);
        }
    }

    /// Closes the message, if one is open.
    fn end_message(&mut self, status: &str) {
        if let Some(MessageItem { id, parts }) = self.message.take() {
            self.add(format!("{{\"id\":\"{id}\",\"type\":\"message\",\"status\":\"{status}\",\"role\":\"assistant\",\"content\":[{}]}}", parts.join(",")));
        }
    }

    /// Closes what has to be closed before another item.
    fn make_room(&mut self) {
        self.end_message("completed");
        self.end_search(false);
    }

    // ------------------------------------------------------------ thinking

    pub(super) fn open_reasoning(&mut self) -> Reasoning {
        self.make_room();
        let id = self.id("rs");
        self.item_event(
            "response.output_item.added",
            &format!("{{\"id\":\"{id}\",\"type\":\"reasoning\",\"summary\":[]}}"),
        );
        Reasoning { id, summary: None }
    }

    pub(super) fn thought(&mut self, reasoning: &mut Reasoning, text: &Text<'_>) {
        if reasoning.summary.is_none() {
            self.part_event(
                "response.reasoning_summary_part.added",
                &reasoning.id,
                &[",\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}"],
            );
        }
        reasoning.summary.get_or_insert_default().push_str(text.inner());
        self.part_event(
            "response.reasoning_summary_text.delta",
            &reasoning.id,
            &[",\"summary_index\":0,\"delta\":", text.raw()],
        );
    }

    /// Closes a reasoning item; `block` is what was thought, as Messages has it, if it can be sent back.
    pub(super) fn close_reasoning(&mut self, reasoning: &Reasoning, block: Option<&str>) {
        let mut summary = String::new();
        if let Some(text) = &reasoning.summary {
            let part = format!("{{\"type\":\"summary_text\",\"text\":\"{text}\"}}");
            self.part_event(
                "response.reasoning_summary_text.done",
                &reasoning.id,
                &[",\"summary_index\":0,\"text\":\"", text, "\""],
            );
            self.part_event(
                "response.reasoning_summary_part.done",
                &reasoning.id,
                &[",\"summary_index\":0,\"part\":", &part],
            );
            summary = part;
        }
        let sealed = block.filter(|_| self.shape.encrypted).map_or_else(String::new, |block| {
            format!(",\"encrypted_content\":{}", quote(&seal::seal(&self.model, block)))
        });
        self.add(format!(
            "{{\"id\":\"{}\",\"type\":\"reasoning\",\"summary\":[{summary}]{sealed}}}",
            reasoning.id
        ));
    }

    /// What Claude made of a long conversation, in a form that can be returned. `block` is that, as Messages has it.
    pub(super) fn compaction(&mut self, block: &str) {
        self.make_room();
        let id = self.id("cmp");
        let item = |sealed: &str| {
            format!(
                "{{\"id\":\"{id}\",\"type\":\"compaction\",\"encrypted_content\":{}}}",
                quote(sealed)
            )
        };
        let whole = item(&seal::seal(&self.model, block));
        self.item_event("response.output_item.added", &item(""));
        self.add(whole);
    }

    // ------------------------------------------------------------ calls

    pub(super) fn open_call(&mut self, call_id: &str, upstream: &str) -> CallItem {
        self.make_room();
        let name = self.shape.names.client(upstream).to_owned();
        let space = self.shape.names.space(upstream).map(str::to_owned);
        let manner = match &self.shape.calls {
            calls if calls.finder.as_deref() == Some(upstream) => Manner::Search,
            calls if calls.custom.contains(upstream) => Manner::Custom,
            _ => Manner::Function,
        };
        let call = CallItem {
            id: self.id(manner.words().0),
            asked: call_id.to_owned(),
            name,
            space,
            manner,
            arguments: String::new(),
        };
        let item = call.write(if manner == Manner::Search { "{}" } else { "\"\"" }, "in_progress");
        self.item_event("response.output_item.added", &item);
        call
    }

    pub(super) fn arguments(&mut self, call: &mut CallItem, text: &Text<'_>) {
        call.arguments.push_str(text.inner());
        // Text that stands in the place of arguments, and an object of them, cannot be told before they are whole.
        if call.manner == Manner::Function {
            self.part_event(
                "response.function_call_arguments.delta",
                &call.id,
                &[",\"delta\":", text.raw()],
            );
        }
    }

    /// Closes a call, which may be known to be cut off. True if its arguments are whole.
    pub(super) fn close_call(&mut self, call: CallItem, cut: bool) -> bool {
        let written = Text::of_cow(format!("\"{}\"", call.arguments).into())
            .map(|text| text.decoded().into_owned())
            .unwrap_or_default();
        let whole = !cut && serde_json::from_str::<serde::de::IgnoredAny>(&written).is_ok();
        let status = if whole { "completed" } else { "incomplete" };
        let said = match call.manner {
            Manner::Function => format!("\"{}\"", call.arguments),
            Manner::Custom => quote(&custom_input(&written)),
            Manner::Search if whole && written.starts_with('{') => one_line(&written),
            Manner::Search => "{}".to_owned(),
        };
        match call.manner {
            Manner::Function => self.part_event(
                "response.function_call_arguments.done",
                &call.id,
                &[",\"name\":", &quote(&call.name), ",\"arguments\":", &said],
            ),
            Manner::Custom => {
                self.part_event(
                    "response.custom_tool_call_input.delta",
                    &call.id,
                    &[",\"delta\":", &said],
                );
                self.part_event(
                    "response.custom_tool_call_input.done",
                    &call.id,
                    &[",\"input\":", &said],
                );
            }
            Manner::Search => {}
        }
        let item = call.write(&said, status);
        self.add(item);
        whole
    }

    // ------------------------------------------------------------ searches

    /// A search that the upstream runs itself.
    pub(super) fn open_search(&mut self, query: &str) {
        self.make_room();
        let search = Search { id: self.id("ws"), query: query.to_owned() };
        let item = search.write("in_progress");
        self.item_event("response.output_item.added", &item);
        for kind in ["response.web_search_call.in_progress", "response.web_search_call.searching"] {
            self.part_event(kind, &search.id, &[]);
        }
        self.search = Some(search);
    }

    /// Closes the search that is open, if one is: with results or without.
    pub(super) fn end_search(&mut self, found: bool) {
        if let Some(search) = self.search.take() {
            if found {
                self.part_event("response.web_search_call.completed", &search.id, &[]);
            }
            self.add(search.write(if found { "completed" } else { "failed" }));
        }
    }

    // ------------------------------------------------------------ the end

    /// Ends what is open; returns the whole object, which nobody was told of yet.
    pub(super) fn end(&mut self, status: ResponseStatus, usage: &Usage) -> String {
        self.end_search(false);
        self.end_message(if status == ResponseStatus::Completed {
            "completed"
        } else {
            "incomplete"
        });
        self.object(status, Some(usage), None)
    }

    /// Writes the last event.
    pub(super) fn tell(&mut self, status: ResponseStatus, object: &str) {
        let kind = if status == ResponseStatus::Completed {
            "response.completed"
        } else {
            "response.incomplete"
        };
        self.events.whole(kind, object);
    }

    /// Tells that there is no whole answer. Items that are open stay so.
    pub(super) fn fail(&mut self, code: &str, message: &str, usage: &Usage) {
        let error = format!("{{\"code\":{},\"message\":{}}}", quote(code), quote(message));
        let object = self.object(ResponseStatus::Failed, Some(usage), Some(&error));
        self.events.whole("response.failed", &object);
    }

    fn object(&self, status: ResponseStatus, spent: Option<&Usage>, error: Option<&str>) -> String {
        let over = matches!(status, ResponseStatus::Completed | ResponseStatus::Incomplete(_));
        let completed = if status == ResponseStatus::Completed {
            (self.stamp.clock)().to_string()
        } else {
            "null".into()
        };
        let details = if let ResponseStatus::Incomplete(reason) = status {
            format!("{{\"reason\":\"{reason}\"}}")
        } else {
            "null".into()
        };
        let mut counts = String::from("null");
        if let Some(spent) = spent.filter(|_| over) {
            counts.clear();
            usage::write_responses(&mut counts, spent);
        }
        let output =
            if status == ResponseStatus::InProgress { String::new() } else { self.done.join(",") };
        let mut out = format!(
            "{{\"id\":\"resp_{}\",\"object\":\"response\",\"created_at\":{},\"status\":\"{}\",\"background\":false,\"completed_at\":{completed},\"error\":{},\"incomplete_details\":{details},\"model\":{},\"output\":[{output}],\"usage\":{counts}",
            self.stamp.id,
            self.stamp.created,
            status.name(),
            error.unwrap_or("null"),
            quote(&self.model),
        );
        for (key, raw) in self.shape.echo.iter() {
            let served = self.tier.as_deref().filter(|_| key == "service_tier").map(quote);
            out.push_str(&format!(",\"{key}\":{}", served.as_deref().unwrap_or(raw)));
        }
        out.push('}');
        out
    }
}

impl Part {
    /// True if the part is blank.
    pub(super) fn is_blank(&self) -> bool {
        Text::of_cow(format!("\"{}\"", self.text).into()).is_none_or(|text| text.is_blank())
    }
}

impl CallItem {
    /// The item; `said` is what it is called with, as JSON.
    fn write(&self, said: &str, status: &str) -> String {
        let (id, call_id, (_, kind, member)) = (&self.id, quote(&self.asked), self.manner.words());
        if self.manner == Manner::Search {
            return format!(
                "{{\"id\":\"{id}\",\"type\":\"{kind}\",\"status\":\"{status}\",\"call_id\":{call_id},\"execution\":\"client\",\"{member}\":{said}}}"
            );
        }
        let space = self
            .space
            .as_ref()
            .map_or_else(String::new, |space| format!(",\"namespace\":{}", quote(space)));
        format!(
            "{{\"id\":\"{id}\",\"type\":\"{kind}\",\"status\":\"{status}\",\"call_id\":{call_id},\"name\":{}{space},\"{member}\":{said}}}",
            quote(&self.name)
        )
    }
}

impl Search {
    fn write(&self, status: &str) -> String {
        format!(
            "{{\"id\":\"{}\",\"type\":\"web_search_call\",\"status\":\"{status}\",\"action\":{{\"type\":\"search\",\"query\":{}}}}}",
            self.id,
            quote(&self.query)
        )
    }
}
