//! `seaway doctor`: each layer in turn, what is wrong and what to do.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use seaway_wire::Endpoint;
use seaway_wire::claude_code::{COMPLETE, COMPOSED, Version};
use serde::Serialize;
use tokio_util::task::TaskTracker;

use super::args::Cli;
use super::client::for_clients;
use super::{facts, serve};
use crate::auth::{Keyring, unwritable};
use crate::causes::chain;
use crate::config::{Config, ConfigError, Listen};
use crate::dial::Network;
use crate::ledger::Books;
use crate::process::Programs;
use crate::store::Store;
use crate::tunnel::{Login, Tunnel, TunnelLayer};
use crate::upstream::claude_code::{Program, install};
use crate::upstream::{Call, Dependencies, Upstream};
use crate::{catalog, headers, instance};

#[derive(Debug, Serialize)]
struct Finding {
    layer: String,
    good: bool,
    /// The finding, in words.
    what: String,
    /// The remedy, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn good(layer: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding { layer: layer.into(), good: true, what: what.into(), hint: None }
}

fn bad(layer: impl Into<String>, what: impl Into<String>, hint: &str) -> Finding {
    Finding { layer: layer.into(), good: false, what: what.into(), hint: Some(hint.to_owned()) }
}

/// Tells of a gateway that runs by other settings than these.
fn elsewhere(config: &Config) -> Option<Finding> {
    let running = serve::running(config)?;
    let url = for_clients(&running.addresses).cloned()?;
    let other = facts::address(config).is_none_or(|own| own != url);
    other.then(|| Finding {
        layer: "gateway".into(),
        good: true,
        what: format!("one runs at {url}; what follows is what `seaway serve` would do with the settings of this shell"),
        hint: Some("`seaway status` tells of the one that runs; give the same flags to look at its settings".into()),
    })
}

pub(super) fn run(cli: &Cli, live: bool, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = match Config::load(&cli.sources()?) {
        Ok(loaded) => {
            let file = if loaded.path.exists() {
                loaded.path.display().to_string()
            } else {
                format!("no file at {}; defaults apply", loaded.path.display())
            };
            let mut findings = vec![good("configuration", file)];
            findings.extend(elsewhere(&loaded.config));
            runtime.block_on(examine(&loaded.config, live, &mut findings));
            findings
        }
        Err(ConfigError(mistakes)) => mistakes
            .iter()
            .map(|mistake| {
                bad(
                    "configuration",
                    mistake.to_string(),
                    "correct it; `seaway config schema` lists every setting",
                )
            })
            .collect(),
    };
    let healthy = findings.iter().all(|finding| finding.good);
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        findings.iter().for_each(show);
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(finding: &Finding) {
    println!(
        "{:<4} {:<22} {}",
        if finding.good { "ok" } else { "BAD" },
        finding.layer,
        finding.what
    );
    if let Some(hint) = &finding.hint {
        println!("     hint: {hint}");
    }
}

async fn examine(config: &Config, live: bool, findings: &mut Vec<Finding>) {
    match unwritable(&config.state_dir) {
        Some(why) => {
            findings.push(bad("state folder", why, "make it writable, or set `state_dir`"));
        }
        None => findings.extend([
            good("state folder", config.state_dir.display().to_string()),
            local_key(config),
            store(config),
        ]),
    }
    addresses(config, findings).await;
    if config.upstreams.is_empty() {
        findings.push(bad("upstream", "none is configured", "set ANTHROPIC_API_KEY, install Claude Code for a plan, or configure an [upstream.NAME]"));
    }
    let dependencies = Dependencies {
        tasks: TaskTracker::new(),
        store: Store::in_memory(),
        books: Books::empty(),
        network: Network::Real,
        programs: Programs::Real,
    };
    for setting in &config.upstreams {
        let upstream = Arc::new(Upstream::new(Arc::clone(setting), &dependencies));
        progress(&format!("asking upstream {}", upstream.name));
        if !upstream.is_simulated() {
            findings.push(good(format!("{} uses", upstream.name), setting.told.to_string()));
        }
        examine_upstream(&upstream, live, findings).await;
        upstream.close().await;
    }
}

/// Only for somebody who watches.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("… {what}");
    }
}

