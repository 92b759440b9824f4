//! Reading an answer's body outside a pipe, piece by piece or whole.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::{BoxError, ReplyBody};

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

/// Waits for the next piece; `None` at the end.
///
/// # Errors
///
/// [`ReadError`] if the connection breaks or is silent for longer than `idle`.
pub async fn next_frame(
    body: &mut ReplyBody,
    idle: Option<Duration>,
) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = match idle {
            Some(idle) => match tokio::time::timeout(idle, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Err(ReadError::Idle(idle)),
            },
            None => body.frame().await,
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(ReadError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Reads a body to its end.
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
    while let Some(bytes) = next_frame(&mut body, idle).await? {
        if whole.len() + bytes.len() > limit {
            return Err(ReadError::TooLong(limit));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.into())
}
