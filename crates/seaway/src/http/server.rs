//! Listening, and the life of one client's connection.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::HOST;
use http::{HeaderValue, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::admission::{CameBy, Door};
use super::connection::{ClientBody, Connections, IncomingBody, Place, Sending};
use super::lane::HttpLane;
use super::tls::ServerTls;
use super::{Routes, address};
use crate::config::{ClientLimits, Listen};
use crate::drain::Drain;
use crate::state::AppState;
use crate::workers::Workers;

/// So much of what was written may wait to be sent, in bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 << 10;

/// An address that is held, not yet served.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// To be served with TLS.
    Tls(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address} is in use by another program{}", next(*.free))]
    InUse { address: SocketAddr, free: Option<u16> },
    #[error("cannot listen on {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {}", path.display())]
    Unix {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn next(free: Option<u16>) -> String {
    free.map_or_else(String::new, |port| format!("; port {port} is free (`--port {port}`)"))
}

/// Takes hold of an address.
///
/// # Errors
///
/// [`BindError`], with a free port where the wanted one is taken.
pub async fn bind(listen: &Listen) -> Result<Listener, BindError> {
    match listen {
        Listen::Tcp(address) => bind_tcp(*address).await.map(Listener::Tcp),
        Listen::Tls(address) => bind_tcp(*address).await.map(Listener::Tls),
        Listen::Unix(path) => {
            bind_unix(path).await.map_err(|source| BindError::Unix { path: path.clone(), source })
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(BindError::InUse { address, free: free_after(address).await })
        }
        bound => bound.map_err(|source| BindError::Tcp { address, source }),
    }
}

async fn free_after(mut address: SocketAddr) -> Option<u16> {
    for port in address.port().saturating_add(1)..=address.port().saturating_add(50) {
        address.set_port(port);
        if TcpListener::bind(address).await.is_ok() {
            return Some(port);
        }
    }
    None
}

/// A socket that a dead process left behind is replaced; one that answers is not.
async fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another program listens there",
                ));
            }
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

impl Listener {
    /// The address as it really is, with the port that the system chose.
    pub fn address(&self) -> Option<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Self::Tls(listener) => listener.local_addr().ok().map(Listen::Tls),
            Self::Unix(_, path) => Some(Listen::Unix(path.clone())),
        }
    }

    /// Serves connections until a drain begins.
    pub async fn serve(self, serving: Serving) {
        let drain = serving.state.drain.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.wait_begun() => break,
                accepted = self.accept(serving.door) => accepted,
            };
            match accepted {
                Ok((accepted, address)) => serving.begin(accepted, address),
                Err(error) if is_short(&error) => {
                    let relieved = serving.connections.relieve();
                    tracing::warn!(%error, relieved, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                // The connection is gone already, or came by another user.
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
        if let Self::Unix(_, path) = &self {
            let _gone = std::fs::remove_file(path);
        }
    }

    async fn accept(&self, door: Door) -> io::Result<(Accepted, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                limit_unsent(&stream);
                Ok((Accepted::Tcp(stream.into_std()?), Some(address.ip().to_canonical())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                if door == Door::Own && user != 0 && user != rustix::process::geteuid().as_raw() {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        "another user came by the owner's door",
                    ));
                }
                Ok((Accepted::Unix(stream.into_std()?), None))
            }
        }
    }
}

/// Has the system hold little that is not on its way, so that a slow reader is seen to read: it says that more can be
/// written once a good part of what it holds is gone, and by itself it would hold megabytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_unsent(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "the system holds as much of an answer as it likes");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_unsent(_: &TcpStream) {}

/// True where the system has no more to give: files, or memory for them.
fn is_short(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    short.iter().any(|short| error.raw_os_error() == Some(short.raw_os_error()))
}

/// What every connection of a listener is served with.
pub struct Serving {
    pub router: Routes,
    pub door: Door,
    pub state: Arc<AppState>,
    pub tasks: TaskTracker,
    pub workers: Workers,
    /// Those that share the limits.
    pub connections: Connections,
    /// What a listener with TLS accepts by.
    pub tls: Option<Arc<ServerTls>>,
}

impl Serving {
    /// Serves a connection, if there is a place for it.
    fn begin(&self, accepted: Accepted, address: Option<IpAddr>) {
        self.serve(move || accepted.adopt(), address);
    }

    /// The same for a connection that is the runtime's already, as a simulation has it.
    pub fn accept(&self, stream: Box<dyn ServerStream>, address: Option<IpAddr>) {
        self.serve(move || Ok(stream), address);
    }

    fn serve(
        &self,
        adopt: impl FnOnce() -> io::Result<Box<dyn ServerStream>> + Send + 'static,
        address: Option<IpAddr>,
    ) {
        let limits = self.state.snapshot.load().config.client;
        match self.connections.admit(address, &limits) {
            Ok(place) => {
                let (router, drain) = (self.router.clone(), self.state.drain.clone());
                let tls = self.tls.as_ref().map(|tls| tls.acceptor());
                let served = Served { place, limits, router, door: self.door, drain, tls };
                let task = served.run(adopt);
                self.tasks.spawn_on(task, self.workers.next());
            }
            Err(why) => tracing::warn!(%why, ?address, "a connection was closed at once"),
        }
    }
}

/// A connection that belongs to no thread yet.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Makes it the current thread's.
    fn adopt(self) -> io::Result<Box<dyn ServerStream>> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Box::new(UnixStream::from_std(stream)?),
        })
    }
}

/// Bytes both ways, of a client.
pub trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for T {}

/// How long a connection without a request may take to close in good order.
const LAST_MOMENT: Duration = Duration::from_millis(200);

