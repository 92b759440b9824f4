//! `seaway login` and `seaway logout`: the official program's own, in this terminal.

use std::process::ExitCode;

use tokio_util::task::TaskTracker;

use super::args::Cli;
use crate::config::{Config, ProgramConfig, UpstreamPlace};
use crate::process::{self, Programs};
use crate::store::AuditEvent;
use crate::upstream::claude_code::Installed;

/// Variables that would make the program use something else than its login, or that are none of its business.
const KEPT_BACK: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"];

pub(super) fn run(cli: &Cli, word: &str) -> anyhow::Result<ExitCode> {
    let mut sources = cli.sources()?;
    let mut setting = program(&Config::load(&sources)?.config);
    if setting.is_none() {
        // A login is about the program, whatever else is configured.
        sources.flags.push(("default_upstream".into(), "claude-code".into()));
        setting = program(&Config::load(&sources)?.config);
    }
    let setting = setting.ok_or_else(|| {
        anyhow::anyhow!(
            "an upstream called `claude-code` is something else here; set `kind = \"claude-code\"`"
        )
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut launch = runtime.block_on(
        Installed::new(Programs::Real, TaskTracker::new()).command(&setting, &["auth", word]),
    )?;
    let own = |name: &str| name.starts_with("SEAWAY_") || KEPT_BACK.contains(&name);
    // The program may open a browser, and draws in this terminal: it gets what the terminal has.
    launch.environment.extend(
        sources
            .environment
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned().into())),
    );
    let status = process::in_terminal(&launch)?;
    if status.success() {
        let event =
            if word == "login" { AuditEvent::ProgramLogin } else { AuditEvent::ProgramLogout };
        super::audit::note(&Config::load(&sources)?.config, event, "in a terminal");
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn program(config: &Config) -> Option<ProgramConfig> {
    config.upstreams.iter().find_map(|upstream| match &upstream.place {
        UpstreamPlace::Program(program) => Some((**program).clone()),
        UpstreamPlace::Api(_) | UpstreamPlace::Sandbox => None,
    })
}
