//! From a configuration to running tasks: the one file that sees everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::causes::chain;
use crate::config::{self, Listen, Loaded, Sources};
use crate::dial::Network;
use crate::drain::Drain;
use crate::http::Routes;
use crate::http::admission::Door;
use crate::http::connection::Connections;
use crate::http::server::{self, BindError, Listener, Serving};
use crate::http::tls::{ServerTls, TlsError};
use crate::instance::{self, Registered};
use crate::ledger::Books;
use crate::process::Programs;
use crate::reload;
use crate::snapshot::Snapshot;
use crate::state::{AppState, ConfigOrigin};
use crate::store::{Store, StoreError};
use crate::upstream::{self, Dependencies};
use crate::workers::Workers;

/// How long tasks have to end once they were told to, beyond the grace.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// How long the records that the store does not take have to be put into a file: longer than the store waits for another
/// program that locks it.
const SPOOLING: Duration = Duration::from_secs(10);

/// After so long without a request memory is given back.
const QUIET: Duration = Duration::from_secs(5);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Key(#[from] crate::auth::KeyError),
    #[error("the state folder {path} cannot be trusted")]
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot start the threads that serve")]
    Threads(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// A gateway that holds its addresses and serves.
pub struct App {
    pub state: Arc<AppState>,
    /// Where it can be reached, as it really is.
    pub addresses: Vec<Listen>,
    grace: Duration,
    signals: Signals,
    /// The same tasks end with the process; these are waited for.
    connections: TaskTracker,
    workers: Workers,
    registered: Option<Registered>,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Takes as many open files as the system allows: each client needs one, and often one more to an upstream.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Serves what comes by all addresses, which share their places.
fn serve(
    listeners: Vec<Listener>,
    tls: Option<&Arc<ServerTls>>,
    router: &Routes,
    state: &Arc<AppState>,
    tasks: &TaskTracker,
    workers: &Workers,
) {
    let connections = Connections::default();
    for listener in listeners {
        let secure = matches!(listener, Listener::Tls(_));
        let serving = Serving {
            router: router.clone(),
            door: Door::Public,
            state: state.clone(),
            tasks: tasks.clone(),
            workers: workers.clone(),
            connections: connections.clone(),
            tls: tls.filter(|_| secure).cloned(),
        };
        tasks.spawn(listener.serve(serving));
    }
}

impl App {
    /// Starts everything. Clients can connect when this returns.
    ///
    /// # Errors
    ///
    /// [`StartError`] if an address or the local key cannot be had.
    pub async fn start(loaded: Loaded, sources: Sources) -> Result<Self, StartError> {
        let Loaded { config, path, saved_at, .. } = loaded;
        raise_open_files();
        crate::trusted::folder(&config.state_dir, config.modes)
            .map_err(|source| StartError::State { path: config.state_dir.clone(), source })?;
        let signals = Signals::listen().map_err(StartError::Signals)?;
        let tls = match config.tls.clone() {
            Some(files) => Some(ServerTls::load(files, config.modes)?),
            None => None,
        };
        let mut listeners = Vec::new();
        for listen in &config.listen {
            listeners.push(server::bind(listen).await?);
        }
        let (drain, tasks, connections) =
            (Drain::default(), TaskTracker::new(), TaskTracker::new());
        let books = Books::new(&config);
        let store = Store::start(
            config.store.clone(),
            config.prices.clone(),
            books.opened(true),
            store_failed,
        );
        let (grace, watch, threads) = (config.grace, config.watch, config.threads);
        let (state_dir, mut config) = (config.state_dir.clone(), config);
        config.listen = listeners.iter().filter_map(Listener::address).collect();
        let addresses = config.listen.clone();
        let origin = ConfigOrigin { sources, path };
        let at_hand =
            Dependencies { tasks, store, books, network: Network::Real, programs: Programs::Real };
        let state = AppState::new(config, origin, at_hand, drain)?;
        let router = Routes::new(&state);
        let workers = Workers::start(threads).map_err(StartError::Threads)?;
        serve(listeners, tls.as_ref(), &router, &state, &connections, &workers);
        let mut app =
            Self { state, addresses, grace, signals, connections, workers, registered: None };
        app.registered = app.register(&state_dir, router).await;
        app.state.tasks.spawn(sweep(app.state.clone()));
        app.state.tasks.spawn(give_back(app.state.clone(), app.workers.clone()));
        if let Some(tls) = tls {
            app.state.tasks.spawn(tls.watch());
        }
        if watch {
            app.state.tasks.spawn(watch_file(app.state.clone(), saved_at));
        }
        Ok(app)
    }

    /// Makes this instance known to `seaway status`. It serves all the same without.
    async fn register(&self, state_dir: &std::path::Path, router: Routes) -> Option<Registered> {
        let registered = async {
            let path = instance::socket_path(state_dir)?;
            let listener =
                server::bind(&Listen::Unix(path.clone())).await.map_err(std::io::Error::other)?;
            let serving = Serving {
                router,
                door: Door::Own,
                state: self.state.clone(),
                tasks: self.connections.clone(),
                workers: self.workers.clone(),
                // Whoever fills the other doors does not shut out the owner.
                connections: Connections::default(),
                tls: None,
            };
            self.connections.spawn(listener.serve(serving));
            instance::register(
                state_dir,
                self.addresses.iter().map(ToString::to_string).collect(),
                path,
            )
        };
        registered.await.map_err(|error: std::io::Error| tracing::warn!(%error, "`seaway status` will not find this instance")).ok()
    }

    /// Serves until a signal says to stop, then drains.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                _ = self.signals.hangup.recv() => reload::reload_or_warn(&self.state),
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
            }
        }
        tracing::info!(
            in_flight = self.state.ledger.running(),
            "draining; a second signal stops at once"
        );
        self.leave().await;
    }

    /// Serves for as long as something else goes on, then drains. A Ctrl-C has reached what goes on by itself;
    /// other signals are passed on to it.
    pub async fn until<T>(
        mut self,
        other: impl Future<Output = T>,
        pass_on: impl Fn(rustix::process::Signal),
    ) -> T {
        let mut other = std::pin::pin!(other);
        let done = loop {
            tokio::select! {
                done = &mut other => break done,
                _ = self.signals.interrupt.recv() => {}
                _ = self.signals.terminate.recv() => pass_on(rustix::process::Signal::TERM),
                _ = self.signals.hangup.recv() => pass_on(rustix::process::Signal::HUP),
            }
        };
        self.leave().await;
        done
    }

    async fn leave(&mut self) {
        tokio::select! {
            () = drain(&self.state, &self.connections, self.grace) => {}
            _ = self.signals.terminate.recv() => {}
            _ = self.signals.interrupt.recv() => {}
        }
        drop(self.registered.take());
    }
}

