//! `seaway config`: what the settings are, and where each came from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::args::{Cli, ConfigCommand};
use crate::config::{Config, markdown_table, schema, shown};
use crate::import::{self, Tool};

pub(super) fn run(cli: &Cli, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show { json, changed } => show(cli, *json, *changed)?,
        ConfigCommand::Check => {
            let loaded = cli.load()?;
            let state = if loaded.path.exists() { "" } else { " (there is none; defaults apply)" };
            println!("{}{state}: good", loaded.path.display());
        }
        ConfigCommand::Path => match Config::path(&cli.sources()?) {
            Some(path) => println!("{}", path.display()),
            None => anyhow::bail!(
                "there is no home folder, so there is no usual place; name the file: --config FILE"
            ),
        },
        ConfigCommand::Schema { table: true } => print!("{}", markdown_table()),
        ConfigCommand::Schema { table: false } => {
            println!("{}", serde_json::to_string_pretty(&schema())?);
        }
        ConfigCommand::Import { files, from } => import(files, from.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(files: &[PathBuf], from: Option<&str>) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let texts = files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let files: Vec<(&Path, &str)> =
        files.iter().map(PathBuf::as_path).zip(texts.iter().map(String::as_str)).collect();
    print!("{}", import::import(&files, from.and_then(Tool::named))?);
    Ok(())
}

fn show(cli: &Cli, json: bool, changed: bool) -> anyhow::Result<()> {
    let mut settings = shown(&cli.load()?.layers);
    settings.retain(|setting| !changed || setting.origin != "default");
    if json {
        println!("{}", serde_json::to_string_pretty(&settings)?);
        return Ok(());
    }
    for setting in settings {
        println!("{} = {}  # {}", setting.key, setting.value, setting.origin);
    }
    Ok(())
}
