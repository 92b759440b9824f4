//! `seaway statusline`: a line for Claude Code's status line.
//!
//! The program gives it JSON on standard input, several times a minute, and shows the first line of what it prints. Source:
//! <https://code.claude.com/docs/en/statusline>, with Claude Code 2.1.332.

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::args::Cli;
use super::client::Client;
use super::serve::serving;
use crate::cap::dollars;

/// Longer than this nobody waits for a line.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the program tells.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusInput {
    session_id: String,
    model: StatusModel,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusModel {
    id: String,
    display_name: String,
}

pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if std::io::stdin().is_terminal() {
        anyhow::bail!(
            "this is for Claude Code, which gives it JSON on standard input; `seaway connect claude --statusline` sets it up"
        );
    }
    let mut text = String::new();
    std::io::stdin().lock().take(1 << 20).read_to_string(&mut text)?;
    let told: StatusInput = serde_json::from_str(&text).unwrap_or_default();
    let name =
        if told.model.display_name.is_empty() { &told.model.id } else { &told.model.display_name };
    let mut parts = vec![if name.is_empty() { "Claude".to_owned() } else { name.clone() }];
    // Whatever happens there is a line: the program shows no error.
    match ask(cli, &told.session_id) {
        Some(known) => parts.extend(shown(&known)),
        None => parts.push("no gateway".into()),
    }
    // A terminal would obey what stands in a name.
    let line: String = parts.join(" · ").chars().filter(|c| !c.is_control()).collect();
    println!("{line}");
    Ok(ExitCode::SUCCESS)
}

/// Asks the gateway that the program uses: by its address and key, where this shell has both, else the one that runs here.
fn ask(cli: &Cli, session: &str) -> Option<Value> {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
    let session: String = session.chars().filter(plain).take(128).collect();
    let path = format!("/v1/key?session={session}");
    let sources = cli.sources().ok()?;
    let variable = |name: &str| sources.environment.get(name).filter(|value| !value.is_empty());
    let key = variable("ANTHROPIC_AUTH_TOKEN").or_else(|| variable("ANTHROPIC_API_KEY"));
    let address = variable("ANTHROPIC_BASE_URL").and_then(loopback);
    let (client, key) = if let (Some(address), Some(key)) = (address, key) {
        (Client::tcp(address), Some(key))
    } else {
        let config = crate::config::Config::load(&sources).ok()?.config;
        (Client::unix(&serving(&config)?.socket), None)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let headers: Vec<(&str, &str)> = key.iter().map(|key| ("x-api-key", *key)).collect();
    let asked = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, client.get(&path, &headers)).await });
    let answer = asked.ok()?.ok()?;
    answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok())?
}

/// The address of a gateway on this machine that speaks plain HTTP.
fn loopback(url: &str) -> Option<SocketAddr> {
    let host = url.strip_prefix("http://")?.split('/').next()?;
    host.replace("localhost", "127.0.0.1").parse().ok()
}

/// What is worth knowing, in few words.
fn shown(known: &Value) -> Vec<String> {
    let money = |value: &Value| {
        value.as_u64().map(|micros| format!("${}", dollars(micros.next_multiple_of(10_000))))
    };
    let mut parts = Vec::new();
    let session = &known["session"];
    if session["requests"].as_u64() > Some(0) {
        parts.extend(money(&session["cost_micros"]).map(|cost| format!("session {cost}")));
    }
    parts.extend(money(&known["today_micros"]).map(|cost| format!("today {cost}")));
    for budget in
        known["budgets"].as_array().into_iter().chain(known["team_budgets"].as_array()).flatten()
    {
        let left = budget["left_micros"].as_u64().map(|left| dollars(left - left % 10_000));
        if let (Some(left), Some(of)) = (left, budget["budget"].as_str()) {
            parts.push(format!("${left} of {of} left"));
        }
    }
    let tokens = |name: &str| session[name].as_u64().unwrap_or_default();
    let prompt = tokens("input") + tokens("cache_read") + tokens("cache_write");
    if let Some(share) = (tokens("cache_read") * 100).checked_div(prompt) {
        parts.push(format!("cache {share} %"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        for (known, expect) in [
            (json!({}), ""),
            (json!({"today_micros": 0}), "today $0"),
            (
                json!({"today_micros": 3_101_000, "session": {"requests": 2, "cost_micros": 1, "input": 10, "cache_read": 80, "cache_write": 10},
                    "budgets": [{"budget": "20/day", "left_micros": 16_898_999}], "team_budgets": [{"budget": "500/month", "left_micros": 0}]}),
                "session $0.01 · today $3.11 · $16.89 of 20/day left · $0 of 500/month left · cache 80 %",
            ),
        ] {
            assert_eq!(shown(&known).join(" · "), expect);
        }
        for (url, expect) in [
            ("http://127.0.0.1:7329", Some("127.0.0.1:7329")),
            ("http://localhost:7329/v1", Some("127.0.0.1:7329")),
            ("https://a.example", None),
        ] {
            assert_eq!(loopback(url).map(|address| address.to_string()).as_deref(), expect);
        }
    }
}
