//! Reaching an upstream: TCP, a unix socket or a proxy, and TLS with its true name.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
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
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::config::{Api, Proxy};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A fresh connection.
pub struct Dialled {
    pub stream: Box<dyn Stream>,
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

/// How to reach one upstream.
pub struct Dial {
    base: Uri,
    socket: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    proxy: Option<Matcher>,
    limit: Duration,
    tcp: HttpConnector,
    /// Made when first needed: reading the system's store takes longer than starting up.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Dial {
    #[must_use]
    pub fn new(api: &Api) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let proxy = match &api.proxy {
            Proxy::None => None,
            Proxy::Through { url, except, plain } => {
                let builder = Matcher::builder().no(except.as_str());
                Some(if *plain { builder.all(url.as_str()) } else { builder.https(url.as_str()) }.build())
            }
        };
        Self { base: api.base_url.clone(), socket: api.socket.clone(), ca_file: api.ca_file.clone(), proxy, limit: api.connect_timeout, tcp, tls: OnceLock::new() }
    }

    /// Opens a connection, within the time-out.
    ///
    /// # Errors
    ///
    /// [`DialError`], which names the place and the layer that failed.
    pub async fn connect(&self) -> Result<Dialled, DialError> {
        let timed_out = |_| DialError::TimedOut { to: self.place(), limit: self.limit };
        tokio::time::timeout(self.limit, self.open()).await.map_err(timed_out)?
    }

    fn place(&self) -> String {
        match &self.socket {
            Some(path) => path.display().to_string(),
            None => self.base.authority().map_or_else(String::new, ToString::to_string),
        }
    }

    async fn open(&self) -> Result<Dialled, DialError> {
        let stream = self.plain().await.map_err(|source| DialError::Connect { to: self.place(), source })?;
        if self.base.scheme_str() != Some("https") {
            return Ok(Dialled { stream, http2: false });
        }
        let name = self.base.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let server = ServerName::try_from(name.clone()).map_err(|error| DialError::Setup(error.into()))?;
        let config = self.tls()?;
        let stream = TlsConnector::from(config).connect(server, stream).await;
        let stream = stream.map_err(|source| DialError::Tls { name, source })?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { stream: Box::new(stream), http2 })
    }

    async fn plain(&self) -> Result<Box<dyn Stream>, BoxError> {
        if let Some(path) = &self.socket {
            return Ok(Box::new(UnixStream::connect(path).await?));
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
        let verifier = Verifier::new_with_extra_roots(self.extra_roots()?, provider.clone());
        let verifier = verifier.map_err(|error| DialError::Setup(error.into()))?;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| DialError::Setup(error.into()))?;
        // The verifier is the platform's own; rustls only calls every custom one dangerous.
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn extra_roots(&self) -> Result<Vec<CertificateDer<'static>>, DialError> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        let wrong = |source: BoxError| DialError::CaFile { path: path.clone(), source };
        let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.into()))?;
        let roots: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| wrong(error.into()))?;
        if roots.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(roots) }
    }
}

/// A proxy is told the port even where the scheme implies it.
fn with_port(uri: &Uri) -> Result<Uri, http::Error> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Uri::builder().scheme("https").authority(format!("{host}:{port}")).path_and_query("/").build()
}
