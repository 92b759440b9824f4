//! A gateway in the midst of it all: one thread, virtual time, and a store that works when it is told to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use seaway::config::{Config, Environment, Loaded, Sources};
use seaway::dial::Network;
use seaway::drain::Drain;
use seaway::http::Routes;
use seaway::http::admission::Door;
use seaway::http::connection::Connections;
use seaway::http::server::Serving;
use seaway::ledger::Books;
use seaway::process::Programs;
use seaway::reload;
use seaway::state::{AppState, ConfigOrigin};
use seaway::store::{Opened, Store, StoreSteps};
use seaway::upstream::Dependencies;
use seaway::workers::Workers;
use tokio::time::{Instant, advance, sleep};
use tokio_util::task::TaskTracker;

use crate::client::{self, CALLERS, KEYS};
use crate::plan::{Event, Plan};
use crate::program::{MODEL, Machine, PROGRAM};
use crate::upstream::{Upstreams, Way};
use crate::{Report, check};

/// How often the store does what waits, in virtual time, while there is something and while there is not.
const STEP: Duration = Duration::from_millis(10);
const LONGEST_STEP: Duration = Duration::from_millis(640);
/// How long all has to come to rest once the last client is gone.
const REST: Duration = Duration::from_secs(30);
/// The grace of a drain.
const GRACE: Duration = Duration::from_secs(2);

/// The credentials of the upstreams, which are for each its own.
pub const UPSTREAM_KEYS: [(char, &str); 3] =
    [('a', "sk-up-aaa"), ('b', "sk-up-bbb"), (PROGRAM, "sk-up-ccc")];

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All came to rest.
    Rest,
    /// It was asked to end.
    Drained,
    Killed,
}

/// What was left when all was at rest, as far as it should not be.
#[derive(Debug, Default)]
pub struct Leftovers(pub Vec<String>);

/// All that a run left to look at.
pub struct Aftermath<'p> {
    pub plan: &'p Plan,
    pub ending: Ending,
    pub answered: Vec<client::Answered>,
    pub attempts: Vec<crate::upstream::Attempt>,
    pub launches: Vec<crate::upstream::Launched>,
    pub leftovers: Leftovers,
    /// The state folder, after the next gateway has opened it.
    pub state: PathBuf,
}

fn settings(plan: &Plan, state: &Path) -> String {
    let sync = if plan.synced { "full" } else { "normal" };
    let mut text = format!(
        "listen = '127.0.0.1:1'\nstate_dir = '{}'\nlog_level = 'off'\nmemory_limit = '4MiB'\nhead_timeout = '10s'\nclient_idle_timeout = '20s'\nsend_timeout = '15s'\nbody_timeout = '15s'\nstore.sync = '{sync}'\n[keys]\n",
        state.display()
    );
    for (name, key) in CALLERS.iter().zip(KEYS) {
        text += &format!("{name} = '{key}'\n");
    }
    for (name, key) in UPSTREAM_KEYS {
        let what = if name == PROGRAM {
            "kind = 'claude-code'".to_owned()
        } else {
            format!("kind = 'messages'\nbase_url = 'http://{name}.sim'")
        };
        text += &format!(
            "[upstream.{name}]\n{what}\napi_key = '{key}'\nretries = 1\nconcurrency = {}\nqueue_timeout = '20s'\nfirst_byte_timeout = '25s'\nidle_timeout = '20s'\n",
            plan.concurrency
        );
    }
    text += &format!(
        "[claude_code]\npath = '{}'\nprewarm = 0\nsessions = 3\n[alias]\n'claude-sim-p*' = '{MODEL}'\n",
        program(state).display()
    );
    text + &format!(
        "[[route]]\nmodel = '{MODEL}'\nupstream = '{PROGRAM}'\n[[route]]\nmodel = '*'\nupstream = ['a', 'b']\n"
    )
}

/// Where the program is said to be. Nobody runs it: the machine is simulated.
fn program(state: &Path) -> PathBuf {
    state.join("claude")
}

/// Where children have their folders.
fn temporary(state: &Path) -> PathBuf {
    state.join("tmp")
}

/// Lays down what a machine has before a gateway is started.
fn furnish(state: &Path) -> std::io::Result<()> {
    std::fs::write(state.join("seaway.db"), empty_store())?;
    std::fs::write(program(state), "")?;
    std::fs::set_permissions(program(state), std::fs::Permissions::from_mode(0o755))?;
    std::fs::create_dir(temporary(state))
}

/// A store of today's layout, made once.
fn empty_store() -> &'static [u8] {
    static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("seaway.db");
        let (store, mut steps) =
            Store::stepped(store_setting(&path), Arc::default(), Opened::unheard());
        steps.step();
        drop((store, steps));
        std::fs::read(path).expect("it was made a moment ago")
    })
}

