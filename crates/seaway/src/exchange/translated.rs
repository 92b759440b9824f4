//! Answers in Messages that reach the client in one of OpenAI's dialects.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use seaway_wire::messages::{Fold, FoldError, Summary, UpstreamError as Said};
use seaway_wire::openai::{UpstreamFault, translate_error};
use seaway_wire::stage::{End, Out, Relay};
use seaway_wire::{Dialect, Fault, FaultKind, Meter, chat, responses};

use super::Exchange;
use super::relayed::{ERROR_LIMIT, WHOLE_LIMIT, assemble, kind_of};
use crate::drain;
use crate::egress::Egress;
use crate::headers;
use crate::pipe::{Patience, Pipe};
use crate::record::Outcome;
use crate::store::Keeper;
use crate::upstream::{ReadError, Reply, ReplyBody, Upstream, next_frame, read_whole};

/// How long the head of a stream waits for the first event, so that an error that comes in its
/// place can have a status, if no other limit is set.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// The least of it: an error that comes in place of the first event still has a status then.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

impl Exchange {
    pub(super) async fn translated(mut self, reply: Reply, mut headers: HeaderMap, upstream: &Upstream, tongue: Tongue, stream: bool) -> Response {
        let idle = upstream.idle_timeout();
        let encoded = headers.contains_key(CONTENT_ENCODING);
        // What the upstream says of its own body is not true of ours.
        for name in [CONTENT_ENCODING, ETAG, HeaderName::from_static("content-md5"), HeaderName::from_static("digest")] {
            headers.remove(name);
        }
        headers::add_openai_limits(&mut headers, jiff::Timestamp::now());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The client has seen no status yet.
        self.entry.record.status = 0;
        if !reply.status.is_success() {
            return self.translated_error(reply, headers, idle, upstream.passes_credentials()).await;
        }
        if encoded {
            return self.fault(&Fault::new(FaultKind::BadReply, "the upstream's answer is encoded although nobody asked for that; it cannot be read"));
        }
        let kind = kind_of(&reply.headers);
        let events = kind.contains("event-stream");
        // Streams that are labelled as something else are known; a page or JSON is none.
        if stream && !kind.contains("json") && !kind.starts_with("text/html") {
            return self.translated_stream(reply, headers, idle, tongue).await;
        }
        self.translated_whole(reply, headers, idle, Wanted { stream, events, tongue }).await
    }

    /// How long the head of an answer waits for its beginning. What the client waited for already counts.
    pub(super) fn head_patience(&self) -> Duration {
        let ping = self.runtime.config.ping;
        let whole = if ping.is_zero() { HEAD_PATIENCE } else { ping.min(HEAD_PATIENCE) };
        whole.saturating_sub(self.entry.age()).max(whole.min(LEAST_PATIENCE))
    }

    async fn translated_error(mut self, reply: Reply, headers: HeaderMap, idle: Option<Duration>, own_key: bool) -> Response {
        let status = reply.status.as_u16();
        let waits = headers.contains_key(http::header::RETRY_AFTER);
        match read_whole(reply.body, ERROR_LIMIT, idle).await {
            Ok(body) => {
                let fault = translate_error(status, &body, waits, own_key);
                self.entry.record.summary.error = Said::parse(&body);
                self.failed(&fault, headers)
            }
            Err(error) => {
                let fault = Fault::new(FaultKind::BadReply, format!("the upstream's error (status {status}) broke off"));
                self.fault(&fault.because(error))
            }
        }
    }

    /// Answers with an upstream's error in OpenAI's shape.
    fn failed(mut self, fault: &UpstreamFault, headers: HeaderMap) -> Response {
        let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let said = self.entry.record.summary.error.as_ref();
        self.entry.record.fault = Some(said.map_or_else(|| format!("status_{}", fault.status), |said| said.kind.clone()));
        self.entry.record.status = status.as_u16();
        self.entry.first_byte();
        self.entry.close(Outcome::Faulted);
        assemble(status, headers, Body::from(fault.body.clone()))
    }

