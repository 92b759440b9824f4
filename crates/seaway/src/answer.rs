//! Responses that are ours: faults, receipts and request ids as headers.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use seaway_wire::messages::Change;
use seaway_wire::{Dialect, Fault, FaultKind};

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOTE: HeaderName = HeaderName::from_static("seaway-note");
const FAULT: HeaderName = HeaderName::from_static("seaway-fault");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The longest receipt in a header; `seaway explain` has all of it.
const NOTE_LIMIT: usize = 1000;
/// The longest name and place in it, in characters: a client may name a member as it likes.
const ENTRY_LIMIT: usize = 100;

/// Writes a JSON response.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Says that we are there, and no more.
#[must_use]
pub fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    identify(response.headers_mut(), &own_id());
    response
}

/// Shows a fault in the client's dialect.
#[must_use]
pub fn fault(fault: &Fault, dialect: Dialect, request_id: &str) -> Response {
    shown(fault, fault.kind.status(dialect), fault.body(dialect, request_id), request_id)
}

/// Shows a fault on a path of our own.
#[must_use]
pub fn own_fault(wrong: &Fault) -> Response {
    fault(wrong, Dialect::Messages, &own_id())
}

/// Shows a fault on a path that both vendors' clients use.
#[must_use]
pub fn shared_fault(fault: &Fault, request_id: &str) -> Response {
    shown(fault, fault.kind.status(Dialect::Messages), fault.shared_body(request_id), request_id)
}

fn shown(fault: &Fault, status: u16, body: String, request_id: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    let headers = response.headers_mut();
    identify(headers, request_id);
    headers.insert(FAULT, HeaderValue::from_static(fault.layer.unwrap_or(layer(fault.kind))));
    if let Some(wait) = fault.retry_after {
        headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    // A client that repeats what cannot succeed only makes its user wait.
    if matches!(fault.kind, FaultKind::Unauthenticated | FaultKind::Forbidden | FaultKind::NotReady) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// Where the trouble is.
const fn layer(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Unreachable | FaultKind::BadReply | FaultKind::TimedOut | FaultKind::Overloaded => "upstream",
        FaultKind::InvalidRequest
        | FaultKind::Unsupported
        | FaultKind::Unauthenticated
        | FaultKind::Forbidden
        | FaultKind::NotFound
        | FaultKind::WrongMethod
        | FaultKind::TooLarge
        | FaultKind::RateLimited
        | FaultKind::NotReady
        | FaultKind::StoreDown
        | FaultKind::Draining
        | FaultKind::Internal => "gateway",
    }
}

/// Makes an id of our own for a request.
#[must_use]
pub fn own_id() -> String {
    format!("req_sw_{}", uuid::Uuid::now_v7().simple())
}

/// Gives an answer that has no id one of ours.
pub fn identify_if_nameless(headers: &mut HeaderMap) {
    if !headers.contains_key(REQUEST_ID) {
        identify(headers, &own_id());
    }
}

/// Makes sure that a response says by what id it is known: the upstream's if it gave one.
pub fn identify(headers: &mut HeaderMap, own: &str) -> String {
    let given = headers.get(REQUEST_ID).or_else(|| headers.get(X_REQUEST_ID)).cloned();
    let id = given.or_else(|| HeaderValue::from_str(own).ok()).unwrap_or_else(|| HeaderValue::from_static("unknown"));
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(X_REQUEST_ID, id.clone());
    id.to_str().unwrap_or(own).to_owned()
}

/// Writes the receipt of what was changed in the request; none if nothing was.
pub fn note(headers: &mut HeaderMap, changes: &[Change]) {
    let mut text = String::new();
    for (index, change) in changes.iter().enumerate() {
        let short = |text: &str| text.chars().take(ENTRY_LIMIT).collect::<String>();
        let entry = format!("{}{} {}", if index > 0 { ", " } else { "" }, short(&change.name), short(&change.path));
        if text.len() + entry.len() > NOTE_LIMIT {
            text.push_str(&format!(", and {} more", changes.len() - index));
            break;
        }
        text.push_str(&entry);
    }
    // Names may be in any script; header values may hold any bytes but control characters.
    let text = text.replace(|c: char| c.is_control(), "?");
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes())
        && !text.is_empty()
    {
        headers.insert(NOTE, value);
    }
}
