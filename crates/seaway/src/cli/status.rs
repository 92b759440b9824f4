//! `seaway status`: what runs here.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::Cli;
use super::client::{Client, for_clients, reachable};
use crate::config::run_folder;
use crate::instance::{self, Instance};
use crate::tunnel::lockout::{self, LockoutVerdict};
use crate::tunnel::{self, Forward, Living};

pub(super) fn run(cli: &Cli, json: bool, ready: bool) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let state_dir = config.state_dir;
    let run_folder = run_folder(&std::path::absolute(&state_dir)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut instances = Vec::new();
    let all = instance::find(&state_dir);
    for found in &all {
        let health = runtime.block_on(ask(found));
        instances.push(json!({"instance": found, "health": health.unwrap_or_else(|error| json!({"status": "silent", "why": error.to_string()}))}));
    }
    let masters = runtime.block_on(tunnel::masters(&run_folder, &config.ssh));
    let locked = locked(&config.lockouts).unwrap_or_else(|error| {
        vec![json!({"host": "ssh", "state": "is unreadable", "last": error.to_string()})]
    });
    if json {
        let masters: Vec<Value> = masters
            .iter()
            .map(|one| json!({"folder": one.folder, "pid": one.pid, "forwards": forwards(one)}))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(
                &json!({"instances": instances, "masters": masters, "lockouts": locked})
            )?
        );
    } else {
        if instances.is_empty() {
            println!("no gateway runs here");
        }
        for (one, found) in instances.iter().zip(&all) {
            show(one);
            open(&runtime, found);
        }
        for one in &masters {
            println!("ssh       logged in, process {} ({})", one.pid, one.folder.display());
            for forward in forwards(one) {
                println!("  open    {forward}");
            }
        }
        for place in &locked {
            println!(
                "ssh       {}: {} after `{}`; `seaway unlock` clears it",
                text(&place["host"]),
                text(&place["state"]),
                text(&place["last"])
            );
        }
    }
    let good = if ready {
        instances
            .iter()
            .any(|one| matches!(one["health"]["status"].as_str(), Some("ok" | "degraded")))
    } else {
        !instances.is_empty()
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a person looks. Only to a terminal goes what signs a browser in.
fn open(runtime: &tokio::runtime::Runtime, found: &Instance) {
    if let Some(address) = for_clients(&found.addresses) {
        let fragment =
            if std::io::stdout().is_terminal() { runtime.block_on(fragment(found)) } else { None };
        println!(
            "  open      {}/{} in a browser",
            reachable(address.clone()),
            fragment.unwrap_or_default()
        );
    }
}

/// What others can reach by a login.
fn forwards(living: &Living) -> Vec<String> {
    let told = |forward: &Forward| match forward {
        Forward::Local { from, to } => format!("{from} leads to {to}"),
        Forward::Remote { from, .. } => format!("{from} at the other end leads here"),
    };
    living.forwards.iter().map(told).collect()
}

/// The machines that ssh may not log in to for now.
fn locked(path: &Path) -> anyhow::Result<Vec<Value>> {
    let now = jiff::Timestamp::now().as_second();
    let told = |(host, record): (String, lockout::LockoutRecord)| {
        let (state, until) = match record.verdict(now) {
            LockoutVerdict::Free => return None,
            LockoutVerdict::Rests(until) => ("rests", Some(until)),
            LockoutVerdict::Locked => ("is locked", None),
        };
        Some(json!({"host": host, "state": state, "until": until, "last": record.last}))
    };
    Ok(lockout::all(path)?.into_iter().filter_map(told).collect())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether an upstream could serve, and what it said last if that was no answer.
fn state(upstream: &Value) -> String {
    let (why, trouble) = (upstream["why"].as_str(), upstream["trouble"]["message"].as_str());
    match (upstream["ready"] == true, why.or(trouble)) {
        (true, None) => "ready".to_owned(),
        (true, Some(trouble)) => format!("ready; its last request failed: {trouble}"),
        (false, None) => "not ready".to_owned(),
        (false, Some(why)) => format!("not ready: {why}"),
    }
}

pub(super) async fn ask(found: &Instance) -> anyhow::Result<Value> {
    let answer = Client::unix(&found.socket).get("/owner/status", &[]).await?;
    Ok(serde_json::from_slice(&answer.body)?)
}

/// What signs a browser in, once, behind the gateway's address.
pub(super) async fn fragment(found: &Instance) -> Option<String> {
    let answer = Client::unix(&found.socket).post("/owner/link", Vec::new(), &[]).await.ok()?;
    let told: Value = serde_json::from_slice(&answer.body).ok()?;
    told["fragment"].as_str().map(str::to_owned)
}

fn show(one: &Value) {
    let list = |value: &Value| {
        value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
    };
    let (instance, health) = (&one["instance"], &one["health"]);
    println!("{}  {}", list(&instance["addresses"]), text(&health["status"]));
    println!("  process   {}, since {}", instance["pid"], text(&instance["started"]));
    if let Some(why) = health["why"].as_str() {
        println!("  why       {why}");
    }
    println!("  requests  {} under way, {} waiting", health["inFlight"], health["queue"]);
    for upstream in health["upstreams"].as_array().into_iter().flatten() {
        println!("  upstream  {}: {}", text(&upstream["name"]), state(upstream));
        let tunnel = &upstream["tunnel"];
        if tunnel.is_object() {
            let master = tunnel["master"]
                .as_u64()
                .map_or_else(String::new, |pid| format!(", ssh process {pid}"));
            let lockout = tunnel["lockout"]
                .as_str()
                .map_or_else(String::new, |state| format!(", ssh {state}"));
            println!(
                "  tunnel    {}: {}{master}{lockout}",
                text(&tunnel["name"]),
                if tunnel["up"] == true { "up" } else { "down" }
            );
        }
    }
}