fn store_setting(path: &Path) -> seaway::config::StoreConfig {
    seaway::config::StoreConfig {
        path: Some(path.to_owned()),
        retention: Duration::from_secs(365 * 86_400),
        sync: seaway::config::StoreSync::Normal,
        modes: seaway::trusted::Modes::Any,
    }
}

/// In memory, where there is such a place: a run makes files, and they are not for keeps.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder can be made")
}

/// Runs a plan in this thread.
pub fn run(plan: &Plan) -> Report {
    let (before, after) = (folder(), folder());
    furnish(before.path()).expect("there is room");
    // Names of folders are made up too: from here on the seed decides.
    fastrand::seed(plan.seed);
    let upstreams = Upstreams::of(plan);
    let answered = client::Seen::default();
    let ending = {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be had");
        runtime.block_on(first(plan, before.path(), &upstreams, &answered))
        // What still ran is gone with the runtime, as with a process.
    };
    let (ending, leftovers, killed_at) = ending;
    copy(before.path(), after.path(), killed_at);
    let (store, mut steps) = Store::stepped(
        store_setting(&after.path().join("seaway.db")),
        Arc::default(),
        Opened::unheard(),
    );
    steps.step();
    drop((store, steps));
    let answered = std::mem::take(&mut *answered.lock().unwrap_or_else(PoisonError::into_inner));
    let seen = std::mem::take(&mut *upstreams.lock());
    let after = Aftermath {
        plan,
        ending,
        answered,
        attempts: seen.attempts,
        launches: seen.launches,
        leftovers,
        state: after.path().to_owned(),
    };
    check::all(&after)
}

/// Copies the files as the next gateway finds them. `cut`: how long the write-ahead log is, where it was being written.
fn copy(from: &Path, to: &Path, cut: Option<u64>) {
    for file in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let name = file.file_name();
        let (name, target) = (name.to_string_lossy(), to.join(file.file_name()));
        if !name.starts_with("seaway.db") || name.ends_with("-shm") {
            continue;
        }
        std::fs::copy(file.path(), &target).expect("there is room");
        if let (true, Some(cut)) = (name.ends_with("-wal"), cut) {
            let file = std::fs::File::options().write(true).open(&target).expect("it is there");
            file.set_len(cut).expect("it can be cut");
        }
    }
}

type Steps = Arc<Mutex<StoreSteps>>;

/// True if there was something to do.
fn step(steps: &Steps) -> bool {
    steps.lock().unwrap_or_else(PoisonError::into_inner).step()
}

fn environment(state: &Path) -> Environment {
    Environment::of([("TMPDIR".to_owned(), temporary(state).display().to_string())])
}

/// A gateway in front of these upstreams, with what serves its clients and what does the work of its store.
fn gateway(
    plan: &Plan,
    state: &Path,
    upstreams: &Arc<Upstreams>,
) -> (Arc<AppState>, Arc<Serving>, Steps) {
    let file = state.join("seaway.toml");
    std::fs::write(&file, settings(plan, state)).expect("there is room");
    let sources = Sources { file: Some(file), environment: environment(state), flags: Vec::new() };
    let Loaded { config, path, .. } = Config::load(&sources).expect("the settings are right");
    let books = Books::new(&config);
    let (store, steps) =
        Store::stepped(config.store.clone(), config.prices.clone(), books.opened(true));
    let steps: Steps = Arc::new(Mutex::new(steps));
    let (drain, tasks) = (Drain::default(), TaskTracker::new());
    let at_hand = Dependencies {
        tasks: tasks.clone(),
        store,
        books,
        network: Network::Simulated(Arc::new(Way(upstreams.clone()))),
        programs: Programs::Simulated(Arc::new(Machine(upstreams.clone()))),
    };
    let origin = ConfigOrigin { sources, path };
    let gateway = AppState::new(config, origin, at_hand, drain).expect("the keys are given");
    let serving = Arc::new(Serving {
        router: Routes::new(&gateway),
        door: Door::Public,
        state: gateway.clone(),
        tasks,
        workers: Workers::here(),
        connections: Connections::default(),
        tls: None,
    });
    (gateway, serving, steps)
}

