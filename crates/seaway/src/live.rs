//! The exchanges that are under way, and those that ended last: what a dashboard shows.
//!
//! Who answers a request takes no lock for it but at its beginning and its end; in between there are two numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::record::{Outcome, Record};

/// So much of a model's name is shown, in characters.
const LONGEST: usize = 120;
/// So many that ended are remembered.
const RECENT: usize = 30;

/// One exchange that is under way.
#[derive(Debug)]
pub struct Live {
    number: u64,
    id: String,
    caller: Arc<str>,
    dialect: &'static str,
    endpoint: &'static str,
    started: Instant,
    about: Mutex<About>,
    /// Microseconds; 0 while there is none.
    first_byte: AtomicU64,
    /// Roughly: tokens of the answer.
    tokens: AtomicU64,
    /// Attempts at upstreams that began.
    attempts: AtomicU32,
}

/// What is known once the body was read.
#[derive(Debug, Default, Clone)]
struct About {
    model: String,
    upstream: Option<Arc<str>>,
}

/// One exchange as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveExchange {
    pub id: String,
    pub caller: String,
    pub dialect: &'static str,
    pub endpoint: &'static str,
    pub model: String,
    pub upstream: Option<String>,
    /// In milliseconds, as the next one.
    pub elapsed: u64,
    pub first_byte: Option<u64>,
    /// Of the answer; roughly, while it is under way.
    pub tokens: u64,
    /// The outcome, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl Live {
    /// Notes what it is about.
    pub fn concerns(&self, model: &str, upstream: Option<Arc<str>>) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) =
            About { model: short(model), upstream };
    }

    pub fn first_byte(&self) {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let _earlier =
            self.first_byte.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn tokens(&self, so_far: u64) {
        self.tokens.store(so_far, Ordering::Relaxed);
    }

    /// An upstream is about to be asked.
    pub fn tried(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// How many attempts at upstreams began.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn shown(&self) -> LiveExchange {
        let About { model, upstream } =
            self.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first_byte = Some(self.first_byte.load(Ordering::Relaxed)).filter(|micros| *micros > 0);
        LiveExchange {
            id: self.id.clone(),
            caller: self.caller.to_string(),
            dialect: self.dialect,
            endpoint: self.endpoint,
            model,
            upstream: upstream.as_deref().map(str::to_owned),
            elapsed: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            first_byte: first_byte.map(|micros| micros / 1000),
            tokens: self.tokens.load(Ordering::Relaxed),
            outcome: None,
            status: None,
        }
    }
}

/// A name that a client made up may be of any length.
fn short(name: &str) -> String {
    name.chars().take(LONGEST).collect()
}

/// An exchange that ended: what it was, and what became of it. Written for every request, so it holds as little as it can.
#[derive(Debug)]
struct EndedExchange {
    live: Arc<Live>,
    /// The id that the client saw, if it is another.
    request_id: Option<String>,
    /// The model that answered, if another was asked for.
    model: Option<String>,
    total: Duration,
    tokens: u64,
    outcome: Outcome,
    status: u16,
}

impl EndedExchange {
    fn shown(&self) -> LiveExchange {
        let shown = self.live.shown();
        LiveExchange {
            id: self.request_id.clone().unwrap_or(shown.id),
            model: self.model.clone().unwrap_or(shown.model),
            elapsed: u64::try_from(self.total.as_millis()).unwrap_or(u64::MAX),
            tokens: self.tokens,
            outcome: Some(self.outcome.name()),
            status: Some(self.status),
            ..shown
        }
    }
}

/// The exchanges of a gateway.
#[derive(Debug, Default)]
pub struct Lives {
    numbers: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Live>>>,
    ended: Mutex<VecDeque<EndedExchange>>,
}

impl Lives {
    pub(crate) fn begin(&self, record: &Record) -> Arc<Live> {
        let live = Arc::new(Live {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            id: record.id.clone(),
            caller: record.caller.0.clone(),
            dialect: record.dialect.name(),
            endpoint: record.endpoint,
            started: Instant::now(),
            about: Mutex::default(),
            first_byte: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            attempts: AtomicU32::new(0),
        });
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(live.number, live.clone());
        live
    }

    pub(crate) fn end(&self, live: &Arc<Live>, record: &Record) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&live.number);
        let answered = record.summary.model.as_deref().filter(|model| *model != record.asked);
        let ended = EndedExchange {
            live: live.clone(),
            request_id: (record.request_id != live.id).then(|| record.request_id.clone()),
            model: answered.map(short),
            total: record.total,
            tokens: record.summary.usage.output,
            outcome: record.outcome,
            status: record.status,
        };
        let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        all.truncate(RECENT - 1);
        all.push_front(ended);
    }

    /// Those under way, the oldest first.
    pub fn running(&self) -> Vec<LiveExchange> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|live| live.shown())
            .collect()
    }

    /// Those that ended last, the newest first.
    pub fn ended(&self) -> Vec<LiveExchange> {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(EndedExchange::shown)
            .collect()
    }
}
