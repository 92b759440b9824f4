//! `seaway status`: what runs here.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::Cli;
use super::client::Client;
use crate::instance::{self, Instance};

pub(super) fn run(cli: &Cli, json: bool) -> anyhow::Result<ExitCode> {
    let state_dir = cli.load()?.config.state_dir;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all = Vec::new();
    for found in instance::find(&state_dir) {
        let health = runtime.block_on(ask(&found));
        all.push(json!({"instance": found, "health": health.unwrap_or_else(|error| json!({"status": "silent", "why": error.to_string()}))}));
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else if all.is_empty() {
        println!("no gateway runs here");
    } else {
        all.iter().for_each(show);
    }
    Ok(if all.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn ask(found: &Instance) -> anyhow::Result<Value> {
    let answer = Client::unix(&found.socket).get("/owner/status", &[]).await?;
    Ok(serde_json::from_slice(&answer.body)?)
}

fn show(one: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let (instance, health) = (&one["instance"], &one["health"]);
    println!("{}  {}", list(&instance["addresses"]), text(&health["status"]));
    println!("  process   {}, since {}", instance["pid"], text(&instance["started"]));
    if let Some(why) = health["why"].as_str() {
        println!("  why       {why}");
    }
    println!("  requests  {} under way, {} waiting", health["inFlight"], health["queue"]);
    for upstream in health["upstreams"].as_array().into_iter().flatten() {
        let state = if upstream["ready"] == true { "ready" } else { "not ready" };
        let why = upstream["why"].as_str().or_else(|| upstream["trouble"]["message"].as_str());
        println!("  upstream  {}: {state}{}", text(&upstream["name"]), why.map(|why| format!(" ({why})")).unwrap_or_default());
    }
}
