//! Reaching an upstream: TCP, a unix socket or a proxy, and TLS with its true name.

mod pinned;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tower::Service;

use pinned::Pinned;

pub use pinned::is_good_by_itself;

use crate::causes::BoxError;
use crate::config::{ApiConfig, Proxy};
use crate::confine::outside;

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What opens connections in place of the machine's own network: a simulation.
pub trait Dialler: Send + Sync {
    /// Opens a connection to `host:port`.
    fn dial(&self, authority: String) -> Dialling;
}

/// Resolves to an open connection.
pub type Dialling = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn ByteStream>>> + Send>>;

/// Where connections are opened.
#[derive(Clone, Default)]
pub enum Network {
    /// The machine's own.
    #[default]
    Real,
    Simulated(Arc<dyn Dialler>),
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Real => "Real",
            Self::Simulated(_) => "Simulated",
        })
    }
}

/// A fresh connection.
pub struct Dialled {
    pub stream: Box<dyn ByteStream>,
    /// The server chose HTTP/2.
    pub http2: bool,
}

/// Why an upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot connect to {to}")]
    Connect {
        to: String,
        #[source]
        source: BoxError,
    },
    #[error("no connection to {to} within {} seconds", .limit.as_secs())]
    TimedOut { to: String, limit: Duration },
    #[error("TLS with {name} failed")]
    Tls {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the certificates in {path}")]
    CaFile {
        path: PathBuf,
        #[source]
        source: BoxError,
    },
    #[error("TLS cannot be set up")]
    Setup(#[source] BoxError),
}

/// Where to connect in place of the upstream's own address. Its name is asked for in TLS all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    Socket(PathBuf),
    Tcp(String, u16),
}

