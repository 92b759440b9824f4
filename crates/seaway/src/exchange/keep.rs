//! Responses that are kept: what a request goes on from, and what is left of its answer.

use std::pin::Pin;
use std::sync::Arc;

use seaway_wire::responses::{self, Before, Kept};
use seaway_wire::{Fault, FaultKind, Request};

use super::Exchange;
use crate::answer::store_down;
use crate::causes::chain;
use crate::store::{Response, Store};

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

impl Exchange {
    /// What is kept of earlier responses, as far as a request speaks of it.
    pub(super) async fn before(&self, request: &Request<'_>) -> Result<Before, Fault> {
        let mut before = Before::default();
        let (store, owner) = (self.house.ledger.store(), &self.ask.caller.0);
        let retention = self.runtime.config.responses_retention;
        if let Some(id) = responses::previous(request)? {
            let kept = store.response(owner, &id, retention).await.map_err(store_down)?;
            let unknown = || {
                let message = format!(
                    "previous_response_id: there is no response `{id}`; it may have failed, have been made with `store: false` or by somebody else, be deleted, or be too old"
                );
                Fault::new(FaultKind::NotFound, message).param("previous_response_id").code("previous_response_not_found")
            };
            before.memory = Some(kept.ok_or_else(unknown)?.memory);
        }
        for id in responses::references(request) {
            if let Some(item) = store.response_item(owner, &id, retention).await.map_err(store_down)? {
                before.items.insert(id, item);
            }
        }
        Ok(before)
    }

    /// Who keeps the answer, if answers are kept at all.
    pub(super) fn keeper(&self, request: &Request<'_>, before: &Before, id: &str) -> Option<Keeper> {
        if self.runtime.config.responses_retention.is_zero() {
            return None;
        }
        Some(Keeper { store: self.house.ledger.store().clone(), owner: self.ask.caller.0.clone(), items: responses::input_items(request, id, before) })
    }
}