async fn idle_for(place: &Place, time: Duration) {
    loop {
        place.connection.idle().await;
        tokio::time::sleep(time).await;
        if place.connection.is_idle() {
            return;
        }
    }
}

async fn after_cut(drain: &Drain) {
    drain.wait_cut().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// HTTP/2 names the host in a place of its own; who reads a request looks for it in one (RFC 9113, section 8.3.1).
fn name_host<B>(request: &mut hyper::Request<B>) {
    let authority = request.uri().authority().map(|host| HeaderValue::from_str(host.as_str()));
    if let Some(Ok(host)) = authority.filter(|_| !request.headers().contains_key(HOST)) {
        request.headers_mut().insert(HOST, host);
    }
}

/// Puts the path that is meant in the place of the one that was sent.
fn settle<B>(request: &mut hyper::Request<B>) {
    let Some(path) = address::settled(request.uri().path()) else { return };
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{path}{query}").parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// What one connection is served with.
struct Served {
    place: Place,
    limits: ClientLimits,
    router: Routes,
    door: Door,
    drain: Drain,
    tls: Option<TlsAcceptor>,
}

impl Served {
    async fn run(self, adopt: impl FnOnce() -> io::Result<Box<dyn ServerStream>>) {
        let Ok(stream) = adopt() else { return };
        let Some(tls) = &self.tls else { return connection(stream, self).await };
        let shaken = tokio::select! {
                biased;
            shaken = tls.accept(stream) => shaken,
            why = self.place.connection.overdue(&self.limits) => {
                return tracing::debug!(why, "a connection was closed");
            }
            // It asked nothing yet.
            () = self.drain.wait_begun() => return,
        };
        match shaken {
            Ok(stream) => connection(Box::new(stream), self).await,
            Err(error) => tracing::debug!(%error, "a client and this gateway do not agree on TLS"),
        }
    }
}

async fn connection(stream: Box<dyn ServerStream>, served: Served) {
    let Served { place, limits, router, door, drain, tls } = served;
    let came = CameBy { door, secure: tls.is_some(), connection: place.connection.clone() };
    let stream = Sending::new(stream, place.connection.clone(), limits.send_timeout);
    let rest = if router.has_lane() {
        let lane = HttpLane {
            routes: router.clone(),
            came: came.clone(),
            drain: drain.clone(),
            body_timeout: limits.body_timeout,
        };
        let Some(rest) = in_lane(&lane, stream, &place, &limits).await else { return };
        rest
    } else {
        stream
    };
    Box::pin(by_hyper(rest, &place, &limits, router, came, &drain)).await;
}

/// Resolves when a connection is to be looked after from outside: with nothing where it is not worth keeping, else when a
/// drain begins.
async fn interrupted(place: &Place, limits: &ClientLimits, drain: &Drain) -> Option<()> {
    tokio::select! {
        biased;
        why = place.connection.overdue(limits) => {
            tracing::debug!(why, "a connection was closed");
            None
        }
        () = drain.wait_begun() => Some(()),
    }
}

/// Resolves when a connection is no longer waited for in a drain.
async fn left_behind(place: &Place, drain: &Drain) {
    tokio::select! {
        // What asks nothing is not waited for, be it in the midst of a head.
        () = idle_for(place, LAST_MOMENT) => {}
        // Who does not even read the end of a cut answer is left.
        () = after_cut(drain) => {}
    }
}

/// Serves a connection by our own code for as long as that can; what it cannot is returned.
async fn in_lane(
    lane: &HttpLane,
    stream: ClientStream,
    place: &Place,
    limits: &ClientLimits,
) -> Option<ClientStream> {
    let mut served = std::pin::pin!(lane.serve(stream));
    tokio::select! {
        biased;
        rest = served.as_mut() => return rest,
        drains = interrupted(place, limits, &lane.drain) => drains?,
    }
    if place.connection.is_idle() {
        return None;
    }
    tokio::select! {
        biased;
        rest = served.as_mut() => rest,
        () = left_behind(place, &lane.drain) => None,
    }
}

async fn by_hyper(
    stream: ClientStream,
    place: &Place,
    limits: &ClientLimits,
    router: Routes,
    came: CameBy,
    drain: &Drain,
) {
    let body_timeout = limits.body_timeout;
    let open = place.connection.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(came.clone());
        name_host(&mut request);
        settle(&mut request);
        let underway = open.begins(request.version() >= Version::HTTP_2);
        let body = |body| Body::new(IncomingBody::new(body, body_timeout));
        let answering = router.answer(request.map(body));
        async move { Ok::<_, Infallible>(answering.await.map(|body| ClientBody::new(body, underway))) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Who asks nothing more, or half of it, is found by a look now and then (`overdue`): a timer that is set anew for each
    // request costs a system call.
    builder.http1().header_read_timeout(None);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        drains = interrupted(place, limits, drain) => {
            if drains.is_none() {
                return;
            }
            served.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = served.as_mut() => ended,
                () = left_behind(place, drain) => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that leaves is no trouble of ours; its record says so.
        tracing::debug!(%error, "a connection ended");
    }
}

/// A client's bytes, with a limit for who does not read.
type ClientStream = Sending<Box<dyn ServerStream>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_where_every_reader_looks() {
        for (uri, sent, expect) in [
            ("https://localhost:7329/x", None, Some("localhost:7329")),
            ("https://localhost:7329/x", Some("other"), Some("other")),
            ("/x", Some("localhost"), Some("localhost")),
            ("/x", None, None),
        ] {
            let mut request = hyper::Request::builder().uri(uri).body(()).unwrap();
            if let Some(host) = sent {
                request.headers_mut().insert(HOST, HeaderValue::from_static(host));
            }
            name_host(&mut request);
            let found = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(found, expect, "{uri} {sent:?}");
        }
    }
}
