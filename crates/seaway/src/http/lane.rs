//! Our own lane for HTTP/1.1: what models are asked, read and answered without hyper.
//!
//! It reads a request, asks, and writes the answer's frames as they come: one buffer for what comes, and none for what
//! goes. What is not a plain question to a model is left to hyper, with every byte that came, and so is all that comes
//! after it on that connection.

mod date;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Uri};
use http_body::{Body as _, Frame};
use seaway_http1::{Framing, HeadError, RequestHead, RequestRead, WriteQueue, make_room, write};
use seaway_wire::{Dialect, Endpoint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use self::date::with_date;
use super::admission::{self, CameBy, HeldBody};
use super::ask::{self, Asked};
use super::connection::{Sending, SlowBody, Wait};
use super::{Routes, reply};
use crate::answer::{self, Head};
use crate::causes::BoxError;
use crate::drain::Drain;
use crate::exchange::{Answer, Pipe};
use crate::fault::{Fault, FaultKind};
use crate::state::AppState;

/// So much is asked of a connection at once, in bytes.
const READ: usize = 8 << 10;
/// So much of what comes before it is asked for is kept; then the client waits.
const AHEAD: usize = 64 << 10;

/// What a connection's requests are answered with.
pub(super) struct HttpLane {
    pub(super) routes: Routes,
    pub(super) came: CameBy,
    pub(super) drain: Drain,
    /// How long a request's body may be silent.
    pub(super) body_timeout: Duration,
}

/// A client's bytes and ours.
struct LaneClient<S> {
    stream: Sending<S>,
    /// What came and was not read.
    came: BytesMut,
    /// So much of it is known not to hold the end of a head.
    looked: usize,
    out: WriteQueue,
    /// More of a body comes than is read.
    overflows: bool,
}

/// What of a request can no longer be answered: its client left, or the connection broke.
struct Gone;

/// An answer, whoever made it.
struct LaneAnswer {
    head: Head,
    frames: Frames,
}

enum Frames {
    /// Of an exchange.
    Pipe(Box<Pipe>),
    Other(Body),
}

impl Frames {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Pipe(pipe) => Pin::new(&mut **pipe).poll_frame(cx),
            Self::Other(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(BoxError::from)))
            }
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Pipe(pipe) => pipe.size_hint().exact(),
            Self::Other(body) => body.size_hint().exact(),
        }
    }
}

impl From<Response> for LaneAnswer {
    fn from(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let head = Head { status: parts.status, headers: parts.headers };
        Self { head, frames: Frames::Other(body) }
    }
}

impl From<Answer> for LaneAnswer {
    fn from(answer: Answer) -> Self {
        Self { head: answer.head, frames: Frames::Pipe(answer.frames) }
    }
}

