//! An HTTP/1.1 connection in our own lane: polled by whoever uses it, and nothing between its socket and them.

use std::future::poll_fn;
use std::io::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either};
use seaway_http1::{BodyDecoder, BodyError, Framing, HeadError, WriteQueue, make_room, write};
use tokio::io::AsyncWrite;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::{Kept, Pool, SendError};
use crate::dial::ByteStream;
use crate::upstream::{BoxError, CallBody, HttpBody, RequestBody};

/// So much is asked of a connection at once, in bytes: the least, and the most where its answer is long.
const READS: (usize, usize) = (8 << 10, 64 << 10);

/// A connection on which nothing is under way, or one request.
pub(super) struct LaneConnection {
    stream: Box<dyn ByteStream>,
    /// What has come and was not read.
    came: BytesMut,
    /// So much of it is known not to hold the end of a head.
    looked: usize,
    /// How much is asked for next.
    reads: usize,
}

/// Why a connection of ours failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] Error),
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body that was to be sent.
    #[error(transparent)]
    Sent(BoxError),
}

impl From<LaneError> for SendError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Head(_) => Self::Unreadable(error.into()),
            _ => Self::Broken(error.into()),
        }
    }
}

impl LaneConnection {
    pub(super) fn over(stream: Box<dyn ByteStream>) -> Self {
        Self { stream, came: BytesMut::new(), looked: 0, reads: READS.0 }
    }

    /// True if the server has not closed it, and said nothing that it was not asked.
    pub(super) fn is_ready(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.came.is_empty() && self.poll_more(&mut context).is_pending()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        mut self,
        request: Request<CallBody>,
        pool: Arc<Pool>,
    ) -> Result<Response<HttpBody>, SendError> {
        let to_head = request.method() == Method::HEAD;
        let mut outgoing = Outgoing::of(request);
        let head = poll_fn(|cx| self.poll_head(cx, &mut outgoing, to_head)).await?;
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
        let decoder = BodyDecoder::new(head.framing);
        let outgoing = Some(outgoing).filter(|outgoing| !outgoing.is_sent());
        let body = LaneBody {
            line: Some(self),
            outgoing,
            decoder,
            has_length: matches!(head.framing, Framing::Length(_)),
            keeps: head.keeps,
            pool,
        };
        Ok(response.map(|()| body.boxed_unsync()))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Outgoing,
        to_head: bool,
    ) -> Poll<Result<seaway_http1::ResponseHead, LaneError>> {
        // An answer may come before all was sent, and be the reason why no more can be.
        let unsent = match outgoing.poll_sent(&mut self.stream, cx) {
            // What was to be sent broke off: whatever comes is no answer to it.
            Poll::Ready(Err(error @ LaneError::Sent(_))) => return Poll::Ready(Err(error)),
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            if seaway_http1::may_end(&self.came, self.looked) {
                if let Some(head) = seaway_http1::response(&mut self.came, to_head)? {
                    self.looked = 0;
                    return Poll::Ready(Ok(head));
                }
                self.looked = self.came.len();
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(unsent.unwrap_or(LaneError::Closed))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(unsent.unwrap_or(error.into()))),
                // Nothing comes of what could not be sent.
                Poll::Pending => {
                    return unsent.map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            }
        }
    }

    /// Reads what is there; zero at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        make_room(&mut self.came, self.reads);
        let room = self.came.capacity() - self.came.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.came))?;
        // Where it fills what it was given, more is there.
        if read == room {
            self.reads = (self.reads * 2).min(READS.1);
        }
        Poll::Ready(Ok(read))
    }
}

/// A request on its way out.
struct Outgoing {
    queue: WriteQueue,
    /// What comes in and is sent as it does. `chunked`: its length is not known.
    streamed: Option<(RequestBody, bool)>,
    /// What encrypts may hold something back.
    unflushed: bool,
}

impl Outgoing {
    fn of(mut request: Request<CallBody>) -> Self {
        let mut chunked = false;
        if let Either::Right(body) = request.body() {
            let length = body.size_hint().exact();
            let is_bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
            chunked = length.is_none();
            let headers = request.headers_mut();
            match length {
                Some(0) if is_bodiless => None,
                Some(length) => headers.insert(CONTENT_LENGTH, length.into()),
                None => headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            };
        }
        let (parts, body) = request.into_parts();
        let mut queue = WriteQueue::default();
        queue.make(|out| {
            write::request_head(out, &parts.method, parts.uri.path_and_query(), &parts.headers);
        });
        let streamed = match body {
            Either::Left(mut whole) => {
                queue.data(whole_of(&mut whole));
                None
            }
            Either::Right(body) => Some((body, chunked)),
        };
        Self { queue, streamed, unflushed: true }
    }

