//! The open record of one exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Ledger;
use crate::config::{PriceBook, UpstreamName};
use crate::live::Live;
use crate::record::{Outcome, Record};

/// A record in the making. It is written exactly once: by [`Entry::close`], or when
/// it is dropped, which is what happens when a client leaves.
#[derive(Debug)]
pub struct Entry {
    pub record: Box<Record>,
    ledger: Arc<Ledger>,
    live: Arc<Live>,
    prices: Arc<PriceBook>,
    started: Instant,
    open: bool,
}

impl Entry {
    pub(super) fn open(ledger: Arc<Ledger>, record: Record, live: Arc<Live>, prices: Arc<PriceBook>) -> Self {
        Self { record: Box::new(record), ledger, live, prices, started: Instant::now(), open: true }
    }

    /// How long ago its request came.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes which upstream is asked.
    pub fn goes_to(&mut self, upstream: &UpstreamName) {
        self.record.upstream = Some(upstream.clone());
        self.live.concerns(&self.record.asked, Some(upstream.0.clone()));
    }

    /// Notes how much was said so far, in tokens; roughly.
    pub fn said(&self, tokens: u64) {
        self.live.tokens(tokens);
    }

    /// Notes that the first byte of the answer is here.
    pub fn first_byte(&mut self) {
        if self.record.first_byte.is_none() {
            self.record.first_byte = Some(self.started.elapsed());
            self.live.first_byte();
        }
    }

    /// Notes the ids under which the exchange is known.
    pub fn request_id(&mut self, id: &str) {
        id.clone_into(&mut self.record.request_id);
    }

    /// Writes the record.
    pub fn close(&mut self, outcome: Outcome) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.record.outcome = outcome;
        self.record.total = self.started.elapsed();
        self.record.price(&self.prices);
        self.ledger.ended(self.record.clone(), &self.live);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let outcome = if self.ledger.is_cutting() { Outcome::Drained } else { Outcome::ClientGone };
        self.close(outcome);
    }
}
