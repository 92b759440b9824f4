//! Upstreams that answer as the plan says, and note what they saw.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use seaway::dial::{ByteStream, Dialler, Dialling};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::http::{Reader, Stand};
use crate::plan::{Ask, Plan, Script, ScriptedAnswer, Trouble};

/// Bytes that are under way between two ends.
const PIPE: usize = 16 << 10;

/// What an upstream saw of one attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub number: u32,
    /// `a` or `b`.
    pub upstream: char,
    pub script: Script,
    /// Bytes of the answer that were written.
    pub written: usize,
    /// The length of its head.
    pub head: usize,
    /// All of it was.
    pub whole: bool,
    /// The gateway left in the midst of it.
    pub left: bool,
    /// Tokens that it says it served.
    pub tokens: (u64, u64),
    /// All that came: head and body of the request.
    pub request: String,
}

impl Attempt {
    /// One of which nothing is answered yet.
    pub fn of(
        number: u32,
        upstream: char,
        script: Script,
        head: usize,
        tokens: (u64, u64),
        request: String,
    ) -> Self {
        Self {
            number,
            upstream,
            script,
            written: 0,
            head,
            whole: false,
            left: false,
            tokens,
            request,
        }
    }
}

/// Everything that upstreams saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub attempts: Vec<Attempt>,
    /// Connections that are open.
    pub open: usize,
    /// Programs that run, by number.
    pub programs: BTreeSet<u32>,
    /// How many ever did.
    started: u32,
    /// How many of them work on a turn.
    pub working: i32,
    /// How each was started.
    pub launches: Vec<Launched>,
}

/// How a program was started.
#[derive(Debug, Clone)]
pub struct Launched {
    /// Everybody on the machine can read it.
    pub command_line: String,
    pub environment: String,
}

/// The upstreams of a run.
pub struct Upstreams {
    asks: HashMap<u32, Ask>,
    refused: Vec<u32>,
    dials: AtomicU32,
    seen: Mutex<Seen>,
}

impl Upstreams {
    pub fn of(plan: &Plan) -> Arc<Self> {
        Arc::new(Self {
            asks: plan.asks().map(|(_, ask)| (ask.number, ask.clone())).collect(),
            refused: plan.refused_dials.clone(),
            dials: AtomicU32::new(0),
            seen: Mutex::default(),
        })
    }

    pub fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a program was started; returns a number for it.
    pub fn start_program(&self, launch: Launched) -> u32 {
        let mut seen = self.lock();
        seen.started += 1;
        let id = seen.started;
        seen.programs.insert(id);
        seen.launches.push(launch);
        id
    }

    pub fn end_program(&self, id: u32) {
        self.lock().programs.remove(&id);
    }

    /// How many programs run.
    pub fn running(&self) -> usize {
        self.lock().programs.len()
    }

    /// How many of them work on a turn.
    pub fn working(&self) -> i32 {
        self.lock().working
    }

    /// Notes that a program works on a turn, or does not any more.
    pub fn works(&self, more: i32) {
        self.lock().working += more;
    }

    /// What is answered to the next attempt; none if no client asked.
    pub fn script(&self, number: u32) -> Option<Script> {
        let ask = self.asks.get(&number)?;
        let before = self.lock().attempts.iter().filter(|attempt| attempt.number == number).count();
        Some(ask.answers[before.min(ask.answers.len() - 1)])
    }

    /// Answers an attempt as its script has it, up to the trouble. Returns where it is noted, and whether that was all;
    /// nothing if the gateway left.
    pub async fn play(
        &self,
        attempt: Attempt,
        all: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Option<(usize, bool)> {
        let script = attempt.script;
        let at = {
            let mut seen = self.lock();
            seen.attempts.push(attempt);
            seen.attempts.len() - 1
        };
        tokio::time::sleep(Duration::from_millis(script.delay)).await;
        let end = script.trouble.map_or(all.len(), |(at, _)| all.len().min(at as usize));
        for piece in all[..end].chunks(script.piece.max(1) as usize) {
            if to.write_all(piece).await.is_err() {
                self.note(at, |attempt| attempt.left = true);
                return None;
            }
            self.note(at, |attempt| attempt.written += piece.len());
            if script.every > 0 {
                tokio::time::sleep(Duration::from_millis(script.every)).await;
            }
        }
        let whole = end == all.len();
        self.note(at, |attempt| attempt.whole = whole);
        Some((at, whole))
    }

    /// Notes more of an attempt.
    fn note(&self, at: usize, what: impl FnOnce(&mut Attempt)) {
        what(&mut self.lock().attempts[at]);
    }

    /// Serves one connection until either side has enough.
    async fn serve(
        self: Arc<Self>,
        upstream: char,
        mut stream: DuplexStream,
        broken: Arc<AtomicBool>,
    ) {
        self.lock().open += 1;
        let mut reader = Reader::default();
        let mut piece = vec![0; 4096];
        'connection: loop {
            let mut stand = reader.go_on();
            while stand == Stand::Open {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break 'connection,
                    Ok(read) => stand = reader.push(&piece[..read]),
                }
            }
            if stand == Stand::Wrong || !self.answer(upstream, &reader, &mut stream, &broken).await
            {
                break;
            }
        }
        self.lock().open -= 1;
    }

    /// Answers one request; false if the connection is over with it.
    async fn answer(
        &self,
        upstream: char,
        request: &Reader,
        stream: &mut DuplexStream,
        broken: &AtomicBool,
    ) -> bool {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let asked: Value = serde_json::from_str(&body).unwrap_or_default();
        let number = number_of(&asked);
        let Some(script) = self.script(number) else {
            // A question that no client asked, such as for models.
            let none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
            return stream.write_all(none).await.is_ok();
        };
        let streamed = asked["stream"] == true;
        let (head, answer, tokens) = written(number, script, streamed);
        let asked = request.head.clone().unwrap_or_default() + &body;
        let attempt = Attempt::of(number, upstream, script, head.len(), tokens, asked);
        let all = [head.into_bytes(), answer].concat();
        let Some((at, whole)) = self.play(attempt, &all, stream).await else { return false };
        match script.trouble {
            Some((_, Trouble::Reset)) => {
                broken.store(true, Ordering::Relaxed);
                false
            }
            Some((_, Trouble::Stall)) if !whole => {
                // Until the gateway has enough.
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                self.note(at, |attempt| attempt.left = true);
                false
            }
            Some((_, Trouble::Close | Trouble::Stall)) => false,
            None => script.keeps && !matches!(script.answer, ScriptedAnswer::Garbage),
        }
    }
}

