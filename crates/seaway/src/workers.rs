//! The threads that serve: one runtime each, and each connection stays on its own.
//!
//! Nothing is stolen between them, so a frame never wakes another core. An upstream's
//! connections are used again on the thread that opened them (see `upstream/pool.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::upstream;

const TIDY: Duration = Duration::from_secs(30);
/// How often memory is looked for until mimalloc tidies up (its `generic_collect`), and pieces that are looked for.
const LOOKED_FOR: usize = 10_500;
const LARGE: usize = 48 << 10;
const LARGEST: usize = 8 << 20;
/// It gives back what is unused for a second (its `purge_delay`).
const UNUSED: Duration = Duration::from_millis(1500);

/// A handle on the threads. They end when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Workers(Arc<WorkerQueue>);

#[derive(Debug)]
struct WorkerQueue {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _end: DropGuard,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    ///
    /// If a thread or its runtime cannot be had.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let end = CancellationToken::new();
        let mut handles = Vec::new();
        for index in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let ended = end.clone().cancelled_owned();
            std::thread::Builder::new().name(format!("serve-{index}")).spawn(move || {
                runtime.spawn(tidy());
                runtime.block_on(ended);
            })?;
        }
        Ok(Self(Arc::new(WorkerQueue {
            handles,
            next: AtomicUsize::new(0),
            _end: end.drop_guard(),
        })))
    }

    /// The runtime that this is called in does all the work: for a simulation.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn here() -> Self {
        Self(Arc::new(WorkerQueue {
            handles: vec![Handle::current()],
            next: AtomicUsize::new(0),
            _end: CancellationToken::new().drop_guard(),
        }))
    }

    /// Has every thread give unused memory back to the system: some milliseconds of work, for when there is nothing else.
    pub fn give_back(&self) {
        for thread in &self.0.handles {
            thread.spawn(breathe());
        }
    }

    /// The thread whose turn it is.
    pub fn next(&self) -> &Handle {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        &self.0.handles[turn % self.0.handles.len()]
    }
}

/// Has the allocator give back what this thread does not use. mimalloc does that now and then while it is asked for memory
/// that has to be looked for, and not by itself: after a burst, all of it would stay.
async fn breathe() {
    for _ in 0..LOOKED_FOR {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
    // By then it is unused for long enough.
    tokio::time::sleep(UNUSED).await;
    for _ in 0..LOOKED_FOR {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}

/// Drops what a thread keeps for its upstreams and does not use.
async fn tidy() {
    let mut every = tokio::time::interval(TIDY);
    loop {
        every.tick().await;
        upstream::sweep_thread();
    }
}
