//! The simulated upstream: a small scripted Claude, for trying things out and for tests.
//!
//! It answers nothing but what the request says: it echoes, or follows the markers in
//! the last user text (see `sandbox/script.rs`). Every answer carries `seaway-simulated: true`.

mod check;
mod compose;
mod sample;
mod script;
mod tokens;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seaway_wire::Endpoint;
use seaway_wire::event::FromSse;
use seaway_wire::messages::Fold;
use serde_json::{Value, json};

use super::gate::Permit;
use super::{BoxError, Call, Payload, Reply, ReplyBody};
use check::CheckRefusal;
use compose::ComposedAnswer;
use script::Script;

/// The models it claims to have.
const MODELS: [(&str, &str); 3] = [
    ("sandbox-opus-1", "Sandbox Opus"),
    ("sandbox-sonnet-1", "Sandbox Sonnet"),
    ("sandbox-haiku-1", "Sandbox Haiku"),
];

/// A simulated Claude.
#[derive(Debug, Default)]
pub(super) struct Sandbox {
    count: AtomicU64,
    cache: tokens::Cache,
    /// How often each text with `[[times N]]` was asked.
    asked: Mutex<HashMap<blake3::Hash, u32>>,
}

/// A piece of an answer on its way.
#[derive(Debug, Clone)]
enum Step {
    Frame(Bytes),
    Pause(Duration),
    /// The connection breaks.
    Break,
}

impl Sandbox {
    /// Answers as the API would.
    pub(super) async fn answer(&self, call: Call, permit: Permit) -> Reply {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut reply = match (&call.method, call.target.endpoint()) {
            (&Method::POST, Some(Endpoint::Messages)) => {
                self.message(body_of(&call.body), &betas(&call.headers), number).await
            }
            (&Method::POST, Some(Endpoint::CountTokens)) => count(body_of(&call.body)),
            (&Method::GET, Some(Endpoint::Models)) => json_reply(&models()),
            (&Method::GET, Some(Endpoint::Model)) => model(call.target.id().unwrap_or_default()),
            _ => Reply::error(
                404,
                "not_found_error",
                &format!("the simulated upstream has no {} {}", call.method, call.target),
            ),
        };
        let id = format!("req_sandbox_{number:06}");
        for (name, value) in [("request-id", id.as_str()), ("seaway-simulated", "true")] {
            reply.headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("")),
            );
        }
        Reply { permit, ..reply }
    }

    async fn message(&self, body: Result<Value, CheckRefusal>, betas: &str, number: u64) -> Reply {
        if body.as_ref().is_ok_and(|request| request["thread"]["type"] == "continue") {
            return no_thread();
        }
        let request =
            match body.and_then(|request| check::message(&request, betas).map(|()| request)) {
                Ok(request) => request,
                Err(refusal) => return refused(&refusal),
            };
        let text = script::last_user_text(&request);
        let mut script = Script::parse(&text);
        if script.times.is_some_and(|times| self.asked_before(&text) >= times) {
            script.recover();
        }
        tokio::time::sleep(script.slow).await;
        let mut reply = match script.error.take() {
            Some((status, kind, message)) => Reply::error(status, &kind, &message),
            None => self.play(&request, &script, number),
        };
        for (name, value) in &script.headers {
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            {
                reply.headers.insert(name, value);
            }
        }
        reply
    }

    fn asked_before(&self, text: &str) -> u32 {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() > 10_000 {
            asked.clear();
        }
        let count = asked.entry(blake3::hash(text.as_bytes())).or_default();
        *count += 1;
        *count - 1
    }

    fn play(&self, request: &Value, script: &Script, number: u64) -> Reply {
        let answer = ComposedAnswer::compose(request, script, self.cache.count(request), number);
        let streamed = request["stream"].as_bool() == Some(true);
        let frames = if streamed {
            answer.frames
        } else {
            let mut fold = FromSse::<Fold>::default();
            answer.frames.iter().for_each(|frame| fold.push(frame));
            match fold.into_sink().finish() {
                Ok(folded) => vec![Bytes::from(folded.body)],
                Err(seaway_wire::messages::FoldError::Upstream { status, body }) => {
                    return Reply::json(status, body);
                }
                Err(error) => return Reply::error(500, "api_error", &error.to_string()),
            }
        };
        let mut headers = HeaderMap::new();
        let kind = if streamed { "text/event-stream; charset=utf-8" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        reply(StatusCode::OK, headers, body(steps(frames, script)))
    }
}

