//! What somebody may use, and whether one request more fits: no clock, no lock, no store in here.
//!
//! A request has to fit all caps over it, those of its key and of its team. Before it is sent its worst case is held
//! ([`Meter::hold`]); when it ends, what it cost takes the place of that ([`Meter::settle`]). [`decide`] alone says whether it may
//! begin.

mod meter;
mod period;

use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use meter::{Meter, Tick};
pub use period::Period;

/// So much, in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In micro-dollars.
    pub amount: u64,
    pub period: Period,
}

/// What is wrong with a budget.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no budget; write dollars and how long they last: `20/day`, `50/week`, `200/month`, or `500/total` for good"
)]
pub struct NoBudget(String);

impl std::str::FromStr for Budget {
    type Err = NoBudget;

    /// Reads `20/day`: dollars, with up to six digits behind the point. Without a period it is for good.
    fn from_str(text: &str) -> Result<Self, NoBudget> {
        let wrong = || NoBudget(text.to_owned());
        let (amount, period) = text.trim().split_once('/').unwrap_or((text.trim(), "total"));
        let amount = micros(amount.trim().trim_start_matches('$')).ok_or_else(wrong)?;
        Ok(Self { amount, period: Period::parse(period.trim()).ok_or_else(wrong)? })
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", dollars(self.amount), self.period.name())
    }
}

/// Reads dollars as micro-dollars.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(part)
}

/// Writes micro-dollars as dollars, exactly: two digits behind the point, or as many as it takes.
pub fn dollars(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let part = format!("{part:06}");
    let kept = part.trim_end_matches('0').len().max(2);
    let kept = if micros.is_multiple_of(1_000_000) { 0 } else { kept };
    if kept == 0 { whole.to_string() } else { format!("{whole}.{}", &part[..kept]) }
}

/// What a key or a team may use. Nothing said: as much as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caps {
    #[serde(with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u32>,
    /// Tokens a minute: of prompts, without what is read from the cache, and of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u32>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
}

impl Caps {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Budgets as people write them.
mod texts {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Budget;

    pub(super) fn serialize<S: Serializer>(budgets: &[Budget], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(budgets.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Budget>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A request that wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The day it is, where its owner is.
    pub day: Date,
    pub now: Tick,
    /// What it costs at the most, in micro-dollars.
    pub worst: u64,
    /// Tokens that count by the minute, as far as that can be told.
    pub tokens: u64,
}

/// Whether it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Begin,
    /// It will fit once others have ended: what they hold is in its way.
    Wait(Obstacle),
    /// It does not fit, whoever ends.
    Refuse(Obstacle),
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    /// Whose cap it is: the place in the list that was asked about.
    pub whose: usize,
    pub cap: Cap,
}

/// One cap, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Budget {
        budget: Budget,
        spent: u64,
        /// What requests hold that have not ended.
        held: u64,
    },
    /// There is room again after `wait`.
    Requests {
        limit: u32,
        wait: Duration,
    },
    Tokens {
        limit: u32,
        wait: Duration,
    },
    Concurrent {
        limit: u32,
    },
}

/// Decides whether a request may begin under all caps over it.
pub fn decide(over: &[(&Caps, &Meter)], claim: &Claim) -> Decision {
    let mut wait = match fits(over, claim.day, claim.worst) {
        Decision::Begin => None,
        Decision::Wait(obstacle) => Some(obstacle),
        refused @ Decision::Refuse(_) => return refused,
    };
    for (whose, (caps, meter)) in over.iter().enumerate() {
        if let Some(limit) = caps.rpm
            && let Some(wait) = meter.requests.wait(limit, 1, claim.now)
        {
            return Decision::Refuse(Obstacle { whose, cap: Cap::Requests { limit, wait } });
        }
        if let Some(limit) = caps.tpm
            && let Some(wait) = meter.tokens.wait(limit, claim.tokens, claim.now)
        {
            return Decision::Refuse(Obstacle { whose, cap: Cap::Tokens { limit, wait } });
        }
        if let Some(limit) = caps.concurrent
            && meter.running >= limit
        {
            let obstacle = Obstacle { whose, cap: Cap::Concurrent { limit } };
            if limit == 0 {
                return Decision::Refuse(obstacle);
            }
            wait = wait.or(Some(obstacle));
        }
    }
    wait.map_or(Decision::Begin, Decision::Wait)
}

/// Decides whether so many micro-dollars more fit all budgets of a day.
pub fn fits(over: &[(&Caps, &Meter)], day: Date, worst: u64) -> Decision {
    let mut wait = None;
    for (whose, (caps, meter)) in over.iter().enumerate() {
        for budget in &caps.budgets {
            let (spent, held) = meter.used(budget.period, day);
            let obstacle = Obstacle { whose, cap: Cap::Budget { budget: *budget, spent, held } };
            let left = budget.amount.saturating_sub(spent);
            if worst > left {
                return Decision::Refuse(obstacle);
            }
            if worst > left.saturating_sub(held) {
                wait = wait.or(Some(obstacle));
            }
        }
    }
    wait.map_or(Decision::Begin, Decision::Wait)
}

/// The budget that matters most: one that is used up, else the one of which the largest share is used.
pub fn pressing(over: &[(&Caps, &Meter)], day: Date) -> Option<Pressure> {
    let all = over.iter().enumerate().flat_map(|(whose, (caps, meter))| {
        caps.budgets.iter().map(move |budget| {
            let (spent, _) = meter.used(budget.period, day);
            Pressure { whose, budget: *budget, spent }
        })
    });
    // Of equals the first is told.
    all.reduce(|most, one| if one.share() > most.share() { one } else { most })
}

/// How much of a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    pub whose: usize,
    pub budget: Budget,
    pub spent: u64,
}

impl Pressure {
    /// In ten-thousandths, rounded down; no more than all of it.
    pub fn share(&self) -> u64 {
        if self.spent >= self.budget.amount {
            return 10_000;
        }
        let share = u128::from(self.spent) * 10_000 / u128::from(self.budget.amount);
        u64::try_from(share).unwrap_or(10_000)
    }
}

#[cfg(test)]
mod tests;
