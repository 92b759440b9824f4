//! The open record of one exchange.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use seaway_wire::messages::{Change, Summary};
use tokio::time::Instant;

use super::{Ledger, Recording};
use crate::auth::Caller;
use crate::config::{PriceBook, UpstreamName};
use crate::live::Live;
use crate::record::{Outcome, Record, characters};

/// A record in the making. It is written exactly once: by [`Entry::ends`], or when
/// it is dropped, which is what happens when a client leaves.
#[derive(Debug)]
pub struct Entry {
    record: Box<Record>,
    ledger: Arc<Ledger>,
    live: Arc<Live>,
    prices: Arc<PriceBook>,
    started: Instant,
    /// Characters of the request, where nobody will tell its tokens.
    asked: u64,
    open: bool,
}

impl Entry {
    pub(super) fn open(
        ledger: Arc<Ledger>,
        record: Record,
        live: Arc<Live>,
        prices: Arc<PriceBook>,
    ) -> Self {
        Self {
            record: Box::new(record),
            ledger,
            live,
            prices,
            started: Instant::now(),
            asked: 0,
            open: true,
        }
    }

    /// Our own id of the exchange.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The id by which the client knows it.
    pub fn request_id(&self) -> &str {
        &self.record.request_id
    }

    /// What others see of it while it is under way.
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    pub fn caller(&self) -> &Caller {
        &self.record.caller
    }

    /// What was changed on its way so far.
    pub fn changes(&self) -> &[Change] {
        &self.record.changes
    }

    /// How long ago its request came.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes the request that its client no longer waits for, in case nobody tells what it took.
    pub fn asked(&mut self, body: &[u8]) {
        self.asked = characters(body);
    }

    /// Notes which upstream is asked.
    pub fn goes_to(&mut self, upstream: &UpstreamName) {
        self.record.upstream = Some(upstream.clone());
        self.live.concerns(&self.record.asked, Some(upstream.0.clone()));
    }

    /// Notes what the upstream is asked for in place of the client's model, and what else was changed for it.
    pub fn prepared(&mut self, wanted: Option<String>, changes: Vec<Change>) {
        self.record.wanted = wanted;
        self.record.changes = changes;
    }

    /// Notes what was changed beside that.
    pub fn changed(&mut self, more: &[Change]) {
        self.record.changes.extend_from_slice(more);
    }

    /// Notes the bodies that came and went, by their hashes.
    pub fn carried(&mut self, came: Option<blake3::Hash>, went: Option<blake3::Hash>) {
        (self.record.body_in, self.record.body_out) = (came, went);
    }

    /// The hashes that were noted last.
    pub fn hashes(&self) -> (Option<blake3::Hash>, Option<blake3::Hash>) {
        (self.record.body_in, self.record.body_out)
    }

    /// Notes attempts at an upstream. `sent`: it got one of them, or may have.
    pub fn attempted(&mut self, attempts: u32, sent: bool) {
        self.record.attempts += attempts;
        self.record.sent |= sent;
    }

    /// Notes the id under which the client will know the exchange.
    pub fn known_as(&mut self, id: &str) {
        id.clone_into(&mut self.record.request_id);
    }

    /// Notes that the upstream was heard; the first time counts.
    pub fn heard(&mut self) {
        if self.record.first_byte.is_none() {
            self.record.first_byte = Some(self.started.elapsed());
            self.live.first_byte();
        }
    }

    /// Notes how much was said so far, in tokens; roughly.
    pub fn said(&self, tokens: u64) {
        self.live.tokens(tokens);
    }

    /// Notes what was read of the answer.
    pub fn saw(&mut self, summary: &Summary) {
        self.record.summary = summary.clone();
    }

    /// Notes which status the client gets.
    pub fn answering(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    /// Notes what went wrong, in one word.
    pub fn failed(&mut self, fault: &str) {
        self.record.fault = Some(fault.to_owned());
    }

    /// True for an answer that is an error, however whole it is.
    pub fn is_error(&self) -> bool {
        self.record.summary.error.is_some() || self.record.status >= 400
    }

    /// Writes the record. What went wrong is what the upstream said, unless somebody knew better. Where records are
    /// synced, the end of the answer is to wait for what this returns.
    pub fn ends(&mut self, outcome: Outcome) -> Option<Recording> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        let record = &mut self.record;
        if record.fault.is_none() && outcome != Outcome::Completed {
            let said = record.summary.error.as_ref().map(|error| error.kind.clone());
            record.fault = said
                .or_else(|| (record.status >= 300).then(|| format!("status_{}", record.status)));
        }
        // Whose client left while an upstream was asked was not told what came of that.
        let begun = self.live.attempts();
        if begun > record.attempts {
            (record.attempts, record.sent) = (begun, true);
        }
        record.outcome = outcome;
        record.total = self.started.elapsed();
        // Of several attempts nobody knows here which was refused: that the last was not is no more than a guess.
        let asked = if begun > 1 { 0 } else { self.asked };
        record.settle(&self.prices, asked);
        self.ledger.ended(record.clone(), &self.live)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let outcome = if self.ledger.is_cutting() { Outcome::Drained } else { Outcome::ClientGone };
        let _nobody_waits = self.ends(outcome);
    }
}
