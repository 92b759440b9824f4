//! Where there is no `/proc`: what `sysinfo` finds out.

use std::os::unix::ffi::OsStrExt;

use sysinfo::{
    Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind,
};

/// What is known of one process, if it is there and has not ended.
fn of<T>(
    pid: u32,
    kind: ProcessRefreshKind,
    told: impl FnOnce(&Process) -> Option<T>,
) -> Option<T> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    let process = system.process(pid)?;
    let ended = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    if ended { None } else { told(process) }
}

/// When a process began, in seconds since 1970; nothing if it has ended.
pub(super) fn began(pid: u32) -> Option<u64> {
    of(pid, ProcessRefreshKind::nothing(), |process| Some(process.start_time()))
}

pub(in super::super) fn parent(pid: u32) -> Option<u32> {
    of(pid, ProcessRefreshKind::nothing(), |process| process.parent().map(Pid::as_u32))
}

pub(in super::super) fn all() -> Vec<u32> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    system.processes().keys().map(|pid| pid.as_u32()).collect()
}

/// True if a process that is ours was started with this `NAME=value`.
pub(in super::super) fn has_variable(pid: u32, variable: &str) -> bool {
    let kind = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
    let has = |process: &Process| {
        Some(process.environ().iter().any(|one| one.as_bytes() == variable.as_bytes()))
    };
    of(pid, kind, has).unwrap_or(false)
}
