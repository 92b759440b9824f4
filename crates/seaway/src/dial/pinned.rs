//! Certificates that are trusted by themselves, and what is wrong with others, in words.

use std::io;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// The platform's verifier, to which an owner's own certificates are known. One of these is also good by itself, where a
/// server shows the very same: `openssl req -x509` makes an authority's certificate, which no chain may end in.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) platform: Verifier,
    pub(super) own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.platform.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error)
                if self.own.iter().any(|own| own == end_entity) && is_good_by_itself(&error) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
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
        self.platform.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.platform.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

/// What webpki calls an authority's certificate that a server shows as its own; rustls has no name for it.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// True for a certificate that may be good in itself, and is not what a chain may end in.
pub fn is_good_by_itself(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("{other:?}").contains(AUTHORITY)
        }
        _ => false,
    }
}

/// Says what is wrong with a server's certificate, and what can be done, in place of the library's name for it.
pub(super) fn in_words(error: io::Error) -> io::Error {
    let Some(Error::InvalidCertificate(wrong)) =
        error.get_ref().and_then(|error| error.downcast_ref::<Error>())
    else {
        return error;
    };
    let words = match wrong {
        CertificateError::Other(other) if format!("{other:?}").contains(AUTHORITY) => {
            "the server shows the certificate of an authority as its own; if it is the right one, name this very certificate in the upstream's `ca_file`"
        }
        CertificateError::UnknownIssuer => {
            "no authority that is known here has issued the server's certificate; name its authority's, or the server's own, in the upstream's `ca_file`"
        }
        CertificateError::Other(_) => "the server's certificate is not as it should be",
        // The other errors are words already.
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}
