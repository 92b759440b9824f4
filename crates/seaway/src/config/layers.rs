//! The layers of the configuration, each setting with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, TableLike};

use super::settings::{self, Kind, Setting};
use super::value::{Value, toml_value};

/// The segments of a setting's key.
pub(super) type Key = Vec<String>;

/// The name of the file that ships inside the program.
pub(super) const BUILT_IN: &str = "(built in)";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    Default,
    File { path: PathBuf, line: usize, column: usize },
    Variable(String),
    Flag(String),
}

impl ValueOrigin {
    /// The strongest first.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Variable(_) => 1,
            Self::File { .. } => 2,
            Self::Default => 3,
        }
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Something in the configuration that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub origin: ValueOrigin,
    /// Names the setting, what was wrong, what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// Every value that some layer gives, the strongest layer's where several do.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<Key, (Value, ValueOrigin)>,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Layers {
    /// Returns a value and where it came from.
    pub fn get(&self, key: &[String]) -> Option<&(Value, ValueOrigin)> {
        self.values.get(key)
    }

    /// A text that some layer gives, by its dotted key.
    pub fn text(&self, dotted: &str) -> Option<String> {
        let key: Key = dotted.split('.').map(str::to_owned).collect();
        self.get(&key)?.0.text().map(str::to_owned)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &(Value, ValueOrigin))> {
        self.values.iter()
    }

    /// The names that stand for the `*` right below `group`, in the order in which they were written.
    pub fn names(&self, group: &str) -> Vec<String> {
        let mut names: Vec<(&ValueOrigin, &String)> = Vec::new();
        for (key, (_, origin)) in &self.values {
            if let [first, name, ..] = key.as_slice()
                && first == group
            {
                match names.iter_mut().find(|(_, known)| *known == name) {
                    Some((known, _)) => *known = earlier(known, origin),
                    None => names.push((origin, name)),
                }
            }
        }
        names.sort_by_key(|(origin, name)| (place(origin), name.parse::<usize>().unwrap_or(0)));
        names.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub fn mistake(&mut self, origin: ValueOrigin, message: impl Into<String>) {
        let mistake = Mistake { origin, message: message.into() };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What looks odd but is no mistake.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Hands over what was found wrong so far.
    pub fn take_mistakes(&mut self) -> Vec<Mistake> {
        std::mem::take(&mut self.mistakes)
    }

    /// Adds a value unless a stronger layer has given one. Tables of the owner's own names
    /// are joined, name by name. Call with the strongest layer first.
    pub fn add(&mut self, key: Key, value: Value, origin: ValueOrigin) {
        match (self.values.get_mut(&key), value) {
            (Some((Value::Map(known), _)), Value::Map(more)) => {
                let new: Vec<_> = more
                    .into_iter()
                    .filter(|(name, _)| !known.iter().any(|(given, _)| given == name))
                    .collect();
                known.extend(new);
            }
            (Some(_), _) => {}
            (None, value) => {
                self.values.insert(key, (value, origin));
            }
        }
    }

    /// Sets a value in place of what any layer says.
    pub(super) fn put(&mut self, key: Key, value: Value, origin: ValueOrigin) {
        self.values.insert(key, (value, origin));
    }

    /// Adds a value given as text, by a flag or a variable.
    pub fn add_text(&mut self, key: Key, text: &str, origin: ValueOrigin) {
        if let Some((table, name)) = entry_of_table(&key) {
            let any = settings::find(&table).is_some_and(|setting| setting.kind == Kind::AnyMap);
            let value = any
                .then(|| Value::parse_any(text))
                .flatten()
                .unwrap_or_else(|| Value::Text(text.to_owned()));
            return self.add(table, Value::Map(vec![(name, value)]), origin);
        }
        let (key, setting) = match resolve(key) {
            Ok(found) => found,
            Err(message) => return self.mistake(origin, message),
        };
        match Value::parse(text, setting.kind) {
            Ok(value) => self.add(key, value, origin),
            Err(why) => self.mistake(origin, wrong(&key, setting, &why, text)),
        }
    }

    /// Adds the variables that are named after settings.
    pub fn add_variables<'a>(&mut self, variables: impl Iterator<Item = (&'a str, &'a str)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("SEAWAY_") else { continue };
            // Where the settings are, and what clients that we start or set up have their key in.
            if matches!(rest, "CONFIG" | "KEY") {
                continue;
            }
            let key: Key = rest.to_lowercase().split("__").map(str::to_owned).collect();
            let ours = entry_of_table(&key).is_some()
                || resolve(key.clone()).is_ok()
                || settings::nearest(&key).is_some();
            if ours {
                self.add_text(key, text, ValueOrigin::Variable(name.to_owned()));
            } else {
                // Somebody else's, perhaps; it may still be a mistake.
                self.warnings
                    .push(format!("${name} is not a setting of Seaway's and was left alone"));
            }
        }
    }

    /// Gives what variables say of `some_name` to the `some-name` that a file, a flag or a kind has: a shell allows no
    /// hyphen or dot in a variable's name. Call when all layers are there.
    pub(super) fn join_names(&mut self, group: &str, kinds: &[&str]) {
        let of = |layers: &Self, variables: bool| -> Vec<String> {
            let named = layers.values.iter().filter(|(key, (_, origin))| {
                key.len() > 2
                    && key[0] == group
                    && matches!(origin, ValueOrigin::Variable(_)) == variables
            });
            named.map(|(key, _)| key[1].clone()).collect()
        };
        let known: Vec<String> = of(self, false)
            .into_iter()
            .chain(kinds.iter().map(|kind| (*kind).to_owned()))
            .collect();
        for said in of(self, true).into_iter().filter(|said| !known.contains(said)) {
            let Some(meant) = known.iter().find(|name| as_variable(name) == as_variable(&said))
            else {
                continue;
            };
            let moved: Vec<Key> = self
                .values
                .keys()
                .filter(|key| key.len() > 2 && key[0] == group && key[1] == said)
                .cloned()
                .collect();
            for mut key in moved {
                let Some((value, origin)) = self.values.remove(&key) else { continue };
                key[1].clone_from(meant);
                let stronger =
                    self.values.get(&key).is_some_and(|(_, given)| given.rank() <= origin.rank());
                if !stronger {
                    self.values.insert(key, (value, origin));
                }
            }
        }
    }

    /// Adds a file's settings.
    pub fn add_file(&mut self, path: &Path, text: &str) {
        let mut file = LayerFile { path, text, layers: self };
        match Document::parse(text) {
            Ok(document) => file.table(document.as_table(), &mut Vec::new()),
            Err(error) => {
                let origin = file.origin(error.span());
                let message = error.message().trim().replace('\n', "; ");
                self.mistake(origin, format!("not TOML: {message}"));
            }
        }
    }
}

