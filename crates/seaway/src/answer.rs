//! Heads of answers: faults, receipts and request ids as headers.

use crate::fault::{Fault, FaultKind};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use seaway_wire::Dialect;
use seaway_wire::messages::Change;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOTE: HeaderName = HeaderName::from_static("seaway-note");
const FAULT: HeaderName = HeaderName::from_static("seaway-fault");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The longest receipt in a header; `seaway explain` has all of it.
const NOTE_LIMIT: usize = 1000;
/// The longest name and place in it, in characters: a client may name a member as it likes.
const ENTRY_LIMIT: usize = 100;

/// The status and headers of an answer.
#[derive(Debug, Default)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// A fault as an answer in the client's dialect.
pub fn of_fault(fault: &Fault, dialect: Dialect, request_id: &str) -> (Head, Bytes) {
    (
        head_of_fault(fault, fault.status(dialect), request_id),
        fault.body(dialect, request_id).into(),
    )
}

/// A fault as an answer on a path that both vendors' clients use.
pub fn of_shared_fault(fault: &Fault, request_id: &str) -> (Head, Bytes) {
    (
        head_of_fault(fault, fault.status(Dialect::Messages), request_id),
        fault.shared_body(request_id).into(),
    )
}

fn head_of_fault(fault: &Fault, status: u16, request_id: &str) -> Head {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    identify(&mut headers, request_id);
    headers.insert(FAULT, HeaderValue::from_static(fault.layer.unwrap_or(layer(fault.kind))));
    if let Some(wait) = fault.retry_after {
        headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    // A client that repeats what cannot succeed only makes its user wait.
    if matches!(
        fault.kind,
        FaultKind::Unauthenticated
            | FaultKind::Forbidden
            | FaultKind::NotReady
            | FaultKind::OverBudget
    ) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    Head { status, headers }
}

/// Where the trouble is.
const fn layer(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Unreachable
        | FaultKind::BadReply
        | FaultKind::TimedOut
        | FaultKind::Overloaded => "upstream",
        FaultKind::InvalidRequest
        | FaultKind::Unsupported
        | FaultKind::Unauthenticated
        | FaultKind::Forbidden
        | FaultKind::NotFound
        | FaultKind::WrongMethod
        | FaultKind::TooLarge
        | FaultKind::SlowClient
        | FaultKind::RateLimited
        | FaultKind::OverBudget
        | FaultKind::NotReady
        | FaultKind::NoMemory
        | FaultKind::StoreDown
        | FaultKind::Draining
        | FaultKind::Internal => "gateway",
    }
}

/// Makes an id of our own for a request.
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
    let id = given
        .or_else(|| HeaderValue::from_str(own).ok())
        .unwrap_or_else(|| HeaderValue::from_static("unknown"));
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(X_REQUEST_ID, id.clone());
    id.to_str().unwrap_or(own).to_owned()
}

/// Writes the receipt of what was changed in the request; none if nothing was.
pub fn note(headers: &mut HeaderMap, changes: &[Change]) {
    let mut text = String::new();
    for (index, change) in changes.iter().enumerate() {
        let short = |text: &str| text.chars().take(ENTRY_LIMIT).collect::<String>();
        let entry = format!(
            "{}{} {}",
            if index > 0 { ", " } else { "" },
            short(&change.name),
            short(&change.path)
        );
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
