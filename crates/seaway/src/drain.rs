//! Shutting down in good order.

use crate::fault::{Fault, FaultKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The two moments of a shutdown: no new work, and no more waiting.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begun: CancellationToken,
    cut: CancellationToken,
    /// As the tokens, but to be asked without a lock.
    has_begun: Arc<AtomicBool>,
    cutting: Arc<AtomicBool>,
}

impl Drain {
    /// Accept nothing new.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        self.begun.cancel();
    }

    /// Wait no longer for what is in flight.
    pub fn cut(&self) {
        self.cutting.store(true, Ordering::Relaxed);
        self.cut.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    pub fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Relaxed)
    }

    pub async fn wait_begun(&self) {
        self.begun.cancelled().await;
    }

    pub fn wait_cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }
}

/// The fault of a request that comes when the gateway is leaving.
pub fn fault() -> Fault {
    Fault::new(FaultKind::Draining, "the gateway is shutting down; try again in a moment")
        .retry_after(Duration::from_secs(2))
}
