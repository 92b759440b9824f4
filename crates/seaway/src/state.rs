//! What every handler shares.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::access::knocks::{KnockNews, Knocks};
use crate::agent::registry::Agents;
use crate::auth::KeyError;
use crate::config::{Config, Sources};
use crate::dial::Network;
use crate::drain::Drain;
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::process::Programs;
use crate::signin::SignIns;
use crate::snapshot::Snapshot;
use crate::store::{AuditEntry, AuditEvent};
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
    pub network: Network,
    programs: Programs,
    pub started: Instant,
    pub origin: ConfigOrigin,
    pub agents: Agents,
    pub tickets: Tickets,
    /// Whose turn it is to have telemetry written.
    pub telemetry: Arc<tokio::sync::Mutex<()>>,
    /// Programs that wait to be signed in.
    pub sign_ins: SignIns,
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
    /// What a configuration becomes. `at_hand` is what it works with.
    ///
    /// # Errors
    ///
    /// If the local key can be neither read nor made.
    pub fn new(
        config: Config,
        origin: ConfigOrigin,
        at_hand: Dependencies,
        drain: Drain,
    ) -> Result<Arc<Self>, KeyError> {
        let memory_limit = config.memory_limit;
        let snapshot = Snapshot::new(config, None, &at_hand)?;
        let Dependencies { tasks, store, books, network, programs } = at_hand;
        Ok(Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            ledger: Ledger::new(store, books, drain.clone()),
            drain,
            knocks: Knocks::default(),
            memory: Memory::new(memory_limit),
            telemetry: Arc::default(),
            answers: Memory::new(memory_limit),
            tasks,
            network,
            programs,
            started: Instant::now(),
            origin,
            agents: Agents::default(),
            tickets: Tickets::default(),
            sign_ins: SignIns::default(),
            instance: uuid::Uuid::now_v7().simple().to_string().into(),
        }))
    }

    /// What upstreams share with the gateway.
    pub fn dependencies(&self) -> Dependencies {
        Dependencies {
            tasks: self.tasks.clone(),
            store: self.ledger.store().clone(),
            books: self.ledger.books().clone(),
            network: self.network.clone(),
            programs: self.programs.clone(),
        }
    }

    /// Notes a wrong key, and says how long its answer is to wait.
    pub fn refuse_key(&self, address: IpAddr) -> Duration {
        let refusal = self.knocks.wrong(address);
        if let Some(KnockNews { count, untold }) = refusal.news {
            let others = match untold {
                0 => String::new(),
                _ => format!("; {untold} more addresses or tries were not listed"),
            };
            let detail = format!("a wrong local key, or none{others}");
            let entry =
                AuditEntry { count, ..AuditEntry::once(AuditEvent::KeyRefused, "", detail) };
            self.ledger.store().audit(entry.from(Some(address)));
        }
        refusal.wait
    }
}
