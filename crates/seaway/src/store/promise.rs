//! What becomes of something that the store was asked to do.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::{StoreError, StoreWork};

/// How long anybody waits for the store: for a disk that hangs, or for a large store that is brought to a newer layout.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resolves when the store has done what it was asked, or to [`StoreError::Late`] after ten seconds: it may still be done then.
///
/// The work is queued already: dropping this undoes nothing that was to be written, and only loses the answer.
#[derive(Debug)]
pub struct Promise<T> {
    done: oneshot::Receiver<rusqlite::Result<T>>,
    /// The timer starts with the first poll.
    late: Option<Pin<Box<Sleep>>>,
    refused: bool,
    /// The counter of promises that were not kept.
    unkept: Option<Counter>,
}

/// Work that answers, and its answer.
pub(super) fn of<T: Send + 'static>(
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> (StoreWork, Promise<T>) {
    answered(false, work)
}

/// Reading work, which is skipped if its caller has left.
pub(super) fn of_reading<T: Send + 'static>(
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> (StoreWork, Promise<T>) {
    answered(true, work)
}

fn answered<T: Send + 'static>(
    only_if_wanted: bool,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> (StoreWork, Promise<T>) {
    let (done, wait) = oneshot::channel();
    let work = move |database: &mut Connection| {
        if !(only_if_wanted && done.is_closed()) {
            // The caller may have left.
            let _left = done.send(work(database));
        }
    };
    (Box::new(work), Promise { done: wait, late: None, refused: false, unkept: None })
}

impl<T> Promise<T> {
    /// Of something that is counted if it is not kept, and somebody waited for it.
    pub(super) fn counted(self, unkept: Counter) -> Self {
        Self { unkept: Some(unkept), ..self }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, StoreError>> {
        if self.refused {
            return Poll::Ready(Err(StoreError::Full));
        }
        if let Poll::Ready(answer) = Pin::new(&mut self.done).poll(cx) {
            return Poll::Ready(
                answer.map_or(Err(StoreError::Gone), |done| done.map_err(StoreError::Failed)),
            );
        }
        ready!(self.late.get_or_insert_with(|| Box::pin(sleep(PATIENCE))).as_mut().poll(cx));
        Poll::Ready(Err(StoreError::Late))
    }

    /// A promise of work that was refused: the queue is full.
    pub(super) fn refused(self) -> Self {
        Self { refused: true, ..self }
    }
}

impl<T> Future for Promise<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(self.poll_done(cx));
        if done.is_err()
            && let Some(unkept) = self.unkept.take()
        {
            unkept.inc();
        }
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (work, promise) = of(|_| Ok(()));
        assert!(matches!(promise.await, Err(StoreError::Late)));
        let mut asked = 0;
        let (reading, left) = of_reading(move |_| {
            asked += 1;
            Ok(asked)
        });
        drop(left);
        let mut database = Connection::open_in_memory().unwrap();
        reading(&mut database);
        work(&mut database);
        let (work, promise) = of(|_| Ok(7));
        work(&mut database);
        assert!(matches!(promise.await, Ok(7)));
        let (work, promise) = of::<u8>(|_| Ok(7));
        drop(work);
        assert!(matches!(promise.await, Err(StoreError::Gone)));
        assert!(matches!(of::<u8>(|_| Ok(7)).1.refused().await, Err(StoreError::Full)));
    }
}
