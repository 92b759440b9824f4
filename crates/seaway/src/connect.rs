//! Sets other programs up to use this gateway, and takes it back.
//!
//! What is written is a list of [`Change`]s, each a pure function from a file's text to its new text: only our own
//! keys or marks are touched, everything else stays byte for byte, and a file that could be read in two ways is
//! refused. [`disk`] keeps what was there before.

mod asks;
pub mod clients;
pub mod disk;
mod json;
mod other;
mod toml;
mod yaml;

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Environment, merged_no_proxy};

pub use asks::{Asks, Holder};
pub use other::{OTHERS, Other, any, other};
pub use yaml::LinePlace;

/// What clients have to know of this gateway.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Without a path.
    pub url: String,
    /// Prints the local key.
    pub key_command: Vec<String>,
    /// Prints a status line, where the person wants one.
    pub statusline: Option<Vec<String>>,
    /// Claude Code is to show how much of the key's budget is used.
    pub budget: bool,
    /// Nothing if any key will do.
    pub key: Option<SecretString>,
    /// A file that holds the key and nothing else.
    pub key_file: PathBuf,
    /// What clients may ask for.
    pub models: Vec<String>,
    /// The model that clients begin with.
    pub model: String,
    /// A client's web search is served.
    pub searches: bool,
    /// Names that a proxy must not be asked for, if this shell has one.
    pub no_proxy: Option<String>,
    pub environment: Environment,
    pub home: PathBuf,
    /// Where the person is.
    pub folder: PathBuf,
}

impl Facts {
    /// A model for small things: the first of the smallest family, else the one for everything.
    pub(crate) fn small(&self) -> &str {
        self.models.iter().find(|model| model.contains("haiku")).unwrap_or(&self.model)
    }

    /// The model that is asked where nobody says: the middle of the family.
    pub fn usual(models: &[String]) -> String {
        let of = |family: &&str| models.iter().find(|model| model.contains(family));
        ["sonnet", "opus"]
            .iter()
            .find_map(of)
            .or_else(|| models.first())
            .cloned()
            .unwrap_or_else(|| "sonnet".into())
    }
}

/// How a client is set up.
#[derive(Debug, Default)]
pub struct Setup {
    /// None if the client keeps its settings in a folder that is not known here; `then` says so.
    pub files: Vec<FileChange>,
    /// The next step, in words.
    pub then: String,
    /// What would be used in place of what is written.
    pub warnings: Vec<String>,
}

/// What changes in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    pub path: PathBuf,
    pub change: Change,
}

/// What changes in a file's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Json(Vec<Edit>),
    /// The same for a client that reads JSON alone, and would pass over a file with a comment in it.
    StrictJson(Vec<Edit>),
    Toml(Vec<Edit>),
    /// Lines between our marks.
    Yaml(LinePlace, String),
    /// A file of ours alone.
    Whole(String),
}

/// One member that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub path: Vec<String>,
    pub value: Assigned,
    /// Another value may be replaced without asking: it is a choice, which comes back with the undo.
    pub freely: bool,
}

/// What a member is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assigned {
    To(Value),
    /// Our names, added to the list that is there, or to this one.
    NoProxy(String),
    /// What a client wants beside a member of ours where nothing is yet, whatever it makes of it later.
    Beside(Value),
}

/// Why a file is left alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileRefusal {
    #[error("it is not what it should be: {0}")]
    Malformed(String),
    #[error("{0}")]
    Ambiguous(String),
    #[error(
        "`{0}` is set to something else there; `--force` replaces it, and `--undo` brings it back"
    )]
    Foreign(String),
    #[error("`{0}` is set there by another hand; take that out first, or use `--print`")]
    Taken(String),
}

impl Edit {
    /// A choice between several, such as a default model.
    pub(crate) fn choice(path: &[&str], value: impl Into<Value>) -> Self {
        Self { freely: true, ..Self::own(path, value) }
    }

    /// A member that only Seaway writes.
    pub(crate) fn own(path: &[&str], value: impl Into<Value>) -> Self {
        Self {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            value: Assigned::To(value.into()),
            freely: false,
        }
    }

    pub(crate) fn no_proxy(path: &[&str], seed: &str) -> Self {
        Self {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            value: Assigned::NoProxy(seed.to_owned()),
            freely: true,
        }
    }

    /// A member without which a client would not read ours.
    pub(crate) fn beside(path: &[&str], value: impl Into<Value>) -> Self {
        Self { value: Assigned::Beside(value.into()), freely: true, ..Self::own(path, Value::Null) }
    }

    fn wanted(&self, there: Option<&Value>) -> Value {
        match &self.value {
            Assigned::To(value) => value.clone(),
            Assigned::Beside(value) => there.unwrap_or(value).clone(),
            Assigned::NoProxy(seed) => {
                merged_no_proxy(there.and_then(Value::as_str).unwrap_or(seed)).into()
            }
        }
    }
}

