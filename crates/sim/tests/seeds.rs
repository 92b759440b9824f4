//! Runs a number of seeds, and every plan that once failed.

use std::sync::atomic::{AtomicU64, Ordering};

use seaway_sim::{Plan, run};

/// Seeds of each test run, for less than two minutes.
const SEEDS: u64 = 500;

fn check(name: &str, plan: &Plan) {
    let report = run(plan);
    let told: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{name}: {}\n{}", told.join("\n"), report.trace.join("\n"));
}

#[test]
fn promises_hold_whatever_happens() {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        break;
                    }
                    check(&format!("seed {seed}"), &Plan::of(seed));
                }
            });
        }
    });
}

#[test]
fn what_failed_once_fails_no_more() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let files = std::fs::read_dir(folder).expect("there is a folder of cases").flatten();
    let paths = files.map(|file| file.path());
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        check(&path.display().to_string(), &serde_json::from_str(&text).expect("it is a plan"));
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 1000..1040 {
        let plan = Plan::of(seed);
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
