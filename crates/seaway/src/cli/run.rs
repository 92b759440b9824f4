//! `seaway run`: starts a client with the right environment, and touches no file.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use secrecy::{ExposeSecret, SecretString};

use super::args::{BudgetOptions, Cli};
use super::client::for_clients;
use super::{UsageError, facts, serve};
use crate::app::App;
use crate::config::{Config, merged_no_proxy};
use crate::connect::Facts;
use crate::connect::clients::codex_arguments;
use crate::process::{self, Launch};

/// What would lead a client elsewhere.
const ELSEWHERE: [&str; 17] = [
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_BASE",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_API_BASE_URL",
    "OPENAI_API_BASE_URLS",
    "OPENAI_API_KEY",
    "OPENAI_API_KEYS",
    "OPENAI_HOST",
    "OPENAI_ORGANIZATION",
    "ANTHROPIC_HOST",
];

pub(super) fn run(
    cli: &Cli,
    budget: &BudgetOptions,
    command: &[String],
) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let loaded = Config::load(&sources)?;
    let environment = sources.environment.clone();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let app = if serve::running(&loaded.config).is_none() {
        Some(runtime.block_on(App::start(loaded, sources.clone()))?)
    } else {
        None
    };
    let config = Config::load(&sources)?.config;
    let mut facts = facts::reach(&config, environment)?;
    if let Some(app) = &app {
        let own: Vec<String> = app.addresses.iter().map(ToString::to_string).collect();
        facts.url = for_clients(&own).cloned().unwrap_or(facts.url);
        let _inside = runtime.enter();
        serve::open_tunnels(app);
    }
    let (program, arguments) = command.split_first().expect("clap wants a command");
    if budget.budget && name_of(program) != "claude" {
        return Err(UsageError("--budget is for `claude`".into()).into());
    }
    facts::with_budget(&mut facts, budget)?;
    let launch = launch(program, arguments, &facts)?;
    let Some(app) = app else {
        // Nothing of us is needed any more: its signals and its status are its own.
        return Err(anyhow::Error::new(process::become_program(&launch))
            .context(format!("cannot start {}", launch.program.display())));
    };
    let client = Arc::new(AtomicU32::new(0));
    let started = client.clone();
    let pass_on = move |signal| process::send(client.load(Ordering::Relaxed), signal);
    let status = runtime.block_on(async {
        let running = tokio::task::spawn_blocking(move || {
            process::in_terminal_as(&launch, |id| started.store(id, Ordering::Relaxed))
        });
        app.until(running, pass_on).await
    })??;
    runtime.shutdown_background();
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn launch(program: &str, arguments: &[String], facts: &Facts) -> anyhow::Result<Launch> {
    let name = name_of(program);
    let named = PathBuf::from(program);
    let found = if named.components().count() > 1 {
        Some(named)
    } else {
        in_path(program, facts.environment.get("PATH").unwrap_or_default())
    };
    let found = found.ok_or_else(|| {
        anyhow::anyhow!("there is no program `{program}`; is it installed, and on the PATH?")
    })?;
    let told = match name.as_str() {
        // Codex reads no address from its environment, only from its settings.
        "codex" => codex_arguments(facts),
        // Claude Code puts the `env` of settings files over its environment; only these stand above a project's. No key goes here.
        "claude" if !arguments.iter().any(|argument| argument.starts_with("--settings")) => {
            vec![
                "--settings".to_owned(),
                serde_json::json!({"env": {"ANTHROPIC_BASE_URL": facts.url}}).to_string(),
            ]
        }
        _ => Vec::new(),
    };
    let arguments = told.iter().chain(arguments).map(Into::into).collect();
    Ok(Launch {
        program: found,
        arguments,
        environment: environment(&name, facts),
        folder: facts.folder.clone(),
    })
}

/// The name of a program, without where it lies.
fn name_of(program: &str) -> String {
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn in_path(program: &str, path: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The variables of this shell, but for those that lead elsewhere, and ours.
fn environment(client: &str, facts: &Facts) -> Vec<(String, SecretString)> {
    let dropped = |name: &str| ELSEWHERE.contains(&name) || name.starts_with("SEAWAY_");
    let mut all: Vec<(String, SecretString)> = facts
        .environment
        .iter()
        .filter(|(name, _)| !dropped(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
        .collect();
    let key = facts.key.as_ref().map_or("any", |key| key.expose_secret());
    // Claude Code asks whether a key that it finds may be used, but not of a token.
    let carrier = if client == "claude" { "ANTHROPIC_AUTH_TOKEN" } else { "ANTHROPIC_API_KEY" };
    let v1 = format!("{}/v1", facts.url);
    let mut own = vec![
        ("ANTHROPIC_BASE_URL", facts.url.as_str()),
        ("ANTHROPIC_API_BASE", &facts.url),
        (carrier, key),
        ("OPENAI_BASE_URL", &v1),
        ("OPENAI_API_BASE", &v1),
        // Open WebUI's and goose's names for it.
        ("OPENAI_API_BASE_URL", &v1),
        ("ANTHROPIC_HOST", &facts.url),
        ("OPENAI_API_KEY", key),
        ("SEAWAY_KEY", key),
    ];
    if facts.budget {
        own.push(("CLAUDE_CODE_USE_GATEWAY", "1"));
    }
    let bypass = ["no_proxy", "NO_PROXY"]
        .iter()
        .find_map(|name| facts.environment.get(name))
        .map(merged_no_proxy)
        .or_else(|| facts.no_proxy.clone());
    if let Some(bypass) = &bypass {
        own.extend([("no_proxy", bypass.as_str()), ("NO_PROXY", bypass)]);
        all.retain(|(name, _)| !name.eq_ignore_ascii_case("no_proxy"));
    }
    all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned().into())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_client_gets_our_address_and_nothing_that_leads_elsewhere() {
        let given = [
            ("HOME", "/h"),
            ("ANTHROPIC_AUTH_TOKEN", "theirs"),
            ("CLAUDE_CODE_USE_BEDROCK", "1"),
            ("NO_PROXY", "a"),
            ("SEAWAY_CONFIG", "x"),
        ];
        let facts = Facts {
            url: "http://127.0.0.1:1".into(),
            key: Some("k".to_owned().into()),
            environment: Environment::of(
                given.map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            ..Facts::default()
        };
        let check = |client: &str, name: &str, expect: Option<&str>| {
            let all = environment(client, &facts);
            let found: Vec<&str> = all
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, value)| value.expose_secret())
                .collect();
            assert_eq!(found, expect.into_iter().collect::<Vec<_>>(), "{client} {name}");
        };
        check("claude", "ANTHROPIC_AUTH_TOKEN", Some("k"));
        check("claude", "ANTHROPIC_API_KEY", None);
        check("python", "ANTHROPIC_API_KEY", Some("k"));
        check("python", "ANTHROPIC_AUTH_TOKEN", None);
        check("python", "OPENAI_BASE_URL", Some("http://127.0.0.1:1/v1"));
        check("python", "CLAUDE_CODE_USE_BEDROCK", None);
        check("python", "SEAWAY_CONFIG", None);
        check("python", "NO_PROXY", Some("a,localhost,127.0.0.1"));
        check("python", "HOME", Some("/h"));
    }
}
