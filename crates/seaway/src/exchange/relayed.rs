//! Answers that reach the client in the dialect in which the upstream gave them.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use seaway_wire::messages::{Fold, FoldError, Summary, UpstreamError as Said};
use seaway_wire::sse::Decoder;
use seaway_wire::stage::{Out, Relay};
use seaway_wire::{Dialect, Fault, FaultKind, Meter, chat, responses};

use super::translated::Tongue;
use super::{Answered, Exchange, Form, Manner};
use crate::egress::Egress;
use crate::pipe::{Patience, Pipe};
use crate::record::Outcome;
use crate::upstream::{ReadError, Reply, ReplyBody, next_frame, read_whole};
use crate::{answer, drain, headers};

/// The largest error body that is held to be looked at.
pub(super) const ERROR_LIMIT: usize = 16 << 20;
/// How long a whole message's connection may take to end it.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How much of a stream is looked at for its first event.
const BEGINNING_LIMIT: usize = 1 << 20;
/// The largest answer that is held as a whole.
pub(super) const WHOLE_LIMIT: usize = 256 << 20;

impl Exchange {
    /// Answers the client with what an upstream answered.
    pub(super) async fn respond(mut self, answered: Answered) -> Response {
        let Answered { reply, upstream, manner } = answered;
        let mut headers = headers::to_client(&reply.headers, upstream.is_simulated());
        let request_id = answer::identify(&mut headers, &self.entry.record.id);
        self.entry.record.changes.extend(reply.changes.iter().cloned());
        answer::note(&mut headers, &self.entry.record.changes);
        self.entry.request_id(&request_id);
        self.entry.record.status = reply.status.as_u16();
        if reply.status == StatusCode::UNAUTHORIZED && !upstream.passes_credentials() {
            // It is our credential that was refused: the client cannot mend that by asking again.
            headers.entry("x-should-retry").or_insert(HeaderValue::from_static("false"));
        }
        let idle = upstream.idle_timeout();
        if reply.status.is_informational() {
            return self.fault(&Fault::new(FaultKind::BadReply, "the upstream wants to change the protocol, which nobody asked for"));
        }
        // Who follows it would take the prompt and the local key along.
        headers.remove(http::header::LOCATION);
        let form = match manner {
            Manner::Relayed(form) => form,
            Manner::Chat { shape, stream } => {
                let stamp = chat::Stamp { id: self.entry.record.id.clone(), created: jiff::Timestamp::now().as_second() };
                return self.translated(reply, headers, &upstream, Tongue::Chat(shape, stamp), stream).await;
            }
            Manner::Responses { shape, stream, keeper, id } => {
                let clock = || jiff::Timestamp::now().as_second();
                let stamp = responses::Stamp { id, created: clock(), clock };
                return self.translated(reply, headers, &upstream, Tongue::Responses(shape, stamp, keeper), stream).await;
            }
            Manner::Counted => return self.translated(reply, headers, &upstream, Tongue::Count, false).await,
        };
        if !reply.status.is_success() && form != Form::Opaque {
            return self.error(reply, headers, idle).await;
        }
        let kind = kind_of(&headers);
        if form != Form::Opaque && is_no_message(&reply, &kind, form) {
            let message = format!("the upstream answered with status {} and no message; check its `base_url`", reply.status.as_u16());
            return self.fault(&Fault::new(FaultKind::BadReply, message));
        }
        if form == Form::Folded && !kind.contains("json") {
            return self.fold(reply, headers, idle).await;
        }
        self.relay(reply, headers, form, &kind, idle).await
    }

