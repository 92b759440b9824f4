//! The tools of a request as Messages takes them, and who may be called.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Terms;
use super::choice::{Choice, SEARCH};
use super::conversation::{ContentBlock, ContentKind};
use super::names::{self, Names};
use super::schema::Allowance;
use crate::Fault;
use crate::json::{RawObject, Text, check, quote, without_lone_surrogates};
use crate::notes::Notes;
use crate::read::{Path, listed, member, object, text, verbatim, wrong};

/// How the types of Anthropic's own search among tools begin.
const TOOL_SEARCH: &str = "tool_search_tool_";

/// A tool, with what may have to be taken off it kept apart.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    /// As the client calls it.
    pub name: String,
    /// The whole object but for the rest.
    pub text: String,
    pub mark: Option<Cow<'a, str>>,
    /// The model is to find it before it knows it.
    pub deferred: bool,
}

/// What the calls of a tool become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// The tools whose calls have text in place of arguments, as the upstream calls them.
    pub custom: HashSet<String>,
    /// The tool by which the client lets its tools be searched, as the upstream calls it.
    pub finder: Option<String>,
}

/// The tools of a request.
#[derive(Debug, Default)]
pub(crate) struct Toolbox<'a> {
    pub tools: Vec<Tool<'a>>,
    pub names: Names,
    pub calls: Calls,
    /// What formats and strict tools have left of what a request may have of them.
    pub strict: Allowance,
    /// The client knows namespaces.
    pub(super) knows_spaces: bool,
    /// The namespace that tools are being added to.
    pub(super) space: Option<String>,
    /// The names of tools that were left out; who chooses one of them chooses nothing.
    pub(super) gone: HashSet<String>,
    /// Why the first of them cannot be had.
    pub(super) refused: Option<Fault>,
    /// How the client calls them.
    taken: HashSet<String>,
}

/// How a choice is carried over.
#[derive(Debug, Default)]
pub(crate) struct Chosen<'a> {
    /// The value of `tool_choice`.
    pub written: Option<String>,
    /// A tool has to be called.
    pub forced: bool,
    /// What the system prompt has to say, where the model takes no such order.
    pub request: Option<ContentBlock<'a>>,
}

