//! Listening, and the life of one client's connection.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::task::TaskTracker;
use tower::Service;

use super::address;
use super::admission::Door;
use crate::config::Listen;
use crate::drain::Drain;
use crate::workers::Workers;

/// How long a connection may be silent before its next request.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// An address that is held, not yet served.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
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
        Listen::Tcp(address) => match TcpListener::bind(address).await {
            Ok(listener) => Ok(Listener::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(BindError::InUse { address: *address, free: free_after(*address).await })
            }
            Err(source) => Err(BindError::Tcp { address: *address, source }),
        },
        Listen::Unix(path) => {
            bind_unix(path).await.map_err(|source| BindError::Unix { path: path.clone(), source })
        }
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
            Self::Unix(_, path) => Some(Listen::Unix(path.clone())),
        }
    }

    /// Serves connections until a drain begins.
    pub async fn serve(self, serving: Serving) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(serving.door) => accepted,
                () = serving.drain.wait_begun() => break,
            };
            match accepted {
                Ok(accepted) => {
                    let task = connection(
                        accepted,
                        serving.router.clone(),
                        serving.door,
                        serving.drain.clone(),
                    );
                    serving.tasks.spawn_on(task, serving.workers.next());
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting lets some be closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if let Self::Unix(_, path) = &self {
            let _gone = std::fs::remove_file(path);
        }
    }

    async fn accept(&self, door: Door) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?))
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
                Ok(Accepted::Unix(stream.into_std()?))
            }
        }
    }
}

/// What every connection of a listener is served with.
pub struct Serving {
    pub router: Router,
    pub door: Door,
    pub drain: Drain,
    pub tasks: TaskTracker,
    pub workers: Workers,
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

trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for T {}

async fn after_cut(drain: &Drain) {
    drain.wait_cut().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
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

async fn connection(accepted: Accepted, router: Router, door: Door, drain: Drain) {
    let Ok(stream) = accepted.adopt() else { return };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(door);
        settle(&mut request);
        router.clone().call(request.map(Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = drain.wait_begun() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served.as_mut() => ended,
                // Who does not even read the end of a cut answer is left.
                () = after_cut(&drain) => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that leaves is no trouble of ours; its record says so.
        tracing::debug!(%error, "a connection ended");
    }
}
