//! OpenAI's Responses API beside the making of responses: those that are kept.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use http::StatusCode;
use seaway_wire::Dialect;
use seaway_wire::json::quote;
use serde::Deserialize;

use super::{Admitted, Gateway};
use super::{admission, reply};
use crate::fault::{Fault, FaultKind};
use crate::state::AppState;
use crate::{answer, store};

/// The response's id; what stands before it is a preset, which says nothing of what was kept.
type Id = Result<Path<Vec<(String, String)>>, PathRejection>;

/// A response that is kept here, or else what the upstream says of one that it keeps itself.
enum KeptResponse {
    Kept(Box<store::Response>),
    Elsewhere(Response),
}

async fn find(
    state: &Arc<AppState>,
    (Extension(snapshot), Extension(caller)): Admitted,
    id: &str,
    request: Request,
) -> KeptResponse {
    match state.ledger.store().response(&caller.0, id, snapshot.config.responses_retention).await {
        Ok(Some(kept)) => return KeptResponse::Kept(Box::new(kept)),
        Ok(None) => {}
        Err(error) => {
            return KeptResponse::Elsewhere(admission::refuse(error.into(), request).await);
        }
    }
    let speaks = snapshot
        .first()
        .is_some_and(|upstream| upstream.setting.speaks.contains(&Dialect::Responses));
    if !speaks {
        let message = format!(
            "there is no response `{id}`; it may have failed, have been made with `store: false` or by somebody else, be deleted, or be too old"
        );
        return KeptResponse::Elsewhere(
            admission::refuse(
                Fault::new(FaultKind::NotFound, message).param("response_id"),
                request,
            )
            .await,
        );
    }
    KeptResponse::Elsewhere(
        super::messages::relay(
            State(state.clone()),
            (Extension(snapshot), Extension(caller)),
            request,
        )
        .await,
    )
}

fn id_of(id: Id) -> String {
    let named = id.map(|Path(named)| named).unwrap_or_default();
    named.into_iter().find(|(name, _)| name == "id").map(|(_, id)| id).unwrap_or_default()
}

fn told(body: String) -> Response {
    let mut response = reply::json(StatusCode::OK, body);
    answer::identify(response.headers_mut(), &answer::own_id());
    response
}

pub(super) async fn get(
    State(state): Gateway,
    known: Admitted,
    id: Id,
    request: Request,
) -> Response {
    if request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true"))
    {
        let fault = Fault::new(
            FaultKind::Unsupported,
            "stream: a kept response is whole already; ask for it without `stream`",
        )
        .param("stream");
        return admission::refuse(fault, request).await;
    }
    match find(&state, known, &id_of(id), request).await {
        KeptResponse::Kept(kept) => told(kept.object),
        KeptResponse::Elsewhere(response) => response,
    }
}

pub(super) async fn delete(
    State(state): Gateway,
    known: Admitted,
    id: Id,
    request: Request,
) -> Response {
    let id = id_of(id);
    let owner = known.1.0.0.clone();
    match find(&state, known, &id, request).await {
        KeptResponse::Kept(kept) => {
            if let Err(error) = state.ledger.store().forget_response(&owner, &kept.id).await {
                return reply::fault(&error.into(), Dialect::Responses, &answer::own_id());
            }
            told(format!("{{\"id\":{},\"object\":\"response\",\"deleted\":true}}", quote(&kept.id)))
        }
        KeptResponse::Elsewhere(response) => response,
    }
}

/// Nothing is made in the background here, so there is nothing to cancel.
pub(super) async fn cancel(
    State(state): Gateway,
    known: Admitted,
    id: Id,
    request: Request,
) -> Response {
    match find(&state, known, &id_of(id), request).await {
        KeptResponse::Kept(kept) => {
            let fault = Fault::new(
                FaultKind::InvalidRequest,
                format!(
                    "the response `{}` was not made in the background, so it cannot be cancelled",
                    kept.id
                ),
            );
            let mut response = reply::fault(&fault, Dialect::Responses, &answer::own_id());
            answer::identify(response.headers_mut(), &answer::own_id());
            response
        }
        KeptResponse::Elsewhere(response) => response,
    }
}

/// Which of the items are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ItemPaging {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
}

pub(super) async fn items(
    State(state): Gateway,
    known: Admitted,
    id: Id,
    paging: Result<Query<ItemPaging>, QueryRejection>,
    request: Request,
) -> Response {
    let Ok(Query(paging)) = paging else {
        let fault =
            Fault::new(FaultKind::InvalidRequest, "limit: expected a whole number from 1 to 100")
                .param("limit");
        return admission::refuse(fault, request).await;
    };
    match find(&state, known, &id_of(id), request).await {
        KeptResponse::Kept(kept) => match page(kept.items, &paging) {
            Ok(page) => told(page),
            Err(fault) => reply::fault(&fault, Dialect::Responses, &answer::own_id()),
        },
        KeptResponse::Elsewhere(response) => response,
    }
}

#[derive(Deserialize)]
struct NamedItemId {
    #[serde(default)]
    id: String,
}

/// The newest first, unless the order is `asc`.
fn page(mut items: Vec<String>, paging: &ItemPaging) -> Result<String, Fault> {
    let wrong = |param: &'static str, why: &str| {
        Fault::new(FaultKind::InvalidRequest, format!("{param}: {why}")).param(param)
    };
    match paging.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => {
            return Err(wrong(
                "order",
                &format!("`{other}` is no order; expected `asc` or `desc`"),
            ));
        }
    }
    let limit = paging.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(wrong("limit", "expected a whole number from 1 to 100"));
    }
    let id = |item: &String| {
        serde_json::from_str::<NamedItemId>(item).map(|named| named.id).unwrap_or_default()
    };
    let start = match &paging.after {
        None => 0,
        Some(after) => {
            items
                .iter()
                .position(|item| id(item) == *after)
                .ok_or_else(|| wrong("after", &format!("there is no item `{after}`")))?
                + 1
        }
    };
    let rest = &items[start..];
    let shown = &rest[..rest.len().min(limit)];
    let named =
        |item: Option<&String>| item.map_or_else(|| "null".to_owned(), |item| quote(&id(item)));
    Ok(format!(
        "{{\"object\":\"list\",\"data\":[{}],\"first_id\":{},\"last_id\":{},\"has_more\":{}}}",
        shown.join(","),
        named(shown.first()),
        named(shown.last()),
        shown.len() < rest.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_listed_page_by_page() {
        let items = || (1..=3).map(|n| format!("{{\"id\":\"{n}\"}}")).collect::<Vec<_>>();
        let ids = |paging: ItemPaging| {
            let page: serde_json::Value =
                serde_json::from_str(&page(items(), &paging).unwrap()).unwrap();
            let ids: String = page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap())
                .collect();
            (ids, page["has_more"] == true)
        };
        let paging = |limit, order: Option<&str>, after: Option<&str>| ItemPaging {
            limit,
            order: order.map(Into::into),
            after: after.map(Into::into),
        };
        assert_eq!(ids(paging(None, None, None)), ("321".into(), false));
        assert_eq!(ids(paging(Some(2), Some("asc"), None)), ("12".into(), true));
        assert_eq!(ids(paging(Some(2), None, Some("2"))), ("1".into(), false));
        for bad in [
            paging(Some(0), None, None),
            paging(Some(101), None, None),
            paging(None, Some("up"), None),
            paging(None, None, Some("9")),
        ] {
            assert!(page(items(), &bad).is_err(), "{bad:?}");
        }
    }
}
