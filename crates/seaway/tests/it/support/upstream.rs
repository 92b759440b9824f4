//! An upstream on loopback. A test takes each request and writes each byte of its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) struct Upstream {
    pub address: SocketAddr,
    inbox: UnboundedReceiver<Received>,
    connections: Arc<AtomicUsize>,
}

/// A request, whole, with the connection to answer it on.
pub(crate) struct Received {
    /// `POST /v1/messages?x HTTP/1.1`
    pub line: String,
    /// In the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    stream: TcpStream,
    back: UnboundedSender<TcpStream>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, inbox) = unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, requests.clone()));
            }
        });
        Self { address, inbox, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) -> Received {
        self.inbox.recv().await.expect("the upstream runs as long as the test")
    }

    /// A request that came already, if any.
    pub(crate) fn came(&mut self) -> Option<Received> {
        self.inbox.try_recv().ok()
    }

    /// How many connections were ever opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Answers every request from now on in the same way, each on its own task.
    pub(crate) fn serve<F>(mut self, answer: fn(Received) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Some(received) = self.inbox.recv().await {
                tokio::spawn(answer(received));
            }
        });
    }
}

async fn connection(mut stream: TcpStream, requests: UnboundedSender<Received>) {
    loop {
        let Some((line, headers, body)) = request(&mut stream).await else { return };
        let (back, mut returned) = unbounded_channel();
        if requests.send(Received { line, headers, body, stream, back }).is_err() {
            return;
        }
        match returned.recv().await {
            Some(kept) => stream = kept,
            None => return,
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<(String, Vec<(String, String)>, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let find = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    let mut body = vec![0; find("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    if find("transfer-encoding").is_some() {
        body = chunked(stream).await?;
    }
    Some((line, headers, body))
}

async fn chunked(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes the head of a chunked stream of events.
    pub(crate) async fn begin_events(&mut self) {
        self.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_up\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    pub(crate) async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
        self.write(out).await;
    }

    /// The same; false if the gateway has closed the connection.
    pub(crate) async fn try_chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let head = format!("{:x}\r\n", bytes.len());
        let chunk = [head.as_bytes(), bytes, b"\r\n"].concat();
        self.stream.write_all(&chunk).await.is_ok()
    }

    /// Ends the chunked body as it should end, and keeps the connection.
    pub(crate) async fn end(mut self) {
        self.write("0\r\n\r\n").await;
        self.keep();
    }

    /// Writes a whole answer and keeps the connection.
    pub(crate) async fn answer(mut self, head: &str, body: &str) {
        self.write(format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
            .await;
        self.keep();
    }

    pub(crate) fn keep(self) {
        let _ended = self.back.send(self.stream);
    }

    /// Breaks the connection so that the other side gets a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Waits until the gateway closes the connection.
    pub(crate) async fn gone(mut self) {
        let mut byte = [0];
        while let Ok(1) = self.stream.read(&mut byte).await {}
    }
}

/// Answers with a plain message.
pub(crate) async fn answer_json(received: Received) {
    let body = r#"{"id":"msg_1","type":"message","model":"claude-sonnet-4-5","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#;
    received.answer("200 OK\r\ncontent-type: application/json\r\nrequest-id: req_up", body).await;
}

/// Answers with a stream of these events, each a frame of its own.
pub(crate) async fn events(mut received: Received, events: &[String]) {
    received.begin_events().await;
    for event in events {
        received.chunk(event).await;
    }
    received.end().await;
}