    /// Waits for the first event, so that what fails before it is an ordinary error.
    async fn translated_stream(mut self, mut reply: Reply, mut headers: HeaderMap, idle: Option<Duration>, tongue: Tongue) -> Response {
        let (mut stream, keeper) = tongue.stream();
        let ping = self.runtime.config.ping;
        let patience = self.head_patience();
        let drain = self.house.drain.clone();
        let mut out = Out::new();
        // After that long the head leaves all the same, and the rest is the pipe's to say.
        let first = tokio::select! {
            first = tokio::time::timeout(patience, self.first_chunk(&mut reply.body, &mut stream, &mut out, idle)) => first,
            () = drain.wait_cut() => return self.fault(&drain::fault()),
        };
        if first.is_err() && !ping.is_zero() {
            out.push_back(Bytes::from_static(stream.sign_of_life()));
        }
        if let Ok(Err(error)) = first {
            return self.fault(&unreadable(error));
        }
        if let Some(fault) = stream.failure().cloned() {
            return self.failed(&fault, headers);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        self.entry.record.status = reply.status.as_u16();
        let patience = Patience { ping: Some(ping), idle };
        let pipe = Pipe::new(reply.body, stream, self.entry, patience, drain, reply.pass);
        assemble(reply.status, headers, Body::new(pipe.kept_by(keeper).after(out)))
    }

    /// Reads until there is something to send, or nothing more to read.
    async fn first_chunk(&mut self, body: &mut ReplyBody, stream: &mut Egress, out: &mut Out, idle: Option<Duration>) -> Result<(), ReadError> {
        while out.is_empty() {
            match next_frame(body, idle).await? {
                Some(frame) => stream.push(frame, out),
                None => {
                    stream.finish(End::Complete, None, out);
                }
            }
            self.entry.first_byte();
            // Kept at every step: a client that leaves has been billed for what came.
            self.entry.record.summary = stream.summary().clone();
        }
        Ok(())
    }

    async fn translated_whole(mut self, reply: Reply, headers: HeaderMap, idle: Option<Duration>, wanted: Wanted) -> Response {
        let kind = kind_of(&reply.headers);
        let body = match if wanted.events { self.folded(reply, idle).await } else { self.whole(reply, idle).await } {
            Ok(body) => body,
            Err(Unwhole::Said(fault)) => return self.failed(&fault, headers),
            Err(Unwhole::Fault(fault)) => return self.fault(&fault),
        };
        if wanted.stream {
            let message = format!("the upstream answered with `{kind}` where a stream of events was asked for; check its `base_url`");
            return self.fault(&Fault::new(FaultKind::BadReply, message));
        }
        match wanted.tongue.whole(&body).await {
            Ok(answer) => {
                self.entry.record.status = StatusCode::OK.as_u16();
                self.entry.close(Outcome::Completed);
                assemble(StatusCode::OK, headers, Body::from(answer))
            }
            Err(error) => self.fault(&Fault::new(FaultKind::BadReply, error.to_string())),
        }
    }

    async fn whole(&mut self, reply: Reply, idle: Option<Duration>) -> Result<Bytes, Unwhole> {
        let drain = self.house.drain.clone();
        let read = tokio::select! {
            read = read_whole(reply.body, WHOLE_LIMIT, idle) => read,
            () = drain.wait_cut() => return Err(Unwhole::Fault(drain::fault())),
        };
        let body = read.map_err(|error| Unwhole::Fault(unreadable(error)))?;
        self.entry.first_byte();
        self.entry.record.summary = Summary::of_json(&body);
        match &self.entry.record.summary.error {
            // An error that calls itself a success.
            Some(_) => Err(Unwhole::Said(translate_error(502, &body, false, false))),
            None => Ok(body),
        }
    }

    /// The upstream was asked for a stream although the client was not.
    async fn folded(&mut self, reply: Reply, idle: Option<Duration>) -> Result<Bytes, Unwhole> {
        let mut fold = Fold::default();
        self.fold_frames(reply, &mut fold, idle).await.map_err(|error| Unwhole::Fault(unreadable(error)))?;
        if self.house.drain.is_cutting() && !fold.settled() {
            return Err(Unwhole::Fault(drain::fault()));
        }
        match fold.finish() {
            Ok(folded) => Ok(Bytes::from(folded.body)),
            Err(FoldError::Upstream { status, body }) => Err(Unwhole::Said(translate_error(status, body.as_bytes(), true, false))),
            Err(error) => Err(Unwhole::Fault(Fault::new(FaultKind::BadReply, error.to_string()))),
        }
    }
}

/// What a whole answer is made of and for.
struct Wanted {
    /// The client asked for a stream.
    stream: bool,
    /// The upstream sends events.
    events: bool,
    tongue: Tongue,
}

/// The client's dialect, and what its answer depends on.
pub(super) enum Tongue {
    Chat(chat::Shape, chat::Stamp),
    Responses(Box<responses::Shape>, responses::Stamp, Option<Keeper>),
    /// A count of tokens, which is never streamed.
    Count,
}

impl Tongue {
    fn stream(self) -> (Egress, Option<Keeper>) {
        match self {
            Self::Chat(shape, stamp) => (Egress::Chat(Box::new(chat::Stream::new(shape, stamp))), None),
            Self::Responses(shape, stamp, keeper) => (Egress::Responses(Box::new(responses::Stream::new(*shape, stamp))), keeper),
            Self::Count => (Egress::Relay(Relay::new(Meter::opaque(Dialect::Responses))), None),
        }
    }

    async fn whole(self, body: &[u8]) -> Result<String, chat::NoMessage> {
        match self {
            Self::Chat(shape, stamp) => chat::completion(body, &shape, &stamp),
            Self::Responses(shape, stamp, keeper) => {
                let (answer, kept) = responses::response(body, *shape, stamp)?;
                let is_kept = match (keeper, kept) {
                    (Some(keeper), Some(kept)) => keeper.keep(kept).await,
                    (None, Some(_)) => false,
                    (_, None) => return Ok(answer),
                };
                Ok(if is_kept { answer } else { responses::unkept(&answer) })
            }
            Self::Count => responses::counted(body),
        }
    }
}

/// Why there is no whole message.
enum Unwhole {
    /// The upstream said so itself.
    Said(UpstreamFault),
    Fault(Fault),
}

fn unreadable(error: ReadError) -> Fault {
    let kind = if matches!(error, ReadError::Idle(_)) { FaultKind::TimedOut } else { FaultKind::BadReply };
    Fault::new(kind, error.to_string()).because(error)
}