fn local_key(config: &Config) -> Finding {
    match Keyring::load(config) {
        Ok(keyring) if keyring.is_open() => {
            good("local key", "none needed: auth = \"none\", on loopback only")
        }
        Ok(keyring) if keyring.is_hashed() => {
            good("local key", "known by hashes alone: whoever made them has the keys")
        }
        Ok(_) => good("local key", "there is one; `seaway key show` prints it"),
        Err(error) => {
            bad("local key", chain(&error), "make the state folder writable, or set `state_dir`")
        }
    }
}

fn store(config: &Config) -> Finding {
    match &config.store.path {
        None => good("store", "in memory: nothing is kept"),
        Some(path) => match crate::store::open_to_read(path) {
            Ok(Some(_)) => good("store", path.display().to_string()),
            Ok(None) => good("store", format!("{} is made at first start", path.display())),
            Err(error) => bad("store", chain(&error), "move the file away, or set `store.path`"),
        },
    }
}

async fn addresses(config: &Config, findings: &mut Vec<Finding>) {
    let running = instance::find(&config.state_dir);
    for listen in &config.listen {
        let ours = running.iter().any(|instance| instance.addresses.contains(&listen.to_string()));
        if let Listen::Unix(path) = listen {
            let held = std::os::unix::net::UnixStream::connect(path).is_ok();
            let found = if held && !ours {
                bad
            } else {
                |layer: &str, what: String, _: &str| good(layer, what)
            };
            findings.push(found(
                "address",
                format!(
                    "{listen}: {}",
                    if held { "somebody serves there" } else { "nobody serves there" }
                ),
                "stop the other program, or choose another path",
            ));
            continue;
        }
        findings.push(match crate::http::server::bind(listen).await {
            _ if ours => good("address", format!("{listen}: our own gateway serves there")),
            Ok(_) => good("address", format!("{listen} is free")),
            Err(error) => {
                bad("address", chain(&error), "stop the other program, or choose another `port`")
            }
        });
    }
}

async fn examine_upstream(upstream: &Arc<Upstream>, live: bool, findings: &mut Vec<Finding>) {
    let layer = |what: &str| format!("{} {what}", upstream.name);
    if upstream.is_simulated() {
        findings.push(good(layer("upstream"), "simulated: its answers are made up, and say so"));
    }
    if let Some(program) = upstream.program() {
        if !examine_program(program, &layer, findings).await {
            return;
        }
        return examine_answers(upstream, live, findings).await;
    }
    if let Some(tunnel) = upstream.tunnel()
        && !examine_tunnel(tunnel, &layer, findings).await
    {
        return;
    }
    match upstream.probe().await {
        Ok(()) => findings.push(good(layer("connection"), "reachable, and it is who it should be")),
        Err(error) => {
            return findings.push(bad(
                layer("connection"),
                chain(&*error),
                "check `base_url`, `ca_file` and the network",
            ));
        }
    }
    if let Err(why) = upstream.usable().await {
        return findings.push(bad(
            layer("credential"),
            why,
            "set `api_key` or `bearer` of this upstream",
        ));
    }
    findings.push(good(layer("credential"), "there is one, or none is needed"));
    examine_answers(upstream, live, findings).await;
}

