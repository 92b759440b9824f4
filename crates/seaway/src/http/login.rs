//! The program's own login: whether it is signed in, and signing it in and out.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::StatusCode;
use http::header::ACCEPT;
use serde::Deserialize;
use serde_json::json;

use super::admission::CameBy;
use super::{Admitted, Gateway, admission, reply};
use crate::agent::{no_program, program_of};
use crate::auth::Caller;
use crate::config::Listen;
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::{AuditEntry, AuditEvent};
use crate::upstream::claude_code::{LoginError, Program, Unusable};

pub(super) fn routes(prefix: &str) -> Router<Arc<AppState>> {
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/status"), get(status))
        .route(&at("/login"), post(begin).get(show))
        .route(&at("/login/{id}"), post(finish))
        .route(&at("/logout"), post(leave))
}

fn program(snapshot: &Snapshot) -> Result<&Program, Fault> {
    program_of(snapshot).and_then(|upstream| upstream.program()).ok_or_else(no_program)
}

/// The program, where it may be signed in and out from here.
fn changeable(snapshot: &Snapshot) -> Result<&Program, Fault> {
    let program = program(snapshot)?;
    // As it really listens: a reload does not change that.
    let local = snapshot.config.listen.iter().all(Listen::is_local);
    if !local && !program.setting().remote {
        return Err(Fault::new(
            FaultKind::Forbidden,
            "signing in over HTTP is for loopback; run `seaway login` on the machine itself, or set `claude_code.remote = true`",
        ));
    }
    if program.setting().credential.is_some() {
        return Err(Fault::new(
            FaultKind::InvalidRequest,
            "this upstream uses a configured credential, not the program's own login",
        ));
    }
    Ok(program)
}

fn failed(error: &LoginError) -> Fault {
    let kind = match error {
        LoginError::Unusable(_) | LoginError::Start(_) => FaultKind::NotReady,
        LoginError::NoAddress(_) => FaultKind::BadReply,
        LoginError::TooMany(_) => FaultKind::RateLimited,
        LoginError::Unknown => FaultKind::NotFound,
        LoginError::Code | LoginError::Refused(_) => FaultKind::InvalidRequest,
    };
    Fault::new(kind, crate::causes::chain(error))
}

async fn status(Extension(snapshot): Extension<Arc<Snapshot>>) -> Response {
    let program = match program(&snapshot) {
        Ok(program) => program,
        Err(none) => return reply::own_fault(&none),
    };
    let setting = program.setting();
    let installed = program.installed().program(setting).await;
    let login = program.installed().login(setting).await;
    let why = match (&installed, &login) {
        (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
        (_, Ok(status)) if !status.logged_in && setting.credential.is_none() => {
            Some(Unusable::SignedOut.to_string())
        }
        _ => None,
    };
    let login = login.ok();
    let expires = login
        .as_ref()
        .and_then(|login| jiff::Timestamp::from_millisecond(login.login_expires_at?).ok());
    // Not the same as signed in: a login may be over, or a configured credential in its place.
    let ready = match program_of(&snapshot) {
        Some(upstream) => upstream.usable().await,
        None => Ok(()),
    };
    reply::json(
        StatusCode::OK,
        json!({
            "installed": installed.is_ok(),
            "version": installed.ok().map(|(_, version)| version.to_string()),
            "loggedIn": login.as_ref().is_some_and(|login| login.logged_in),
            "authenticated": ready.is_ok(),
            "expired": expires.map(|at| at <= jiff::Timestamp::now()),
            "expiresAt": expires.map(|at| at.to_string()),
            "authMethod": login.as_ref().map(|login| login.auth_method.clone()),
            "email": login.as_ref().and_then(|login| login.email.clone()),
            "organization": login.as_ref().and_then(|login| login.org_name.clone()),
            "subscription": login.as_ref().and_then(|login| login.subscription_type.clone()),
            "limit": program.limits().first(),
            "limits": program.limits(),
            "why": why,
        })
        .to_string(),
    )
}

/// A person who opens the address of the tool that was here before is led to where signing in is a button.
async fn show(request: Request) -> Response {
    let person = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if person {
        return Redirect::to("/").into_response();
    }
    let message = format!(
        "GET cannot be used on {}; use POST, which begins to sign in, or open the dashboard at `/` in a browser",
        request.uri().path()
    );
    admission::refuse(Fault::new(FaultKind::WrongMethod, message), request).await
}

async fn begin(Extension(snapshot): Extension<Arc<Snapshot>>) -> Response {
    let begun = match changeable(&snapshot) {
        Ok(program) => program.begin_login().await.map_err(|error| failed(&error)),
        Err(no) => Err(no),
    };
    match begun {
        Ok((id, url)) => {
            reply::json(StatusCode::OK, json!({"id": id, "url": url, "next": format!("open the address, sign in, and POST {{\"code\": \"…\"}} to /auth/login/{id}")}).to_string())
        }
        Err(no) => reply::own_fault(&no),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pasted {
    code: String,
}

async fn finish(
    State(state): Gateway,
    (Extension(snapshot), Extension(caller)): Admitted,
    came: Option<Extension<CameBy>>,
    path: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Response {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    let Ok(pasted) = serde_json::from_slice::<Pasted>(&body) else {
        return reply::own_fault(
            &Fault::new(
                FaultKind::InvalidRequest,
                "expected {\"code\": \"…\"} with the code that the page shows",
            )
            .param("code"),
        );
    };
    let finished = match changeable(&snapshot) {
        Ok(program) => {
            program.finish_login(&id, &pasted.code).await.map_err(|error| failed(&error))
        }
        Err(no) => Err(no),
    };
    if let Some(upstream) = program_of(&snapshot).filter(|_| finished.is_ok()) {
        // Whatever was refused before, was another login's.
        upstream.health.good();
    }
    match finished {
        Ok(status) => {
            note(&state, AuditEvent::ProgramLogin, &caller, came);
            reply::json(StatusCode::OK, json!({"loggedIn": status.logged_in, "authMethod": status.auth_method, "email": status.email}).to_string())
        }
        Err(no) => reply::own_fault(&no),
    }
}

fn note(state: &AppState, event: AuditEvent, caller: &Caller, came: Option<Extension<CameBy>>) {
    let address = came.and_then(|Extension(came)| came.connection.address());
    let entry = AuditEntry::once(event, &*caller.0, "over HTTP");
    state.ledger.store().audit(entry.from(address));
}

async fn leave(
    State(state): Gateway,
    (Extension(snapshot), Extension(caller)): Admitted,
    came: Option<Extension<CameBy>>,
) -> Response {
    let left = match changeable(&snapshot) {
        Ok(program) => program.logout().await.map_err(|error| failed(&error)),
        Err(no) => Err(no),
    };
    match left {
        Ok(()) => {
            note(&state, AuditEvent::ProgramLogout, &caller, came);
            reply::json(StatusCode::OK, json!({"loggedIn": false}).to_string())
        }
        Err(no) => reply::own_fault(&no),
    }
}
