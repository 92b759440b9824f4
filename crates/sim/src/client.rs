//! Clients that ask and read as the plan says, and note what they saw.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seaway::http::server::Serving;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

use crate::http::{Reader, Stand};
use crate::plan::{Ask, ClientPlan, Reading, Sending, ShownKey, Surface};

/// The local keys, by caller.
pub const KEYS: [&str; 2] = ["sk-local-zero", "sk-local-one"];
pub const CALLERS: [&str; 2] = ["zero", "one"];
/// Nobody waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(900);
/// However slowly a request is sent, it goes in so many pieces.
const MOST_PIECES: usize = 400;

/// How an answer ended, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As HTTP says that it ends.
    Whole,
    /// The connection did, in its midst or before it.
    Broken,
    /// The client left, or did not read on.
    Left,
    /// Nothing happened for a quarter of an hour.
    Hangs,
}

/// What a client saw of one of its requests.
#[derive(Debug, Clone)]
pub struct Answered {
    pub number: u32,
    pub caller: u8,
    /// The whole request was taken by the connection.
    pub sent: bool,
    pub ended: Ended,
    pub status: Option<u16>,
    pub head: String,
    pub body: String,
    /// When it was over, in virtual milliseconds.
    pub at: u64,
}

pub type Seen = Arc<Mutex<Vec<Answered>>>;

/// What no answer of somebody else's, no log and no file may hold.
pub fn prompt(number: u32) -> String {
    format!("prompt-{number}-end")
}

/// What was said before, question and answer.
type Turns = Vec<(String, String)>;

/// The name of the model that is asked for: no other request has it.
pub fn model(number: u32, program: bool) -> String {
    format!("claude-sim-{}{number}", if program { "p" } else { "" })
}

fn request(ask: &Ask, caller: u8, model: &str, before: &Turns) -> Vec<u8> {
    let text = prompt(ask.number);
    let before = before.iter().flat_map(|(question, answer)| {
        [
            json!({"role": "user", "content": question}),
            json!({"role": "assistant", "content": answer}),
        ]
    });
    let messages: Vec<Value> = before.chain([json!({"role": "user", "content": text})]).collect();
    let (path, body) = match ask.surface {
        Surface::Messages => (
            "/v1/messages",
            json!({"model": model, "max_tokens": 9, "stream": ask.stream, "messages": messages}),
        ),
        Surface::Chat => (
            "/v1/chat/completions",
            json!({"model": model, "stream": ask.stream, "messages": messages}),
        ),
        Surface::Responses => {
            ("/v1/responses", json!({"model": model, "stream": ask.stream, "input": messages}))
        }
    };
    let key = match ask.key {
        ShownKey::Good => format!("authorization: Bearer {}\r\n", KEYS[usize::from(caller)]),
        ShownKey::Wrong => "x-api-key: sk-local-wrong\r\n".into(),
        ShownKey::None => String::new(),
    };
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Asks all that one connection asks.
pub async fn run(plan: ClientPlan, serving: Arc<Serving>, seen: Seen, began: Instant) {
    sleep(Duration::from_millis(plan.at)).await;
    let (mut near, far) = tokio::io::duplex(8 << 10);
    let address = IpAddr::from(Ipv4Addr::new(10, 0, 0, plan.caller + 1));
    serving.accept(Box::new(far), Some(address));
    let mut reader = Reader::default();
    let mut turns = Turns::new();
    for ask in &plan.asks {
        let mut answered = Answered {
            number: ask.number,
            caller: plan.caller,
            sent: false,
            ended: Ended::Broken,
            status: None,
            head: String::new(),
            body: String::new(),
            at: 0,
        };
        let (mut read, mut write) = tokio::io::split(&mut near);
        let model = model(ask.number, plan.program);
        let text = request(ask, plan.caller, &model, &turns);
        let deadline = Instant::now() + PATIENCE;
        let sending = async {
            let sent = send(&mut write, &text, ask.sending).await;
            match ask.sending {
                Sending::Leaves(_) if !sent => Some(Ended::Left),
                Sending::Stalls(_) if !sent => std::future::pending().await,
                _ => {
                    answered.sent = sent;
                    std::future::pending().await
                }
            }
        };
        let reading = receive(&mut read, &mut reader, ask.reading);
        answered.ended = timeout_at(deadline, async {
            tokio::select! {
                biased;
                ended = reading => ended,
                Some(ended) = sending => ended,
            }
        })
        .await
        .unwrap_or(Ended::Hangs);
        answered.status = reader.status();
        answered.head = reader.head.clone().unwrap_or_default();
        answered.body = String::from_utf8_lossy(&reader.body).into_owned();
        answered.at = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let goes_on = answered.ended == Ended::Whole && answered.sent;
        let said = said(ask, &answered);
        if plan.program && said.whole && !said.error {
            turns.push((prompt(ask.number), said.text));
        }
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(answered);
        if !goes_on {
            return;
        }
        reader.go_on();
    }
}

/// Sends a request; false if not all of it was, or could be.
async fn send(write: &mut (impl AsyncWriteExt + Unpin), text: &[u8], how: Sending) -> bool {
    match how {
        Sending::Whole => write.write_all(text).await.is_ok(),
        Sending::Slowly { bytes, every } => {
            // A long conversation must not take longer than anybody waits.
            let bytes = (bytes as usize).max(text.len() / MOST_PIECES).max(1);
            for piece in text.chunks(bytes) {
                if write.write_all(piece).await.is_err() {
                    return false;
                }
                sleep(Duration::from_millis(every)).await;
            }
            true
        }
        Sending::Leaves(at) | Sending::Stalls(at) => {
            let at = (at as usize).min(text.len());
            write.write_all(&text[..at]).await.is_ok() && at == text.len()
        }
    }
}

async fn receive(
    read: &mut (impl AsyncReadExt + Unpin),
    reader: &mut Reader,
    how: Reading,
) -> Ended {
    let leaving = match how {
        Reading::LeavesAt(at) => Some(Instant::now() + Duration::from_millis(at)),
        _ => None,
    };
    let (mut total, mut piece) = (0_u32, vec![0; 4096]);
    let mut stand = Stand::Open;
    while stand == Stand::Open {
        let most = match how {
            Reading::Slowly { bytes, every } => {
                sleep(Duration::from_millis(every)).await;
                bytes.max(1) as usize
            }
            Reading::Leaves(at) | Reading::Stalls(at) => at.saturating_sub(total) as usize,
            Reading::Eager | Reading::LeavesAt(_) => piece.len(),
        };
        if most == 0 {
            if matches!(how, Reading::Stalls(_)) {
                // It sits there until the gateway has enough of it, which it does not notice.
                sleep(Duration::from_secs(120)).await;
            }
            return Ended::Left;
        }
        let most = most.min(piece.len());
        let got = match leaving {
            Some(at) => match timeout_at(at, read.read(&mut piece[..most])).await {
                Ok(got) => got,
                Err(_) => return Ended::Left,
            },
            None => read.read(&mut piece[..most]).await,
        };
        match got {
            Ok(0) | Err(_) => return Ended::Broken,
            Ok(got) => {
                total = total.saturating_add(u32::try_from(got).unwrap_or(u32::MAX));
                stand = reader.push(&piece[..got]);
            }
        }
    }
    if stand == Stand::Whole { Ended::Whole } else { Ended::Broken }
}

/// What an answer says, in whichever dialect.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    /// It says of itself that it is all there.
    pub whole: bool,
    /// It tells of an error.
    pub error: bool,
    /// The id of a response that is said to be kept.
    pub kept: Option<String>,
}