/// The way by ssh, from the key in the hand to the name at the other end. False if there is no going on.
async fn examine_tunnel(
    tunnel: &Arc<Tunnel>,
    layer: &impl Fn(&str) -> String,
    findings: &mut Vec<Finding>,
) -> bool {
    let before = tunnel.master().await;
    let known = findings.len();
    findings.push(match tunnel.identity().await {
        Ok(Some(identity)) => good(layer("identity"), identity.to_string()),
        Ok(None) => bad(
            layer("identity"),
            tunnel.no_identity(),
            "then try again; `seaway tunnel --interactive` lets ssh ask for a password",
        ),
        Err(why) => bad(layer("identity"), why, "correct that"),
    });
    for key in tunnel.host_keys().await {
        findings.push(if key.known {
            good(layer("host key"), format!("{}: known", key.host))
        } else {
            bad(
                layer("host key"),
                format!("{}: not known", key.host),
                &format!(
                    "run `{}` once by hand, and compare the key with what is published",
                    key.by_hand
                ),
            )
        });
    }
    let told = tunnel.told();
    findings.push(match told.lockout {
        None => good(layer("lock-out"), format!("none for {}", told.door)),
        Some(state) => bad(
            layer("lock-out"),
            format!("{} {state} after failed logins", told.door),
            "correct what ssh says, then run `seaway unlock`",
        ),
    });
    // A login that is sure to fail would be held against us.
    if before.is_none() && findings[known..].iter().any(|finding| !finding.good) {
        findings.push(bad(
            layer("login"),
            "not tried, since it would fail",
            "correct the above first",
        ));
        return false;
    }
    examine_way(tunnel, before, layer, findings).await
}

/// The login and the forward. False if there is no going on.
async fn examine_way(
    tunnel: &Arc<Tunnel>,
    before: Option<u32>,
    layer: &impl Fn(&str) -> String,
    findings: &mut Vec<Finding>,
) -> bool {
    let way = tunnel
        .setting
        .jump
        .as_deref()
        .filter(|jump| !jump.is_empty())
        .map_or_else(String::new, |jump| format!(" by {jump}"));
    match tunnel.up(Login::Batch).await {
        Ok(_) => {
            let told = tunnel.told();
            let how = match (told.direct, before) {
                (true, _) => "not needed: the port there is open".to_owned(),
                (false, Some(pid)) => format!("logged in already, process {pid}"),
                (false, None) => format!("logged in to {}{way}", told.host),
            };
            findings.push(good(layer("login"), how));
            findings
                .push(good(layer("forward"), "it leads to the upstream, which proved its name"));
            true
        }
        Err(error) => {
            let login = error.layer == TunnelLayer::Ssh || tunnel.master().await.is_none();
            if !login {
                findings.push(good(
                    layer("login"),
                    format!("logged in to {}{way}", tunnel.setting.host),
                ));
            }
            findings.push(bad(
                layer(if login { "login" } else { "forward" }),
                error.message,
                "the message says what to do",
            ));
            false
        }
    }
}

/// What an older version does not do.
fn lacks(version: Version) -> String {
    if version >= COMPLETE {
        return String::new();
    }
    let texts = if version < COMPOSED { "texts that begin with `/` are refused, and " } else { "" };
    format!(
        "; with this version {texts}the prompt cache is read only while a conversation stays with its process; {}",
        install(COMPLETE)
    )
}

/// The Claude Code program: there, new enough, signed in. False if there is no going on.
async fn examine_program(
    program: &Program,
    layer: &impl Fn(&str) -> String,
    findings: &mut Vec<Finding>,
) -> bool {
    let setting = program.setting();
    match program.installed().program(setting).await {
        Ok((path, version)) => findings.push(good(
            layer("program"),
            format!("Claude Code {version} at {}{}", path.display(), lacks(version)),
        )),
        Err(error) => {
            findings.push(bad(
                layer("program"),
                error.to_string(),
                "the message says how to install it",
            ));
            return false;
        }
    }
    let processes = format!(
        "up to {} kept warm, {} started beforehand; each takes 100 to 260 MB",
        setting.sessions, setting.prewarm
    );
    findings.push(good(layer("processes"), processes));
    let own = setting.folder.join("workspace");
    for root in setting.agent.workspace.iter().filter(|root| **root != own && !root.is_dir()) {
        findings.push(bad(
            layer("workspace"),
            format!("there is no folder {}", root.display()),
            "make it, or correct `claude_code.workspace`",
        ));
    }
    examine_login(program, layer, findings).await
}

