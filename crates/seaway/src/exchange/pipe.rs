//! The way out: every answer leaves through a pipe, and has its record written by it.
//!
//! A pipe is polled when the client's socket has room, and then asks the upstream: no task, no
//! channel and no lock stands between. Before that, [`AwaitedAnswer::begun`] waits until the head of the
//! answer is known. The record is written when the answer ends, or when the client leaves and the
//! pipe is dropped.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use seaway_wire::Dialect;
use seaway_wire::stage::{End, Out};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::TaskTracker;

use super::egress::Egress;
use super::gather::Refusal;
use super::silence::{Patience, Silence, Waited};
use super::watch::ExchangeWatch;
use crate::answer::{self, Head};
use crate::drain::{self, Drain};
use crate::fault::{Fault, FaultKind};
use crate::ledger::Recording;
use crate::record::Outcome;
use crate::store::{Keeper, Keeping};
use crate::upstream::gate::Permit;
use crate::upstream::{BoxError, ReplyBody, ReplyFrame, next_frame};

/// How long a connection may take to end an answer that is whole already.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What a client gets: a head, and the frames that follow it.
pub struct Answer {
    pub head: Head,
    pub frames: Box<Pipe>,
}

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
    /// The same for a client that can still be told in words.
    fn fault(&self) -> Fault {
        match self {
            Self::Truncated => Fault::new(FaultKind::BadReply, self.to_string()),
            Self::Idle(_) => Fault::new(FaultKind::TimedOut, self.to_string()),
            Self::Drained => drain::fault(),
        }
    }
}

/// What a pipe is about to carry.
pub(super) struct UpstreamAnswer {
    pub(super) body: ReplyBody,
    pub(super) egress: Egress,
    pub(super) keeper: Option<Keeper>,
    pub(super) patience: Patience,
    pub(super) permit: Permit,
}

/// What a pipe has from the gateway.
pub(super) struct Surroundings {
    pub(super) drain: Drain,
    pub(super) tasks: TaskTracker,
    /// An answer ends when its record is on the disk.
    pub(super) synced: bool,
}

enum PipeState {
    /// The upstream speaks, or is silent.
    Flowing(ReplyBody),
    /// The answer is whole, and its end waits until it is kept. The upstream may not have ended its body yet.
    Keeping(Option<ReplyBody>, Keeping),
    /// The upstream is done; frames may still wait for the client.
    Ended,
    /// The transfer will be broken off. `flushed`: what came before was given its chance to leave.
    Breaking { cut: Cut, flushed: bool },
}

/// How the upstream's part of an answer ended.
#[derive(Clone, Copy)]
enum Ending {
    /// The answer is whole.
    Whole,
    /// As it should, with an error in place of an answer.
    Refused,
    /// In its midst.
    Short,
    /// In its midst, and by us.
    Drained,
}

/// The body of an answer on its way.
pub struct Pipe {
    state: PipeState,
    egress: Egress,
    out: Out,
    watch: ExchangeWatch,
    silence: Silence,
    around: Surroundings,
    /// Polled once, to be woken when a drain cuts; the flag in the drain tells the rest.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    keeper: Option<Keeper>,
    /// The record is being written, where what makes an answer look whole waits for that.
    recording: Option<Recording>,
    /// The client has its head, so that no status can be changed any more.
    has_head: bool,
    /// The head said how long the answer is.
    has_length: bool,
    ending: Option<Ending>,
    /// Held until the upstream's part is over.
    permit: Option<Permit>,
}

/// An answer whose head has not left.
pub(super) struct AwaitedAnswer {
    pub(super) pipe: Box<Pipe>,
    pub(super) head: Head,
    pub(super) dialect: Dialect,
    /// How long the head waits for what is behind it.
    pub(super) patience: Option<Duration>,
}

impl AwaitedAnswer {
    /// Waits until the answer has begun, so that what fails before is an ordinary error with a status; no longer than
    /// `patience`, after which the head leaves all the same.
    ///
    /// Dropped meanwhile (the client left), the record says so, and the upstream is told to stop.
    pub(super) async fn begun(mut self) -> Answer {
        let pipe = &mut self.pipe;
        pipe.end_if_told();
        let begun = poll_fn(|cx| pipe.poll_begun(cx));
        let in_time = if let Some(patience) = self.patience {
            tokio::time::timeout(patience, begun).await.is_ok()
        } else {
            begun.await;
            true
        };
        let Self { mut pipe, mut head, dialect, .. } = self;
        if !in_time && pipe.silence.patience.ping.is_some() {
            pipe.out.extend(pipe.egress.sign_of_waiting().map(Bytes::from_static));
        }
        match pipe.refusal(head.status) {
            None => {
                pipe.egress.begins(&mut head.headers);
                pipe.leaves(head)
            }
            Some(Refusal::Said { status, body }) => {
                head.status = status;
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                pipe.out = Out::from([body]);
                (pipe.state, pipe.ending, pipe.permit) =
                    (PipeState::Ended, Some(Ending::Refused), None);
                pipe.watch.entry.saw(pipe.egress.summary());
                pipe.leaves(head)
            }
            Some(Refusal::Fault(fault)) => pipe.fails(dialect, &fault),
        }
    }
}

