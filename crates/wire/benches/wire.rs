//! Speed and allocations of the machines that every byte passes.

use divan::AllocProfiler;

#[global_allocator]
static ALLOC: AllocProfiler<std::alloc::System> = AllocProfiler::system();

fn main() {
    divan::main();
}
