//! `seaway key`: the local key.

use std::process::ExitCode;

use secrecy::ExposeSecret;

use super::args::{Cli, KeyCommand};
use super::client::Client;
use crate::auth::{Keyring, new_key};
use crate::config::Auth;
use crate::instance;

pub(super) fn run(cli: &Cli, command: &KeyCommand) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    match command {
        KeyCommand::Show => match Keyring::load(&config)?.first() {
            Some(key) => println!("{}", key.expose_secret()),
            None => eprintln!("no key is needed: `auth` is `none`"),
        },
        KeyCommand::Rotate => {
            if !matches!(config.auth, Auth::MadeKey) {
                anyhow::bail!("the key is set in the configuration; change it there (`api_key` or `[keys]`)");
            }
            println!("{}", new_key(&config.state_dir)?.expose_secret());
            tell_instances(&config.state_dir)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gateways that run have the old key until they reload.
fn tell_instances(state_dir: &std::path::Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for found in instance::find(state_dir) {
        let told = runtime.block_on(Client::unix(&found.socket).post("/owner/reload", Vec::new(), &[]));
        match told {
            Ok(answer) if answer.status.is_success() => eprintln!("the gateway at {} uses it from now on", found.addresses.join(", ")),
            _ => eprintln!("hint: the gateway with process id {} still has the old key; send it SIGHUP", found.pid),
        }
    }
    Ok(())
}