impl Answer {
    /// A fault of ours; the record ends with it.
    pub(super) fn of_fault(
        watch: ExchangeWatch,
        around: Surroundings,
        dialect: Dialect,
        fault: &Fault,
    ) -> Self {
        let patience = Patience { ping: None, idle: None };
        Pipe::with(PipeState::Ended, Egress::opaque(dialect), watch, around, patience)
            .fails(dialect, fault)
    }
}

impl Pipe {
    fn with(
        state: PipeState,
        egress: Egress,
        watch: ExchangeWatch,
        around: Surroundings,
        patience: Patience,
    ) -> Box<Self> {
        let silence = Silence::new(patience);
        Box::new(Self {
            state,
            egress,
            out: Out::new(),
            watch,
            silence,
            around,
            cut: None,
            keeper: None,
            recording: None,
            has_head: false,
            has_length: false,
            ending: None,
            permit: None,
        })
    }

    pub(super) fn new(
        answer: UpstreamAnswer,
        watch: ExchangeWatch,
        around: Surroundings,
    ) -> Box<Self> {
        let UpstreamAnswer { body, egress, keeper, patience, permit } = answer;
        let mut pipe = Self::with(PipeState::Flowing(body), egress, watch, around, patience);
        (pipe.keeper, pipe.permit) = (keeper, Some(permit));
        pipe
    }

    /// The head is decided, and leaves.
    fn leaves(mut self: Box<Self>, head: Head) -> Answer {
        self.watch.entry.answering(head.status);
        (self.has_head, self.has_length) = (true, self.size_hint().exact().is_some());
        // That there is a head is a sign of life.
        self.silence.pinged = Instant::now();
        self.record();
        self.record_early();
        Answer { head, frames: self }
    }

    /// Answers with a fault of ours in place of all that came.
    fn fails(mut self: Box<Self>, dialect: Dialect, fault: &Fault) -> Answer {
        let (mut head, body) = answer::of_fault(fault, dialect, self.watch.entry.id());
        answer::note(&mut head.headers, self.watch.entry.changes());
        if let Some(cause) = std::error::Error::source(fault) {
            tracing::debug!(id = self.watch.entry.id(), %cause, "a request failed");
        }
        self.out = Out::from([body]);
        (self.state, self.has_head, self.permit) = (PipeState::Ended, true, None);
        self.watch.entry.answering(head.status);
        self.watch.entry.failed(fault.kind.name());
        self.recording = self.watch.entry.ends(if fault.kind == FaultKind::Draining {
            Outcome::Drained
        } else {
            Outcome::Faulted
        });
        Answer { head, frames: self }
    }

    /// Why there is no answer, as far as that is known while its head has not left.
    fn refusal(&mut self, status: StatusCode) -> Option<Refusal> {
        match &self.state {
            PipeState::Breaking { cut: Cut::Truncated | Cut::Idle(_), .. }
                if !status.is_success() =>
            {
                let message =
                    format!("the upstream's error (status {}) was cut off", status.as_u16());
                Some(Refusal::Fault(Fault::new(FaultKind::BadReply, message)))
            }
            PipeState::Breaking { cut, .. } => Some(Refusal::Fault(cut.fault())),
            PipeState::Flowing(_) | PipeState::Keeping(..) => self.egress.take_refusal(),
            PipeState::Ended if self.egress.has_begun(&self.out) => self.egress.take_refusal(),
            PipeState::Ended => Some(
                self.egress
                    .take_refusal()
                    .unwrap_or_else(|| Refusal::Fault(Fault::new(FaultKind::BadReply, NOTHING))),
            ),
        }
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while matches!(self.state, PipeState::Flowing(_) | PipeState::Keeping(..))
            && !self.egress.has_begun(&self.out)
        {
            ready!(self.poll_on(cx));
        }
        Poll::Ready(())
    }

