//! `seaway demo`: the whole gateway on the simulated upstream, shown and left to play with.

use std::io::IsTerminal;
use std::process::ExitCode;

use seaway_wire::event::FromSse;
use seaway_wire::messages::Fold;
use serde_json::{Value, json};

use super::args::Cli;
use super::client::reachable;
use super::client::{Client, ClientAnswer};
use super::serve::start_log;
use crate::app::App;
use crate::config::{Config, Environment, Listen, Loaded, Sources};
use crate::http::dashboard::fragment;
use crate::http::server::BindError;

const KEY: &str = "demo";

/// What is shown: a title, the path, and the request.
fn scenes() -> Vec<(&'static str, &'static str, Value)> {
    let ask = |text: &str, more: Value| {
        let mut body = json!({"model": "sandbox-sonnet-1", "max_tokens": 200, "messages": [{"role": "user", "content": text}]});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        body
    };
    let tool = json!({"tools": [{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]});
    let function = json!({"name": "get_weather", "parameters": tool["tools"][0]["input_schema"]});
    let chat = json!({"stream": true, "stream_options": {"include_usage": true}, "tools": [{"type": "function", "function": function}]});
    vec![
        ("a plain question", "/v1/messages", ask("Good morning, harbour!", json!({}))),
        (
            "the same, streamed, with thinking",
            "/v1/messages",
            ask("Good morning! [[think A greeting.]]", json!({"stream": true})),
        ),
        (
            "a tool call",
            "/v1/messages",
            ask("Weather? [[tool get_weather {\"city\": \"Kiel\"}]]", tool),
        ),
        (
            "a failure, as the upstream words it",
            "/v1/messages",
            ask("[[error 529 overloaded_error Overloaded]]", json!({})),
        ),
        (
            "Chat Completions: a plain question",
            "/v1/chat/completions",
            ask("Good morning, harbour!", json!({})),
        ),
        (
            "the same, streamed, with a tool call",
            "/v1/chat/completions",
            ask("Weather? [[tool get_weather {\"city\": \"Kiel\"}]]", chat),
        ),
        (
            "counting tokens",
            "/v1/messages/count_tokens",
            ask("How many tokens is this?", json!({})),
        ),
    ]
}

pub(super) fn run(cli: &Cli, once: bool) -> anyhow::Result<ExitCode> {
    let sources = demo_sources(cli)?;
    let loaded = Config::load(&sources)?;
    let state_dir = loaded.config.state_dir.clone();
    start_log(&crate::config::Log { level: "warn".into(), ..loaded.config.log.clone() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let app = start(loaded, sources).await?;
        let Some(Listen::Tcp(address)) =
            app.addresses.iter().find(|address| matches!(address, Listen::Tcp(_))).cloned()
        else {
            anyhow::bail!("the demo needs a TCP address");
        };
        println!(
            "seaway demo: a gateway on {}, in front of a simulated Claude. No key, no network.",
            reachable(Listen::Tcp(address).to_string())
        );
        let client = Client::tcp(address);
        for (title, path, body) in scenes() {
            scene(&client, title, path, &body).await?;
        }
        list_models(&client).await?;
        if !once {
            let address = reachable(Listen::Tcp(address).to_string());
            let fragment =
                if std::io::stdout().is_terminal() { fragment(&app.state) } else { String::new() };
            invite(&address, &fragment);
            app.run().await;
        }
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    let _gone = std::fs::remove_dir_all(state_dir);
    result
}

/// The demo touches nothing of its user's: no file, no state, no credential.
fn demo_sources(cli: &Cli) -> anyhow::Result<Sources> {
    let given = cli.sources()?;
    let state = given
        .environment
        .temporary_folder()
        .join(format!("seaway-demo-{}", uuid::Uuid::now_v7().simple()));
    let mut flags: Vec<(String, String)> = given
        .flags
        .into_iter()
        .filter(|(key, _)| ["port", "listen", "log_level"].contains(&key.as_str()))
        .collect();
    let fixed = [
        ("upstream.sandbox.kind", "sandbox"),
        ("api_key", KEY),
        ("store.path", ":memory:"),
        ("state_dir", &state.to_string_lossy()),
    ];
    flags.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let keep =
        |name: &str| given.environment.get(name).map(|value| (name.to_owned(), value.to_owned()));
    let environment = Environment::of(["HOME", "NO_COLOR"].into_iter().filter_map(keep));
    Ok(Sources { file: Some("/dev/null".into()), flags, environment })
}

/// Takes any free port if the usual one is taken: the demo should simply start.
async fn start(loaded: Loaded, sources: Sources) -> anyhow::Result<App> {
    let asked = sources.flags.iter().any(|(key, _)| key == "port" || key == "listen");
    let mut sources_free = sources.clone();
    match App::start(loaded, sources).await {
        Err(crate::app::StartError::Bind(BindError::InUse { .. })) if !asked => {
            sources_free.flags.push(("port".into(), "0".into()));
            Ok(App::start(Config::load(&sources_free)?, sources_free).await?)
        }
        started => Ok(started?),
    }
}

async fn scene(client: &Client, title: &str, path: &str, body: &Value) -> anyhow::Result<()> {
    println!("\n── {title}");
    let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
    let streamed = if body["stream"] == true { ", streamed" } else { "" };
    let tools = body["tools"].as_array().map_or_else(String::new, |_| ", with a tool".to_owned());
    println!("→ POST {path}{streamed}{tools}: \u{201c}{asked}\u{201d}");
    let headers = [
        ("x-api-key", KEY),
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
    ];
    let answer = client.post(path, body.to_string().into_bytes(), &headers).await?;
    show(&answer);
    Ok(())
}

fn show(answer: &ClientAnswer) {
    let id =
        answer.headers.get("request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let streamed = answer
        .headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let body = if streamed {
        folded(&answer.body)
    } else {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    };
    // The words that the API has for it: 529 is in no registry.
    let failure = body["error"]["message"].as_str();
    let frames = if streamed { format!("  in {} frames", answer.frames) } else { String::new() };
    println!(
        "← {} {}{frames}  {id}",
        answer.status.as_u16(),
        failure.or(answer.status.canonical_reason()).unwrap_or_default()
    );
    for line in prose(&body) {
        println!("  {line}");
    }
}

/// What an answer says, a line for each thing: Messages, Chat Completions or a count.
fn prose(body: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let call = |name: &Value, arguments: &str| {
        format!("calls {} with {arguments}", name.as_str().unwrap_or_default())
    };
    for block in body["content"].as_array().into_iter().flatten() {
        lines.extend(match block["type"].as_str() {
            Some("text") => block["text"].as_str().map(|text| format!("says: {text}")),
            Some("thinking") => block["thinking"].as_str().map(|text| format!("thinks: {text}")),
            Some("tool_use") => Some(call(&block["name"], &block["input"].to_string())),
            _ => None,
        });
    }
    let message = &body["choices"][0]["message"];
    lines.extend(
        message["content"]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| format!("says: {text}")),
    );
    for tool in message["tool_calls"].as_array().into_iter().flatten() {
        lines.push(call(
            &tool["function"]["name"],
            tool["function"]["arguments"].as_str().unwrap_or_default(),
        ));
    }
    let usage = &body["usage"];
    let count = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    if let (Some(input), Some(output)) =
        (count(["input_tokens", "prompt_tokens"]), count(["output_tokens", "completion_tokens"]))
    {
        let why = body["stop_reason"]
            .as_str()
            .or(body["choices"][0]["finish_reason"].as_str())
            .unwrap_or("unknown");
        lines.push(format!("and stops ({why}): {input} tokens in, {output} out"));
    }
    lines.extend(body["input_tokens"].as_u64().map(|count| format!("{count} tokens")));
    lines
}

/// A stream's events as the one answer that they amount to.
fn folded(body: &[u8]) -> Value {
    let mut fold = FromSse::<Fold>::default();
    fold.push(body);
    if let Ok(whole) = fold.into_sink().finish() {
        return serde_json::from_str(&whole.body).unwrap_or_default();
    }
    let text = String::from_utf8_lossy(body);
    let chunks: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let deltas = || chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
    let said: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
    let parts = || {
        deltas()
            .filter_map(|delta| delta["tool_calls"].as_array())
            .flatten()
            .map(|tool| &tool["function"])
    };
    let name = parts().find_map(|part| part["name"].as_str());
    let arguments: String = parts().filter_map(|part| part["arguments"].as_str()).collect();
    let calls: Vec<Value> = name
        .map(|name| json!({"function": {"name": name, "arguments": arguments}}))
        .into_iter()
        .collect();
    let last = |pointer: &str| {
        chunks
            .iter()
            .rev()
            .find_map(|chunk| chunk.pointer(pointer).filter(|value| !value.is_null()))
            .cloned()
    };
    let choice = json!({"message": {"content": said, "tool_calls": calls}, "finish_reason": last("/choices/0/finish_reason")});
    json!({"choices": [choice], "usage": last("/usage")})
}

async fn list_models(client: &Client) -> anyhow::Result<()> {
    println!("\n── the models\n→ GET /v1/models");
    let answer = client.get("/v1/models", &[("authorization", &format!("Bearer {KEY}"))]).await?;
    let list: Value = serde_json::from_slice(&answer.body)?;
    let ids: Vec<&str> = list["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|model| model["id"].as_str())
        .collect();
    println!("← {}  {}", answer.status, ids.join(", "));
    Ok(())
}

fn invite(address: &str, fragment: &str) {
    println!(
        "\nIt stays up until Ctrl-C. Open {address}/{fragment} in a browser to look at it, and to play with it, in another terminal:"
    );
    println!("  export ANTHROPIC_BASE_URL={address} ANTHROPIC_API_KEY={KEY}");
    println!("  claude -p 'hello'        # or any program that speaks the Messages API");
    println!(
        "  export OPENAI_BASE_URL={address}/v1 OPENAI_API_KEY={KEY}        # for those that speak Chat Completions"
    );
    println!(
        "docs/sandbox.md lists what the simulated Claude understands, such as `[[think …]]` and `[[tool NAME {{…}}]]`."
    );
}