/// True if lines end as on Windows; all of them have to.
fn line_ends(text: &str) -> Result<bool, FileRefusal> {
    let returns = text.matches("\r\n").count();
    if returns > 0 && returns < text.matches('\n').count() {
        Err(FileRefusal::Ambiguous(
            "its lines end now with and now without a carriage return".into(),
        ))
    } else {
        Ok(returns > 0)
    }
}

/// The value of a member of a TOML text.
fn toml_member(text: &str, keys: &[&str]) -> Option<Value> {
    let path: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    toml::TomlDocument::parse(text).ok()?.get(&path).ok()?
}

/// A text with members that can be looked at and changed one by one.
trait Members: Sized {
    fn parse(text: &str) -> Result<Self, FileRefusal>;
    /// All of it, to hold a change against.
    fn all(&self) -> Value;
    fn get(&self, path: &[String]) -> Result<Option<Value>, FileRefusal>;
    fn set(&mut self, path: &[String], value: &Value) -> Result<(), FileRefusal>;
    fn remove(&mut self, path: &[String]) -> Result<(), FileRefusal>;
    fn write(&self) -> String;
}

impl Change {
    /// Makes the change in a file's text.
    ///
    /// # Errors
    ///
    /// [`FileRefusal`] if the text is not what it should be, or says something else already.
    pub fn apply(&self, text: &str, force: bool) -> Result<String, FileRefusal> {
        match self {
            Self::Json(edits) => set_all::<json::JsonDocument>(text, edits, force),
            Self::StrictJson(edits) => {
                json::strictly(text)?;
                set_all::<json::JsonDocument>(text, edits, force)
            }
            Self::Toml(edits) => set_all::<toml::TomlDocument>(text, edits, force),
            Self::Yaml(place, block) => yaml::insert(text, place, block),
            Self::Whole(_) if !text.is_empty() && !force => Err(FileRefusal::Ambiguous(
                "it is there already, and not of `seaway up`; move it away".into(),
            )),
            Self::Whole(whole) => Ok(whole.clone()),
        }
    }

    /// Takes the change out of a text that was changed otherwise too. `before` is what it was made in. What somebody
    /// else has set since stays.
    ///
    /// # Errors
    ///
    /// [`FileRefusal`] if the text is not what it should be.
    pub fn revert(&self, before: &str, now: &str) -> Result<String, FileRefusal> {
        match self {
            Self::Json(edits) | Self::StrictJson(edits) => {
                put_back::<json::JsonDocument>(before, now, edits)
            }
            Self::Toml(edits) => put_back::<toml::TomlDocument>(before, now, edits),
            Self::Yaml(..) => yaml::remove(now),
            // Whoever changed it since wants to see that it goes.
            Self::Whole(_) => Err(FileRefusal::Ambiguous(
                "it was changed since `seaway up` wrote it; take it away yourself, or put it back"
                    .into(),
            )),
        }
    }
}

fn set_all<D: Members>(text: &str, edits: &[Edit], force: bool) -> Result<String, FileRefusal> {
    let mut document = D::parse(text)?;
    let mut expected = document.all();
    for edit in edits {
        let there = document.get(&edit.path)?;
        let wanted = edit.wanted(there.as_ref());
        if there.as_ref() == Some(&wanted) {
            continue;
        }
        if there.is_some() && !edit.freely && !force {
            return Err(FileRefusal::Foreign(edit.path.join(".")));
        }
        document.set(&edit.path, &wanted)?;
        assign(&mut expected, &edit.path, wanted);
    }
    let written = document.write();
    // The text is read again: no other member may have changed.
    if D::parse(&written)?.all() == expected {
        Ok(written)
    } else {
        Err(FileRefusal::Ambiguous("it cannot be changed without changing more than ours".into()))
    }
}

fn assign(all: &mut Value, path: &[String], value: Value) {
    let mut place = all;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[key.as_str()];
    }
    *place = value;
}

/// True if nothing stands beside a member but what was put there for ours.
fn alone<D: Members>(document: &D, edit: &Edit, edits: &[Edit]) -> Result<bool, FileRefusal> {
    let (_, holder) = edit.path.split_last().expect("a member has a name");
    let there = if holder.is_empty() { Some(document.all()) } else { document.get(holder)? };
    let names = there.as_ref().and_then(Value::as_object).into_iter().flat_map(|all| all.keys());
    let is_beside = |name: &String| {
        let of = |other: &Edit| {
            matches!(other.value, Assigned::Beside(_))
                && other.path.split_last() == Some((name, holder))
        };
        edits.iter().any(of)
    };
    Ok(names.into_iter().all(is_beside))
}

