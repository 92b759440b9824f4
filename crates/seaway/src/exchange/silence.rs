//! How long nothing came, and what is to be done about it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long silence is borne.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Silence after which an event stream gets a sign of life; `None`: the answer is none, or has no room for it.
    pub(super) ping: Option<Duration>,
    /// Silence after which the upstream is given up.
    pub(super) idle: Option<Duration>,
}

/// Watches how long nothing came. One timer, moved only when it goes off.
pub(super) struct Silence {
    pub(super) patience: Patience,
    since: Instant,
    pub(super) pinged: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a silence calls for.
pub(super) enum Waited {
    Ping,
    Enough(Duration),
}

impl Silence {
    pub(super) fn new(patience: Patience) -> Self {
        let now = Instant::now();
        // Zero means: never.
        let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let patience = Patience { ping: some(patience.ping), idle: some(patience.idle) };
        Self { patience, since: now, pinged: now, timer: None }
    }

    /// The upstream sent something.
    pub(super) fn heard(&mut self) {
        self.since = Instant::now();
    }

    /// A frame left for the client.
    pub(super) fn spoke(&mut self) {
        self.pinged = self.since;
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, may_ping: bool) -> Poll<Waited> {
        loop {
            let now = Instant::now();
            if let Some(limit) = self.patience.idle.filter(|limit| now >= self.since + *limit) {
                return Poll::Ready(Waited::Enough(limit));
            }
            if self.patience.ping.is_some_and(|ping| now >= self.pinged + ping) {
                self.pinged = now;
                if may_ping {
                    return Poll::Ready(Waited::Ping);
                }
            }
            let Some(next) = self.next() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            std::task::ready!(timer.as_mut().poll(cx));
        }
    }

    fn next(&self) -> Option<Instant> {
        let ping = self.patience.ping.map(|ping| self.pinged + ping);
        let idle = self.patience.idle.map(|idle| self.since + idle);
        ping.into_iter().chain(idle).min()
    }
}
