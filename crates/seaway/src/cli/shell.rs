//! For the shell and its user: completions and the manual page.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

pub(super) fn completions(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "seaway", &mut std::io::stdout());
    ExitCode::SUCCESS
}

pub(super) fn man(pages: Option<&Path>) -> anyhow::Result<ExitCode> {
    if let Some(folder) = pages {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command(), folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands() {
        clap_mangen::Man::new(sub.clone().name(format!("seaway-{}", sub.get_name())))
            .render(&mut page)?;
    }
    std::io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}
