//! Functions become tools; who may call which.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Terms;
use super::conversation::{Block, Kind};
use super::names::{self, Names};
use super::schema::Allowance;
use crate::Fault;
use crate::json::{Node, Patch, RawObject, Text, check, quote, without_lone_surrogates};
use crate::notes::Notes;
use crate::read::{Path, array, flag, listed, member, object, string, text, unsupported, verbatim, wrong};

/// Members of Messages' tools that clients may add to theirs.
const EXTRAS: [&str; 5] = ["defer_loading", "eager_input_streaming", "input_examples", "allowed_callers", "cache_control"];
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// A tool, with its cache mark kept apart.
#[derive(Debug)]
pub struct Tool<'a> {
    /// As the client calls it.
    name: String,
    /// The whole object but for its mark.
    pub text: String,
    pub mark: Option<Cow<'a, str>>,
}

impl Tool<'_> {
    /// True if that is the client's name for it.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name
    }
}

/// The tools of a request.
#[derive(Debug, Default)]
pub struct Toolbox<'a> {
    pub tools: Vec<Tool<'a>>,
    pub names: Names,
    /// The namespace that tools are being added to.
    pub space: Option<String>,
    /// The client's search was left out; who chooses it chooses nothing.
    pub without_search: bool,
    /// How the client calls them.
    taken: HashSet<String>,
    strict: Allowance,
}

/// Who may be called, as OpenAI says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Auto,
    None,
    Required,
    Named(String),
    /// Of these only; one of them must be if `required`.
    Allowed {
        names: Vec<String>,
        required: bool,
    },
}

/// How a choice is carried over.
#[derive(Debug, Default)]
pub struct Chosen<'a> {
    /// The value of `tool_choice`.
    pub written: Option<String>,
    /// A tool has to be called.
    pub forced: bool,
    /// What the system prompt has to say, where the model takes no such order.
    pub request: Option<Block<'a>>,
}