    /// Hands an answer on as it comes, once it has begun.
    async fn relay(mut self, mut reply: Reply, headers: HeaderMap, form: Form, kind: &str, idle: Option<Duration>) -> Response {
        let encoded = headers.contains_key(CONTENT_ENCODING);
        let mut egress = Egress::Relay(Relay::new(meter(form, self.ask.endpoint.dialect(), kind, encoded)));
        let mut out = Out::new();
        if form != Form::Opaque {
            let drain = self.house.drain.clone();
            let events = !encoded && (kind.contains("event-stream") || (form == Form::Events && !kind.contains("json")));
            let patience = self.head_patience();
            // After that long the head leaves all the same, and the rest is the pipe's to say.
            let begun = tokio::select! {
                begun = tokio::time::timeout(patience, self.beginning(&mut reply.body, &mut egress, &mut out, events, idle)) => begun.unwrap_or(Ok(())),
                () = drain.wait_cut() => return self.fault(&drain::fault()),
            };
            if let Err(error) = begun {
                self.entry.record.status = 0;
                let fault =
                    Fault::new(if matches!(error, ReadError::Idle(_)) { FaultKind::TimedOut } else { FaultKind::BadReply }, "the upstream's answer broke off before it began");
                return self.fault(&fault.because(error));
            }
        }
        let ping = (form == Form::Events && !encoded).then_some(self.runtime.config.ping);
        let patience = Patience { ping, idle };
        let status = reply.status;
        let pipe = Pipe::new(reply.body, egress, self.entry, patience, self.house.drain.clone(), reply.pass);
        assemble(status, headers, Body::new(pipe.after(out)))
    }

    /// Reads until an answer has surely begun: a whole event of a stream, or the first bytes of anything else.
    async fn beginning(&mut self, body: &mut ReplyBody, egress: &mut Egress, out: &mut Out, events: bool, idle: Option<Duration>) -> Result<(), ReadError> {
        let mut decoder = Decoder::with_limit(BEGINNING_LIMIT);
        loop {
            let Some(frame) = next_frame(body, idle).await? else { return Err(ReadError::Nothing) };
            self.entry.first_byte();
            // What is too long to be looked at has begun as well.
            let begun = !events || decoder.read(&frame).next().map_or(true, |event| event.is_some());
            let empty = frame.is_empty();
            egress.push(frame, out);
            // Kept at every step: a client that leaves has been billed for what came.
            self.entry.record.summary = egress.summary().clone();
            if begun && !empty {
                return Ok(());
            }
        }
    }

    /// An error that the upstream answered goes on as it came; what is not JSON becomes so.
    async fn error(mut self, reply: Reply, mut headers: HeaderMap, idle: Option<Duration>) -> Response {
        let status = reply.status;
        let body = match read_whole(reply.body, ERROR_LIMIT, idle).await {
            Ok(body) => body,
            Err(error) => {
                let fault = Fault::new(FaultKind::BadReply, format!("the upstream's error (status {}) broke off", status.as_u16()));
                return self.fault(&fault.because(error));
            }
        };
        self.entry.first_byte();
        let said = Said::parse(&body);
        let encoded = headers.contains_key(CONTENT_ENCODING);
        let foreign = !encoded && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err();
        let body = if foreign {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Bytes::from(no_json(status, self.ask.endpoint.dialect(), &self.entry.record.request_id))
        } else {
            body
        };
        self.entry.record.fault = Some(said.as_ref().map_or_else(|| format!("status_{}", status.as_u16()), |said| said.kind.clone()));
        self.entry.record.summary = Summary { error: said, ..Summary::default() };
        self.entry.close(Outcome::Faulted);
        assemble(status, headers, Body::from(body))
    }

