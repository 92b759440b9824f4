//! TLS of the gateway's own: who it is, who may come, and what happens when its certificate is renewed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::support::{ASK, Gateway, KEY};

/// A certificate with its key.
struct Pair {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
    key_pem: String,
}

impl Pair {
    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// One that vouches for itself.
    fn alone(name: &str, authority: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        Self::of(&params.self_signed(&key).unwrap(), &key)
    }

    fn write(&self, folder: &Path) -> [String; 2] {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, &self.pem).unwrap();
        std::fs::write(&key, &self.key_pem).unwrap();
        [cert, key].map(|path| path.to_string_lossy().into_owned())
    }
}

/// An authority, and a client's certificate that it issued.
fn issued() -> (String, Pair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let pair = Pair::of(&params.signed_by(&key, &issuer).unwrap(), &key);
    (issuer.pem(), pair)
}

/// Shakes hands as a client that trusts this one, and may have a certificate to show.
async fn connect(
    address: SocketAddr,
    trusted: &Pair,
    own: Option<&Pair>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())
            .unwrap(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

/// Asks for a message; the status, or why there is none.
async fn status(mut stream: TlsStream<TcpStream>) -> std::io::Result<String> {
    let ask = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{ASK}",
        ASK.len()
    );
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

async fn gateway(files: &[String; 2], more: &[(&str, &str)]) -> Gateway {
    let mut settings = vec![
        ("upstream.s.kind", "sandbox"),
        ("alias.claude-sonnet-4-5", "sandbox-sonnet-1"),
        ("tls.cert", files[0].as_str()),
        ("tls.key", files[1].as_str()),
    ];
    settings.extend_from_slice(more);
    Gateway::start(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_and_a_renewed_one_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Pair::alone("localhost", false), Pair::alone("localhost", false));
    let files = first.write(folder.path());
    let gateway = gateway(&files, &[]).await;
    let url = gateway.app.addresses[0].to_string();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    for protocol in ["http/1.1", "h2"] {
        let stream = connect(gateway.address, &first, None, protocol).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    }
    let stream = connect(gateway.address, &first, None, "http/1.1").await.unwrap();
    assert_eq!(status(stream).await.unwrap(), "200");
    assert!(connect(gateway.address, &second, None, "h2").await.is_err(), "not that one");
    // Another gateway comes by HTTP/2.
    let base = format!("https://localhost:{}", gateway.address.port());
    let before = Gateway::start(&[
        ("upstream.up.kind", "messages"),
        ("upstream.up.base_url", &base),
        ("upstream.up.api_key", KEY),
        ("upstream.up.ca_file", &files[0]),
    ])
    .await;
    let answer = before.client().await.post("/v1/messages", ASK).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Half of a renewal is no certificate: the one before goes on.
    std::fs::write(&files[0], &second.pem).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(connect(gateway.address, &first, None, "h2").await.is_ok());
    second.write(folder.path());
    while connect(gateway.address, &second, None, "h2").await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_known_certificate_do_not_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Pair::alone("localhost", false);
    let files = server.write(folder.path());
    let ((authority, client), own) = (issued(), Pair::alone("me", true));
    let known = folder.path().join("clients.pem");
    std::fs::write(&known, authority + &own.pem).unwrap();
    let gateway = gateway(&files, &[("tls.client_ca", &known.to_string_lossy())]).await;
    let strangers = [Pair::alone("me", true), issued().1];
    for (what, shown, good) in [
        ("none", None, false),
        ("of another authority", Some(&strangers[1]), false),
        ("vouches for itself", Some(&strangers[0]), false),
        ("issued by a known authority", Some(&client), true),
        ("the very one", Some(&own), true),
    ] {
        // The server's refusal comes after the client's side of the handshake is done.
        let answered = match connect(gateway.address, &server, shown, "http/1.1").await {
            Ok(stream) => status(stream).await,
            Err(error) => Err(error),
        };
        assert_eq!(
            answered.as_ref().is_ok_and(|status| status == "200"),
            good,
            "{what}: {answered:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Pair::alone("localhost", false);
    let files = server.write(folder.path());
    let gateway = gateway(&files, &[("head_timeout", "300ms")]).await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    let mut plain = TcpStream::connect(gateway.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    for stream in [&mut silent, &mut plain] {
        let mut said = Vec::new();
        let _ended = stream.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Pair::alone("a", false), Pair::alone("b", false));
    let [cert, key] = one.write(folder.path());
    let odd = folder.path().join("odd.pem").to_string_lossy().into_owned();
    for (content, files, expect) in [
        ("nothing", [&odd, &key], "tls.cert: cannot use"),
        ("nothing", [&cert, &odd], "it holds no private key in PEM"),
        (other.key_pem.as_str(), [&cert, &odd], "it is not the key of the certificate"),
    ] {
        std::fs::write(&odd, content).unwrap();
        let setting = seaway::config::TlsConfig {
            cert: files[0].into(),
            key: files[1].into(),
            client_ca: None,
        };
        let error = seaway::http::tls::ServerTls::load(setting, seaway::trusted::Modes::Strict);
        let error = error.err().map(|error| seaway::causes::chain(&error)).unwrap();
        assert!(error.contains(expect), "{error}");
    }
}
