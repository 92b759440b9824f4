//! `/proc`, as proc(5) has it.

use std::fs::{read, read_dir, read_to_string};

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
    read(format!("/proc/{pid}/environ"))
        .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes()))
}
