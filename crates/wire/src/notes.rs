//! The receipt of a translation: what could not be carried over as it was.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::Fault;
use crate::json::RawObject;
use crate::messages::Change;
use crate::read::unsupported;

/// Collects what is to be said of a translation. In strict mode nothing is noted: it is refused.
#[derive(Debug)]
pub(crate) struct Notes {
    strict: bool,
    changes: Vec<Change>,
    /// The notes so far.
    said: HashSet<(String, &'static str)>,
}

/// The most notes that are kept; a request with more of them is none that a person wrote.
const MOST: usize = 100;

impl Notes {
    pub(crate) fn new(strict: bool) -> Self {
        Self { strict, changes: Vec::new(), said: HashSet::new() }
    }

    /// A member that Messages has nothing for.
    pub(crate) fn ignored(&mut self, member: impl Into<Cow<'static, str>>) -> Result<(), Fault> {
        self.say(member, "ignored")
    }

    /// A member that this model, or this request, does not admit.
    pub(crate) fn left_out(&mut self, member: impl Into<Cow<'static, str>>) -> Result<(), Fault> {
        self.say(member, "left out")
    }

    /// Notes `what` became of a member, once.
    ///
    /// # Errors
    ///
    /// In strict mode, a fault that names the member.
    pub(crate) fn say(
        &mut self,
        member: impl Into<Cow<'static, str>>,
        what: &'static str,
    ) -> Result<(), Fault> {
        let name = member.into();
        if self.strict {
            let why = match what {
                "ignored" => "Claude's API has nothing for it",
                "left out" => {
                    "the model that is asked does not take it, or not with the rest of this request"
                }
                _ => "it cannot be carried over as it is",
            };
            return Err(unsupported(
                name.into_owned(),
                format!(
                    "would be {what}: {why}. Take it out of the request, or set `strict = false`"
                ),
            ));
        }
        self.keep(name, what);
        Ok(())
    }

    /// Notes what became of a member that changes nothing of what is meant, and so is never refused.
    pub(crate) fn mention(&mut self, member: impl Into<Cow<'static, str>>, what: &'static str) {
        self.keep(member.into(), what);
    }

    fn keep(&mut self, name: Cow<'static, str>, what: &'static str) {
        if self.changes.len() < MOST && self.said.insert((name.clone().into_owned(), what)) {
            self.changes.push(Change { name, path: what.to_owned() });
        } else if self.changes.len() == MOST {
            self.changes.push(Change { name: "more".into(), path: "left out or ignored".into() });
        }
    }

    /// Notes what an object has beside the members that are looked at.
    pub(crate) fn unknown(
        &mut self,
        object: &RawObject<'_>,
        known: &[&str],
        place: &str,
    ) -> Result<(), Fault> {
        for (key, node) in object.members() {
            if !known.contains(&key) && !node.is_null() {
                self.ignored(format!("{place}.{key}"))?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}
