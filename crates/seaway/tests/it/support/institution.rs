//! An institution's gateway: Messages and Chat below `/argoapi`, by TLS with a certificate of its own authority, with
//! rules of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

use super::{Gateway, ports};

type Body = BoxBody<Bytes, hyper::Error>;

/// What the institution heard and had.
#[derive(Default)]
struct Seen {
    /// Method and path with query, headers as text, body.
    asked: Mutex<Vec<(String, String, Value)>>,
    handshakes: AtomicUsize,
    /// Connections on which something was asked.
    used: AtomicUsize,
}

pub(crate) struct Institution {
    pub port: u16,
    folder: tempfile::TempDir,
    seen: Arc<Seen>,
    serving: tokio::task::JoinHandle<()>,
    acceptor: TlsAcceptor,
    claude: Arc<Gateway>,
}

impl Institution {
    pub(crate) async fn start() -> Self {
        Self::named("localhost").await
    }

    /// One whose certificate has this name.
    pub(crate) async fn named(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let config = builder
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let claude = Arc::new(Gateway::start(&[("upstream.claude.kind", "sandbox")]).await);
        let port = ports::reserved("127.0.0.1");
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let seen = Arc::new(Seen::default());
        let serving = tokio::spawn(serve(listener, acceptor.clone(), seen.clone(), claude.clone()));
        Self { port, folder, seen, serving, acceptor, claude }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/argoapi", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Goes away with all its connections.
    pub(crate) async fn stop(&mut self) {
        self.serving.abort();
        let _cut = (&mut self.serving).await;
    }

    pub(crate) async fn start_again(&mut self) {
        // Somebody's connection to elsewhere may have been given the port meanwhile.
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(error) if tries == 1000 => panic!("port {}: {error}", self.port),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
            tries += 1;
        };
        self.serving = tokio::spawn(serve(
            listener,
            self.acceptor.clone(),
            self.seen.clone(),
            self.claude.clone(),
        ));
    }

    pub(crate) fn handshakes(&self) -> usize {
        self.seen.handshakes.load(Ordering::SeqCst)
    }

    pub(crate) fn used(&self) -> usize {
        self.seen.used.load(Ordering::SeqCst)
    }

    /// What was asked but for lists of models: line, headers, body.
    pub(crate) fn asked(&self) -> Vec<(String, String, Value)> {
        self.seen
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|(line, ..)| !line.starts_with("GET"))
            .cloned()
            .collect()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Seen>,
    claude: Arc<Gateway>,
) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (acceptor, seen, claude) = (acceptor.clone(), seen.clone(), claude.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            seen.handshakes.fetch_add(1, Ordering::SeqCst);
            let first = Arc::new(AtomicUsize::new(0));
            let service = tower::service_fn(move |request: Request<Incoming>| {
                let (seen, claude, first) = (seen.clone(), claude.clone(), first.clone());
                async move {
                    if first.fetch_add(1, Ordering::SeqCst) == 0 {
                        seen.used.fetch_add(1, Ordering::SeqCst);
                    }
                    answer(request, &seen, &claude).await.ok_or("the line breaks")
                }
            });
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    }
}

fn said(status: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// An answer, or none: then the connection breaks.
async fn answer(
    request: Request<Incoming>,
    seen: &Seen,
    claude: &Gateway,
) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return None;
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    seen.asked.lock().unwrap().push((
        format!("{} {}", head.method, head.uri),
        format!("{:?}", head.headers),
        asked.clone(),
    ));
    if asked.to_string().contains("break the line") {
        return None;
    }
    if head.headers.get("x-api-key").is_none_or(|key| key != "alice") {
        return Some(said(
            401,
            &json!({"type": "error", "error": {"type": "authentication_error", "message": "who are you?"}}),
        ));
    }
    let strict = asked["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|tool| tool["strict"] == true || tool["function"]["strict"] == true);
    Some(match head.uri.path() {
        _ if strict => said(
            400,
            &json!({"type": "error", "error": {"type": "invalid_request_error", "message": "strict tools are against our policy"}}),
        ),
        "/argoapi/v1/models" => said(
            200,
            &json!({"object": "list", "data": [
                {"id": "gpt4o", "object": "model"},
                {"id": "o3-mini", "internal_id": "gpto3mini", "object": "model"},
                {"id": "Claude Opus 4.8", "internal_id": "claude-opus-4-8", "object": "model"},
            ]}),
        ),
        "/argoapi/v1/messages" if asked["stream"] != true => said(
            400,
            &json!({"type": "error", "error": {"type": "invalid_request_error", "message": "long answers must be streamed"}}),
        ),
        "/argoapi/v1/messages" => by_claude(claude, body).await,
        "/argoapi/v1/messages/count_tokens" => said(200, &json!({"input_tokens": 7})),
        "/argoapi/v1/chat/completions" if asked["user"].is_null() => {
            said(500, &json!({"error": {"message": "no user"}}))
        }
        "/argoapi/v1/chat/completions" => said(
            200,
            &json!({"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}),
        ),
        _ => said(404, &json!({"error": {"message": "there is no such thing"}})),
    })
}

/// What the simulated Claude says to it, as it comes.
async fn by_claude(claude: &Gateway, body: Bytes) -> Response<Body> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{}/v1/messages", claude.address))
        .header("x-api-key", super::KEY)
        .header("content-type", "application/json");
    let answer = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let mut response = Response::builder().status(head.status);
    if let Some(kind) = head.headers.get("content-type") {
        response = response.header("content-type", kind);
    }
    response.body(body.boxed()).unwrap()
}
