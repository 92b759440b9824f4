//! What the system tells of processes: whose child each is, when it began, what is in its environment.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod others;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use others as system;

pub(super) use system::{all, has_variable, parent};

/// True if there is a process with this number, whoever's.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A process by its number and the time of its start; `None` if it is no more.
pub fn mark(pid: u32) -> Option<String> {
    Some(format!("{pid} {}", system::began(pid)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The other teller too, which no Linux asks otherwise.
    #[test]
    fn both_tell_the_same_of_a_process() {
        let own = std::process::id();
        let mut command = Command::new("sleep");
        command.arg("600").env_clear().env("SEAWAY_TEST", "one").stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pid = child.id();
        assert_eq!((parent(pid), others::parent(pid)), (Some(own), Some(own)));
        assert_eq!((mark(pid).is_some(), others::began(pid).is_some()), (true, true));
        for all in [all(), others::all()] {
            assert!(all.contains(&pid) && all.contains(&own));
        }
        for (variable, has) in [("SEAWAY_TEST=one", true), ("SEAWAY_TEST=on", false)] {
            assert_eq!(
                (has_variable(pid, variable), others::has_variable(pid, variable)),
                (has, has)
            );
        }
        child.kill().unwrap();
        // It is no more, though its parent has not been told yet.
        while mark(pid).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(others::began(pid), None);
        child.wait().unwrap();
        assert!(others::began(pid).is_none() && !others::all().contains(&pid) && !is_alive(pid));
    }
}
