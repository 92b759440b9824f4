//! `seaway connect`: sets a client up, and takes it back.

use std::io::IsTerminal;
use std::process::ExitCode;

use secrecy::{ExposeSecret, SecretString};
use similar::TextDiff;

use super::args::{Cli, ConnectOptions};
use super::{UsageError, facts, keys, trial};
use crate::config::{Environment, near};
use crate::connect::clients::{CLIENTS, ClientSetup};
use crate::connect::disk::{Changed, UndoJournal};
use crate::connect::{Facts, OTHERS, Setup, any, other};

pub(super) fn run(cli: &Cli, options: &ConnectOptions) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let config = crate::config::Config::load(&sources)?.config;
    let shelf = UndoJournal::open(&std::path::absolute(&config.state_dir)?)?;
    let Some(name) = &options.client else {
        list(&shelf)?;
        return Ok(ExitCode::SUCCESS);
    };
    let client = ClientSetup::named(name);
    if options.undo {
        let client = client.ok_or_else(|| unknown(name))?;
        return undo(&shelf, client.name, options.dry_run, keys::wanted(&config)?.as_ref());
    }
    let mut facts = facts::collect(cli, &config, sources.environment, options.model.as_deref())?;
    if options.statusline {
        if name != "claude" {
            return Err(UsageError("--statusline is for `claude`".into()).into());
        }
        // As the command that prints the key, up to what it is told to do.
        let mut words = facts.key_command.clone();
        words.truncate(words.len().saturating_sub(2));
        words.push("statusline".into());
        facts.statusline = Some(words);
    }
    if options.budget.budget {
        if name != "claude" {
            return Err(UsageError("--budget is for `claude`".into()).into());
        }
        facts::with_budget(&mut facts, &options.budget)?;
        eprintln!("{}", facts::BUDGET_PRICE);
    }
    if let Some(client) = client {
        return connect(&shelf, client, &facts, options);
    }
    let Some(told) = other(name, &facts) else {
        print!("{}", any(&facts));
        return Err(unknown(name));
    };
    print!("{told}");
    Ok(ExitCode::SUCCESS)
}

fn unknown(name: &str) -> anyhow::Error {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).chain(by_hand()).collect();
    let near = near(name, names.iter().copied())
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    UsageError(format!("there is no client `{name}` here{near}; there are {}", names.join(", ")))
        .into()
}

fn list(shelf: &UndoJournal) -> anyhow::Result<()> {
    println!("set up by `seaway connect NAME`:");
    for client in CLIENTS {
        println!(
            "  {:<12}{}{}",
            client.name,
            client.about,
            if shelf.is_connected(client.name)? {
                " (is set up; `--undo` takes it back)"
            } else {
                ""
            }
        );
    }
    println!("set up by hand, `seaway connect NAME` says how:");
    println!("  {}", by_hand().collect::<Vec<_>>().join(", "));
    Ok(())
}

/// The clients that have no file of which we know.
fn by_hand() -> impl Iterator<Item = &'static str> {
    let names = OTHERS.iter().map(|other| other.name);
    names.filter(|name| ClientSetup::named(name).is_none())
}