    fn is_sent(&self) -> bool {
        !self.queue.has_remaining() && self.streamed.is_none() && !self.unflushed
    }

    /// Writes as much as there is room for. Ready once all of it is written.
    fn poll_sent(
        &mut self,
        stream: &mut Box<dyn ByteStream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), LaneError>> {
        loop {
            while self.queue.has_room() && self.streamed.is_some() {
                match self.poll_next(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => {}
                    Poll::Pending => break,
                }
            }
            if !self.queue.has_remaining() {
                if self.unflushed {
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return if self.streamed.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if ready!(poll_write_buf(Pin::new(&mut *stream), cx, &mut self.queue))? == 0 {
                return Poll::Ready(Err(LaneError::Closed));
            }
            self.unflushed = true;
        }
    }

    /// Takes the next frame of what comes in.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneError>> {
        let Some((body, chunked)) = &mut self.streamed else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        let Some(frame) = frame.transpose().map_err(|error| LaneError::Sent(error.into()))? else {
            if *chunked {
                self.queue.last_chunk();
            }
            self.streamed = None;
            return Poll::Ready(Ok(()));
        };
        match frame.into_data() {
            Ok(data) if *chunked => self.queue.in_chunk(data),
            Ok(data) => self.queue.data(data),
            // Trailers.
            Err(_) => {}
        }
        Poll::Ready(Ok(()))
    }
}

/// The bytes of a body that is there as a whole.
fn whole_of(body: &mut http_body_util::Full<Bytes>) -> Bytes {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(body).poll_frame(&mut context) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

/// An answer's body, read from the connection by whoever reads it.
struct LaneBody {
    line: Option<LaneConnection>,
    /// What of the request is still on its way; its answer came first.
    outgoing: Option<Outgoing>,
    decoder: BodyDecoder,
    has_length: bool,
    keeps: bool,
    pool: Arc<Pool>,
}

impl LaneBody {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, LaneError>> {
        let Some(line) = &mut self.line else { return Poll::Ready(Ok(None)) };
        if let Some(outgoing) = &mut self.outgoing
            && let Poll::Ready(sent) = outgoing.poll_sent(&mut line.stream, cx)
        {
            self.outgoing = None;
            // What an upstream does not take is no matter to who has its answer; the connection is not used again. What was
            // not there to be sent is: the upstream may wait for it.
            match sent {
                Err(error @ LaneError::Sent(_)) => return Poll::Ready(Err(error)),
                sent => self.keeps &= sent.is_ok(),
            }
        }
        loop {
            let bytes = self.decoder.decode(&mut line.came)?;
            if !bytes.is_empty() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            if let Some(left) = self.decoder.left().and_then(|left| usize::try_from(left).ok()) {
                line.reads = line.reads.max(left.min(READS.1));
            }
            if ready!(line.poll_more(cx))? == 0 {
                self.decoder.closed()?;
                return Poll::Ready(Ok(None));
            }
        }
    }
}

impl Body for LaneBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = ready!(self.poll_bytes(cx));
        if polled.is_err() {
            // It is of no use any more, and is closed.
            self.line = None;
        }
        Poll::Ready(polled.map_err(BoxError::from).transpose().map(|read| read.map(Frame::data)))
    }

    /// Where only a mark tells the end, that is told apart from what came with it: a beginning is a beginning first, and
    /// an answer that may break off has no length.
    fn is_end_stream(&self) -> bool {
        self.has_length && self.line.is_some() && self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.decoder.left().filter(|_| self.has_length);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for LaneBody {
    /// A connection whose answer was read to its end serves again; any other is closed, which is how the upstream learns
    /// that nobody listens any more.
    fn drop(&mut self) {
        let whole = self.keeps && self.decoder.is_done() && self.outgoing.is_none();
        if let Some(mut line) = self.line.take().filter(|_| whole)
            && line.is_ready()
        {
            line.reads = READS.0;
            // What a long answer needed is not kept for a minute.
            if line.came.capacity() > 2 * READS.0 {
                line.came = BytesMut::new();
            }
            self.pool.keep(Kept::Line(line));
        }
    }
}
