//! Arguments, run, exit code.

use std::process::ExitCode;

/// Requests are made of small allocations; this one is measurably faster at them (bench/).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Not a command of anybody's: the gateway starts itself so, to look after its children.
    if std::env::args_os().nth(1).is_some_and(|word| word == seaway::process::watch::COMMAND) {
        seaway::process::watch::run();
        return ExitCode::SUCCESS;
    }
    seaway::process::watch::begin(this_program());
    seaway::cli::main()
}

/// This very program, also where another one has taken its place on the disk meanwhile.
fn this_program() -> std::path::PathBuf {
    let running = std::path::PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { std::env::current_exe().unwrap_or(running) }
}