/// Reads what came, whole or not.
pub fn said(ask: &Ask, answered: &Answered) -> Said {
    if answered.status != Some(200) {
        return Said { error: answered.status.is_some(), ..Said::default() };
    }
    if !ask.stream {
        let Ok(body) = serde_json::from_str::<Value>(&answered.body) else {
            return Said::default();
        };
        return said_at_once(ask.surface, &body);
    }
    let mut said = Said::default();
    // What is not ended by an empty line is no event.
    let end = answered.body.rfind("\n\n").map_or(0, |end| end + 2);
    for line in answered.body[..end].lines().filter_map(|line| line.strip_prefix("data: ")) {
        if line == "[DONE]" {
            said.whole = ask.surface == Surface::Chat && !said.error;
            continue;
        }
        let Ok(data) = serde_json::from_str::<Value>(line) else { continue };
        let kind = data["type"].as_str().unwrap_or_default();
        said.error |= kind == "error" || data.get("error").is_some_and(|error| !error.is_null());
        match (ask.surface, kind) {
            (Surface::Messages, "message_stop") => said.whole = true,
            (Surface::Messages, _) => {
                said.text += data["delta"]["text"].as_str().unwrap_or_default();
            }
            (Surface::Chat, _) => {
                said.text += data["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            }
            (Surface::Responses, "response.output_text.delta") => {
                said.text += data["delta"].as_str().unwrap_or_default();
            }
            (Surface::Responses, "response.completed") => {
                said.whole = true;
                said.kept = kept(&data["response"]);
            }
            (Surface::Responses, "response.failed" | "response.incomplete") => said.error = true,
            (Surface::Responses, _) => {}
        }
    }
    said
}

fn said_at_once(surface: Surface, body: &Value) -> Said {
    let (text, whole) = match surface {
        Surface::Messages => (&body["content"][0]["text"], body["stop_reason"].is_string()),
        Surface::Chat => (
            &body["choices"][0]["message"]["content"],
            body["choices"][0]["finish_reason"].is_string(),
        ),
        Surface::Responses => {
            (&body["output"][0]["content"][0]["text"], body["status"] == "completed")
        }
    };
    Said {
        text: text.as_str().unwrap_or_default().to_owned(),
        whole,
        error: body.get("error").is_some_and(|error| !error.is_null()),
        kept: if surface == Surface::Responses { kept(body) } else { None },
    }
}

fn kept(response: &Value) -> Option<String> {
    (response["store"] == true).then(|| response["id"].as_str().map(str::to_owned))?
}
