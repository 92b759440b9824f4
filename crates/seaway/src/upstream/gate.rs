//! How many requests an upstream gets at once, and how long others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::UpstreamError;
use crate::config::{Limits, UpstreamName};
use crate::fault::FaultKind;

/// The door to one upstream. Requests pass in the order in which they came.
#[derive(Debug)]
pub struct Gate {
    slots: Option<Arc<Semaphore>>,
    most: usize,
    waiting: AtomicUsize,
    queue: usize,
    timeout: Duration,
}

/// Why a request did not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} requests are waiting already")]
    Full(usize),
    #[error("no place became free within {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

impl Refused {
    /// What that means to who asked.
    pub(super) fn of(self, upstream: &UpstreamName) -> UpstreamError {
        let message = format!(
            "upstream `{upstream}` is busy: {self}; try again, or raise its `concurrency` or `queue`"
        );
        UpstreamError {
            retry_after: Some(Duration::from_secs(5)),
            ..UpstreamError::new(FaultKind::RateLimited, message)
        }
    }
}

/// The right to use the upstream; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _slot: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// A pass that holds nothing.
    pub fn free() -> Self {
        Self { _slot: None }
    }
}

impl Gate {
    pub fn new(limits: &Limits) -> Self {
        Self {
            slots: limits.concurrency.map(|most| Arc::new(Semaphore::new(most))),
            most: limits.concurrency.unwrap_or_default(),
            waiting: AtomicUsize::new(0),
            queue: limits.queue,
            timeout: limits.queue_timeout,
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many requests are inside, and how many may be; `None` where nobody counts.
    pub fn taken(&self) -> Option<(usize, usize)> {
        let slots = self.slots.as_ref()?;
        Some((self.most.saturating_sub(slots.available_permits()), self.most))
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// [`Refused`] at once if the queue is full, or when the time is up.
    pub async fn enter(&self) -> Result<Permit, Refused> {
        let Some(slots) = &self.slots else { return Ok(Permit::free()) };
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Ok(Permit { _slot: Some(slot) });
        }
        let _place = self.place()?;
        match tokio::time::timeout(self.timeout, slots.clone().acquire_owned()).await {
            Ok(slot) => Ok(Permit { _slot: slot.ok() }),
            Err(_) => Err(Refused::TimedOut(self.timeout)),
        }
    }

    fn place(&self) -> Result<QueuePlace<'_>, Refused> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = QueuePlace(&self.waiting);
        if waiting >= self.queue { Err(Refused::Full(waiting)) } else { Ok(place) }
    }
}

/// A place in the queue.
struct QueuePlace<'a>(&'a AtomicUsize);

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: usize, queue: usize) -> Gate {
        Gate::new(&Limits {
            concurrency: Some(concurrency),
            queue,
            queue_timeout: Duration::from_secs(60),
            first_byte_timeout: Duration::ZERO,
            retries: 0,
            retry_on: Vec::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_does_not_wait_for_a_free_place() {
        let gate = gate(1, 1);
        let _held = gate.enter().await.unwrap();
        assert_eq!(gate.enter().await.unwrap_err(), Refused::TimedOut(Duration::from_secs(60)));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_freed_place_goes_to_who_waits() {
        let gate = Arc::new(gate(1, 1));
        let held = gate.enter().await.unwrap();
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.is_ok() }
        });
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter().await.unwrap_err(), Refused::Full(1));
        drop(held);
        assert!(waiter.await.unwrap());
    }
}
