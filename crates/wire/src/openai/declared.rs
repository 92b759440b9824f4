//! Tools as requests declare them, in the words of any of the three dialects.
//!
//! A function is wrapped in Chat and flat in Responses, and has an `input_schema` in Messages; a
//! custom tool takes text; a namespace holds others; the kinds with a date are Anthropic's own.
//! What OpenAI runs itself is left out beside other tools: it must not cost the request.

use std::borrow::Cow;

use super::Terms;
use super::choice::{SEARCH, called, is_search};
use super::draft::Draft;
use super::names;
use super::schema;
use super::tools::Tool;
use crate::Fault;
use crate::json::{Node, Patch, RawObject, quote};
use crate::read::{
    Path, array, count, flag, member, object, string, text, unsupported, verbatim, wrong,
};

/// Members of Messages' tools that clients may add to theirs.
const EXTRAS: [&str; 5] = [
    "defer_loading",
    "eager_input_streaming",
    "input_examples",
    "allowed_callers",
    "cache_control",
];

/// The tool by which a client lets its tools be searched.
const FINDER: &str = "tool_search";

/// Whether a tool may be declared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Refused,
    /// What comes with the conversation is found again, or said anew: the last word counts.
    Replaces,
}

/// Reads tools into a draft.
pub(crate) struct Collector<'d, 'a, 't> {
    draft: &'d mut Draft<'a>,
    terms: &'d Terms<'t>,
    /// How many searches an answer may have.
    searches: Option<u64>,
    again: Again,
    /// What the client calls the list, for notes.
    place: &'static str,
    /// What is said of namespaces, which Messages has no place for.
    pub about: Vec<String>,
}

impl<'d, 'a, 't> Collector<'d, 'a, 't> {
    pub(crate) fn new(
        draft: &'d mut Draft<'a>,
        terms: &'d Terms<'t>,
        again: Again,
        place: &'static str,
    ) -> Self {
        Self { draft, terms, searches: None, again, place, about: Vec::new() }
    }

    /// A member of a tool, for a note.
    fn noted(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }

    /// Lets an answer have only so many searches.
    pub(crate) fn with_searches(mut self, most: Option<u64>) -> Self {
        self.searches = most;
        self
    }

    /// Reads a list of tools.
    pub(crate) fn list(&mut self, list: &Node<'a>, path: Path<'_>) -> Result<(), Fault> {
        for (index, node) in array(list, path)?.iter().enumerate() {
            let path = path.at(index);
            self.tool(node, &object(node, path)?, path)?;
        }
        Ok(())
    }

    fn tool(&mut self, node: &Node<'a>, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let kind = member(tool, "type").map(|node| string(&node, path.key("type"))).transpose()?;
        let wrapped = member(tool, "function");
        match kind.as_deref() {
            None | Some("function") if wrapped.is_some() => {
                let (function, path) =
                    (wrapped.unwrap_or_else(|| node.clone()), path.key("function"));
                self.function(&object(&function, path)?, tool, path)
            }
            None | Some("function" | "custom") if member(tool, "input_schema").is_some() => {
                self.function(tool, tool, path)
            }
            None if member(tool, "name").is_some() => self.function(tool, tool, path),
            Some("function")
                if member(tool, "name").is_some() || self.draft.toolbox.knows_spaces =>
            {
                self.function(tool, tool, path)
            }
            None | Some("function") => Err(wrong(path.key("function"), "field required")),
            Some("custom") => self.custom(tool, path),
            Some("namespace") => self.namespace(tool, path),
            Some(FINDER)
                if member(tool, "execution").is_some_and(|node| node.raw() == "\"client\"") =>
            {
                self.finder(tool, path)
            }
            Some(kind) if is_search(kind) => self.web_search(kind, tool, path),
            Some(kind) if is_anthropics(kind) => self.server(node, tool, path),
            Some(kind) => self.leave_out(
                kind,
                tool,
                path,
                format!("tools of type `{kind}` are not supported; describe it as a `function`"),
            ),
        }
    }

