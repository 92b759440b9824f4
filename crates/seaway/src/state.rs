//! What every handler shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::access::knocks::Knocks;
use crate::agent::registry::Agents;
use crate::config::Sources;
use crate::drain::Drain;
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::snapshot::Snapshot;
use crate::ticket::Tickets;
use crate::upstream::Dependencies;

/// The running gateway, as its handlers see it.
pub struct AppState {
    pub snapshot: ArcSwap<Snapshot>,
    pub ledger: Arc<Ledger>,
    pub drain: Drain,
    /// Wrong keys that were tried.
    pub knocks: Knocks,
    /// What bodies of requests may take of it.
    pub memory: Memory,
    /// The memory for answers that are held until they are whole.
    pub answers: Memory,
    pub tasks: TaskTracker,
    pub started: Instant,
    pub origin: ConfigOrigin,
    pub agents: Agents,
    pub tickets: Tickets,
    /// Tells this gateway from every other one, also from one before it.
    pub instance: Arc<str>,
}

/// Where the configuration came from, to be read again.
pub struct ConfigOrigin {
    pub sources: Sources,
    /// The file that was read.
    pub path: PathBuf,
}

impl AppState {
    /// What upstreams share with the gateway.
    pub fn dependencies(&self) -> Dependencies {
        Dependencies { tasks: self.tasks.clone(), store: self.ledger.store().clone() }
    }
}
