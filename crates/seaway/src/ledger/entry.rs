//! The open record of one exchange.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use seaway_wire::messages::{Change, Summary};
use tokio::time::Instant;

use super::{Ledger, Recording};
use crate::account::Reservation;
use crate::auth::Caller;
use crate::config::{PriceBook, UpstreamName};
use crate::live::Live;
use crate::record::{Carried, Claimed, Outcome, Record, characters};
use crate::store::{ClaimLine, ClaimSlot};

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
    /// What is held for it under caps.
    reservation: Option<Reservation>,
    slot: Option<Arc<ClaimSlot>>,
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
            reservation: None,
            slot: None,
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

    /// Holds what a request takes at the most, until it ends: under all caps over its caller, and in a place where the next gateway
    /// finds it should this one be killed. `floor` is what it costs at the least, for its `characters`.
    ///
    /// # Errors
    ///
    /// If it cannot be noted there. Nothing is held then.
    pub fn hold(
        &mut self,
        reservation: Reservation,
        model: &str,
        upstream: &UpstreamName,
        floor: u64,
        characters: u64,
    ) -> std::io::Result<()> {
        self.asked = characters;
        if let Some(claims) = self.ledger.books.claims().filter(|_| reservation.is_budgeted()) {
            let line = self.claim(model, upstream, floor);
            self.slot = Some(claims.hold(&line)?);
        }
        self.reservation = Some(reservation);
        Ok(())
    }

    /// What the next gateway is to find of it.
    fn claim<'a>(
        &'a self,
        model: &'a str,
        upstream: &'a UpstreamName,
        floor: u64,
    ) -> ClaimLine<'a> {
        let record = &self.record;
        ClaimLine {
            id: record.id.as_str().into(),
            at: record.at.as_millisecond(),
            day: record.day,
            caller: (&*record.caller.0).into(),
            team: record.team.as_deref().map(Into::into),
            dialect: record.dialect.name().into(),
            endpoint: record.endpoint.into(),
            upstream: (&*upstream.0).into(),
            model: model.into(),
            book: (&**self.prices.version()).into(),
            floor,
            cost: None,
        }
    }

    /// Holds what a request takes that costs nothing, until it ends.
    pub fn hold_unseen(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    /// What is held for it.
    pub const fn reservation(&mut self) -> Option<&mut Reservation> {
        self.reservation.as_mut()
    }

    /// Another upstream or model is asked, for what is held already.
    pub fn holds_for(&self, model: &str, upstream: &UpstreamName, floor: u64) {
        if let Some(slot) = &self.slot {
            slot.moved(&self.claim(model, upstream, floor));
        }
    }

    /// When it came.
    pub fn at(&self) -> jiff::Timestamp {
        self.record.at
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

    /// Notes what became of the body that came.
    pub fn carried(&mut self, bodies: Carried) {
        self.record.bodies = bodies;
    }

    /// What was noted of it last.
    pub fn bodies(&self) -> Carried {
        self.record.bodies
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
        // Under a budget it is charged all the same.
        let asked = if begun > 1 && self.reservation.is_none() { 0 } else { self.asked };
        record.settle(&self.prices, asked);
        self.charge();
        self.ledger.ended(self.record.clone(), &self.live)
    }

    /// Puts what the request cost in the place of what was held for it.
    fn charge(&mut self) {
        let record = &mut self.record;
        let Some(reservation) = self.reservation.take() else {
            let cost = record.cost.unwrap_or_default();
            let accounts = self.ledger.accounts();
            return accounts.spend(&record.caller.0, record.team.as_ref(), record.day, cost);
        };
        // A model that has no price answered in the place of one that has: it is charged what was held for that.
        if record.cost.is_none() && reservation.is_budgeted() {
            (record.cost, record.reckoned) = (Some(reservation.held()), reservation.held());
        }
        let cost = record.cost.unwrap_or_default();
        if let Some(slot) = self.slot.take() {
            slot.settled(cost);
            record.claim = Some(slot);
        }
        let usage = record.summary.usage;
        if record.outcome == Outcome::Completed
            && record.status < 400
            && let (Some(bound), Some(upstream)) = (reservation.bound(), &record.upstream)
        {
            let model = record.wanted.as_deref().unwrap_or(&record.asked);
            let told = [usage.prompt(), usage.output];
            self.ledger.accounts().learn(&upstream.0, model, bound, told);
        }
        let tokens = usage.input.saturating_add(usage.cache_write).saturating_add(usage.output);
        reservation.settle(cost, tokens);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let outcome = if self.ledger.is_cutting() { Outcome::Drained } else { Outcome::ClientGone };
        let _nobody_waits = self.ends(outcome);
    }
}
