//! `/v1/models`: one answer that both vendors' SDKs and Claude Code read.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use seaway_wire::json::{Members, quote};
use serde::Deserialize;

use super::reply;
use crate::account::Standing;
use crate::auth::Caller;
use crate::catalog::{NoList, OF_CODEX, both_shapes, codex_models, undated};
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::upstream::Upstream;
use crate::{answer, headers, route};

/// How many models a page has when the client does not say.
const PAGE: usize = 1000;
/// What a query may hold that is not the upstream's to read.
const OURS: [&str; 5] = ["limit", "after_id", "before_id", "client_version", "beta"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelPaging {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
}

pub(super) async fn list(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    client: HeaderMap,
    uri: Uri,
    paging: Result<Query<ModelPaging>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let snapshot = state.snapshot.load_full();
    let Ok(Query(paging)) = paging else {
        return fault(
            &Fault::new(FaultKind::InvalidRequest, "limit: input should be a whole number")
                .param("limit"),
        );
    };
    let query = uri.query().unwrap_or_default();
    let own = state.ledger.accounts().of(&caller.0);
    match gather(&snapshot, own.as_ref(), &client, &narrowing(query)).await {
        Ok(models) => {
            let own = if asks_as_codex(query) {
                format!(",\"models\":{}", for_codex(&snapshot, &client, &models).await)
            } else {
                String::new()
            };
            match page(&models, &paging, &own) {
                Ok(page) => answered(page),
                Err(wrong) => fault(&wrong),
            }
        }
        Err(response) => *response,
    }
}

pub(super) async fn one(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    client: HeaderMap,
) -> Response {
    let snapshot = state.snapshot.load_full();
    let id = id.map_or_else(|_| "\u{fffd}".to_owned(), |Path(id)| id);
    let target = route::alias(&snapshot.config.aliases, &id).unwrap_or(&id).to_owned();
    let newest = newest(&snapshot, &client, &target).await;
    let target = newest.as_deref().unwrap_or(&target);
    let own = state.ledger.accounts().of(&caller.0);
    match gather(&snapshot, own.as_ref(), &client, "").await {
        Ok(models) => match models
            .iter()
            .find(|(known, _)| *known == id)
            .or_else(|| models.iter().find(|(known, _)| known == target))
        {
            Some((_, model)) => answered(model.clone()),
            None => fault(
                &Fault::new(FaultKind::NotFound, format!("model: {id}")).code("model_not_found"),
            ),
        },
        Err(response) => *response,
    }
}

/// What a family's name stands for.
async fn newest(snapshot: &Snapshot, client: &HeaderMap, family: &str) -> Option<String> {
    if !route::FAMILIES.contains(&family) {
        return None;
    }
    for upstream in &snapshot.upstreams {
        let headers =
            headers::to_upstream(client, &snapshot.keyring, upstream.passes_credentials());
        if let Ok(newest) = snapshot.catalog.newest(upstream, &headers, family).await {
            return Some(newest);
        }
    }
    None
}

/// What a query asks beyond the page: for the upstreams to read, as the client wrote it.
fn narrowing(query: &str) -> String {
    let ours = |pair: &&str| {
        !pair.is_empty() && !OURS.contains(&pair.split('=').next().unwrap_or_default())
    };
    query.split('&').filter(ours).collect::<Vec<_>>().join("&")
}

/// Codex says its version, and looks for a list of its own kind beside the others.
fn asks_as_codex(query: &str) -> bool {
    query.split('&').any(|pair| pair.starts_with("client_version="))
}

/// Collects the models of every upstream, those that the owner lists, and the aliases that name one thing. If no
/// upstream lists any, the first one's own answer says why.
async fn gather(
    snapshot: &Snapshot,
    own: Option<&Standing>,
    client: &HeaderMap,
    narrowing: &str,
) -> Result<Vec<(String, String)>, Box<Response>> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut failure = None;
    let settings = own.map(|standing| &standing.key.row.settings);
    let usable = |upstream: &&Arc<Upstream>| {
        settings.is_none_or(|settings| settings.may_use(&upstream.name.0))
    };
    for upstream in snapshot.upstreams.iter().filter(usable) {
        let headers =
            headers::to_upstream(client, &snapshot.keyring, upstream.passes_credentials());
        let listed = if narrowing.is_empty() {
            snapshot.catalog.models(upstream, &headers).await
        } else {
            snapshot.catalog.narrowed(upstream, &headers, narrowing).await
        };
        match listed {
            Ok(models) => models.iter().for_each(|model| add(&mut found, model)),
            Err(no_list) => failure = failure.or(Some(no_list)),
        }
    }
    let config = &snapshot.config;
    if config.models_only {
        found.retain(|(id, _)| config.models.contains(id));
    }
    for id in &config.models {
        let mut model = Members::default();
        model.set("id", quote(id));
        model.set("display_name", quote(id));
        add(&mut found, &model);
    }
    match failure {
        Some(no_list) if found.is_empty() => return Err(Box::new(unlisted(&no_list))),
        _ => {}
    }
    let aliases =
        config.aliases.iter().filter(|(glob, _)| !glob.0.contains('*') && !config.models_only);
    for (glob, target) in aliases {
        let mut model = Members::default();
        model.set("id", quote(&glob.0));
        model.set("display_name", quote(&format!("{} ({target})", glob.0)));
        add(&mut found, &model);
    }
    if let Some(settings) = settings {
        let meant = |id: &str| route::alias(&config.aliases, id).map(str::to_owned);
        found.retain(|(id, _)| {
            settings.may_ask(id) || meant(id).is_some_and(|meant| settings.may_ask(&meant))
        });
    }
    Ok(found)
}

