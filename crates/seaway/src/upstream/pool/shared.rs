//! HTTP/2 connections, which several requests use at once.

use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::idle::KEPT_FOR;
use super::{Io, SendError};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::upstream::{BoxError, CallBody, HttpBody};

/// The most streams that one connection gets, however many its server allows.
const MOST_STREAMS: usize = 100;

/// Stands for what a server has not told yet. None allows so many, or it allows any number.
const UNTOLD: usize = usize::MAX - 1;
/// The time in which a server has to send its settings.
const SETTLING: Duration = Duration::from_secs(1);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(1);

/// The connections of one pool.
#[derive(Debug)]
pub(super) struct SharedConnections {
    open: Mutex<Vec<Http2Connection>>,
    born: Instant,
}

#[derive(Debug)]
struct Http2Connection {
    send: SendRequest<CallBody>,
    streams: Arc<Streams>,
}

#[derive(Debug)]
struct Streams {
    open: AtomicUsize,
    /// As many as the server allows now.
    most: AtomicUsize,
    /// When the last one ended, in milliseconds since the pool was made.
    ended: AtomicU64,
    born: Instant,
}

/// One stream of a connection. Counted for as long as it lives.
pub(super) struct Streaming {
    send: SendRequest<CallBody>,
    counted: StreamGuard,
}

