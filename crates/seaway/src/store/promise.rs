//! What becomes of something that the store was asked to do.

use std::pin::Pin;
use std::task::{Context, Poll};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{StoreError, Work};

/// Resolves when the store has done what it was asked.
///
/// It is queued already: dropping this undoes nothing, and only loses the answer.
#[derive(Debug)]
pub struct Promise<T>(oneshot::Receiver<rusqlite::Result<T>>);

/// Work that answers, and its answer.
pub(super) fn of<T: Send + 'static>(work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static) -> (Work, Promise<T>) {
    let (done, wait) = oneshot::channel();
    let work = move |database: &mut Connection| {
        // Whoever asked may have left.
        let _left = done.send(work(database));
    };
    (Box::new(work), Promise(wait))
}

impl<T> Future for Promise<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.map_or(Err(StoreError::Gone), |done| done.map_err(StoreError::Failed)))
    }
}