impl<'a> Toolbox<'a> {
    /// An empty one. `knows_spaces`: the client knows namespaces.
    pub(crate) fn new(knows_spaces: bool) -> Self {
        Self { knows_spaces, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// True if the client calls a tool so.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Names a tool. Returns how it is called upstream, and how it is told from others.
    pub(super) fn name(&mut self, name: &str) -> (String, String) {
        let whole =
            self.space.as_ref().map_or_else(|| name.to_owned(), |space| names::within(space, name));
        let upstream = names::tool(Cow::Borrowed(&whole)).into_owned();
        match &self.space {
            Some(space) if self.knows_spaces => self.names.add(&upstream, name, Some(space)),
            _ => self.names.add(&upstream, &whole, None),
        }
        (upstream, whole)
    }

    /// Adds a tool whose object is written.
    pub(super) fn add(&mut self, tool: Tool<'a>, path: Path<'_>) -> Result<(), Fault> {
        if !tool.name.is_empty() && !self.taken.insert(tool.name.clone()) {
            return Err(wrong(
                path,
                format!("two tools are called `{}`; names have to differ", tool.name),
            ));
        }
        self.tools.push(tool);
        Ok(())
    }

    /// Takes a tool out again, if there is one that the client calls so.
    pub(super) fn forget(&mut self, name: &str) {
        if self.taken.remove(name) {
            self.tools.retain(|tool| tool.name != name);
            self.calls.custom.remove(&*names::tool(Cow::Borrowed(name)));
        }
    }

    /// Ends the collecting: takes off what hangs on tools that are not there.
    ///
    /// # Errors
    ///
    /// If none is left of those that there were.
    pub(crate) fn settle(&mut self, notes: &mut Notes) -> Result<(), Fault> {
        if let Some(refused) = self.refused.take().filter(|_| self.is_empty()) {
            return Err(refused);
        }
        let searched = self.tools.iter().any(|tool| is_tool_search(&tool.text));
        if !searched && self.tools.iter().any(|tool| tool.deferred) {
            // The API wants somebody to find them. All known at once is more than was asked for, not less.
            notes.left_out("tools.defer_loading")?;
            self.tools.iter_mut().for_each(|tool| tool.deferred = false);
        }
        if self.tools.iter().any(|tool| tool.deferred && tool.mark.is_some()) {
            notes.left_out("tools.cache_control")?;
            self.tools.iter_mut().filter(|tool| tool.deferred).for_each(|tool| tool.mark = None);
        }
        Ok(())
    }

    /// Carries a choice over. `parallel` is false where one call at a time was asked for.
    pub(crate) fn choose(
        &mut self,
        choice: Option<Choice>,
        parallel: bool,
        terms: &Terms<'_>,
        notes: &mut Notes,
    ) -> Result<Chosen<'a>, Fault> {
        const PATH: &str = "tool_choice";
        let choice = self.without_left_out(choice, notes)?;
        if self.is_empty() {
            return match choice {
                None | Some(Choice::Auto | Choice::None) => Ok(Chosen::default()),
                Some(Choice::Required) if !self.gone.is_empty() => Ok(Chosen::default()),
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
            Some(Choice::None) => {
                return Ok(Chosen {
                    written: Some("{\"type\":\"none\"}".into()),
                    ..Chosen::default()
                });
            }
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
            chosen.request = Some(ContentBlock::new(ContentKind::Text(Text::quoted(&order))));
        }
        let kind = if softened { "auto" } else { kind };
        let name = name.filter(|_| !softened).map_or_else(String::new, |name| {
            format!(",\"name\":{}", quote(&names::tool(Cow::Borrowed(name.as_str()))))
        });
        let single = if parallel { "" } else { ",\"disable_parallel_tool_use\":true" };
        chosen.written = Some(format!("{{\"type\":\"{kind}\"{name}{single}}}"));
        Ok(chosen)
    }

    /// A choice without the tools that were left out.
    fn without_left_out(
        &self,
        choice: Option<Choice>,
        notes: &mut Notes,
    ) -> Result<Option<Choice>, Fault> {
        let is_gone = |name: &String| self.gone.contains(name) && !self.holds(name);
        Ok(match choice {
            Some(Choice::Named(name)) if is_gone(&name) => {
                notes.say("tool_choice", "softened to auto")?;
                Some(Choice::Auto)
            }
            Some(Choice::Allowed { mut names, required }) if names.iter().any(is_gone) => {
                names.retain(|name| !is_gone(name));
                if names.is_empty() {
                    Some(Choice::None)
                } else {
                    Some(Choice::Allowed { names, required })
                }
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

    /// True if the web can be searched.
    pub(crate) fn searches(&self) -> bool {
        self.holds(SEARCH)
    }
}

fn is_tool_search(text: &str) -> bool {
    let object = RawObject::parse(text.as_bytes()).ok();
    object
        .and_then(|tool| tool.get("type")?.as_str())
        .is_some_and(|kind| kind.starts_with(TOOL_SEARCH))
}

/// What asks for a tool in words, where a model cannot be forced: this one, or any.
pub fn order(tool: Option<&str>) -> String {
    let which =
        tool.map_or_else(|| "one of the tools".to_owned(), |tool| format!("the tool `{tool}`"));
    format!("Your next step has to be a call of {which}; do not answer in text instead.")
}

/// A call's arguments, which are JSON inside a string at OpenAI and an object in Messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments<'a> {
    /// An object's JSON text.
    pub input: Cow<'a, str>,
    /// They were no JSON: a call that was cut off, two that were glued together.
    pub broken: bool,
}

/// Reads a call's arguments.
pub(crate) fn arguments<'a>(
    function: &RawObject<'a>,
    path: Path<'_>,
) -> Result<Arguments<'a>, Fault> {
    let whole = |input: Cow<'a, str>| Ok(Arguments { input, broken: false });
    let Some(node) = member(function, "arguments") else { return whole(Cow::Borrowed("{}")) };
    if !node.is_string() {
        // Not what OpenAI has, but what some clients send.
        object(&node, path)?;
        return whole(verbatim(&node, path)?);
    }
    let written = text(&node, path)?;
    let written = written.decoded();
    let written = written.trim();
    if written.is_empty() {
        return whole(Cow::Borrowed("{}"));
    }
    let value = |raw: &str| Cow::Owned(format!("{{{}:{raw}}}", quote("value")));
    if check(written).is_err() {
        return Ok(Arguments { input: value(&quote(written)), broken: true });
    }
    let json = without_lone_surrogates(written);
    whole(if json.starts_with('{') { Cow::Owned(json) } else { value(&json) })
}
