//! `seaway serve`: start, say where, and stay.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::args::Cli;
use super::client::{for_clients, reachable};
use super::{say, status};
use crate::app::App;
use crate::auth::{key_file, unwritable};
use crate::config::{Auth, Config, Listen, Log, UpstreamPlace};
use crate::confine::{Confined, confine};
use crate::http::dashboard::fragment;
use crate::instance::{self, Instance};
use crate::log::{self, LogForm};
use crate::route;
use crate::tunnel::Login;

pub(super) fn run(cli: &Cli, restart: bool) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let loaded = Config::load(&sources)?;
    // Before there is any other thread.
    let confined =
        loaded.config.confine.then(|| confine(&loaded.config.reach(&sources.environment)));
    start_log(&loaded.config.log);
    tell_confined(confined);
    for warning in loaded.layers.warnings() {
        tracing::warn!("{warning}");
    }
    if let Some(why) = unwritable(&loaded.config.state_dir) {
        // Without a key nobody could come in.
        if matches!(loaded.config.auth, Auth::MadeKey)
            && !key_file(&loaded.config.state_dir).exists()
        {
            anyhow::bail!("{why}; make it writable, or set `state_dir`");
        }
        tracing::warn!("{why}; make it writable, or set `state_dir`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        if let Some(running) = same(&loaded.config) {
            if !restart {
                return already(&loaded.config, &running).await;
            }
            replace(&running, loaded.config.grace).await?;
        }
        let app = App::start(loaded, sources).await?;
        banner(&app);
        open_tunnels(&app);
        app.run().await;
        anyhow::Ok(())
    });
    // What did not end in time must not keep the process.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// Tells what the kernel does not hold, to whoever counts on it.
fn tell_confined(confined: Option<std::io::Result<Confined>>) {
    match confined {
        None | Some(Ok(Confined { files: true, calls: true })) => {}
        Some(Ok(Confined { files, calls })) => tracing::info!(
            files,
            calls,
            "this system confines the gateway in part only (landlock for files, seccomp for calls)"
        ),
        Some(Err(error)) => tracing::warn!(%error, "the gateway is not confined (`confine`)"),
    }
}

/// A gateway of our own on one of these addresses.
pub(super) fn same(config: &Config) -> Option<Instance> {
    let wanted: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    instance::find(&config.state_dir)
        .into_iter()
        .find(|instance| instance.addresses.iter().any(|address| wanted.contains(address)))
}

/// The gateway that clients are sent to, if it runs.
pub(super) fn serving(config: &Config) -> Option<Instance> {
    running(config).or_else(|| same(config))
}

/// The gateway that a client should use: ours on these addresses; where none were chosen, the only one that runs.
pub(super) fn running(config: &Config) -> Option<Instance> {
    let chosen = config.listen.iter().map(ToString::to_string).collect::<Vec<_>>() != [USUAL];
    same(config).or_else(|| {
        let mut all = instance::find(&config.state_dir);
        let only = all.pop().filter(|_| all.is_empty() && !chosen)?;
        for_clients(&only.addresses).is_some().then_some(only)
    })
}

/// Where we listen when nobody says.
const USUAL: &str = "http://127.0.0.1:7329";

/// One gateway is enough: says how the running one is, and leaves it alone.
async fn already(config: &Config, running: &Instance) -> anyhow::Result<()> {
    let address = for_clients(&running.addresses).or(running.addresses.first());
    let address = &reachable(address.cloned().unwrap_or_default());
    say!(
        "seaway serves on {address} already (process {}); nothing is started. `seaway serve --restart` takes its place",
        running.pid
    );
    let health = status::ask(running)
        .await
        .map_err(|error| anyhow::anyhow!("it does not answer, though: {error:#}"))?;
    if health["status"] != "ok" {
        let upstreams = || health["upstreams"].as_array().into_iter().flatten();
        let why = upstreams()
            .find_map(|upstream| upstream["why"].as_str())
            .unwrap_or("`seaway status` tells more");
        say!("  but it is {}: {why}", health["status"].as_str().unwrap_or("silent"));
        if upstreams().any(|upstream| upstream["tunnel"]["up"] == false) {
            say!("  the tunnel recovers by itself with the next request");
        }
    }
    paste(address, "$(seaway key show)");
    let fragment =
        if std::io::stderr().is_terminal() { status::fragment(running).await } else { None };
    invite(address, &fragment.unwrap_or_default());
    hint_proxy(config);
    Ok(())
}