fn add(found: &mut Vec<(String, String)>, model: &Members) {
    let id = model.get("id").and_then(|raw| serde_json::from_str::<String>(raw).ok());
    if let Some(id) = id.filter(|id| !found.iter().any(|(known, _)| known == id)) {
        found.push((id, both_shapes(model)));
    }
}

fn page(models: &[(String, String)], paging: &ModelPaging, own: &str) -> Result<String, Fault> {
    let at = |name: &'static str, id: &Option<String>| {
        let Some(id) = id else { return Ok(None) };
        let found = models.iter().position(|(known, _)| known == id);
        found.map(Some).ok_or_else(|| {
            Fault::new(FaultKind::InvalidRequest, format!("{name}: there is no model `{id}`"))
                .param(name)
        })
    };
    let limit = paging.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let (start, end) =
        match (at("after_id", &paging.after_id)?, at("before_id", &paging.before_id)?) {
            (Some(after), _) => (after + 1, models.len().min(after + 1 + limit)),
            (None, Some(before)) => (before.saturating_sub(limit), before),
            (None, None) => (0, models.len().min(limit)),
        };
    let shown = &models[start..end];
    let more = if paging.before_id.is_some() { start > 0 } else { end < models.len() };
    let id = |model: Option<&(String, String)>| {
        model.map_or_else(|| "null".to_owned(), |(id, _)| quote(id))
    };
    let data: Vec<&str> = shown.iter().map(|(_, model)| model.as_str()).collect();
    Ok(format!(
        "{{\"object\":\"list\",\"data\":[{}],\"has_more\":{more},\"first_id\":{},\"last_id\":{}{own}}}",
        data.join(","),
        id(shown.first()),
        id(shown.last())
    ))
}

/// The same models for Codex. It also knows what family names and names without a date stand for, and offers none of
/// its own that nobody serves here.
async fn for_codex(
    snapshot: &Snapshot,
    client: &HeaderMap,
    models: &[(String, String)],
) -> serde_json::Value {
    let of =
        |id: &str| models.iter().find(|(known, _)| known == id).map(|(_, model)| model.as_str());
    let mut hidden: Vec<(String, &str)> = Vec::new();
    for family in route::FAMILIES {
        let newest = newest(snapshot, client, family).await;
        hidden.extend(newest.and_then(|id| of(&id)).map(|model| (family.to_owned(), model)));
    }
    let without =
        |(id, model): &'_ (String, String)| Some((undated(id)?.to_owned(), model.clone()));
    let undated: Vec<(String, String)> = models.iter().filter_map(without).collect();
    hidden.extend(undated.iter().map(|(name, model)| (name.clone(), model.as_str())));
    let aliases = &snapshot.config.aliases;
    let its_own = OF_CODEX.iter().filter(|name| route::alias(aliases, name).is_none());
    hidden.extend(its_own.map(|name| ((*name).to_owned(), "{}")));
    let mut told = HashSet::new();
    let shown: Vec<(&str, &str)> = models
        .iter()
        .map(|(id, model)| {
            // An alias is what it stands for.
            let meant = route::alias(aliases, id).map(|target| {
                let family = hidden.iter().find(|(name, _)| name == target);
                family.map_or_else(|| of(target), |(_, model)| Some(*model))
            });
            (id.as_str(), meant.flatten().unwrap_or(model))
        })
        .collect();
    hidden.retain(|(name, _)| of(name).is_none() && told.insert(name.clone()));
    let shown = shown.into_iter();
    codex_models(shown, hidden.into_iter())
}

fn answered(body: String) -> Response {
    let print = blake3::hash(body.as_bytes()).to_hex();
    let mut response = reply::json(StatusCode::OK, body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", &print[..16])) {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    answer::identify(response.headers_mut(), &answer::own_id());
    response
}

fn fault(fault: &Fault) -> Response {
    reply::shared_fault(fault, &answer::own_id())
}

/// The upstream's own error if it gave one that can be shown, else ours.
fn unlisted(no_list: &NoList) -> Response {
    let readable = seaway_wire::messages::UpstreamError::parse(&no_list.body).is_some();
    if let Some((kind, layer, wait)) = no_list.failure {
        let mut told = Fault::new(kind, no_list.message.clone());
        (told.layer, told.retry_after) = (layer, wait);
        return fault(&told);
    }
    if !readable || no_list.status.is_success() {
        return fault(&Fault::new(FaultKind::BadReply, no_list.message.clone()));
    }
    let mut response = reply::json(no_list.status, no_list.body.clone());
    *response.headers_mut() = headers::to_client(&no_list.headers, false);
    answer::identify(response.headers_mut(), &answer::own_id());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paging: ModelPaging, ids: &[&str], more: bool) {
        let models: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|id| ((*id).to_owned(), format!("{{\"id\":\"{id}\"}}")))
            .collect();
        let page: serde_json::Value =
            serde_json::from_str(&page(&models, &paging, "").unwrap()).unwrap();
        let found: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap())
            .collect();
        assert_eq!((found.as_slice(), &page["has_more"]), (ids, &more.into()), "{paging:?}");
    }

    #[test]
    fn pages_go_both_ways() {
        let paging = |limit, after: Option<&str>, before: Option<&str>| ModelPaging {
            limit,
            after_id: after.map(Into::into),
            before_id: before.map(Into::into),
        };
        check(paging(None, None, None), &["a", "b", "c", "d"], false);
        check(paging(Some(2), None, None), &["a", "b"], true);
        check(paging(Some(2), Some("b"), None), &["c", "d"], false);
        check(paging(Some(2), None, Some("d")), &["b", "c"], true);
        check(paging(Some(9), Some("d"), None), &[], false);
        assert_eq!(
            page(&[], &paging(None, Some("z"), None), "").unwrap_err().message,
            "after_id: there is no model `z`"
        );
    }
}