fn connect(
    shelf: &UndoJournal,
    client: &ClientSetup,
    facts: &Facts,
    options: &ConnectOptions,
) -> anyhow::Result<ExitCode> {
    let setup = client.setup(facts);
    if setup.files.is_empty() {
        print!("{}", other(client.name, facts).unwrap_or_else(|| any(facts)));
        eprintln!("hint: {}", setup.then);
        return Ok(ExitCode::SUCCESS);
    }
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
    eprintln!("{} uses {} from now on; {}", client.about, facts.url, setup.then);
    eprintln!("hint: `seaway connect {} --undo` puts back what was there", client.name);
    if !options.no_ask {
        try_out(client, &setup, facts)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks one small thing as the client will, and says whether it came.
fn try_out(client: &ClientSetup, setup: &Setup, facts: &Facts) -> anyhow::Result<()> {
    let Some(asks) = client.asks(setup, facts) else {
        eprintln!(
            "warning: what was written cannot be read as {} reads it; nothing was asked",
            client.about
        );
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if std::io::stderr().is_terminal() {
        eprintln!("… asking `{}` one small thing through these settings", asks.model);
    }
    match runtime.block_on(trial::ask(&asks, &facts.environment)) {
        Ok(said) => eprintln!("asked `{}` through these settings: it answers, {said}", asks.model),
        Err(trial::Failure::Nobody) => {
            eprintln!("nobody serves at {} yet: start `seaway serve`, then the client", facts.url);
        }
        Err(trial::Failure::Wrong(why)) => eprintln!(
            "warning: asked `{}` through these settings, and no answer came: {why}",
            asks.model
        ),
    }
    Ok(())
}

fn undo(
    shelf: &UndoJournal,
    name: &str,
    only_say: bool,
    key: Option<&SecretString>,
) -> anyhow::Result<ExitCode> {
    if !shelf.is_connected(name)? {
        eprintln!("{name} was not set up by `seaway connect`, so there is nothing to take back");
        return Ok(ExitCode::SUCCESS);
    }
    let changed = shelf.undo(name, only_say)?;
    if only_say {
        show(&changed, key);
        return Ok(ExitCode::SUCCESS);
    }
    for file in &changed {
        eprintln!(
            "{} {}",
            if file.after.is_some() { "put back" } else { "removed " },
            file.path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What would change, as `diff -u` says it. Secrets are not shown, neither ours nor those beside ours.
fn show(changed: &[Changed], key: Option<&SecretString>) {
    let color = std::io::stdout().is_terminal() && Environment::capture().get("NO_COLOR").is_none();
    for file in changed {
        let after = file.after.as_deref().unwrap_or_default();
        if file.before == after {
            println!("{} stays as it is", file.path.display());
            continue;
        }
        let name = file.path.display().to_string();
        let to = if file.after.is_some() { &name } else { "/dev/null" };
        let from = if file.before.is_empty() { "/dev/null" } else { &name };
        let keys_alone = file.path.file_name().is_some_and(|name| name == "keys.json");
        let diff = TextDiff::from_lines(file.before.as_str(), after)
            .unified_diff()
            .context_radius(3)
            .header(from, to)
            .to_string();
        for line in diff.lines() {
            let hidden = key.map_or_else(
                || line.to_owned(),
                |key| line.replace(key.expose_secret(), "(the local key)"),
            );
            let text = if hidden == line { masked(line, keys_alone) } else { hidden };
            match (color, text.as_bytes().first()) {
                (true, Some(b'+')) => println!("\u{1b}[32m{text}\u{1b}[0m"),
                (true, Some(b'-')) => println!("\u{1b}[31m{text}\u{1b}[0m"),
                _ => println!("{text}"),
            }
        }
    }
}

/// A line without the secret that it may hold, by the name that it has.
fn masked(line: &str, always: bool) -> String {
    const SECRET: [&str; 5] = ["key", "token", "secret", "password", "authorization"];
    const PLAIN: [&str; 4] = ["keyhelper", "key_name", "env_key", "keybind"];
    let Some(at) = line.find([':', '=']).filter(|_| {
        !line.starts_with("---") && !line.starts_with("+++") && !line.starts_with("@@")
    }) else {
        return line.to_owned();
    };
    let (name, value) = line.split_at(at + 1);
    let lower = name.to_lowercase();
    let secret = always
        || (SECRET.iter().any(|word| lower.contains(word))
            && !PLAIN.iter().any(|word| lower.contains(word)));
    // References are no secrets: a variable, a file, a command.
    let refers =
        ["{env:", "{file:", "${", "\"!", "os.environ"].iter().any(|mark| value.contains(mark));
    if secret && !refers && value.trim().len() > 2 && !value.contains('{') {
        format!("{name} (not shown)")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_others_are_not_shown() {
        for (line, expect) in [
            (" \"openai\": \"sk-x\",", " \"openai\": \"sk-x\","),
            ("-anthropic-api-key: sk-x", "-anthropic-api-key: (not shown)"),
            (" \"apiKey\": \"sk-x\"", " \"apiKey\": (not shown)"),
            ("+  \"apiKey\": \"{file:/k}\"", "+  \"apiKey\": \"{file:/k}\""),
            ("+  \"apiKey\": \"!seaway key show\"", "+  \"apiKey\": \"!seaway key show\""),
            (
                "+  \"apiKeyHelper\": \"seaway key show\"",
                "+  \"apiKeyHelper\": \"seaway key show\"",
            ),
            (" token = \"t\"", " token = (not shown)"),
            ("--- /home/key: x", "--- /home/key: x"),
            (" \"keys\": {", " \"keys\": {"),
        ] {
            assert_eq!(masked(line, false), expect);
        }
        assert_eq!(masked(" \"openai\": \"sk-x\",", true), " \"openai\": (not shown)");
    }
}