    async fn fold(mut self, reply: Reply, mut headers: HeaderMap, idle: Option<Duration>) -> Response {
        let mut fold = Fold::default();
        let read = self.fold_frames(reply, &mut fold, idle).await;
        self.entry.record.summary = fold.summary().clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Err(error @ ReadError::Idle(_)) = read {
            return self.fault(&Fault::new(FaultKind::TimedOut, error.to_string()));
        }
        match fold.finish() {
            Ok(folded) => {
                self.entry.close(Outcome::Completed);
                assemble(StatusCode::OK, headers, Body::from(folded.body))
            }
            Err(FoldError::Upstream { status, body }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                self.entry.record.status = status.as_u16();
                self.entry.record.fault = self.entry.record.summary.error.as_ref().map(|error| error.kind.clone());
                self.entry.close(Outcome::Faulted);
                assemble(status, headers, Body::from(body))
            }
            Err(error) => {
                let drained = self.house.drain.is_cutting();
                self.fault(&if drained { drain::fault() } else { Fault::new(FaultKind::BadReply, error.to_string()) })
            }
        }
    }

    /// Reads events until the message is whole.
    pub(super) async fn fold_frames(&mut self, reply: Reply, fold: &mut Fold, idle: Option<Duration>) -> Result<(), ReadError> {
        let mut body = reply.body;
        let mut size = 0;
        let mut cut = std::pin::pin!(self.house.drain.wait_cut());
        while !fold.settled() {
            let frame = tokio::select! {
                frame = next_frame(&mut body, idle) => frame,
                () = &mut cut => return Ok(()),
            };
            let Some(bytes) = frame? else { break };
            self.entry.first_byte();
            size += bytes.len();
            fold.push(&bytes);
            // Kept at every step: a client that leaves has been billed for what came.
            self.entry.record.summary = fold.summary().clone();
            if size > WHOLE_LIMIT {
                return Err(ReadError::TooLong(WHOLE_LIMIT));
            }
        }
        self.house.tasks.spawn(see_off(body));
        Ok(())
    }
}

/// Reads what an answer's end is followed by, which is no more than the mark of its end: a connection that has not had
/// it cannot serve again. The client does not wait for that.
async fn see_off(mut body: ReplyBody) {
    let rest = async { while let Ok(Some(_)) = next_frame(&mut body, None).await {} };
    let _late = tokio::time::timeout(LAST_MOMENT, rest).await;
}

/// A web page, a text, nothing at all: whatever answered, it was not the Messages API.
/// Streams that are labelled as something else are known, so for those only a page counts.
fn is_no_message(reply: &Reply, kind: &str, form: Form) -> bool {
    let empty = matches!(reply.status.as_u16(), 204 | 205) || reply.body.size_hint().exact() == Some(0);
    let text = kind.starts_with("text/") && !kind.contains("event-stream");
    kind.starts_with("text/html") || (form != Form::Events && (empty || text))
}

pub(super) fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The type of an answer's body, in lower case.
pub(super) fn kind_of(headers: &HeaderMap) -> String {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase()
}

/// Chooses by what the answer says it is, and by what was asked for where it says nothing.
fn meter(form: Form, dialect: Dialect, kind: &str, encoded: bool) -> Meter {
    match form {
        Form::Opaque => Meter::opaque(dialect),
        _ if encoded => Meter::opaque(dialect),
        _ if kind.contains("event-stream") => Meter::for_events(dialect),
        _ if kind.contains("json") => Meter::for_json(dialect),
        Form::Events => Meter::for_events(dialect),
        Form::Json | Form::Folded => Meter::for_json(dialect),
    }
}

/// The error in place of one that is not JSON.
fn no_json(status: StatusCode, dialect: Dialect, request_id: &str) -> String {
    let kind = match status.as_u16() {
        401 => FaultKind::Unauthenticated,
        403 => FaultKind::Forbidden,
        404 => FaultKind::NotFound,
        413 => FaultKind::TooLarge,
        429 => FaultKind::RateLimited,
        529 => FaultKind::Overloaded,
        504 => FaultKind::TimedOut,
        400..=499 => FaultKind::InvalidRequest,
        _ => FaultKind::BadReply,
    };
    let message = format!("the upstream answered with status {} and a body that is not JSON; is something between us and it?", status.as_u16());
    Fault::new(kind, message).body(dialect, request_id)
}
