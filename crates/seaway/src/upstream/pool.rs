//! Connections to one upstream, kept and used again.
//!
//! An HTTP/1.1 connection is driven by whoever uses it: it travels with the request
//! and then with the answer's body, and is polled in that same task. So a frame
//! crosses no channel between tasks and wakes nobody but the one who wants it. It is
//! read and written in our own lane (`line`), or by hyper where `lane` says so.
//! It waits for its next use on the thread that used it last, so that no lock is taken
//! and every byte wakes the one thread that watches its socket.
//! An HTTP/2 connection is shared, so it has a task of its own.

mod idle;
mod line;
mod shared;

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::{BoxError, CallBody, HttpBody};
use crate::config::Lane;
use crate::dial::{ByteStream, Dial, DialError, Dialled};
use crate::refreshed::{Fetched, GatewayGone, Refreshed};
use idle::{Idle, Lists, Reusable};
use line::LaneConnection;
use shared::SharedConnections;

/// How often a shared connection may be closed as soon as it is open.
const IN_VAIN: u32 = 2;

type Io = TokioIo<Box<dyn ByteStream>>;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke before the head of an answer.
    #[error("the connection broke before an answer")]
    Broken(#[source] BoxError),
    /// A kept connection was found closed; nothing of the request was sent.
    #[error("the connection had been closed")]
    Unsent(#[source] hyper::Error),
    /// What came was no HTTP that we can read.
    #[error("its answer cannot be read")]
    Unreadable(#[source] BoxError),
    #[error("the connection was closed as soon as it was open")]
    Closed,
    /// One dialled for several, and in vain.
    #[error(transparent)]
    Shared(Arc<Self>),
    #[error("no connection was opened: {0}")]
    GatewayGone(#[from] GatewayGone),
}

impl SendError {
    fn of(source: hyper::Error) -> Self {
        if source.is_parse() {
            Self::Unreadable(source.into())
        } else {
            Self::Broken(source.into())
        }
    }

    /// hyper hands the request back if nothing of it was sent.
    fn of_sending(mut error: TrySendError<Request<CallBody>>) -> Self {
        match error.take_message() {
            Some(_unsent) => Self::Unsent(error.into_error()),
            None => Self::of(error.into_error()),
        }
    }
}

/// Which protocol an upstream speaks, as it was seen last.
#[derive(Debug)]
struct Protocol(AtomicU8);

impl Protocol {
    const UNKNOWN: u8 = 0;
    const HTTP1: u8 = 1;
    const HTTP2: u8 = 2;

    fn saw(&self, http2: bool) {
        self.0.store(if http2 { Self::HTTP2 } else { Self::HTTP1 }, Ordering::Relaxed);
    }

    fn is_http1(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::HTTP1
    }
}

/// The connections to one upstream.
pub(super) struct Pool {
    dial: Arc<Dial>,
    idle: Idle,
    shared: SharedConnections,
    protocol: Protocol,
    lane: Lane,
    /// One opens a connection for all who may share it.
    opening: Refreshed<Result<(), Arc<SendError>>>,
    tasks: TaskTracker,
}

/// An HTTP/1.1 connection, by whom it is read and written.
enum Kept {
    Line(LaneConnection),
    Hyper(Box<Http1Connection>),
}

/// An HTTP/1.1 connection of hyper's, with its driver.
struct Http1Connection {
    send: http1::SendRequest<CallBody>,
    driver: Option<http1::Connection<Io, CallBody>>,
}

thread_local! {
    static KEPT: Lists<Kept> = const { RefCell::new(Vec::new()) };
}

/// Drops what this thread keeps and nobody used for a while. Each thread that calls upstreams has to do so now and then.
pub(crate) fn sweep_thread() {
    idle::sweep::<Kept>();
}

impl Pool {
    /// Keeps `most` unused connections on each thread, or as many as were in use at once.
    pub(super) fn new(
        dial: Arc<Dial>,
        most: Option<usize>,
        lane: Lane,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let protocol = Protocol(AtomicU8::new(if dial.is_encrypted() {
            Protocol::UNKNOWN
        } else {
            Protocol::HTTP1
        }));
        Arc::new(Self {
            dial,
            idle: Idle::new(most.unwrap_or(usize::MAX)),
            shared: SharedConnections::new(),
            protocol,
            lane,
            opening: Refreshed::new(tasks.clone()),
            tasks,
        })
    }

    /// Sends a request, which must name its `Host`.
    ///
    /// # Errors
    ///
    /// [`SendError`] if there is no connection, or it broke before an answer began.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<CallBody>,
    ) -> Result<Response<HttpBody>, SendError> {
        let mut opened_in_vain = 0;
        loop {
            if let Some(kept) = self.idle.take() {
                return self.send_on(kept, request).await;
            }
            if self.protocol.is_http1() {
                let dialled = self.dial.connect().await?;
                if !dialled.http2 {
                    let opened = self.over(dialled).await?;
                    return self.send_on(opened, request).await;
                }
                // It learned another protocol.
                self.take_up(dialled).await?;
            }
            if let Some(stream) = self.shared.stream() {
                return stream.send(request).await.map_err(|error| self.forget_aged(error));
            }
            let pool = self.clone();
            let opened = self.opening.get(move || async move {
                let value = pool.open().await.map_err(Arc::new);
                Fetched { value, fresh: Duration::ZERO, lasting: false }
            });
            opened.await?.map_err(SendError::Shared)?;
            // Somebody may have forgotten it since; but one that always closes is not dialled for ever.
            opened_in_vain += u32::from(!self.protocol.is_http1() && self.shared.is_empty());
            if opened_in_vain > IN_VAIN {
                return Err(SendError::Closed);
            }
        }
    }

    /// Opens a connection for whoever takes it: any thread, or, if it cannot be shared, this one.
    async fn open(&self) -> Result<(), SendError> {
        let dialled = self.dial.connect().await?;
        if dialled.http2 {
            return self.take_up(dialled).await;
        }
        self.protocol.saw(false);
        self.keep(self.over(dialled).await?);
        Ok(())
    }

    async fn take_up(&self, dialled: Dialled) -> Result<(), SendError> {
        self.protocol.saw(true);
        self.shared.add(TokioIo::new(dialled.stream), &self.tasks).await
    }

    /// Opens a connection and drops it.
    ///
    /// # Errors
    ///
    /// [`DialError`] if that is not possible.
    pub(super) async fn probe(&self) -> Result<(), DialError> {
        self.dial.connect().await.map(drop)
    }

    /// Drops shared connections that were not used for a while.
    pub(super) fn sweep(&self) {
        self.shared.sweep();
    }

    /// Drops all connections that nobody uses.
    pub(super) fn forget(&self) {
        self.idle.forget();
        self.shared.forget();
    }

    async fn over(&self, dialled: Dialled) -> Result<Kept, SendError> {
        Ok(match self.lane {
            Lane::Own => Kept::Line(LaneConnection::over(dialled.stream)),
            Lane::Hyper => Kept::Hyper(Box::new(Http1Connection::over(dialled).await?)),
        })
    }

    /// Keeps a connection on this thread, to be used again.
    fn keep(&self, kept: Kept) {
        self.idle.put(kept);
    }

    async fn send_on(
        self: &Arc<Self>,
        kept: Kept,
        request: Request<CallBody>,
    ) -> Result<Response<HttpBody>, SendError> {
        match kept {
            Kept::Line(line) => line.send(request, self.clone()).await,
            Kept::Hyper(line) => self.send_by_hyper(line, request).await,
        }
    }

    async fn send_by_hyper(
        self: &Arc<Self>,
        mut line: Box<Http1Connection>,
        mut request: Request<CallBody>,
    ) -> Result<Response<HttpBody>, SendError> {
        origin_form(&mut request);
        let mut answer = pin!(line.send.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            drive(&mut line.driver, cx);
            answer.as_mut().poll(cx)
        });
        let answered =
            answered.await.map_err(|error| self.forget_aged(SendError::of_sending(error)))?;
        let (head, incoming) = answered.into_parts();
        let body = Driven { line: Some(line), incoming, pool: self.clone() };
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    /// Where a kept connection was closed for its age, so, most likely, were its like.
    fn forget_aged(&self, error: SendError) -> SendError {
        if matches!(error, SendError::Unsent(_)) {
            self.forget();
        }
        error
    }
}

/// Lets a connection do its reading and writing. A driver that has ended is dropped.
fn drive(driver: &mut Option<http1::Connection<Io, CallBody>>, cx: &mut Context<'_>) {
    if let Some(connection) = driver
        && let Poll::Ready(ended) = Pin::new(connection).poll(cx)
    {
        // What went wrong reaches the request or the body, which wait for it.
        let _ = ended;
        *driver = None;
    }
}

impl Http1Connection {
    async fn over(dialled: Dialled) -> Result<Self, SendError> {
        let (send, driver) = http1::Builder::new()
            .handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(SendError::of)?;
        Ok(Self { send, driver: Some(driver) })
    }
}

impl Reusable for Kept {
    /// True if nothing is under way on it and the server has not closed it.
    fn is_ready(&mut self) -> bool {
        match self {
            Self::Line(line) => line.is_ready(),
            Self::Hyper(line) => {
                drive(&mut line.driver, &mut Context::from_waker(Waker::noop()));
                line.driver.is_some() && line.send.is_ready()
            }
        }
    }

    fn lists<R>(with: impl FnOnce(&Lists<Self>) -> R) -> Option<R> {
        KEPT.try_with(with).ok()
    }
}

/// HTTP/1.1 names the path alone.
fn origin_form(request: &mut Request<CallBody>) {
    if request.uri().scheme().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

/// An answer's body, polled together with the connection it comes from.
struct Driven {
    line: Option<Box<Http1Connection>>,
    incoming: Incoming,
    pool: Arc<Pool>,
}

impl Body for Driven {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        // Asked first, so that the connection knows that a frame is wanted.
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        if let Some(line) = &mut this.line {
            drive(&mut line.driver, cx);
        }
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Driven {
    /// A connection whose answer was read to its end serves again; any other is closed,
    /// which is how the upstream learns that nobody listens any more.
    fn drop(&mut self) {
        if let Some(mut kept) = self.line.take().map(Kept::Hyper)
            && kept.is_ready()
        {
            self.pool.keep(kept);
        }
    }
}
