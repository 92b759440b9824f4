//! `seaway connect`: sets a client up, and takes it back.

use std::io::IsTerminal;
use std::process::ExitCode;

use secrecy::{ExposeSecret, SecretString};
use similar::TextDiff;

use super::args::{Cli, ConnectOptions};
use super::{Asked, facts};
use crate::auth::Keyring;
use crate::connect::clients::{CLIENTS, Client};
use crate::connect::disk::{Changed, Shelf};
use crate::connect::{Facts, OTHERS, other};

pub(super) fn run(cli: &Cli, options: &ConnectOptions) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let config = crate::config::Config::load(&sources)?.config;
    let shelf = Shelf::open(&std::path::absolute(&config.state_dir)?)?;
    let Some(name) = &options.client else {
        list(&shelf);
        return Ok(ExitCode::SUCCESS);
    };
    let client = Client::named(name);
    if options.undo {
        let client = client.ok_or_else(|| unknown(name))?;
        return undo(&shelf, client.name, options.dry_run, Keyring::load(&config)?.first());
    }
    let facts = facts::collect(cli, &config, sources.environment, options.model.as_deref())?;
    if let Some(client) = client {
        return connect(&shelf, client, &facts, options);
    }
    print!("{}", other(name, &facts).ok_or_else(|| unknown(name))?);
    Ok(ExitCode::SUCCESS)
}

fn unknown(name: &str) -> anyhow::Error {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).chain(OTHERS.iter().map(|other| other.name)).collect();
    Asked(format!("there is no client `{name}` here; there are {}", names.join(", "))).into()
}

fn list(shelf: &Shelf) {
    println!("set up by `seaway connect NAME`:");
    for client in CLIENTS {
        println!("  {:<12}{}{}", client.name, client.about, if shelf.is_connected(client.name) { " (is set up; `--undo` takes it back)" } else { "" });
    }
    println!("set up by hand, `seaway connect NAME` says how:");
    println!("  {}", OTHERS.iter().map(|other| other.name).collect::<Vec<_>>().join(", "));
}

fn connect(shelf: &Shelf, client: &Client, facts: &Facts, options: &ConnectOptions) -> anyhow::Result<ExitCode> {
    let setup = client.setup(facts);
    if options.print {
        for file in &setup.files {
            eprintln!("{}:", file.path.display());
            println!("{}", file.change.apply("", true).map_err(anyhow::Error::new)?.trim_end());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let changed = shelf.connect(client.name, &setup.files, options.force, options.dry_run)?;
    for warning in &setup.warnings {
        eprintln!("warning: {warning}");
    }
    if options.dry_run {
        show(&changed, facts.key.as_ref());
        return Ok(ExitCode::SUCCESS);
    }
    for file in &changed {
        let same = file.after.as_ref() == Some(&file.before);
        eprintln!("{} {}", if same { "unchanged" } else { "written  " }, file.path.display());
    }
    eprintln!("{} uses {} from now on; start it with `{}`", client.about, facts.url, setup.then);
    eprintln!("hint: `seaway connect {} --undo` puts back what was there", client.name);
    Ok(ExitCode::SUCCESS)
}

fn undo(shelf: &Shelf, name: &str, only_say: bool, key: Option<&SecretString>) -> anyhow::Result<ExitCode> {
    if !shelf.is_connected(name) {
        eprintln!("{name} was not set up by `seaway connect`, so there is nothing to take back");
        return Ok(ExitCode::SUCCESS);
    }
    let changed = shelf.undo(name, only_say)?;
    if only_say {
        show(&changed, key);
        return Ok(ExitCode::SUCCESS);
    }
    for file in &changed {
        eprintln!("{} {}", if file.after.is_some() { "put back" } else { "removed " }, file.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What would change, as `diff -u` says it. The key itself is not shown.
fn show(changed: &[Changed], key: Option<&SecretString>) {
    let hidden = |text: &str| key.map_or_else(|| text.to_owned(), |key| text.replace(key.expose_secret(), "(the local key)"));
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for file in changed {
        let after = file.after.as_deref().unwrap_or_default();
        if file.before == after {
            println!("{} stays as it is", file.path.display());
            continue;
        }
        let name = file.path.display().to_string();
        let to = if file.after.is_some() { &name } else { "/dev/null" };
        let from = if file.before.is_empty() { "/dev/null" } else { &name };
        let (before, after) = (hidden(&file.before), hidden(after));
        let diff = TextDiff::from_lines(before.as_str(), after.as_str()).unified_diff().context_radius(3).header(from, to).to_string();
        for text in diff.lines() {
            match (color, text.as_bytes().first()) {
                (true, Some(b'+')) => println!("\u{1b}[32m{text}\u{1b}[0m"),
                (true, Some(b'-')) => println!("\u{1b}[31m{text}\u{1b}[0m"),
                _ => println!("{text}"),
            }
        }
    }
}
