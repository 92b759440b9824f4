//! What Claude Code asks of a gateway that it signed in to: its managed settings, and what is left.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Admitted, Gateway, reply};
use crate::admin;
use crate::fault::{Fault, FaultKind};
use crate::snapshot::Snapshot;
use crate::state::AppState;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/managed/settings", get(settings)).route("/api/oauth/usage", get(usage))
}

/// Keys sorted at every level, and numbers as JavaScript writes them.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            // By UTF-16, as JavaScript sorts.
            sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            let members = sorted.into_iter().map(|(name, value)| (name.clone(), canonical(value)));
            Value::Object(members.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        Value::Number(number) => {
            // Whole numbers beyond 2^53 are none there.
            let whole = number.as_f64().filter(|whole| whole.fract() == 0.0 && whole.abs() < 9e15);
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
            whole
                .filter(|_| number.is_f64())
                .map_or_else(|| value.clone(), |whole| json!(whole as i64))
        }
        other => other.clone(),
    }
}

/// The settings with what tells them from others: SHA-256 of their JSON, keys sorted and without whitespace.
fn sealed(settings: &Map<String, Value>) -> (Value, String) {
    let settings = canonical(&Value::Object(settings.clone()));
    let hash = Sha256::digest(settings.to_string());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let (bytes, _) = hash.split_first_chunk::<16>().expect("SHA-256 has more");
    let checksum = format!("sha256:{hex}");
    // The same settings are the same document.
    let uuid = uuid::Builder::from_custom_bytes(*bytes).into_uuid();
    (json!({"uuid": uuid.to_string(), "checksum": checksum, "settings": settings}), checksum)
}

async fn settings(Extension(snapshot): Extension<Arc<Snapshot>>, headers: HeaderMap) -> Response {
    let Some(settings) = &snapshot.config.managed else {
        let message = "this gateway manages no settings (`[managed]`)";
        return reply::own_fault(&Fault::new(FaultKind::NotFound, message));
    };
    let (document, checksum) = sealed(settings);
    let tag = format!("\"{checksum}\"");
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().trim_start_matches("W/") == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        reply::json(StatusCode::OK, document.to_string())
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

async fn usage(State(state): Gateway, (_, Extension(caller)): Admitted) -> Response {
    let told = admin::plan_usage(state.ledger.accounts(), &caller.0, Timestamp::now());
    let mut response = reply::json(StatusCode::OK, told.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sealed_as_the_program_does_it() {
        let settings =
            json!({"b": {"z": [2.0, 1.5, {"y": 1, "x": "ä\"<\n"}], "a": true}, "a": null});
        let (document, checksum) = sealed(settings.as_object().unwrap());
        let text = r#"{"a":null,"b":{"a":true,"z":[2,1.5,{"x":"ä\"<\n","y":1}]}}"#;
        let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(document["settings"].to_string(), text);
        assert_eq!(checksum, format!("sha256:{hex}"));
        assert_eq!(document["checksum"], checksum);
        let (again, _) = sealed(settings.as_object().unwrap());
        assert_eq!(document["uuid"], again["uuid"]);
    }
}