    /// What cannot be had must not cost what can.
    fn leave_out(
        &mut self,
        kind: &str,
        tool: &RawObject<'_>,
        path: Path<'_>,
        why: String,
    ) -> Result<(), Fault> {
        let fault = unsupported(path.key("type"), why);
        if self.terms.strict {
            return Err(fault);
        }
        let toolbox = &mut self.draft.toolbox;
        toolbox.refused.get_or_insert(fault);
        toolbox.gone.insert(called(kind).to_owned());
        toolbox
            .gone
            .extend(member(tool, "name").and_then(|node| node.as_str()).map(Cow::into_owned));
        self.draft.notes.left_out(format!("{}.{}", self.place, called(kind)))
    }

    /// Adds a tool, or puts it in the place of an earlier one where it may be declared again.
    fn add(&mut self, mut tool: Tool<'a>, path: Path<'_>) -> Result<(), Fault> {
        if self.again == Again::Replaces {
            // The tool has been found, or never had to be.
            if std::mem::take(&mut tool.deferred) && self.place == "input.additional_tools.tools" {
                self.draft.notes.mention("input.additional_tools.tools.defer_loading", "ignored");
            }
            self.draft.toolbox.forget(&tool.name);
        }
        self.draft.toolbox.add(tool, path)
    }