struct StreamGuard(Arc<Streams>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let since = self.0.born.elapsed().as_millis();
        self.0.ended.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    /// Counts one more, if there is room. Called with the list locked, so that two do not take the last place.
    fn take(self: &Arc<Self>) -> Option<StreamGuard> {
        let most = self.most.load(Ordering::Relaxed).clamp(1, MOST_STREAMS);
        if self.open.load(Ordering::Relaxed) >= most {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(StreamGuard(self.clone()))
    }
}

impl Http2Connection {
    fn stream(&self) -> Option<Streaming> {
        Some(Streaming { counted: self.streams.take()?, send: self.send.clone() })
    }

    fn is_idle(&self) -> bool {
        let ended = Duration::from_millis(self.streams.ended.load(Ordering::Relaxed));
        self.streams.open.load(Ordering::Relaxed) == 0
            && self.streams.born.elapsed().saturating_sub(ended) >= KEPT_FOR
    }
}

impl SharedConnections {
    pub(super) fn new() -> Self {
        Self { open: Mutex::default(), born: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Http2Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a connection that has one.
    pub(super) fn stream(&self) -> Option<Streaming> {
        let mut open = self.lock();
        open.retain(|connection| !connection.send.is_closed());
        open.iter().find_map(Http2Connection::stream)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes up a connection, which is driven in one of `tasks`. Its server has a moment to say how many streams it
    /// allows, since more would wait behind each other.
    pub(super) async fn add(&self, io: Io, tasks: &TaskTracker) -> Result<(), SendError> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .adaptive_window(true)
            .initial_max_send_streams(UNTOLD);
        let (send, driver) = builder.handshake(io).await.map_err(SendError::of)?;
        let mut driver = Box::pin(driver);
        // hyper says that the connection ended, but not that the server has told. One that tells nothing is taken for
        // one that allows as many as most do.
        let begun = Instant::now();
        while driver.current_max_send_streams() == UNTOLD && begun.elapsed() < SETTLING {
            tokio::select! {
                biased;
                ended = &mut driver => return Err(ended.map_or_else(SendError::of, |()| SendError::Closed)),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let ended = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let streams = Arc::new(Streams {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(driver.current_max_send_streams()),
            ended: AtomicU64::new(ended),
            born: self.born,
        });
        self.lock().push(Http2Connection { send, streams: streams.clone() });
        tasks.spawn(async move {
            let ended = poll_fn(|cx| {
                let polled = driver.as_mut().poll(cx);
                streams.most.store(driver.current_max_send_streams(), Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
        });
        Ok(())
    }

    /// Closes idle connections.
    pub(super) fn sweep(&self) {
        self.lock().retain(|connection| !connection.send.is_closed() && !connection.is_idle());
    }

    /// Takes up no new stream on what there is; it is closed when the last one ends.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}

impl Streaming {
    pub(super) async fn send(
        self,
        mut request: Request<CallBody>,
    ) -> Result<Response<HttpBody>, SendError> {
        let Self { mut send, counted } = self;
        // HTTP/2 says it in `:authority`.
        request.headers_mut().remove(http::header::HOST);
        let answered = send.try_send_request(request).await.map_err(SendError::of_sending)?;
        Ok(answered.map(|incoming| {
            let counted = incoming.map_frame(move |frame| {
                let _alive = &counted;
                frame
            });
            counted.map_err(BoxError::from).boxed_unsync()
        }))
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod shuttle_tests {
    use shuttle::thread;

    use super::*;

    /// Requests that take streams of one connection, while its server changes its mind.
    fn take_and_end() {
        let streams = Arc::new(Streams {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(2),
            ended: AtomicU64::new(0),
            born: Instant::now(),
        });
        // What stands around them is the list's lock.
        let list = Arc::new(Mutex::new(()));
        let requests: Vec<_> = (0..4)
            .map(|_| {
                let (streams, list) = (streams.clone(), list.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let taken = {
                            let _held = list.lock().unwrap();
                            streams.take()
                        };
                        assert!(streams.open.load(Ordering::Relaxed) <= 2, "too many are open");
                        thread::yield_now();
                        drop(taken);
                    }
                })
            })
            .collect();
        streams.most.store(1, Ordering::Relaxed);
        for request in requests {
            request.join().unwrap();
        }
        assert_eq!(streams.open.load(Ordering::Relaxed), 0, "none is counted for ever");
        assert!(streams.take().is_some());
    }

    #[test]
    fn shuttle_finds_no_way_to_open_too_many_streams() {
        shuttle::check_random(take_and_end, 2000);
        shuttle::check_pct(take_and_end, 2000, 3);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Either, Full};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::task::JoinHandle;

    use super::*;

    /// A pool's connection, and the other end of it.
    async fn connection(most: u32) -> (SharedConnections, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let service = service_fn(async |_| {
                Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::default()))
            });
            builder
                .max_concurrent_streams(most)
                .serve_connection(TokioIo::new(theirs), service)
                .await
                .unwrap();
        });
        let shared = SharedConnections {
            open: Mutex::default(),
            born: Instant::now().checked_sub(2 * KEPT_FOR).unwrap(),
        };
        shared.add(TokioIo::new(Box::new(ours)), &TaskTracker::new()).await.unwrap();
        (shared, server)
    }

    #[tokio::test]
    async fn a_connection_has_as_many_streams_as_its_server_allows() {
        for (most, got) in [(0, 1), (1, 1), (7, 7), (1000, MOST_STREAMS)] {
            let (shared, _server) = connection(most).await;
            let streams: Vec<_> = std::iter::from_fn(|| shared.stream()).collect();
            assert_eq!(streams.len(), got, "of {most}");
            drop(streams);
            assert!(shared.stream().is_some());
        }
    }

    #[tokio::test]
    async fn a_connection_without_streams_is_closed_in_time() {
        let (shared, server) = connection(100).await;
        let long_ago = || shared.lock()[0].streams.ended.store(0, Ordering::Relaxed);
        let stream = shared.stream().unwrap();
        long_ago();
        shared.sweep();
        assert!(!shared.is_empty(), "it is in use");
        let answer = stream
            .send(
                Request::get("http://h/")
                    .header("host", "h")
                    .body(Either::Left(Full::default()))
                    .unwrap(),
            )
            .await
            .unwrap();
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        shared.sweep();
        assert!(!shared.is_empty(), "it was in use a moment ago");
        long_ago();
        shared.sweep();
        assert!(shared.is_empty());
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_ends_at_once_is_none() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        drop(theirs);
        let shared = SharedConnections::new();
        assert!(shared.add(TokioIo::new(Box::new(ours)), &TaskTracker::new()).await.is_err());
        assert!(shared.is_empty() && shared.stream().is_none());
    }
}
