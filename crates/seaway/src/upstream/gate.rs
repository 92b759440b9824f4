//! How many requests an upstream gets at once, and how long others wait.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::UpstreamError;
use crate::config::{Limits, UpstreamName};
use crate::fault::FaultKind;
use crate::sync::{Mutex, MutexGuard};

/// The door to one upstream. Those who wait pass in turns by caller, each caller's own in the order in which they came,
/// so that nobody waits for all that another one asks.
#[derive(Debug)]
pub struct Gate {
    slots: Option<Arc<Slots>>,
    timeout: Duration,
}

#[derive(Debug)]
struct Slots {
    most: usize,
    /// The length of the queue.
    queue: usize,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    free: usize,
    waiting: usize,
    /// Each with what it wants, in the order of their turns. Nobody is in it without.
    callers: VecDeque<WaitingCaller>,
    /// The number of the next one who waits.
    next: u64,
}

#[derive(Debug)]
struct WaitingCaller {
    caller: Arc<str>,
    requests: VecDeque<WaitingRequest>,
}

#[derive(Debug)]
struct WaitingRequest {
    number: u64,
    turn: oneshot::Sender<Result<Permit, Refused>>,
}

/// Why a request did not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} requests are waiting already")]
    Full(usize),
    #[error("no place became free within {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

impl Refused {
    /// The refusal as an error of the upstream.
    pub(super) fn of(self, upstream: &UpstreamName) -> UpstreamError {
        let message = format!(
            "upstream `{upstream}` is busy: {self}; try again, or raise its `concurrency` or `queue`"
        );
        UpstreamError {
            retry_after: Some(Duration::from_secs(5)),
            ..UpstreamError::new(FaultKind::RateLimited, message)
        }
    }
}

/// The right to use the upstream; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    slots: Option<Arc<Slots>>,
}

impl Permit {
    /// A permit without a place.
    pub fn free() -> Self {
        Self { slots: None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        let next = slots.line().next();
        // Who left meanwhile drops it here, and the one after has its turn.
        if let Some(next) = next {
            let _left = next.turn.send(Ok(Self { slots: Some(slots) }));
        }
    }
}

impl Gate {
    pub fn new(limits: &Limits) -> Self {
        let slots = limits.concurrency.map(|most| {
            let line = Line { free: most, waiting: 0, callers: VecDeque::new(), next: 0 };
            Arc::new(Slots { most, queue: limits.queue, line: Mutex::new(line) })
        });
        Self { slots, timeout: limits.queue_timeout }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots.line().waiting)
    }

    /// How many requests are inside, and how many may be; `None` where nobody counts.
    pub fn taken(&self) -> Option<(usize, usize)> {
        let slots = self.slots.as_ref()?;
        Some((slots.most.saturating_sub(slots.line().free), slots.most))
    }

    /// Waits for a place. Dropped meanwhile, it leaves the queue.
    ///
    /// # Errors
    ///
    /// [`Refused`] at once if the queue is full, later if another caller needs the place there that one with many took,
    /// or when the time is up.
    pub async fn enter(&self, caller: &Arc<str>) -> Result<Permit, Refused> {
        let Some(slots) = &self.slots else { return Ok(Permit::free()) };
        let (turn, number) = {
            let mut line = slots.line();
            if line.free > 0 {
                line.free -= 1;
                return Ok(Permit { slots: Some(slots.clone()) });
            }
            if line.waiting >= slots.queue && !line.make_room(caller) {
                return Err(Refused::Full(line.waiting));
            }
            line.join(caller)
        };
        let _place = QueuePlace { slots, number };
        match tokio::time::timeout(self.timeout, turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => Err(Refused::TimedOut(self.timeout)),
        }
    }
}

impl Slots {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Takes the one whose turn it is; where nobody waits, a place is free.
    fn next(&mut self) -> Option<WaitingRequest> {
        let Some(mut first) = self.callers.pop_front() else {
            self.free += 1;
            return None;
        };
        let request = first.requests.pop_front();
        if !first.requests.is_empty() {
            self.callers.push_back(first);
        }
        self.waiting -= usize::from(request.is_some());
        request
    }

    fn join(&mut self, caller: &Arc<str>) -> (oneshot::Receiver<Result<Permit, Refused>>, u64) {
        let (turn, told) = oneshot::channel();
        let number = self.next;
        let request = WaitingRequest { number, turn };
        self.next += 1;
        self.waiting += 1;
        match self.callers.iter_mut().find(|waiting| waiting.caller == *caller) {
            Some(waiting) => waiting.requests.push_back(request),
            None => self.callers.push_back(WaitingCaller {
                caller: caller.clone(),
                requests: VecDeque::from([request]),
            }),
        }
        (told, number)
    }

    /// Makes room in a full queue for somebody who has less in it than another: that one's last request is refused.
    fn make_room(&mut self, caller: &Arc<str>) -> bool {
        let own = |waiting: &&WaitingCaller| waiting.caller == *caller;
        let own = self.callers.iter().find(own).map_or(0, |waiting| waiting.requests.len());
        let most = self.callers.iter_mut().max_by_key(|waiting| waiting.requests.len());
        // After that the other caller still has as many requests as the new one.
        let Some(most) = most.filter(|most| most.requests.len() > own + 1) else { return false };
        if let Some(last) = most.requests.pop_back() {
            let _left = last.turn.send(Err(Refused::Full(self.waiting)));
            self.waiting -= 1;
        }
        true
    }