/// The number of the one who asks.
fn number_of(asked: &Value) -> u32 {
    let model = asked["model"].as_str().unwrap_or_default();
    model.strip_prefix("claude-sim-").and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The text of an answer: what stands in it says to whom it belongs.
pub fn text(number: u32, pieces: u32) -> String {
    (0..pieces).map(|piece| piece_of(number, piece)).collect()
}

fn piece_of(number: u32, piece: u32) -> String {
    format!("m{number}_{piece} ")
}

/// The head, the body as it is sent, and the tokens that it tells of.
fn written(number: u32, script: Script, streamed: bool) -> (String, Vec<u8>, (u64, u64)) {
    let close = if script.keeps { "" } else { "connection: close\r\n" };
    match script.answer {
        ScriptedAnswer::Garbage => ("SSH-2.0-sim\r\n".into(), Vec::new(), (0, 0)),
        ScriptedAnswer::Error { status, retry_after } => {
            let body = json!({"type": "error", "error": {"type": "api_error", "message": format!("m{number}_e ")}}).to_string();
            let again =
                retry_after.map_or_else(String::new, |after| format!("retry-after: {after}\r\n"));
            let head = format!(
                "HTTP/1.1 {status} Sim\r\ncontent-type: application/json\r\nrequest-id: req_up\r\n{again}{close}content-length: {}\r\n\r\n",
                body.len()
            );
            (head, body.into_bytes(), (0, 0))
        }
        ScriptedAnswer::Message { pieces } => {
            let tokens = (1000 + u64::from(number), 10 + u64::from(pieces));
            let kind = if streamed { "text/event-stream" } else { "application/json" };
            let body = if streamed {
                events(number, pieces, tokens)
            } else {
                vec![message(number, pieces, tokens)]
            };
            let (framing, body) = if streamed || !script.length {
                let chunks = body.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
                ("transfer-encoding: chunked".to_owned(), chunks.collect::<String>() + "0\r\n\r\n")
            } else {
                let whole = body.concat();
                (format!("content-length: {}", whole.len()), whole)
            };
            // Each answer has the same id: what is the gateway's own must not depend on it.
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nrequest-id: req_up\r\n{close}{framing}\r\n\r\n"
            );
            (head, body.into_bytes(), tokens)
        }
    }
}

fn message(number: u32, pieces: u32, (input, output): (u64, u64)) -> String {
    json!({
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": format!("claude-sim-{number}"),
        "content": [{"type": "text", "text": text(number, pieces)}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": output}
    })
    .to_string()
}

fn events(number: u32, pieces: u32, tokens: (u64, u64)) -> Vec<String> {
    let data = data(number, pieces, tokens).into_iter();
    data.map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect()
}

/// The events of an answer: the name of each, and what it says as JSON.
pub fn data(number: u32, pieces: u32, (input, output): (u64, u64)) -> Vec<(&'static str, String)> {
    let start = json!({"type": "message_start", "message": {"id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": format!("claude-sim-{number}"), "content": [], "stop_reason": null, "usage": {"input_tokens": input, "output_tokens": 1}}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let mut all =
        vec![("message_start", start.to_string()), ("content_block_start", block.to_string())];
    // By far the most: no tree is made of each.
    all.extend((0..pieces).map(|piece| {
        let text = piece_of(number, piece);
        ("content_block_delta", format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#))
    }));
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": output}});
    all.extend([
        ("content_block_stop", json!({"type": "content_block_stop", "index": 0}).to_string()),
        ("message_delta", end.to_string()),
        ("message_stop", json!({"type": "message_stop"}).to_string()),
    ]);
    all
}

/// The way to the upstreams, for the gateway.
pub struct Way(pub Arc<Upstreams>);

impl Dialler for Way {
    fn dial(&self, authority: String) -> Dialling {
        let upstreams = self.0.clone();
        Box::pin(async move {
            let dial = upstreams.dials.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            if upstreams.refused.contains(&dial) {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let (near, far) = tokio::io::duplex(PIPE);
            let broken = Arc::<AtomicBool>::default();
            let name = authority.chars().next().unwrap_or_default();
            tokio::spawn(upstreams.serve(name, far, broken.clone()));
            let stream: Box<dyn ByteStream> = Box::new(Breakable { stream: near, broken });
            Ok(stream)
        })
    }
}

/// One end of a connection that may break.
struct Breakable {
    stream: DuplexStream,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        let at_end = matches!(read, Poll::Ready(Ok(()))) && into.filled().len() == before;
        if at_end && self.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
