//! A store without threads: who simulates a gateway decides when each thing is done.

use std::sync::Arc;

use super::inbox::{Inbox, WriterStep};
use super::writer::{Writer, WriterDesk, WriterSetting};
use super::{Opened, ReadingPart, Store, StoreError, opener};
use crate::config::{PriceBook, StoreConfig};

type Opener = Box<dyn FnMut() -> Result<Writer, StoreError> + Send>;

/// The work of a store's threads. Dropped, it is as if they were killed.
pub struct StoreSteps {
    inbox: Arc<Inbox>,
    desk: WriterDesk<Opener>,
    reading: [ReadingPart; 2],
}

impl Store {
    /// A store whose work is done by whoever holds the latter.
    pub fn stepped(
        setting: StoreConfig,
        prices: Arc<PriceBook>,
        opened: Opened,
    ) -> (Self, StoreSteps) {
        let (store, parts) = Self::parts(&setting);
        let slots = [parts.lookups.slot.clone(), parts.reports.slot.clone()];
        let writing = WriterSetting::of(&setting);
        let open: Opener = Box::new(opener(setting, prices, slots, |_| {}));
        let desk = WriterDesk::new(parts.inbox.clone(), writing, open, opened);
        let reading = [parts.lookups, parts.reports];
        (store, StoreSteps { inbox: parts.inbox, desk, reading })
    }
}

impl StoreSteps {
    /// Does all that was asked so far. True if there was something.
    pub fn step(&mut self) -> bool {
        self.desk.retry_now();
        let mut busy = false;
        loop {
            let step = self.inbox.at_hand();
            let idle = matches!(step, WriterStep::Idle);
            self.desk.step(step);
            if idle {
                break;
            }
            busy = true;
        }
        for part in &self.reading {
            for work in part.asked.try_iter() {
                part.slot.work(work);
                busy = true;
            }
        }
        busy
    }

    /// Has the disk be full, or have room again.
    ///
    /// # Errors
    ///
    /// If the database cannot be told.
    pub fn fill_disk(&self, full: bool) -> rusqlite::Result<()> {
        self.desk.limit_pages(if full { 1 } else { i32::MAX.cast_unsigned() - 1 })
    }
}
