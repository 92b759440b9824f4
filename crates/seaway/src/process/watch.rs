//! Nobody works for a dead gateway.
//!
//! A gateway that is killed cannot end its children any more, and the Claude Code program goes
//! on by itself: it finishes its answer, makes up results for calls that it holds, and asks
//! again. So the gateway starts one more process, tells it of every child, and holds a pipe to
//! it. When the pipe closes, however that came to be, that process ends whoever is on its list.
//! It leads a group of its own and does not bear the gateway's name, so that what ends the
//! gateway does not end it too.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::family;
use super::folder::is_child_folder;
use crate::confine::outside;

/// The first word on the command line of that process.
pub const COMMAND: &str = "watch-children";
/// How many that died are replaced: one that cannot live is not started for ever.
const REPLACED: u32 = 100;
/// What it is called in lists of processes.
const NAME: &str = "claude-watch";

/// The children on the list, and who watches. One a process, as the pipe is.
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

#[derive(Debug)]
struct Watch {
    program: PathBuf,
    running: Option<WatchProcess>,
    /// As they were told, by process id.
    known: BTreeMap<u32, String>,
    /// How many died.
    died: u32,
}

/// The process that watches.
#[derive(Debug)]
struct WatchProcess {
    pipe: ChildStdin,
    pid: u32,
    mark: String,
}

fn lock() -> MutexGuard<'static, Option<Watch>> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on children are watched; `program` is this very program, which knows [`COMMAND`].
pub fn begin(program: PathBuf) {
    lock().get_or_insert(Watch { program, running: None, known: BTreeMap::new(), died: 0 });
}

/// Puts a child on the list.
pub(super) fn add(pid: u32, mark: &str, temporary: &Path) {
    if let Some(watch) = &mut *lock() {
        let told = format!("+{pid}\t{mark}\t{}\n", temporary.display());
        watch.known.insert(pid, told.clone());
        if !watch.tell(&told) {
            watch.start();
        }
    }
}

/// Takes a child off the list.
pub(super) fn remove(pid: u32) {
    if let Some(watch) = &mut *lock()
        && watch.known.remove(&pid).is_some()
    {
        watch.tell(&format!("-{pid}\n"));
    }
}

impl Watch {
    fn tell(&mut self, line: &str) -> bool {
        self.running.as_mut().is_some_and(|running| running.pipe.write_all(line.as_bytes()).is_ok())
    }

    /// Starts the process, or another in place of one that died or does not listen, and tells it of all.
    fn start(&mut self) {
        if let Some(before) = self.running.take() {
            // Killed before its pipe closes: it would take that for the gateway's end.
            family::end(&[(before.pid, before.mark)]);
        }
        let mut command = Command::new(&self.program);
        command.arg0(NAME).arg(COMMAND).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = outside(move || command.spawn()).and_then(|mut child| {
            let pipe = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
            // Nobody waits for one that does not read any more: it is replaced.
            rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK)?;
            self.running = Some(WatchProcess {
                pipe,
                pid: child.id(),
                mark: super::mark(child.id()).unwrap_or_default(),
            });
            std::thread::Builder::new()
                .name(NAME.to_owned())
                .spawn(move || replace(child))
                .map(drop)
        });
        if let Err(error) = started {
            tracing::warn!(%error, "nobody watches over the children: if this process is killed, they go on");
        }
        let all: String = self.known.values().map(String::as_str).collect();
        self.tell(&all);
    }
}

/// Waits for the process that watches, and sees to another if it is the one that should.
fn replace(mut child: Child) {
    let pid = child.id();
    let _ended = child.wait();
    let mut watch = lock();
    let Some(watch) = watch
        .as_mut()
        .filter(|watch| watch.running.as_ref().is_some_and(|running| running.pid == pid))
    else {
        return;
    };
    watch.running = None;
    watch.died += 1;
    // Otherwise the next child tries again.
    if !watch.known.is_empty() && watch.died <= REPLACED {
        watch.start();
    }
}

/// What that process does: reads the list until its gateway is gone, then ends who is on it.
pub fn run() {
    // Elsewhere the name on its command line is all.
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _unnamed = rustix::thread::set_name(&name);
    }
    let mut known: BTreeMap<u32, (String, PathBuf)> = BTreeMap::new();
    let (mut input, mut line) = (std::io::stdin().lock(), Vec::new());
    while let Ok(1..) = input.read_until(b'\n', &mut line) {
        match entry(&line) {
            Some((pid, Some(child))) => drop(known.insert(pid, child)),
            Some((pid, None)) => drop(known.remove(&pid)),
            None => {}
        }
        line.clear();
    }
    // All of them at once: one that sees its pipe end before its turn comes would ask the API again.
    for (pid, (mark, _)) in &known {
        family::stop(*pid, mark);
    }
    for (pid, (mark, temporary)) in known {
        family::kill(pid, &mark, &temporary);
        if is_child_folder(&temporary) {
            let _shared_or_gone = std::fs::remove_dir_all(temporary);
        }
    }
}

/// A line of the list: a child with its mark and its temporary folder, or one that is gone.
///
/// The gateway may have been killed while it wrote: what has no end is none.
fn entry(line: &[u8]) -> Option<(u32, Option<(String, PathBuf)>)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    if let Some(pid) = line.strip_prefix('-') {
        return Some((pid.parse().ok()?, None));
    }
    let mut fields = line.strip_prefix('+')?.splitn(3, '\t');
    let pid = fields.next()?.parse().ok()?;
    Some((pid, Some((fields.next()?.to_owned(), PathBuf::from(fields.next()?)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_child_or_its_end_and_one_that_is_cut_off_is_neither() {
        let (begins, ends) = ("+7\t7 42\t/tmp/a b\n", "-71\n");
        assert_eq!(entry(begins.as_bytes()), Some((7, Some(("7 42".into(), "/tmp/a b".into())))));
        assert_eq!(entry(ends.as_bytes()), Some((71, None)));
        for line in [begins, ends] {
            for cut in 0..line.len() {
                assert_eq!(entry(&line.as_bytes()[..cut]), None, "{cut} of {line:?}");
            }
        }
        for odd in ["\n", "+\n", "+7\n", "+7\t7 42\n", "-x\n", "7\n"] {
            assert_eq!(entry(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