impl<'a> Toolbox<'a> {
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    fn holds(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Adds a function. `spec` has its name and parameters, `around` is the tool that holds it.
    pub fn function(&mut self, spec: &RawObject<'a>, around: &RawObject<'a>, path: Path<'_>, terms: &Terms<'_>, notes: &mut Notes) -> Result<(), Fault> {
        let at = |key: &'static str| path.key(key);
        let name = match member(spec, "name") {
            Some(node) => string(&node, at("name"))?,
            None => return Err(wrong(at("name"), "field required")),
        };
        if name.is_empty() {
            return Err(wrong(at("name"), "a tool has to have a name"));
        }
        let (upstream, whole) = self.upstream(name.clone());
        let mut out = format!("{{\"name\":{}", quote(&upstream));
        if let Some(node) = member(spec, "description") {
            out.push_str(",\"description\":");
            out.push_str(text(&node, at("description"))?.raw());
        }
        out.push_str(",\"input_schema\":");
        out.push_str(&parameters(spec, at("parameters"))?);
        let strict = member(spec, "strict").or_else(|| member(around, "strict"));
        if strict.map(|node| flag(&node, at("strict"))).transpose()? == Some(true) {
            let schema = member(spec, "parameters");
            if terms.traits.structured == Some(true) && schema.is_some_and(|schema| self.strict.admits(&schema)) {
                out.push_str(",\"strict\":true");
            } else {
                notes.left_out(at("strict").to_string())?;
            }
        }
        let extra = |key: &str| member(around, key).or_else(|| member(spec, key));
        for key in EXTRAS.into_iter().filter(|key| *key != "cache_control") {
            if let Some(node) = extra(key) {
                out.push_str(&format!(",\"{key}\":{}", verbatim(&node, at(key))?));
            }
        }
        out.push('}');
        let mark = extra("cache_control").map(|node| verbatim(&node, at("cache_control"))).transpose()?;
        unknown(spec, notes)?;
        unknown(around, notes)?;
        self.names.add(&upstream, &name, self.space.as_deref());
        self.add(whole, out, mark, path)
    }

    /// How a tool is called upstream, and how it is told from others.
    fn upstream(&self, name: Cow<'_, str>) -> (String, String) {
        let whole = self.space.as_ref().map_or_else(|| name.clone().into_owned(), |space| names::within(space, &name));
        (names::tool(Cow::Borrowed(&whole)).into_owned(), whole)
    }

    /// Adds a tool that is written as Messages has it: one of Anthropic's own, or a client's.
    pub fn native(&mut self, node: &Node<'a>, tool: &RawObject<'a>, path: Path<'_>) -> Result<(), Fault> {
        let at = |key: &'static str| path.key(key);
        let name = member(tool, "name").map(|node| string(&node, at("name"))).transpose()?.unwrap_or_default();
        if member(tool, "input_schema").is_some() && names::tool(name.clone()) != name {
            return Err(wrong(at("name"), "expected 1 to 64 of the characters `a-z A-Z 0-9 _ -`"));
        }
        let mark = member(tool, "cache_control").map(|node| verbatim(&node, at("cache_control"))).transpose()?;
        let raw = verbatim(node, path)?;
        let text = if mark.is_some() { without(&raw, "cache_control") } else { raw.into_owned() };
        self.add(name.into_owned(), text, mark, path)
    }

    /// Adds a tool of which all but its name is written. Returns how it is called upstream.
    pub fn written(&mut self, name: Cow<'_, str>, rest: &str, mark: Option<Cow<'a, str>>, path: Path<'_>) -> Result<String, Fault> {
        let (upstream, whole) = self.upstream(name.clone());
        self.names.add(&upstream, &name, self.space.as_deref());
        self.add(whole, format!("{{\"name\":{},{rest}", quote(&upstream)), mark, path)?;
        Ok(upstream)
    }

    /// Adds a server tool of ours.
    pub fn server(&mut self, name: &str, text: String, path: Path<'_>) -> Result<(), Fault> {
        self.add(name.to_owned(), text, None, path)
    }

    fn add(&mut self, name: String, text: String, mark: Option<Cow<'a, str>>, path: Path<'_>) -> Result<(), Fault> {
        if !name.is_empty() && !self.taken.insert(name.clone()) {
            return Err(wrong(path, format!("two tools are called `{name}`; names have to differ")));
        }
        self.tools.push(Tool { name, text, mark });
        Ok(())
    }

    /// Carries a choice over. `parallel` is false where one call at a time was asked for.
    pub fn choose(&mut self, choice: Option<Choice>, parallel: bool, terms: &Terms<'_>, notes: &mut Notes) -> Result<Chosen<'a>, Fault> {
        const PATH: &str = "tool_choice";
        let choice = self.without_left_out(choice, notes)?;
        if self.is_empty() {
            return match choice {
                None | Some(Choice::Auto | Choice::None) => Ok(Chosen::default()),
                Some(Choice::Required) if self.without_search => Ok(Chosen::default()),
                Some(_) => Err(wrong(PATH, "there are no tools to choose from; send `tools` too")),
            };
        }
        if let Some(Choice::Allowed { names, required }) = &choice {
            self.known(names)?;
            let allowed: HashSet<&str> = names.iter().map(String::as_str).collect();
            self.tools.retain(|tool| allowed.contains(tool.name.as_str()));
            if self.is_empty() {
                return self.choose(if *required { choice } else { None }, parallel, terms, notes);
            }
        }
        let (kind, name) = match choice {
            None if parallel => return Ok(Chosen::default()),
            None | Some(Choice::Auto | Choice::Allowed { required: false, .. }) => ("auto", None),
            Some(Choice::None) => return Ok(Chosen { written: Some("{\"type\":\"none\"}".into()), ..Chosen::default() }),
            Some(Choice::Required | Choice::Allowed { required: true, .. }) => ("any", None),
            Some(Choice::Named(name)) => {
                self.known(std::slice::from_ref(&name))?;
                ("tool", Some(name))
            }
        };
        let forced = kind != "auto";
        let softened = forced && !terms.traits.forced_tool;
        let mut chosen = Chosen { forced: forced && !softened, ..Chosen::default() };
        if softened {
            notes.say(PATH, "softened to auto")?;
            let tool = name.as_ref().map(|name| names::tool(Cow::Borrowed(name.as_str())));
            let order = order(tool.as_deref());
            chosen.request = Some(Block::new(Kind::Text(Text::quoted(&order))));
        }
        let kind = if softened { "auto" } else { kind };
        let name = name.filter(|_| !softened).map_or_else(String::new, |name| format!(",\"name\":{}", quote(&names::tool(Cow::Borrowed(name.as_str())))));
        let single = if parallel { "" } else { ",\"disable_parallel_tool_use\":true" };
        chosen.written = Some(format!("{{\"type\":\"{kind}\"{name}{single}}}"));
        Ok(chosen)
    }

    /// A choice without the search that was left out.
    fn without_left_out(&self, choice: Option<Choice>, notes: &mut Notes) -> Result<Option<Choice>, Fault> {
        if !self.without_search || self.holds(SEARCH) {
            return Ok(choice);
        }
        Ok(match choice {
            Some(Choice::Named(name)) if name == SEARCH => {
                notes.say("tool_choice", "softened to auto")?;
                Some(Choice::Auto)
            }
            Some(Choice::Allowed { mut names, required }) => {
                names.retain(|name| name != SEARCH);
                if names.is_empty() { Some(Choice::None) } else { Some(Choice::Allowed { names, required }) }
            }
            other => other,
        })
    }

    fn known(&self, names: &[String]) -> Result<(), Fault> {
        match names.iter().find(|name| !self.holds(name)) {
            Some(name) => {
                let there = listed(self.tools.iter().map(|tool| tool.name.as_str()));
                Err(wrong("tool_choice", format!("there is no tool `{name}`; there are {there}")))
            }
            None => Ok(()),
        }
    }
}

/// What asks for a tool in words, where a model cannot be forced: this one, or any.
#[must_use]
pub fn order(tool: Option<&str>) -> String {
    let which = tool.map_or_else(|| "one of the tools".to_owned(), |tool| format!("the tool `{tool}`"));
    format!("Your next step has to be a call of {which}; do not answer in text instead.")
}

/// Notes members that Messages has nothing for.
fn unknown(spec: &RawObject<'_>, notes: &mut Notes) -> Result<(), Fault> {
    const KNOWN: [&str; 6] = ["type", "function", "name", "description", "parameters", "strict"];
    for (key, node) in spec.members() {
        if !KNOWN.contains(&key) && !EXTRAS.contains(&key) && !node.is_null() {
            notes.ignored(format!("tools.{key}"))?;
        }
    }
    Ok(())
}

/// An object's text without one of its members.
fn without(raw: &str, key: &str) -> String {
    let Ok(object) = RawObject::parse(raw.as_bytes()) else { return raw.to_owned() };
    let mut patch = Patch::new(raw);
    patch.members(&object, &[key], &[]);
    patch.apply()
}

/// A function's parameters as a schema that Messages takes: of an object, and there.
fn parameters<'a>(spec: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let Some(node) = member(spec, "parameters") else { return Ok(Cow::Borrowed(NO_PARAMETERS)) };
    let schema = object(&node, path)?;
    if schema.keys().next().is_none() {
        return Ok(Cow::Borrowed(NO_PARAMETERS));
    }
    let raw = verbatim(&node, path)?;
    if member(&schema, "type").is_some() {
        return Ok(raw);
    }
    let rest = if schema.get("type").is_some() { without(&raw, "type") } else { raw.into_owned() };
    let rest = rest.trim_start().trim_start_matches('{').trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    Ok(Cow::Owned(format!("{{\"type\":\"object\"{comma}{rest}")))
}

/// Reads a `tool_choice` in either of OpenAI's dialects: Chat wraps what Responses has flat.
pub fn choice(node: &Node<'_>) -> Result<Choice, Fault> {
    const PATH: &str = "tool_choice";
    const FORMS: &str = "expected `auto`, `none`, `required`, a function, or allowed tools";
    if node.is_string() {
        return match &*string(node, PATH)? {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" | "any" => Ok(Choice::Required),
            other => Err(wrong(PATH, format!("`{other}` is no choice; {FORMS}"))),
        };
    }
    let chosen = node.as_object().ok_or_else(|| wrong(PATH, FORMS))?;
    let kind = member(&chosen, "type").map(|node| string(&node, "tool_choice.type")).transpose()?;
    match kind.as_deref() {
        Some("function" | "tool" | "custom") => Ok(Choice::Named(named(&chosen, Path::of(PATH))?)),
        Some(kind) if is_search(kind) => Ok(Choice::Named(SEARCH.to_owned())),
        Some("auto") => Ok(Choice::Auto),
        Some("none") => Ok(Choice::None),
        Some("any" | "required") => Ok(Choice::Required),
        Some("allowed_tools") => match member(&chosen, "allowed_tools") {
            Some(node) => allowed(&object(&node, "tool_choice.allowed_tools")?, Path::of(PATH).key("allowed_tools")),
            None => allowed(&chosen, Path::of(PATH)),
        },
        Some(other) => Err(unsupported("tool_choice.type", format!("`{other}` is not supported; {FORMS}"))),
        None => Err(wrong("tool_choice.type", format!("field required; {FORMS}"))),
    }
}

/// The server tool that searches the web.
pub const SEARCH: &str = "web_search";

/// True for the kinds by which OpenAI calls its web search.
pub fn is_search(kind: &str) -> bool {
    matches!(kind, "web_search" | "web_search_2025_08_26" | "web_search_preview" | "web_search_preview_2025_03_11")
}

fn allowed(holder: &RawObject<'_>, path: Path<'_>) -> Result<Choice, Fault> {
    let list = path.key("tools");
    let tools = member(holder, "tools").ok_or_else(|| wrong(list, "field required"))?;
    let mut names = Vec::new();
    for (index, tool) in array(&tools, list)?.iter().enumerate() {
        let path = list.at(index);
        let tool = object(tool, path)?;
        let searches = member(&tool, "type").and_then(|kind| kind.as_str()).is_some_and(|kind| is_search(&kind));
        names.push(if searches { SEARCH.to_owned() } else { named(&tool, path)? });
    }
    if names.is_empty() {
        return Err(wrong(list, "expected at least one tool; `none` forbids them all"));
    }
    let mode = path.key("mode");
    match member(holder, "mode").map(|node| string(&node, mode)).transpose()?.as_deref() {
        None | Some("auto") => Ok(Choice::Allowed { names, required: false }),
        Some("required") => Ok(Choice::Allowed { names, required: true }),
        Some(other) => Err(wrong(mode, format!("`{other}` is no mode; expected `auto` or `required`"))),
    }
}

/// A tool's name, in Chat's place for it or in Responses'.
fn named(holder: &RawObject<'_>, path: Path<'_>) -> Result<String, Fault> {
    let wrapped = ["function", "custom"].into_iter().find_map(|key| Some((key, member(holder, key)?)));
    let name = match wrapped {
        Some((key, node)) => {
            let path = path.key(key);
            let function = object(&node, path)?;
            string(&member(&function, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?, path.key("name"))?.into_owned()
        }
        None => string(&member(holder, "name").ok_or_else(|| wrong(path.key("name"), "field required"))?, path.key("name"))?.into_owned(),
    };
    let space = member(holder, "namespace").map(|node| string(&node, path.key("namespace"))).transpose()?;
    Ok(space.map_or_else(|| name.clone(), |space| names::within(&space, &name)))
}

/// A call's arguments, which are JSON inside a string at OpenAI and an object in Messages.
pub fn arguments<'a>(function: &RawObject<'a>, path: Path<'_>) -> Result<Cow<'a, str>, Fault> {
    let Some(node) = member(function, "arguments") else { return Ok(Cow::Borrowed("{}")) };
    if !node.is_string() {
        // Not what OpenAI has, but what some clients send.
        object(&node, path)?;
        return verbatim(&node, path);
    }
    let written = text(&node, path)?;
    let written = written.decoded();
    let written = written.trim();
    if written.is_empty() {
        return Ok(Cow::Borrowed("{}"));
    }
    check(written).map_err(|malformed| wrong(path, format!("not valid JSON: {malformed}")))?;
    let whole = without_lone_surrogates(written);
    Ok(Cow::Owned(if whole.starts_with('{') { whole } else { format!("{{{}:{whole}}}", quote("value")) }))
}
