//! What this process may do once it serves: files by landlock, system calls by seccomp, where the kernel has them.
//!
//! Both hold for a thread and for what it starts, so they come before every other thread. One thread is
//! kept out of it: children are started there, which have rules of their own, and what the owner's
//! settings name is read there, wherever it lies. No request says what that thread does.

#[cfg(target_os = "linux")]
mod linux;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The files that a gateway needs by itself. Whatever else there is can be neither opened nor made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReach {
    /// May be read, with all that lies below.
    pub read: Vec<PathBuf>,
    /// The same, and be written, made and deleted.
    pub write: Vec<PathBuf>,
    /// Folders may be made here.
    pub make: Vec<PathBuf>,
}

impl FileReach {
    /// What is in this and was not in another one.
    pub fn beyond<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a PathBuf> {
        let read = self.read.iter().filter(|path| !before.read.contains(path));
        let write = self.write.iter().filter(|path| !before.write.contains(path));
        let make = self.make.iter().filter(|path| !before.make.contains(path));
        read.chain(write).chain(make)
    }
}

/// True if this process is confined.
pub fn is_confined() -> bool {
    OUTSIDE.get().is_some()
}

/// What of it the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    pub files: bool,
    pub calls: bool,
}

/// Something to do, told whether the thread is for it alone.
type OutsideJob = Box<dyn FnOnce(bool) + Send>;

thread_local! {
    /// This thread is outside already: what it has to do there it does at once.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

static OUTSIDE: OnceLock<Sender<OutsideJob>> = OnceLock::new();

/// Confines this thread, and all that it starts from here on. To be called while there is no other thread.
///
/// # Errors
///
/// If the thread that stays outside cannot be started, or the kernel refuses what it has.
pub fn confine(reach: &FileReach) -> io::Result<Confined> {
    let (jobs, asked) = channel::<OutsideJob>();
    std::thread::Builder::new().name("outside".into()).spawn(move || {
        for job in asked {
            // A thread each: nobody waits for another one's disk.
            let job = Arc::new(Mutex::new(Some(job)));
            let same = job.clone();
            if std::thread::Builder::new().spawn(move || run(&same, true)).is_err() {
                run(&job, false);
            }
        }
    })?;
    if OUTSIDE.set(jobs).is_err() {
        return Err(io::Error::other("this process is confined already"));
    }
    restrict(reach)
}

fn run(job: &Mutex<Option<OutsideJob>>, alone: bool) {
    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
    HERE.set(true);
    if let Some(job) = job {
        job(alone);
    }
}

#[cfg(target_os = "linux")]
fn restrict(reach: &FileReach) -> io::Result<Confined> {
    linux::restrict(reach)
}

#[cfg(target_os = "linux")]
fn restrict_files(reach: &FileReach) -> io::Result<bool> {
    linux::restrict_files(reach).map_err(io::Error::other)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is a kernel that may refuse")]
fn restrict_files(_: &FileReach) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is a kernel that may refuse")]
fn restrict(_: &FileReach) -> io::Result<Confined> {
    Ok(Confined { files: false, calls: false })
}

/// Does something outside of what this process is confined to, and waits for it: starting a child, or reading what the
/// owner's settings name. Done at once where nothing is confined.
///
/// # Panics
///
/// As the job does.
pub fn outside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    in_turn(move |_| job())
}

/// The same for what starts a child that has to stay within these files: it is held by them, and all that it starts. Where
/// this process is not confined the child is not either.
///
/// # Panics
///
/// As the job does.
pub fn outside_within<T: Send + 'static>(
    reach: FileReach,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    in_turn(move |alone| {
        let held = if alone { restrict_files(&reach) } else { Ok(false) };
        match held {
            Err(error) => tracing::warn!(%error, "a child is not confined"),
            Ok(false) if HERE.get() => tracing::warn!(
                "a child is not confined: there is no thread for it alone, or no landlock"
            ),
            Ok(_) => {}
        }
        job()
    })
}

fn in_turn<T: Send + 'static>(job: impl FnOnce(bool) -> T + Send + 'static) -> T {
    let Some(jobs) = OUTSIDE.get().filter(|_| !HERE.get()) else { return job(false) };
    let (done, wait) = channel::<Result<T, Box<dyn Any + Send>>>();
    let job = move |alone| {
        // Whoever asked waits for it.
        let _waits = done.send(catch_unwind(AssertUnwindSafe(|| job(alone))));
    };
    let asked = jobs.send(Box::new(job));
    match asked.ok().and_then(|()| wait.recv().ok()) {
        Some(Ok(value)) => value,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("the thread outside lives as long as the process"),
    }
}
