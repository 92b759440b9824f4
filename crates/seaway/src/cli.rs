//! The command line: the only code that prints.

mod args;
mod client;
mod config;
mod demo;
mod doctor;
mod keys;
mod serve;
mod shell;
mod status;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// The command was asked wrongly, or its configuration is wrong.
const USAGE: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Completions { shell }) => Ok(shell::completions(*shell)),
        Some(Command::Man) => shell::man(),
        Some(Command::Config { command }) => config::run(&cli, command),
        Some(Command::Key { command }) => keys::run(&cli, command),
        Some(Command::Usage(options)) => usage::run(&cli, options),
        Some(Command::Explain { id, json }) => usage::explain(&cli, id, *json),
        Some(Command::Status { json }) => status::run(&cli, *json),
        Some(Command::Doctor { live, json }) => doctor::run(&cli, *live, *json),
        Some(Command::Demo { once }) => demo::run(&cli, *once),
        Some(Command::Serve) | None => serve::run(&cli),
    };
    result.unwrap_or_else(|error| fail(&error))
}

/// Says what went wrong. Mistakes in the configuration are the asker's.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mistakes = error.downcast_ref::<crate::config::ConfigError>();
    if let Some(mistakes) = mistakes {
        eprintln!("error: the configuration cannot be used\n{mistakes}");
        eprintln!("hint: `seaway config schema` lists every setting");
        return ExitCode::from(USAGE);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
