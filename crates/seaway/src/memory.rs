//! The memory that bodies may take, of requests and of answers that are held until they are whole.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::{Fault, FaultKind};

/// It is counted in pieces of so many bytes; what is smaller is not counted.
const PIECE: usize = 64 << 10;
/// How long a request waits for others to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A budget of bytes.
#[derive(Debug, Clone)]
pub struct Memory {
    left: Arc<Semaphore>,
    /// All of it, in pieces.
    all: u32,
}

/// Memory that is held until this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    permit: Option<OwnedSemaphorePermit>,
}

fn pieces(bytes: usize) -> u32 {
    u32::try_from(bytes / PIECE).unwrap_or(u32::MAX)
}

/// The fault of an answer that finds no memory. Clients are told not to repeat the request: it would cost as much.
pub fn no_answer() -> Fault {
    let message = "the answer is larger than what may be held of answers right now (`memory_limit`); ask for a stream, which is not held";
    Fault::new(FaultKind::NotReady, message)
}

/// The fault of a request that finds no memory.
pub fn fault() -> Fault {
    let message = "the gateway holds as many bytes of requests as it may (`memory_limit`); ask again in a moment";
    Fault::new(FaultKind::NoMemory, message).retry_after(Duration::from_secs(1))
}

impl Memory {
    /// So many bytes in all.
    pub fn new(limit: usize) -> Self {
        let all = pieces(limit).max(1);
        Self { left: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX))), all }
    }

    /// Makes `held` so many bytes, waiting for others to end. Dropped meanwhile, it has what it had.
    ///
    /// # Errors
    ///
    /// If there is not so much within ten seconds, or never will be.
    pub async fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), Fault> {
        let more = held.lacks(bytes);
        if more == 0 {
            return Ok(());
        }
        if pieces(bytes) > self.all {
            let all = u64::from(self.all) * PIECE as u64;
            let message = format!(
                "the body is larger than all that may be held at once, {all} bytes; raise `memory_limit` if that is meant"
            );
            return Err(Fault::new(FaultKind::TooLarge, message));
        }
        let acquired = tokio::time::timeout(PATIENCE, self.left.clone().acquire_many_owned(more));
        held.merge(acquired.await.ok().and_then(Result::ok).ok_or_else(fault)?);
        Ok(())
    }

    /// The same without waiting; false if there is not so much.
    pub fn try_hold(&self, held: &mut Held, bytes: usize) -> bool {
        let more = held.lacks(bytes);
        if more == 0 {
            return true;
        }
        let acquired = self.left.clone().try_acquire_many_owned(more);
        acquired.is_ok_and(|permit| {
            held.merge(permit);
            true
        })
    }

    /// Bytes that are not held.
    pub fn left(&self) -> usize {
        self.left.available_permits() * PIECE
    }
}

impl Held {
    /// How many pieces are missing to so many bytes.
    fn lacks(&self, bytes: usize) -> u32 {
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        pieces(bytes).saturating_sub(u32::try_from(has).unwrap_or(u32::MAX))
    }

    fn merge(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_counted_and_given_back() {
        let memory = Memory::new(10 * PIECE);
        let (mut one, mut other) = (Held::default(), Held::default());
        assert!(memory.try_hold(&mut one, PIECE - 1), "small ones are not counted");
        assert_eq!(memory.left(), 10 * PIECE);
        memory.hold(&mut one, 6 * PIECE).await.unwrap();
        memory.hold(&mut one, 7 * PIECE).await.unwrap();
        assert_eq!(memory.left(), 3 * PIECE, "what was held already is not taken twice");
        assert!(!memory.try_hold(&mut other, 4 * PIECE) && memory.try_hold(&mut other, 3 * PIECE));
        let refused = memory.hold(&mut other, 11 * PIECE).await.unwrap_err();
        assert_eq!(refused.kind, FaultKind::TooLarge, "that much there never is");
        // It waits, and is refused when nobody ends.
        let refused = memory.hold(&mut other, 5 * PIECE).await.unwrap_err();
        assert_eq!((refused.kind, memory.left()), (FaultKind::NoMemory, 0));
        let waits = async { memory.hold(&mut other, 5 * PIECE).await };
        let ends = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(one);
        };
        assert!(tokio::join!(waits, ends).0.is_ok());
        drop(other);
        assert_eq!(memory.left(), 10 * PIECE);
    }
}