/// A name inside a table of the owner's own names: the table's key, and the name.
fn entry_of_table(key: &[String]) -> Option<(Key, String)> {
    let is_table = |length: &usize| {
        settings::find(&key[..*length])
            .is_some_and(|setting| matches!(setting.kind, Kind::TextMap | Kind::AnyMap))
    };
    let length = (1..key.len()).find(is_table)?;
    Some((key[..length].to_vec(), key[length..].join(".")))
}

/// A name as a variable can have it.
fn as_variable(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Finds the setting for a key. A credential's own name is short for its `value`.
fn resolve(key: Key) -> Result<(Key, &'static Setting), String> {
    if let Some(setting) = settings::find(&key) {
        return Ok((key, setting));
    }
    let mut longer = key.clone();
    longer.push("value".into());
    if let Some(setting) = settings::find(&longer) {
        return Ok((longer, setting));
    }
    let hint =
        settings::nearest(&key).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    Err(format!("unknown setting `{}`{hint}", dotted(&key)))
}

/// Says what is wrong with a value, and shows it, unless nobody may see it.
fn wrong(key: &[String], setting: &Setting, why: &str, value: &str) -> String {
    let shown: String = value.chars().take(SHOWN).collect();
    let hidden =
        setting.secret || shown.is_empty() || matches!(setting.kind, Kind::TextMap | Kind::AnyMap);
    let near = match setting.kind {
        Kind::Choice(choices) => settings::near(value, choices.iter().copied())
            .map(|choice| format!("; did you mean `{choice}`?")),
        _ => None,
    };
    let not = if hidden { String::new() } else { format!(", not `{shown}`") };
    format!("{}: {why}{not}{}", dotted(key), near.unwrap_or_default())
}

/// The longest value that a message shows, in characters.
const SHOWN: usize = 60;

/// A value as its file has it, a text without its quotes.
fn written(value: &toml_edit::Value) -> String {
    value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned)
}

