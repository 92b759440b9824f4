//! What every handler shares.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::app::Reloader;
use crate::drain::Drain;
use crate::ledger::Ledger;
use crate::runtime::Runtime;

/// The running gateway, as its handlers see it.
pub struct House {
    pub runtime: ArcSwap<Runtime>,
    pub ledger: Arc<Ledger>,
    pub drain: Drain,
    pub tasks: TaskTracker,
    pub started: Instant,
    pub reloader: Reloader,
}
