//! The settings that come of it, as they are found.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

/// Why files cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{path}: {why}")]
    Unreadable { path: String, why: String },
    #[error(
        "{path} is no file of a tool that is known here by its content; say whose it is with `--from`: {tools}"
    )]
    Unknown { path: String, tools: String },
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
}

/// A setting of ours, and where it comes from.
#[derive(Debug)]
struct DraftSetting {
    key: Vec<String>,
    value: toml_edit::Value,
    from: String,
}

impl DraftSetting {
    /// The upstream that there is by it.
    fn begins_upstream(&self) -> Option<String> {
        match self.key.as_slice() {
            [first, name, last] if first == "upstream" && last == "kind" => Some(name.clone()),
            _ => None,
        }
    }
}

/// A route: which models go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftRoute {
    pub model: String,
    pub upstreams: Vec<String>,
    pub from: String,
}

/// A `seaway.toml` that is being made.
#[derive(Debug, Default)]
pub(super) struct Draft {
    sources: Vec<String>,
    file: String,
    settings: Vec<DraftSetting>,
    pub(super) routes: Vec<DraftRoute>,
    /// What has no counterpart, and why.
    remarks: Vec<String>,
    mistakes: Vec<String>,
    host: Option<(String, String)>,
    port: Option<(u16, String)>,
    /// Where the tool listens if nobody says where.
    usual_port: Option<u16>,
    /// The tool asks its clients for a key.
    pub(super) has_key: bool,
    /// The tool has a key only if it is told one.
    pub(super) keyless: bool,
    /// The plan's program is among the upstreams.
    pub(super) plan: bool,
}

impl Draft {
    /// Goes on with a file.
    pub(super) fn begin(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or(path.as_os_str());
        self.file = name.to_string_lossy().into_owned();
        self.sources.push(self.file.clone());
    }

    /// Whose file it is.
    pub(super) fn of_tool(&mut self, tool: &str) {
        if let Some(last) = self.sources.last_mut() {
            last.push_str(&format!(" ({tool})"));
        }
    }

    /// Sets one of our settings; dots part its name.
    pub(super) fn set(&mut self, key: &str, to: impl Into<toml_edit::Value>, from: &str) {
        let key = key.split('.').map(str::to_owned).collect();
        self.set_at(key, to, from);
    }

    /// The same for a name that may hold dots.
    pub(super) fn set_at(&mut self, key: Vec<String>, to: impl Into<toml_edit::Value>, from: &str) {
        self.settings.retain(|setting| setting.key != key);
        self.settings.push(DraftSetting { key, value: to.into(), from: from.to_owned() });
    }

    /// True if the setting, or one below it, is there already.
    pub(super) fn has(&self, key: &str) -> bool {
        let key: Vec<&str> = key.split('.').collect();
        self.settings.iter().any(|setting| {
            setting.key.len() >= key.len() && setting.key.iter().zip(&key).all(|(a, b)| a == b)
        })
    }

    /// What a name stands for so far, if it is an alias.
    pub(super) fn alias(&self, name: &str) -> Option<&str> {
        let setting = self.settings.iter().find(|setting| setting.key == ["alias", name])?;
        setting.value.as_str()
    }

    /// Sets a secret: `$NAME`, `${NAME}` and `os.environ/NAME` stay variables.
    pub(super) fn secret(&mut self, key: &str, text: &str, from: &str) {
        match variable(text) {
            Some(name) => self.set(&format!("{key}.env"), name, from),
            None => self.set(&format!("{key}.value"), text, from),
        }
    }

    /// Takes over the key that clients send. One that lies in a variable stays there.
    pub(super) fn local_key(&mut self, given: &Value, from: &str) {
        self.has_key = true;
        match given.as_str().map(|key| (key, variable(key))) {
            Some((_, Some(variable))) => self.remark(
                from,
                &format!("the key is in {variable}: give it as SEAWAY_API_KEY in the environment"),
            ),
            _ => self.text("api_key", given, from),
        }
    }

