//! Whether an upstream can be reached, without asking it anything.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;

use super::BoxError;

/// How long a connection that could be opened is believed.
const GOOD_FOR: Duration = Duration::from_secs(15);
/// How long a failed look counts.
const BAD_FOR: Duration = Duration::from_secs(2);
/// How long one may take: somebody waits for the word.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of the way to an upstream. Requests tell; where none came lately, a connection is opened and dropped.
#[derive(Debug, Default)]
pub(super) struct Reach {
    known: Mutex<Option<LastProbe>>,
    /// Held by the one caller that looks.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct LastProbe {
    at: Instant,
    /// Since when it cannot be reached, and why.
    lost: Option<(Instant, String)>,
}

impl LastProbe {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < if self.lost.is_some() { BAD_FOR } else { GOOD_FOR }
    }

    fn within(&self, grace: Duration) -> Result<(), String> {
        match &self.lost {
            Some((since, why)) if since.elapsed() >= grace => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

impl Reach {
    fn fresh(&self) -> Option<LastProbe> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(LastProbe::is_fresh)
    }

    /// Notes the result of a look, or of a request.
    pub(super) fn told(&self, found: Result<(), String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since =
            known.as_ref().and_then(|known| known.lost.as_ref()).map_or(now, |(since, _)| *since);
        *known = Some(LastProbe { at: now, lost: found.err().map(|why| (since, why)) });
    }

    /// Tells whether the upstream can be reached, looking if nobody did lately. One that was lost for less than `grace`
    /// still counts.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(super) async fn look(
        &self,
        grace: Duration,
        probe: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), String> {
        if let Some(known) = self.fresh() {
            return known.within(grace);
        }
        let _alone = self.looking.lock().await;
        if let Some(known) = self.fresh() {
            return known.within(grace);
        }
        let found = match timeout(PATIENCE, probe).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(crate::causes::chain(&*error)),
            Err(_) => Err(format!("no connection within {} seconds", PATIENCE.as_secs())),
        };
        self.told(found);
        self.fresh().map_or(Ok(()), |known| known.within(grace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_looks_and_all_know() {
        let reach = Reach::default();
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let probe = || async {
            looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err("refused".into())
        };
        let (one, other) =
            tokio::join!(reach.look(Duration::ZERO, probe()), reach.look(Duration::ZERO, probe()));
        assert_eq!((one, other), (Err("refused".to_owned()), Err("refused".to_owned())));
        assert_eq!(looks.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_tell_and_a_grace_is_given() {
        let reach = Reach::default();
        let unasked = || async { panic!("nobody has to look") };
        reach.told(Ok(()));
        assert_eq!(reach.look(Duration::ZERO, unasked()).await, Ok(()));
        reach.told(Err("refused".into()));
        assert_eq!(reach.look(Duration::ZERO, unasked()).await, Err("refused".to_owned()));
        assert_eq!(reach.look(Duration::from_secs(60), unasked()).await, Ok(()));
        assert_eq!(
            Reach::default().look(Duration::ZERO, std::future::pending()).await,
            Err("no connection within 3 seconds".to_owned())
        );
    }
}
