//! The body of an answer, as HTTP frames it or as the program's events, and reading it outside a pipe.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body::{Body, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use seaway_wire::event::EventFrame;

use super::BoxError;

/// A body that came over HTTP.
pub(super) type HttpBody = UnsyncBoxBody<Bytes, BoxError>;

/// A piece of an answer.
#[derive(Debug)]
pub enum ReplyFrame {
    /// Cut wherever the network cut it.
    Bytes(Bytes),
    /// Of a stream in Messages. Bytes that come before or after it are whole events.
    Event(EventFrame),
}

impl ReplyFrame {
    /// Its length in bytes, without the frame that an event has none of.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Event(event) => event.event().data.len(),
        }
    }

    /// As HTTP would have it.
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Event(event) => event.to_sse(),
        }
    }
}

/// The body of an answer.
pub enum ReplyBody {
    Http(HttpBody),
    /// From an upstream that does not speak HTTP.
    Events(BoxStream<'static, Result<ReplyFrame, BoxError>>),
}

impl ReplyBody {
    /// A body of bytes that are there already.
    pub fn whole(text: impl Into<Bytes>) -> Self {
        Self::Http(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync())
    }

    /// Polls for the next piece; trailers are none.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ReplyFrame, BoxError>>> {
        match self {
            Self::Http(body) => loop {
                let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                };
                if let Ok(bytes) = frame.into_data() {
                    return Poll::Ready(Some(Ok(ReplyFrame::Bytes(bytes))));
                }
            },
            Self::Events(events) => events.as_mut().poll_next(cx),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the upstream sent nothing for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("the upstream's answer broke off")]
    Broken(#[source] BoxError),
    #[error("the upstream's answer ended without a word")]
    Nothing,
    #[error("the upstream's answer is larger than {0} bytes")]
    TooLong(usize),
}

/// Waits for the next piece; `None` at the end. Cancel safe.
///
/// # Errors
///
/// [`ReadError`] if the connection breaks or is silent for longer than `idle`.
pub async fn next_frame(
    body: &mut ReplyBody,
    idle: Option<Duration>,
) -> Result<Option<ReplyFrame>, ReadError> {
    let frame = poll_fn(|cx| body.poll_frame(cx));
    let frame = match idle {
        Some(idle) => tokio::time::timeout(idle, frame).await.map_err(|_| ReadError::Idle(idle))?,
        None => frame.await,
    };
    frame.transpose().map_err(ReadError::Broken)
}

/// Reads a body to its end. Dropped meanwhile, what was read is lost.
///
/// # Errors
///
/// [`ReadError`], also if it is longer than `limit`.
pub async fn read_whole(
    mut body: ReplyBody,
    limit: usize,
    idle: Option<Duration>,
) -> Result<Bytes, ReadError> {
    let mut whole = Vec::new();
    while let Some(frame) = next_frame(&mut body, idle).await? {
        let bytes = frame.into_bytes();
        if whole.len() + bytes.len() > limit {
            return Err(ReadError::TooLong(limit));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.into())
}
