//! The clients that we can set up: what each has to be told, and where it reads it.

mod agents;
mod fronts;
mod lists;

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Asks, Change, Edit, Facts, FileChange, Setup, asks};
use crate::config::PROXIES;

/// A client whose settings lie in files.
#[derive(Debug)]
pub struct ClientSetup {
    pub name: &'static str,
    pub about: &'static str,
    /// What it is started with; its settings tell that it is here too.
    pub programs: &'static [&'static str],
    setup: fn(&Facts) -> Setup,
    asks: asks::SetupReader,
}

pub const CLIENTS: &[ClientSetup] = &[
    ClientSetup {
        name: "claude",
        about: "Claude Code",
        programs: &["claude"],
        setup: claude,
        asks: asks::claude,
    },
    ClientSetup {
        name: "codex",
        about: "OpenAI's Codex",
        programs: &["codex"],
        setup: codex,
        asks: asks::codex,
    },
    ClientSetup {
        name: "opencode",
        about: "opencode",
        programs: &["opencode"],
        setup: agents::opencode,
        asks: asks::opencode,
    },
    ClientSetup {
        name: "pi",
        about: "the pi coding agent",
        programs: &["pi"],
        setup: agents::pi,
        asks: asks::pi,
    },
    ClientSetup {
        name: "aider",
        about: "aider",
        programs: &["aider"],
        setup: lists::aider,
        asks: asks::aider,
    },
    ClientSetup {
        name: "continue",
        about: "Continue (VS Code, JetBrains, its command line)",
        programs: &["cn"],
        setup: lists::continue_dev,
        asks: asks::continue_dev,
    },
    ClientSetup {
        name: "llm",
        about: "llm, the command line tool",
        programs: &["llm"],
        setup: lists::llm,
        asks: asks::llm,
    },
    ClientSetup {
        name: "qwen",
        about: "Qwen Code",
        programs: &["qwen"],
        setup: agents::qwen,
        asks: asks::qwen,
    },
    ClientSetup {
        name: "crush",
        about: "Charm's Crush",
        programs: &["crush"],
        setup: agents::crush,
        asks: asks::crush,
    },
    ClientSetup {
        name: "cline",
        about: "Cline (its command line, and its extension for VS Code)",
        programs: &["cline"],
        setup: agents::cline,
        asks: asks::cline,
    },
    ClientSetup {
        name: "goose",
        about: "goose",
        programs: &["goose"],
        setup: agents::goose,
        asks: asks::goose,
    },
    ClientSetup {
        name: "zed",
        about: "Zed",
        programs: &["zed", "zeditor"],
        setup: fronts::zed,
        asks: asks::zed,
    },
    ClientSetup {
        name: "sillytavern",
        about: "SillyTavern",
        programs: &[],
        setup: fronts::sillytavern,
        asks: asks::sillytavern,
    },
    ClientSetup {
        name: "librechat",
        about: "LibreChat",
        programs: &[],
        setup: fronts::librechat,
        asks: asks::librechat,
    },
];

impl ClientSetup {
    pub fn named(name: &str) -> Option<&'static Self> {
        CLIENTS.iter().find(|client| client.name == name)
    }

    /// What this client has to be told.
    pub fn setup(&self, facts: &Facts) -> Setup {
        (self.setup)(facts)
    }

    /// How it will ask, as its files say now; nothing if it could not read them.
    pub fn asks(&self, setup: &Setup, facts: &Facts) -> Option<Asks> {
        asks::read(setup, self.asks, facts)
    }
}

/// How a program is started.
fn start(command: &str) -> String {
    format!("start it with `{command}`")
}