/// How to reach one upstream.
pub struct Dial {
    base: Uri,
    network: Network,
    /// May change while connections are open.
    detour: Mutex<Option<Detour>>,
    ca_file: Option<PathBuf>,
    proxy: Option<Matcher>,
    limit: Duration,
    tcp: HttpConnector,
    /// Made when first needed: reading the system's store takes longer than starting up.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Dial {
    pub fn new(api: &ApiConfig, network: &Network) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let proxy = match &api.proxy {
            Proxy::None => None,
            Proxy::Through { url, except, plain } => {
                let builder = Matcher::builder().no(except.as_str());
                Some(
                    if *plain { builder.all(url.as_str()) } else { builder.https(url.as_str()) }
                        .build(),
                )
            }
        };
        let detour = Mutex::new(api.socket.clone().map(Detour::Socket));
        Self {
            base: api.base_url.clone(),
            network: network.clone(),
            detour,
            ca_file: api.ca_file.clone(),
            proxy,
            limit: api.connect_timeout,
            tcp,
            tls: OnceLock::new(),
        }
    }

    /// Opens a connection, within the time-out. Dropped meanwhile, nothing is left open.
    ///
    /// # Errors
    ///
    /// [`DialError`], which names the place and the layer that failed.
    pub async fn connect(&self) -> Result<Dialled, DialError> {
        let timed_out = |_| DialError::TimedOut { to: self.place(), limit: self.limit };
        tokio::time::timeout(self.limit, self.open()).await.map_err(timed_out)?
    }

    /// The same upstream, to be reached by another way.
    pub fn another(&self) -> Self {
        Self {
            base: self.base.clone(),
            network: self.network.clone(),
            detour: Mutex::default(),
            ca_file: self.ca_file.clone(),
            proxy: None,
            limit: self.limit,
            tcp: self.tcp.clone(),
            tls: self.tls.get().cloned().map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// From now on connections go by here.
    pub fn go_by(&self, detour: Detour) {
        *self.detour.lock().unwrap_or_else(PoisonError::into_inner) = Some(detour);
    }

    fn detour(&self) -> Option<Detour> {
        self.detour.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if the connections are TLS, where both sides agree on a protocol.
    pub fn is_encrypted(&self) -> bool {
        self.base.scheme_str() == Some("https")
    }

    /// The upstream's own host and port.
    pub fn authority(&self) -> String {
        let port = self.base.port_u16().unwrap_or(if self.base.scheme_str() == Some("https") {
            443
        } else {
            80
        });
        format!("{}:{port}", self.base.host().unwrap_or_default())
    }

    fn place(&self) -> String {
        let own = || self.base.authority().map_or_else(String::new, ToString::to_string);
        match self.detour() {
            Some(Detour::Socket(path)) => format!("{} by {}", own(), path.display()),
            Some(Detour::Tcp(host, port)) => format!("{} by {host}:{port}", own()),
            None => own(),
        }
    }

    async fn open(&self) -> Result<Dialled, DialError> {
        let stream =
            self.plain().await.map_err(|source| DialError::Connect { to: self.place(), source })?;
        if !self.is_encrypted() {
            return Ok(Dialled { stream, http2: false });
        }
        let name = self.base.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let server =
            ServerName::try_from(name.clone()).map_err(|error| DialError::Setup(error.into()))?;
        let config = self.tls()?;
        let stream = TlsConnector::from(config).connect(server, stream).await;
        let stream =
            stream.map_err(|error| DialError::Tls { name, source: pinned::in_words(error) })?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { stream: Box::new(stream), http2 })
    }

    async fn plain(&self) -> Result<Box<dyn ByteStream>, BoxError> {
        if let Network::Simulated(dialler) = &self.network {
            return Ok(dialler.dial(self.authority()).await?);
        }
        match self.detour() {
            Some(Detour::Socket(path)) => return Ok(Box::new(connect_socket(&path).await?)),
            Some(Detour::Tcp(host, port)) => {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream));
            }
            None => {}
        }
        let mut tcp = self.tcp.clone();
        let stream = match self.proxy.as_ref().and_then(|proxy| proxy.intercept(&self.base)) {
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                tunnel.call(with_port(&self.base)?).await?
            }
            None => tcp.call(self.base.clone()).await?,
        };
        Ok(Box::new(stream.into_inner()))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, DialError> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make_tls()?);
        Ok(self.tls.get_or_init(|| config).clone())
    }

    fn make_tls(&self) -> Result<ClientConfig, DialError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = self.extra_roots()?;
        let platform = Verifier::new_with_extra_roots(own.clone(), provider.clone())
            .map_err(|error| DialError::Setup(error.into()))?;
        let verifier = Pinned { platform, own };
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| DialError::Setup(error.into()))?;
        // The verifier asks the platform's own first; rustls only calls every custom one dangerous.
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn extra_roots(&self) -> Result<Vec<CertificateDer<'static>>, DialError> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        let wrong = |source: BoxError| DialError::CaFile { path: path.clone(), source };
        let place = path.clone();
        let text = outside(move || std::fs::read(place)).map_err(|error| wrong(error.into()))?;
        let found = CertificateDer::pem_slice_iter(&text);
        let roots: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| wrong(error.into()))?;
        if roots.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(roots) }
    }
}

/// A socket's address has room for some hundred bytes.
#[cfg(not(target_os = "linux"))]
async fn connect_socket(path: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidInput {
            let length = path.as_os_str().len();
            let why =
                format!("a socket's path may have 103 bytes, and {} has {length}", path.display());
            std::io::Error::new(error.kind(), why)
        } else {
            error
        }
    })
}

/// A socket's address has room for some hundred bytes. A longer path is reached by way of its folder.
#[cfg(target_os = "linux")]
async fn connect_socket(path: &Path) -> std::io::Result<UnixStream> {
    if path.as_os_str().len() < 100 {
        return UnixStream::connect(path).await;
    }
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let folder = std::fs::File::open(path.parent().ok_or_else(missing)?)?;
    let short = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    UnixStream::connect(Path::new(&short).join(path.file_name().ok_or_else(missing)?)).await
}

/// A proxy is told the port even where the scheme implies it.
fn with_port(uri: &Uri) -> Result<Uri, http::Error> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Uri::builder().scheme("https").authority(format!("{host}:{port}")).path_and_query("/").build()
}