/// Writes a key as it stands in a file.
pub(super) fn dotted(key: &[String]) -> String {
    let plain =
        |segment: &str| segment.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let segments: Vec<String> = key
        .iter()
        .map(|segment| if plain(segment) { segment.clone() } else { format!("\"{segment}\"") })
        .collect();
    segments.join(".")
}

/// What the owner says comes before what ships.
fn place(origin: &ValueOrigin) -> (u8, usize, usize) {
    match origin {
        ValueOrigin::Flag(_) | ValueOrigin::Variable(_) => (0, 0, 0),
        ValueOrigin::File { path, line, column } => {
            (if path.starts_with(BUILT_IN) { 2 } else { 1 }, *line, *column)
        }
        ValueOrigin::Default => (3, 0, 0),
    }
}

fn earlier<'a>(a: &'a ValueOrigin, b: &'a ValueOrigin) -> &'a ValueOrigin {
    if place(a) <= place(b) { a } else { b }
}

/// One file on its way into the layers.
struct LayerFile<'a> {
    path: &'a Path,
    text: &'a str,
    layers: &'a mut Layers,
}

impl LayerFile<'_> {
    fn origin(&self, span: Option<std::ops::Range<usize>>) -> ValueOrigin {
        let before = &self.text[..span.map_or(0, |span| span.start).min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        ValueOrigin::File { path: self.path.to_owned(), line, column }
    }

    fn table(&mut self, table: &dyn TableLike, key: &mut Key) {
        for (name, item) in table.iter() {
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            key.push(name.to_owned());
            self.item(item, key, span);
            key.pop();
        }
    }

    fn item(&mut self, item: &Item, key: &mut Key, span: Option<std::ops::Range<usize>>) {
        if let Some(setting) = settings::find(key) {
            return self.leaf(item, key.clone(), setting, span);
        }
        if let Some(tables) = item.as_array_of_tables() {
            for (index, table) in tables.iter().enumerate() {
                key.push(index.to_string());
                self.table(table, key);
                key.pop();
            }
            return;
        }
        match item.as_table_like() {
            Some(table) if settings::is_group(key) => self.table(table, key),
            _ => match resolve(key.clone()) {
                Ok((key, setting)) => self.leaf(item, key, setting, span),
                Err(message) => {
                    let origin = self.origin(span);
                    self.layers.mistake(origin, message);
                }
            },
        }
    }

    fn leaf(
        &mut self,
        item: &Item,
        key: Key,
        setting: &Setting,
        span: Option<std::ops::Range<usize>>,
    ) {
        let origin = self.origin(span);
        let checked = value_of(item).and_then(|value| value.check(setting.kind).map(|()| value));
        match checked {
            Ok(value) => self.layers.add(key, value, origin),
            Err(why) => self.layers.mistake(
                origin,
                wrong(&key, setting, &why, &item.as_value().map(written).unwrap_or_default()),
            ),
        }
    }
}