/// A command as a shell takes it.
pub fn line(command: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-=:+@,".contains(&byte))
    };
    let quoted = |word: &String| {
        if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

impl Facts {
    /// A folder that a variable names, or the usual one under the home folder.
    fn folder_of(&self, variable: &str, usual: &str) -> PathBuf {
        self.environment
            .get(variable)
            .map_or_else(|| self.home.join(usual), |folder| self.folder.join(folder))
    }

    /// The folder of a client that keeps to the freedesktop folders, on a Mac too.
    fn config_folder(&self, client: &str) -> PathBuf {
        self.folder_of("XDG_CONFIG_HOME", ".config").join(client)
    }

    /// The key itself, for a client that can neither run a command nor read a file.
    fn written_key(&self) -> String {
        self.key.as_ref().map_or_else(|| "any".to_owned(), |key| key.expose_secret().to_owned())
    }

    /// Prints the key; anything where none is needed.
    fn key_words(&self) -> Vec<String> {
        if self.key.is_some() {
            self.key_command.clone()
        } else {
            vec!["echo".into(), "any".into()]
        }
    }

    /// The folders from where the person is up to the root or the home folder, which is none of them.
    fn projects(&self) -> impl Iterator<Item = &Path> {
        self.folder.ancestors().take_while(|folder| *folder != self.home)
    }

    /// Variables of this shell that a client follows in place of its settings.
    fn overriding(&self, names: &[&str]) -> Vec<String> {
        let set = names.iter().filter(|name| {
            self.environment.get(name).is_some_and(|value| value.trim_end_matches('/') != self.url)
        });
        set.map(|name| format!("this shell sets {name}, which the client follows in place of what is written; `unset {name}`")).collect()
    }
}

/// The value of a member of a file that may not be there.
fn member(path: &Path, keys: &[&str]) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    if path.extension().is_some_and(|kind| kind == "toml") {
        return super::toml_member(&text, keys);
    }
    let mut value: Value =
        jsonc_parser::parse_to_serde_value(&text, &jsonc_parser::ParseOptions::default()).ok()?;
    for key in keys {
        value = value.get(*key)?.clone();
    }
    Some(value)
}

/// Warnings of project files that say one of these members.
fn project_files(facts: &Facts, files: &[&str], members: &[&[&str]]) -> Vec<String> {
    let mut found = Vec::new();
    for path in facts.projects().flat_map(|folder| files.iter().map(|file| folder.join(file))) {
        for keys in members.iter().filter(|keys| member(&path, keys).is_some()) {
            found.push(format!(
                "{} sets `{}`, which the client follows in this folder in place of what is written",
                path.display(),
                keys.join(".")
            ));
        }
    }
    found
}

/// What its own file sets that it follows in place of what is written.
fn claude_keys(facts: &Facts, file: &Path) -> Vec<String> {
    let keys = [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    ];
    let ours = |key: &str| facts.budget && key == "ANTHROPIC_AUTH_TOKEN";
    let set = keys.iter().filter(|key| !ours(key) && member(file, &["env", key]).is_some());
    set.map(|key| format!("{} sets `env.{key}`, which Claude Code follows in place of what is written; take it out", file.display())).collect()
}

