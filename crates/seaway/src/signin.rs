//! Signing in from a program, as RFC 8628 has it: codes that are out, and what became of them.
//!
//! A program asks for a code and shows it; a person enters it on a page of ours with a key; the program asks until it is told.
//! Nothing of it is written anywhere: what was not approved when the gateway stops is asked for anew.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a code is good.
pub const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// How long a program waits from one question to the next, in seconds.
pub const INTERVAL: u64 = 2;
/// Who asks sooner than this is told to slow down.
const SOONEST: Duration = Duration::from_millis(900);
/// Codes that are out at once, and those of one address.
const MOST: usize = 2000;
const MOST_OF_ADDRESS: usize = 50;
/// Letters of a code: none that makes a word, and none that is taken for another (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// The codes that are out.
#[derive(Debug, Default)]
pub struct SignIns(Mutex<Vec<SignIn>>);

#[derive(Debug)]
struct SignIn {
    /// Of what the program has; hashes are compared in constant time.
    device: blake3::Hash,
    asks: SignInRequest,
    until: Instant,
    asked: Option<Instant>,
    verdict: Option<Verdict>,
}

#[derive(Debug, Clone)]
enum Verdict {
    By(Approval),
    Denied,
}

/// Whose key a program is to use, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub caller: Arc<str>,
    /// Of the very key that was shown, or that was the caller's then.
    pub proof: [u8; 32],
    /// In words.
    pub by: String,
}

/// What somebody sees who is to approve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInRequest {
    /// As it is shown: `BCDF-GHJK`.
    pub code: String,
    /// The program, as it names itself.
    pub program: String,
    pub address: Option<IpAddr>,
}

/// What a program is given to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCodes {
    pub device_code: String,
    pub user_code: String,
}

/// Why it is given none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCodes {
    #[error("too many sign-ins are under way; let them end, or wait ten minutes")]
    TooMany,
    #[error("the system has no randomness")]
    NoRandomness,
}

/// What a program is told that asks whether it is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInState {
    Pending,
    SlowDown,
    Denied,
    /// It is too old, or there never was one.
    Expired,
    /// Approved, for the program that names itself so.
    By(Approval, String),
}

impl SignIns {
    fn out(&self, now: Instant) -> MutexGuard<'_, Vec<SignIn>> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|one| one.until > now);
        out
    }

    /// Makes codes for a program.
    ///
    /// # Errors
    ///
    /// [`NoCodes`] if too many are out.
    pub fn begin(
        &self,
        program: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<DeviceCodes, NoCodes> {
        let mut out = self.out(now);
        // Behind a proxy on this machine all have one address.
        let near = address.is_none_or(|address| address.is_loopback());
        let open = out.iter().filter(|one| one.verdict.is_none() && one.asks.address == address);
        if out.len() >= MOST || !near && open.count() >= MOST_OF_ADDRESS {
            return Err(NoCodes::TooMany);
        }
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| NoCodes::NoRandomness)?;
        let device_code = URL_SAFE_NO_PAD.encode(random);
        let code = loop {
            let code = user_code()?;
            if out.iter().all(|one| one.asks.code != code) {
                break code;
            }
        };
        let program: String = program.chars().filter(|c| !c.is_control()).take(80).collect();
        out.push(SignIn {
            device: blake3::hash(device_code.as_bytes()),
            asks: SignInRequest { code: code.clone(), program, address },
            until: now + GOOD_FOR,
            asked: None,
            verdict: None,
        });
        Ok(DeviceCodes { device_code, user_code: code })
    }

    /// What waits for an answer under this code, however it is written.
    pub fn waiting(&self, code: &str, now: Instant) -> Option<SignInRequest> {
        let out = self.out(now);
        let code = spelled(code);
        let one = out.iter().find(|one| one.verdict.is_none() && one.asks.code == code);
        one.map(|one| one.asks.clone())
    }

    /// Approves it, or denies it. False if nothing waits under this code.
    pub fn answer(&self, code: &str, approval: Option<Approval>, now: Instant) -> bool {
        let mut out = self.out(now);
        let code = spelled(code);
        let one = out.iter_mut().find(|one| one.verdict.is_none() && one.asks.code == code);
        let Some(one) = one else { return false };
        one.verdict = Some(approval.map_or(Verdict::Denied, Verdict::By));
        true
    }

    /// What became of it. Approved, it stays so until [`Self::end`].
    pub fn state(&self, device_code: &str, now: Instant) -> SignInState {
        let device = blake3::hash(device_code.as_bytes());
        let mut out = self.out(now);
        let Some(at) = out.iter().position(|one| one.device == device) else {
            return SignInState::Expired;
        };
        let one = &mut out[at];
        let before = one.asked.replace(now);
        match &one.verdict {
            Some(Verdict::By(approval)) => {
                SignInState::By(approval.clone(), one.asks.program.clone())
            }
            Some(Verdict::Denied) => {
                out.swap_remove(at);
                SignInState::Denied
            }
            None if before.is_some_and(|before| now - before < SOONEST) => SignInState::SlowDown,
            None => SignInState::Pending,
        }
    }

    /// What it asked for is kept: its code is good no more. False if another was quicker.
    pub fn end(&self, device_code: &str, now: Instant) -> bool {
        let device = blake3::hash(device_code.as_bytes());
        let mut out = self.out(now);
        let at = out.iter().position(|one| one.device == device);
        at.map(|at| out.swap_remove(at)).is_some()
    }
}

