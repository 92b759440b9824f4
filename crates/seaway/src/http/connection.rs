//! What a client may hold, and for how long: places for connections, and deadlines for who does not read or send.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::causes::BoxError;
use crate::config::ClientLimits;

/// The connections of all listeners.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<OpenConnections>>);

#[derive(Debug, Default)]
struct OpenConnections {
    /// The number of the next one; none is used twice.
    next: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
}

/// One connection, as its listener and its requests see it.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    address: Option<IpAddr>,
    began: Instant,
    /// Requests whose answers are not over.
    in_flight: AtomicUsize,
    /// Since when nothing is under way, in milliseconds after it began.
    idle_since: AtomicU64,
    /// True once somebody asked on it who has a key, or needs none.
    known: AtomicBool,
    /// True while something that was written for the client has not been taken.
    writes: AtomicBool,
    /// The number of requests so far.
    asked: AtomicUsize,
    /// Streams that have to be looked at from outside: who does not open its window is never asked to read.
    streams: Mutex<Vec<Weak<StreamProgress>>>,
    /// Done when the connection is to be closed.
    close: CancellationToken,
}

/// How an answer goes on, of which others share the connection.
#[derive(Debug, Default)]
struct StreamProgress {
    /// When its last frame was handed out and not yet followed up, in milliseconds after the connection began, and one
    /// more; zero while the upstream is waited for.
    handed: AtomicU64,
}

/// Why a connection gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("all {0} connections are in use (`connections`)")]
    All(usize),
    #[error("all {0} connections of one address are in use (`connections_per_address`)")]
    OfAddress(usize),
}

impl Connections {
    /// Takes a place for a connection. Where there is none, the one is closed that asks nothing for the longest time.
    ///
    /// # Errors
    ///
    /// [`NoPlace`] if every one of them is being answered.
    pub fn admit(&self, address: Option<IpAddr>, limits: &ClientLimits) -> Result<Place, NoPlace> {
        let mut open = lock(&self.0);
        let OpenConnections { next, by_number: all } = &mut *open;
        let of_address = |open: &Connection| address.is_some() && open.address == address;
        if all.values().filter(|open| of_address(open)).count() >= limits.connections_per_address
            && !close_oldest(all, of_address)
        {
            return Err(NoPlace::OfAddress(limits.connections_per_address));
        }
        if all.len() >= limits.connections && !close_oldest(all, |_| true) {
            return Err(NoPlace::All(limits.connections));
        }
        let number = *next;
        *next += 1;
        let connection = Arc::new(Connection {
            number,
            address,
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            known: AtomicBool::new(false),
            writes: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            streams: Mutex::default(),
            close: CancellationToken::new(),
        });
        all.insert(number, connection.clone());
        Ok(Place { connection, all: self.clone() })
    }

    /// Closes the one that asks nothing for the longest time; false if there is none.
    pub fn relieve(&self) -> bool {
        close_oldest(&mut lock(&self.0).by_number, |_| true)
    }

    /// The number of open connections.
    pub fn count(&self) -> usize {
        lock(&self.0).by_number.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes the connection that asks nothing for the longest time, or else the oldest on which nobody showed a key; false
/// if there is none.
fn close_oldest(
    all: &mut BTreeMap<u64, Arc<Connection>>,
    which: impl Fn(&Connection) -> bool,
) -> bool {
    let idle = all
        .values()
        .filter(|open| which(open) && open.is_idle())
        .min_by_key(|open| open.began + open.idle_since());
    let strangers = || all.values().find(|open| which(open) && !open.is_known());
    let Some(number) = idle.or_else(strangers).map(|open| open.number) else { return false };
    if let Some(open) = all.remove(&number) {
        open.close.cancel();
    }
    true
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    pub connection: Arc<Connection>,
    all: Connections,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.all.0).by_number.remove(&self.connection.number);
    }
}

