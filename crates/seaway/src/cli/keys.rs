//! `seaway key`: the local key, and those that were given out.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::args::{Cli, KeyCommand};
use super::client::Client;
use super::{given, serve};
use crate::auth::{Keyring, new_key, random_key};
use crate::config::{Auth, Config, KeySecret};
use crate::instance::{self, Instance};
use crate::store::AuditEvent;

pub(super) fn run(cli: &Cli, command: &KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Show => match wanted(&cli.load()?.config)? {
            Some(key) => println!("{}", key.expose_secret()),
            None => eprintln!("no key is needed: `auth` is `none`"),
        },
        KeyCommand::Rotate { name: None, .. } => rotate(&cli.load()?.config)?,
        KeyCommand::Rotate { name: Some(name), grace } => given::rotate(cli, name, grace)?,
        KeyCommand::Create { name, options, json } => given::create(cli, name, options, *json)?,
        KeyCommand::Set { name, options, json } => given::set(cli, name, options, *json)?,
        KeyCommand::Revoke { name } => given::revoke(cli, name)?,
        KeyCommand::List { all, json } => given::list(cli, *all, *json)?,
        KeyCommand::Logins { end, json } => given::logins(cli, end, *json)?,
        KeyCommand::Import { file, dry_run, .. } => given::import(cli, file, *dry_run)?,
        KeyCommand::Hash { new } => hash(*new)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate(config: &Config) -> anyhow::Result<()> {
    if !matches!(config.auth, Auth::MadeKey) {
        anyhow::bail!(
            "the key is set by {}; change it there",
            config.key_from.as_deref().unwrap_or("the configuration")
        );
    }
    if let Some((running, from)) = serve::serving(config)
        .and_then(|running| Some((running.addresses.join(", "), ask(&running)?.from?)))
    {
        anyhow::bail!("the gateway on {running} has its key from {from}; change it there");
    }
    println!("{}", new_key(&config.state_dir)?.expose_secret());
    if !tell_instances(&config.state_dir)? {
        // A gateway that takes it over notes that itself.
        super::audit::note(config, AuditEvent::KeyChanged, "by `seaway key rotate`");
    }
    Ok(())
}

/// What a gateway that runs wants of its clients.
#[derive(Deserialize)]
struct RunningKey {
    /// Nothing if any key will do.
    key: Option<String>,
    /// Where it comes from, unless it is the made one.
    from: Option<String>,
    /// Keys are needed, and the gateway has none that it could show.
    #[serde(default)]
    hashed: bool,
}

/// Prints the hash of a key, for `[keys]`. The key itself is read from standard input: a command line can be read by others.
fn hash(new: bool) -> anyhow::Result<()> {
    let key = if new {
        let key = random_key()?;
        eprintln!("the key, which is shown this once: {key}");
        key
    } else {
        if std::io::stdin().is_terminal() {
            eprintln!("type the key and press Enter; `--new` makes one");
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        line
    };
    if key.trim().is_empty() {
        anyhow::bail!("no key came on standard input; `--new` makes one");
    }
    println!("{}", KeySecret::hashed(&key));
    Ok(())
}

/// Asks a gateway for its key; nothing from one that is older than the question, or that is gone.
fn ask(running: &Instance) -> Option<RunningKey> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let limit = std::time::Duration::from_secs(5);
    let answer = runtime
        .block_on(async {
            tokio::time::timeout(limit, Client::unix(&running.socket).get("/owner/key", &[])).await
        })
        .ok()?
        .ok()?;
    answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok())?
}

/// The key that clients need: that of the gateway that runs, which may have been started with another configuration
/// than this shell knows. Where none runs, the configured one, or the made one, which is made now if there is none.
pub(super) fn wanted(config: &Config) -> anyhow::Result<Option<SecretString>> {
    match serve::serving(config).as_ref().and_then(ask) {
        Some(wanted) if wanted.hashed => Err(hashed_alone()),
        Some(wanted) => Ok(wanted.key.map(SecretString::from)),
        None => {
            let keyring = Keyring::load(config)?;
            if keyring.is_hashed() {
                return Err(hashed_alone());
            }
            Ok(keyring.first().map(|key| key.expose_secret().to_owned().into()))
        }
    }
}

fn hashed_alone() -> anyhow::Error {
    anyhow::anyhow!(
        "the keys are configured as hashes, so that nobody can show one; use one that was given out, or make another with `seaway key hash --new` and put its hash into `[keys]`"
    )
}

/// Gateways that run have the old key until they reload. True if one has the new one now.
fn tell_instances(state_dir: &std::path::Path) -> anyhow::Result<bool> {
    let mut taken = false;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for found in instance::find(state_dir) {
        let told =
            runtime.block_on(Client::unix(&found.socket).post("/owner/reload", Vec::new(), &[]));
        match told {
            Ok(answer) if answer.status.is_success() => {
                taken = true;
                eprintln!("the gateway at {} uses it from now on", found.addresses.join(", "));
            }
            _ => eprintln!(
                "hint: the gateway with process id {} still has the old key; send it SIGHUP",
                found.pid
            ),
        }
    }
    Ok(taken)
}
