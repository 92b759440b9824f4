//! What another tool's settings amount to here.
//!
//! A file is read as that tool reads it. Each of its settings becomes one of ours, or a remark that says why there is
//! none: nothing of it vanishes.

mod draft;
mod keys;
mod litellm;
mod names;
mod router;

use std::path::Path;

use serde_json::{Map, Value};

use draft::Draft;
pub use draft::ImportError;
pub use keys::litellm_keys;

/// The tools whose settings are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A file of variables: heysarver/claude-code-proxy, argo-shim, ClaudeCodeProxy.
    Env,
    /// claude-ws-proxy's `config.json`.
    WsProxy,
    /// horselock/claude-code-proxy's `config.txt`.
    Horselock,
    /// horselock/claude-code-proxy's presets.
    Preset,
    /// argo-proxy's `config.yaml`.
    ArgoProxy,
    /// LiteLLM's `config.yaml`.
    LiteLlm,
    /// claude-code-router's `config.json`.
    Router,
}

/// What a tool is called where one is named.
const TOOLS: [(&str, Tool); 7] = [
    ("env", Tool::Env),
    ("claude-ws-proxy", Tool::WsProxy),
    ("horselock", Tool::Horselock),
    ("preset", Tool::Preset),
    ("argo-proxy", Tool::ArgoProxy),
    ("litellm", Tool::LiteLlm),
    ("claude-code-router", Tool::Router),
];

impl Tool {
    /// The names of all, for whoever has to choose.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TOOLS.iter().map(|(name, _)| *name)
    }

    pub fn named(name: &str) -> Option<Self> {
        TOOLS.iter().find(|(known, _)| *known == name).map(|(_, tool)| *tool)
    }

    /// What its file is, for a person.
    fn what(self) -> &'static str {
        match self {
            Self::Env => "variables",
            Self::WsProxy => "claude-ws-proxy",
            Self::Horselock => "horselock/claude-code-proxy",
            Self::Preset => "a preset of horselock/claude-code-proxy",
            Self::ArgoProxy => "argo-proxy",
            Self::LiteLlm => "LiteLLM",
            Self::Router => "claude-code-router",
        }
    }

    /// Whose file it is, by its name and what it holds.
    fn of(path: &Path, settings: &Map<String, Value>) -> Option<Self> {
        let has = |names: &[&str]| names.iter().any(|name| settings.contains_key(*name));
        match kind(path) {
            FileKind::Variables => Some(Self::Env),
            FileKind::Lines => Some(Self::Horselock),
            FileKind::Json if has(&["Providers", "Router", "providers"]) => Some(Self::Router),
            FileKind::Json
                if has(&[
                    "httpPort",
                    "maxSessions",
                    "sessionTimeoutMs",
                    "requireApiKey",
                    "autoApproveTool",
                ]) =>
            {
                Some(Self::WsProxy)
            }
            FileKind::Json if has(&["system", "suffix", "suffixEt"]) => Some(Self::Preset),
            FileKind::Yaml
                if has(&[
                    "model_list",
                    "litellm_settings",
                    "general_settings",
                    "router_settings",
                ]) =>
            {
                Some(Self::LiteLlm)
            }
            FileKind::Yaml
                if settings.keys().any(|key| key.starts_with("argo_")) || has(&["user"]) =>
            {
                Some(Self::ArgoProxy)
            }
            FileKind::Json | FileKind::Yaml => None,
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// `NAME=value`, as shells and dotenv have it.
    Variables,
    /// `name=value  # remark`.
    Lines,
    Json,
    Yaml,
}

fn kind(path: &Path) -> FileKind {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match path.extension().and_then(|end| end.to_str()).map(str::to_lowercase).as_deref() {
        Some("json" | "json5" | "jsonc") => FileKind::Json,
        Some("yaml" | "yml") => FileKind::Yaml,
        Some("txt" | "conf" | "cfg") if !name.contains("env") => FileKind::Lines,
        _ => FileKind::Variables,
    }
}

/// Reads files of other tools, one after another; of two that say the same, the later one counts. Returns the text of
/// a `seaway.toml`.
///
/// # Errors
///
/// [`ImportError`] names the file and what is wrong in it.
pub fn import(files: &[(&Path, &str)], given: Option<Tool>) -> Result<String, ImportError> {
    let mut draft = Draft::default();
    for (path, text) in files {
        draft.begin(path);
        let settings = read(path, text, given)?;
        let tool =
            given.or_else(|| Tool::of(path, &settings)).ok_or_else(|| ImportError::Unknown {
                path: path.display().to_string(),
                tools: Tool::names().collect::<Vec<_>>().join(", "),
            })?;
        draft.of_tool(tool.what());
        match tool {
            Tool::LiteLlm => litellm::import(&settings, &mut draft),
            Tool::Router => router::import(&settings, &mut draft),
            Tool::Preset => names::preset(&settings, path, &mut draft),
            Tool::Env => names::variables(&settings, &mut draft),
            Tool::WsProxy => names::ws_proxy(&settings, &mut draft),
            Tool::Horselock => names::horselock(&settings, &mut draft),
            Tool::ArgoProxy => names::argo_proxy(&settings, &mut draft),
        }
    }
    draft.finish()
}

/// Reads a file into names and values.
fn read(path: &Path, text: &str, given: Option<Tool>) -> Result<Map<String, Value>, ImportError> {
    let wrong = |why: String| ImportError::Unreadable { path: path.display().to_string(), why };
    let kind = match given {
        Some(Tool::Env) => FileKind::Variables,
        Some(Tool::Horselock) => FileKind::Lines,
        Some(Tool::WsProxy | Tool::Router | Tool::Preset) => FileKind::Json,
        Some(Tool::ArgoProxy | Tool::LiteLlm) => FileKind::Yaml,
        None => kind(path),
    };
    let value = match kind {
        FileKind::Variables => return Ok(variables(text)),
        FileKind::Lines => return Ok(lines(text)),
        FileKind::Json => jsonc_parser::parse_to_serde_value::<Value>(
            text,
            &jsonc_parser::ParseOptions::default(),
        )
        .map_err(|error| wrong(error.to_string()))?,
        FileKind::Yaml => {
            serde_saphyr::from_str::<Value>(text).map_err(|error| wrong(error.to_string()))?
        }
    };
    match value {
        Value::Object(settings) => Ok(settings),
        Value::Null => Ok(Map::new()),
        _ => Err(wrong("it holds no settings by name".into())),
    }
}

/// `NAME=value` lines, as dotenv reads them: quotes around a value are none of it, nor is a remark behind it.
fn variables(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("export ").trim_start();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            let inside = value.strip_prefix(quote)?;
            inside.find(quote).map(|end| &inside[..end])
        });
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or_default().trim());
        Some((name.trim().to_owned(), Value::String(value.to_owned())))
    });
    pairs.collect()
}

/// `name=value` lines, of which a `#` ends each.
fn lines(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        Some((name.trim().to_owned(), Value::String(value.trim().to_owned())))
    });
    pairs.collect()
}