fn value_of(item: &Item) -> Result<Value, String> {
    if let Some(table) = item.as_table_like() {
        let entries = table.iter().map(|(name, item)| Ok((name.to_owned(), value_of(item)?)));
        return Ok(Value::Map(entries.collect::<Result<_, String>>()?));
    }
    match item.as_value() {
        Some(value) => toml_value(value),
        None => Err("expected a value, not a list of tables".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dotted: &str) -> Key {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[track_caller]
    fn mistakes(text: &str, expect: &[&str]) {
        let mut layers = Layers::default();
        layers.add_file(Path::new("s.toml"), text);
        let found: Vec<_> = layers.take_mistakes().iter().map(Mistake::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_places() {
        mistakes(
            "lisen = 1\nport = \"x\"\n[upstream.a]\nkind = \"antropic\"\nbase_ulr = \"y\"\n[alias]\nx = 1\n",
            &[
                "s.toml:1:1: unknown setting `lisen`; did you mean `listen`?",
                "s.toml:2:1: port: expected a whole number, not `x`",
                "s.toml:4:1: upstream.a.kind: expected one of `anthropic`, `messages`, `claude-code`, `argo`, `sandbox`, not `antropic`; did you mean `anthropic`?",
                "s.toml:5:1: unknown setting `upstream.a.base_ulr`; did you mean `base_url`?",
                "s.toml:6:2: alias: expected a table of texts",
            ],
        );
        mistakes(
            "api_key = 7\nport = true\n[upstream.a]\nretry_on = [\"x\"]\n",
            &[
                "s.toml:1:1: api_key: expected a text",
                "s.toml:2:1: port: expected a whole number, not `true`",
                "s.toml:4:1: upstream.a.retry_on: expected a list of whole numbers, not `[\"x\"]`",
            ],
        );
        mistakes(
            "listen = ",
            &["s.toml:1:10: not TOML: string values must be quoted, expected literal string"],
        );
    }

    #[test]
    fn the_stronger_layer_wins() {
        let mut layers = Layers::default();
        layers.add_text(key("port"), "1", ValueOrigin::Flag("port".into()));
        layers.add_variables(
            [("SEAWAY_PORT", "2"), ("SEAWAY_UPSTREAM__A__API_KEY", "k"), ("HOME", "/")].into_iter(),
        );
        layers.add_file(
            Path::new("s.toml"),
            "port = 3\ngrace = 9\n[upstream.a]\napi_key = \"file\"\n",
        );
        assert_eq!(layers.take_mistakes(), []);
        assert_eq!(layers.get(&key("port")).unwrap().0, Value::Count(1));
        assert_eq!(
            layers.get(&key("upstream.a.api_key.value")).unwrap().0,
            Value::Text("k".into())
        );
        assert_eq!(layers.get(&key("grace")).unwrap().1.to_string(), "s.toml:2:1");
    }

    #[test]
    fn an_unknown_variable_is_a_mistake_too() {
        let mut layers = Layers::default();
        layers.add_variables([("SEAWAY_PROT", "2")].into_iter());
        assert_eq!(
            layers.take_mistakes()[0].to_string(),
            "$SEAWAY_PROT: unknown setting `prot`; did you mean `port`?"
        );
        layers.add_variables([("SEAWAY_CLIENTS_CACHE", "x")].into_iter());
        assert_eq!((layers.take_mistakes(), layers.warnings().len()), (Vec::new(), 1));
        // Clients have their key in it, and start commands of ours.
        layers.add_variables([("SEAWAY_KEY", "x")].into_iter());
        assert_eq!((layers.take_mistakes(), layers.warnings().len()), (Vec::new(), 1));
    }

    #[test]
    fn a_name_of_the_owners_own_can_be_set_alone() {
        let mut layers = Layers::default();
        layers.add_text(key("alias.gpt-4.1"), "a", ValueOrigin::Flag("set alias.gpt-4.1".into()));
        layers.add_text(key("upstream.u.set.top_k"), "5", ValueOrigin::Flag("set".into()));
        layers.add_file(Path::new("s.toml"), "[alias]\n'gpt-4.1' = 'weaker'\nb = 'c'\n");
        assert_eq!(layers.take_mistakes(), []);
        let json = |name: &str| layers.get(&key(name)).unwrap().0.to_json().to_string();
        assert_eq!(json("alias"), r#"{"gpt-4.1":"a","b":"c"}"#);
        assert_eq!(json("upstream.u.set"), r#"{"top_k":5}"#);
    }

    #[test]
    fn names_keep_the_order_of_the_file() {
        let mut layers = Layers::default();
        layers.add_file(Path::new("s.toml"), "[upstream.z]\nkind='sandbox'\n[upstream.a]\nkind='sandbox'\n[[route]]\nmodel='1'\n[[route]]\nmodel='2'\n");
        assert_eq!(layers.names("upstream"), ["z", "a"]);
        assert_eq!(layers.names("route"), ["0", "1"]);
    }
}