/// Tells a gateway of ours to leave, and waits until it has.
async fn replace(running: &Instance, grace: Duration) -> anyhow::Result<()> {
    say!("seaway {} (process {}) is told to leave", running.addresses.join(", "), running.pid);
    let pid = i32::try_from(running.pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| anyhow::anyhow!("{} is no process", running.pid))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let until = Instant::now() + grace + Duration::from_secs(10);
    while std::os::unix::net::UnixStream::connect(&running.socket).is_ok()
        || crate::process::mark(running.pid).is_some()
    {
        anyhow::ensure!(
            Instant::now() < until,
            "process {} does not leave; end it by hand",
            running.pid
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Opens the tunnels that requests will want, and says what came of it. Requests that come meanwhile wait for the same.
pub(super) fn open_tunnels(app: &App) {
    let runtime = app.state.snapshot.load();
    let routed = runtime.config.routes.iter().flat_map(|route| route.upstreams.iter().cloned());
    let wanted: Vec<_> = routed.chain(route::route(&runtime.config, "", "")).collect();
    for upstream in runtime.upstreams.iter().filter(|upstream| wanted.contains(&upstream.name)) {
        let Some(tunnel) = upstream.tunnel().cloned() else { continue };
        let work = async move {
            // Where the port is open there, somebody has logged in, or nobody may, nothing is opened.
            if tunnel.setting.open_at.is_none()
                && tunnel.told().lockout.is_none()
                && tunnel.master().await.is_none()
            {
                say!(
                    "  tunnel    `{}`: opening, by ssh to {}",
                    tunnel.setting.name,
                    tunnel.setting.host
                );
            }
            match tunnel.up(Login::Batch).await {
                Ok(_) => say!(
                    "  tunnel    `{}` is up{}",
                    tunnel.setting.name,
                    if tunnel.told().direct { ", without ssh" } else { "" }
                ),
                Err(error) => say!("  tunnel    not up; requests fail until it is. {error}"),
            }
        };
        app.state.tasks.spawn(work);
    }
}

/// Log lines go to stderr; stdout is for data.
pub(super) fn start_log(setting: &Log) {
    let filter = EnvFilter::builder().parse_lossy(&setting.level);
    let color = setting.color.unwrap_or_else(|| std::io::stderr().is_terminal());
    let builder =
        fmt().with_env_filter(filter).with_writer(log::writer).with_ansi(color).with_target(false);
    match (setting.json, color) {
        (true, _) => log::write_lines_as(LogForm::Json),
        (false, false) => log::write_lines_as(LogForm::Text),
        // A person's terminal: nothing there is in a hurry.
        (false, true) => {}
    }
    // Only a second start in one process could fail, and there is none.
    let _once = if setting.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
}

/// What there is to know, and what to paste.
pub(super) fn banner(app: &App) {
    let runtime = app.state.snapshot.load();
    if runtime.upstreams.is_empty() {
        say!("seaway has no upstream yet: requests are answered with 503 until there is one.");
        say!(
            "hint: set ANTHROPIC_API_KEY, install Claude Code for a plan (`npm install -g @anthropic-ai/claude-code`), or configure an [upstream.NAME]; `seaway demo` works without\n"
        );
    }
    let everywhere = |listen: &Listen| {
        listen.socket_address().is_some_and(|address| address.ip().is_unspecified())
    };
    let told = |listen: &Listen| {
        reachable(listen.to_string())
            + if everywhere(listen) { " and on all other addresses of this machine" } else { "" }
    };
    let addresses: Vec<String> = app.addresses.iter().map(told).collect();
    let upstreams: Vec<String> = runtime
        .upstreams
        .iter()
        .map(|upstream| {
            upstream.name.to_string() + if upstream.is_simulated() { " (simulated)" } else { "" }
        })
        .collect();
    say!("seaway {} serves on {}", env!("CARGO_PKG_VERSION"), addresses.join(", "));
    say!(
        "  upstream  {}",
        if upstreams.is_empty() { "none".to_owned() } else { upstreams.join(", ") }
    );
    for upstream in runtime
        .config
        .upstreams
        .iter()
        .filter(|upstream| !matches!(upstream.place, UpstreamPlace::Sandbox))
    {
        let name = if runtime.upstreams.len() > 1 {
            format!("{}: ", upstream.name)
        } else {
            String::new()
        };
        say!("  by        {name}{}", upstream.told);
    }
    let key = match runtime.keyring.first() {
        None if runtime.keyring.is_open() => "any (auth = \"none\")".to_owned(),
        None => "known by hashes alone: use one that was given out".to_owned(),
        // Into a file or a journal it does not go.
        Some(key) if std::io::stderr().is_terminal() => key.expose_secret().to_owned(),
        Some(_) => "`seaway key show` prints it".to_owned(),
    };
    say!(
        "  key       {key}{}",
        runtime.config.key_from.as_ref().map_or_else(String::new, |from| format!(" (from {from})"))
    );
    let all: Vec<String> = app.addresses.iter().map(ToString::to_string).collect();
    if let Some(address) = for_clients(&all).cloned().map(reachable) {
        paste(&address, if runtime.keyring.is_hashed() { "…" } else { "$(seaway key show)" });
        invite(
            &address,
            &if std::io::stderr().is_terminal() { fragment(&app.state) } else { String::new() },
        );
    }
    hint_proxy(&runtime.config);
}

/// Where a person looks; `fragment` signs a browser in.
fn invite(address: &str, fragment: &str) {
    let once =
        if fragment.is_empty() { "" } else { "; the link signs in once, within ten minutes" };
    say!("  open      {address}/{fragment} in a browser{once}");
}

fn paste(address: &str, key: &str) {
    say!("  paste     export ANTHROPIC_BASE_URL={address} ANTHROPIC_API_KEY={key}");
    say!("       or   export OPENAI_BASE_URL={address}/v1 OPENAI_API_KEY={key}");
}

/// A client that goes to us by a proxy does not get here.
fn hint_proxy(config: &Config) {
    if let Some(bypass) = &config.no_proxy {
        say!(
            "      and   export no_proxy={bypass} NO_PROXY={bypass}   # this shell uses a proxy, which cannot reach us"
        );
    }
}
