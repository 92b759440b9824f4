//! Wrong keys, counted by address: who tries many waits longer for each answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many are answered at once: a client that was set up wrongly should see it.
const FREE: u32 = 5;
/// After so long without one, an address begins anew.
const MEMORY: Duration = Duration::from_secs(60);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(4);
/// So many addresses are remembered.
const MOST: usize = 10_000;
/// So many tries are told of in a minute, whoever made them.
const TOLD: u32 = 60;

/// What was tried with wrong keys.
#[derive(Debug, Default)]
pub struct Knocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_address: HashMap<IpAddr, Knock>,
    /// When the minute began, what was told in it, and what was not.
    minute: Option<Instant>,
    told: u32,
    untold: u32,
}

#[derive(Debug)]
struct Knock {
    count: u32,
    last: Instant,
}

/// What becomes of a wrong key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongKey {
    /// How long its answer is to wait.
    pub wait: Duration,
    /// What is to be told of it.
    pub news: Option<KnockNews>,
}

/// Tries that are worth a line: the first of an address, the tenth, the hundredth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnockNews {
    /// Wrong keys of this address so far.
    pub count: u32,
    /// Others that were to be told since the last news, and were too many.
    pub untold: u32,
}

impl Knocks {
    /// Counts a wrong key, and says how long its answer is to wait. Right keys never wait.
    pub fn wrong(&self, address: IpAddr) -> WrongKey {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = &mut known.by_address;
        if by_address.len() >= MOST {
            by_address.retain(|_, knock| now - knock.last < MEMORY);
        }
        // An attack from more addresses than can be counted is not slowed down by counting.
        if by_address.len() >= MOST && !by_address.contains_key(&address) {
            return WrongKey { wait: LONGEST, news: known.news(1, now) };
        }
        let knock = by_address.entry(address).or_insert(Knock { count: 0, last: now });
        if now - knock.last >= MEMORY {
            knock.count = 0;
        }
        (knock.count, knock.last) = (knock.count.saturating_add(1), now);
        let count = knock.count;
        let wait = match count.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(beyond) => (Duration::from_millis(125) * 2_u32.pow(beyond.min(5))).min(LONGEST),
        };
        let news = if is_power_of_ten(count) { known.news(count, now) } else { None };
        WrongKey { wait, news }
    }
}

impl Known {
    fn news(&mut self, count: u32, now: Instant) -> Option<KnockNews> {
        if self.minute.is_none_or(|minute| now - minute >= MEMORY) {
            (self.minute, self.told) = (Some(now), 0);
        }
        if self.told >= TOLD {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told += 1;
        Some(KnockNews { count, untold: std::mem::take(&mut self.untold) })
    }
}

fn is_power_of_ten(count: u32) -> bool {
    count.checked_ilog10().is_some_and(|digits| 10_u32.pow(digits) == count)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_tries_many_keys_waits_longer_and_nobody_else_does() {
        let (knocks, address) =
            (Knocks::default(), |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        let waits: Vec<u128> = (0..12).map(|_| knocks.wrong(address(1)).wait.as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 125, 250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(knocks.wrong(address(2)).wait, Duration::ZERO);
        tokio::time::advance(MEMORY).await;
        assert_eq!(knocks.wrong(address(1)).wait, Duration::ZERO, "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_of_them_grows_slower_than_they_do() {
        let (knocks, address) = (Knocks::default(), |number: u16| {
            IpAddr::from(Ipv4Addr::from(0x0a00_0000 | u32::from(number)))
        });
        let told: Vec<_> = (0..1000)
            .filter_map(|_| knocks.wrong(address(0)).news)
            .map(|news| news.count)
            .collect();
        assert_eq!(told, [1, 10, 100, 1000]);
        let others = (1..1000).filter(|last| knocks.wrong(address(*last)).news.is_some()).count();
        assert_eq!(others, 56, "sixty in a minute, whoever it was");
        tokio::time::advance(MEMORY).await;
        let next = knocks.wrong(address(1)).news;
        assert_eq!(next, Some(KnockNews { count: 1, untold: 999 - 56 }), "none is lost");
    }
}
