//! Connections that wait to be used again, each on the thread that used it last: that is where its
//! socket is watched, and no lock is needed there.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long an unused connection is kept.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);

/// The lists of one pool: the same for all threads, and on each another list.
#[derive(Debug)]
pub(super) struct Idle {
    pool: u64,
    /// Connections of an earlier generation are not used again.
    generation: AtomicU64,
    /// On one thread.
    most: usize,
}

pub(super) struct IdleConnection<L> {
    line: L,
    since: Instant,
    generation: u64,
}

/// What one thread keeps for one pool, in the order in which it was put.
pub(super) type IdleList<L> = (u64, VecDeque<IdleConnection<L>>);

/// What one thread keeps.
pub(super) type Lists<L> = RefCell<Vec<IdleList<L>>>;

/// Something that may be used again, if nothing happened to it meanwhile.
pub(super) trait Reusable: Sized + 'static {
    fn is_ready(&mut self) -> bool;

    /// Where a thread keeps this kind; `None` when the thread is ending.
    fn lists<R>(with: impl FnOnce(&Lists<Self>) -> R) -> Option<R>;
}

impl Idle {
    pub(super) fn new(most: usize) -> Self {
        static POOLS: AtomicU64 = AtomicU64::new(0);
        Self { pool: POOLS.fetch_add(1, Ordering::Relaxed), generation: AtomicU64::new(0), most }
    }

    /// The one that was put last on this thread and is still ready.
    pub(super) fn take<L: Reusable>(&self) -> Option<L> {
        loop {
            let mut kept = L::lists(|lists| find(&mut lists.borrow_mut(), self.pool)?.pop_back())??;
            if kept.since.elapsed() < KEPT_FOR
                && kept.generation == self.generation.load(Ordering::Relaxed)
                && kept.line.is_ready()
            {
                return Some(kept.line);
            }
        }
    }

    /// Keeps one on this thread. The oldest is dropped where there are too many.
    pub(super) fn put<L: Reusable>(&self, line: L) {
        if self.most == 0 {
            return;
        }
        let kept = IdleConnection {
            line,
            since: Instant::now(),
            generation: self.generation.load(Ordering::Relaxed),
        };
        let _too_many = L::lists(|lists| {
            let mut lists = lists.borrow_mut();
            if let Some(list) = find(&mut lists, self.pool) {
                let too_many = if list.len() >= self.most { list.pop_front() } else { None };
                list.push_back(kept);
                too_many
            } else {
                lists.push((self.pool, VecDeque::from([kept])));
                None
            }
        });
    }

    /// Forgets what is kept, on all threads.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// Drops what this thread keeps and nobody used for a while, or what is closed, of all pools: those that are no more, too.
pub(super) fn sweep<L: Reusable>() {
    // Readiness is asked for without a borrow: what is dropped may put something.
    let kept = L::lists(RefCell::take).unwrap_or_default();
    let still = kept.into_iter().filter_map(|(pool, mut list)| {
        list.retain_mut(|kept| kept.since.elapsed() < KEPT_FOR && kept.line.is_ready());
        (!list.is_empty()).then_some((pool, list))
    });
    let still: Vec<_> = still.collect();
    L::lists(|lists| {
        let mut lists = lists.borrow_mut();
        let meanwhile = std::mem::replace(&mut *lists, still);
        for (pool, list) in meanwhile {
            match find(&mut lists, pool) {
                Some(known) => known.extend(list),
                None => lists.push((pool, list)),
            }
        }
    });
}

fn find<L>(lists: &mut [IdleList<L>], pool: u64) -> Option<&mut VecDeque<IdleConnection<L>>> {
    lists.iter_mut().find(|(known, _)| *known == pool).map(|(_, list)| list)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static LISTS: Lists<Numbered> = const { RefCell::new(Vec::new()) };
        static CLOSED: Cell<u32> = const { Cell::new(0) };
    }

    /// Ready unless it is the one that was closed.
    #[derive(Debug)]
    struct Numbered(u32);

    impl Reusable for Numbered {
        fn is_ready(&mut self) -> bool {
            self.0 != CLOSED.get()
        }

        fn lists<R>(with: impl FnOnce(&Lists<Self>) -> R) -> Option<R> {
            LISTS.try_with(with).ok()
        }
    }

    fn all(idle: &Idle) -> Vec<u32> {
        std::iter::from_fn(|| idle.take::<Numbered>()).map(|line| line.0).collect()
    }

    fn put(idle: &Idle, lines: impl IntoIterator<Item = u32>) {
        lines.into_iter().for_each(|line| idle.put(Numbered(line)));
    }

    #[test]
    fn the_newest_is_used_first_and_the_oldest_goes() {
        let (idle, other, none) = (Idle::new(3), Idle::new(3), Idle::new(0));
        put(&idle, 1..=5);
        put(&other, [9]);
        put(&none, [8]);
        CLOSED.set(4);
        assert_eq!((all(&idle), all(&other), all(&none)), (vec![5, 3], vec![9], vec![]));
    }

    #[test]
    fn what_is_forgotten_closed_or_old_is_not_used_again() {
        let idle = Idle::new(9);
        put(&idle, 1..=2);
        idle.forget();
        put(&idle, 3..=5);
        assert_eq!(all(&idle), [5, 4, 3]);
        put(&idle, 1..=3);
        CLOSED.set(2);
        sweep::<Numbered>();
        CLOSED.set(0);
        assert_eq!(all(&idle), [3, 1], "a closed one was dropped");
        put(&idle, 1..=2);
        LISTS.with_borrow_mut(|lists| {
            for kept in find(lists, idle.pool).unwrap() {
                kept.since -= KEPT_FOR;
            }
        });
        put(&idle, [3]);
        sweep::<Numbered>();
        assert_eq!(
            LISTS.with_borrow(|lists| lists.iter().map(|(_, list)| list.len()).sum::<usize>()),
            1
        );
        assert_eq!(all(&idle), [3]);
        sweep::<Numbered>();
        assert!(LISTS.with_borrow(Vec::is_empty), "nothing is left of a pool that keeps nothing");
    }

    #[test]
    fn each_thread_has_its_own() {
        let idle = Idle::new(9);
        put(&idle, [1]);
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                put(&idle, [2]);
                all(&idle)
            });
            assert_eq!(there.join().unwrap(), [2]);
        });
        assert_eq!(all(&idle), [1]);
    }
}
