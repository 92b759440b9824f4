//! A response in the making: items, and the events that tell of them.
//!
//! One item is open at a time: a message is closed before anything else is added. What is written as an event and
//! what stands in the final object are made from the same pieces, so they cannot differ.

use super::events::Events;
use super::{Shape, Stamp, seal};
use crate::StopReason;
use crate::Usage;
use crate::json::{Text, quote};
use crate::openai::usage;

/// The message that is open.
#[derive(Debug)]
struct Message {
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
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete(&'static str),
    Failed,
}

impl Status {
    pub(super) fn of(reason: Option<&StopReason>) -> Self {
        match reason {
            Some(StopReason::MaxTokens | StopReason::ContextWindowExceeded) => Self::Incomplete("max_output_tokens"),
            Some(StopReason::Refusal) => Self::Incomplete("content_filter"),
            // What is newer than this gateway is an end like any other.
            Some(StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse | StopReason::PauseTurn | StopReason::Other(_)) | None => Self::Completed,
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

/// A call that is open.
#[derive(Debug)]
pub(super) struct Call {
    id: String,
    /// By which its result names it.
    asked: String,
    name: String,
    space: Option<String>,
    /// Its argument is text.
    pub(super) custom: bool,
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
    pub(super) shape: Shape,
    stamp: Stamp,
    pub(super) model: String,
    pub(super) tier: Option<String>,
    done: Vec<String>,
    message: Option<Message>,
    search: Option<Search>,
    pub(super) events: Events,
}

impl Output {
    pub(super) fn new(shape: Shape, stamp: Stamp) -> Self {
        Self { shape, stamp, model: String::new(), tier: None, done: Vec::new(), message: None, search: None, events: Events::default() }
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
        let object = self.object(Status::InProgress, None, None);
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
            self.message = Some(Message { id, parts: Vec::new() });
        }
        self.text_event("response.content_part.added", &[",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[],\"logprobs\":[]}"]);
        Part::default()
    }

    pub(super) fn text(&mut self, part: &mut Part, text: &Text<'_>) {
        part.text.push_str(text.inner());
        part.length += text.count();
        self.text_event("response.output_text.delta", &[",\"delta\":", text.raw(), ",\"logprobs\":[]"]);
    }

    /// Closes a part. `citations` are places and titles, as JSON.
    pub(super) fn close_part(&mut self, part: &Part, citations: &[(String, String)]) {
        let annotation = |(url, title): &(String, String)| {
            format!("{{\"type\":\"url_citation\",\"start_index\":0,\"end_index\":{},\"url\":{},\"title\":{}}}", part.length, quote(url), quote(title))
        };
        let annotations: Vec<String> = citations.iter().map(annotation).collect();
        for (number, annotation) in annotations.iter().enumerate() {
            self.text_event("response.output_text.annotation.added", &[&format!(",\"annotation_index\":{number},\"annotation\":"), annotation]);
        }
        self.text_event("response.output_text.done", &[",\"text\":\"", &part.text, "\",\"logprobs\":[]"]);
        let written = format!("{{\"type\":\"output_text\",\"text\":\"{}\",\"annotations\":[{}],\"logprobs\":[]}}", part.text, annotations.join(","));
        self.text_event("response.content_part.done", &[",\"part\":", &written]);
        if let Some(message) = &mut self.message {
            message.parts.push(written);
        }
    }

    /// Closes the message, if one is open.
    fn end_message(&mut self, status: &str) {
        if let Some(Message { id, parts }) = self.message.take() {
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
        self.item_event("response.output_item.added", &format!("{{\"id\":\"{id}\",\"type\":\"reasoning\",\"summary\":[]}}"));
        Reasoning { id, summary: None }
    }

    pub(super) fn thought(&mut self, reasoning: &mut Reasoning, text: &Text<'_>) {
        if reasoning.summary.is_none() {
            self.part_event("response.reasoning_summary_part.added", &reasoning.id, &[",\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}"]);
        }
        reasoning.summary.get_or_insert_default().push_str(text.inner());
        self.part_event("response.reasoning_summary_text.delta", &reasoning.id, &[",\"summary_index\":0,\"delta\":", text.raw()]);
    }

    /// Closes a reasoning item; `block` is what was thought, as Messages has it, if it can be sent back.
    pub(super) fn close_reasoning(&mut self, reasoning: &Reasoning, block: Option<&str>) {
        let mut summary = String::new();
        if let Some(text) = &reasoning.summary {
            let part = format!("{{\"type\":\"summary_text\",\"text\":\"{text}\"}}");
            self.part_event("response.reasoning_summary_text.done", &reasoning.id, &[",\"summary_index\":0,\"text\":\"", text, "\""]);
            self.part_event("response.reasoning_summary_part.done", &reasoning.id, &[",\"summary_index\":0,\"part\":", &part]);
            summary = part;
        }
        let sealed = block.filter(|_| self.shape.encrypted).map_or_else(String::new, |block| format!(",\"encrypted_content\":{}", quote(&seal::seal(&self.model, block))));
        self.add(format!("{{\"id\":\"{}\",\"type\":\"reasoning\",\"summary\":[{summary}]{sealed}}}", reasoning.id));
    }

    // ------------------------------------------------------------ calls

    pub(super) fn open_call(&mut self, call_id: &str, upstream: &str) -> Call {
        self.make_room();
        let name = self.shape.names.client(upstream).to_owned();
        let space = self.shape.names.space(upstream).map(str::to_owned);
        let custom = self.shape.custom.contains(upstream);
        let call = Call { id: self.id(if custom { "ctc" } else { "fc" }), asked: call_id.to_owned(), name, space, custom, arguments: String::new() };
        let item = call.write("", "in_progress");
        self.item_event("response.output_item.added", &item);
        call
    }

    pub(super) fn arguments(&mut self, call: &mut Call, text: &Text<'_>) {
        call.arguments.push_str(text.inner());
        // Text that stands in the place of arguments cannot be told before it is whole.
        if !call.custom {
            self.part_event("response.function_call_arguments.delta", &call.id, &[",\"delta\":", text.raw()]);
        }
    }

    /// Closes a call, which may be known to be cut off. True if its arguments are whole.
    pub(super) fn close_call(&mut self, call: Call, cut: bool) -> bool {
        let written = Text::of_cow(format!("\"{}\"", call.arguments).into()).map(|text| text.decoded().into_owned()).unwrap_or_default();
        let whole = !cut && serde_json::from_str::<serde::de::IgnoredAny>(&written).is_ok();
        let status = if whole { "completed" } else { "incomplete" };
        let (kind, member) = if call.custom { ("response.custom_tool_call_input.done", "input") } else { ("response.function_call_arguments.done", "arguments") };
        let said = if call.custom { quote(&custom_input(&written)) } else { format!("\"{}\"", call.arguments) };
        if call.custom {
            self.part_event("response.custom_tool_call_input.delta", &call.id, &[",\"delta\":", &said]);
        }
        let name = if call.custom { String::new() } else { format!(",\"name\":{}", quote(&call.name)) };
        self.part_event(kind, &call.id, &[&name, ",\"", member, "\":", &said]);
        let item = call.write(&said[1..said.len() - 1], status);
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

    /// Writes the last event; returns the whole object.
    pub(super) fn end(&mut self, status: Status, usage: &Usage) -> String {
        self.end_search(false);
        self.end_message(if status == Status::Completed { "completed" } else { "incomplete" });
        let object = self.object(status, Some(usage), None);
        let kind = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        self.events.whole(kind, &object);
        object
    }

    /// Tells that there is no whole answer. Items that are open stay so.
    pub(super) fn fail(&mut self, code: &str, message: &str, usage: &Usage) {
        let error = format!("{{\"code\":{},\"message\":{}}}", quote(code), quote(message));
        let object = self.object(Status::Failed, Some(usage), Some(&error));
        self.events.whole("response.failed", &object);
    }

    fn object(&self, status: Status, spent: Option<&Usage>, error: Option<&str>) -> String {
        let over = matches!(status, Status::Completed | Status::Incomplete(_));
        let completed = if status == Status::Completed { (self.stamp.clock)().to_string() } else { "null".into() };
        let details = if let Status::Incomplete(reason) = status { format!("{{\"reason\":\"{reason}\"}}") } else { "null".into() };
        let mut counts = String::from("null");
        if let Some(spent) = spent.filter(|_| over) {
            counts.clear();
            usage::write_responses(&mut counts, spent);
        }
        let output = if status == Status::InProgress { String::new() } else { self.done.join(",") };
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
    /// True if it says nothing.
    pub(super) fn is_blank(&self) -> bool {
        Text::of_cow(format!("\"{}\"", self.text).into()).is_none_or(|text| text.is_blank())
    }
}

impl Call {
    fn write(&self, said: &str, status: &str) -> String {
        let (id, kind, member) = (&self.id, if self.custom { "custom_tool_call" } else { "function_call" }, if self.custom { "input" } else { "arguments" });
        let space = self.space.as_ref().map_or_else(String::new, |space| format!(",\"namespace\":{}", quote(space)));
        let (call_id, name) = (quote(&self.asked), quote(&self.name));
        format!("{{\"id\":\"{id}\",\"type\":\"{kind}\",\"status\":\"{status}\",\"call_id\":{call_id},\"name\":{name}{space},\"{member}\":\"{said}\"}}")
    }
}

impl Search {
    fn write(&self, status: &str) -> String {
        format!("{{\"id\":\"{}\",\"type\":\"web_search_call\",\"status\":\"{status}\",\"action\":{{\"type\":\"search\",\"query\":{}}}}}", self.id, quote(&self.query))
    }
}

/// The text that a custom tool is called with. A model that writes something else is taken at its word.
fn custom_input(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Input {
        input: String,
    }
    match serde_json::from_str::<Input>(arguments) {
        Ok(given) => given.input,
        Err(_) if arguments == "{}" => String::new(),
        Err(_) => arguments.to_owned(),
    }
}
