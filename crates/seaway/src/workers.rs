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

    /// The thread whose turn it is.
    pub fn next(&self) -> &Handle {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        &self.0.handles[turn % self.0.handles.len()]
    }
}

/// Drops what a thread keeps for its upstreams and does not use.
async fn tidy() {
    let mut every = tokio::time::interval(TIDY);
    loop {
        every.tick().await;
        upstream::sweep_thread();
    }
}