/// Runs until all is at rest, or the process dies.
async fn first(
    plan: &Plan,
    state: &Path,
    upstreams: &Arc<Upstreams>,
    answered: &client::Seen,
) -> (Ending, Leftovers, Option<u64>) {
    let (gateway, serving, steps) = gateway(plan, state, upstreams);
    let began = Instant::now();
    let clients: Vec<_> = plan
        .clients
        .iter()
        .map(|plan| {
            tokio::spawn(client::run(plan.clone(), serving.clone(), answered.clone(), began))
        })
        .collect();
    let stepping = tokio::spawn({
        let steps = steps.clone();
        async move {
            let mut pause = STEP;
            loop {
                sleep(pause).await;
                // Where nothing happens, nobody looks often.
                pause = if step(&steps) { STEP } else { (pause * 2).min(LONGEST_STEP) };
            }
        }
    });
    let events = async {
        for (at, event) in &plan.events {
            tokio::time::sleep_until(began + Duration::from_millis(*at)).await;
            if let Event::Kill(part) = event {
                return Some(*part);
            }
            happen(*event, &gateway, &steps).await;
        }
        None
    };
    let done = async {
        for client in clients {
            // One that panics has a fault of the simulation's own.
            client.await.expect("clients do not panic");
        }
    };
    let killed = both(events, done).await;
    stepping.abort();
    if let Some(part) = killed {
        return (Ending::Killed, Leftovers::default(), cut(state, &steps, part));
    }
    let mut left = rest(&gateway, &serving, &steps).await;
    held(
        &mut left,
        "programs work on a turn",
        usize::try_from(upstreams.working()).unwrap_or_default(),
    );
    leave(&gateway, &steps).await;
    held(&mut left, "programs outlive the gateway", upstreams.running());
    let folders = std::fs::read_dir(temporary(state)).map_or(0, Iterator::count);
    held(&mut left, "folders of programs are left", folders);
    let drained = gateway.drain.has_begun();
    (if drained { Ending::Drained } else { Ending::Rest }, left, None)
}

/// Waits for all events and all clients, but no longer than until the process is killed.
async fn both(
    events: impl Future<Output = Option<u16>>,
    done: impl Future<Output = ()>,
) -> Option<u16> {
    tokio::pin!(events, done);
    let (mut happened, mut answered) = (false, false);
    while !(happened && answered) {
        tokio::select! {
            biased;
            killed = &mut events, if !happened => match killed {
                Some(part) => return Some(part),
                None => happened = true,
            },
            () = &mut done, if !answered => answered = true,
        }
    }
    None
}

/// The process dies while the store writes what waits: nobody is told of it, and only a part may be there. Returns the
/// length of the log that is left.
fn cut(state: &Path, steps: &Steps, part: u16) -> Option<u64> {
    let log = state.join("seaway.db-wal");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    let before = length();
    step(steps);
    let after = length();
    // A log that was begun anew says nothing of what was there before.
    (after >= before).then(|| before + (after - before) * u64::from(part) / 1000)
}

async fn happen(event: Event, gateway: &Arc<AppState>, steps: &Steps) {
    match event {
        Event::DiskFull | Event::DiskRoom => {
            let steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.fill_disk(event == Event::DiskFull).expect("the database can be told");
        }
        Event::Reload => reload::reload(gateway).expect("the settings are right"),
        Event::Jump(by) => advance(Duration::from_millis(by)).await,
        Event::Drain => {
            gateway.drain.begin();
            let drain = gateway.drain.clone();
            tokio::spawn(async move {
                sleep(GRACE).await;
                drain.cut();
            });
        }
        Event::Kill(_) => {}
    }
}

/// Waits until nothing happens any more, and says what is still held.
async fn rest(gateway: &Arc<AppState>, serving: &Serving, steps: &Steps) -> Leftovers {
    sleep(REST).await;
    step(steps);
    let mut left = Leftovers::default();
    let mut held = |what: &str, count: usize| held(&mut left, what, count);
    held(
        "exchanges are under way",
        usize::try_from(gateway.ledger.running()).unwrap_or(usize::MAX),
    );
    held("connections are open", serving.connections.count());
    for (what, memory) in [("requests", &gateway.memory), ("answers", &gateway.answers)] {
        held(&format!("bytes of memory are held for {what}"), (4 << 20) - memory.left());
    }
    for upstream in &gateway.snapshot.load().upstreams {
        held(
            "places at an upstream are taken",
            upstream.gate.taken().map_or(0, |(taken, _)| taken),
        );
        held("requests wait for an upstream", upstream.gate.waiting());
    }
    left
}

fn held(left: &mut Leftovers, what: &str, count: usize) {
    if count > 0 {
        left.0.push(format!("{count} {what}"));
    }
}

/// Ends as a gateway does: writes what can be written, and puts the rest where the next one finds it.
async fn leave(gateway: &Arc<AppState>, steps: &Steps) {
    let store = gateway.ledger.store();
    let mut rng = Rng::with_seed(7);
    let stepping = async {
        loop {
            sleep(Duration::from_millis(rng.u64(1..20))).await;
            step(steps);
        }
    };
    let leaving = async {
        for upstream in &gateway.snapshot.load().upstreams {
            upstream.close().await;
        }
        if !store.flush().await {
            store.spool().await;
        }
    };
    tokio::select! {
        biased;
        () = leaving => {}
        () = stepping => {}
    }
}
