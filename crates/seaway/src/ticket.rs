//! Tickets: each lets a browser in once, in place of the key, and not for long.
//!
//! The gateway's owner is shown one in a link's fragment, which browsers keep to themselves. Nothing of it is written
//! anywhere, so a restart ends them all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::Caller;

/// How long one is good.
pub const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// The most that are good at once; the oldest go first.
const MOST: usize = 32;

/// The tickets that are out.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Vec<Ticket>>);

#[derive(Debug)]
struct Ticket {
    /// Of what the browser has; hashes are compared in constant time.
    hash: blake3::Hash,
    caller: Caller,
    until: Instant,
}

impl Tickets {
    /// Makes one for a caller; nothing if the system has no randomness.
    pub fn make(&self, caller: Caller, now: Instant) -> Option<String> {
        let mut random = [0; 24];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let text = URL_SAFE_NO_PAD.encode(random);
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|ticket| ticket.until > now);
        if out.len() == MOST {
            out.remove(0);
        }
        out.push(Ticket { hash: blake3::hash(text.as_bytes()), caller, until: now + GOOD_FOR });
        Some(text)
    }

    /// Takes one back: whose it was, if it was good.
    pub fn redeem(&self, text: &str, now: Instant) -> Option<Caller> {
        let hash = blake3::hash(text.trim().as_bytes());
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = out.iter().position(|ticket| ticket.hash == hash)?;
        let ticket = out.remove(at);
        (ticket.until > now).then_some(ticket.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let make = |name: &str, now| tickets.make(Caller(name.into()), now).unwrap();
        let whose = |text: &str, now| tickets.redeem(text, now).map(|caller| caller.0.to_string());
        let (one, two, late) = (make("a", now), make("b", now), make("c", now));
        assert_eq!(whose(&two, now).as_deref(), Some("b"));
        assert_eq!((whose(&two, now), whose("", now), whose("nothing", now)), (None, None, None));
        assert_eq!(whose(&late, now + GOOD_FOR), None);
        assert_eq!(whose(&late, now), None, "what came too late is over");
        assert_eq!(whose(&format!(" {one}\n"), now + GOOD_FOR / 2).as_deref(), Some("a"));
        let all: Vec<_> = (0..=MOST).map(|_| make("d", now)).collect();
        assert_eq!((whose(&all[0], now), whose(&all[1], now).as_deref()), (None, Some("d")));
    }
}
