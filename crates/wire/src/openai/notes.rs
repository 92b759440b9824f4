//! The receipt of a translation: what could not be carried over as it was.

use std::borrow::Cow;

use super::read::unsupported;
use crate::Fault;
use crate::messages::Change;

/// Collects what is to be said of a translation. In strict mode nothing is noted: it is refused.
#[derive(Debug)]
pub struct Notes {
    strict: bool,
    changes: Vec<Change>,
}

impl Notes {
    pub fn new(strict: bool) -> Self {
        Self { strict, changes: Vec::new() }
    }

    /// A member that Messages has nothing for.
    pub fn ignored(&mut self, member: impl Into<Cow<'static, str>>) -> Result<(), Fault> {
        self.say(member, "ignored")
    }

    /// A member that this model, or this request, does not admit.
    pub fn left_out(&mut self, member: impl Into<Cow<'static, str>>) -> Result<(), Fault> {
        self.say(member, "left out")
    }

    /// Notes `what` became of a member, once.
    ///
    /// # Errors
    ///
    /// In strict mode, a fault that names the member.
    pub fn say(&mut self, member: impl Into<Cow<'static, str>>, what: &'static str) -> Result<(), Fault> {
        let name = member.into();
        if self.strict {
            return Err(unsupported(name.into_owned(), format!("would be {what} on the way to Claude; take it out of the request, or set `strict = false`")));
        }
        let change = Change { name, path: what.to_owned() };
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
        Ok(())
    }

    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}