    fn name(tool: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
        let node = member(tool, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
        let name = string(&node, path.key("name"))?;
        if name.is_empty() {
            Err(wrong(path.key("name"), "a tool has to have a name"))
        } else {
            Ok(name)
        }
    }

    /// A function. `spec` has its name and parameters, `around` is the tool that holds it.
    fn function(
        &mut self,
        spec: &RawObject<'a>,
        around: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<(), Fault> {
        let at = |key: &'static str| path.key(key);
        let name = Self::name(spec, path)?;
        let key = schema_key(spec);
        let given = member(spec, key);
        let parameters = schema::parameters(given.as_ref(), at(key))?;
        if parameters.merged {
            self.draft.notes.say(self.noted(key), "merged into one object")?;
        }
        let (upstream, whole) = self.draft.toolbox.name(&name);
        let mut out = format!("{{\"name\":{}", quote(&upstream));
        if let Some(description) = described(spec, parameters.told.as_deref(), at("description"))? {
            out.push_str(",\"description\":");
            out.push_str(&description);
        }
        out.push_str(",\"input_schema\":");
        out.push_str(&parameters.text);
        let strict = member(spec, "strict").or_else(|| member(around, "strict"));
        if strict.map(|node| flag(&node, at("strict"))).transpose()? == Some(true) {
            // The schema that is sent has to be one that calls can be held to.
            let sent = Node::whole(&parameters.text).filter(|_| {
                self.terms.traits.structured == Some(true) && !parameters.merged && given.is_some()
            });
            let admitted =
                sent.is_some_and(|schema| self.draft.toolbox.strict.admits_tool(&schema));
            if admitted {
                out.push_str(",\"strict\":true");
            } else {
                self.draft.notes.left_out(
                    if self.place == "tools" || self.place == "functions" {
                        at("strict").to_string()
                    } else {
                        self.noted("strict")
                    },
                )?;
            }
        }
        let extra = |key: &str| member(around, key).or_else(|| member(spec, key));
        for key in
            EXTRAS.into_iter().filter(|key| !matches!(*key, "cache_control" | "defer_loading"))
        {
            if let Some(node) = extra(key) {
                out.push_str(&format!(",\"{key}\":{}", verbatim(&node, at(key))?));
            }
        }
        self.more(spec, around, key, path, &mut out)?;
        out.push('}');
        let mark =
            extra("cache_control").map(|node| verbatim(&node, at("cache_control"))).transpose()?;
        let deferred =
            extra("defer_loading").map(|node| flag(&node, at("defer_loading"))).transpose()?
                == Some(true);
        self.add(Tool { name: whole, text: out, mark, deferred }, path)
    }

    /// What a function has besides: a tool in Messages' words keeps it, of others it is noted.
    fn more(
        &mut self,
        spec: &RawObject<'a>,
        around: &RawObject<'a>,
        schema: &str,
        path: Path<'_>,
        out: &mut String,
    ) -> Result<(), Fault> {
        const KNOWN: [&str; 7] =
            ["type", "function", "name", "description", "parameters", "input_schema", "strict"];
        let native = schema == "input_schema"
            && member(spec, "type").is_none_or(|kind| kind.raw() != "\"function\"");
        let same = std::ptr::eq(spec, around);
        for (key, node) in spec.members().chain(around.members().filter(|_| !same)) {
            if KNOWN.contains(&key) || EXTRAS.contains(&key) || node.is_null() {
                continue;
            }
            if native {
                out.push_str(&format!(",{}:{}", quote(key), verbatim(&node, path)?));
            } else {
                self.draft.notes.ignored(self.noted(key))?;
            }
        }
        Ok(())
    }

    /// One of Anthropic's own tools, or of a kind that is newer than this gateway.
    fn server(
        &mut self,
        node: &Node<'a>,
        tool: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<(), Fault> {
        let name = member(tool, "name")
            .map(|node| string(&node, path.key("name")))
            .transpose()?
            .unwrap_or_default();
        let mark = member(tool, "cache_control")
            .map(|node| verbatim(&node, path.key("cache_control")))
            .transpose()?;
        let deferred =
            member(tool, "defer_loading").is_some_and(|node| node.as_bool() == Some(true));
        let raw = verbatim(node, path)?;
        let text = if mark.is_some() || deferred {
            without(&raw, &["cache_control", "defer_loading"])
        } else {
            raw.into_owned()
        };
        self.add(Tool { name: name.into_owned(), text, mark, deferred }, path)
    }

    /// Messages knows no namespaces, so their tools are called after them.
    fn namespace(&mut self, space: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let name =
            member(space, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?;
        let name = string(&name, path.key("name"))?.into_owned();
        if name.is_empty() {
            return Err(wrong(path.key("name"), "a namespace has to have a name"));
        }
        if self.draft.toolbox.space.is_some() {
            return Err(wrong(path, "a namespace cannot hold another"));
        }
        let list =
            member(space, "tools").ok_or_else(|| wrong(path.key("tools"), "field required"))?;
        self.draft.notes.unknown(space, &["type", "name", "description", "tools"], self.place)?;
        if let Some(node) = member(space, "description") {
            let said = string(&node, path.key("description"))?;
            if !said.trim().is_empty() {
                self.about.push(format!(
                    "About the tools whose names begin with `{}`: {said}",
                    names::within(&name, "")
                ));
            }
        }
        self.draft.toolbox.space = Some(name);
        let read = self.list(&list, path.key("tools"));
        self.draft.toolbox.space = None;
        read
    }

    /// A tool that takes text becomes one with a single text for its argument.
    fn custom(&mut self, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let wrapped = member(tool, "custom");
        let (spec, path) = match &wrapped {
            Some(node) => (&object(node, path.key("custom"))?, path.key("custom")),
            None => (tool, path),
        };
        let name = Self::name(spec, path)?;
        self.draft.notes.unknown(
            spec,
            &["type", "name", "description", "format", "cache_control", "defer_loading"],
            self.place,
        )?;
        let mut description = member(spec, "description")
            .map(|node| string(&node, path.key("description")))
            .transpose()?
            .unwrap_or_default()
            .into_owned();
        if let Some(node) = member(spec, "format") {
            self.told(&mut description, &object(&node, path.key("format"))?, path.key("format"))?;
        }
        let schema = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as plain text"}},"required":["input"]}"#;
        let upstream = self.written(&name, &description, schema, tool, path)?;
        self.draft.toolbox.calls.custom.insert(upstream);
        Ok(())
    }

    /// Adds a tool with a schema of ours or of the client's. Returns how it is called upstream.
    fn written(
        &mut self,
        name: &str,
        description: &str,
        schema: &str,
        holder: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<String, Fault> {
        let about = if description.is_empty() {
            String::new()
        } else {
            format!("\"description\":{},", quote(description))
        };
        let mark = member(holder, "cache_control")
            .map(|node| verbatim(&node, path.key("cache_control")))
            .transpose()?;
        let deferred =
            member(holder, "defer_loading").is_some_and(|node| node.as_bool() == Some(true));
        let (upstream, whole) = self.draft.toolbox.name(name);
        let text = format!("{{\"name\":{},{about}\"input_schema\":{schema}}}", quote(&upstream));
        self.add(Tool { name: whole, text, mark, deferred }, path)?;
        Ok(upstream)
    }

    /// A grammar cannot be enforced, so it is told.
    fn told(
        &mut self,
        description: &mut String,
        format: &RawObject<'_>,
        path: Path<'_>,
    ) -> Result<(), Fault> {
        let kind =
            member(format, "type").ok_or_else(|| wrong(path.key("type"), "field required"))?;
        match &*string(&kind, path.key("type"))? {
            "text" => return Ok(()),
            "grammar" => {}
            other => {
                return Err(wrong(
                    path.key("type"),
                    format!("`{other}` is no format; expected `text` or `grammar`"),
                ));
            }
        }
        let wrapped =
            member(format, "grammar").map(|node| object(&node, path.key("grammar"))).transpose()?;
        let grammar = wrapped.as_ref().unwrap_or(format);
        let definition = member(grammar, "definition")
            .ok_or_else(|| wrong(path.key("definition"), "field required"))?;
        let syntax = member(grammar, "syntax")
            .map(|node| string(&node, path.key("syntax")))
            .transpose()?
            .unwrap_or_default();
        let gap = if description.is_empty() { "" } else { "\n\n" };
        description.push_str(&format!(
            "{gap}The input has to follow this grammar ({syntax}):\n{}",
            string(&definition, path.key("definition"))?
        ));
        self.draft.notes.say(self.noted("format"), "put into the description")
    }

    /// The client's own search among its tools.
    fn finder(&mut self, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        if self.draft.toolbox.calls.finder.is_some() && self.again == Again::Refused {
            return Err(wrong(path, "there is another `tool_search` already"));
        }
        self.draft.notes.unknown(
            tool,
            &["type", "execution", "description", "parameters", "cache_control"],
            self.place,
        )?;
        let description = member(tool, "description")
            .map(|node| string(&node, path.key("description")))
            .transpose()?
            .unwrap_or_default();
        let parameters =
            schema::parameters(member(tool, "parameters").as_ref(), path.key("parameters"))?;
        let upstream = self.written(FINDER, &description, &parameters.text, tool, path)?;
        self.draft.toolbox.calls.finder = Some(upstream);
        Ok(())
    }

    /// Writes from where is searched, and where.
    fn search_limits(
        &mut self,
        tool: &RawObject<'a>,
        path: Path<'_>,
        text: &mut String,
    ) -> Result<(), Fault> {
        if let Some(location) = member(tool, "user_location") {
            let path = path.key("user_location");
            let holder = object(&location, path)?;
            let inner =
                member(&holder, "approximate").map(|node| object(&node, path)).transpose()?;
            let location = inner.as_ref().unwrap_or(&holder);
            self.draft.notes.unknown(
                location,
                &["type", "city", "region", "country", "timezone"],
                &self.noted("user_location"),
            )?;
            text.push_str(",\"user_location\":");
            text.push_str(&place(location, path)?);
        }
        if let Some(node) = member(tool, "filters") {
            let filters = object(&node, path.key("filters"))?;
            for key in ["allowed_domains", "blocked_domains"] {
                if let Some(domains) = member(&filters, key) {
                    text.push_str(&format!(
                        ",\"{key}\":{}",
                        verbatim(&domains, path.key("filters"))?
                    ));
                }
            }
            self.draft.notes.unknown(
                &filters,
                &["allowed_domains", "blocked_domains"],
                &self.noted("filters"),
            )?;
        }
        Ok(())
    }

    fn web_search(
        &mut self,
        kind: &str,
        tool: &RawObject<'a>,
        path: Path<'_>,
    ) -> Result<(), Fault> {
        // Claude's searches go out; a client that wants none of that wants none of them.
        if member(tool, "external_web_access")
            .map(|node| flag(&node, path.key("external_web_access")))
            .transpose()?
            == Some(false)
        {
            self.draft.toolbox.gone.insert(SEARCH.to_owned());
            return self.draft.notes.left_out(self.noted("web_search"));
        }
        let Some(server) = self.terms.web_search else {
            let why = "web searches are not configured here; whoever runs this gateway can set `web_search` for the upstream";
            return self.leave_out(
                kind,
                tool,
                path,
                format!("tools of type `web_search` are not supported: {why}"),
            );
        };
        let mut text = format!("{{\"type\":{},\"name\":\"web_search\"", quote(server));
        if let Some(most) = self.searches {
            text.push_str(&format!(",\"max_uses\":{most}"));
        }
        self.search_limits(tool, path, &mut text)?;
        if member(tool, "search_context_size").is_some_and(|size| size.raw() != "\"medium\"") {
            self.draft.notes.ignored(self.noted("search_context_size"))?;
        }
        text.push('}');
        self.draft.notes.unknown(
            tool,
            &["type", "user_location", "filters", "search_context_size", "external_web_access"],
            self.place,
        )?;
        self.add(Tool { name: SEARCH.to_owned(), text, mark: None, deferred: false }, path)
    }
}

/// Where a user is, as Messages has it.
pub(crate) fn place(location: &RawObject<'_>, path: Path<'_>) -> Result<String, Fault> {
    let mut text = "{\"type\":\"approximate\"".to_owned();
    for key in ["city", "region", "country", "timezone"] {
        if let Some(node) = member(location, key) {
            text.push_str(&format!(",\"{key}\":{}", verbatim(&node, path)?));
        }
    }
    text.push('}');
    Ok(text)
}

/// How many searches an answer may have.
pub(crate) fn searches(source: &RawObject<'_>) -> Result<Option<u64>, Fault> {
    member(source, "max_tool_calls").map(|node| count(&node, "max_tool_calls")).transpose()
}

/// The types of Anthropic's own tools end with a date, but for sets of an MCP server's.
fn is_anthropics(kind: &str) -> bool {
    kind == "mcp_toolset"
        || kind.rsplit_once('_').is_some_and(|(name, date)| {
            !name.is_empty() && date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// A description, and what the parameters could not say; as JSON.
fn described<'a>(
    spec: &RawObject<'a>,
    told: Option<&str>,
    path: Path<'_>,
) -> Result<Option<Cow<'a, str>>, Fault> {
    let own = member(spec, "description").map(|node| text(&node, path)).transpose()?;
    Ok(match (own, told) {
        (own, None) => own.map(|own| Cow::Owned(own.raw().to_owned())),
        (own, Some(told)) => {
            let before = own.map_or_else(String::new, |own| format!("{}\n\n", own.decoded()));
            Some(Cow::Owned(quote(&format!(
                "{before}The input also has to fit this JSON Schema: {told}"
            ))))
        }
    })
}

/// An object's text without some of its members.
pub(super) fn without(raw: &str, keys: &[&str]) -> String {
    let Ok(object) = RawObject::parse(raw.as_bytes()) else { return raw.to_owned() };
    let mut patch = Patch::new(raw);
    patch.members(&object, keys, &[]);
    patch.apply()
}

/// Where a function keeps its schema: a tool in Messages' words has its own name for it.
fn schema_key(spec: &RawObject<'_>) -> &'static str {
    if member(spec, "parameters").is_none() && member(spec, "input_schema").is_some() {
        "input_schema"
    } else {
        "parameters"
    }
}
