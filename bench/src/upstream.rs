//! A scripted upstream. The query says what to answer, or, where there is none, the body whether to stream: `json` (1 KB), `small`, `sse`
//! (100 events at once), `paced` (100 events, 20 ms apart), `open` (a stream that stays
//! open until the client leaves; `/left` says how many left, and when the last one did).

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const EVENTS: usize = 100;
type BoxError = Box<dyn std::error::Error>;

#[derive(Default)]
struct Left {
    count: Cell<u64>,
    last: Cell<u128>,
}

pub async fn serve(arguments: &[String]) -> Result<(), BoxError> {
    let port: u16 = arguments.first().ok_or("expected a port")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let left = Rc::new(Left::default());
    tokio::task::LocalSet::new()
        .run_until(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::task::spawn_local(connection(stream, left.clone()));
            }
        })
        .await
}

/// Nanoseconds since the epoch: one clock for both processes.
pub fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

async fn connection(mut stream: TcpStream, left: Rc<Left>) {
    let mut held = Vec::with_capacity(64 << 10);
    while let Some((path, streams)) = request(&mut stream, &mut held).await {
        let done = match path.as_str() {
            path if path.contains("paced") => events(&mut stream, Duration::from_millis(20)).await,
            path if path.contains("sse") => events(&mut stream, Duration::ZERO).await,
            path if path.contains("open") => return open(&mut stream, &left).await,
            path if path.starts_with("/left") => {
                json(
                    &mut stream,
                    &format!("{{\"count\":{},\"last\":{}}}", left.count.get(), left.last.get()),
                )
                .await
            }
            path if streams && !path.contains("shape=") => {
                events(&mut stream, Duration::ZERO).await
            }
            path if path.contains("small") => json(&mut stream, &message(40)).await,
            _ => json(&mut stream, &message(700)).await,
        };
        if done.is_err() {
            return;
        }
    }
}

fn message(text: usize) -> String {
    format!(
        "{{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-bench\",\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{{\"input_tokens\":12,\"output_tokens\":200}}}}",
        "x".repeat(text)
    )
}

/// Reads one request whole; returns its path, and whether it asks for a stream.
async fn request(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<(String, bool)> {
    let head = loop {
        if let Some(end) = memchr::memmem::find(held, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    };
    let text = std::str::from_utf8(&held[..head]).ok()?;
    let path = text.split(' ').nth(1)?.to_owned();
    let length = text.lines().find_map(|line| {
        line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
    });
    let length: usize = length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
    while held.len() < head + length {
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
    let asks =
        |text: &str| memchr::memmem::find(&held[head..head + length], text.as_bytes()).is_some();
    let streams = asks("\"stream\":true") || asks("\"stream\": true");
    held.drain(..head + length);
    Some((path, streams))
}

async fn json(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_bench\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(name: &str, data: &str) -> String {
    let event = format!("event: {name}\ndata: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

fn start() -> String {
    let message = chunk(
        "message_start",
        "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"model\":\"claude-bench\",\"content\":[],\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}",
    );
    message
        + &chunk(
            "content_block_start",
            "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
        )
}

/// Each delta carries the time at which it was written.
async fn events(stream: &mut TcpStream, pace: Duration) -> std::io::Result<()> {
    stream.write_all(format!("{HEAD}{}", start()).as_bytes()).await?;
    for _ in 0..EVENTS {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        let data = format!(
            "{{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{}\"}}}}",
            now()
        );
        stream.write_all(chunk("content_block_delta", &data).as_bytes()).await?;
    }
    let end = chunk(
        "message_delta",
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":200}}",
    );
    let block = chunk("content_block_stop", "{\"type\":\"content_block_stop\",\"index\":0}");
    let stop = chunk("message_stop", "{\"type\":\"message_stop\"}");
    stream.write_all(format!("{block}{end}{stop}0\r\n\r\n").as_bytes()).await
}

async fn open(stream: &mut TcpStream, left: &Left) {
    if stream.write_all(format!("{HEAD}{}", start()).as_bytes()).await.is_ok() {
        let mut byte = [0];
        while matches!(stream.read(&mut byte).await, Ok(1)) {}
        left.last.set(now());
        left.count.set(left.count.get() + 1);
    }
}
