//! What our own paths answer, and how answers of an exchange become HTTP responses.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use seaway_wire::Dialect;

use crate::answer::{self, Head};
use crate::exchange::Answer;
use crate::fault::Fault;

/// An answer of an exchange.
pub(super) fn of_exchange(answer: Answer) -> Response {
    response(answer.head, Body::new(answer.frames))
}

/// Writes a JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response(Head { status, headers }, body.into())
}

/// An empty answer with status 200.
pub(super) fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    answer::identify(response.headers_mut(), &answer::own_id());
    response
}

/// Shows a fault in the client's dialect.
pub(super) fn fault(fault: &Fault, dialect: Dialect, request_id: &str) -> Response {
    shown(answer::of_fault(fault, dialect, request_id))
}

/// Shows a fault on a path of our own.
pub(super) fn own_fault(wrong: &Fault) -> Response {
    fault(wrong, Dialect::Messages, &answer::own_id())
}

/// Shows a fault on a path that both vendors' clients use.
pub(super) fn shared_fault(fault: &Fault, request_id: &str) -> Response {
    shown(answer::of_shared_fault(fault, request_id))
}

fn shown((head, body): (Head, Bytes)) -> Response {
    response(head, body.into())
}

fn response(head: Head, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}
