//! TLS of our own: a certificate that is read again when it is renewed, and clients that may have to show one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::TlsAcceptor;

use crate::causes::BoxError;
use crate::config::TlsConfig;
use crate::dial::is_good_by_itself;
use crate::trusted::{self, Modes};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The files of a listener with TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot use {}", path.display())]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    #[source]
    source: BoxError,
}

/// What connections are accepted with.
pub struct ServerTls {
    files: TlsConfig,
    modes: Modes,
    current: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the setting and the file.
    pub fn load(files: TlsConfig, modes: Modes) -> Result<Arc<Self>, TlsError> {
        let current = ArcSwap::from_pointee(read(&files, modes)?);
        Ok(Arc::new(Self { files, modes, current }))
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Looks now and then whether the files were renewed, and takes them over. What cannot be used is told, and the one
    /// before goes on.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = self.stamps();
        let mut every = tokio::time::interval(LOOK);
        loop {
            every.tick().await;
            let now = self.stamps();
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.files, self.modes) {
                Ok(config) => {
                    self.current.store(Arc::new(config));
                    tracing::info!(cert = %self.files.cert.display(), "the certificate was renewed");
                }
                // Certificate and key are rarely written at once; the next change is looked at too.
                Err(error) => {
                    let error = crate::causes::chain(&error);
                    tracing::warn!(
                        error,
                        "the renewed certificate cannot be used; the one before still is"
                    );
                }
            }
        }
    }

    /// When the files were written, and how long they are.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsConfig { cert, key, client_ca } = &self.files;
        let stamp = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        [cert, key].into_iter().chain(client_ca).map(stamp).collect()
    }
}

fn read(files: &TlsConfig, modes: Modes) -> Result<ServerConfig, TlsError> {
    let chain = certificates("tls.cert", &files.cert, modes)?;
    let wrong = |source| TlsError { setting: "tls.key", path: files.key.clone(), source };
    let text = trusted::read(&files.key, modes).map_err(|error| wrong(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| wrong("it holds no private key in PEM".into()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(clients(path, modes, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            wrong("it is not the key of the certificate in `tls.cert`".into())
        }
        other => wrong(other.into()),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| wrong(error.into()))?;
    Ok(config)
}

fn certificates(
    setting: &'static str,
    path: &Path,
    modes: Modes,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source: BoxError| TlsError { setting, path: path.to_owned(), source };
    let text = trusted::read(path, modes).map_err(|error| wrong(error.into()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| wrong(error.into()))?;
    if found.is_empty() { Err(wrong("it holds no certificate in PEM".into())) } else { Ok(found) }
}

/// Who checks that clients show a certificate that is known, or that somebody known has issued.
fn clients(
    path: &Path,
    modes: Modes,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let own = certificates("tls.client_ca", path, modes)?;
    let wrong =
        |source: BoxError| TlsError { setting: "tls.client_ca", path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in &own {
        roots.add(certificate.clone()).map_err(|error| wrong(error.into()))?;
    }
    let chains = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|error| wrong(error.into()))?;
    Ok(Arc::new(KnownClients { chains, own }))
}

/// Clients with a certificate of these authorities, or with the very one that is named.
#[derive(Debug)]
struct KnownClients {
    chains: Arc<dyn ClientCertVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for KnownClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.chains.verify_client_cert(end_entity, intermediates, now) {
            Err(error)
                if is_good_by_itself(&error) && self.own.iter().any(|own| own == end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
