//! `/proc`, as proc(5) has it.

use std::fs::{read, read_dir, read_to_string};
use std::time::Duration;

/// What stands behind a process's name, which may hold anything: its state, its parent and so on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

/// When a process began, in clock ticks since the machine did; nothing if it has ended.
pub(super) fn began(pid: u32) -> Option<u64> {
    let fields = fields(pid)?;
    fields.get(19).filter(|_| fields.first().is_some_and(|state| state != "Z"))?.parse().ok()
}

pub(in super::super) fn parent(pid: u32) -> Option<u32> {
    fields(pid)?.get(1)?.parse().ok()
}

pub(in super::super) fn all() -> Vec<u32> {
    let entries = read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// True if a process that is ours was started with this `NAME=value`.
pub(in super::super) fn has_variable(pid: u32, variable: &str) -> bool {
    for _ in 0..LOOKS {
        let Ok(all) = read(format!("/proc/{pid}/environ")) else { return false };
        if !all.is_empty() {
            return all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
        }
        if !may_be_starting(pid) {
            return false;
        }
        std::thread::sleep(BETWEEN);
    }
    false
}

/// How often it is looked again at a process that shows no environment, and how long lies between.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_micros(500);
/// Of its flags: a thread of the kernel's.
const KERNEL: u32 = 0x0020_0000;

/// A process that is just becoming another program has no environment for a moment; one that has ended and one of the kernel's never have.
fn may_be_starting(pid: u32) -> bool {
    let Some(fields) = fields(pid) else { return false };
    let flags = fields.get(6).and_then(|flags| flags.parse::<u32>().ok()).unwrap_or(KERNEL);
    fields.first().is_some_and(|state| state != "Z") && flags & KERNEL == 0
}
