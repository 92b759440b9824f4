//! Responses that are kept: what a request goes on from, and what is left of its answer.

use seaway_wire::Request;
use seaway_wire::responses::{self, Before};

use super::Exchange;
use crate::fault::{Fault, FaultKind};
use crate::store::Keeper;

impl Exchange {
    /// What is kept of earlier responses, as far as a request speaks of it.
    pub(super) async fn before(&self, request: &Request<'_>) -> Result<Before, Fault> {
        let mut before = Before::default();
        let (store, owner) = (self.state.ledger.store(), &self.client.caller.0);
        let retention = self.snapshot.config.responses_retention;
        if let Some(id) = responses::previous(request).map_err(seaway_wire::Fault::into_kind)? {
            let kept = store.response(owner, &id, retention).await?;
            let unknown = || {
                let message = format!(
                    "previous_response_id: there is no response `{id}`; it may have failed, have been made with `store: false` or by somebody else, be deleted, or be too old"
                );
                Fault::new(FaultKind::NotFound, message)
                    .param("previous_response_id")
                    .code("previous_response_not_found")
            };
            before.memory = Some(kept.ok_or_else(unknown)?.memory);
        }
        for id in responses::references(request) {
            if let Some(item) = store.response_item(owner, &id, retention).await? {
                before.items.insert(id, item);
            }
        }
        Ok(before)
    }

    /// The keeper of an answer, if the store keeps answers.
    pub(super) fn keeper(
        &self,
        request: &Request<'_>,
        before: &Before,
        id: &str,
    ) -> Option<Keeper> {
        if self.snapshot.config.responses_retention.is_zero() {
            return None;
        }
        Some(Keeper::of_response(
            self.state.ledger.store().clone(),
            self.client.caller.0.clone(),
            responses::input_items(request, id, before),
        ))
    }
}
