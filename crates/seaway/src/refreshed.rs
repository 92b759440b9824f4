//! Something that is fetched now and then, by one for all who want it.
//!
//! The fetch goes on in a task of its own, so a client that leaves breaks off nothing that others
//! wait for. What is old is used while a new one is fetched, where that is allowed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// What a fetch came to.
#[derive(Debug, Clone)]
pub struct Fetched<T> {
    pub value: T,
    /// How long nobody needs to fetch it again.
    pub fresh: Duration,
    /// The value may be used beyond that while a new one is fetched, and in place of one that is not lasting.
    pub lasting: bool,
}

/// The fetch ended without a word: the gateway is leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway left before it was known")]
pub struct GatewayGone;

/// A value that is fetched when somebody wants it. Clones share it.
pub struct Refreshed<T> {
    state: Arc<Mutex<RefreshState<T>>>,
    tasks: TaskTracker,
}

/// A fetch that is under way: all who wait for it are told in the order in which they came.
type Flight<T> = Shared<oneshot::Receiver<T>>;

struct RefreshState<T> {
    /// How often something was forgotten: what was asked for before that is not kept.
    epoch: u64,
    known: Option<(Instant, Fetched<T>)>,
    flight: Option<Flight<T>>,
}

impl<T> Clone for Refreshed<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), tasks: self.tasks.clone() }
    }
}

impl<T> fmt::Debug for Refreshed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshed").finish_non_exhaustive()
    }
}

impl<T: Clone + Send + Sync + 'static> Refreshed<T> {
    /// Nothing is fetched yet. What is, is fetched in `tasks`.
    pub fn new(tasks: TaskTracker) -> Self {
        Self {
            state: Arc::new(Mutex::new(RefreshState { epoch: 0, known: None, flight: None })),
            tasks,
        }
    }

    /// Returns the value: the one that is known if that is fresh or lasting, else the one that is fetched, by this or by whoever came before.
    ///
    /// Cancel safe: the fetch goes on.
    ///
    /// # Errors
    ///
    /// [`GatewayGone`] if the fetch does not come to its end.
    pub async fn get<F>(&self, fetch: impl FnOnce() -> F) -> Result<T, GatewayGone>
    where
        F: Future<Output = Fetched<T>> + Send + 'static,
    {
        let flight = {
            let mut state = lock(&self.state);
            if let Some((at, known)) = &state.known
                && at.elapsed() < known.fresh
            {
                return Ok(known.value.clone());
            }
            let under_way = state.flight.clone();
            let flight = under_way.unwrap_or_else(|| self.launch(&mut state, fetch()));
            if let Some((_, known)) = state.known.as_ref().filter(|(_, known)| known.lasting) {
                return Ok(known.value.clone());
            }
            flight
        };
        flight.clone().await.map_err(|_| {
            let mut state = lock(&self.state);
            // Nobody waits for a fetch that broke off.
            state.flight = state.flight.take().filter(|other| !other.ptr_eq(&flight));
            GatewayGone
        })
    }

    /// True if something is known that [`Self::get`] would return at once.
    pub fn is_known(&self) -> bool {
        lock(&self.state)
            .known
            .as_ref()
            .is_some_and(|(at, known)| known.lasting || at.elapsed() < known.fresh)
    }

    /// Forgets what is known if it is like that.
    pub fn forget_if(&self, like: impl FnOnce(&T) -> bool) {
        let mut state = lock(&self.state);
        if state.known.as_ref().is_some_and(|(_, known)| like(&known.value)) {
            state.known = None;
        }
    }

    /// Forgets what is known, and what is being fetched: it was asked for before whatever happened.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.epoch += 1;
        (state.known, state.flight) = (None, None);
    }

    fn launch<F>(&self, state: &mut RefreshState<T>, fetch: F) -> Flight<T>
    where
        F: Future<Output = Fetched<T>> + Send + 'static,
    {
        let (land, flight) = oneshot::channel();
        let flight = flight.shared();
        state.flight = Some(flight.clone());
        let (shared, epoch) = (self.state.clone(), state.epoch);
        self.tasks.spawn(async move {
            let fetched = fetch.await;
            let mut state = lock(&shared);
            if state.epoch != epoch {
                drop(state);
                // Whoever waited may have left.
                let _left = land.send(fetched.value);
                return;
            }
            let value = match &mut state.known {
                // An old one is better than none; it is asked for again soon.
                Some((at, old)) if old.lasting && !fetched.lasting => {
                    (*at, old.fresh) = (Instant::now(), fetched.fresh);
                    old.value.clone()
                }
                known => known.insert((Instant::now(), fetched)).1.value.clone(),
            };
            state.flight = None;
            drop(state);
            let _left = land.send(value);
        });
        flight
    }
}

