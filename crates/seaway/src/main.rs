//! Arguments, run, exit code.

use std::process::ExitCode;

/// Requests are made of small allocations; this one is measurably faster at them (bench/).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    seaway::cli::main()
}