    fn leave(&mut self, number: u64) {
        for waiting in &mut self.callers {
            let before = waiting.requests.len();
            waiting.requests.retain(|request| request.number != number);
            self.waiting -= before - waiting.requests.len();
        }
        self.callers.retain(|waiting| !waiting.requests.is_empty());
    }
}

/// A place in the queue; left when dropped.
struct QueuePlace<'a> {
    slots: &'a Slots,
    number: u64,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.slots.line().leave(self.number);
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod shuttle_tests {
    use shuttle::future::{block_on, spawn};
    use shuttle::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PLACES: usize = 2;

    /// Callers that come, work and leave, some of them while they wait.
    fn come_and_go() {
        let limits = Limits {
            concurrency: Some(PLACES),
            queue: 3,
            queue_timeout: Duration::from_secs(3600),
            first_byte_timeout: Duration::ZERO,
            retries: 0,
            retry_on: Vec::new(),
        };
        let gate = Arc::new(Gate::new(&limits));
        let inside = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..6)
            .map(|number| {
                let (gate, inside) = (gate.clone(), inside.clone());
                let caller: Arc<str> = if number % 3 == 0 { "one" } else { "two" }.into();
                let work = spawn(async move {
                    let Ok(permit) = gate.enter(&caller).await else { return };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < PLACES, "too many are inside");
                    shuttle::future::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                });
                (number, work)
            })
            .collect();
        block_on(async {
            for (number, work) in callers {
                if number == 2 {
                    // A client that leaves, wherever it is just then.
                    work.abort();
                } else {
                    work.await.unwrap();
                }
            }
        });
        let one: Arc<str> = "one".into();
        let all = [block_on(gate.enter(&one)), block_on(gate.enter(&one))];
        assert!(all.iter().all(Result::is_ok), "no place was lost");
        assert_eq!((gate.taken(), gate.waiting()), (Some((PLACES, PLACES)), 0));
    }

    #[test]
    fn shuttle_finds_no_way_to_lose_a_place() {
        // Time-outs want a runtime's clock; none of them goes off.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        shuttle::check_random(come_and_go, 2000);
        shuttle::check_pct(come_and_go, 2000, 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: usize, queue: usize) -> Gate {
        Gate::new(&Limits {
            concurrency: Some(concurrency),
            queue,
            queue_timeout: Duration::from_secs(60),
            first_byte_timeout: Duration::ZERO,
            retries: 0,
            retry_on: Vec::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_does_not_wait_for_a_free_place() {
        let gate = gate(1, 1);
        let _held = gate.enter(&"one".into()).await.unwrap();
        assert_eq!(
            gate.enter(&"one".into()).await.unwrap_err(),
            Refused::TimedOut(Duration::from_secs(60))
        );
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_freed_place_goes_to_who_waits() {
        let gate = Arc::new(gate(1, 1));
        let held = gate.enter(&"one".into()).await.unwrap();
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(&"one".into()).await.is_ok() }
        });
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter(&"one".into()).await.unwrap_err(), Refused::Full(1));
        drop(held);
        assert!(waiter.await.unwrap());
    }

    /// Lets callers wait, and returns in which order they pass when places become free one by one.
    async fn order(queue: usize, callers: &[&str]) -> (Vec<String>, Vec<String>) {
        let gate = Arc::new(gate(1, queue));
        let held = gate.enter(&"first".into()).await.unwrap();
        let (passed, mut came) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for (number, caller) in callers.iter().enumerate() {
            let (gate, passed, caller) = (gate.clone(), passed.clone(), Arc::<str>::from(*caller));
            waiting.push(tokio::spawn(async move {
                let entered = gate.enter(&caller).await;
                let _told = passed.send((format!("{caller}{number}"), entered.is_ok()));
            }));
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        futures_util::future::join_all(waiting).await;
        drop(passed);
        let (mut inside, mut refused) = (Vec::new(), Vec::new());
        while let Some((who, entered)) = came.recv().await {
            if entered { inside.push(who) } else { refused.push(who) }
        }
        assert_eq!((gate.waiting(), gate.taken()), (0, Some((0, 1))), "all places are free");
        (inside, refused)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_take_turns() {
        let (inside, refused) = order(9, &["a", "a", "a", "b", "c", "b"]).await;
        assert_eq!(inside, ["a0", "b3", "c4", "a1", "b5", "a2"]);
        assert!(refused.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_many_makes_room_in_a_full_queue() {
        let (inside, refused) = order(3, &["a", "a", "a", "b", "b", "c"]).await;
        // The last of `a` goes for `b`; then each has as many as it may, but for the one that has two.
        assert_eq!(inside, ["a0", "b3", "c5"]);
        assert_eq!(refused, ["a2", "b4", "a1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_passed_over() {
        let gate = Arc::new(gate(1, 9));
        let held = gate.enter(&"a".into()).await.unwrap();
        let waits = |caller: &'static str| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.enter(&caller.into()).await })
        };
        let (leaves, stays) = (waits("a"), waits("b"));
        while gate.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        leaves.abort();
        assert!(leaves.await.is_err());
        assert_eq!(gate.waiting(), 1);
        drop(held);
        drop(stays.await.unwrap().unwrap());
        assert_eq!((gate.waiting(), gate.taken()), (0, Some((0, 1))));
    }
}
