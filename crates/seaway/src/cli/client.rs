//! A small HTTP client for our own gateways: the demo, `status`, `doctor`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Speaks to one gateway. A connection per request: these are few.
pub(super) struct Client {
    to: GatewayPlace,
}

enum GatewayPlace {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A whole answer.
pub(super) struct ClientAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// How many pieces the body came in.
    pub frames: usize,
}

impl Client {
    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self { to: GatewayPlace::Tcp(address) }
    }

    pub(super) fn unix(path: &Path) -> Self {
        Self { to: GatewayPlace::Unix(path.to_owned()) }
    }

    pub(super) async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<ClientAnswer> {
        self.send(Method::GET, path, Vec::new(), headers).await
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<ClientAnswer> {
        self.send(Method::POST, path, body, headers).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<ClientAnswer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        match &self.to {
            GatewayPlace::Tcp(address) => {
                exchange(TcpStream::connect(address).await?, request).await
            }
            GatewayPlace::Unix(path) => exchange(UnixStream::connect(path).await?, request).await,
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<ClientAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let ask = async move {
        let answer = send.send_request(request).await?;
        let (head, mut body) = answer.into_parts();
        let (mut whole, mut frames) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                frames += 1;
                whole.extend_from_slice(&data);
            }
        }
        anyhow::Ok(ClientAnswer {
            status: head.status,
            headers: head.headers,
            body: whole.into(),
            frames,
        })
    };
    let (answer, _closed) = tokio::join!(ask, connection);
    answer
}

/// The address that clients use, of several: without TLS where there is one, since they know no certificate of ours.
pub(super) fn for_clients(addresses: &[String]) -> Option<&String> {
    let begins = |with: &'static str| move |address: &&String| address.starts_with(with);
    addresses.iter().find(begins("http://")).or(addresses.iter().find(begins("https://")))
}

/// An address that one can go to: who listens everywhere is at loopback too.
pub(super) fn reachable(address: String) -> String {
    address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}
