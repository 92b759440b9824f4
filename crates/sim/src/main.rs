//! `seaway-sim`: runs seeds, and says which fail.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use seaway_sim::{Plan, Report, run, shrink};

/// Runs the whole gateway in a simulation, and checks that its promises hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Go on until upstreams have served so many requests
    #[arg(long)]
    requests: Option<u64>,
    /// Run a plan from a file in place of seeds
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Seeds at a time; as many as there are cores otherwise
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the plan of a failing seed is put, shrunk
    #[arg(long, default_value = "crates/sim/cases")]
    cases: PathBuf,
    /// How many runs may go into making the plan of a failing seed small
    #[arg(long, default_value_t = 400)]
    shrink: usize,
    /// Print all that was seen
    #[arg(long)]
    trace: bool,
}

/// What a run may hold, in KiB: however many came before it.
const MEMORY: u64 = 64 << 10;

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(path) = &arguments.plan {
        let plan: Plan = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        return Ok(told(&plan, &run(&plan), &arguments));
    }
    if arguments.seeds == 1 {
        let plan = Plan::of(arguments.seed);
        return Ok(told(&plan, &run(&plan), &arguments));
    }
    let began = Instant::now();
    let (next, served, done) =
        (AtomicU64::new(arguments.seed), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let enough = |seed: u64| match arguments.requests {
        Some(requests) => served.load(Ordering::Relaxed) >= requests,
        None => seed >= arguments.seed + arguments.seeds,
    };
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if enough(seed) || failed.lock().is_ok_and(|failed| failed.len() >= 5) {
                        break;
                    }
                    let report = run(&Plan::of(seed));
                    served.fetch_add(report.served as u64, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                    if !report.violations.is_empty()
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push((seed, report));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    for (seed, report) in &failed {
        let plan = Plan::of(*seed);
        println!("seed {seed} fails:");
        told(&plan, report, &arguments);
        keep(&plan, report, &arguments)?;
    }
    let most = memory();
    let over = most.filter(|most| *most > MEMORY * jobs as u64);
    if let Some(most) = over {
        println!("memory is bounded: {most} KiB were held at once");
    }
    let (done, served) = (done.load(Ordering::Relaxed), served.load(Ordering::Relaxed));
    println!(
        "{done} seeds, {served} requests served, in {} s, with {} MiB at most",
        began.elapsed().as_secs(),
        most.unwrap_or_default() >> 10
    );
    println!("{} passed, {} failed", done - failed.len() as u64, failed.len());
    Ok(if failed.is_empty() && over.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The most memory that this process ever held, in KiB, where the system tells.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn told(plan: &Plan, report: &Report, arguments: &Arguments) -> ExitCode {
    for violation in &report.violations {
        println!("  {violation}");
    }
    if arguments.trace {
        println!("{}", serde_json::to_string_pretty(plan).unwrap_or_default());
        for line in &report.trace {
            println!("  {line}");
        }
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shrinks the plan of a failing seed, and keeps it as a test.
#[expect(clippy::print_stdout, reason = "this is a command")]
fn keep(plan: &Plan, report: &Report, arguments: &Arguments) -> anyhow::Result<()> {
    let Some(violation) = report.violations.first() else { return Ok(()) };
    let small = shrink::shrink(plan, violation.rule, arguments.shrink);
    let path = arguments.cases.join(format!("seed-{}.json", plan.seed));
    std::fs::create_dir_all(&arguments.cases)?;
    std::fs::write(&path, serde_json::to_string_pretty(&small)? + "\n")?;
    println!("  shrunk into {}, which tests run from now on", path.display());
    Ok(())
}
