//! TLS upstreams: who they are is checked, HTTP/2 is used, proxies are gone through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::support::{ASK, Gateway};

struct Secure {
    port: u16,
    ca: tempfile::NamedTempFile,
    connections: Arc<AtomicUsize>,
    /// Answers wait until it is open.
    gate: watch::Sender<bool>,
    /// Requests that wait for it.
    held: watch::Receiver<usize>,
}

/// A TLS server of its own authority, whose certificate names `name`.
async fn secure(name: &str, protocols: &[&[u8]]) -> Secure {
    with_streams(name, protocols, 100).await
}

/// The same. Over HTTP/2 a connection has so many streams at once.
async fn with_streams(name: &str, protocols: &[&[u8]], streams: u32) -> Secure {
    with_certificate(
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap(),
        protocols,
        streams,
    )
    .await
}

async fn with_certificate(
    params: rcgen::CertificateParams,
    protocols: &[&[u8]],
    streams: u32,
) -> Secure {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certificate.pem()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let mut config = builder
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let (gate, open) = watch::channel(true);
    let (holds, held) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let (acceptor, open, holds) = (acceptor.clone(), open.clone(), holds.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (mut open, holds) = (open.clone(), holds.clone());
                    async move {
                        holds.send_modify(|held| *held += 1);
                        open.wait_for(|open| *open).await.unwrap();
                        holds.send_modify(|held| *held -= 1);
                        let version = format!("{:?}", request.version());
                        let host = request.headers().get("host").cloned().or_else(|| {
                            request.uri().authority().and_then(|name| name.as_str().parse().ok())
                        });
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let mut response = hyper::Response::new(Full::new(body));
                        response.headers_mut().insert("x-version", version.parse().unwrap());
                        response.headers_mut().insert("x-host", host.unwrap());
                        response
                            .headers_mut()
                            .insert("content-type", "application/json".parse().unwrap());
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                let mut builder =
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().max_concurrent_streams(streams);
                let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Secure { port, ca, connections, gate, held }
}

async fn gateway(secure: &Secure, host: &str, trusted: bool, extra: &[(&str, &str)]) -> Gateway {
    let url = format!("https://{host}:{}", secure.port);
    let ca = secure.ca.path().to_string_lossy().into_owned();
    let mut settings = vec![
        ("upstream.up.kind", "messages"),
        ("upstream.up.base_url", url.as_str()),
        ("upstream.up.retries", "0"),
    ];
    if trusted {
        settings.push(("upstream.up.ca_file", ca.as_str()));
    }
    settings.extend_from_slice(extra);
    Gateway::start(&settings).await
}

#[tokio::test]
async fn fifty_requests_are_one_handshake() {
    for (protocols, version) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], "HTTP/2.0"),
        (&[b"http/1.1".as_slice()][..], "HTTP/1.1"),
    ] {
        let secure = secure("localhost", protocols).await;
        let gateway = gateway(&secure, "localhost", true, &[]).await;
        let mut client = gateway.client().await;
        for _ in 0..50 {
            let answer = client.post("/v1/messages", ASK).await;
            assert_eq!(
                (answer.status, answer.text(), answer.header("x-version")),
                (200, ASK, Some(version))
            );
            assert_eq!(
                answer.header("x-host"),
                Some(format!("localhost:{}", secure.port).as_str())
            );
        }
        assert_eq!(secure.connections.load(Ordering::SeqCst), 1, "{version}");
    }
}

#[tokio::test]
async fn first_requests_share_a_connection_and_more_are_opened_when_its_streams_run_out() {
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    // The protocols, streams a connection, requests at once, connections.
    let table: [(&[&[u8]], u32, usize, usize); 5] = [
        (both, 100, 40, 1),
        (both, 10, 40, 4),
        (both, 1000, 250, 3),
        (both, 1, 5, 5),
        (&[b"http/1.1"], 0, 40, 40),
    ];
    for (protocols, streams, requests, connections) in table {
        let mut secure = with_streams("localhost", protocols, streams).await;
        let gateway = gateway(&secure, "localhost", true, &[]).await;
        let mut clients = Vec::new();
        for _ in 0..requests {
            clients.push(gateway.client().await);
        }
        for round in ["first", "second"] {
            secure.gate.send_replace(false);
            for client in &mut clients {
                client.ask("POST /v1/messages", &[], ASK).await;
            }
            secure.held.wait_for(|held| *held == requests).await.unwrap();
            secure.gate.send_replace(true);
            for client in &mut clients {
                let answer = client.answer().await;
                assert_eq!((answer.status, answer.text()), (200, ASK));
            }
            assert_eq!(
                secure.connections.load(Ordering::SeqCst),
                connections,
                "{round} round, {requests} requests, {streams} streams"
            );
        }
    }
}

/// As `openssl req -x509` makes it.
async fn authority(name: &str) -> Secure {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    with_certificate(params, &[], 100).await
}

#[tokio::test]
async fn an_authoritys_own_certificate_is_good_where_it_is_named_and_there_alone() {
    let (ours, theirs, other) =
        (authority("localhost").await, authority("localhost").await, authority("b.example").await);
    let named = gateway(&ours, "localhost", true, &[]).await;
    let answer = named.client().await.post("/v1/messages", ASK).await;
    assert_eq!((answer.status, answer.text()), (200, ASK));
    let ca_file = theirs.ca.path().to_string_lossy().into_owned();
    for (what, gateway) in [
        ("unnamed", gateway(&ours, "localhost", false, &[]).await),
        (
            "of another key",
            gateway(&ours, "localhost", false, &[("upstream.up.ca_file", &ca_file)]).await,
        ),
        ("of another name", gateway(&other, "localhost", true, &[]).await),
    ] {
        let answer = gateway.client().await.post("/v1/messages", ASK).await;
        assert_eq!(answer.status, 502, "{what}");
        let text = answer.text();
        assert!(
            text.contains("TLS with localhost failed: ") && text.contains("certificate"),
            "{what}: {text}"
        );
        assert!(
            !text.contains("CaUsedAsEndEntity") && !text.contains("UnknownIssuer"),
            "{what}: {text}"
        );
    }
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let right = secure("localhost", &[]).await;
    let wrong = secure("other.example", &[]).await;
    for (secure, trusted) in [(&right, false), (&wrong, true)] {
        let gateway = gateway(secure, "localhost", trusted, &[]).await;
        let answer = gateway.client().await.post("/v1/messages", ASK).await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("TLS with localhost failed"), "{}", answer.text());
    }
    let gateway =
        gateway(&right, "localhost", false, &[("upstream.up.ca_file", "/dev/null")]).await;
    let answer = gateway.client().await.post("/v1/messages", ASK).await;
    assert!(
        answer.text().contains("cannot use the certificates in /dev/null: it holds no certificate"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_proxy_is_gone_through_with_tls_to_the_true_end() {
    let secure = secure("upstream.example", &[b"http/1.1"]).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://user:pass@{}", proxy.local_addr().unwrap());
    let port = secure.port;
    let asked = tokio::spawn(async move {
        let (stream, _) = proxy.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut end = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut end).await });
        head
    });
    let gateway =
        gateway(&secure, "upstream.example", true, &[("upstream.up.proxy", &address)]).await;
    let answer = gateway.client().await.post("/v1/messages", ASK).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = asked.await.unwrap().to_lowercase();
    assert!(head.starts_with(&format!("connect upstream.example:{port} ")), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnz"), "{head}");
}