impl HttpLane {
    /// Answers what is asked on a connection. At its end there is nothing more; else the rest of it, for hyper. Dropped, it
    /// stops what is done for the request under way.
    pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: Sending<S>,
    ) -> Option<Sending<S>> {
        let mut client = LaneClient::of(stream);
        loop {
            let mut endpoint = None;
            let wanted = |method: &Method, target: &str| {
                let path = target.split('?').next().unwrap_or_default();
                endpoint = self.routes.hot(method, path);
                endpoint.is_some()
            };
            let read = if seaway_http1::may_end(&client.came, client.looked) {
                seaway_http1::request(&mut client.came, wanted)
            } else {
                Ok(RequestRead::More)
            };
            match read {
                Ok(RequestRead::More) => {
                    client.looked = client.came.len();
                    match client.read().await {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => return None,
                    }
                }
                Ok(RequestRead::Plain(head)) => {
                    client.looked = 0;
                    if !self.answers(&mut client, endpoint?, head).await {
                        return None;
                    }
                }
                Ok(RequestRead::Other) => {
                    client.stream.put_back(client.came.freeze());
                    return Some(client.stream);
                }
                Err(error) => {
                    let dialect = endpoint.map_or(Dialect::Messages, Endpoint::dialect);
                    client.refuse(&self.routes.state, error, dialect).await;
                    return None;
                }
            }
        }
    }

    /// Answers one request; false where the connection is not used any more.
    async fn answers<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        client: &mut LaneClient<S>,
        endpoint: Endpoint,
        head: RequestHead,
    ) -> bool {
        let underway = self.came.connection.begins(false);
        let keeps = head.keeps;
        let read = self.read(client, endpoint, head).await;
        let told = match read {
            Ok(asked) => {
                // It is large, and over when the answer begins: no stream is to keep its room.
                let mut answering =
                    Box::pin(ask::answer(self.routes.state.clone(), endpoint, asked));
                let answered = poll_fn(|cx| {
                    let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx)));
                    match polled {
                        Ok(Poll::Ready(answer)) => Poll::Ready(Some(Ok(answer))),
                        Ok(Poll::Pending) => client.poll_gone(cx).map(|Gone| None),
                        Err(panic) => Poll::Ready(Some(Err(panic))),
                    }
                });
                match answered.await {
                    Some(Ok(answer)) => LaneAnswer::from(answer),
                    Some(Err(panic)) => admission::panicked(&*panic, endpoint.dialect()).into(),
                    None => return false,
                }
            }
            Err(refused) => refused,
        };
        let asked_to_close =
            told.head.headers.get(CONNECTION).is_some_and(|value| value == "close");
        let closes = !keeps || asked_to_close || self.drain.has_begun();
        let written = client.write(told, closes).await;
        drop(underway);
        written.is_ok() && !closes
    }

    /// Lets a request in, and reads its body; what it is refused with is to be told.
    async fn read<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        client: &mut LaneClient<S>,
        endpoint: Endpoint,
        head: RequestHead,
    ) -> Result<Asked, LaneAnswer> {
        let RequestHead { method, target, headers, length, .. } = head;
        let mut request = Request::new(Body::empty());
        (*request.method_mut(), *request.uri_mut()) = (method, Uri::from(target));
        *request.headers_mut() = headers;
        let state = &self.routes.state;
        let admitted = admission::admitted(state, request, Some(&self.came)).await;
        let admission::Admission { request, snapshot, caller } = match admitted {
            Ok(admitted) => admitted,
            Err(response) => {
                let rest = client.pass_over(length).await;
                return Err(closing(response, rest.is_err()));
            }
        };
        let limit = snapshot.config.body_limit;
        let refusal = |(fault, closes): (Fault, bool)| {
            closing(reply::fault(&fault, endpoint.dialect(), &answer::own_id()), closes)
        };
        let body = self.body(client, state, length, limit).await.map_err(refusal)?;
        let (head, _) = request.into_parts();
        let body = admission::decoded(&state.memory, &head.headers, body, limit).await;
        let body = body.map_err(|fault| refusal((fault, false)))?;
        Ok(Asked { head, snapshot, caller, preset: None, body })
    }

    /// Reads a body into one piece. With a fault comes whether the connection can no longer be used.
    async fn body<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        client: &mut LaneClient<S>,
        state: &AppState,
        length: u64,
        limit: usize,
    ) -> Result<HeldBody, (Fault, bool)> {
        let within = usize::try_from(length).ok().filter(|length| *length <= limit);
        let Some(length) = within else {
            let rest = client.pass_over(length).await;
            return Err((admission::too_large(limit), rest.is_err()));
        };
        let mut body = HeldBody::default();
        if let Err(fault) = state.memory.hold(&mut body.held, length).await {
            let rest = client.pass_over(length as u64).await;
            return Err((fault, rest.is_err()));
        }
        if client.came.len() >= length {
            body.bytes = client.came.split_to(length).freeze();
            return Ok(body);
        }
        match client.whole(length, self.body_timeout).await {
            Ok(bytes) => {
                body.bytes = bytes;
                Ok(body)
            }
            Err(fault) => Err((fault, true)),
        }
    }
}

