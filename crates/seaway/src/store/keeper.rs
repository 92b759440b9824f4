//! Who keeps a response while its answer is on its way.

use std::pin::Pin;
use std::sync::Arc;

use seaway_wire::responses::Kept;

use super::{Response, Store};
use crate::causes::chain;

/// Keeps one response, once it is whole.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    owner: Arc<str>,
    items: Vec<String>,
}

/// Resolves to whether a response is kept.
pub type Keeping = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Keeper {
    /// One for the answer to `owner`, whose request had these items.
    #[must_use]
    pub fn new(store: Store, owner: Arc<str>, items: Vec<String>) -> Self {
        Self { store, owner, items }
    }

    /// Keeps it, and says whether that is done: its client is to be told.
    #[must_use]
    pub fn keep(self, kept: Kept) -> Keeping {
        let created = jiff::Timestamp::now().as_second();
        let id = kept.id.clone();
        let response = Response { id: kept.id, owner: self.owner.to_string(), created, object: kept.object, items: self.items, memory: kept.memory };
        let done = self.store.keep_response(response);
        Box::pin(async move {
            let kept = done.await;
            if let Err(error) = &kept {
                tracing::error!(id, error = %chain(error), "a response could not be kept; its client is told so");
            }
            kept.is_ok()
        })
    }
}