/// Lays the script's timing and cuts over the frames.
fn steps(frames: Vec<Bytes>, script: &Script) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut left = script.cut.or(script.end).unwrap_or(usize::MAX);
    let middle = frames.len() / 2;
    for (index, frame) in frames.into_iter().enumerate() {
        if index == middle && !script.stall.is_zero() {
            steps.push(Step::Pause(script.stall));
        }
        if index > 0 && !script.pace.is_zero() {
            steps.push(Step::Pause(script.pace));
        }
        let length = frame.len().min(left);
        left -= length;
        if length > 0 {
            steps.push(Step::Frame(frame.slice(..length)));
        }
        if left == 0 {
            steps.extend(script.cut.map(|_| Step::Break));
            break;
        }
    }
    steps
}

fn body(steps: Vec<Step>) -> ReplyBody {
    let stream = futures_util::stream::unfold(steps.into_iter(), |mut steps| async move {
        loop {
            let item: Result<_, BoxError> = match steps.next()? {
                Step::Frame(bytes) => Ok(Frame::data(bytes)),
                Step::Break => Err("the script cuts the connection here".into()),
                Step::Pause(time) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
            };
            return Some((item, steps));
        }
    });
    ReplyBody::Http(StreamBody::new(stream).boxed_unsync())
}

fn reply(status: StatusCode, headers: HeaderMap, body: ReplyBody) -> Reply {
    Reply { status, headers, body, attempts: 1, permit: Permit::free(), changes: Vec::new() }
}

fn json_reply(json: &Value) -> Reply {
    Reply::json(200, json.to_string())
}

/// What the client announced.
fn betas(headers: &HeaderMap) -> String {
    let values = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// Conversations are not kept here. The SDKs send the whole of it anew after this (anthropic 2.11, `lib/threads`).
fn no_thread() -> Reply {
    let error = json!({"type": "invalid_request_error", "message": "thread.previous_message_id: no such thread", "details": {"error_code": "thread_not_found"}});
    Reply::json(400, json!({"type": "error", "error": error}).to_string())
}

fn refused(refusal: &CheckRefusal) -> Reply {
    Reply::error(refusal.status, refusal.kind, &refusal.message)
}

fn body_of(payload: &Payload) -> Result<Value, CheckRefusal> {
    match payload {
        Payload::Whole(bytes) => serde_json::from_slice(bytes)
            .map_err(|error| format!("The request body is not valid JSON: {error}").into()),
        Payload::Streamed(_) => Err("The request body must be JSON".into()),
    }
}

/// Estimates the tokens that a request would send, by the length of its texts.
pub(super) fn estimate(request: &Value) -> u64 {
    tokens::of_request(request)
}

fn count(body: Result<Value, CheckRefusal>) -> Reply {
    match body.and_then(|request| check::conversation(&request).map(|()| request)) {
        Ok(request) => json_reply(&json!({"input_tokens": tokens::of_request(&request)})),
        Err(refusal) => refused(&refusal),
    }
}

fn models() -> Value {
    let data: Vec<Value> = MODELS.iter().map(|(id, name)| entry(id, name)).collect();
    json!({"data": data, "has_more": false, "first_id": MODELS[0].0, "last_id": MODELS[MODELS.len() - 1].0})
}

fn entry(id: &str, name: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z", "max_input_tokens": 200_000, "max_tokens": 64_000, "capabilities": capabilities()})
}

/// What the models take, in the words of the Models API.
fn capabilities() -> Value {
    let yes = json!({"supported": true});
    json!({
        "effort": {"supported": true, "low": yes, "medium": yes, "high": yes, "xhigh": yes, "max": yes},
        "thinking": {"supported": true, "types": {"adaptive": yes, "enabled": yes}},
        "structured_outputs": yes,
    })
}

fn model(id: &str) -> Reply {
    match MODELS.iter().find(|(known, _)| *known == id) {
        Some((id, name)) => json_reply(&entry(id, name)),
        None => Reply::error(404, "not_found_error", &format!("model: {id}")),
    }
}