fn closing(mut response: Response, closes: bool) -> LaneAnswer {
    if closes {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.into()
}

impl<S: AsyncRead + AsyncWrite + Unpin> LaneClient<S> {
    fn of(stream: Sending<S>) -> Self {
        let (came, out) = (BytesMut::new(), WriteQueue::default());
        Self { stream, came, looked: 0, out, overflows: false }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        make_room(&mut self.came, READ);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.came)
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Ready once the client left. What it asks meanwhile is taken in, up to a point.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        while self.came.len() < AHEAD {
            match ready!(self.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Gone),
            }
        }
        Poll::Pending
    }

    /// Reads the rest of a body of which not all has come.
    async fn whole(&mut self, length: usize, patience: Duration) -> Result<Bytes, Fault> {
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&self.came);
        self.came.clear();
        let mut wait = Wait::new(patience);
        while whole.len() < length {
            let left = length - whole.len();
            let read = poll_fn(|cx| {
                let mut room = (&mut whole).limit(left);
                match poll_read_buf(Pin::new(&mut self.stream), cx, &mut room) {
                    Poll::Ready(read) => Poll::Ready(Some(read)),
                    Poll::Pending => wait.poll_too_long(cx).map(|()| None),
                }
            });
            match read.await {
                Some(Ok(1..)) => wait.over(),
                Some(Ok(0) | Err(_)) => return Err(admission::broken_off()),
                None => return Err(admission::slow(&SlowBody(patience))),
            }
        }
        Ok(whole.freeze())
    }

    /// Reads a body that nobody wants, so that the connection can be used again; within limits.
    async fn pass_over(&mut self, length: u64) -> Result<(), Gone> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut left = length.min(admission::DRAIN_LIMIT);
        self.overflows = length > left;
        let reading = async {
            loop {
                let here = self.came.len().min(left);
                self.came.advance(here);
                left -= here;
                if left == 0 {
                    return Ok(());
                }
                match self.read().await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Gone),
                }
            }
        };
        let read = tokio::time::timeout(admission::DRAIN_TIME, reading).await.unwrap_or(Err(Gone));
        read.and(if self.overflows { Err(Gone) } else { Ok(()) })
    }

    /// Reads on for a while after the last word was said: who writes all of its request first would else lose the answer with
    /// the connection.
    async fn linger(&mut self) {
        let reading = async {
            while let Ok(1..) = self.read().await {
                self.came.clear();
            }
        };
        let _late = tokio::time::timeout(admission::DRAIN_TIME, reading).await;
    }

    /// Tells somebody who could be asking two things at once that neither is answered.
    async fn refuse(&mut self, state: &AppState, why: HeadError, dialect: Dialect) {
        let fault = Fault::new(FaultKind::InvalidRequest, format!("the request is refused: {why}"));
        let id = answer::own_id();
        let response = reply::fault(&fault, dialect, &id);
        state.ledger.refused(&fault, dialect, response.status(), &id);
        let _left = self.write(response.into(), true).await;
    }

    /// Writes an answer, each frame as it comes.
    async fn write(&mut self, told: LaneAnswer, closes: bool) -> Result<(), Gone> {
        let LaneAnswer { head: Head { status, headers }, mut frames } = told;
        let bodiless = matches!(status.as_u16(), 204 | 304);
        let framing = match frames.length() {
            _ if bodiless => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        self.out.make(|out| {
            with_date(|date| write::response_head(out, status, &headers, framing, date, closes));
        });
        let mut left = Remainder { framing, bodiless, is_over: false, is_broken: false };
        let written = poll_fn(|cx| self.poll_write(cx, &mut frames, &mut left)).await;
        if written.is_ok() && closes {
            let _closed = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
            if self.overflows {
                self.linger().await;
            }
        }
        written
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
        left: &mut Remainder,
    ) -> Poll<Result<(), Gone>> {
        loop {
            left.take(cx, frames, &mut self.out);
            if !self.out.has_remaining() {
                // What encrypts may hold something back.
                ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|_| Gone)?;
                return match (left.is_broken, left.is_over) {
                    (true, _) => Poll::Ready(Err(Gone)),
                    (false, true) => Poll::Ready(Ok(())),
                    (false, false) => self.poll_gone(cx).map(Err),
                };
            }
            match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.out) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return self.poll_gone(cx).map(Err),
            }
        }
    }
}

/// What is left of an answer.
struct Remainder {
    /// By length: of so many bytes more.
    framing: Framing,
    /// What frames there are say nothing to who reads such an answer (RFC 9110, section 6.4.1).
    bodiless: bool,
    is_over: bool,
    /// It is not whole, and its client is to see that.
    is_broken: bool,
}

impl Remainder {
    /// Takes what frames there are, up to a point.
    fn take(&mut self, cx: &mut Context<'_>, frames: &mut Frames, out: &mut WriteQueue) {
        while !self.is_over && !self.is_broken && out.has_room() {
            if frames.is_end() {
                self.ends(out);
                return;
            }
            match frames.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.frame(data, out);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer is broken off");
                    self.is_broken = true;
                }
                Poll::Ready(None) => self.ends(out),
                Poll::Pending => return,
            }
        }
    }

    fn frame(&mut self, data: Bytes, out: &mut WriteQueue) {
        if self.bodiless {
            return;
        }
        match &mut self.framing {
            Framing::Chunked => out.in_chunk(data),
            Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    out.data(data);
                }
                // It is longer than its head says: what is said must not be taken for the next answer.
                None => self.is_broken = true,
            },
            Framing::UntilClose => out.data(data),
        }
    }

    fn ends(&mut self, out: &mut WriteQueue) {
        match self.framing {
            Framing::Chunked => out.last_chunk(),
            Framing::Length(1..) => self.is_broken = true,
            Framing::Length(0) | Framing::UntilClose => {}
        }
        self.is_over = true;
    }
}