    /// Says why something has no counterpart.
    pub(super) fn remark(&mut self, from: &str, why: &str) {
        self.remarks.push(format!("{from}: {why}"));
    }

    fn mistake(&mut self, from: &str, value: &Value, wanted: &str) {
        self.mistakes.push(format!("{}: {from}: {value} is not {wanted}", self.file));
    }

    /// Sets a text.
    pub(super) fn text(&mut self, key: &str, given: &Value, from: &str) {
        match given {
            Value::String(text) => self.set(key, text.as_str(), from),
            Value::Number(number) => self.set(key, number.to_string(), from),
            other => self.mistake(from, other, "a text"),
        }
    }

    /// Sets a whole number.
    pub(super) fn count(&mut self, key: &str, given: &Value, from: &str) {
        match number(given).and_then(|count| i64::try_from(count).ok()) {
            Some(count) => self.set(key, count, from),
            None => self.mistake(from, given, "a whole number"),
        }
    }

    /// Sets a span of time, given as so many of these.
    pub(super) fn span(&mut self, key: &str, given: &Value, unit: Duration, from: &str) {
        let count = match given {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let span = count
            .and_then(|count: f64| Duration::try_from_secs_f64(count * unit.as_secs_f64()).ok());
        match span.map(|span| span.as_millis()) {
            Some(millis) if millis % 1000 == 0 => {
                self.set(key, format!("{}s", millis / 1000), from);
            }
            Some(millis) => self.set(key, format!("{millis}ms"), from),
            None => self.mistake(from, given, "a span of time"),
        }
    }

    /// A switch, as tools write them.
    pub(super) fn flag(&mut self, given: &Value, from: &str) -> Option<bool> {
        let flag = match given {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" | "" => Some(false),
                _ => None,
            },
            Value::Number(number) => number.as_u64().map(|number| number != 0),
            _ => None,
        };
        if flag.is_none() {
            self.mistake(from, given, "`true` or `false`");
        }
        flag
    }

    /// A level of what is logged, in the names of other loggers.
    pub(super) fn level(&mut self, given: &Value, from: &str) {
        let level = match given.as_str().map(str::to_lowercase).as_deref() {
            Some("fatal" | "critical" | "silent" | "error") => "error",
            Some("warn" | "warning") => "warn",
            Some("info" | "notice" | "http") => "info",
            Some("debug" | "verbose") => "debug",
            Some("trace" | "silly") => "trace",
            _ => return self.mistake(from, given, "a level such as `info`"),
        };
        self.set("log_level", level, from);
    }

    pub(super) fn host(&mut self, given: &Value, from: &str) {
        match given.as_str() {
            Some(host) if !host.trim().is_empty() => {
                self.host = Some((host.trim().to_owned(), from.to_owned()));
            }
            _ => self.mistake(from, given, "an address"),
        }
    }