fn lock<T>(state: &Mutex<RefreshState<T>>) -> MutexGuard<'_, RefreshState<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Each fetch waits until it is let, and gives its number.
    struct Source {
        value: Refreshed<u32>,
        fetches: AtomicU32,
        let_go: Arc<Semaphore>,
    }

    impl Source {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                value: Refreshed::new(TaskTracker::new()),
                fetches: AtomicU32::new(0),
                let_go: Arc::new(Semaphore::new(0)),
            })
        }

        async fn get(&self, fresh: Duration, lasting: bool) -> Result<u32, GatewayGone> {
            self.value
                .get(|| {
                    let value = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
                    let let_go = self.let_go.clone();
                    async move {
                        let_go.acquire().await.expect("it is never closed").forget();
                        Fetched { value, fresh, lasting }
                    }
                })
                .await
        }

        fn count(&self) -> u32 {
            self.fetches.load(Ordering::Relaxed)
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn one_fetches_for_all_and_nobody_breaks_it_off() {
        let source = Source::new();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let source = source.clone();
            waiting.spawn(async move { source.get(LONG, true).await });
        }
        while source.count() == 0 {
            tokio::task::yield_now().await;
        }
        // The first caller leaves.
        let first = source.clone();
        assert!(tokio::time::timeout(Duration::ZERO, first.get(LONG, true)).await.is_err());
        source.let_go.add_permits(1);
        let mut answered = 0;
        while let Some(done) = waiting.join_next().await {
            answered += u32::from(done.is_ok_and(|value| value == Ok(1)));
        }
        assert_eq!((answered, source.count(), source.get(LONG, true).await), (20, 1, Ok(1)));
    }

    #[tokio::test]
    async fn what_is_old_serves_while_a_new_one_is_fetched() {
        let source = Source::new();
        source.let_go.add_permits(1);
        assert_eq!(source.get(Duration::ZERO, true).await, Ok(1));
        assert!(source.value.is_known());
        for _ in 0..5 {
            assert_eq!(source.get(LONG, true).await, Ok(1), "nobody waits");
        }
        assert_eq!(source.count(), 2);
        source.let_go.add_permits(1);
        while source.get(LONG, true).await != Ok(2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(source.count(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_costs_no_value_that_lasts() {
        let source = Source::new();
        source.let_go.add_permits(2);
        assert_eq!(source.get(Duration::ZERO, false).await, Ok(1));
        assert!(!source.value.is_known());
        assert_eq!(source.get(Duration::ZERO, true).await, Ok(2), "it was asked anew");
        assert_eq!(source.get(LONG, false).await, Ok(2), "the old one, while a new one is fetched");
        source.let_go.add_permits(1);
        while lock(&source.value.state).flight.is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            (source.get(LONG, false).await, source.count()),
            (Ok(2), 3),
            "the failure is not asked for again at once"
        );
        source.value.forget_if(|value| *value == 2);
        source.let_go.add_permits(1);
        assert_eq!(source.get(LONG, true).await, Ok(4));
    }

    #[tokio::test]
    async fn what_was_asked_for_before_it_was_forgotten_is_not_kept() {
        let source = Source::new();
        let early = tokio::spawn({
            let source = source.clone();
            async move { source.get(LONG, true).await }
        });
        while source.count() == 0 {
            tokio::task::yield_now().await;
        }
        source.value.forget();
        source.let_go.add_permits(1);
        assert_eq!(early.await.unwrap(), Ok(1), "who asked early is told what was so");
        assert!(!source.value.is_known());
        source.let_go.add_permits(1);
        assert_eq!(source.get(LONG, true).await, Ok(2));
    }
}
