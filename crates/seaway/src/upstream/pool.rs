//! Connections to one upstream, kept and used again.
//!
//! An HTTP/1.1 connection is driven by whoever uses it: its future travels with the
//! request and then with the answer's body, and is polled in that same task. So a
//! frame crosses no channel between tasks and wakes nobody but the one who wants it.
//! An HTTP/2 connection is shared, so it has a task of its own.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::task::TaskTracker;

use super::{BoxError, CallBody, ReplyBody};
use crate::dial::{Dial, DialError, Stream};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);
/// How many unused connections are kept.
const MOST_IDLE: usize = 64;
/// Streams on one HTTP/2 connection before another is opened; servers allow at least this many.
const MOST_STREAMS: usize = 100;

type Io = TokioIo<Box<dyn Stream>>;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke before the head of an answer.
    #[error("the connection broke before an answer")]
    Broken(#[source] hyper::Error),
    /// A kept connection was found closed; nothing of the request was sent.
    #[error("the connection had been closed")]
    Unsent(#[source] hyper::Error),
    /// What came was no HTTP that we can read.
    #[error("its answer cannot be read")]
    Unreadable(#[source] hyper::Error),
}

impl SendError {
    fn of(source: hyper::Error) -> Self {
        if source.is_parse() { Self::Unreadable(source) } else { Self::Broken(source) }
    }

    /// hyper hands the request back if nothing of it was sent.
    fn of_sending(mut error: TrySendError<Request<CallBody>>) -> Self {
        match error.take_message() {
            Some(_unsent) => Self::Unsent(error.into_error()),
            None => Self::of(error.into_error()),
        }
    }
}

/// The connections to one upstream.
pub struct Pool {
    dial: Arc<Dial>,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    tasks: TaskTracker,
}

struct Idle {
    line: Line,
    since: Instant,
    /// The thread whose runtime watches its socket: elsewhere every byte would wake two.
    home: ThreadId,
}

/// An HTTP/1.1 connection with its driver.
struct Line {
    send: http1::SendRequest<CallBody>,
    driver: Option<http1::Connection<Io, CallBody>>,
}

/// An HTTP/2 connection that several requests use at once.
struct Shared {
    send: http2::SendRequest<CallBody>,
    streams: Arc<AtomicUsize>,
}

impl Pool {
    #[must_use]
    pub fn new(dial: Arc<Dial>, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { dial, idle: Mutex::default(), shared: Mutex::default(), tasks })
    }

    /// Sends a request, which must name its `Host`.
    ///
    /// # Errors
    ///
    /// [`SendError`] if there is no connection, or it broke before an answer began.
    pub async fn send(self: &Arc<Self>, request: Request<CallBody>) -> Result<Response<ReplyBody>, SendError> {
        if let Some((send, stream)) = self.shared() {
            return send_shared(send, stream, request).await;
        }
        if let Some(line) = self.idle_line() {
            return self.send_on(line, request).await;
        }
        let dialled = self.dial.connect().await?;
        if dialled.http2 {
            let (send, stream) = self.share(TokioIo::new(dialled.stream)).await?;
            return send_shared(send, stream, request).await;
        }
        let (send, driver) = http1::Builder::new().handshake(TokioIo::new(dialled.stream)).await.map_err(SendError::of)?;
        self.send_on(Line { send, driver: Some(driver) }, request).await
    }

    /// Opens a connection and drops it.
    ///
    /// # Errors
    ///
    /// [`DialError`] if that is not possible.
    pub async fn probe(&self) -> Result<(), DialError> {
        self.dial.connect().await.map(drop)
    }

    /// Drops connections that were not used for a while.
    pub fn sweep(&self) {
        self.lock_idle().retain(|idle| idle.since.elapsed() < IDLE);
    }

    /// Drops all connections that nobody uses.
    pub fn forget(&self) {
        self.lock_idle().clear();
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last and is still open.
    fn idle_line(&self) -> Option<Line> {
        let here = std::thread::current().id();
        loop {
            let mut idle = {
                let mut all = self.lock_idle();
                let last = all.iter().rposition(|idle| idle.home == here)?;
                all.remove(last)
            };
            if idle.since.elapsed() < IDLE && idle.line.is_ready() {
                return Some(idle.line);
            }
        }
    }

    fn put(&self, line: Line) {
        let home = std::thread::current().id();
        let mut idle = self.lock_idle();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { line, since: Instant::now(), home });
        }
    }

    async fn send_on(self: &Arc<Self>, mut line: Line, mut request: Request<CallBody>) -> Result<Response<ReplyBody>, SendError> {
        origin_form(&mut request);
        let mut answer = pin!(line.send.try_send_request(request));
        let answered = std::future::poll_fn(|cx| {
            drive(&mut line.driver, cx);
            answer.as_mut().poll(cx)
        });
        let answered = answered.await.map_err(|error| self.forget_aged(SendError::of_sending(error)))?;
        let (head, incoming) = answered.into_parts();
        let body = Driven { line: Some(line), incoming, pool: self.clone() };
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    /// Where a kept connection was closed for its age, so, most likely, were its like.
    fn forget_aged(&self, error: SendError) -> SendError {
        if matches!(error, SendError::Unsent(_)) {
            self.lock_idle().clear();
        }
        error
    }

    fn shared(&self) -> Option<(http2::SendRequest<CallBody>, Streaming)> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|shared| !shared.send.is_closed());
        let free = shared.iter().find(|shared| shared.streams.load(Ordering::Relaxed) < MOST_STREAMS)?;
        Some((free.send.clone(), Streaming::on(&free.streams)))
    }

    async fn share(&self, io: Io) -> Result<(http2::SendRequest<CallBody>, Streaming), SendError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).adaptive_window(true);
        let (send, driver) = builder.handshake(io).await.map_err(SendError::of)?;
        self.tasks.spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
        });
        let streams = Arc::new(AtomicUsize::new(0));
        let stream = Streaming::on(&streams);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.push(Shared { send: send.clone(), streams });
        Ok((send, stream))
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

impl Line {
    /// True if nothing is under way on it and the server has not closed it.
    fn is_ready(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.send.is_ready()
    }
}

/// HTTP/1.1 names the path alone.
fn origin_form(request: &mut Request<CallBody>) {
    if request.uri().scheme().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

/// Counts one stream of an HTTP/2 connection for as long as it lives.
struct Streaming(Arc<AtomicUsize>);

impl Streaming {
    fn on(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn send_shared(mut send: http2::SendRequest<CallBody>, stream: Streaming, mut request: Request<CallBody>) -> Result<Response<ReplyBody>, SendError> {
    // HTTP/2 says it in `:authority`.
    request.headers_mut().remove(http::header::HOST);
    let answered = send.try_send_request(request).await.map_err(SendError::of_sending)?;
    Ok(answered.map(|incoming| {
        let counted = incoming.map_frame(move |frame| {
            let _alive = &stream;
            frame
        });
        counted.map_err(BoxError::from).boxed_unsync()
    }))
}

/// An answer's body, polled together with the connection it comes from.
struct Driven {
    line: Option<Line>,
    incoming: Incoming,
    pool: Arc<Pool>,
}

impl Body for Driven {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
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
        if let Some(mut line) = self.line.take()
            && line.is_ready()
        {
            self.pool.put(line);
        }
    }
}
