//! `seaway serve`: start, say where, and stay.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::args::Cli;
use crate::app::{App, StartError};
use crate::config::{Config, Listen, Log};
use crate::instance;
use crate::server::BindError;

pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let loaded = Config::load(&sources)?;
    start_log(&loaded.config.log);
    for warning in loaded.layers.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state_dir = loaded.config.state_dir.clone();
    runtime.block_on(async {
        let app = App::start(loaded, sources).await.map_err(|error| explain(error, &state_dir))?;
        banner(&app);
        app.run().await;
        anyhow::Ok(())
    })?;
    // What did not end in time must not keep the process.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// An address that is in use may be so by a gateway of our own.
fn explain(error: StartError, state_dir: &Path) -> anyhow::Error {
    let StartError::Bind(BindError::InUse { address, .. }) = &error else { return error.into() };
    let ours = Listen::Tcp(*address).to_string();
    match instance::find(state_dir).into_iter().find(|instance| instance.addresses.contains(&ours)) {
        Some(running) => anyhow::anyhow!("a gateway of yours serves on {ours} already (process {}); `seaway status` tells more", running.pid),
        None => error.into(),
    }
}

/// Log lines go to stderr; stdout is for data.
pub(super) fn start_log(log: &Log) {
    let filter = EnvFilter::builder().parse_lossy(&log.level);
    let color = log.color.unwrap_or_else(|| std::io::stderr().is_terminal());
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).with_target(false);
    // Only a second start in one process could fail, and there is none.
    let _once = if log.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
}

/// What there is to know, and what to paste.
pub(super) fn banner(app: &App) {
    let runtime = app.house.runtime.load();
    if runtime.upstreams.is_empty() {
        eprintln!("seaway has no upstream yet: requests are answered with 503 until there is one.");
        eprintln!(
            "hint: set ANTHROPIC_API_KEY, install Claude Code for a plan (`npm install -g @anthropic-ai/claude-code`), or configure an [upstream.NAME]; `seaway demo` works without\n"
        );
    }
    let addresses: Vec<String> = app.addresses.iter().map(ToString::to_string).collect();
    let upstreams: Vec<String> = runtime.upstreams.iter().map(|upstream| upstream.name.to_string() + if upstream.is_simulated() { " (simulated)" } else { "" }).collect();
    eprintln!("seaway {} serves on {}", env!("CARGO_PKG_VERSION"), addresses.join(", "));
    eprintln!("  upstream  {}", if upstreams.is_empty() { "none".to_owned() } else { upstreams.join(", ") });
    let key = match runtime.keyring.first() {
        None => "any (auth = \"none\")".to_owned(),
        // Into a file or a journal it does not go.
        Some(key) if std::io::stderr().is_terminal() => key.expose_secret().to_owned(),
        Some(_) => "`seaway key show` prints it".to_owned(),
    };
    eprintln!("  key       {key}");
    if let Some(address) = app.addresses.iter().find(|address| matches!(address, Listen::Tcp(_))) {
        eprintln!("  paste     export ANTHROPIC_BASE_URL={address} ANTHROPIC_API_KEY=$(seaway key show)");
        eprintln!("       or   export OPENAI_BASE_URL={address}/v1 OPENAI_API_KEY=$(seaway key show)");
    }
}
