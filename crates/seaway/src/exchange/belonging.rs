//! Which upstream a request belongs to that is sent on as it comes.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use seaway_wire::Endpoint;
use seaway_wire::messages::{files_named, files_of_message, models_of_batch};

use super::no_upstream;
use crate::auth::Caller;
use crate::causes::chain;
use crate::config::OWNER;
use crate::fault::{Fault, FaultKind};
use crate::route;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::upstream::{Target, Upstream};

/// True for a request that makes a file or a batch.
pub(super) fn makes(method: &Method, target: &Target) -> bool {
    *method == Method::POST
        && matches!(target.endpoint(), Some(Endpoint::Batches | Endpoint::Files))
}

/// True for what was made at an upstream, and is there alone.
pub(super) fn is_made(target: &Target) -> bool {
    use Endpoint::{Batch, BatchCancel, BatchResults, File, FileContent};
    let made = [Batch, BatchCancel, BatchResults, File, FileContent];
    target.family().is_some_and(|endpoint| made.contains(&endpoint))
}

/// True for what was made itself, and not something below it.
pub(super) fn is_whole(target: &Target) -> bool {
    matches!(target.endpoint(), Some(Endpoint::Batch | Endpoint::File))
}

/// True for a list of what was made.
pub(super) fn lists(method: &Method, target: &Target) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && matches!(target.endpoint(), Some(Endpoint::Batches | Endpoint::Files))
}

/// True where what one caller made is not this one's: there are several, and it is not the owner of all.
pub(super) fn is_shared(snapshot: &Snapshot, caller: &Caller) -> bool {
    snapshot.keyring.is_shared() && &*caller.0 != OWNER
}

/// Checks that no file that a request names was made for another caller.
pub(super) async fn check_files(
    snapshot: &Snapshot,
    store: &Store,
    caller: &Caller,
    body: &[u8],
) -> Result<(), Fault> {
    if !is_shared(snapshot, caller) {
        return Ok(());
    }
    let ids: Vec<String> = files_named(body).into_iter().collect();
    if ids.is_empty() {
        return Ok(());
    }
    match store.made_for_another(ids, &caller.0).await? {
        Some(id) => Err(another(&id)),
        None => Ok(()),
    }
}

/// The same words for what is not there and for what is somebody else's.
fn another(id: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("there is no `{id}` of yours"))
}

/// Finds the upstream of what an id names, of the models of a batch, or the first one that there is.
pub(super) async fn upstream_of(
    snapshot: &Snapshot,
    store: &Store,
    target: &Target,
    caller: &Caller,
    batch: Option<&[u8]>,
) -> Result<Arc<Upstream>, Fault> {
    if let Some(id) = target.id().filter(|_| is_made(target))
        && let Some(upstream) = upstream_of_made(snapshot, store, id, caller).await?
    {
        return Ok(upstream.clone());
    }
    if let Some(batch) = batch {
        check_files(snapshot, store, caller, batch).await?;
        return upstream_of_batch(snapshot, batch);
    }
    snapshot.first().cloned().ok_or_else(|| no_upstream(&snapshot.config))
}

async fn upstream_of_made<'r>(
    snapshot: &'r Snapshot,
    store: &Store,
    id: &str,
    caller: &Caller,
) -> Result<Option<&'r Arc<Upstream>>, Fault> {
    let shared = is_shared(snapshot, caller);
    // With a single upstream there is no other place.
    if snapshot.upstreams.len() < 2 && !shared {
        return Ok(None);
    }
    let Some(made) = store.made_at(id).await? else { return Ok(None) };
    if shared && made.is_of_another(&caller.0) {
        return Err(another(id));
    }
    Ok(snapshot.upstreams.iter().find(|upstream| *upstream.name.0 == *made.upstream))
}

/// All requests of a batch go to one upstream: the first to which every one of their models leads.
fn upstream_of_batch(snapshot: &Snapshot, body: &[u8]) -> Result<Arc<Upstream>, Fault> {
    let config = &snapshot.config;
    let models = models_of_batch(body);
    let lead_to =
        |model: &str| snapshot.led_to(model, route::alias(&config.aliases, model).unwrap_or(model));
    let mut shared = lead_to(models.first().map_or("", String::as_str));
    for model in models.iter().skip(1) {
        let also = lead_to(model);
        shared.retain(|upstream| also.iter().any(|other| other.name == upstream.name));
    }
    if let Some(upstream) = shared.first() {
        return Ok(Arc::clone(upstream));
    }
    if models.len() < 2 {
        return Err(no_upstream(config));
    }
    let each: Vec<String> = models
        .iter()
        .map(|model| {
            format!(
                "`{model}` to {}",
                lead_to(model).first().map_or("none", |upstream| &*upstream.name.0)
            )
        })
        .collect();
    let message = format!(
        "requests: a batch goes to one upstream, and these models lead to several ({}); send a batch for each",
        each.join(", ")
    );
    Err(Fault::new(FaultKind::InvalidRequest, message).param("requests"))
}

/// Puts the upstream first that holds a file which a message names, if it is one of those that could be asked.
pub(super) async fn holder_first(store: &Store, body: &[u8], targets: &mut [&Arc<Upstream>]) {
    if targets.len() < 2 {
        return;
    }
    let files: BTreeSet<&str> = files_of_message(body).into_iter().collect();
    for id in files.into_iter().take(FILES) {
        let made = match store.made_at(id).await {
            Ok(Some(made)) => made,
            Ok(None) => continue,
            // They can be asked in the order that they have.
            Err(error) => {
                tracing::warn!(error = chain(&error), "where a file is could not be looked up");
                return;
            }
        };
        if let Some(at) = targets.iter().position(|target| *target.name.0 == *made.upstream) {
            targets[..=at].rotate_right(1);
            return;
        }
    }
}

/// So many of the files that a message names are looked for.
const FILES: usize = 16;