/// <https://code.claude.com/docs/en/settings>
fn claude(facts: &Facts) -> Setup {
    let file = facts.folder_of("CLAUDE_CONFIG_DIR", ".claude").join("settings.json");
    let mut edits = vec![Edit::own(&["env", "ANTHROPIC_BASE_URL"], facts.url.as_str())];
    // With these three it shows what a gateway says of a budget, and with a helper it would not.
    if facts.budget {
        let key = facts.key.as_ref().map_or("any", |key| key.expose_secret());
        edits.push(Edit::own(&["env", "ANTHROPIC_AUTH_TOKEN"], key));
        edits.push(Edit::own(&["env", "CLAUDE_CODE_USE_GATEWAY"], "1"));
    } else {
        edits.push(Edit::own(&["apiKeyHelper"], line(&facts.key_words())));
    }
    if let Some(words) = &facts.statusline {
        let command = json!({"type": "command", "command": line(words)});
        edits.push(Edit::own(&["statusLine"], command));
    }
    let by_proxy = PROXIES.iter().any(|name| member(&file, &["env", name]).is_some());
    if by_proxy || facts.no_proxy.is_some() {
        let seed = facts.no_proxy.clone().unwrap_or_default();
        edits.extend(["no_proxy", "NO_PROXY"].map(|name| Edit::no_proxy(&["env", name], &seed)));
    }
    let mut warnings = facts.overriding(&[
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    ]);
    let overriding: [&[&str]; 5] = [
        &["env", "ANTHROPIC_BASE_URL"],
        &["env", "ANTHROPIC_AUTH_TOKEN"],
        &["env", "ANTHROPIC_API_KEY"],
        &["env", "CLAUDE_CODE_USE_BEDROCK"],
        &["apiKeyHelper"],
    ];
    warnings.extend(project_files(
        facts,
        &[".claude/settings.local.json", ".claude/settings.json"],
        &overriding,
    ));
    warnings.extend(claude_keys(facts, &file));
    for managed in [
        "/etc/claude-code/managed-settings.json",
        "/Library/Application Support/ClaudeCode/managed-settings.json",
    ] {
        if member(Path::new(managed), &["env", "ANTHROPIC_BASE_URL"]).is_some() {
            warnings.push(format!(
                "{managed} sets `env.ANTHROPIC_BASE_URL` for everybody on this machine, and wins"
            ));
        }
    }
    Setup {
        files: vec![FileChange { path: file, change: Change::StrictJson(edits) }],
        then: start("claude"),
        warnings,
    }
}

/// <https://developers.openai.com/codex/config-reference>
fn codex(facts: &Facts) -> Setup {
    let file = facts.folder_of("CODEX_HOME", ".codex").join("config.toml");
    let mut edits: Vec<Edit> =
        codex_choices(facts).into_iter().map(|(key, value)| Edit::choice(&[key], value)).collect();
    edits.push(Edit::own(&["model_providers", "seaway"], codex_provider(facts)));
    let mut warnings =
        project_files(facts, &[".codex/config.toml"], &[&["model"], &["web_search"]]);
    if member(&file, &["profile"]).is_some() {
        warnings.push(format!(
            "{} chooses a `profile`, which may choose another provider",
            file.display()
        ));
    }
    Setup {
        files: vec![FileChange { path: file, change: Change::Toml(edits) }],
        then: start("codex"),
        warnings,
    }
}

/// What Codex is to choose, in its file or on its command line.
fn codex_choices(facts: &Facts) -> Vec<(&'static str, Value)> {
    let mut choices =
        vec![("model_provider", "seaway".into()), ("model", facts.model.as_str().into())];
    if !facts.searches {
        // It would ask for a tool that nobody here serves.
        choices.push(("web_search", "disabled".into()));
    }
    choices
}

/// What Codex has to know of us.
fn codex_provider(facts: &Facts) -> Value {
    let words = facts.key_words();
    let (command, arguments) = words.split_first().expect("a command has a first word");
    json!({"name": "Seaway", "base_url": format!("{}/v1", facts.url), "wire_api": "responses", "auth": {"command": command, "args": arguments}})
}

/// The provider of `seaway run`: one of its own beside what `seaway connect` may have written, with which Codex would put it together.
const RUN: &str = "seaway_run";

/// The arguments that tell Codex of us without a file.
pub fn codex_arguments(facts: &Facts) -> Vec<String> {
    let provider = format!(
        "model_providers.{RUN}={{name=\"Seaway\",base_url=\"{}/v1\",wire_api=\"responses\",env_key=\"SEAWAY_KEY\"}}",
        facts.url
    );
    // What is JSON here is TOML too.
    // It asks for no list with such a key, and would take a model that it does not know for larger than it is.
    let window = ("model_context_window", 200_000.into());
    let choices = codex_choices(facts).into_iter().chain([window]);
    let choices =
        choices.map(|(key, value)| (key, if key == "model_provider" { RUN.into() } else { value }));
    let choices = choices.map(|(key, value)| format!("{key}={value}"));
    choices.chain([provider]).flat_map(|value| ["-c".to_owned(), value]).collect()
}
