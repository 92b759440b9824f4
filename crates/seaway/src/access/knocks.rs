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

/// What was tried with wrong keys.
#[derive(Debug, Default)]
pub struct Knocks(Mutex<HashMap<IpAddr, Knock>>);

#[derive(Debug)]
struct Knock {
    count: u32,
    last: Instant,
}

impl Knocks {
    /// Counts a wrong key, and says how long its answer is to wait. Right keys never wait.
    pub fn wrong(&self, address: IpAddr) -> Duration {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, knock| now - knock.last < MEMORY);
        }
        // An attack from more addresses than can be counted is not slowed down by counting.
        if known.len() >= MOST && !known.contains_key(&address) {
            return LONGEST;
        }
        let knock = known.entry(address).or_insert(Knock { count: 0, last: now });
        if now - knock.last >= MEMORY {
            knock.count = 0;
        }
        (knock.count, knock.last) = (knock.count.saturating_add(1), now);
        match knock.count.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(beyond) => (Duration::from_millis(125) * 2_u32.pow(beyond.min(5))).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_tries_many_keys_waits_longer_and_nobody_else_does() {
        let (knocks, address) =
            (Knocks::default(), |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        let waits: Vec<u128> = (0..12).map(|_| knocks.wrong(address(1)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 125, 250, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(knocks.wrong(address(2)), Duration::ZERO);
        tokio::time::advance(MEMORY).await;
        assert_eq!(knocks.wrong(address(1)), Duration::ZERO, "it is forgotten");
    }
}