/// Stops accepting, waits for what is in flight, cuts the rest, writes what is recorded.
async fn drain(state: &AppState, connections: &TaskTracker, grace: Duration) {
    state.drain.begin();
    connections.close();
    // What works in the background has no connection to be waited for.
    let all = async {
        connections.wait().await;
        state.agents.all_ended().await;
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!(left = state.ledger.running(), "the grace is over; what is left is cut off");
        state.drain.cut();
        let last = async {
            connections.wait().await;
            state.agents.all_ended().await;
        };
        let _late = tokio::time::timeout(LAST_MOMENTS, last).await;
    }
    for upstream in &state.snapshot.load().upstreams {
        upstream.close().await;
    }
    let store = state.ledger.store();
    if !tokio::time::timeout(LAST_MOMENTS, store.flush()).await.unwrap_or(false)
        && tokio::time::timeout(SPOOLING, store.spool()).await.is_err()
    {
        tracing::error!("the store was too slow for the last records; they are in the log alone");
    }
}

async fn sweep(state: Arc<AppState>) {
    let mut every = tokio::time::interval(Duration::from_secs(30));
    let mut swept: Option<JoinHandle<()>> = None;
    for turn in 0_u64.. {
        every.tick().await;
        let snapshot = state.snapshot.load_full();
        // What is too old is not found before that either. Nothing here waits for a disk.
        if turn % 10 == 0 && swept.as_ref().is_none_or(JoinHandle::is_finished) {
            swept = Some(state.tasks.spawn(sweep_store(state.clone(), snapshot.clone())));
        }
        upstream::sweep_thread();
        for upstream in &snapshot.upstreams {
            upstream.sweep();
            // Asking the program costs a process, so it is asked at the start and every five minutes.
            if turn % 10 == 0
                && let Some(program) = upstream.program()
                && let Err(why) = program.ready().await
            {
                tracing::warn!(upstream = %upstream.name, why, "requests cannot be served yet");
            }
        }
    }
}

/// Gives memory back once a burst is over.
async fn give_back(state: Arc<AppState>, workers: Workers) {
    let mut every = tokio::time::interval(QUIET);
    let (mut given, mut before) = (0, 0);
    loop {
        every.tick().await;
        let now = state.ledger.ended_so_far();
        // Something happened since, and nothing did lately.
        if now != given && now == before && state.ledger.running() == 0 {
            given = now;
            workers.give_back();
        }
        before = now;
    }
}

async fn sweep_store(state: Arc<AppState>, snapshot: Arc<Snapshot>) {
    let store = state.ledger.store();
    let swept = async {
        store.settle_tasks(&state.instance).await?;
        store
            .sweep_responses(snapshot.config.responses_retention, snapshot.config.responses_limit)
            .await
    };
    if let Err(error) = swept.await {
        tracing::error!(error = %chain(&error), "old responses could not be deleted");
    }
}

/// Looks once a second whether the file was saved.
async fn watch_file(state: Arc<AppState>, mut seen: Option<SystemTime>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        let now = config::saved_at(&state.origin.path);
        if now.is_some() && now != seen {
            seen = now;
            reload::reload_or_warn(&state);
        }
    }
}

fn store_failed(error: &StoreError) {
    tracing::error!(error = %chain(error), "nothing will be recorded");
}
