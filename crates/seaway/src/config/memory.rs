//! How much memory there is.

use std::path::Path;

/// For a machine that does not tell its memory.
const UNKNOWN: u64 = 1 << 30;

/// The memory of the machine, or of the container where that is less, in bytes.
pub(super) fn there_is() -> u64 {
    [
        Path::new("/sys/fs/cgroup/memory.max"),
        Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]
    .into_iter()
    .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
    .chain(machine())
    .min()
    .unwrap_or(UNKNOWN)
}

/// What Linux says; elsewhere nothing does.
fn machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}
