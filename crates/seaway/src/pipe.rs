//! The body of an answer on its way to the client.
//!
//! It is polled when the client's socket has room, and then asks the upstream: no
//! task, no channel and no lock stands between. The record is written when the
//! answer ends, or when the client leaves and this is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use seaway_wire::stage::{End, Out};
use seaway_wire::{Fault, FaultKind};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::drain::Drain;
use crate::egress::Egress;
use crate::ledger::Entry;
use crate::record::Outcome;
use crate::store::{Keeper, Keeping};
use crate::upstream::gate::Pass;
use crate::upstream::{BoxError, ReplyBody};

/// Why a transfer is broken off.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the upstream's answer was cut off")]
    Truncated,
    #[error("the upstream sent nothing for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("the gateway is shutting down")]
    Drained,
}

impl Cut {
    /// The same for a client whose dialect has words for it in mid-stream.
    fn fault(&self) -> Fault {
        let kind = match self {
            Self::Truncated => FaultKind::BadReply,
            Self::Idle(_) => FaultKind::TimedOut,
            Self::Drained => FaultKind::Draining,
        };
        Fault::new(kind, self.to_string())
    }
}

/// How long silence may last.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Silence after which a stream gets a ping; `None` where pings have no place.
    pub ping: Option<Duration>,
    /// Silence after which the upstream is given up.
    pub idle: Option<Duration>,
}

/// An answer on its way.
pub struct Pipe {
    upstream: Option<ReplyBody>,
    egress: Egress,
    out: Out,
    entry: Entry,
    silence: Silence,
    drain: Drain,
    /// Polled once, to be woken when a drain cuts; the flag in `drain` tells the rest.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    error: Option<Cut>,
    /// What came before the error was given its chance to leave.
    flushed: bool,
    keeper: Option<Keeper>,
    /// The answer is whole, and its end waits until it is kept.
    keeping: Option<Keeping>,
    _pass: Pass,
}

impl Pipe {
    #[must_use]
    pub fn new(upstream: ReplyBody, egress: Egress, entry: Entry, patience: Patience, drain: Drain, pass: Pass) -> Self {
        Self {
            upstream: Some(upstream),
            egress,
            out: Out::new(),
            entry,
            silence: Silence::new(patience),
            cut: None,
            drain,
            error: None,
            flushed: false,
            keeper: None,
            keeping: None,
            _pass: pass,
        }
    }

    /// Takes over frames that were translated while the answer's head waited for them.
    #[must_use]
    pub fn after(mut self, out: Out) -> Self {
        self.out = out;
        self.keep();
        self.end_if_told();
        self
    }

    /// Has somebody keep the answer, once it is whole.
    #[must_use]
    pub fn kept_by(mut self, keeper: Option<Keeper>) -> Self {
        self.keeper = keeper;
        self
    }

    fn keep(&mut self) {
        if let Some(kept) = self.egress.take_kept() {
            match self.keeper.take() {
                Some(keeper) => self.keeping = Some(keeper.keep(kept)),
                None => self.egress.settle(false, &mut self.out),
            }
        }
    }

    /// Waits until the answer is kept, or is known not to be, and tells the client which.
    fn poll_keeping(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(keeping) = &mut self.keeping {
            let kept = std::task::ready!(keeping.as_mut().poll(cx));
            self.keeping = None;
            self.egress.settle(kept, &mut self.out);
            self.end_if_told();
        }
        Poll::Ready(())
    }

    fn frame(&mut self, frame: Bytes) {
        self.entry.first_byte();
        self.silence.heard();
        self.egress.push(frame, &mut self.out);
        self.entry.said(self.egress.summary().so_far);
        self.keep();
        // An upstream's pings say nothing in another dialect, so it is what goes out that counts.
        if !self.out.is_empty() {
            self.silence.spoke();
        }
        self.end_if_told();
    }

    /// A body of known length is dropped as soon as its last byte is written, and asked no more.
    fn end_if_told(&mut self) {
        if self.keeping.is_some() {
            return;
        }
        if self.egress.has_told() || self.upstream.as_ref().is_some_and(Body::is_end_stream) {
            self.end(End::Complete, None);
        }
    }