    /// Goes on by one step, whatever it has to wait for.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            PipeState::Flowing(upstream) => match upstream.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.frame(frame),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, id = self.watch.entry.request_id(), "the upstream's answer broke off");
                    // Where the dialect could say it, a status still can.
                    self.end(End::Broken, (!self.has_head).then_some(Cut::Truncated));
                }
                Poll::Ready(None) => self.end(End::Complete, None),
                Poll::Pending => ready!(self.poll_silence(cx)),
            },
            PipeState::Keeping(_, keeping) => {
                let kept = ready!(keeping.as_mut().poll(cx));
                self.settle(kept);
            }
            PipeState::Ended | PipeState::Breaking { .. } => {}
        }
        Poll::Ready(())
    }

    /// Nothing came: has the silence lasted too long, or is it time to go?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut(cx) {
            self.end(End::Broken, Some(Cut::Drained));
            return Poll::Ready(());
        }
        let may_ping = self.has_head && self.egress.between_events();
        match ready!(self.silence.poll(cx, may_ping)) {
            Waited::Ping => self.out.push_back(Bytes::from_static(self.egress.sign_of_life())),
            Waited::Enough(limit) => self.end(End::Broken, Some(Cut::Idle(limit))),
        }
        Poll::Ready(())
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        if self.cut.is_none() {
            let mut cut = Box::pin(self.around.drain.wait_cut());
            let _registered = cut.as_mut().poll(cx);
            self.cut = Some(cut);
        }
        self.around.drain.is_cutting()
    }

    /// Takes a frame of the upstream's.
    fn frame(&mut self, frame: ReplyFrame) {
        self.watch.upstream_frame(&frame);
        self.silence.heard();
        self.egress.push(frame, &mut self.out);
        self.watch.entry.said(self.egress.summary().so_far);
        // Flowing → Keeping: the answer is whole, and is told so when it is kept.
        if let Some(keeping) = self.keeping()
            && let PipeState::Flowing(upstream) =
                std::mem::replace(&mut self.state, PipeState::Ended)
        {
            self.state = PipeState::Keeping(Some(upstream), keeping);
        }
        // An upstream's pings say nothing in another dialect, so it is what goes out that counts.
        if !self.out.is_empty() {
            self.silence.spoke();
        }
        self.end_if_told();
        self.record_early();
    }

    /// Hands the answer to its keeper, if it has one.
    fn keeping(&mut self) -> Option<Keeping> {
        let kept = self.egress.take_kept()?;
        let keeping = self.keeper.take().map(|keeper| keeper.keep(kept));
        if keeping.is_none() {
            self.egress.settle(false, &mut self.out);
        }
        keeping
    }

    /// The answer is kept, or is known not to be, and its client is told which.
    fn settle(&mut self, kept: bool) {
        self.egress.settle(kept, &mut self.out);
        // Keeping → Flowing, or the end where the upstream has come to it already.
        match std::mem::replace(&mut self.state, PipeState::Ended) {
            PipeState::Keeping(Some(upstream), _) => {
                self.state = PipeState::Flowing(upstream);
                self.end_if_told();
            }
            _ => self.ended(true, None),
        }
    }

    /// A body of known length is dropped as soon as its last byte is read, and asked no more.
    fn end_if_told(&mut self) {
        if let PipeState::Flowing(upstream) = &self.state
            && (self.egress.is_over() || upstream.is_end_stream())
        {
            self.end(End::Complete, None);
        }
    }

    /// The upstream's part is over.
    fn end(&mut self, end: End, cut: Option<Cut>) {
        let PipeState::Flowing(upstream) = std::mem::replace(&mut self.state, PipeState::Ended)
        else {
            return;
        };
        // What is kept or written from here on is no work of the upstream's.
        self.permit = None;
        if self.egress.is_settled() && !upstream.is_end_stream() {
            self.around.tasks.spawn(see_off(upstream));
        }
        if let Some(cut) = cut {
            if !self.has_head {
                // Flowing → Breaking: a status will say it.
                self.watch.entry.saw(self.egress.summary());
                self.state = PipeState::Breaking { cut, flushed: true };
                return;
            }
            let whole = self.egress.finish(end, Some(&cut.fault()), &mut self.out);
            return self.ended(whole, Some(cut));
        }
        let whole = self.egress.finish(end, None, &mut self.out);
        match self.keeping() {
            Some(keeping) => self.state = PipeState::Keeping(None, keeping),
            None => self.ended(whole, None),
        }
    }

    /// The last frame has come.
    fn ended(&mut self, whole: bool, cut: Option<Cut>) {
        self.watch.entry.saw(self.egress.summary());
        if !whole && self.has_head && !self.has_length {
            let why = cut.as_ref().unwrap_or(&Cut::Truncated).fault();
            self.egress.cut(&why, self.watch.entry.request_id(), &mut self.out);
        }
        self.ending = Some(match &cut {
            Some(Cut::Drained) => Ending::Drained,
            _ if whole && self.egress.is_error() => Ending::Refused,
            _ if whole => Ending::Whole,
            _ => Ending::Short,
        });
        self.state = if whole || self.egress.has_told() {
            PipeState::Ended
        } else {
            PipeState::Breaking { cut: cut.unwrap_or(Cut::Truncated), flushed: false }
        };
        self.record();
    }

    /// Writes the record, once both the head and the end are known.
    fn record(&mut self) {
        if !self.has_head {
            return;
        }
        let outcome = match self.ending {
            None => return,
            Some(Ending::Drained) => Outcome::Drained,
            Some(Ending::Short) => Outcome::Truncated,
            Some(Ending::Refused) => Outcome::Faulted,
            Some(Ending::Whole) if self.watch.entry.is_error() => Outcome::Faulted,
            Some(Ending::Whole) => Outcome::Completed,
        };
        self.recording = self.recording.take().or(self.watch.entry.ends(outcome));
    }

    /// Writes the record of an answer that says by itself that it is over, before that is passed on, where the client may
    /// count on the record.
    fn record_early(&mut self) {
        if self.around.synced && self.has_head && self.egress.summary().ended {
            self.watch.entry.saw(self.egress.summary());
            let failed = self.watch.entry.is_error();
            let outcome = if failed { Outcome::Faulted } else { Outcome::Completed };
            self.recording = self.recording.take().or(self.watch.entry.ends(outcome));
        }
    }

    /// Waits for the record, where the client is not to hear of an end before it is written. What cannot be written is
    /// held back by the store, which says so; the answer was paid for and is passed on.
    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(recording) = &mut self.recording {
            let written = ready!(recording.as_mut().poll(cx));
            self.recording = None;
            if !written {
                let id = self.watch.entry.request_id();
                tracing::error!(id, "an answer went out whose record is not on the disk");
            }
        }
        Poll::Ready(())
    }

    /// How many bytes wait to be written.
    fn held(&self) -> u64 {
        self.out.iter().map(|frame| frame.len() as u64).sum()
    }
}

