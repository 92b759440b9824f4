//! Whether a call is tried again, and when. Decides; does nothing.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{Recourse, UpstreamError};
use crate::config::Limits;

/// The longest wait before another attempt; a client that is told to wait longer should know.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The wait that an answer asks for, in whole seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(at.duration_since(jiff::Timestamp::now())).ok()
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stop,
    /// Once more, with a fresh credential.
    Refresh,
    Wait(Duration),
}

/// An attempt that counts for none, each of them once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extra {
    /// With a fresh credential.
    Refreshed,
    /// On another connection: the first one had aged.
    Unsent,
    /// By a way that was mended.
    Reconnected,
}

/// The attempts of a call so far.
pub(super) struct Retry<'a> {
    limits: &'a Limits,
    pub attempts: u32,
    extras: Vec<Extra>,
}

impl<'a> Retry<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self { limits, attempts: 0, extras: Vec::new() }
    }

    pub(super) fn had(&self, extra: Extra) -> bool {
        self.extras.contains(&extra)
    }

    /// True the first time.
    fn take(&mut self, extra: Extra) -> bool {
        let first = !self.had(extra);
        if first {
            self.extras.push(extra);
        }
        first
    }

    fn left(&self) -> bool {
        self.attempts - u32::try_from(self.extras.len()).unwrap_or(0) <= self.limits.retries
    }

    pub(super) fn after_reply(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        refreshable: bool,
    ) -> Next {
        if status == StatusCode::UNAUTHORIZED && refreshable && self.take(Extra::Refreshed) {
            return Next::Refresh;
        }
        if !self.limits.retry_on.contains(&status.as_u16()) || !self.left() {
            return Next::Stop;
        }
        match retry_after(headers) {
            Some(wait) if wait > LONGEST_WAIT => Next::Stop,
            Some(wait) => Next::Wait(wait),
            None => Next::Wait(self.backoff()),
        }
    }

    pub(super) fn after_error(&mut self, error: &UpstreamError) -> Next {
        match error.recourse {
            Recourse::Unsent if self.take(Extra::Unsent) => Next::Wait(Duration::ZERO),
            Recourse::Reconnected if self.take(Extra::Reconnected) => Next::Wait(Duration::ZERO),
            // By a way that was mended it is sent once, and no more.
            _ if self.had(Extra::Reconnected) => Next::Stop,
            Recourse::Again | Recourse::Unsent if self.left() => Next::Wait(self.backoff()),
            Recourse::Again | Recourse::Unsent | Recourse::Reconnected | Recourse::Nothing => {
                Next::Stop
            }
        }
    }

    fn backoff(&self) -> Duration {
        backoff(self.attempts)
    }
}

/// Doubles from a quarter of a second, with up to a quarter more so that callers spread out.
pub(super) fn backoff(attempts: u32) -> Duration {
    let base = 250 * 2_u64.saturating_pow(attempts.saturating_sub(1).min(5));
    Duration::from_millis(base + fastrand::u64(0..=base / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of an attempt, and whether there is another one, at once or later.
    type Attempt = (Recourse, Option<bool>);

    fn limits(retries: u32, retry_on: &[u16]) -> Limits {
        Limits {
            concurrency: None,
            queue: 0,
            queue_timeout: Duration::ZERO,
            first_byte_timeout: Duration::ZERO,
            retries,
            retry_on: retry_on.to_vec(),
        }
    }

    fn headers(wait: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::RETRY_AFTER, wait.parse().unwrap())])
    }

    #[test]
    fn a_status_is_tried_again_only_where_that_was_asked_for() {
        let (off, on) = (limits(2, &[]), limits(2, &[529]));
        let overloaded = StatusCode::from_u16(529).unwrap();
        let none = HeaderMap::new();
        let after = |limits, attempts, headers: &HeaderMap| {
            Retry { attempts, ..Retry::new(limits) }.after_reply(overloaded, headers, false)
        };
        assert_eq!(after(&off, 1, &none), Next::Stop);
        assert!(matches!(after(&on, 2, &none), Next::Wait(_)));
        assert_eq!(after(&on, 3, &none), Next::Stop);
        assert_eq!(after(&on, 1, &headers("7")), Next::Wait(Duration::from_secs(7)));
        assert_eq!(after(&on, 1, &headers("900")), Next::Stop);
    }

    #[test]
    fn a_refused_credential_is_renewed_once() {
        let limits = limits(0, &[]);
        let mut retry = Retry { attempts: 1, ..Retry::new(&limits) };
        assert_eq!(
            retry.after_reply(StatusCode::UNAUTHORIZED, &HeaderMap::new(), true),
            Next::Refresh
        );
        retry.attempts = 2;
        assert_eq!(
            retry.after_reply(StatusCode::UNAUTHORIZED, &HeaderMap::new(), true),
            Next::Stop
        );
    }

    #[test]
    fn what_may_be_done_after_an_error_is_done_as_often_as_it_may() {
        let limits = limits(1, &[]);
        let cases: [(&[Attempt], &str); 6] = [
            (&[(Recourse::Nothing, None)], "it may have done its work"),
            (
                &[(Recourse::Again, Some(false)), (Recourse::Again, None)],
                "as often as the configuration says",
            ),
            (
                &[
                    (Recourse::Unsent, Some(true)),
                    (Recourse::Unsent, Some(false)),
                    (Recourse::Unsent, None),
                ],
                "a connection that had aged is free, once",
            ),
            (
                &[
                    (Recourse::Unsent, Some(true)),
                    (Recourse::Again, Some(false)),
                    (Recourse::Again, None),
                ],
                "and leaves the others",
            ),
            (
                &[(Recourse::Reconnected, Some(true)), (Recourse::Again, None)],
                "a mended way is gone once",
            ),
            (
                &[(Recourse::Reconnected, Some(true)), (Recourse::Reconnected, None)],
                "and not again",
            ),
        ];
        for (attempts, why) in cases {
            let mut retry = Retry::new(&limits);
            for (recourse, expect) in attempts {
                retry.attempts += 1;
                let error = UpstreamError {
                    recourse: *recourse,
                    ..UpstreamError::new(crate::fault::FaultKind::Unreachable, "x")
                };
                let next = match retry.after_error(&error) {
                    Next::Wait(wait) => Some(wait.is_zero()),
                    Next::Stop | Next::Refresh => None,
                };
                assert_eq!(next, *expect, "{why}, attempt {}", retry.attempts);
            }
        }
    }

    #[test]
    fn waits_grow_and_spread() {
        let limits = limits(9, &[]);
        let wait = |attempts| Retry { attempts, ..Retry::new(&limits) }.backoff();
        assert!((250..=313).contains(&wait(1).as_millis()));
        assert!((8000..=10_000).contains(&wait(9).as_millis()));
    }

    #[test]
    fn a_date_is_a_wait_too() {
        let wait = |text: &str| retry_after(&headers(text));
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert!(wait("Fri, 31 Dec 2100 23:59:59 GMT").unwrap() > Duration::from_secs(86_400));
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(wait("soon"), None);
    }
}