/// What the program is let in by. False if there is no going on.
async fn examine_login(
    program: &Program,
    layer: &impl Fn(&str) -> String,
    findings: &mut Vec<Finding>,
) -> bool {
    let setting = program.setting();
    if setting.credential.is_some() {
        return match program.ready().await {
            Ok(()) => {
                findings.push(good(
                    layer("credential"),
                    "configured; the program's own login is not used",
                ));
                true
            }
            Err(why) => {
                findings.push(bad(
                    layer("credential"),
                    why,
                    "set `api_key` or `bearer` of this upstream",
                ));
                false
            }
        };
    }
    match program.installed().login(setting).await {
        Ok(status) if status.logged_in => {
            let who = status
                .email
                .or(status.subscription_type)
                .map_or_else(String::new, |who| format!(" ({who})"));
            findings
                .push(good(layer("login"), format!("signed in by {}{who}", status.auth_method)));
            true
        }
        Ok(_) => {
            findings.push(bad(
                layer("login"),
                "Claude Code is not signed in",
                "run `seaway login`",
            ));
            false
        }
        Err(error) => {
            findings.push(bad(
                layer("login"),
                error.to_string(),
                "run `claude auth status` and see",
            ));
            false
        }
    }
}

async fn examine_answers(upstream: &Arc<Upstream>, live: bool, findings: &mut Vec<Finding>) {
    let layer = |what: &str| format!("{} {what}", upstream.name);
    let found = catalog::Catalog::new(TaskTracker::new());
    let model = match found.models(upstream, &plain_headers()).await {
        Ok(models) => {
            findings.push(good(layer("models"), format!("{} listed", models.len())));
            let mut names = models.iter().filter_map(catalog::asked_as);
            let first = names.next();
            // The one that is asked in Messages, which not all of them serve everywhere.
            first.iter().cloned().chain(names).find(|name| name.contains("claude")).or(first)
        }
        Err(no_list) if matches!(no_list.status.as_u16(), 401 | 403) => {
            return findings.push(bad(
                layer("credential"),
                no_list.message.clone(),
                "the upstream refuses the credential; get a fresh one",
            ));
        }
        Err(no_list) => {
            findings.push(good(
                layer("models"),
                format!("not listed, which some upstreams never do ({})", no_list.message),
            ));
            None
        }
    };
    if live {
        findings.push(round_trip(upstream, model.as_deref().unwrap_or("claude-haiku-4-5")).await);
    }
}

fn plain_headers() -> HeaderMap {
    let mut headers = headers::to_upstream(&HeaderMap::new(), &Keyring::of([]), false);
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    headers
}

async fn round_trip(upstream: &Upstream, model: &str) -> Finding {
    let layer = format!("{} round trip", upstream.name);
    let stream = upstream.setting.always_stream;
    let body = serde_json::json!({"model": model, "max_tokens": 8, "stream": stream, "messages": [{"role": "user", "content": "Say ok."}]}).to_string();
    let call =
        Call::own(Method::POST, Endpoint::Messages, None, plain_headers(), Bytes::from(body));
    match upstream.call(call).await {
        Ok(reply) if reply.status.is_success() => good(layer, format!("{model} answered")),
        Ok(reply) => {
            let status = reply.status.as_u16();
            let said = catalog::whole(reply)
                .await
                .ok()
                .and_then(|body| seaway_wire::messages::UpstreamError::parse(&body));
            let said = said.map_or_else(String::new, |said| format!(": {}", said.message));
            bad(
                layer,
                format!("{model} answered with status {status}{said}"),
                "see what the upstream says",
            )
        }
        Err(error) => bad(layer, error.message, "see what the connection says"),
    }
}
