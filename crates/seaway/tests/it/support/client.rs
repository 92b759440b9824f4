//! A client on a raw connection: it shows what really came, piece by piece.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client {
    stream: TcpStream,
    held: Vec<u8>,
    key: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended as HTTP says a body ends.
    pub whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "`{name}` came twice");
        first
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, key: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, held: Vec::new(), key: key.map(str::to_owned) }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes a request; `headers` are whole lines.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[&str], body: &str) {
        let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(key) = &self.key {
            head.push_str(&format!("X-Api-Key: {key}\r\n"));
        }
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !body.is_empty() {
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        self.write(format!("{head}\r\n{body}")).await;
    }

    /// Asks for a message and reads the whole answer.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), &[], body).await;
        self.answer().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], "").await;
        self.answer().await
    }

    /// More bytes, or false at the end.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 16384];
        let read = self.stream.read(&mut piece).await.unwrap_or(0);
        self.held.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Reads a status line and headers.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.more().await,
                "the connection ended before an answer: {:?}",
                String::from_utf8_lossy(&self.held)
            );
        };
        let head = String::from_utf8(self.held.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Answer { status, headers: headers.collect(), body: Vec::new(), whole: false }
    }

    /// Reads a whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if let Some(length) =
            answer.header("content-length").map(|text| text.parse::<usize>().unwrap())
        {
            while self.held.len() < length && self.more().await {}
            answer.whole = self.held.len() >= length;
            answer.body = self.held.drain(..length.min(self.held.len())).collect();
            return answer;
        }
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{answer:?}");
        loop {
            match self.chunk().await {
                Some(chunk) if chunk.is_empty() => {
                    answer.whole = true;
                    return answer;
                }
                Some(chunk) => answer.body.extend(chunk),
                None => return answer,
            }
        }
    }

    /// The next chunk; empty at the body's end, `None` if the connection broke.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(end) = self.held.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let size =
            usize::from_str_radix(std::str::from_utf8(&self.held[..line]).unwrap(), 16).unwrap();
        while self.held.len() < line + 2 + size + 2 {
            if !self.more().await {
                return None;
            }
        }
        let chunk = self.held[line + 2..line + 2 + size].to_vec();
        self.held.drain(..line + 2 + size + 2);
        Some(chunk)
    }

    /// True if the connection is closed without another byte.
    pub(crate) async fn closed(&mut self) -> bool {
        self.held.is_empty() && !self.more().await
    }
}
