//! A process with all that it started, also what left its group.
//!
//! A tool of the Claude Code program leads a session of its own, and may leave a process behind
//! whose parent is gone. What all of them keep is the temporary folder that they were given.

use std::collections::HashMap;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::table::{all, has_variable, parent};
use super::{Group, mark};
use crate::confine::outside;

/// A process at one time: a number alone may be somebody else's later.
type Member = (u32, String);

/// Has a process and its group do nothing more until they are killed.
pub(super) fn stop(pid: u32, mark_then: &str) {
    if is_still(pid, mark_then) {
        Group(Some(pid)).send(Signal::STOP);
    }
}

/// True for the process that once had this mark. One without was gone when it was looked at.
fn is_still(pid: u32, mark_then: &str) -> bool {
    mark(pid).is_some_and(|now| now == mark_then)
}

/// Kills a process, its group, what it started and what has its temporary folder. `mark` is what [`mark`] said of
/// it, or empty if it was gone then.
pub(super) fn kill(pid: u32, mark_then: &str, temporary: &Path) {
    let is_it = is_still(pid, mark_then);
    // Looked for before it is gone: afterwards nobody knows whose they were.
    let mut members = if is_it { below(pid) } else { Vec::new() };
    if is_it {
        Group(Some(pid)).send(Signal::KILL);
    }
    members.extend(with_folder(temporary));
    end(&members);
    // A process that was about to start another when it was looked at.
    end(&with_folder(temporary));
}

/// Kills what is left of a process that is gone.
pub(super) fn kill_rest(temporary: &Path) {
    end(&with_folder(temporary));
}

/// Kills processes, if they are still those that were looked at.
pub(super) fn end(members: &[Member]) {
    for (pid, then) in members.iter().filter(|(pid, _)| *pid != std::process::id()) {
        if let Some(pid) = i32::try_from(*pid)
            .ok()
            .and_then(Pid::from_raw)
            .filter(|_| mark(*pid).is_some_and(|now| now == *then))
        {
            let _gone_already = kill_process(pid, Signal::KILL);
        }
    }
}

/// What a process started, and what that started.
fn below(pid: u32) -> Vec<Member> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(pid) = next.pop() {
        let started = children.remove(&pid).unwrap_or_default();
        found.extend(started.iter().filter_map(|pid| Some((*pid, mark(*pid)?))));
        next.extend(started);
    }
    found
}

/// Every process that was given this temporary folder.
fn with_folder(temporary: &Path) -> Vec<Member> {
    let wanted = format!("TMPDIR={}", temporary.display());
    // Who is confined may not look into a process that is not.
    outside(move || {
        let has = |pid: &u32| has_variable(*pid, &wanted);
        all().into_iter().filter(has).filter_map(|pid| Some((pid, mark(pid)?))).collect()
    })
}