/// A code that a person can read out: eight of twenty letters.
fn user_code() -> Result<String, NoCodes> {
    let mut code = String::with_capacity(9);
    while code.len() < 9 {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte).map_err(|_| NoCodes::NoRandomness)?;
        // What is left of 256 would make some letters likelier.
        if let Some(letter) = LETTERS.get(usize::from(byte[0]) % 20).filter(|_| byte[0] < 240) {
            code.push(char::from(*letter));
            if code.len() == 4 {
                code.push('-');
            }
        }
    }
    Ok(code)
}

/// A code as it is shown, however somebody typed it.
fn spelled(code: &str) -> String {
    let letters: String =
        code.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).collect();
    match letters.split_at_checked(4) {
        Some((first, rest)) => format!("{first}-{rest}"),
        None => letters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_approved_once_and_told_to_who_has_the_other_one() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        let begin = || sign_ins.begin("claude-code/2\u{7}", None, now).unwrap();
        let (one, two) = (begin(), begin());
        assert_eq!(one.user_code.len(), 9);
        assert!(one.device_code.len() >= 43 && one.device_code != two.device_code);
        let typed = one.user_code.to_lowercase().replace('-', " ");
        let asks = sign_ins.waiting(&typed, now).unwrap();
        assert_eq!((asks.code.as_str(), asks.program.as_str()), (&*one.user_code, "claude-code/2"));
        for (wrong, known) in [("", false), ("BCDF", false), (&*two.user_code, true)] {
            assert_eq!(sign_ins.waiting(wrong, now).is_some(), known, "{wrong}");
        }
        let state = |codes: &DeviceCodes, at| sign_ins.state(&codes.device_code, at);
        assert_eq!(state(&one, now), SignInState::Pending);
        assert_eq!(state(&one, now), SignInState::SlowDown);
        assert_eq!(state(&one, later(2)), SignInState::Pending);
        let by = |name: &str| Approval { caller: name.into(), proof: [1; 32], by: String::new() };
        assert!(sign_ins.answer(&typed, Some(by("ann")), later(2)));
        assert!(!sign_ins.answer(&typed, Some(by("bob")), later(2)), "it has its answer");
        // Until it is taken: what was to be kept may not have been.
        for at in [2, 3] {
            assert_eq!(state(&one, later(at)), SignInState::By(by("ann"), "claude-code/2".into()));
        }
        assert!(sign_ins.end(&one.device_code, later(3)));
        assert!(!sign_ins.end(&one.device_code, later(3)), "another was quicker");
        assert_eq!(state(&one, later(3)), SignInState::Expired);
        assert!(sign_ins.answer(&two.user_code, None, later(3)));
        assert_eq!(state(&two, later(4)), SignInState::Denied);
        assert_eq!(state(&two, later(5)), SignInState::Expired, "told once");
        let late = begin();
        assert_eq!(state(&late, now + GOOD_FOR), SignInState::Expired);
    }

    #[test]
    fn no_more_codes_are_out_than_may_be() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        let from = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        for _ in 0..MOST_OF_ADDRESS {
            sign_ins.begin("p", from(1), now).unwrap();
        }
        assert_eq!(sign_ins.begin("p", from(1), now), Err(NoCodes::TooMany));
        for number in MOST_OF_ADDRESS..MOST {
            let last = u8::try_from(number / MOST_OF_ADDRESS).unwrap();
            sign_ins.begin("p", from(1 + last), now).unwrap();
        }
        assert_eq!(sign_ins.begin("p", from(99), now), Err(NoCodes::TooMany));
        assert!(sign_ins.begin("p", from(1), now + GOOD_FOR).is_ok());
    }
}