    pub(super) fn port(&mut self, given: &Value, from: &str) {
        match number(given).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
            Some(port) => self.port = Some((port, from.to_owned())),
            None => self.mistake(from, given, "a port from 1 to 65535"),
        }
    }

    /// Where the tool listens if nobody says where: its clients have that address.
    pub(super) fn usual_port(&mut self, port: u16) {
        self.usual_port = Some(port);
    }

    /// Makes of host and port what we listen on.
    fn listen(&mut self) {
        let (host, port) = (self.host.take(), self.port.take());
        let usual = self.usual_port.map(|port| (port, "where it listens by default".to_owned()));
        let Some((port, from)) = port.or(usual) else {
            if let Some((host, from)) = host.filter(|(host, _)| !is_local(host)) {
                self.remark(&from, &format!("set `listen = \"{host}:PORT\"` to be reached from other machines; clients then need a key"));
            }
            return;
        };
        let local = host.as_ref().is_none_or(|(host, _)| is_local(host));
        let from = match &host {
            Some((_, also)) => format!("{also}, {from}"),
            None => from,
        };
        let open = !local && self.has_key && !self.plan;
        let host = match &host {
            Some((host, _)) if open => host.as_str(),
            _ => "127.0.0.1",
        };
        self.set("listen", format!("{host}:{port}"), &from);
        if !local && !open {
            let why = if self.plan {
                "other machines could use the plan, which is its owner's alone: loopback in its place. Where nobody but you can reach it, set `listen`, `api_key` and `claude_code.remote = true`"
            } else {
                "anybody in the network could use it without a key: loopback in its place. For other machines set `listen` and `api_key`"
            };
            self.remark(&from, why);
        }
    }

    /// What belongs to an upstream that no file has is left, with a word.
    fn of_nobody(&mut self) {
        let all = std::mem::take(&mut self.settings);
        let there: Vec<String> = all.iter().filter_map(DraftSetting::begins_upstream).collect();
        let (kept, left) = all.into_iter().partition(|setting| match setting.key.as_slice() {
            [first, name, ..] if first == "upstream" => there.contains(name),
            _ => true,
        });
        self.settings = kept;
        let left: Vec<DraftSetting> = left;
        for DraftSetting { key, value, from } in left {
            let (key, value) = (key.join("."), value.to_string());
            self.remark(
                &from,
                &format!("`{key} = {}`, once there is such an upstream", value.trim()),
            );
        }
    }

    /// The text of the file.
    pub(super) fn finish(mut self) -> Result<String, ImportError> {
        self.of_nobody();
        if !self.mistakes.is_empty() {
            return Err(ImportError::Mistakes(self.mistakes));
        }
        self.listen();
        if self.keyless && !self.has_key && !self.has("auth") {
            self.set("auth", "none", "no key was wanted; only this machine reaches it");
        }
        let mut text = format!("# What {} amounts to.\n\n", self.sources.join(" and "));
        text += &self.document().to_string();
        if !self.remarks.is_empty() {
            text += "\n# Without a counterpart here, or otherwise on purpose:\n";
            for remark in &self.remarks {
                text += &format!("# - {}\n", one_line(remark));
            }
        }
        Ok(text)
    }

    fn document(&mut self) -> DocumentMut {
        let mut document = DocumentMut::new();
        let mut before = "";
        // What stands at the top comes first.
        self.settings.sort_by_key(|setting| setting.key.len() > 1);
        for setting in &self.settings {
            let Some((last, tables)) = setting.key.split_last() else { continue };
            let Some(table) = below(document.as_table_mut(), tables) else { continue };
            table.insert(last, value(setting.value.clone()));
            if setting.from != before
                && let Some(mut key) = table.key_mut(last)
            {
                key.leaf_decor_mut().set_prefix(format!("# {}\n", one_line(&setting.from)));
            }
            before = &setting.from;
        }
        let mut routes = ArrayOfTables::new();
        for route in &self.routes {
            let mut table = Table::new();
            table.decor_mut().set_prefix(format!("\n# {}\n", one_line(&route.from)));
            table.insert("model", value(route.model.as_str()));
            let upstreams = route.upstreams.iter().map(String::as_str).collect::<Array>();
            table.insert("upstream", value(upstreams));
            routes.push(table);
        }
        if !routes.is_empty() {
            document.insert("route", Item::ArrayOfTables(routes));
        }
        document
    }
}

/// The table below this one, with those on the way to it.
fn below<'t>(table: &'t mut Table, names: &[String]) -> Option<&'t mut Table> {
    let Some((first, rest)) = names.split_first() else { return Some(table) };
    let next = table.entry(first).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    below(next.as_table_mut()?, rest)
}

/// A remark must not go on as a setting.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A name that can be a table's: letters and digits of somebody else's, with hyphens in place of the rest.
pub(super) fn table_name(text: &str) -> String {
    text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

pub(super) fn number(given: &Value) -> Option<u64> {
    match given {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The name of the variable that a text stands for.
pub(super) fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("os.environ/").or_else(|| text.strip_prefix('$'))?;
    let name = name.strip_prefix('{').map_or(name, |name| name.trim_end_matches('}'));
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(fits)).then_some(name)
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