fn put_back<D: Members>(before: &str, now: &str, edits: &[Edit]) -> Result<String, FileRefusal> {
    let (original, mut document) = (D::parse(before)?, D::parse(now)?);
    // What stands beside ours looks at what is left.
    let is_beside = |edit: &&Edit| matches!(edit.value, Assigned::Beside(_));
    let (beside, ours): (Vec<&Edit>, Vec<&Edit>) = edits.iter().rev().partition(is_beside);
    for edit in ours.into_iter().chain(beside) {
        let was = original.get(&edit.path)?;
        let there = document.get(&edit.path)?;
        if let Assigned::Beside(_) = edit.value {
            if was.is_some() || !alone(&document, edit, edits)? {
                continue;
            }
        } else if there.as_ref() != Some(&edit.wanted(was.as_ref())) {
            continue;
        }
        match was {
            Some(value) => document.set(&edit.path, &value)?,
            None => document.remove(&edit.path)?,
        }
        // A table that was made for the member goes too, once it is empty.
        for depth in (1..edit.path.len()).rev() {
            let holder = &edit.path[..depth];
            let empty = document
                .get(holder)?
                .is_some_and(|value| value.as_object().is_some_and(serde_json::Map::is_empty));
            if empty && original.get(holder)?.is_none() {
                document.remove(holder)?;
            }
        }
    }
    Ok(document.write())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claude() -> Vec<Edit> {
        vec![
            Edit::own(&["env", "ANTHROPIC_BASE_URL"], "http://s"),
            Edit::own(&["apiKeyHelper"], "seaway key show"),
            Edit::no_proxy(&["env", "NO_PROXY"], "x"),
        ]
    }

    fn codex() -> Vec<Edit> {
        vec![
            Edit::choice(&["model_provider"], "seaway"),
            Edit::own(
                &["model_providers", "seaway"],
                json!({"base_url": "http://s", "auth": {"command": "k", "args": ["show"]}}),
            ),
        ]
    }

    /// Applies and takes back: what was there is there again, and in between only ours was added.
    #[track_caller]
    fn round(change: &Change, text: &str, expect: &str) {
        let after = change.apply(text, false).unwrap();
        assert_eq!(after, expect);
        assert_eq!(change.apply(&after, false).unwrap(), after, "the same again changes nothing");
        let again = change.revert(text, &after).unwrap();
        assert_eq!(again.trim(), if text.is_empty() { "{}" } else { text.trim() }, "taken back");
    }

    #[test]
    fn json_keeps_its_comments_and_its_form() {
        round(
            &Change::Json(claude()),
            "",
            "{\n  \"env\": {\n    \"ANTHROPIC_BASE_URL\": \"http://s\",\n    \"NO_PROXY\": \"x,localhost,127.0.0.1\"\n  },\n  \"apiKeyHelper\": \"seaway key show\"\n}\n",
        );
    }

    #[test]
    fn json_with_members_of_others() {
        let text = "{\n    // mine\n    \"model\": \"opus\", /* here */\n    \"env\": {\"A\":\"1\",\"NO_PROXY\": \"a,b\"},\n\t\"list\": [ 1,2 ],\n}\n";
        let after = Change::Json(claude()).apply(text, false).unwrap();
        for kept in [
            "    // mine\n",
            "\"opus\", /* here */",
            "\"A\":\"1\"",
            "\t\"list\": [ 1,2 ]",
            "\"a,b,localhost,127.0.0.1\"",
        ] {
            assert!(after.contains(kept), "{kept}: {after}");
        }
        let back =
            Change::Json(claude()).revert(text, &after.replace("\"opus\"", "\"haiku\"")).unwrap();
        let (back, was) = (
            json::JsonDocument::parse(&back).unwrap().all(),
            json::JsonDocument::parse(&text.replace("\"opus\"", "\"haiku\"")).unwrap().all(),
        );
        assert_eq!(back, was);
    }

    #[test]
    fn toml_keeps_its_comments_and_its_form() {
        let text = "# mine\nmodel = \"x\"   # here\n\n[mcp_servers.a]\ncommand = 'c'\n";
        let after = Change::Toml(codex()).apply(text, false).unwrap();
        assert_eq!(
            after,
            "# mine\nmodel = \"x\"   # here\nmodel_provider = \"seaway\"\n\n[mcp_servers.a]\ncommand = 'c'\n\n[model_providers.seaway]\nbase_url = \"http://s\"\n\n[model_providers.seaway.auth]\ncommand = \"k\"\nargs = [\"show\"]\n"
        );
        let changed = format!("{after}\n[projects.\"/w\"]\ntrust_level = \"trusted\"\n");
        assert_eq!(
            Change::Toml(codex()).revert(text, &changed).unwrap(),
            format!("{text}\n[projects.\"/w\"]\ntrust_level = \"trusted\"\n")
        );
    }

    #[test]
    fn what_is_of_another_hand_is_not_replaced_without_force() {
        let json = Change::Json(claude());
        let text = r#"{"apiKeyHelper": "theirs", "env": {"NO_PROXY": "a"}}"#;
        assert_eq!(json.apply(text, false), Err(FileRefusal::Foreign("apiKeyHelper".into())));
        let after = json.apply(text, true).unwrap();
        let values = |text: &str| json::JsonDocument::parse(text).unwrap().all();
        assert_eq!(values(&json.revert(text, &after).unwrap()), values(text));
        let newer = json.revert(text, &after.replace("seaway key show", "newer")).unwrap();
        assert_eq!(values(&newer), values(&text.replace("theirs", "newer")));
        let toml = Change::Toml(codex());
        assert_eq!(
            toml.apply("[model_providers.seaway]\nbase_url = \"http://other\"\n", false),
            Err(FileRefusal::Foreign("model_providers.seaway".into()))
        );
        assert!(toml.apply("model_provider = \"azure\"\n", false).is_ok(), "a choice is replaced");
    }

    #[test]
    fn what_a_client_wants_beside_ours_goes_with_ours_whatever_it_made_of_it() {
        let change = Change::StrictJson(vec![
            Edit::beside(&["version"], 1),
            Edit::own(&["by", "a", "settings"], json!({"url": "http://s"})),
            Edit::beside(&["by", "a", "at"], "never"),
        ]);
        let values = |text: &str| json::JsonDocument::parse(text).unwrap().all();
        let ours =
            json!({"version": 1, "by": {"a": {"settings": {"url": "http://s"}, "at": "never"}}});
        assert_eq!(values(&change.apply("", false).unwrap()), ours);
        let theirs = r#"{"version": 2, "by": {"a": {"at": "then"}}}"#;
        let there = values(&change.apply(theirs, false).unwrap());
        assert_eq!(
            there,
            json!({"version": 2, "by": {"a": {"at": "then", "settings": {"url": "http://s"}}}})
        );
        for (before, now, expect) in [
            // Used since: ours go, with what stood beside them.
            (
                "",
                json!({"version": 1, "by": {"a": {"settings": {"url": "http://s"}, "at": "now"}}}),
                json!({}),
            ),
            // Another has come since, which needs the version.
            (
                "",
                json!({"version": 1, "by": {"a": {"settings": {"url": "http://s"}, "at": "now"}, "b": {}}}),
                json!({"version": 1, "by": {"b": {}}}),
            ),
            // Set otherwise since: theirs, and what stands beside it.
            (
                "",
                json!({"version": 1, "by": {"a": {"settings": 7, "at": "now"}}}),
                json!({"version": 1, "by": {"a": {"settings": 7, "at": "now"}}}),
            ),
            (
                theirs,
                json!({"version": 2, "by": {"a": {"settings": {"url": "http://s"}, "at": "now"}}}),
                json!({"version": 2, "by": {"a": {"at": "now"}}}),
            ),
        ] {
            let back = change.revert(before, &now.to_string()).unwrap();
            assert_eq!(values(&back), expect, "{before} {now}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let json = Change::Json(claude());
        for text in [
            "{\"env\":{},\"env\":{}}",
            "{\"env\": 7}",
            "[]",
            "{",
            "{\"a\":1} x",
            "{a: 1}",
            "{'a': 1}",
            "{\"apiKeyHelper\":\"seaway key show\",\"apiKeyHelper\":\"theirs\"}",
        ] {
            assert!(
                matches!(
                    json.apply(text, true),
                    Err(FileRefusal::Malformed(_) | FileRefusal::Ambiguous(_))
                ),
                "{text}: {:?}",
                json.apply(text, true)
            );
        }
        let toml = Change::Toml(codex());
        for text in [
            "model_providers = 7\n",
            "a = \n",
            "a = 1\na = 2\n",
            "model_providers.seaway = 1\n[model_providers.seaway]\n",
        ] {
            assert!(
                matches!(
                    toml.apply(text, true),
                    Err(FileRefusal::Malformed(_) | FileRefusal::Ambiguous(_))
                ),
                "{text}: {:?}",
                toml.apply(text, true)
            );
        }
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_stay() {
        let text = "\u{feff}{\r\n  \"model\": \"opus\"\r\n}\r\n";
        let after = Change::Json(claude()).apply(text, false).unwrap();
        assert!(
            after.starts_with('\u{feff}') && !after.replace("\r\n", "").contains('\n'),
            "{after:?}"
        );
        assert_eq!(Change::Json(claude()).revert(text, &after).unwrap(), text);
        let text = "model = \"x\"\r\n";
        let after = Change::Toml(codex()).apply(text, false).unwrap();
        assert!(!after.replace("\r\n", "").contains('\n'), "{after:?}");
    }
}
