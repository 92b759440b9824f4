//! One small request, as a client's settings would send it.

use std::time::Duration;

use seaway_wire::Dialect;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::client::{Client, ClientAnswer};
use crate::causes::chain;
use crate::config::Environment;
use crate::connect::{Asks, Holder};
use crate::process::{self, Launch};

/// How long an answer may take: a program may have to start first.
const PATIENCE: Duration = Duration::from_secs(90);
const KEY_PATIENCE: Duration = Duration::from_secs(10);
/// What a command that prints the key is given.
const GIVEN: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"];
/// How much of an answer is shown, in characters.
const SHOWN: usize = 80;

/// Why no answer came.
pub(super) enum Failure {
    /// Nobody listens there.
    Nobody,
    Wrong(String),
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Wrong(format!("{error:#}"))
    }
}

/// Asks, and says what came in a few words.
pub(super) async fn ask(asks: &Asks, environment: &Environment) -> Result<String, Failure> {
    let uri: http::Uri = asks.url.parse()?;
    if uri.scheme_str() == Some("https") {
        let why = "over TLS the client itself has to try: it must trust the certificate in `tls.cert`, and reach the gateway by a name in it";
        return Err(Failure::Wrong(why.into()));
    }
    let authority = uri.authority().ok_or("the address has no host")?.as_str().to_owned();
    let address =
        tokio::net::lookup_host(&authority).await?.next().ok_or("the address is unknown")?;
    if tokio::net::TcpStream::connect(address).await.is_err() {
        return Err(Failure::Nobody);
    }
    let key = key_of(&asks.key, environment).await?;
    let bearer = format!("Bearer {}", key.expose_secret());
    let carrier = match asks.dialect {
        Dialect::Messages => ("x-api-key", key.expose_secret()),
        Dialect::Chat | Dialect::Responses => ("authorization", bearer.as_str()),
    };
    let headers = [
        carrier,
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("user-agent", crate::headers::USER_AGENT),
    ];
    let client = Client::tcp(address);
    let asked = client.post(uri.path(), asks.body().to_string().into_bytes(), &headers);
    let answer = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("not within {} seconds", PATIENCE.as_secs()))??;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if !answer.status.is_success() {
        let message = body["error"]["message"].as_str().unwrap_or("it has no words for it");
        return Err(Failure::Wrong(format!("{}: {message}", answer.status)));
    }
    said(&body, &answer)
}

/// The answer's text in short.
fn said(body: &Value, answer: &ClientAnswer) -> Result<String, Failure> {
    let places = ["/content", "/choices/0/message/content", "/output"];
    let found =
        places.iter().find_map(|place| body.pointer(place)).ok_or("what came is no answer")?;
    let text: String = texts(found).chars().take(SHOWN).collect();
    let simulated =
        if answer.headers.contains_key("seaway-simulated") { " (simulated)" } else { "" };
    Ok(if text.trim().is_empty() {
        format!("without a text{simulated}")
    } else {
        format!("\u{201c}{}\u{201d}{simulated}", text.trim().replace('\n', " "))
    })
}

fn texts(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| {
                part["text"].as_str().map_or_else(|| texts(&part["content"]), str::to_owned)
            })
            .collect(),
        _ => String::new(),
    }
}

/// Gets the key as the client does.
async fn key_of(holder: &Holder, environment: &Environment) -> Result<SecretString, Failure> {
    let words = match holder {
        Holder::Text(key) => return Ok(key.clone()),
        Holder::File(path) => {
            return Ok(std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .trim()
                .to_owned()
                .into());
        }
        Holder::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        Holder::Command(words) => words.clone(),
    };
    let (program, arguments) = words.split_first().ok_or("no command prints the key")?;
    let launch = Launch {
        program: program.into(),
        arguments: arguments.to_vec(),
        environment: GIVEN
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), environment.get(name)?.to_owned().into())))
            .collect(),
        folder: std::env::current_dir()?,
    };
    let ended = process::tool(&launch, KEY_PATIENCE)
        .await
        .map_err(|error| format!("the command that prints the key: {}", chain(&error)))?;
    if !ended.status.success() {
        return Err(Failure::Wrong(format!(
            "the command that prints the key fails: {}",
            ended.stderr.trim()
        )));
    }
    Ok(ended.stdout.trim().to_owned().into())
}
