//! The command line: the only code that prints.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the code that prints")]

mod args;
mod audit;
mod client;
mod config;
mod connect;
mod demo;
mod doctor;
mod facts;
mod given;
mod keys;
mod login;
mod price;
mod run;
mod serve;
mod shell;
mod status;
mod statusline;
mod trial;
mod tunnel;
mod up;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Cli, Command};

/// The command was asked wrongly, or its configuration is wrong.
const USAGE: u8 = 2;

/// How long whoever reads stderr may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Says something on stderr without waiting for whoever reads it: for commands that stay and serve.
macro_rules! say {
    ($($words:tt)*) => { crate::log::say(format_args!($($words)*)) };
}
use say;

/// The command was asked in a way that cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs the program.
pub fn main() -> ExitCode {
    leave_when_nobody_reads();
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Completions { shell }) => Ok(shell::completions(*shell)),
        Some(Command::Man { pages }) => shell::man(pages.as_deref()),
        Some(Command::Config { command }) => config::run(&cli, command),
        Some(Command::Key { command }) => keys::run(&cli, command),
        Some(Command::Team { command }) => given::team(&cli, command),
        Some(Command::Statusline) => statusline::run(&cli),
        Some(Command::Usage(options)) => usage::run(&cli, options),
        Some(Command::Audit(options)) => audit::run(&cli, options),
        Some(Command::Price(options)) => price::run(&cli, options),
        Some(Command::Requests(options)) => usage::requests(&cli, options),
        Some(Command::Explain { id, json }) => usage::explain(&cli, id, *json),
        Some(Command::Status { json, ready }) => status::run(&cli, *json, *ready),
        Some(Command::Doctor { live, json }) => doctor::run(&cli, *live, *json),
        Some(Command::Demo { once }) => demo::run(&cli, *once),
        Some(Command::Login) => login::run(&cli, "login"),
        Some(Command::Logout) => login::run(&cli, "logout"),
        Some(Command::Connect(options)) => connect::run(&cli, options),
        Some(Command::Up(options)) => up::up(&cli, options),
        Some(Command::Down(options)) => up::down(&cli, options),
        Some(Command::Run { budget, command }) => run::run(&cli, budget, command),
        Some(Command::Tunnel(options)) => tunnel::run(&cli, options),
        Some(Command::Relay(options)) => tunnel::relay(&cli, options),
        Some(Command::Unlock) => tunnel::unlock(&cli),
        Some(Command::Serve(options)) => serve::run(&cli, options.restart),
        None => serve::run(&cli, false),
    };
    crate::log::flush(LAST_LINES);
    result.unwrap_or_else(|error| fail(&error))
}

/// `seaway usage | head` is no failure: who printed into a closed pipe just ends.
fn leave_when_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| {
            text.starts_with("failed printing to std") && text.contains("Broken pipe")
        }) {
            std::process::exit(0);
        }
        if crate::log::is_started() {
            tracing::error!("{panic}");
        } else {
            report(panic);
        }
    }));
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
    if error.is::<UsageError>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}
