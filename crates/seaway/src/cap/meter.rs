//! What somebody has used and holds.

use std::time::Duration;

use jiff::civil::Date;

use super::Period;

/// A time that never goes back: nanoseconds since some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

/// A minute, in nanoseconds.
const MINUTE: u64 = 60_000_000_000;
/// Days that are told apart. What is older counts for good, and for no day, week or month.
const DAYS: usize = 100;

/// What one key or team has used. Sums are kept by the day of the request, so that a clock that jumps finds each day as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meter {
    /// In the order of days.
    days: Vec<UsedDay>,
    pub(super) requests: CellRate,
    pub(super) tokens: CellRate,
    pub(super) running: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UsedDay {
    day: Date,
    spent: u64,
    held: u64,
}

impl Meter {
    /// Micro-dollars that were spent and that are held, in the period that a day lies in.
    pub fn used(&self, period: Period, day: Date) -> (u64, u64) {
        let within = |used: &&UsedDay| period.is_same(used.day, day);
        self.days.iter().filter(within).fold((0, 0), |(spent, held), used| {
            (spent.saturating_add(used.spent), held.saturating_add(used.held))
        })
    }

    /// Requests that have begun and not ended.
    pub const fn running(&self) -> u32 {
        self.running
    }

    /// Adds what was spent before.
    pub fn add(&mut self, day: Date, spent: u64) {
        let used = self.day(day);
        used.spent = used.spent.saturating_add(spent);
        self.fold();
    }

    /// What was spent is to be told anew; what is held is held.
    pub fn forget(&mut self) {
        self.days.retain(|used| used.held > 0);
        self.days.iter_mut().for_each(|used| used.spent = 0);
    }

    /// A request begins: its worst case is held.
    pub fn hold(&mut self, caps: &super::Caps, claim: &super::Claim) {
        self.raise(claim.day, claim.worst);
        self.running += 1;
        if let Some(limit) = caps.rpm {
            self.requests.take(limit, 1, claim.now);
        }
        if let Some(limit) = caps.tpm {
            self.tokens.take(limit, claim.tokens, claim.now);
        }
    }

    /// More is held for a request that has begun.
    pub fn raise(&mut self, day: Date, more: u64) {
        let used = self.day(day);
        used.held = used.held.saturating_add(more);
    }

    /// A request ends: what it cost takes the place of what was held for it.
    pub fn settle(&mut self, day: Date, held: u64, cost: u64) {
        let used = self.day(day);
        used.held = used.held.saturating_sub(held);
        used.spent = used.spent.saturating_add(cost);
        self.running = self.running.saturating_sub(1);
        self.fold();
    }

    /// What a request took in tokens is another number than was taken at its beginning.
    pub fn correct(&mut self, caps: &super::Caps, begun: Tick, taken: u64, were: u64, now: Tick) {
        if let Some(limit) = caps.tpm {
            self.tokens.correct(limit, begun, taken, were, now);
        }
    }

    fn day(&mut self, day: Date) -> &mut UsedDay {
        let at = self.days.binary_search_by_key(&day, |used| used.day).unwrap_or_else(|at| {
            self.days.insert(at, UsedDay { day, spent: 0, held: 0 });
            at
        });
        &mut self.days[at]
    }

    /// The oldest days become one, from which nothing is held any more.
    fn fold(&mut self) {
        while self.days.len() > DAYS && self.days[0].held == 0 && self.days[1].held == 0 {
            let oldest = self.days.remove(0);
            self.days[0].spent = self.days[0].spent.saturating_add(oldest.spent);
            self.days[0].day = Date::MIN;
        }
    }
}

/// So many a minute, by the generic cell rate algorithm (ITU-T I.371): a minute's worth may come at once, after which each has
/// its time. Exact: nothing is counted by windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CellRate {
    /// When all that came would be through, in nanoseconds; no number of requests lasts until the end of them.
    through: u64,
}

impl CellRate {
    /// How long `count` more have to wait; none where they need not. More than a minute's worth waits for a whole minute's.
    pub(super) fn wait(self, limit: u32, count: u64, now: Tick) -> Option<Duration> {
        if limit == 0 {
            return Some(Duration::from_secs(60));
        }
        let count = count.min(u64::from(limit));
        let through = self.through.max(now.0).saturating_add(cost(limit, count));
        let early = through.checked_sub(now.0.saturating_add(MINUTE)).filter(|early| *early > 0)?;
        Some(Duration::from_nanos(early))
    }

    fn take(&mut self, limit: u32, count: u64, now: Tick) {
        self.through = self.through.max(now.0).saturating_add(cost(limit, count));
    }

    /// What was taken too much comes back, as far as its time has not passed.
    fn correct(&mut self, limit: u32, begun: Tick, taken: u64, were: u64, now: Tick) {
        let (took, costs) = (cost(limit, taken), cost(limit, were));
        let left = begun.0.saturating_add(took).saturating_sub(now.0);
        let back = took.saturating_sub(costs).min(left);
        self.through = self.through.saturating_sub(back);
        if costs > took {
            self.through = self.through.max(now.0).saturating_add(costs - took);
        }
    }
}

/// The time of so many, in nanoseconds.
fn cost(limit: u32, count: u64) -> u64 {
    let cost = u128::from(count) * u128::from(MINUTE) / u128::from(limit.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX)
}
