//! Who may see and use the dashboard: whoever shows a key, or a cookie that one was shown for.
//!
//! What changes something has to come from the page itself: a POST or DELETE with our own `Origin`.

pub mod cookie;
pub mod knocks;

use http::header::{ACCEPT, HOST, ORIGIN};
use http::{HeaderMap, Method, Request};

use crate::auth::Caller;
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;

/// What anyone may have: the page itself, which knows nothing, its door, and what a program asks that has no key yet.
pub fn is_open<B>(request: &Request<B>) -> bool {
    match (request.method(), request.uri().path()) {
        // The latter leads to the former.
        (&Method::GET, "/" | "/auth/login") => wants_page(request.headers()),
        (
            &Method::GET,
            "/dashboard/door"
            | "/dashboard/page.css"
            | "/dashboard/page.js"
            | "/dashboard/plot.js"
            | "/dashboard/icon.svg"
            | "/dashboard/device"
            | "/.well-known/oauth-authorization-server"
            | "/device",
        ) => true,
        (&Method::POST, "/oauth/device_authorization" | "/oauth/token" | "/oauth/revoke") => true,
        (&Method::POST, "/dashboard/sign-in" | "/dashboard/sign-out" | "/dashboard/device") => {
            is_own_page(request.headers())
        }
        _ => false,
    }
}

/// Who signed in, on what the page uses.
pub fn signed_in<B>(snapshot: &Snapshot, request: &Request<B>) -> Option<Caller> {
    if !is_ours(request.uri().path())
        || !(matches!(*request.method(), Method::GET | Method::HEAD)
            || is_own_page(request.headers()))
    {
        return None;
    }
    looks(snapshot, request.headers())
}

/// Whether somebody who has a key may see what a dashboard shows.
///
/// # Errors
///
/// If `dashboard.callers` names others.
pub fn admit<B>(snapshot: &Snapshot, request: &Request<B>, caller: &Caller) -> Result<(), Fault> {
    if is_ours(request.uri().path()) && !may_look(snapshot, caller) {
        return Err(not_named(caller));
    }
    Ok(())
}

fn is_ours(path: &str) -> bool {
    path.starts_with("/dashboard/")
}

/// Who looks, by a cookie that holds now.
pub fn looks(snapshot: &Snapshot, headers: &HeaderMap) -> Option<Caller> {
    if snapshot.keyring.is_open() {
        return Some(Caller("open".into()));
    }
    let caller = cookie::caller(headers, &snapshot.keyring, jiff::Timestamp::now().as_second())?;
    may_look(snapshot, &caller).then_some(caller)
}

/// Whether `dashboard.callers` leaves somebody in.
pub fn may_look(snapshot: &Snapshot, caller: &Caller) -> bool {
    snapshot.config.dashboard_callers.is_empty() || is_named(snapshot, caller)
}

/// Whether `dashboard.callers` names somebody.
pub fn is_named(snapshot: &Snapshot, caller: &Caller) -> bool {
    snapshot.config.dashboard_callers.iter().any(|name| **name == *caller.0)
}

/// The fault of somebody whom `dashboard.callers` leaves out.
pub fn not_named(caller: &Caller) -> Fault {
    Fault::new(FaultKind::Forbidden, format!("`{}` is not one of `dashboard.callers`", caller.0))
}

/// A browser says so where a page makes a request; other programs have the key.
fn is_own_page(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !host.is_empty() && is_origin_of(host, origin)
}

/// True for the origin of a page that this host served, with TLS in front or without.
pub fn is_origin_of(host: &str, origin: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host))
}

/// True for a browser that navigates here.
pub fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}