impl Connection {
    /// Where it comes from; none over a socket of this machine.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A request came; it is under way until what this returns is dropped. `shared`: others may use the connection
    /// meanwhile, so that it says nothing of this one whether bytes leave.
    pub fn begins(self: &Arc<Self>, shared: bool) -> Underway {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let progress = shared.then(|| {
            let progress = Arc::new(StreamProgress::default());
            let mut streams = lock(&self.streams);
            streams.retain(|stream| stream.strong_count() > 0);
            streams.push(Arc::downgrade(&progress));
            progress
        });
        Underway { connection: self.clone(), progress }
    }

    /// Somebody asked who has a key, or needs none.
    pub fn knows(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Resolves once nothing is asked, and nothing waits to be read.
    pub async fn idle(&self) {
        while !self.is_idle() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// True without a request under way, or a byte that waits for the client.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && !self.writes.load(Ordering::Relaxed)
    }

    /// Notes whether something waits to be read.
    fn writing(&self, waits: bool) {
        if self.writes.load(Ordering::Relaxed) == waits {
            return;
        }
        self.writes.store(waits, Ordering::Relaxed);
        if !waits {
            self.idle_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn idle_since(&self) -> Duration {
        Duration::from_millis(self.idle_since.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Resolves when the connection is not worth keeping, and says why: told so from outside, silent for too long, or with
    /// a stream that nobody reads. Looks at it now and then, so that no request has to pay for that.
    pub async fn overdue(&self, limits: &ClientLimits) -> &'static str {
        let quarter = |limit: Duration| (limit / 4).max(Duration::from_millis(10));
        let looks = [limits.idle_timeout, limits.send_timeout]
            .into_iter()
            .filter(|limit| !limit.is_zero())
            .map(quarter)
            .min();
        let first = Some(limits.head_timeout).filter(|limit| !limit.is_zero());
        let mut wait = first.into_iter().chain(looks).min();
        loop {
            tokio::select! {
                biased;
                () = self.close.cancelled() => {
                    // It may have asked something at the last moment.
                    if self.is_known() {
                        self.idle().await;
                    }
                    return "others need its place";
                }
                () = sleep(wait) => {}
            }
            let asked = self.asked.load(Ordering::Relaxed) > 0;
            let idle = self.is_idle();
            let silent = self.began.elapsed().saturating_sub(self.idle_since());
            if !asked && over(silent, limits.head_timeout) {
                return "it asked nothing (`head_timeout`)";
            }
            if asked && idle && over(silent, limits.idle_timeout) {
                return "it asked nothing more (`client_idle_timeout`)";
            }
            if self.is_stalled(limits.send_timeout) {
                return "one of its answers is not read (`send_timeout`)";
            }
            // A connection without a request has until its own limit, not until the next look.
            let left = first.filter(|_| !asked).map(|limit| {
                limit.saturating_sub(self.began.elapsed()).max(Duration::from_millis(10))
            });
            wait = left.into_iter().chain(looks).min();
        }
    }

    fn is_stalled(&self, limit: Duration) -> bool {
        let now = self.now();
        lock(&self.streams).iter().filter_map(Weak::upgrade).any(|stream| {
            let handed = stream.handed.load(Ordering::Relaxed);
            handed > 0 && over(Duration::from_millis((now + 1).saturating_sub(handed)), limit)
        })
    }
}

/// Zero stands for no limit.
fn over(time: Duration, limit: Duration) -> bool {
    !limit.is_zero() && time >= limit
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// A request that is not over.
#[derive(Debug)]
pub struct Underway {
    connection: Arc<Connection>,
    progress: Option<Arc<StreamProgress>>,
}

impl Underway {
    /// It is the client's turn to take something.
    fn handed(&self) {
        if let Some(progress) = &self.progress {
            progress.handed.store(self.connection.now() + 1, Ordering::Relaxed);
        }
    }

    /// No frame waits for the client.
    fn waits(&self) {
        if let Some(progress) = &self.progress {
            progress.handed.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.connection.idle_since.store(self.connection.now(), Ordering::Relaxed);
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, on its way to a client that may be slow.
#[derive(Debug)]
pub struct ClientBody<B> {
    body: B,
    underway: Underway,
    /// What is left of a frame that goes out in pieces.
    rest: Bytes,
}

/// So much of a frame is handed out at once where a connection is shared: what is handed out is no longer waited for.
const PIECE: usize = 16 << 10;

impl<B> ClientBody<B> {
    pub fn new(body: B, underway: Underway) -> Self {
        // Where the client opens no window at all, it is not even polled.
        underway.handed();
        Self { body, underway, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> ClientBody<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ClientBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.underway.progress.is_none() {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        let polled = self.poll_piece(cx);
        if polled.is_ready() {
            self.underway.handed();
        } else {
            self.underway.waits();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// A client sent nothing of its request's body for so long.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the request's body came for {} seconds (`body_timeout`)", .0.as_secs_f64())]
pub struct SlowBody(pub Duration);

/// How long something is waited for. One timer, made when it is first needed, and moved only when it goes off.
#[derive(Debug)]
pub(super) struct Wait {
    limit: Duration,
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Zero stands for no limit.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), timer: None }
    }

    /// What was waited for came.
    pub(super) fn over(&mut self) {
        if self.timer.is_some() {
            self.since = Instant::now();
        }
    }

    /// Ready once it did not come for too long.
    pub(super) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.limit.is_zero() {
            return Poll::Pending;
        }
        if self.timer.is_none() {
            self.since = Instant::now();
        }
        loop {
            let due = self.since + self.limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

/// The body of a request, given up when nothing comes.
#[derive(Debug)]
pub struct IncomingBody {
    body: Incoming,
    wait: Wait,
}

impl IncomingBody {
    pub fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, wait: Wait::new(limit) }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.wait.over();
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        ready!(this.wait.poll_too_long(cx));
        Poll::Ready(Some(Err(SlowBody(this.wait.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client took nothing of what was written to it for so long.
#[derive(Debug, thiserror::Error)]
#[error("the client read nothing for {} seconds (`send_timeout`)", .0.as_secs_f64())]
struct Unread(Duration);

/// A client's stream, which breaks when what is written to it is not taken.
#[derive(Debug)]
pub struct Sending<S> {
    stream: S,
    /// What was read and is to be read again.
    unread: Bytes,
    connection: Arc<Connection>,
    wait: Wait,
}

impl<S> Sending<S> {
    pub fn new(stream: S, connection: Arc<Connection>, limit: Duration) -> Self {
        Self { stream, unread: Bytes::new(), connection, wait: Wait::new(limit) }
    }

    /// Puts back what was read, for who reads next.
    pub fn put_back(&mut self, read: Bytes) {
        self.unread = read;
    }

    /// Bears a wait no longer than the limit.
    fn bear<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        self.connection.writing(polled.is_pending());
        if polled.is_ready() {
            self.wait.over();
            return polled;
        }
        ready!(self.wait.poll_too_long(cx));
        let unread = Unread(self.wait.limit);
        Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, unread)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let here = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(here));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bear(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.bear(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.bear(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bear(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn limits(connections: usize, connections_per_address: usize) -> ClientLimits {
        ClientLimits {
            connections,
            connections_per_address,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            send_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
        }
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_asks_nothing_for_longest_makes_room() {
        let (all, limits) = (Connections::default(), limits(3, 2));
        let first = all.admit(Some(address(1)), &limits).unwrap();
        first.connection.knows();
        let busy = first.connection.begins(false);
        let second = all.admit(Some(address(1)), &limits).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = all.admit(Some(address(2)), &limits).unwrap();
        // All of one address are in use: its own idle one goes.
        let fourth = all.admit(Some(address(1)), &limits).unwrap();
        assert!(second.connection.close.is_cancelled() && !third.connection.close.is_cancelled());
        // What is being answered is never closed.
        fourth.connection.knows();
        let _busy = fourth.connection.begins(false);
        assert_eq!(all.admit(Some(address(1)), &limits).unwrap_err(), NoPlace::OfAddress(2));
        // All of all are: the idle one goes, whosever it is.
        let fifth = all.admit(Some(address(3)), &limits).unwrap();
        assert!(third.connection.close.is_cancelled());
        drop(busy);
        let _sixth = all.admit(None, &limits).unwrap();
        assert!(
            first.connection.close.is_cancelled() || fifth.connection.close.is_cancelled(),
            "one that asks nothing"
        );
        drop((first, second, third));
        assert_eq!(all.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_overdue_by_what_it_does_not_do() {
        let (all, limits) = (Connections::default(), limits(9, 9));
        let place = all.admit(None, &limits).unwrap();
        let began = Instant::now();
        assert!(place.connection.overdue(&limits).await.contains("`head_timeout`"));
        assert_eq!(began.elapsed().as_secs(), 10);

        let place = all.admit(None, &limits).unwrap();
        let asked = place.connection.begins(false);
        let overdue =
            tokio::time::timeout(Duration::from_secs(3600), place.connection.overdue(&limits));
        assert!(overdue.await.is_err(), "it is being answered");
        let began = Instant::now();
        drop(asked);
        assert!(place.connection.overdue(&limits).await.contains("`client_idle_timeout`"));
        assert!((300..=316).contains(&began.elapsed().as_secs()));

        let place = all.admit(None, &limits).unwrap();
        let asked = place.connection.begins(true);
        let began = Instant::now();
        asked.handed();
        assert!(place.connection.overdue(&limits).await.contains("`send_timeout`"));
        assert!((60..=76).contains(&began.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_was_taken_away_takes_no_other_with_it() {
        let (all, limits) = (Connections::default(), limits(1, 1));
        let first = all.admit(None, &limits).unwrap();
        let second = all.admit(None, &limits).unwrap();
        assert!(first.connection.close.is_cancelled());
        drop(first);
        assert_eq!(all.count(), 1, "the second is counted");
        // While something waits to be read, it is not idle, however its requests stand.
        second.connection.knows();
        second.connection.writing(true);
        assert_eq!(all.admit(None, &limits).unwrap_err(), NoPlace::All(1));
        second.connection.writing(false);
        assert!(all.admit(None, &limits).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_holds_without_the_others() {
        let all = Connections::default();
        let none = ClientLimits {
            head_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            send_timeout: Duration::ZERO,
            ..limits(9, 9)
        };
        let long = Duration::from_secs(86_400);
        let place = all.admit(None, &none).unwrap();
        assert!(tokio::time::timeout(long, place.connection.overdue(&none)).await.is_err());
        let idle = ClientLimits { idle_timeout: Duration::from_secs(300), ..none };
        drop(place.connection.begins(false));
        assert!(place.connection.overdue(&idle).await.contains("`client_idle_timeout`"));
        let send = ClientLimits { send_timeout: Duration::from_secs(60), ..none };
        let asked = place.connection.begins(true);
        asked.handed();
        assert!(place.connection.overdue(&send).await.contains("`send_timeout`"));
    }

    #[tokio::test]
    async fn who_showed_no_key_makes_room_also_while_it_is_answered() {
        let (all, limits) = (Connections::default(), limits(2, 2));
        let (stranger, known) =
            (all.admit(None, &limits).unwrap(), all.admit(None, &limits).unwrap());
        known.connection.knows();
        let _both = (stranger.connection.begins(false), known.connection.begins(false));
        let third = all.admit(None, &limits).unwrap();
        assert!(stranger.connection.close.is_cancelled() && !known.connection.close.is_cancelled());
        assert_eq!(stranger.connection.overdue(&limits).await, "others need its place");
        third.connection.knows();
        let _third = third.connection.begins(false);
        assert_eq!(all.admit(None, &limits).unwrap_err(), NoPlace::All(2));
    }

    #[tokio::test]
    async fn a_large_frame_on_a_shared_connection_goes_out_in_pieces() {
        let place = Connections::default().admit(None, &limits(1, 1)).unwrap();
        let whole = Bytes::from(vec![b'x'; 3 * PIECE + 5]);
        for (shared, frames) in [(false, 1), (true, 4)] {
            let body = http_body_util::Full::new(whole.clone());
            let mut body = ClientBody::new(body, place.connection.begins(shared));
            let (mut came, mut count) = (0, 0);
            while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                came += frame.unwrap().into_data().unwrap().len();
                count += 1;
                assert_eq!(body.size_hint().exact(), Some((whole.len() - came) as u64));
            }
            assert_eq!((came, count, body.is_end_stream()), (whole.len(), frames, true));
        }
    }
}
