//! Where records go: the metrics at once, the log and the store by the store's writer.

mod books;
mod entry;

use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use seaway_wire::messages::Summary;
use seaway_wire::{Dialect, Usage};

use crate::account::Accounts;
use crate::auth::Caller;
use crate::config::PriceBook;
use crate::drain::Drain;
use crate::fault::{Fault, FaultKind};
use crate::live::{Live, Lives};
use crate::record::{Asker, Carried, Outcome, Record};
use crate::store::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
pub use books::Books;
pub use entry::Entry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    dialect: &'static str,
    endpoint: &'static str,
    upstream: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUpstream {
    upstream: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModel {
    model: String,
}

/// Models without a price that are told apart; clients name what they like.
const UNPRICED_MODELS: u64 = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTokens {
    upstream: Arc<str>,
    kind: &'static str,
}

/// Metrics, log and store behind one handle.
pub struct Ledger {
    store: Store,
    books: Books,
    drain: Drain,
    registry: Registry,
    exchanges: Family<ByOutcome, Counter>,
    tokens: Family<ByTokens, Counter>,
    unpriced: Family<ByModel, Counter>,
    unpriced_models: AtomicU64,
    seconds: Family<ByUpstream, Histogram, fn() -> Histogram>,
    first_byte: Family<ByUpstream, Histogram, fn() -> Histogram>,
    /// What each kind of exchange is measured by.
    series: RwLock<HashMap<ByOutcome, Arc<Series>>>,
    in_flight: Gauge,
    /// Exchanges that ended.
    ended: AtomicU64,
    refused: Family<ByReason, Counter>,
    /// How many refusals may still be recorded in this second.
    patience: RefusalBudget,
    lives: Lives,
}

/// The metrics of one kind of exchange, found once.
struct Series {
    exchanges: Counter,
    seconds: Histogram,
    first_byte: Histogram,
    /// As [`Usage`] has them; each is made when it first counts something.
    tokens: [OnceLock<Counter>; TOKEN_KINDS.len()],
}

const TOKEN_KINDS: [&str; 4] = ["input", "output", "cache_read", "cache_write"];

/// Refusals that are recorded within a second: who knocks a thousand times must not fill the store.
const REFUSALS: u32 = 10;

/// When the second began, and how many of them are left in it.
struct RefusalBudget(Mutex<(Instant, u32)>);

impl RefusalBudget {
    fn take(&self) -> bool {
        let mut patience = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if patience.0.elapsed() >= Duration::from_secs(1) {
            *patience = (Instant::now(), REFUSALS);
        }
        let left = patience.1 > 0;
        patience.1 = patience.1.saturating_sub(1);
        left
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

fn histogram() -> Histogram {
    // From a millisecond to about half an hour.
    Histogram::new(exponential_buckets(0.001, 2.5, 16))
}

/// What was lost, or could not be kept.
fn register_losses(registry: &mut Registry, store: &Store) {
    registry.register(
        "records_dropped",
        "Records that could not be written; their tokens are counted all the same",
        store.dropped(),
    );
    registry.register(
        "promises_unkept",
        "Responses, sessions and the like that were to be kept and could not be; their clients were told",
        store.unkept(),
    );
    registry.register(
        "log_lines_dropped",
        "Log lines that were dropped, since stderr was not read in time",
        crate::log::dropped(),
    );
}

/// In the place of a caller: nobody who showed a good key.
pub const REFUSED: &str = "(refused)";

/// Resolves to whether a record is on the disk.
pub type Recording = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What is known of an exchange when it begins.
#[derive(Debug)]
pub struct Opening {
    pub caller: Caller,
    pub dialect: Dialect,
    pub endpoint: &'static str,
    pub asked: String,
    pub stream: bool,
    /// The team of the caller's key.
    pub team: Option<Arc<str>>,
    pub asker: Asker,
    /// What it will be priced by.
    pub prices: Arc<PriceBook>,
}

impl Ledger {
    pub fn new(store: Store, books: Books, drain: Drain) -> Arc<Self> {
        let mut registry = Registry::with_prefix("seaway");
        let exchanges = Family::default();
        let tokens = Family::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let first_byte = Family::new_with_constructor(histogram as fn() -> Histogram);
        let in_flight = Gauge::default();
        registry.register(
            "exchanges",
            "Requests that were answered, by how they ended",
            exchanges.clone(),
        );
        registry.register("tokens", "Tokens, by what they were for", tokens.clone());
        registry.register_with_unit(
            "exchange",
            "Time from a request to the end of its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register_with_unit(
            "first_byte",
            "Time from a request to the first byte of its answer",
            Unit::Seconds,
            first_byte.clone(),
        );
        let unpriced = Family::default();
        registry.register(
            "unpriced",
            "Requests that are in no cost, since their model has no price",
            unpriced.clone(),
        );
        registry.register("in_flight", "Requests that are being answered", in_flight.clone());
        let refused = Family::default();
        registry.register("refused", "Requests that were not let in, by why", refused.clone());
        register_losses(&mut registry, &store);
        Arc::new(Self {
            store,
            books,
            drain,
            registry,
            exchanges,
            tokens,
            unpriced,
            unpriced_models: AtomicU64::new(0),
            seconds,
            first_byte,
            series: RwLock::default(),
            in_flight,
            ended: AtomicU64::new(0),
            refused,
            patience: RefusalBudget(Mutex::new((Instant::now(), REFUSALS))),
            lives: Lives::default(),
        })
    }

    /// Nothing is asked of an upstream that could not be accounted for, where that matters.
    ///
    /// # Errors
    ///
    /// If records are synced, and the store cannot be written at the moment.
    pub fn may_record(&self) -> Result<(), Fault> {
        match self.store.trouble() {
            Some(trouble) if self.store.is_synced() => {
                let why = format!("`store.sync` is `full`, and {}", trouble.words());
                Err(Fault::new(FaultKind::StoreDown, why))
            }
            _ => Ok(()),
        }
    }

    /// Opens the record of a new exchange.
    pub fn open(self: &Arc<Self>, opening: Opening) -> Entry {
        let id = crate::answer::own_id();
        let (accounts, at) = (&self.books.accounts, jiff::Timestamp::now());
        let record = Record {
            request_id: id.clone(),
            id,
            at,
            day: accounts.day(at),
            team: opening.team,
            caller: opening.caller,
            asker: opening.asker,
            dialect: opening.dialect,
            endpoint: opening.endpoint,
            upstream: None,
            asked: opening.asked,
            wanted: None,
            sent: false,
            stream: opening.stream,
            status: 0,
            outcome: Outcome::ClientGone,
            summary: Summary::default(),
            cost: None,
            book: None,
            reckoned: 0,
            fault: None,
            attempts: 0,
            first_byte: None,
            total: Duration::ZERO,
            bodies: Carried::Unseen,
            changes: Vec::new(),
            claim: None,
        };
        self.in_flight.inc();
        let live = self.lives.begin(&record);
        Entry::open(self.clone(), record, live, opening.prices)
    }

    /// Records a request that was not let in.
    pub fn refused(
        self: &Arc<Self>,
        fault: &Fault,
        dialect: Dialect,
        status: StatusCode,
        request_id: &str,
    ) {
        self.refused.get_or_create(&ByReason { reason: fault.kind.name() }).inc();
        if !self.patience.take() {
            return;
        }
        let opening = Opening {
            caller: Caller(REFUSED.into()),
            dialect,
            endpoint: "refused",
            asked: String::new(),
            stream: false,
            team: None,
            asker: Asker::default(),
            prices: Arc::default(),
        };
        let mut entry = self.open(opening);
        entry.known_as(request_id);
        entry.answering(status);
        entry.failed(fault.kind.name());
        let _nobody_waits = entry.ends(Outcome::Faulted);
    }

    /// Writes a record. Where records are synced, the answer is to wait for what this returns.
    fn ended(&self, record: Box<Record>, live: &Arc<Live>) -> Option<Recording> {
        self.in_flight.dec();
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.lives.end(live, &record);
        self.measure(&record);
        self.store.record(record);
        self.store.is_synced().then(|| {
            let store = self.store.clone();
            let written: Recording = Box::pin(async move { store.flush().await });
            written
        })
    }

    fn measure(&self, record: &Record) {
        let upstream: Arc<str> =
            record.upstream.as_ref().map_or_else(|| "".into(), |name| name.0.clone());
        let series = self.series_of(ByOutcome {
            dialect: record.dialect.name(),
            endpoint: record.endpoint,
            upstream: upstream.clone(),
            outcome: record.outcome.name(),
        });
        series.exchanges.inc();
        series.seconds.observe(record.total.as_secs_f64());
        if let Some(first_byte) = record.first_byte {
            series.first_byte.observe(first_byte.as_secs_f64());
        }
        if record.cost.is_none() {
            self.count_unpriced(record.model());
        }
        let Usage { input, output, cache_read, cache_write, .. } = record.summary.usage;
        let counts = [input, output, cache_read, cache_write];
        for ((kind, counter), count) in TOKEN_KINDS.into_iter().zip(&series.tokens).zip(counts) {
            if count > 0 {
                let labels = || ByTokens { upstream: upstream.clone(), kind };
                counter.get_or_init(|| self.tokens.get_or_create_owned(&labels())).inc_by(count);
            }
        }
    }

    fn series_of(&self, labels: ByOutcome) -> Arc<Series> {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(&labels) {
            return series.clone();
        }
        drop(known);
        let by_upstream = ByUpstream { upstream: labels.upstream.clone() };
        let series = Arc::new(Series {
            exchanges: self.exchanges.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&by_upstream),
            first_byte: self.first_byte.get_or_create_owned(&by_upstream),
            tokens: [const { OnceLock::new() }; TOKEN_KINDS.len()],
        });
        let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(labels, series.clone());
        series
    }

    fn count_unpriced(&self, model: &str) {
        let known = ByModel { model: model.to_owned() };
        if let Some(counter) = self.unpriced.get(&known) {
            counter.inc();
            return;
        }
        let few = self.unpriced_models.fetch_add(1, Ordering::Relaxed) < UNPRICED_MODELS;
        let labels = if few { known } else { ByModel { model: "(others)".into() } };
        self.unpriced.get_or_create(&labels).inc();
    }

    /// How many exchanges have ended so far.
    pub fn ended_so_far(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many exchanges are under way.
    pub fn running(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// The exchanges that are under way, and those that ended last.
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// True once a drain waits no longer.
    pub fn is_cutting(&self) -> bool {
        self.drain.is_cutting()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Keys that were given out.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.books.accounts
    }

    /// What upstreams, snapshots and this share of them.
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Writes all metrics as Prometheus reads them.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod shuttle_tests {
    use shuttle::thread;

    use super::*;

    /// Refusals from several threads, in one second that does not end.
    fn refuse() {
        let far = Instant::now() + Duration::from_secs(3600);
        let budget = Arc::new(RefusalBudget(Mutex::new((far, REFUSALS))));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let budget = budget.clone();
                thread::spawn(move || (0..6).filter(|_| budget.take()).count())
            })
            .collect();
        let recorded: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(recorded, REFUSALS as usize);
    }

    #[test]
    fn shuttle_finds_no_way_to_record_too_many_refusals() {
        shuttle::check_random(refuse, 2000);
        shuttle::check_pct(refuse, 2000, 3);
    }
}