    fn end(&mut self, end: End, cut: Option<Cut>) {
        self.upstream = None;
        let why = cut.as_ref().map(Cut::fault);
        let whole = self.egress.finish(end, why.as_ref(), &mut self.out);
        let summary = self.egress.summary().clone();
        let outcome = match (&cut, whole) {
            (Some(Cut::Drained), _) => Outcome::Drained,
            (_, false) => Outcome::Truncated,
            (_, true) if summary.error.is_some() || self.entry.record.status >= 400 => Outcome::Faulted,
            (_, true) => Outcome::Completed,
        };
        if let Some(error) = &summary.error {
            self.entry.record.fault.get_or_insert_with(|| error.kind.clone());
        }
        self.entry.record.summary = summary;
        self.entry.close(outcome);
        self.error = if whole || self.egress.has_told() { None } else { cut.or(Some(Cut::Truncated)) };
    }

    /// An error makes hyper drop the connection with all that it still holds. Waiting for
    /// one turn lets it write that first.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.error.is_some() && !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.error.take().map(|error| Err(error.into())))
    }

    /// Nothing came: has the silence lasted too long, or is it time to go?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut(cx) {
            self.end(End::Broken, Some(Cut::Drained));
            return Poll::Ready(());
        }
        match self.silence.poll(cx, self.egress.between_events()) {
            Poll::Ready(Waited::Ping) => self.out.push_back(Bytes::from_static(self.egress.sign_of_life())),
            Poll::Ready(Waited::Enough(limit)) => self.end(End::Broken, Some(Cut::Idle(limit))),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        if self.cut.is_none() {
            let mut cut = Box::pin(self.drain.wait_cut());
            let _registered = cut.as_mut().poll(cx);
            self.cut = Some(cut);
        }
        self.drain.is_cutting()
    }
}

impl Drop for Pipe {
    /// The client left, or read all that matters and did not wait for the end.
    fn drop(&mut self) {
        if self.upstream.is_none() {
            return;
        }
        self.entry.record.summary = self.egress.summary().clone();
        if self.entry.record.summary.ended {
            self.entry.close(Outcome::Completed);
        }
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.keeping.is_some() {
                std::task::ready!(this.poll_keeping(cx));
                continue;
            }
            let Some(upstream) = &mut this.upstream else {
                return this.poll_end(cx);
            };
            match Pin::new(upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.frame(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, id = this.entry.record.request_id, "the upstream's answer broke off");
                    this.end(End::Broken, None);
                }
                Poll::Ready(None) => this.end(End::Complete, None),
                Poll::Pending => std::task::ready!(this.wait(cx)),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_none() && self.out.is_empty() && self.error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            // Pings of ours may join and chunks be longer than events, so a stream has no known length.
            Some(_) if self.silence.patience.ping.is_some() || self.egress.changes_length() => SizeHint::default(),
            Some(upstream) => match upstream.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(rest + self.held()),
                None => SizeHint::default(),
            },
            None => SizeHint::with_exact(self.held()),
        }
    }
}

impl Pipe {
    /// How many bytes wait to be written.
    fn held(&self) -> u64 {
        self.out.iter().map(|frame| frame.len() as u64).sum()
    }
}

/// Watches how long nothing came. One timer, moved only when it goes off.
struct Silence {
    patience: Patience,
    since: Instant,
    pinged: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Waited {
    Ping,
    Enough(Duration),
}

impl Silence {
    fn new(patience: Patience) -> Self {
        let now = Instant::now();
        // Zero means: never.
        let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let patience = Patience { ping: some(patience.ping), idle: some(patience.idle) };
        Self { patience, since: now, pinged: now, timer: None }
    }

    /// The upstream sent something.
    fn heard(&mut self) {
        self.since = Instant::now();
    }

    /// So did we.
    fn spoke(&mut self) {
        self.pinged = self.since;
    }

    fn poll(&mut self, cx: &mut Context<'_>, may_ping: bool) -> Poll<Waited> {
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