/// Said where an upstream ends its answer before it began.
const NOTHING: &str = "the upstream's answer ended before it began";

/// Reads what an answer's end is followed by, which is no more than the mark of its end: a connection that has not had
/// it cannot serve again. The client does not wait for that.
async fn see_off(mut body: ReplyBody) {
    let rest = async { while let Ok(Some(_)) = next_frame(&mut body, None).await {} };
    let _late = tokio::time::timeout(LAST_MOMENT, rest).await;
}

impl Drop for Pipe {
    /// The client left, or read all that matters and did not wait for the end.
    fn drop(&mut self) {
        if matches!(self.state, PipeState::Flowing(_) | PipeState::Keeping(..)) {
            self.watch.entry.saw(self.egress.summary());
            if self.has_head && self.egress.summary().ended {
                let _nobody_waits = self.watch.entry.ends(Outcome::Completed);
            } else {
                self.watch.left();
            }
        }
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            ready!(this.poll_recorded(cx));
            if let Some(frame) = this.out.pop_front() {
                this.watch.client_frame(&frame);
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            match &mut this.state {
                PipeState::Flowing(_) | PipeState::Keeping(..) => ready!(this.poll_on(cx)),
                PipeState::Ended => return Poll::Ready(None),
                PipeState::Breaking { flushed, .. } => {
                    // An error makes hyper drop the connection with all that it still holds. Waiting for one turn lets
                    // it write that first.
                    if !std::mem::replace(flushed, true) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let PipeState::Breaking { cut, .. } =
                        std::mem::replace(&mut this.state, PipeState::Ended)
                    else {
                        return Poll::Ready(None);
                    };
                    return Poll::Ready(Some(Err(cut.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, PipeState::Ended) && self.out.is_empty() && self.recording.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            // Pings of ours may join and chunks be longer than events, so a stream has no known length.
            PipeState::Flowing(_) | PipeState::Keeping(..)
                if self.silence.patience.ping.is_some() || self.egress.changes_length() =>
            {
                SizeHint::default()
            }
            PipeState::Flowing(upstream) | PipeState::Keeping(Some(upstream), _) => {
                match upstream.size_hint().exact() {
                    Some(rest) => SizeHint::with_exact(rest + self.held()),
                    None => SizeHint::default(),
                }
            }
            PipeState::Keeping(None, _) | PipeState::Ended => SizeHint::with_exact(self.held()),
            // Who is told a length takes what has that length for whole.
            PipeState::Breaking { .. } => SizeHint::default(),
        }
    }
}
