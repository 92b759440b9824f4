//! Who keeps a response while its answer is on its way.

use std::pin::Pin;
use std::sync::Arc;

use seaway_wire::responses::Kept;

use super::{MadeAt, Response, Store};
use crate::causes::chain;

/// The part of an answer that a later request can ask for.
#[derive(Debug)]
pub enum Keepsake {
    Response(Kept),
    /// The id of something that was made at the upstream.
    Made(String),
}

/// Keeps one thing, once its answer is whole.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    whose: KeptFor,
}

#[derive(Debug)]
enum KeptFor {
    /// An owner's, whose request had these items.
    Owner(Arc<str>, Vec<String>),
    /// An upstream's, made for somebody.
    Made(MadeAt),
}

/// Resolves to whether a response is kept.
pub type Keeping = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Keeper {
    /// One for the response to `owner`, whose request had these items.
    pub fn of_response(store: Store, owner: Arc<str>, items: Vec<String>) -> Self {
        Self { store, whose: KeptFor::Owner(owner, items) }
    }

    /// One for what is made at an upstream.
    pub fn of_made(store: Store, made: MadeAt) -> Self {
        Self { store, whose: KeptFor::Made(made) }
    }

    /// Keeps it, and says whether that is done: its client is to be told.
    pub fn keep(self, keepsake: Keepsake) -> Keeping {
        let (id, done) = match (keepsake, self.whose) {
            (Keepsake::Response(kept), KeptFor::Owner(owner, items)) => {
                let created = jiff::Timestamp::now().as_second();
                let id = kept.id.clone();
                let response = Response {
                    id: kept.id,
                    owner: owner.to_string(),
                    created,
                    object: kept.object,
                    items,
                    memory: kept.memory,
                };
                (id, self.store.keep_response(response))
            }
            (Keepsake::Made(id), KeptFor::Made(made)) => {
                (id.clone(), self.store.keep_made(id, made))
            }
            (Keepsake::Response(_), KeptFor::Made(_)) | (Keepsake::Made(_), KeptFor::Owner(..)) => {
                return Box::pin(async { false });
            }
        };
        Box::pin(async move {
            let kept = done.await;
            if let Err(error) = &kept {
                tracing::error!(id, error = %chain(error), "what an answer was about could not be kept");
            }
            kept.is_ok()
        })
    }
}
