//! The whole gateway in one thread, with a network, a clock and a disk of our own making.
//!
//! A *plan* says all that happens: who asks what and when, how fast each reads, what the upstreams answer and
//! where that breaks, when the disk is full, when the process dies. It is made from one number, the seed; a run of it
//! is the same each time. Afterwards a *check* compares what everybody saw: clients, upstreams, the store.
//!
//! What is real: the gateway from its connections to its pools, its timers (in virtual time), its store with SQLite and
//! its files. What is not: sockets, threads, the time, and the programs that it starts.

pub mod check;
pub mod client;
pub mod http;
pub mod plan;
pub mod program;
pub mod shrink;
pub mod upstream;
pub mod world;

pub use check::Violation;
pub use plan::Plan;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub violations: Vec<Violation>,
    /// Requests that upstreams got.
    pub served: usize,
    /// All that was seen, a line each, for comparing two runs.
    pub trace: Vec<String>,
}

/// Runs a plan in a thread of its own: what the gateway keeps by thread begins anew.
///
/// # Panics
///
/// If the run itself does.
pub fn run(plan: &Plan) -> Report {
    let plan = plan.clone();
    let thread = std::thread::Builder::new().name("sim".into()).stack_size(16 << 20);
    let running = thread.spawn(move || world::run(&plan)).expect("a thread can be had");
    running.join().unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something");
        Report {
            violations: vec![Violation::new("no panic", format!("the run panicked: {what}"))],
            served: 0,
            trace: Vec::new(),
        }
    })
}
