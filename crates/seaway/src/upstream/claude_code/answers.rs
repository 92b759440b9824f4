//! Replies in Messages: streams, whole messages, lists, and what the program says instead.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use seaway_wire::claude_code::output::Model;
use seaway_wire::claude_code::{Ask, Failure};
use seaway_wire::json::{Members, quote};
use seaway_wire::messages::{Change, Fold};

use super::flow::Flow;
use crate::upstream::gate::Pass;
use crate::upstream::{BoxError, Payload, Reply, ReplyBody, sandbox};

/// The longest wait that clients obey; told to wait longer, they give up or ignore it.
const LONGEST_WAIT: i64 = 60;
/// The wait after a 429 of which nothing more is known.
const USUAL_WAIT: i64 = 5;

/// An answer as it comes.
pub(super) fn streamed(first: Bytes, flow: Flow) -> Reply {
    let stream = futures_util::stream::unfold((Some(first), flow), |(first, mut flow)| async move {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, flow)));
        }
        match flow.next().await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), (None, flow))),
            Ok(None) => None,
            Err(failure) => Some((Err(BoxError::from(failure.message)), (None, flow))),
        }
    });
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"))]);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let body: ReplyBody = StreamBody::new(stream).boxed_unsync();
    Reply { status: StatusCode::OK, headers, body, attempts: 1, pass: Pass::free(), changes: Vec::new() }
}

/// An answer that was read to its end.
pub(super) fn folded(fold: Fold) -> Reply {
    match fold.finish() {
        Ok(folded) => Reply::json(200, folded.body),
        Err(error) => Reply::error(502, "api_error", &error.to_string()),
    }
}

/// The API's refusal, as the program tells it.
pub(super) fn refused(failure: &Failure) -> Reply {
    let mut failure = failure.clone();
    let status = failure.status_or_typical();
    // The program's own words stand before the API's.
    let prefixes = [
        format!("API Error: {status} "),
        format!("Failed to authenticate. API Error: {status} "),
        format!("API Error: Request rejected ({status}) \u{b7} "),
        "API Error: ".to_owned(),
    ];
    let said = prefixes.iter().find_map(|prefix| failure.message.strip_prefix(prefix.as_str()));
    failure.message = said.unwrap_or(&failure.message).to_owned();
    let wait = failure.resets_at.map(|at| (at - jiff::Timestamp::now().as_second()).max(1));
    if let Some(at) = failure.resets_at.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        failure.message = format!("{} (the plan's limit is reached; it resets at {at})", failure.message);
    }
    let mut reply = Reply::json(status, failure.body());
    let id = failure.request_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok());
    if let Some(id) = id {
        reply.headers.insert(HeaderName::from_static("request-id"), id);
    }
    // The program does not say how long the API asked to wait; without a wait, OpenAI's clients take it for an empty account.
    let wait = wait.or((status == 429).then_some(USUAL_WAIT));
    if let Some(wait) = wait {
        reply.headers.insert(RETRY_AFTER, HeaderValue::from(wait.min(LONGEST_WAIT)));
    }
    reply
}

/// The models that the program knows, as the Models API lists them.
pub(super) fn list(models: &[Model]) -> Reply {
    let mut seen: Vec<&str> = Vec::new();
    let mut listed = Vec::new();
    let named = |model: &&Model| model.value != "default";
    for model in models.iter().filter(named).chain(models) {
        let Some(id) = id_of(model).filter(|id| !seen.contains(id)) else { continue };
        seen.push(id);
        listed.push(entry(id, model));
    }
    Reply::json(200, format!("{{\"data\":[{}],\"has_more\":false}}", listed.join(",")))
}

/// One of them, by its id or by what the program calls it.
pub(super) fn model(models: &[Model], path: &str) -> Reply {
    let id = path.rsplit('/').next().unwrap_or_default();
    let found = models.iter().find_map(|model| id_of(model).filter(|known| *known == id || model.value == id).map(|id| entry(id, model)));
    found.map_or_else(|| Reply::error(404, "not_found_error", &format!("model: {id}")), |entry| Reply::json(200, entry))
}

fn id_of(model: &Model) -> Option<&str> {
    model.resolved_model.as_deref().or(Some(model.value.as_str())).filter(|id| *id != "default")
}

fn entry(id: &str, model: &Model) -> String {
    let mut entry = Members::default();
    entry.set("type", quote("model"));
    entry.set("id", quote(id));
    // The first words of it are its full name, such as `Opus 5.5 · Best for …`.
    let words = model.description.as_deref().and_then(|text| text.split(" \u{b7} ").next());
    let name = words.filter(|words| words.len() < 30).or(model.display_name.as_deref()).unwrap_or(id);
    entry.set("display_name", quote(&format!("Claude {name}")));
    entry.write()
}

/// A count of tokens that says that it is an estimate: the program has no way to ask for one.
pub(super) fn estimate(body: &Payload) -> Reply {
    let Payload::Whole(bytes) = body else { return Reply::error(400, "invalid_request_error", "the request body must come whole") };
    match serde_json::from_slice(bytes) {
        Ok(request) => {
            let reply = Reply::json(200, format!("{{\"input_tokens\":{},\"estimated\":true}}", sandbox::estimate(&request)));
            Reply { changes: vec![Change { name: "input_tokens".into(), path: "estimated".into() }], ..reply }
        }
        Err(error) => Reply::error(400, "invalid_request_error", &format!("the request body is not valid: {error}")),
    }
}

/// What is to be said of a request beside its answer.
pub(super) fn notes(ask: &Ask<'_>, headers: &HeaderMap) -> Vec<Change> {
    let mut changes = ask.changes.clone();
    if headers.contains_key("anthropic-beta") {
        changes.push(Change { name: "anthropic-beta".into(), path: "not passed on".into() });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Vec<Model> {
        let model = |value: &str, resolved: &str, description: &str| Model {
            value: value.into(),
            resolved_model: Some(resolved.into()),
            display_name: Some("Default (recommended)".into()),
            description: Some(description.into()),
        };
        vec![
            model("default", "claude-opus-5-5", "Use the default model"),
            model("opus", "claude-opus-5-5", "Opus 5.5 · Best"),
            model("haiku", "claude-haiku-5-5", "Haiku 5.5 · Fast"),
        ]
    }

    async fn text(reply: Reply) -> String {
        String::from_utf8(reply.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_model_is_listed_once() {
        let listed = text(list(&models())).await;
        assert_eq!(listed.matches("\"id\":\"claude-opus-5-5\"").count(), 1, "{listed}");
        assert!(listed.contains("\"display_name\":\"Claude Haiku 5.5\""), "{listed}");
        assert!(text(model(&models(), "/v1/models/haiku")).await.contains("claude-haiku-5-5"));
        assert_eq!(model(&models(), "/v1/models/gpt").status, 404);
    }

    #[tokio::test]
    async fn a_plans_limit_says_when_it_resets_and_clients_wait_no_longer_than_they_would() {
        let soon = jiff::Timestamp::now().as_second() + 9000;
        let failure = Failure { status: Some(429), kind: Some("rate_limit_error".into()), message: "API Error: 429 limit".into(), resets_at: Some(soon), ..Failure::default() };
        let reply = refused(&failure);
        assert_eq!(reply.status, 429);
        assert_eq!(reply.headers[RETRY_AFTER], "60");
        let said = text(reply).await;
        assert!(said.contains("\"message\":\"limit (the plan's limit is reached; it resets at 20"), "{said}");
    }
}
